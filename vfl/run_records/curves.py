"""The picture of a run: loss and validation metrics by epoch. matplotlib is imported only when one is drawn."""

from __future__ import annotations

import importlib.util
import io
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from vfl.errors import ConfigError
from vfl.ids import Split
from vfl.run_records.result import BEST
from vfl.runtime.logs import get_logger

CURVES_FILE = "curves.png"
NEEDS = "pip install 'vfl[demo]'"

_DOTS_PER_INCH = 100

_log = get_logger("vfl.curves")
_drawing = threading.Lock()
"""matplotlib's caches of fonts are not made for several threads."""

History = Sequence[Mapping[str, float]]
"""Of each epoch its number, mean loss and validation metrics, as in ``RunResult.history``."""


def draw_curves(history: History, title: str) -> Any:
    """Loss and validation metrics by epoch, with the epochs whose models were kept.

    Returns:
        A ``matplotlib.figure.Figure``, which a notebook shows.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("a plot needs matplotlib", remedy=NEEDS) from error

    class Shown(Figure):
        """Shows itself in a notebook, without pyplot and its process-wide state."""

        def _repr_png_(self) -> bytes:
            return _png(self)

    scores = sorted({name for record in history for name in record} - {"epoch", "loss", BEST})
    figure = Shown(figsize=(10 if scores else 5, 4))
    axes = figure.subplots(1, 2 if scores else 1, squeeze=False)[0]
    marker = "." if len(history) < 2 else ""
    axes[0].plot([r["epoch"] for r in history], [r["loss"] for r in history], marker=marker)
    axes[0].set(xlabel="epoch", ylabel="mean training loss", title=title)
    for name in scores:
        scored = [(record["epoch"], record[name]) for record in history if name in record]
        label = name.removeprefix(f"{Split.VALIDATION}_").replace("_", " ")
        axes[1].plot(*zip(*scored, strict=True), label=label, marker="." if len(scored) < 2 else "")
    for axis in axes:
        for at, epoch in enumerate(record["epoch"] for record in history if BEST in record):
            axis.axvline(epoch, color="gray", linestyle=":", label="" if at else "model kept")
    if scores:
        axes[1].set(xlabel="epoch", title="validation")
        axes[1].legend()
    return figure


def curves_png(history: History, title: str) -> bytes | None:
    """The picture as a PNG file; None where there is nothing to draw, or matplotlib is not installed.

    A picture that cannot be drawn ends no run: a log says why it is left out.
    """
    if not history:
        return None
    if importlib.util.find_spec("matplotlib") is None:
        _log.info(f"no {CURVES_FILE}: matplotlib is not installed", remedy=NEEDS)
        return None
    try:
        with _drawing:
            return _drawn(history, title)
    except (ConfigError, OSError, RuntimeError, ValueError) as error:
        _log.warning(f"no {CURVES_FILE}: it cannot be drawn", reason=str(error))
        return None


def _drawn(history: History, title: str) -> bytes:
    return _png(draw_curves(history, title))


def _png(figure: Any) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=_DOTS_PER_INCH)
    return picture.getvalue()
