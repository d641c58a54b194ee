"""The base of data messages: arrays only, with declared element types and dimensions."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from vfl.errors import ProtocolError
from vfl.ids import Role
from vfl.messages.protection import Protection

Array = npt.NDArray[Any]
"""A message tensor; the element type is declared by the field."""

MAX_DIMENSIONS = 4

Routes = frozenset[tuple[Role, Role]]
"""Pairs of sender and receiver roles that a message is for; a party refuses it from anybody else."""


def tensor(dtype: str, ndim: int) -> Any:
    """Declare a message field that holds an array of exactly this element type and number of dimensions."""
    return field(metadata={"dtype": np.dtype(dtype), "ndim": ndim})


@dataclass(frozen=True, slots=True)
class Message:
    """Base class of data messages. Every kind declares its protection and its routes."""

    kind: ClassVar[str]
    protection: ClassVar[Protection]
    routes: ClassVar[Routes]

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = getattr(self, spec.name)
            dtype, ndim = spec.metadata["dtype"], spec.metadata["ndim"]
            if not isinstance(value, np.ndarray) or value.dtype != dtype or value.ndim != ndim:
                raise ProtocolError(
                    f"message '{self.kind}' carries a malformed tensor '{spec.name}': "
                    f"expected {dtype} with {ndim} dimension(s)",
                    remedy="check that every party runs the same version of vfl",
                )

    def tensors(self) -> dict[str, Array]:
        """The message's arrays by field name, in declaration order."""
        return {spec.name: getattr(self, spec.name) for spec in fields(self)}
