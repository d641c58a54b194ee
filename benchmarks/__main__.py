"""``python -m benchmarks``: measure, print the table, write JSON and plots."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.arithmetic import kernels, scaling, step
from benchmarks.effort import FULL, QUICK, Effort
from benchmarks.reporting import machine, plots, report
from benchmarks.reporting.findings import Findings
from benchmarks.systems import alignment, connections, system
from vfl.cli.logs import LogFormat, configure_logs

Benchmark = Callable[[Effort], Findings]
TABLE_WIDTH = 160
"""Columns if the output is not a terminal."""


def measure(effort: Effort, data: Path | None, only: list[str], progress: Console, *, million: bool) -> Findings:
    """Run the selected benchmarks in order.

    Raises:
        typer.BadParameter: there is no benchmark with that name.
    """
    benchmarks: dict[str, Benchmark] = {
        "kernels": kernels.run,
        "step": step.run,
        "system": lambda chosen: system.run(chosen, data),
        "scaling": scaling.run,
        "memory": system.run_long,
        "connections": connections.run,
        "alignment": lambda chosen: alignment.run(chosen, million=million),
    }
    if unknown := set(only) - set(benchmarks):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: choose from {', '.join(benchmarks)}")
    findings = Findings()
    for name, benchmark in benchmarks.items():
        if not only or name in only:
            started = time.perf_counter()
            findings.add(benchmark(effort))
            progress.print(f"{name}: {time.perf_counter() - started:.0f} s")
    return findings


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer repeats, rows and steps; under three minutes.")] = False,
    json: Annotated[Path | None, typer.Option(help="Write everything to this file, and plots next to it.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with the default_credit tables.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="One of kernels, step, system, scaling, memory, connections, alignment; repeatable."),
    ] = None,
    million: Annotated[bool, typer.Option("--million", help="Also align a million ids with a million.")] = False,
) -> None:
    """Measure vfl side by side with its peers on this machine."""
    if json and not json.absolute().parent.is_dir():
        raise typer.BadParameter(f"{json.absolute().parent} is not a folder")
    configure_logs(LogFormat.TEXT, party="benchmarks")
    effort, described, started = QUICK if quick else FULL, machine.description(), time.perf_counter()
    with machine.cores_like_a_party():
        findings = measure(effort, data, only or [], Console(stderr=True), million=million)
    console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    report.show(console, findings, described)
    if json:
        report.write_json(json, findings, described, effort.name, time.perf_counter() - started)
        for file in (json, *plots.write(findings.series, json.with_suffix(""))):
            console.print(f"written: {file}")


if __name__ == "__main__":
    typer.run(main)
