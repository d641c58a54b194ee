"""The same job with several settings, in simulation: nothing is released, and no ledger is charged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from typing import Any

from vfl.api.job import Job
from vfl.api.party import Party
from vfl.api.run import Run
from vfl.api.simulation import simulate
from vfl.errors import ConfigError, VflError


@dataclass(frozen=True)
class Trial:
    """One combination of settings.

    Attributes:
        settings: by key of job.toml, with dots between table and key.
        run: what it gave; None if it failed.
        error: why it failed; empty if it did not.
    """

    settings: Mapping[str, Any]
    run: Run | None
    error: str = ""

    @property
    def metrics(self) -> dict[str, float]:
        """Of the validation rows after the epoch whose model was kept if the job has any, else of the test rows."""
        if self.run is None:
            return {}
        best = self.run.result.best_epochs
        kept = [record for record in self.run.history if not best or record["epoch"] <= best[-1]]
        scored = {name: value for record in kept for name, value in record.items()}
        validation = {name: value for name, value in scored.items() if name.startswith("validation_")}
        return validation or self.run.test


def sweep(
    job: Job,
    *,
    active: Party,
    passive: Party | Sequence[Party],
    over: Mapping[str, Sequence[Any]],
    done: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Simulate a job with every combination of some settings, one after the other.

    Choose by validation rows (``split.validation``): whoever chooses by the test rows no longer knows how good the
    choice is. A combination that is refused, or fails, is a trial with an error.

    Args:
        over: values by key of job.toml, such as ``{"training.optimizer.learning_rate": [0.002, 0.01]}``.
        done: called with each trial when it is over.

    Raises:
        ConfigError: no values are given.
    """
    if not over or not all(over.values()):
        raise ConfigError("there is nothing to sweep over", remedy="give at least one key, and a value for each")
    trials = []
    for values in product(*over.values()):
        settings = dict(zip(over, values, strict=True))
        try:
            run = simulate(_with(job, settings), active=active, passive=passive)
            trials.append(Trial(settings, run))
        except VflError as error:
            trials.append(Trial(settings, None, f"{error.summary}: {error.detail}" if error.detail else error.summary))
        done(trials[-1])
    return trials


def _with(job: Job, settings: Mapping[str, Any]) -> Job:
    content = deepcopy(job.stated)
    for key, value in settings.items():
        *tables, last = key.split(".")
        at = content
        for table in tables:
            at = at.setdefault(table, {})
            if not isinstance(at, dict):
                raise ConfigError(f"'{table}' of '{key}' is no table of job.toml", remedy="correct the key")
        at[last] = value
    return Job.of_content(content)
