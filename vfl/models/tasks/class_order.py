"""In which order the labels of a classification are numbered, and which of two is the positive one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from vfl.errors import ConfigError, DataError
from vfl.models.config import TaskConfig

Labels = npt.NDArray[Any]
_SHOWN = 8


@dataclass(frozen=True)
class ClassOrder:
    """What a party says of its labels.

    Attributes:
        positive: of two labels, the one whose probability is predicted.
        classes: all labels of a multiclass task, in order.
    """

    positive: str | None = None
    classes: tuple[str, ...] | None = None


AS_THEY_ARE = ClassOrder()
"""Nothing is said: classes are sorted."""

_OPPOSITES = {
    "no": "yes",
    "n": "y",
    "false": "true",
    "f": "t",
    "negative": "positive",
    "neg": "pos",
    "nein": "ja",
    "non": "oui",
    "否": "是",
}
"""Pairs of words of which the second is the positive one whoever uses them."""


def in_stated_order(config: TaskConfig, distinct: Labels, order: ClassOrder) -> tuple[Any, ...]:
    """All classes in the order that is stated.

    Args:
        distinct: the labels that occur.

    Raises:
        DataError: other labels occur, or there are more or fewer classes than the task has.
        ConfigError: the labels are numbers, and a stated class is none.
    """
    by_name = {_name(value): value for value in distinct.tolist()}
    if order.classes is not None:
        stated = order.classes
    else:
        others = [name for name in by_name if name != order.positive]
        stated = (*others, str(order.positive))
    if len(stated) != config.class_count or not set(by_name) <= set(stated):
        raise DataError(
            "the labels are not those that positive_label or classes in [data] states",
            detail=f"stated: {', '.join(order.classes or (str(order.positive),))}; {shown(distinct)}",
            remedy="correct [data] of party.toml, the label column, or kind and classes in [task] of job.toml",
        )
    kinds = {type(value) for value in by_name.values()}
    return tuple(by_name[name] if name in by_name else _like(name, kinds) for name in stated)


def _name(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _like(name: str, kinds: set[type]) -> Any:
    """A class that does not occur, of the type of those that do."""
    if kinds == {str}:
        return name
    try:
        return int(name) if kinds == {int} else float(name)
    except ValueError:
        raise ConfigError(
            f"classes lists '{name}', and the labels are numbers", remedy="correct classes in [data] of party.toml"
        ) from None


def with_positive_second(one: str, other: str) -> tuple[str, str]:
    """Two words in the order negative, positive.

    Raises:
        DataError: either may be the positive one.
    """
    for negative, positive in ((one, other), (other, one)):
        if _OPPOSITES.get(negative.casefold()) == positive.casefold():
            return negative, positive
    raise DataError(
        "the two labels are words, and either may be the positive one",
        detail=f'set positive_label = "{other}" or positive_label = "{one}"',
        remedy="state positive_label in [data] of party.toml (positive_label= of vfl.Table)",
    )


def shown(distinct: Labels) -> str:
    """The first few distinct labels, for the ``detail`` of an error."""
    listed = ", ".join(str(value) for value in distinct[:_SHOWN].tolist())
    return f"distinct labels: {listed}{', ...' if len(distinct) > _SHOWN else ''}"
