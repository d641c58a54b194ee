"""A trained model put together from all parties' saved parts: of a simulation, where one process has them all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file
from torch import Tensor, nn

from vfl.api.table import Table
from vfl.data.config import IdRules
from vfl.data.preprocess import Preprocessor
from vfl.data.table import Table as LoadedTable
from vfl.data.table import load_table
from vfl.errors import ConfigError, DataError
from vfl.he.parameters import Parameters, RingSettings
from vfl.interact.fixed_point import center
from vfl.models.bottoms import Bottom, build_bottom
from vfl.models.config import BottomConfig, TaskConfig
from vfl.models.tasks.labels import ClassEncoding, CountEncoding, LabelEncoding, ScaleEncoding
from vfl.models.top import linear_without_init
from vfl.party.learning.bottom import under

_BOTTOMS: TypeAdapter[BottomConfig] = TypeAdapter(BottomConfig)
_BATCH = 8192


@dataclass(frozen=True, eq=False)
class _Part:
    """One party's part: preprocessing, bottom, and its interaction weights W (D, K) in floating point."""

    preprocessor: Preprocessor
    bottom: Bottom | None
    weights: Tensor

    def z(self, table: LoadedTable, rows: npt.NDArray[np.int64]) -> Tensor:
        """This party's contribution to Z (B, K)."""
        features = self.preprocessor.transform(table.select(rows))
        if self.bottom is None:
            return torch.zeros(len(rows), self.weights.shape[1])
        alpha_BD: Tensor = self.bottom(features.numeric, features.categorical)
        return alpha_BD @ self.weights


class JointModel:
    """Predicts in the clear from all parties' columns. Make it with ``load``, or take it from ``Run.model``.

    Attributes:
        active: name of the party that has the labels.
        classes: the labels in the order of the probabilities; None for a regression.
    """

    def __init__(
        self,
        active: str,
        parts: Mapping[str, _Part],
        bias: Tensor,
        top: nn.Sequential,
        encoding: LabelEncoding,
        task: TaskConfig,
        ids: IdRules,
    ) -> None:
        self.active = active
        self._parts = parts
        self._bias = bias
        self._top = top
        self._encoding = encoding
        self._task = task
        self._ids = ids

    @property
    def classes(self) -> tuple[Any, ...] | None:
        """See the class."""
        return self._encoding.values if isinstance(self._encoding, ClassEncoding) else None

    @classmethod
    def load(
        cls, folders: Mapping[str, str | Path], *, bottoms: Mapping[str, Callable[..., nn.Module] | None] | None = None
    ) -> JointModel:
        """Read what every party saved of one run.

        Args:
            folders: by party, the folder of the run in its ``output``.
            bottoms: factories of custom bottoms that were given as objects, by party.

        Raises:
            ConfigError: a part is missing or cannot be read, or they are not of one run.
        """
        try:
            return _load({name: Path(folder) for name, folder in folders.items()}, bottoms or {})
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ConfigError(
                "the parts of a model cannot be put together",
                detail=f"{type(error).__name__}: {error}",
                remedy="give the folder that each party saved of the same run",
            ) from error

    def predict(self, tables: Mapping[str, Table]) -> npt.NDArray[Any]:
        """Predicted labels, or values of a regression, (n,) in the order of the active party's rows.

        Args:
            tables: every party's ``vfl.Table``, by name; the label is not read. All must have the ids of the active
                party's rows.

        Raises:
            DataError: a party lacks rows or columns.
        """
        if isinstance(self._encoding, ScaleEncoding | CountEncoding):
            return np.asarray(self._encoding.decode(self._logits(tables)[:, 0]).numpy())
        labels: npt.NDArray[Any] = np.asarray(self.classes)[self.predict_proba(tables).argmax(axis=1)]
        return labels

    def predict_proba(self, tables: Mapping[str, Table]) -> npt.NDArray[np.float64]:
        """Probabilities of the classes (n, classes), see ``predict``.

        Raises:
            ConfigError: the task is a regression.
            DataError: a party lacks rows or columns.
        """
        if self.classes is None:
            raise ConfigError("a regression has no probabilities", remedy="use predict")
        logits = self._logits(tables).double()
        if self._task.kind == "binary":
            positive = torch.sigmoid(logits[:, 0])
            return torch.stack([1 - positive, positive], dim=1).numpy()
        return torch.softmax(logits, dim=1).numpy()

    @torch.no_grad()
    def _logits(self, tables: Mapping[str, Table]) -> Tensor:
        if missing := sorted(self._parts.keys() - tables.keys()):
            raise DataError(f"no table of {', '.join(missing)}", remedy="give every party's table")
        if untold := [name for name in self._parts if not isinstance(tables[name], Table)]:
            raise DataError(
                f"what was given of {', '.join(untold)} is no vfl.Table",
                remedy="wrap it, which says where the ids are: vfl.Table(frame, id='id')",
            )
        loaded = {name: self._read(tables[name], name) for name in self._parts}
        ids = loaded[self.active].ids
        rows = {name: _positions(table, ids, name) for name, table in loaded.items()}
        logits = []
        for start in range(0, len(ids), _BATCH):
            z_BK = self._bias + sum(
                part.z(loaded[name], rows[name][start : start + _BATCH]) for name, part in self._parts.items()
            )
            logits.append(self._top(z_BK))
        return torch.cat(logits)

    def _read(self, table: Table, name: str) -> LoadedTable:
        table, readings = table.without_label(), self._parts[name].preprocessor.readings
        return load_table(
            table.config, self._ids, needs_label=False, needs_features=False, frame=table.frame, readings=readings
        )


def _positions(table: LoadedTable, ids: pl.Series, name: str) -> npt.NDArray[np.int64]:
    """Where a party has the rows of these ids."""
    own = pl.DataFrame({"id": table.ids, "at": np.arange(len(table.ids), dtype=np.int64)})
    joined = pl.DataFrame({"id": ids}).join(own, on="id", how="left", maintain_order="left")
    if missing := joined["at"].null_count():
        raise DataError(
            f"{name} lacks {missing} of the {len(ids)} rows that are to be predicted",
            remedy="predict rows that all parties have",
        )
    return joined["at"].to_numpy()


def _load(folders: Mapping[str, Path], bottoms: Mapping[str, Callable[..., nn.Module] | None]) -> JointModel:
    cards = {name: json.loads((folder / "model.json").read_text("utf-8")) for name, folder in folders.items()}
    active = next(name for name, folder in folders.items() if (folder / "labels.json").exists())
    job = cards[active]["job"]
    if any(card["job"] != job for card in cards.values()):
        raise ValueError("the parts are of different jobs")
    parameters = Parameters.validated(RingSettings(**job["ring"]))
    held = load_file(folders[active] / "interaction.safetensors")
    tensors = {name: load_file(folder / "model.safetensors") for name, folder in folders.items()}
    own = under("own", tensors[active])
    parts = {}
    inputs_of_top = own["bias"].shape[0]
    for name, folder in folders.items():
        preprocessor = Preprocessor.from_json((folder / "preprocessing.json").read_text("utf-8"))
        width = cards[name]["width"]
        if name == active:
            weights = own["weight"].T
        else:
            shares = [held[name].numpy(), *(s.numpy() for s in load_file(folder / "interaction.safetensors").values())]
            joint = center(np.sum(shares, axis=0, dtype=np.int64), parameters.tau)
            weights = torch.from_numpy(joint * 2.0**-parameters.settings.weight_bits).float()
            # The first inputs of the top are the active party's alone.
            weights = torch.nn.functional.pad(weights, (inputs_of_top - weights.shape[1], 0))
        bottom = None
        if width:
            config = _BOTTOMS.validate_python(cards[name]["bottom"])
            bottom = build_bottom(config, preprocessor.inputs, width, 0, bottoms.get(name))
            bottom.load_state_dict(under("bottom", tensors[name]))
            bottom.eval()
        parts[name] = _Part(preprocessor, bottom, weights)
    encoding = LabelEncoding.from_json((folders[active] / "labels.json").read_text("utf-8"))
    top = _top(under("top", tensors[active]))
    return JointModel(active, parts, own["bias"], top, encoding, TaskConfig(**job["task"]), IdRules(**job["ids"]))


def _top(state: Mapping[str, Tensor]) -> nn.Sequential:
    """The top from the effective weights that were saved: linear layers with GroupSort between them."""
    from deel.torchlip import GroupSort2

    layers: list[nn.Module] = []
    for at in sorted({int(key.partition(".")[0]) for key in state}):
        weight, bias = state[f"{at}.weight"], state[f"{at}.bias"]
        linear = linear_without_init(weight.shape[1], weight.shape[0])
        linear.load_state_dict({"weight": weight, "bias": bias})
        layers += [linear, GroupSort2()]
    return nn.Sequential(*layers[:-1])
