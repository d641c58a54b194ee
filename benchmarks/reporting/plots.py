"""Plots as PNG: phases of a step, growth of its cost, bytes per sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.arithmetic.layers import PHASES


def write(series: dict[str, Any], stem: Path) -> list[Path]:
    """Write one PNG for each known series, named after ``stem`` and the series; return the files."""
    drawings: dict[str, Callable[[Any], Figure]] = {"phases": _phases, "scaling": _scaling, "bytes": _bytes}
    files = []
    for name, draw in drawings.items():
        if series.get(name):
            files.append(stem.with_name(f"{stem.name}-{name}.png"))
            draw(series[name]).savefig(files[-1], dpi=120)
    return files


def _phases(phases: dict[str, dict[str, float]]) -> Figure:
    figure = Figure(figsize=(9, 4), layout="constrained")
    seconds, traffic = figure.subplots(1, 2)
    colors = ["tab:blue" if name in PHASES.values() and name[0] == "F" else "tab:orange" for name in phases]
    bars = seconds.bar(list(phases), [1e3 * phase["seconds"] for phase in phases.values()], color=colors)
    seconds.bar_label(bars, fmt="%.0f")
    seconds.set(ylabel="arithmetic [ms]", title="one encrypted step, by phase")
    bars = traffic.bar(list(phases), [phase["bytes"] / 1e6 for phase in phases.values()], color=colors)
    traffic.bar_label(bars, fmt="%.1f")
    traffic.set(ylabel="sent [MB]", title="messages")
    return figure


def _scaling(axes: dict[str, dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(4 * len(axes), 4), layout="constrained")
    plots = figure.subplots(1, len(axes), squeeze=False)[0]
    for plot, (axis, growth) in zip(plots, axes.items(), strict=True):
        plot.loglog(growth["values"], growth["costs"], "o-")
        plot.set(xlabel=axis, ylabel=growth["unit"], title=f"exponent {growth['exponent']:.2f}")
        plot.grid(which="both", alpha=0.3)
    return figure


def _bytes(cases: dict[str, dict[str, dict[str, float]]]) -> Figure:
    figure = Figure(figsize=(9, 4), layout="constrained")
    plot = figure.subplots()
    bars = {
        f"{case}\n{protocol}, {name}": sent / 1e3
        for case, protocols in cases.items()
        for protocol, senders in protocols.items()
        for name, sent in senders.items()
    }
    drawn = plot.barh(list(bars), list(bars.values()))
    plot.bar_label(drawn, fmt="%.2f")
    plot.invert_yaxis()
    plot.set(xlabel="KB per sample sent", title="traffic by sender")
    plot.tick_params(axis="y", labelsize=7)
    return figure
