"""(b) One encrypted step phase by phase, compared with the same step in Paillier's scheme."""

from __future__ import annotations

from benchmarks.arithmetic.layers import PHASE_NAMES, EncryptedLayer, StepLog
from benchmarks.arithmetic.paillier import PaillierCost, PaillierStep
from benchmarks.effort import Effort
from benchmarks.reporting.findings import Findings, Ratio, Row, at_least
from benchmarks.reporting.machine import cores

ALL_THAT_A_STEP_NEEDS = 2**30


def run(effort: Effort) -> Findings:
    """Section (b) without plain split learning, which needs processes and is part of ``system``."""
    log = EncryptedLayer(effort.kernel).fastest_step(effort.repeats)
    findings = Findings(_phase_rows(log, effort))
    phases = [row.what.split(",")[0].removeprefix("phase ") for row in findings.rows]
    findings.series["phases"] = {
        phase: {"seconds": log.seconds(phase), "bytes": log.sent(phase)} for phase in phases
    }  # fmt: skip
    findings.rows.append(_pools_row(log, effort))
    findings.rows.append(_paillier_row(log, effort))
    return findings


def _phase_rows(log: StepLog, effort: Effort) -> list[Row]:
    others = dict.fromkeys(work.phase for work in log.work if work.phase and work.phase not in PHASE_NAMES)
    samples = effort.kernel.rows
    return [
        Row("b", f"phase {phase}, {effort.kernel}", log.seconds(phase) / samples * 1e6, "us/sample",
            note=f"{log.seconds(phase) * 1e3:.0f} ms and {log.sent(phase) / samples:,.0f} bytes per sample")
        for phase in (*PHASE_NAMES, *others)
    ]  # fmt: skip


def _pools_row(without: StepLog, effort: Effort) -> Row:
    filled = EncryptedLayer(effort.kernel, pool_bytes=ALL_THAT_A_STEP_NEEDS).fastest_step(effort.repeats)
    return Row(
        "b", f"encrypted step, {effort.kernel}, pools filled while waiting", filled.seconds() * 1e3, "ms",
        "without pools", without.seconds() * 1e3,
        note="arithmetic left for both parties once messages arrive; pools pay off if waiting is idle time",
    )  # fmt: skip


def _paillier_row(log: StepLog, effort: Effort) -> Row:
    shape = effort.kernel
    outputs = min(effort.paillier_outputs, shape.width * shape.out_width)
    step = PaillierStep(effort.paillier_bits, effort.paillier_rows, shape.width, shape.out_width, outputs)
    cost = step.measure()
    # As if its work scaled perfectly over all cores, and its weight gradients were spread over our large batch.
    theirs = cost.step_per_sample(shape.width * shape.out_width, shape.rows) / cores()
    return Row(
        "b", f"encrypted step, {shape}, arithmetic only", log.seconds() / shape.rows * 1e3, "ms/sample",
        f"Paillier step, {effort.paillier_bits} bits, randomized", theirs * 1e3, Ratio.FASTER, at_least(200),
        note=_paillier_note(cost, effort, outputs),
    )  # fmt: skip


def _paillier_note(cost: PaillierCost, effort: Effort, outputs: int) -> str:
    phases = ", ".join(f"{phase} {seconds:.2f}" for phase, seconds in cost.per_sample.items())
    of = effort.kernel.width * effort.kernel.out_width
    return (
        f"Paillier: {effort.paillier_rows} row(s) on one core ({phases} s per row), divided by {cores()} cores as if "
        f"they scaled perfectly; masking and decrypting {of} weight gradients extrapolated from {outputs} and divided "
        f"by {effort.kernel.rows} rows; ours: both parties in turns, threads on all cores"
    )
