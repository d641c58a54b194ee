"""What the ledger counts: a release of rows under noise, and the answer to a charge."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from enum import StrEnum

from vfl.errors import ParameterError

MAX_NAME = 256
_RANGE = 2.0**64
_MAX_WIDTH = 2**31 - 1


class Purpose(StrEnum):
    """Why rows are released."""

    TRAINING = "training"
    EVALUATION = "evaluation"
    GRADIENT = "gradient"


@dataclass(frozen=True, slots=True)
class Release:
    """What the rows of one message have in common: noisy rows of Z to the active party, or of d alpha to a passive one.

    Attributes:
        run: name of the run.
        job: name of the job.
        purpose: why the rows are released.
        width: number of columns.
        sigma: standard deviation of the noise, in units of what is released; of relative noise, of its own deviation.
        bound: on the signal in the same units: the limit of its absolute value, or 1 for relative noise.
        context: digest of what all labels of the message have in common. Equal labels must have equal contexts: a label
            is recognized only under the context with which it was charged first. It also keeps the rows of one message
            together in the file, so it should differ between messages that cannot repeat each other.
        time: of the release, in seconds since 1970; shown to people only.

    Raises:
        ParameterError: a value is out of range. In particular, there is no release without noise.
    """

    run: str
    job: str
    purpose: Purpose
    width: int
    sigma: float
    bound: float
    context: bytes = b""
    time: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        _check("run", is_usable_name(self.run))
        _check("job", is_usable_name(self.job))
        _check("purpose", isinstance(self.purpose, Purpose))
        _check("width", isinstance(self.width, int) and 1 <= self.width <= _MAX_WIDTH)
        _check("sigma", 1 / _RANGE <= self.sigma <= _RANGE)
        _check("bound", 0 <= self.bound <= _RANGE)
        _check("time", math.isfinite(self.time))

    @property
    def information(self) -> float:
        """K bound^2 / sigma^2: the signal-to-noise ratio of one row of this release, for reports.

        It adds up over releases. It is a measure for comparing runs and policies, not a guarantee.
        """
        return self.width * (self.bound / self.sigma) ** 2


def is_usable_name(name: object) -> bool:
    """Whether the ledger can store and show a name."""
    return isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable()


def _check(name: str, usable: bool) -> None:
    if not usable:
        raise ParameterError(
            "a release cannot be counted",
            detail=f"its {name} is out of range",
            remedy="set the noise of the job to a positive, finite number; nothing is released without noise",
        )


@dataclass(frozen=True, slots=True)
class Charged:
    """What a charge came to.

    Attributes:
        new: releases that were counted.
        repeated: releases that were recorded before and cost nothing.
        highest: the most releases that any of the newly counted rows has now; 0 if there are none.
    """

    new: int
    repeated: int
    highest: int
