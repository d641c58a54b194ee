"""``vfl demo``: write a federation, run its processes, compare, report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from vfl.api.federation_files import FederationFiles
from vfl.api.simulation import simulate
from vfl.attacks.label_inference import LabelInference, label_inference
from vfl.cli.demo.baselines import Gradients, common_ids, train_plain
from vfl.cli.demo.federation import PRICE, DemoParts, demo_parts, write_demo_federation
from vfl.cli.demo.processes import run_demo_processes
from vfl.cli.demo.report import Comparison, DemoResult
from vfl.models.tasks.task import make_task
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
    chosen = (dataset, parties, data, seed, overlap, epochs)
    federation = write_demo_federation(out, demo_parts(out, *chosen, trainable=trainable))
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
    if trainable:
        default = demo_parts(out / "default", *chosen, in_the_clear=True)
        result = replace(result, joint_default=_simulated(default))
    result.show(_console)
    for path in result.write(out):
        _console.print(f"written: {path}")


def _simulated(parts: DemoParts) -> Comparison:
    """Joint training of the default kind, in the clear: with the same noise and numbers as encrypted."""
    run = simulate(parts.job, active=parts.active, passive=parts.passive)
    losses = [record["loss"] for record in run.history if "loss" in record]
    return Comparison("joint, default", dict(run.test), losses)


def _train_encrypted(federation: FederationFiles) -> dict[str, Any]:
    outcome: dict[str, Any] = json.loads(run_demo_processes(federation))
    return outcome


def _compare(dataset: str, setups: list[PartySetup], outcome: dict[str, Any]) -> DemoResult:
    active, others = setups[0], setups[1:]
    common = common_ids(setups)
    alone, pooled = train_plain(active, [], common), train_plain(active, others, common)
    return DemoResult(
        dataset=dataset,
        setups=setups,
        metric=make_task(active.job.task).primary_metric,
        outcome=outcome,
        active_only=Comparison("active party alone", alone.metrics, alone.losses),
        joint_encrypted=Comparison(
            "joint, encrypted", outcome["test"], [record["loss"] for record in outcome["history"]]
        ),
        pooled_plain=Comparison("pooled, in the clear", pooled.metrics, pooled.losses),
        inferred={name: _inferred(gradients) for name, gradients in pooled.gradients.items()},
    )


def _inferred(gradients: Gradients) -> LabelInference:
    """What the gradients of the last pass tell of labels; of more than two, whether they are in the upper half."""
    labels = gradients.labels_B
    positive = labels > (np.median(labels) if len(np.unique(labels)) > 2 else labels.min())
    return label_inference(gradients.d_alpha_BD, positive)


def _show_commands(federation: FederationFiles) -> None:
    _console.print("start each of these in a terminal of its own:")
    for command in federation.commands:
        _console.print(f"  {command}", soft_wrap=True)
