"""Reading a TOML file into a pydantic model, with errors that name file, key and remedy."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo

from vfl.errors import ConfigError

_DIRECTORY = "directory"


class Configuration(BaseModel):
    """Base of configuration tables: unknown keys are errors, values cannot change once validated."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    directory = (info.context or {}).get(_DIRECTORY)
    return path if directory is None else directory / path.expanduser()


LocalPath = Annotated[Path, AfterValidator(_beside_the_file)]
"""A path in a configuration file; a relative one is relative to the directory of that file."""

ModelT = TypeVar("ModelT", bound=BaseModel)


def load_toml(path: Path, model: type[ModelT]) -> ModelT:
    """Read and validate a whole configuration file.

    Args:
        path: the TOML file.
        model: what it has to look like.

    Raises:
        ConfigError: the file is missing, is not TOML, or does not fit the model. ``detail`` lists every problem with
            its key, and never repeats a value of the file, which may be a password.
    """
    try:
        return model.model_validate(_read(path), context={_DIRECTORY: path.absolute().parent})
    except ValidationError as error:
        problems = [_explain(model, problem) for problem in error.errors(include_url=False, include_input=False)]
        listed = "\n".join(f"  {what}" for what, _ in problems)
        raise ConfigError(
            f"a configuration file is not valid: {len(problems)} problem(s)",
            detail=f"{path}:\n{listed}",
            remedy="; ".join(dict.fromkeys(remedy for _, remedy in problems)),
        ) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            "a configuration file is missing", detail=str(path), remedy="create the file or correct its path"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "a configuration file cannot be read",
            detail=f"{path}: {error}",
            remedy="make it a UTF-8 text file that this user may read",
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            "a configuration file is not valid TOML", detail=f"{path}: {error}", remedy="correct the syntax there"
        ) from None


def _explain(model: type[BaseModel], problem: Mapping[str, Any]) -> tuple[str, str]:
    """What is wrong with which key, and what to do; the remedy names only keys of the model."""
    location = problem["loc"]
    key = _dotted(location)
    if problem["type"] == "extra_forbidden":
        table = _table_at(model, location[:-1])
        known = _keys(table) if table else []
        nearest = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"write '{nearest[0]}'" if nearest else f"use one of: {', '.join(known)}"
        return f"{key}: unknown key", hint
    if problem["type"] == "missing":
        return f"{key}: missing", f"add the key '{_field_of(location)}'"
    message = problem["msg"].removeprefix("Value error, ")
    where = f"{key}: " if key else ""
    return f"{where}{message}", f"correct '{_field_of(location)}'" if location else "correct the file as listed"


def _dotted(location: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def _field_of(location: tuple[str | int, ...]) -> str:
    return next((part for part in reversed(location) if isinstance(part, str)), "")


def _keys(model: type[BaseModel]) -> list[str]:
    return [spec.alias or name for name, spec in model.model_fields.items()]


def _table_at(model: type[BaseModel], location: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The model that describes the table at ``location``; None where the key does not lead to one."""
    for part in location:
        if isinstance(part, int):
            continue
        spec = next((spec for name, spec in model.model_fields.items() if part in (name, spec.alias)), None)
        inner = next(_models_in(spec.annotation), None) if spec else None
        if inner is None:
            return None
        model = inner
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
