"""``vfl audit``: what left this organization and what came in, for people who are not engineers; and checks of logs."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from vfl.audit.log import Line, Opened, read_lines
from vfl.audit.summary import Flow, Half, Summary, compare, joined, read_half, summarize
from vfl.audit.verify import Verification, verify
from vfl.cli.failures import reported
from vfl.errors import AuditError
from vfl.messages import Protection
from vfl.run_records.strict_json import strict_json
from vfl.runtime.foreign_text import printable
from vfl.runtime.private.files import write_report

PIECE_BYTES = 1 << 20
SHOWN_DIFFERENCES = 50
LINE_CHARACTERS = 5000
_SUMMARISE = "summary"

PROTECTION_WORDS = {
    Protection.ENCRYPTED: "encrypted",
    Protection.MASKED: "masked",
    Protection.PUBLIC: "meant to be read",
    Protection.CLEAR: "IN THE CLEAR",
}


class _SummaryByDefault(TyperGroup):
    """``vfl audit LOG`` is ``vfl audit summary LOG``; a log with the name of a command needs ``./`` before it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = [_SUMMARISE, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_SummaryByDefault,
    no_args_is_help=True,
    help="What left this organization and what came in: 'vfl audit LOG' (or a directory of logs) sums it up.",
)
LogArgument = Annotated[Path, typer.Argument(help="An audit log, RUN.PARTY.jsonl.")]


def _lines(path: Path) -> Iterator[Line | None]:
    """The lines of a file, read in pieces."""
    try:
        with path.open("rb") as file:
            yield from read_lines(iter(lambda: file.read(PIECE_BYTES), b""))
    except OSError as error:
        raise AuditError(
            "an audit log cannot be read", detail=f"{path}: {error}", remedy="correct its path or its permissions"
        ) from error


@app.command(_SUMMARISE)
def summary(
    log: Annotated[Path, typer.Argument(help="An audit log, or a directory of audit logs.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the summary to this JSON file.")] = None,
) -> None:
    """Show what left this organization and what came in, to and from whom, how much, and how it was protected."""
    with reported():
        logs = sorted(log.glob("*.jsonl")) if log.is_dir() else [log]
        if not logs:
            raise AuditError("there is no audit log here", detail=str(log), remedy="choose another directory")
        found = [(path, summarize(_lines(path))) for path in logs]
        console = Console(highlight=False)
        for path, told in found:
            _show(console, path, told)
        if json_file:
            _write_json(json_file, [_as_data(path, told) for path, told in found])
        if not all(told.verification.intact for _, told in found):
            raise AuditError("a log is not consistent", remedy="check it with 'vfl audit verify'")


def _show(console: Console, path: Path, told: Summary) -> None:
    console.print(f"[bold]{escape(printable(path.name))}[/bold]")
    for line in _facts(told):
        console.print(f"  {escape(printable(line, LINE_CHARACTERS))}")
    for title, flows in ((f"What left {told.party}", told.left()), (f"What came to {told.party}", told.came())):
        table = Table(title=title, title_justify="left", show_edge=False)
        for column in ("with", "what", "protection"):
            table.add_column(column)
        for column in ("messages", "bytes"):
            table.add_column(column, justify="right")
        for flow in sorted(flows, key=lambda flow: flow.peer):
            words = PROTECTION_WORDS[flow.protection]
            shown = f"[bold red]{words}[/bold red]" if flow.protection is Protection.CLEAR else words
            table.add_row(flow.peer, escape(flow.meaning), shown, f"{flow.messages:,}", _size(flow.bytes))
        console.print(table)
        console.print()


def _facts(told: Summary) -> Iterator[str]:
    opened, closed = told.verification.opened, told.verification.closed
    if opened:
        yield f"log of {opened.party} ({opened.roles.get(opened.party, 'unknown')}), run {opened.run}"
        yield f"job: {_settings(opened.terms)}"
        if opened.offered is not None:
            was = ", ".join(f"{key} {opened.offered.settings[key]} (file: {own})" for key, own in _differing(opened))
            yield f"offered by the coordinator and accepted here, where it differs from this party's job file: {was}"
        yield f"policy: {_settings(opened.policy) or 'none, a coordinator holds no data'}"
    yield f"from {told.first_time} to {told.last_time}, " + (f"ended: {closed.outcome}" if closed else "NOT CLOSED")
    for split in dict.fromkeys(split for split, _ in told.batches):
        passes = [batches for (of, _), batches in told.batches.items() if of == split]
        yield f"{split} rows: {len(passes)} passes, {sum(passes)} batches in all"
    if clear := told.in_the_clear:
        kinds = ", ".join(sorted({f"{flow.kind} {flow.direction}" for flow in clear}))
        yield f"IN THE CLEAR: {sum(flow.messages for flow in clear)} messages ({kinds})"
    else:
        yield "in the clear: nothing"
    yield from _integrity(told.verification)


def _differing(opened: Opened) -> list[tuple[str, str]]:
    """Keys of an offered job that differ from the party's own file, with the file's values."""
    offered = opened.offered
    return [] if offered is None else [(key, own) for key, own in offered.in_file.items() if key in offered.settings]


def _settings(values: Mapping[str, object]) -> str:
    """Names and values in words, without those that are not set."""
    return ", ".join(f"{name} {_in_words(value)}" for name, value in values.items() if value is not None)


def _in_words(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case "":
            return "none"
        case _:
            return str(value)


def _integrity(found: Verification) -> Iterator[str]:
    if not found.intact:
        yield f"THE LOG IS NOT CONSISTENT: {len(found.problems)} problems, see 'vfl audit verify'"
        return
    yield f"the log is consistent: {found.records} records, head {found.head}"
    if found.closed is None:
        yield "it has no closing record: the process was killed or is still running, or the end was removed"


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def _as_data(path: Path, told: Summary) -> dict[str, Any]:
    found = told.verification
    return {
        "file": path.name,
        "opened": found.opened.model_dump(mode="json") if found.opened else None,
        "closed": found.closed.model_dump(mode="json") if found.closed else None,
        "first_time": told.first_time,
        "last_time": told.last_time,
        "batches": [{"split": s, "epoch": e, "batches": count} for (s, e), count in told.batches.items()],
        "sent": [_flow_data(flow) for flow in told.left()],
        "received": [_flow_data(flow) for flow in told.came()],
        "in_the_clear": sum(flow.messages for flow in told.in_the_clear),
        "records": found.records,
        "head": found.head,
        "intact": found.intact,
        "problems": found.problems,
    }


def _flow_data(flow: Flow) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(flow).items() if name != "direction"}


def _write_json(path: Path, content: object) -> None:
    try:
        write_report(path, strict_json(content) + "\n")
    except OSError as error:
        raise AuditError("the summary cannot be written", detail=f"{path}: {error}", remedy="correct --json") from error


@app.command("verify")
def verify_log(
    log: LogArgument,
    head: Annotated[str | None, typer.Option(help="Hash of the last record, as noted elsewhere.")] = None,
) -> None:
    """Find removed, changed, moved, inserted or truncated records, as far as the log (and --head) shows."""
    with reported():
        found = verify(_lines(log), head)
        for problem in found.problems:
            typer.echo(printable(problem, LINE_CHARACTERS))
        if found.torn:
            typer.echo("the last line is incomplete, as when a process is killed while writing; it is ignored")
        if not found.intact:
            raise AuditError("the audit log is not consistent", detail="; ".join(found.problems[:5]))
        typer.echo(f"{found.records} records are consistent; head {found.head}")
        if head is not None:
            typer.echo("the head is the one that was noted: nothing was removed, changed or added since")
        elif found.closed is None:
            raise AuditError(
                "the audit log has no closing record, so its end may be missing",
                remedy="a killed process leaves such a log; a head noted elsewhere (--head) rules out a truncated one",
            )
        else:
            typer.echo("the closing record is present; only --head can rule out that the log was rewritten")


@app.command("compare")
def compare_logs(
    logs: Annotated[
        list[Path],
        typer.Argument(
            help="Audit logs of one run at two parties, RUN.PARTY.jsonl, or directories. What a party logged after a "
            "restart, RUN.PARTY.2.jsonl and so on, is read with it."
        ),
    ],
) -> None:
    """Check that what each party says it sent is what the other says it received."""
    with reported():
        found = compare(*_two_sides(logs))
        one, other = found.parties
        typer.echo(f"{one} and {other}: {found.agreed} messages are the same in the logs of both")
        words = {
            "missing": "is not in the log of",
            "unsent": "was not sent according to the other log, but is in the log of",
            "different": "is different in the log of",
        }
        for gap in found.differences[:SHOWN_DIFFERENCES]:
            moment = f"step {gap.step}" + (f", attempt {gap.attempt + 1}," if gap.attempt else "")
            typer.echo(f"'{gap.kind}' of {moment} from {gap.sender} {words[gap.what]} {gap.receiver}")
        if len(found.differences) > SHOWN_DIFFERENCES:
            typer.echo(f"and {len(found.differences) - SHOWN_DIFFERENCES} more")
        if found.differences:
            raise AuditError(
                f"the logs of {one} and {other} differ in {len(found.differences)} message(s)",
                remedy="pass every log that each party has of the run; a process that was killed, and a run that was "
                "stopped, may leave their last messages in one log only; otherwise ask both sides",
            )


def _two_sides(paths: Sequence[Path]) -> tuple[Half, Half]:
    """The logs of the two parties and the one run that all these have in common.

    Raises:
        AuditError: there is no such run, or there are several.
    """
    halves = [read_half(_lines(path)) for path in _all_logs(paths)]
    parties_of: dict[str, set[str]] = {}
    for half in halves:
        parties_of.setdefault(half.run, set()).add(half.party)
    common = [run for run, parties in parties_of.items() if run and len(parties) > 1]
    if len(common) > 1:
        raise AuditError(
            f"these are logs of {len(common)} runs", detail=", ".join(common), remedy="pass the logs of one run"
        )
    if not common:
        raise AuditError("these are not the logs of two parties of one run", remedy="choose two logs of the same run")
    sides = joined([half for half in halves if half.run == common[0]])
    if len(sides) > 2:
        raise AuditError(
            f"these are logs of {len(sides)} parties",
            detail=", ".join(side.party for side in sides),
            remedy="pass those of two parties",
        )
    return sides[0], sides[1]


def _all_logs(paths: Sequence[Path]) -> list[Path]:
    """The files, those in directories, and the later logs of the same run and party beside each."""
    found: dict[Path, None] = {}
    for path in paths:
        logs = sorted(path.glob("*.jsonl")) if path.is_dir() else [path, *_later(path)]
        found |= {log.absolute(): None for log in logs}
    return list(found)


def _later(path: Path) -> Iterator[Path]:
    for number in itertools.count(2):
        later = path.with_name(f"{path.stem}.{number}{path.suffix}")
        if not later.exists():
            return
        yield later
