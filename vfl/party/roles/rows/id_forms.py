"""How a party's own ids are written, for its operator: what makes the same id look different at two parties."""

from __future__ import annotations

import polars as pl

_FORMS = (
    (r"^[+-]?\d+\.0*$", "end in a decimal point or zeros after it, as tools write numbers: export whole numbers"),
    (r"^0\d", 'begin with a zero, which other tools drop: ids.type = "integer" ignores it'),
    (r"^[+-]?\d(\.\d+)?[eE]\+?\d+$", "are in scientific notation, which loses digits: export them as text"),
    (r"\s", 'have white space inside: ids.white_space = "remove" ignores it'),
    (r"^[\"'].*[\"']$", "are in quotation marks: export them without"),
    (r"^\d+([,'_]\d{3})+$", "have separators between thousands: export them without"),
)
_WITH_CASE = (r"\p{Lu}", r"\p{Ll}")


def oddities(ids: pl.Series) -> list[str]:
    """What may keep ids from matching, each with how many there are and what to do; no id is in it.

    Args:
        ids: as text, normalized by the rules of the job.
    """
    found = [(int(ids.str.contains(pattern).sum()), what) for pattern, what in _FORMS]
    if all(ids.str.contains(pattern).any() for pattern in _WITH_CASE):
        capital = int(ids.str.contains(_WITH_CASE[0]).sum())
        found.append((capital, 'have capital letters where others have small ones: ids.case = "lower" ignores it'))
    return [f"{count} {what}" for count, what in found if count]
