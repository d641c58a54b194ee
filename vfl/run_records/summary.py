"""The results of a run as lines for a person to read, of at most 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vfl.run_records.result import RunResult

LABEL_WIDTH = 28


def metrics_in_words(metrics: Mapping[str, float]) -> str:
    """Metrics in one line."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in metrics.items())


def metric_rows(test: Mapping[str, float], alone: Mapping[str, float]) -> list[str]:
    """Metrics of the joint model beside those of the active party alone, a line each."""
    lines = [f"{'on the test rows':<{LABEL_WIDTH}}{'together':>12}" + (f"{'alone':>12}" if alone else "")]
    for name, value in test.items():
        beside = f"{alone[name]:>12.4f}" if name in alone else ""
        lines.append(f"{name.replace('_', ' '):<{LABEL_WIDTH}}{value:>12.4f}{beside}")
    return lines


def summary_of(result: RunResult) -> str:
    """What the coordinator knows of a run that is over."""
    return "\n".join(_lines(result))


def _lines(result: RunResult) -> Iterator[str]:
    yield result.run
    for party, rows in result.party_rows.items():
        without = result.rows_without_id.get(party, 0)
        yield _line(f"rows of {party}", f"{rows:,}") + (f", {without:,} without an id" if without else "")
    yield _line("rows in common", f"{result.rows:,}") + f", {result.train_rows:,} for training"
    yield _line("training steps", f"{result.steps:,}") + f" in {result.seconds_training:.1f} s"
    for party, sent in result.training_bytes_sent.items():
        yield _line(f"sent by {party}", f"{sent / 1e6:,.1f}") + " MB in training"
    for epoch in result.best_epochs:
        yield _line("kept the model of epoch", str(epoch)) + f" of {result.last_epoch}"
    if result.recoveries:
        lost = sum(recovery.steps_lost for recovery in result.recoveries)
        yield _line("interruptions", str(len(result.recoveries))) + f", {lost} steps repeated"
    if result.test:
        yield ""
        yield from metric_rows(result.test, result.alone)


def _line(name: str, value: str) -> str:
    return f"{name:<{LABEL_WIDTH}}{value:>12}"
