"""What a party can find out about its table before any run: what was understood of it, and whether it fits the job."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vfl.data.description import TableDescription
from vfl.data.split import split_sizes
from vfl.data.table import Table
from vfl.errors import DataError, VflError
from vfl.ids import Split
from vfl.models.config import TaskConfig
from vfl.models.tasks.class_order import Labels
from vfl.models.tasks.labels import clean_labels, fit_labels
from vfl.party.config import PartySetup
from vfl.runtime.foreign_text import printable

FEW_STEPS = 100
"""Joint training of fewer steps hardly trains anything."""
RARE_ROWS = 30
"""A class of fewer rows is worth a hint."""

LARGE_BYTES = 1 << 26
"""Reading a file above this size takes so long that a party that starts does not do it twice."""


def checked_table(setup: PartySetup) -> Table:
    """Load a party's table as a run would, and check it against the job and this party's policy.

    Raises:
        DataError: the table cannot be used as configured, or its labels do not fit the task.
        PolicyRefusal: the table has fewer rows than this party's policy requires.
    """
    table = setup.load_table()
    setup.config.policy.check_rows(len(table))
    if table.labels is not None:
        try:
            fit_labels(setup.job.task, table.labels, setup.config.data.class_order)
        except DataError as error:
            # The words may speak of training rows; here it is the whole table.
            summary = f"the labels do not fit the task of the job: {error.summary}"
            raise DataError(summary, detail=error.detail, remedy=error.remedy) from None
    return table


def table_summary(table: Table) -> str:
    """A table in a line."""
    skipped = f", {table.unlabeled} without a label left out" if table.unlabeled else ""
    left_out = f", {len(table.understood.left_out)} columns left out" if table.understood.left_out else ""
    features = len(table.numeric_names) + len(table.categorical_names)
    return f"{len(table)} rows, {table.dropped} without an id{skipped}, {features} features{left_out}"


def table_report(setup: PartySetup, table: Table) -> str:
    """What was understood of a table, and hints, as lines of at most 80 columns."""
    lines = [str(TableDescription.of(table, setup.config.data))]
    lines += [f"hint: {hint}" for hint in (*_hints(setup, len(table)), *_split_hints(setup, table))]
    return "\n".join(lines)


def report_at_start(setup: PartySetup) -> str:
    """The same for a party that starts, within a sentence if the table cannot be used.

    That ends nothing: every organization is to learn of it in the run, and the file may be corrected until then.
    """
    path = setup.config.data.path
    if setup.given.frame is None and path.is_file() and path.stat().st_size > LARGE_BYTES:
        return f"{path} is large: 'vfl check' shows what is understood of it"
    try:
        return table_report(setup, checked_table(setup))
    except VflError as error:
        return f"the table cannot be used as it is: {error}"


def _hints(setup: PartySetup, rows: int) -> Iterator[str]:
    job = setup.job
    if job.stagewise:
        return  # the active party's local batches follow the number of rows
    training = int(rows * (1 - job.split.validation - job.split.test))
    steps = job.passes * max(1, round(training / job.training.batch_size))
    if steps < FEW_STEPS:
        yield (
            f"this job makes at most {steps} steps on these rows, which is very few; lower training.batch_size "
            f"({job.training.batch_size}) or raise training.passes ({job.passes})"
        )


def _split_hints(setup: PartySetup, table: Table) -> Iterator[str]:
    """What a split by label or time makes of this table; rows that other parties lack are not known yet."""
    job = setup.job
    if table.labels is None:
        return
    if job.split.by == "random":
        yield from _rare_class(job.task, clean_labels(table.labels))
        return
    sizes = split_sizes(len(table), job.split.validation, job.split.test)
    if job.split.by == "label" and job.task.kind != "regression":
        for label, rows in zip(*np.unique(clean_labels(table.labels), return_counts=True), strict=True):
            lacking = [str(part) for part, size in sizes.items() if size and int(rows) * size < len(table)]
            if lacking:
                yield (
                    f"class '{printable(str(label))}' has {rows} of {len(table)} rows, too few for one in each part of "
                    f"the split: {' and '.join(lacking)} may have none"
                )
    if job.split.by == "time" and table.times is not None:
        ordered, end = np.sort(table.times), 0
        for part in (Split.TRAIN, Split.VALIDATION):
            end += sizes[part]
            if 0 < end < len(ordered) and sizes[part] and ordered[end - 1] == ordered[end]:
                tied = int((ordered == ordered[end]).sum())
                yield f"{tied} rows have the time at which the {part} rows end: which of them are in it is drawn"


def _rare_class(task: TaskConfig, labels: Labels) -> Iterator[str]:
    if task.kind == "regression":
        return
    label, rows = min(zip(*np.unique(labels, return_counts=True), strict=True), key=lambda found: int(found[1]))
    if rows < RARE_ROWS:
        yield (
            f"class '{printable(str(label))}' has only {rows} rows: metrics of the few among the test rows say little, "
            'and with split.by = "label" in the job there are at least its share of them'
        )
