"""Estimators in the manner of scikit-learn, for a federation that is simulated in this process.

They follow scikit-learn's conventions for parameters (``get_params``, ``set_params``, ``clone``, trailing underscores
for what was fitted). Its ``check_estimator`` cannot be passed: ``fit`` takes one table for each party instead of one
array, rows are matched by id instead of position, and the labels are a column of one of the tables.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vfl.api.job import Job
from vfl.api.joint_model import JointModel
from vfl.api.party import Bottom, Party
from vfl.api.run import Run
from vfl.api.simulation import simulate
from vfl.api.table import Table
from vfl.data.table import load_table
from vfl.errors import ConfigError, DataError

Tables = Mapping[str, Any]
"""By party: a ``vfl.Table``, or whatever ``vfl.Table`` takes where ``id`` and ``label`` name the columns."""


class _VerticalEstimator:
    """What both have in common. The active party is the one whose table has the label.

    Args:
        id: the id column of tables that are not ``vfl.Table``.
        label: the label column of the active party's table.
        time: its time column, for ``split={"by": "time", ...}``.
        bottom: of every party, or by party.
        widths: bottom width of every party, or by party.
        model, training, interaction, privacy, split: the tables of job.toml of the same name. Nothing is held out by
            default.
        policy: of every party; by default any number of rows is accepted.
        seed: public seed of split, batches and initial weights.

    Attributes:
        run_: what the run gave.
        model_: the joint model.
    """

    def __init__(
        self,
        *,
        id: str | Sequence[str] = "id",  # the word that users look for
        label: str = "label",
        time: str | None = None,
        bottom: Bottom | Mapping[str, Bottom] | None = None,
        widths: int | Mapping[str, int] | None = None,
        model: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        interaction: Mapping[str, Any] | None = None,
        privacy: Mapping[str, Any] | None = None,
        split: Mapping[str, Any] | None = None,
        policy: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.id = id
        self.label = label
        self.time = time
        self.bottom = bottom
        self.widths = widths
        self.model = model
        self.training = training
        self.interaction = interaction
        self.privacy = privacy
        self.split = split
        self.policy = policy
        self.seed = seed

    @classmethod
    def _names(cls) -> list[str]:
        parameters = inspect.signature(cls.__init__).parameters
        return sorted(name for name in parameters if name != "self")

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # scikit-learn's signature
        """The parameters by name."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Self:
        """Change parameters.

        Raises:
            ValueError: there is no such parameter.
        """
        for name, value in params.items():
            if name not in self._names():
                raise ValueError(f"{type(self).__name__} has no parameter '{name}'; it has {self._names()}")
            setattr(self, name, value)
        return self

    def fit(self, tables: Tables, y: None = None) -> Self:
        """Train on the rows that all parties have.

        Args:
            tables: by party.
            y: not used; the label is a column of one of the tables.

        Raises:
            VflError: what ended the run.
        """
        if y is not None:
            raise ConfigError("labels are a column of the active party's table", remedy="pass y=None and set 'label'")
        if not (isinstance(tables, Mapping) and tables and all(isinstance(name, str) for name in tables)):
            raise DataError("tables are given by party", remedy='pass {"bank": bank_table, "telco": telco_table}')
        parties = {name: self._party(name, self._table(table)) for name, table in tables.items()}
        active = [name for name, party in parties.items() if party.table.label is not None]
        if len(active) != 1:
            raise DataError(
                f"{len(active)} tables have the label column '{self.label}'; exactly one party is the active one",
                remedy="name the column in 'label', and leave it out of the other tables",
            )
        passive = [party for name, party in parties.items() if name != active[0]]
        job = Job(
            "estimator",
            **self._task(parties[active[0]].table),
            seed=self.seed,
            widths=self.widths,
            model=self.model,
            training=self.training,
            interaction=self.interaction,
            privacy=self.privacy,
            split=self.split or {"validation": 0.0, "test": 0.0},
        )
        self.run_: Run = simulate(job, active=parties[active[0]], passive=passive)
        if self.run_.model is None:
            raise RuntimeError("a simulation always has a model")
        self.model_: JointModel = self.run_.model
        return self

    def predict(self, tables: Tables) -> npt.NDArray[Any]:
        """Predictions (n,) in the order of the active party's rows; its label column is ignored if it is there.

        Raises:
            DataError: a party lacks rows or columns.
        """
        return self._fitted.predict(self._tables(tables))

    @property
    def _fitted(self) -> JointModel:
        if not hasattr(self, "model_"):
            raise ConfigError(f"this {type(self).__name__} is not fitted yet", remedy="call fit first")
        return self.model_

    @property
    def _policy(self) -> Mapping[str, Any]:
        return {"min_aligned_rows": 1, "min_batch_size": 1} if self.policy is None else self.policy

    def _tables(self, tables: Tables) -> dict[str, Table]:
        return {name: self._table(table) for name, table in tables.items()}

    def _table(self, table: Any) -> Table:
        if isinstance(table, Table):
            return table
        made = Table(table, id=self.id)
        if made.frame is not None and self.label in made.frame.columns:
            time = self.time if self.time in made.frame.columns else None
            return Table(made.frame, id=self.id, label=self.label, time=time)
        return made

    def _party(self, name: str, table: Table) -> Party:
        policy = dict(self._policy)
        if table.label is None:
            policy.pop("allow_trainable", None)  # of the active party alone: its labels are at stake
        return Party(name, table, bottom=self._bottom(name), policy=policy)

    def _bottom(self, name: str) -> Bottom | None:
        if isinstance(self.bottom, Mapping) and "kind" not in self.bottom:
            chosen: Bottom | None = self.bottom.get(name)
            return chosen
        return self.bottom

    def _task(self, table: Table) -> dict[str, Any]:
        raise NotImplementedError

    def _labels(self, tables: Tables) -> npt.NDArray[np.float64]:
        """The labels of the active party's rows."""
        table = self._tables(tables)[self._fitted.active]
        loaded = load_table(table.config, needs_label=True, frame=table.frame)
        if loaded.labels is None:
            raise RuntimeError("a table that is loaded with labels has them")
        return loaded.labels

    def __repr__(self) -> str:
        defaults = {name: p.default for name, p in inspect.signature(type(self).__init__).parameters.items()}
        changed = [f"{name}={value!r}" for name, value in self.get_params().items() if value != defaults[name]]
        return f"{type(self).__name__}({', '.join(changed)})"


class VerticalClassifier(_VerticalEstimator):
    """Two or more classes. See the module for what of scikit-learn's conventions holds.

    Attributes:
        classes_: the labels in the order of ``predict_proba``'s columns.
    """

    _estimator_type = "classifier"

    @property
    def classes_(self) -> npt.NDArray[Any]:
        """See the class."""
        return np.asarray(self._fitted.classes)

    def predict_proba(self, tables: Tables) -> npt.NDArray[np.float64]:
        """Probabilities (n, classes) in the order of the active party's rows.

        Raises:
            DataError: a party lacks rows or columns.
        """
        return self._fitted.predict_proba(self._tables(tables))

    def score(self, tables: Tables, y: None = None) -> float:  # scikit-learn's signature
        """Accuracy on tables that have the label."""
        return float((self.predict(tables) == self._labels(tables)).mean())

    def _task(self, table: Table) -> dict[str, Any]:
        labels = load_table(table.config, needs_label=True, frame=table.frame).labels
        classes = len(np.unique(labels)) if labels is not None else 0
        return {"task": "binary"} if classes <= 2 else {"task": "multiclass", "classes": classes}


class VerticalRegressor(_VerticalEstimator):
    """A number. See the module for what of scikit-learn's conventions holds."""

    _estimator_type = "regressor"

    def score(self, tables: Tables, y: None = None) -> float:  # scikit-learn's signature
        """R2 on tables that have the label."""
        actual = self._labels(tables)
        residual = ((actual - self.predict(tables)) ** 2).sum()
        return float(1 - residual / ((actual - actual.mean()) ** 2).sum())

    def _task(self, table: Table) -> dict[str, Any]:  # of the base
        return {"task": "regression"}
