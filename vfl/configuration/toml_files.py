"""Reads a TOML file into a pydantic model, with errors that name the file, the key and the remedy."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo

from vfl.configuration.problems import explain
from vfl.errors import ConfigError

MAX_CHARACTERS = 2**20
MAX_LINE = 4096
MAX_DOTS = 32
"""In a line. ``tomllib`` takes time and memory in proportion to the square of the number of parts of a dotted key."""
MAX_LISTED = 20
"""Problems listed in one error. Finding the nearest known key takes a fraction of a millisecond for each."""
_DIRECTORY = "directory"


class Configuration(BaseModel):
    """Base class of configuration tables: unknown keys are errors, numbers are finite, validated values immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    renamed: ClassVar[Mapping[str, str]] = {}
    """For a whole file: dotted keys of earlier versions, or ``key = "value"``, and their current names."""


def _relative_to_file(path: Path, info: ValidationInfo) -> Path:
    if "\0" in str(path):
        raise ValueError("a path cannot contain a NUL character")
    directory = (info.context or {}).get(_DIRECTORY)
    try:
        return path if directory is None else directory / path.expanduser()
    except RuntimeError:
        raise ValueError("a path that begins with '~' must name a user of this machine") from None


LocalPath = Annotated[Path, AfterValidator(_relative_to_file)]
"""A path in a configuration file; a relative path is relative to the directory of that file."""


def in_form(pattern: str, words: str) -> AfterValidator:
    """A text that matches a whole regular expression; the error says in words what it must be."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"must be {words}")
        return text

    return AfterValidator(check)


ModelT = TypeVar("ModelT", bound=BaseModel)


def load_toml(path: Path, model: type[ModelT]) -> ModelT:
    """Read and validate a whole configuration file.

    Args:
        path: the TOML file.
        model: describes its tables and keys.

    Raises:
        ConfigError: the file is missing, is not TOML, or does not match the model. ``detail`` lists every problem with
            its key, but never repeats a value from the file, as it may be a password.
    """
    return validated(read_toml(path), model, str(path), directory=path.absolute().parent)


def validated(content: Mapping[str, Any], model: type[ModelT], source: str, *, directory: Path | None = None) -> ModelT:
    """Validate the content of a configuration file, or its equivalent from a program.

    Args:
        source: what to call the content in errors.
        directory: the directory that relative paths are relative to.

    Raises:
        ConfigError: see ``load_toml``.
    """
    _refuse_renamed(source, content, getattr(model, "renamed", {}))
    try:
        return model.model_validate(content, context={_DIRECTORY: directory})
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        problems = [explain(model, problem) for problem in found[:MAX_LISTED]]
        listed = "\n".join(f"  {what}" for what, _ in problems)
        more = f"\n  and {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else ""
        raise ConfigError(
            f"a configuration file is not valid: {len(found)} problem(s)",
            detail=f"{source}:\n{listed}{more}",
            remedy="; ".join(dict.fromkeys(remedy for _, remedy in problems)),
        ) from None


def _refuse_renamed(source: str, content: Mapping[str, Any], renamed: Mapping[str, str]) -> None:
    """Refuse keys of an earlier version and state their new names; "unknown key" would leave the reader searching."""
    changed = {old: new for old, new in renamed.items() if _is_present(content, old)}
    if changed:
        listed = "\n".join(f"  {old} is now {new}" for old, new in changed.items())
        raise ConfigError(
            f"a configuration file uses {len(changed)} key(s) from an earlier version",
            detail=f"{source}:\n{listed}",
            remedy="; ".join(f"{old} is now {new}" for old, new in changed.items()),
        )


def _is_present(content: Mapping[str, Any], dotted: str) -> bool:
    """Whether a key is present; with ``key = "value"``, whether it has that value."""
    key, _, value = dotted.partition(" = ")
    inner: Any = content
    for part in key.split("."):
        if not isinstance(inner, Mapping) or part not in inner:
            return False
        inner = inner[part]
    return not value or inner == value.strip('"')


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file, not validated.

    Raises:
        ConfigError: the file is missing, cannot be read or is not TOML.
    """
    try:
        content = tomllib.loads(_bounded(path))
    except FileNotFoundError:
        raise ConfigError(
            "a configuration file is missing", detail=str(path), remedy="create the file or correct its path"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "a configuration file cannot be read",
            detail=f"{path}: {error}",
            remedy="make it a UTF-8 text file that this user can read",
        ) from None
    except (ValueError, RecursionError) as error:  # invalid syntax, or thousands of digits or brackets
        raise ConfigError(
            "a configuration file is not valid TOML", detail=f"{path}: {error}", remedy="correct the syntax"
        ) from None
    if has_long_integer(content):
        raise ConfigError(
            "a configuration file has an integer of more than 64 bits",
            detail=str(path),
            remedy="write a smaller number",
        )
    return content


def _bounded(path: Path) -> str:
    """The text of a file, with bounds on its length, the length of its lines, and the parts of a dotted key.

    Such a key must be on one line.
    """
    with path.open(encoding="utf-8") as file:
        text = file.read(MAX_CHARACTERS + 1)
    lines = text.split("\n")
    if len(text) > MAX_CHARACTERS or max(map(len, lines)) > MAX_LINE:
        raise ConfigError(
            f"a configuration file is longer than {MAX_CHARACTERS} characters, or has a line longer than {MAX_LINE}",
            detail=str(path),
            remedy="break long lines: split an array over several lines, or turn an inline table into a table",
        )
    dotted = next((number for number, line in enumerate(lines, 1) if line.count(".") > MAX_DOTS), None)
    if dotted is not None:
        raise ConfigError(
            f"a configuration file has a line with more than {MAX_DOTS} dots",
            detail=f"{path}, line {dotted}",
            remedy="split an array over several lines; a key has a few parts at most",
        )
    return text


def has_long_integer(content: object) -> bool:
    """Whether an integer exceeds 64 bits, which TOML does not require parsers to support (TOML 1.0, "Integer").

    Also of what was read from JSON. Not recursive, since tables may be nested deeply.
    """
    pending = [content]
    while pending:
        match pending.pop():
            case dict() as table:
                pending.extend(table.values())
            case list() as items:
                pending.extend(items)
            case int() as number if not -(2**63) <= number < 2**63:
                return True
    return False
