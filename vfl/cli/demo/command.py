"""``vfl demo``: write a federation, run its processes, compare, report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from vfl.api.federation_files import FederationFiles
from vfl.cli.demo.baselines import common_ids, train_plain
from vfl.cli.demo.federation import PRICE, write_demo_federation
from vfl.cli.demo.processes import run_demo_processes
from vfl.cli.demo.report import Comparison, DemoResult
from vfl.models.tasks import make_task
from vfl.party.config import PartySetup, load_party

_console = Console()


def run_demo(
    dataset: str,
    data: Path | None,
    parties: int,
    out: Path,
    seed: int,
    overlap: float,
    epochs: int | None,
    *,
    trainable: bool,
    only_write: bool,
) -> None:
    """The whole demo; the arguments are the options of ``vfl demo``.

    Raises:
        ConfigError: the data set is unknown, not for this number of parties, or not there.
        JobAborted: the processes stopped early.
    """
    federation = write_demo_federation(out, dataset, parties, data, seed, overlap, epochs, trainable=trainable)
    if trainable:
        _console.print(PRICE, style="yellow", soft_wrap=True)
    if only_write:
        _show_commands(federation)
        return
    _console.print(f"[bold]{parties} parties and a coordinator[/bold] train on '{dataset}', encrypted; files: {out}")
    outcome = _train_encrypted(federation)
    torch.set_num_threads(1)  # the models are too small for more to pay off
    setups = [load_party(federation.party(name)) for name in federation.parties]
    _console.print("training the same model in the clear, for comparison ...")
    result = _compare(dataset, setups, outcome)
    result.show(_console)
    for path in result.write(out):
        _console.print(f"written: {path}")


def _train_encrypted(federation: FederationFiles) -> dict[str, Any]:
    outcome: dict[str, Any] = json.loads(run_demo_processes(federation))
    return outcome


def _compare(dataset: str, setups: list[PartySetup], outcome: dict[str, Any]) -> DemoResult:
    active, others = setups[0], setups[1:]
    common = common_ids(setups)
    alone_losses, alone = train_plain(active, [], common)
    pooled_losses, pooled = train_plain(active, others, common)
    return DemoResult(
        dataset=dataset,
        setups=setups,
        metric=make_task(active.job.task).primary_metric,
        outcome=outcome,
        active_only=Comparison("active party alone", alone, alone_losses),
        joint_encrypted=Comparison(
            "joint, encrypted", outcome["test"], [record["loss"] for record in outcome["history"]]
        ),
        pooled_plain=Comparison("pooled, in the clear", pooled, pooled_losses),
    )


def _show_commands(federation: FederationFiles) -> None:
    _console.print("start each of these in a terminal of its own:")
    for command in federation.commands:
        _console.print(f"  {command}", soft_wrap=True)
