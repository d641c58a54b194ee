"""(c) The whole system over real processes, encrypted and in the clear, and an epoch on real tables."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.effort import Effort, Shape, SystemCase
from benchmarks.reporting.findings import Findings, Ratio, Row, at_least, at_most
from benchmarks.systems.federation import SystemRun, change, run_federation, write_synthetic
from benchmarks.systems.memory import flatness_rows, peak_rows, traffic_rows
from benchmarks.timing import seconds_of
from vfl.api.federation_files import FederationFiles
from vfl.cli.demo.baselines import common_ids, train_plain
from vfl.cli.demo.federation import demo_parts, write_demo_federation
from vfl.errors import ConfigError
from vfl.party.config import PartySetup, load_party

BATCHES_OF_LONG_RUN = 10
"""Batches per epoch; the tables are small, so that the steps are what is measured."""

CREDIT = "default_credit"
MORE_EPOCHS = 10
"""Additional epochs for the cost of one epoch of centralized training, which is too short to measure alone."""
SHARED = "all processes share this machine's cores"


@dataclass(frozen=True)
class _Pair:
    """The same job encrypted and in the clear."""

    encrypted: SystemRun
    clear: SystemRun

    def row(self, section: str, what: str, *, has_target: bool) -> Row:
        return Row(
            section, what, 1e6 / self.encrypted.samples_per_second, "us/sample",
            "plain split learning, same transport", 1e6 / self.clear.samples_per_second, Ratio.TIMES,
            at_most(20) if has_target else None,
            note=f"plain: the plaintext protocol, int64; {self.clear.samples_per_second:,.0f} samples/s; {SHARED}",
        )  # fmt: skip


def run(effort: Effort, data: Path | None) -> Findings:
    """Everything of section (c), the rest of (b), and (e), which uses the same runs."""
    findings = Findings(series={"bytes": {}, "resident": {}})
    for case in effort.system:
        pair = _run_case(case)
        findings.rows += _case_rows(case, pair, is_first=case is effort.system[0])
        findings.series["bytes"][str(case.shape)] = {
            "encrypted": pair.encrypted.bytes_per_sample, "plain": pair.clear.bytes_per_sample,
        }  # fmt: skip
        if case is effort.system[-1]:
            findings.rows += flatness_rows(pair.encrypted, case.shape)
            findings.series["resident"] = pair.encrypted.resident
    findings.add(_credit(effort, data))
    findings.rows.sort(key=lambda row: row.section)
    return findings


def run_long(effort: Effort) -> Findings:
    """Whether memory stays flat over many large steps."""
    if not effort.flat_steps:
        return Findings(skipped=["memory over many large steps: takes long, only part of the full run"])
    with tempfile.TemporaryDirectory() as folder:
        epochs = max(1, effort.flat_steps // BATCHES_OF_LONG_RUN)
        federation = write_synthetic(Path(folder), effort.kernel, BATCHES_OF_LONG_RUN, "encrypted", epochs)
        run = run_federation(federation)
    series = {"resident": run.resident}
    return Findings([*flatness_rows(run, effort.kernel), *peak_rows(run, effort.kernel)], series=series)


def _run_case(case: SystemCase) -> _Pair:
    return _Pair(_synthetic(case.shape, case.steps, "encrypted"), _synthetic(case.shape, case.clear_steps, "plaintext"))


def _synthetic(shape: Shape, steps: int, protocol: str) -> SystemRun:
    with tempfile.TemporaryDirectory() as folder:
        return run_federation(write_synthetic(Path(folder), shape, steps, protocol))


def _case_rows(case: SystemCase, pair: _Pair, *, is_first: bool) -> list[Row]:
    speed = Row(
        "c", f"encrypted training, {case.shape}", pair.encrypted.samples_per_second, "samples/s",
        target=at_least(case.target) if case.target else None,
        note=f"{pair.encrypted.counted_steps} steps after one warm-up step; {SHARED}",
    )  # fmt: skip
    rows = [speed, pair.row("b", f"encrypted training, {case.shape}", has_target=is_first)]
    rows += traffic_rows(pair.encrypted, case.shape, has_target=is_first)
    return rows + peak_rows(pair.encrypted, case.shape) if is_first else rows


# --- an epoch of default_credit ---


def _credit(effort: Effort, data: Path | None) -> Findings:
    if data is None:
        return Findings(skipped=[f"an epoch of {CREDIT}: specify the folder of its tables with --data DIR"])
    with tempfile.TemporaryDirectory() as folder:
        try:
            federation = write_demo_federation(
                Path(folder), demo_parts(Path(folder), CREDIT, 2, data, seed=3, overlap=1.0, trainable=True)
            )
        except ConfigError as error:
            return Findings(skipped=[f"an epoch of {CREDIT}: {error}"])
        return Findings(_credit_rows(federation, effort.epochs))


def _credit_rows(federation: FederationFiles, epochs: int) -> list[Row]:
    change(federation.job, "training", passes=epochs)
    for name in federation.parties:
        change(federation.party(name), "policy", allow_unencrypted=True)
    encrypted = run_federation(federation)
    change(federation.job, "interaction", protocol="plaintext")
    clear = run_federation(federation)
    central = _plain_seconds([load_party(federation.party(name)) for name in federation.parties])
    ours, plain = (run.outcome.seconds_training / epochs for run in (encrypted, clear))
    what = f"an epoch of {CREDIT} ({encrypted.outcome.train_rows} rows)"
    note = f"{epochs} epoch(s), including warm-up; {SHARED}"
    return [
        Row("c", f"{what}, encrypted", ours, "s", "plain split learning, same transport", plain, note=note),
        Row("c", f"{what}, encrypted", ours, "s", "centralized torch, one process", central, note=note),
        Row("c", f"{what}, plain split", plain, "s", "centralized torch, one process", central, note=note),
    ]


def _plain_seconds(setups: list[PartySetup]) -> float:
    """Seconds of one epoch on pooled columns: what additional epochs cost, which excludes loading and scoring."""
    _train(setups, 1)  # imports and warms up
    few, many = (seconds_of(partial(_train, setups, epochs)) for epochs in (1, 1 + MORE_EPOCHS))
    return (many - few) / MORE_EPOCHS


def _train(setups: list[PartySetup], epochs: int) -> None:
    active, *others = (
        replace(setup, job=setup.job.model_copy(update={"training": _training(setup, epochs)})) for setup in setups
    )
    train_plain(active, others, common_ids([active, *others]))


def _training(setup: PartySetup, epochs: int) -> object:
    return setup.job.training.model_copy(update={"passes": epochs})
