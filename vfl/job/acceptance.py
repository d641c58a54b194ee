"""Which keys of a job may differ from a party's own job.toml, and within what: ``[accept]`` of party.toml.

Listed here is what may vary at all. A key is left out if another value can weaken what a party relies on without its
policy noticing: who takes part and which rows are matched (``name``, ``federation``, ``ids``), what is predicted
(``task.kind``), whether and how values are encrypted (``interaction.protocol``, ``ring``), who receives gradients
(``model.trainable``, ``model.widths``, ``training.method``), which rows are scored (``split``: metrics of two splits
that differ by a row tell its label), and what only costs this party time and disk (``timeouts``, ``checkpoints``).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from vfl.configuration.toml_files import Configuration
from vfl.errors import MismatchError
from vfl.job.config import JobConfig
from vfl.job.digests import canonical

NUMBERS = frozenset(
    {
        "seed",
        "model.own_units",
        "model.interaction_width",
        "model.top.lipschitz",
        "training.passes",
        "training.local_epochs",
        "training.batch_size",
        "training.evaluation_batch_size",
        "training.evaluate_every",
        "training.patience",
        "training.optimizer.learning_rate",
        "training.optimizer.weight_decay",
        "interaction.learning_rate",
        "interaction.learning_rate_decay",
        "interaction.momentum",
        "privacy.relative_noise",
        "privacy.z_noise",
        "privacy.d_alpha_noise",
    }
)
CHOICES = frozenset(
    {
        "task.loss",
        "task.class_weights",
        "model.kind",
        "model.top.hidden",
        "training.keep_best",
        "training.optimizer.name",
    }
)
VARIABLE = NUMBERS | CHOICES
"""Keys of job.toml that a party may let vary. The policy applies to the job whatever is accepted."""

MOST_VALUES = 64
_MOST_CHARACTERS = 256
"""Characters of a key or value in an error, a log line or a record."""

Scalar = bool | int | float | Annotated[str, Field(max_length=256)]


class Range(Configuration):
    """What a number may be; both ends are allowed."""

    min: int | float | None = None
    max: int | float | None = None


def _in_form(stated: Any) -> Any:
    """Check a rule before it is parsed: one message in place of one for each form that a rule may have."""
    if isinstance(stated, Range) or stated is True:
        return stated
    if isinstance(stated, list | tuple):
        if not 1 <= len(stated) <= MOST_VALUES or any(isinstance(value, list | tuple | Mapping) for value in stated):
            raise ValueError(f"must list 1 to {MOST_VALUES} values, none of which is a list or table")
        return stated
    if isinstance(stated, Mapping):
        ends = list(stated.values())
        if not stated or stated.keys() - {"min", "max"} or not all(map(_is_number, ends)):
            raise ValueError("must be a table with the number 'min', 'max' or both; put a key with dots in quotes")
        if len(ends) == 2 and stated["min"] > stated["max"]:
            raise ValueError("'min' must not be above 'max'")
        return stated
    raise ValueError("must be true for any value, a list of values, or a table with 'min', 'max' or both")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


Rule = Annotated[Literal[True] | tuple[Scalar, ...] | Range, BeforeValidator(_in_form)]
"""What a key may be: anything that the job's schema allows, one of some values, or a number in a range."""


def _known(rules: dict[str, Rule]) -> dict[str, Rule]:
    for key, rule in rules.items():
        if key not in VARIABLE:
            near = difflib.get_close_matches(key[:_MOST_CHARACTERS], VARIABLE, n=1)
            hint = f"write '{near[0]}'" if near else f"keys that may vary are {', '.join(sorted(VARIABLE))}"
            raise ValueError(f"'{key[:_MOST_CHARACTERS]}' is no key of job.toml that may vary: {hint}")
        if key in CHOICES and isinstance(rule, Range):
            raise ValueError(f"'{key}' has no range: list its values, or write true")
    return rules


Accepted = Annotated[dict[str, Rule], AfterValidator(_known)]
"""``[accept]`` of party.toml: rules by key of job.toml, with dots between table and key. Empty: nothing may vary."""


def settings(job: JobConfig) -> dict[str, Any]:
    """The values of a job by key, with dots between table and key, as JSON has them; ``ring`` is one of them."""
    return dict(_flat(job, ""))


def _flat(table: BaseModel, place: str) -> Iterator[tuple[str, Any]]:
    dumped = table.model_dump(mode="json")
    for name in type(table).model_fields:
        inner, key = getattr(table, name), f"{place}{name}"
        if key == "federation":
            continue  # a path of each member's own; its content is in the digest
        if isinstance(inner, BaseModel) and key != "ring":
            yield from _flat(inner, f"{key}.")
        else:
            yield key, dumped[name]


def differing(own: JobConfig, offered: JobConfig) -> dict[str, tuple[Any, Any]]:
    """The keys in which two jobs differ as stated, each with the own and the other value."""
    mine, theirs = settings(own), settings(offered)
    return {key: (mine[key], theirs[key]) for key in mine if canonical(mine[key]) != canonical(theirs[key])}


def check_accepted(rules: Mapping[str, Rule], own: JobConfig, offered: JobConfig) -> None:
    """Check that an offered job differs from this party's only in keys, and within ranges, that it accepts.

    What follows from accepted keys may differ, too: more passes of stagewise training make Z wider. A key that the
    offered job leaves out counts with what holds without it.

    Raises:
        MismatchError: naming the keys. Ranges are this party's own and only in ``detail``.
    """
    effective = settings(offered.resolved)
    refused, details = [], []
    for key, (mine, theirs) in differing(own, offered).items():
        rule = rules.get(key)
        if rule is None:
            refused.append(key)
            details.append(f"{key}: offered {as_text(theirs)}, here {as_text(mine)}")
        elif not _allows(rule, effective[key]):
            refused.append(f"{key} (beyond what it accepts)")
            details.append(f"{key}: offered {as_text(effective[key])}, accepted {in_words(rule)}")
    if refused:
        raise MismatchError(
            f"this party's job file differs from the coordinator's in: {', '.join(refused)}",
            detail="; ".join(details),
            remedy="give every party the same job.toml and restart it, or let its [accept] allow the keys",
        )


def _allows(rule: Rule, value: Any) -> bool:
    if rule is True:
        return True
    if isinstance(rule, Range):
        return _is_number(value) and (rule.min is None or value >= rule.min) and (rule.max is None or value <= rule.max)
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in rule)


def in_words(rule: Rule) -> str:
    """A rule for a person to read."""
    if rule is True:
        return "any value"
    if isinstance(rule, Range):
        ends = [f"at least {rule.min:g}"] if rule.min is not None else []
        ends += [f"at most {rule.max:g}"] if rule.max is not None else []
        return ", ".join(ends)
    return " or ".join(map(as_text, rule))


def as_text(value: object) -> str:
    """A value of a job as JSON, in one line of bounded length."""
    return canonical(value).decode()[:_MOST_CHARACTERS]
