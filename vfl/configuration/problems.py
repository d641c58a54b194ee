"""What is wrong with a configuration file, in its reader's words: keys, values and units, no Python.

A message never repeats a value of the file, which may be a password.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel

_MAX_COMPARED = 64
_MAX_SHOWN = 256
"""Characters of a key. Finding the nearest known one takes a fraction of a millisecond."""

_ENUM = re.compile(r"<\w+\.\w+: ('[^']*')>")
_TABLE, _NUMBER, _WHOLE = "must be a table", "must be a number", "must be a whole number"
_SWITCH, _LIST = "must be true or false", "must be a list in brackets"

_WORDS: Mapping[str, str | Callable[[Mapping[str, Any]], str]] = {
    "bool_parsing": _SWITCH,
    "bool_type": _SWITCH,
    "dict_type": _TABLE,
    "enum": lambda limits: f"must be {_without_enums(limits['expected'])}",
    "finite_number": "must be a finite number",
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "greater_than": lambda limits: f"must be above {limits['gt']:.12g}",
    "greater_than_equal": lambda limits: f"must be at least {limits['ge']:.12g}",
    "int_from_float": _WHOLE,
    "int_parsing": _WHOLE,
    "int_type": _WHOLE,
    "less_than": lambda limits: f"must be below {limits['lt']:.12g}",
    "less_than_equal": lambda limits: f"must be at most {limits['le']:.12g}",
    "list_type": _LIST,
    "literal_error": lambda limits: f"must be {_without_enums(limits['expected'])}",
    "model_attributes_type": _TABLE,
    "model_type": _TABLE,
    "path_type": "must be a path in quotes",
    "string_too_long": lambda limits: f"must have at most {limits['max_length']} characters",
    "string_too_short": lambda limits: f"must have at least {limits['min_length']} character(s)",
    "string_type": "must be text in quotes",
    "too_long": lambda limits: f"must have at most {limits['max_length']} entries",
    "too_short": lambda limits: (
        f"must have at least {limits['min_length']} entr{'y' if limits['min_length'] == 1 else 'ies'}"
    ),
    "tuple_type": _LIST,
}


def explain(model: type[BaseModel], problem: Mapping[str, Any]) -> tuple[str, str]:
    """A problem with its key, and the remedy, which names only keys of the model.

    Args:
        model: of the whole file.
        problem: one of pydantic's ``errors()``.
    """
    kind, limits = problem["type"], problem.get("ctx", {})
    location = tuple(_keys_only(model, problem["loc"], unknown=kind == "extra_forbidden"))
    key = _dotted(location)
    if kind == "extra_forbidden":
        return f"{key[:_MAX_SHOWN]}: unknown key", _nearest(model, problem["loc"])
    if kind == "union_tag_not_found":
        kind, key, location = "missing", f"{key}.kind", (*location, "kind")
    if kind == "missing":
        return f"{key}: missing", f"add the key '{_field_of(location)}'"
    if kind == "union_tag_invalid":
        return f"{key}.kind: must be one of {limits['expected_tags']}", "correct 'kind'"
    words = _WORDS.get(kind)
    if words is None:
        words = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    text = words if isinstance(words, str) else words(limits)
    where = f"{key}: " if key else ""
    return f"{where}{text}", f"correct '{_field_of(location)}'" if location else "correct the file as listed"


def _without_enums(expected: str) -> str:
    return _ENUM.sub(r"\1", expected)


def _nearest(model: type[BaseModel], location: tuple[str | int, ...]) -> str:
    """Which key to write in place of an unknown one: one of this table, or the same in another table."""
    table, wrong = _table_at(model, location[:-1]), str(location[-1])[:_MAX_COMPARED]
    known = _keys(table) if table else []
    if nearest := difflib.get_close_matches(wrong, known, n=1):
        return f"write '{nearest[0]}'"
    here = _dotted(tuple(_keys_only(model, location[:-1], unknown=False)))
    for place, name in _all_keys(model):
        if name == wrong and place != here:
            return f"write '{name}' in [{place}]" if place else f"write '{name}' outside of all tables"
    return f"use one of: {', '.join(known)}"


def _all_keys(model: type[BaseModel], place: str = "") -> Iterator[tuple[str, str]]:
    """Every key of a file with the table it belongs to, the outermost last."""
    for name, spec in model.model_fields.items():
        key = spec.alias or name
        for inner in _models_in(spec.annotation):
            yield from _all_keys(inner, f"{place}.{key}".removeprefix("."))
        yield place, key


def _dotted(location: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def _field_of(location: tuple[str | int, ...]) -> str:
    return next((part for part in reversed(location) if isinstance(part, str)), "")


def _keys(model: type[BaseModel]) -> list[str]:
    return [spec.alias or name for name, spec in model.model_fields.items()]


def _keys_only(model: type[BaseModel], location: tuple[str | int, ...], *, unknown: bool) -> Iterator[str | int]:
    """The location without what is no key of the file: kinds of a table, and types that a value could have.

    Args:
        unknown: the last part is a key that no table has.
    """
    candidates, is_open = [model], False
    for at, part in enumerate(location):
        if isinstance(part, int) or (unknown and at == len(location) - 1):
            yield part
        elif part in (kinds := _by_kind(candidates)):
            candidates = [kinds[part]]
        elif (spec := _field(candidates, part)) is not None:
            candidates, is_open = list(_models_in(spec.annotation)), _has_own_keys(spec.annotation)
            yield part
        elif is_open:
            is_open = False
            yield part


def _has_own_keys(annotation: Any) -> bool:
    return get_origin(annotation) is dict or any(map(_has_own_keys, get_args(annotation)))


def _by_kind(candidates: list[type[BaseModel]]) -> dict[Any, type[BaseModel]]:
    with_kind = [one for one in candidates if "kind" in one.model_fields]
    return {one.model_fields["kind"].default: one for one in with_kind} if len(with_kind) > 1 else {}


def _field(candidates: list[type[BaseModel]], part: str) -> Any:
    fields = candidates[0].model_fields if candidates else {}
    return next((spec for name, spec in fields.items() if part in (name, spec.alias)), None)


def _table_at(model: type[BaseModel], location: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The model that describes the table at ``location``; None if the key does not lead to one.

    Where ``kind`` tells several models apart, the key is followed by the kind.
    """
    candidates = [model]
    for part in location:
        if isinstance(part, int):
            continue
        if part in (kinds := _by_kind(candidates)):
            candidates = [kinds[part]]
            continue
        spec = _field(candidates, part)
        candidates = list(_models_in(spec.annotation)) if spec else []
        if not candidates:
            return None
    return candidates[0]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
