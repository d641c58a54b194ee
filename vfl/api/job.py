"""A job as an object: what job.toml says, before it is known who takes part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vfl.configuration.toml_files import read_toml, validated
from vfl.errors import ConfigError
from vfl.job.config import JobConfig

DEFAULT_WIDTH = 16


class Job:
    """What is trained. Everything but the task has a default.

    Args:
        name: of the job; runs are called after it.
        task: ``"binary"``, ``"multiclass"`` (with ``classes``) or ``"regression"``.
        seed: public seed of split, batches and initial weights.
        classes: of a multiclass task.
        loss: of a regression, ``"huber"`` or ``"mse"``.
        widths: bottom width of every party, or by name; an active party without features has none.
        model, training, interaction, split, ids, ring, timeouts, checkpoints: the tables of job.toml of the same name,
            as in docs/configuration.md.

    Raises:
        ConfigError: a value is wrong; it names the key.
    """

    def __init__(
        self,
        name: str,
        *,
        task: str,
        seed: int = 0,
        classes: int | None = None,
        loss: str | None = None,
        widths: int | Mapping[str, int] | None = None,
        model: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        interaction: Mapping[str, Any] | None = None,
        split: Mapping[str, Any] | None = None,
        ids: Mapping[str, Any] | None = None,
        ring: Mapping[str, Any] | None = None,
        timeouts: Mapping[str, Any] | None = None,
        checkpoints: Mapping[str, Any] | None = None,
    ) -> None:
        tables = {
            "model": model,
            "training": training,
            "interaction": interaction,
            "split": split,
            "ids": ids,
            "ring": ring,
            "timeouts": timeouts,
            "checkpoints": checkpoints,
        }
        kind = {"kind": task, "classes": classes, "loss": loss}
        self._content: dict[str, Any] = {
            "name": name,
            "seed": seed,
            "task": {key: value for key, value in kind.items() if value is not None},
            **{key: dict(value) for key, value in tables.items() if value is not None},
        }
        self._widths = widths
        self._check()

    @classmethod
    def from_toml(cls, path: str | Path) -> Job:
        """The job in a job.toml.

        Raises:
            ConfigError: naming file and key.
        """
        path = Path(path)
        content = read_toml(path)
        validated(content, JobConfig, str(path), directory=path.absolute().parent)
        job = cls.__new__(cls)
        job._widths = content["model"].pop("widths")
        content.pop("federation", None)
        job._content = content
        return job

    @property
    def name(self) -> str:
        """Of the job."""
        return str(self._content["name"])

    @property
    def seed(self) -> int:
        """The public seed."""
        return int(self._content["seed"])

    def content(self, features: Mapping[str, bool]) -> dict[str, Any]:
        """The content of job.toml for these parties.

        Args:
            features: whether each party has any, by name.

        Raises:
            ConfigError: a party has no width.
        """
        model = {**self._content.get("model", {})}
        model.setdefault("widths", {name: self._width(name, has) for name, has in features.items()})
        return {**self._content, "model": model}

    def _check(self) -> None:
        """What is wrong is said when the job is made, and not in a run; the widths, when it is known whose."""
        model = {"widths": {"party": DEFAULT_WIDTH}, **self._content.get("model", {})}
        validated({**self._content, "model": model}, JobConfig, f"job '{self.name}'")

    def _width(self, name: str, has_features: bool) -> int:
        if not has_features:
            return 0
        if isinstance(self._widths, Mapping):
            if name not in self._widths:
                raise ConfigError(
                    f"the job has no width for party '{name}'", remedy="add it to 'widths', or give one for all"
                )
            return self._widths[name]
        return DEFAULT_WIDTH if self._widths is None else self._widths

    def __repr__(self) -> str:
        return f"Job({self.name!r}, task={self._content['task']['kind']!r}, seed={self.seed})"
