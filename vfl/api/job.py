"""A job as an object: what job.toml says, before it is known who takes part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vfl.configuration.toml_files import read_toml, validated
from vfl.errors import ConfigError
from vfl.job.config import JobConfig

if TYPE_CHECKING:
    from vfl.api.party import Party


class Job:
    """What is trained. Everything but the task has a default.

    Args:
        name: of the job; runs are called after it.
        task: ``"binary"``, ``"multiclass"`` (with ``classes``) or ``"regression"``.
        seed: public seed of split, batches and initial weights.
        classes: of a multiclass task.
        loss: of a regression, ``"huber"``, ``"mse"``, or ``"poisson"`` for counts.
        class_weights: ``"balanced"`` gives every class the same total weight in the loss.
        widths: bottom width of every party whose bottom's kind leaves it open, or by name. Of encodings it follows from
            the table.
        split_by: short for ``split={"by": ...}``: ``"random"``, ``"label"`` (every class has its share of each part) or
            ``"time"`` (the latest rows test; the active party's table names the column).
        model, training, interaction, privacy, split, ids, ring, timeouts, checkpoints: the tables of job.toml of the
            same name, as in docs/configuration.md.

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
        class_weights: str | None = None,
        widths: int | Mapping[str, int] | None = None,
        model: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        interaction: Mapping[str, Any] | None = None,
        privacy: Mapping[str, Any] | None = None,
        split: Mapping[str, Any] | None = None,
        split_by: str | None = None,
        ids: Mapping[str, Any] | None = None,
        ring: Mapping[str, Any] | None = None,
        timeouts: Mapping[str, Any] | None = None,
        checkpoints: Mapping[str, Any] | None = None,
    ) -> None:
        if split_by is not None and "by" in (split or {}):
            raise ConfigError(f"split_by and split of job '{name}' both say how to split", remedy="use one of them")
        by = {} if split_by is None else {"split": {"by": split_by, **(split or {})}}
        tables = {
            "model": model,
            "training": training,
            "interaction": interaction,
            "privacy": privacy,
            "split": split,
            "ids": ids,
            "ring": ring,
            "timeouts": timeouts,
            "checkpoints": checkpoints,
            **by,
        }
        kind = {"kind": task, "classes": classes, "loss": loss, "class_weights": class_weights}
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
        content.pop("federation", None)
        return cls.of_content(content)

    @classmethod
    def of_content(cls, content: dict[str, Any]) -> Job:
        """The job with this content of a job.toml.

        Raises:
            ConfigError: a value is wrong; it names the key.
        """
        job = cls.__new__(cls)
        job._widths = content.get("model", {}).pop("widths", None)
        job._content = content
        job._check()
        return job

    @property
    def stated(self) -> dict[str, Any]:
        """The content of job.toml, before it is known who takes part."""
        widths = {} if self._widths is None else {"model": {**self._content.get("model", {}), "widths": self._widths}}
        return {**self._content, **widths}

    @property
    def name(self) -> str:
        """Of the job."""
        return str(self._content["name"])

    @property
    def seed(self) -> int:
        """The public seed."""
        return int(self._content["seed"])

    def content(self, active: Party, passive: Sequence[Party]) -> dict[str, Any]:
        """The content of job.toml for these parties. Passive bottoms that train are declared.

        Raises:
            ConfigError: a width is stated for somebody else.
        """
        names = [party.name for party in (active, *passive)]
        if isinstance(self._widths, Mapping) and (stray := [name for name in self._widths if name not in names]):
            raise ConfigError(
                f"'widths' of job '{self.name}' names {', '.join(stray)}, which is no party of it",
                remedy=f"state widths by party: {', '.join(names)}",
            )
        model = {**self._content.get("model", {})}
        widths = {party.name: self._width(party) for party in (active, *passive)}
        model.setdefault("widths", {name: width for name, width in widths.items() if width is not None})
        if trainable := [party.name for party in passive if party.trains]:
            model.setdefault("trainable", trainable)
        return {**self._content, "model": model}

    def _check(self) -> None:
        """What is wrong is said when the job is made, and not in a run."""
        validated(self._content, JobConfig, f"job '{self.name}'")

    def _width(self, party: Party) -> int | None:
        """As stated; None where it follows from the party's table, or is the default."""
        if isinstance(self._widths, Mapping):
            return self._widths.get(party.name)
        return None if not party.table.has_features or party.has_own_width else self._widths

    def __repr__(self) -> str:
        return f"Job({self.name!r}, task={self._content['task']['kind']!r}, seed={self.seed})"
