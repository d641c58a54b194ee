"""Vertical federated learning with an exact, homomorphically encrypted interaction layer.

The names below are the public Python API; everything else may change. They are imported when they are first used, so
that ``import vfl`` takes no time and starts nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vfl.api.coordination import train, train_async
    from vfl.api.estimators import VerticalClassifier, VerticalRegressor
    from vfl.api.federation_files import FederationFiles, write_federation
    from vfl.api.job import Job
    from vfl.api.joint_model import JointModel
    from vfl.api.party import Party, serve, serve_async
    from vfl.api.run import Run, runs
    from vfl.api.simulation import simulate, simulate_async
    from vfl.api.sweep import Trial, sweep
    from vfl.api.table import Table
    from vfl.errors import VflError
    from vfl.job.callbacks import (
        Callback,
        CheckpointDone,
        Epoch,
        EvaluationDone,
        Interrupted,
        Ready,
        Step,
    )
    from vfl.models.config import BottomInputs
    from vfl.version import PACKAGE_VERSION as __version__  # noqa: N811  # the name that Python programs look for

_WHERE = {
    "BottomInputs": "vfl.models.config",
    "Callback": "vfl.job.callbacks",
    "CheckpointDone": "vfl.job.callbacks",
    "Epoch": "vfl.job.callbacks",
    "EvaluationDone": "vfl.job.callbacks",
    "FederationFiles": "vfl.api.federation_files",
    "Interrupted": "vfl.job.callbacks",
    "Job": "vfl.api.job",
    "JointModel": "vfl.api.joint_model",
    "Party": "vfl.api.party",
    "Ready": "vfl.job.callbacks",
    "Run": "vfl.api.run",
    "Step": "vfl.job.callbacks",
    "Table": "vfl.api.table",
    "Trial": "vfl.api.sweep",
    "VerticalClassifier": "vfl.api.estimators",
    "VerticalRegressor": "vfl.api.estimators",
    "VflError": "vfl.errors",
    "runs": "vfl.api.run",
    "serve": "vfl.api.party",
    "serve_async": "vfl.api.party",
    "simulate": "vfl.api.simulation",
    "simulate_async": "vfl.api.simulation",
    "sweep": "vfl.api.sweep",
    "train": "vfl.api.coordination",
    "train_async": "vfl.api.coordination",
    "write_federation": "vfl.api.federation_files",
}

__all__ = [
    "BottomInputs",
    "Callback",
    "CheckpointDone",
    "Epoch",
    "EvaluationDone",
    "FederationFiles",
    "Interrupted",
    "Job",
    "JointModel",
    "Party",
    "Ready",
    "Run",
    "Step",
    "Table",
    "Trial",
    "VerticalClassifier",
    "VerticalRegressor",
    "VflError",
    "__version__",
    "runs",
    "serve",
    "serve_async",
    "simulate",
    "simulate_async",
    "sweep",
    "train",
    "train_async",
    "write_federation",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("vfl.version").PACKAGE_VERSION
    if name not in _WHERE:
        raise AttributeError(f"module 'vfl' has no attribute '{name}'")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
