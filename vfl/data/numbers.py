"""Numbers as people write them in tables: with thousands separators, a decimal comma, a percent sign, a currency.

A column's way of writing is found once, over all of its values, and kept with the model, so that the rows of a later
table are read the same way. A unit only removes text: 55.3% is 55.3.
"""

from __future__ import annotations

from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict

MISSING_NUMBERS = ("na", "n/a", "nan", "null", "none")
"""Treated as missing where a number is expected; ordinary categories in a categorical column ("NA": Namibia)."""

_SYMBOLS = "%‰$€£¥₹₽₩₺₫₴"
_CURRENCIES = (
    "EUR|USD|GBP|CHF|JPY|CNY|RMB|INR|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|RON|BGN|TRY|RUB|UAH|ILS|AED|SAR|ZAR|BRL|MXN|KRW"
    "|TWD|HKD|SGD|THB|IDR|MYR|PHP|VND"
)
_UNIT = rf"[{_SYMBOLS}]|(?:{_CURRENCIES})"
Decimal = Literal[".", ","]


class NumberStyle(BaseModel):
    """How the numbers of a text column are written, if not as in a program.

    Attributes:
        decimal: the mark before the fraction. The other mark, spaces and apostrophes may separate thousands.
        unit: what stands before or after every number; empty if nothing does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    decimal: Decimal = "."
    unit: str = ""

    def parse(self, text: pl.Series) -> pl.Series:
        """(n,) numbers, null where a text is none or is missing."""
        parts = _parts(without_missing(text), self.decimal)
        whole = parts.struct.field("number").str.replace_all(rf"[ \u00a0\u202f'’{_other(self.decimal)}]", "")
        numbers = (parts.struct.field("sign").fill_null("") + whole.str.replace(",", ".", literal=True)).cast(
            pl.Float64, strict=False
        )
        return numbers.set(parts.struct.field("unit") != self.unit, None)

    def __str__(self) -> str:
        decimal = "decimal comma" if self.decimal == "," else ""
        unit = f"without '{self.unit}'" if self.unit else ""
        return ", ".join(part for part in (decimal, unit) if part) or "without thousands separators"


def parse_plain(text: pl.Series) -> pl.Series:
    """(n,) numbers as every programming language writes them (1234.5, -1e3), null where a text is none or missing."""
    return without_missing(text).cast(pl.Float64, strict=False)


def without_missing(text: pl.Series) -> pl.Series:
    """The same texts, null where they stand for a missing number."""
    return text.set(text.str.to_lowercase().is_in(MISSING_NUMBERS), None)


def styles_of(text: pl.Series) -> list[NumberStyle]:
    """The ways of writing under which every text that is not missing is a number: none, one, or two that differ in what
    a mark means."""
    present = without_missing(text).drop_nulls()
    if present.is_empty():
        return []
    found = []
    for decimal in (".", ","):
        parts = _parts(present, decimal)
        units = parts.struct.field("unit").unique()
        if parts.struct.field("number").is_null().any() or units.len() != 1:
            continue
        found.append(NumberStyle(decimal=decimal, unit=units.item()))
    # Without any mark, both read the same.
    same = len(found) == 2 and found[0].parse(present).equals(found[1].parse(present))
    return found[:1] if same else found


def _parts(text: pl.Series, decimal: Decimal) -> pl.Series:
    """Sign, number and unit of each text, null in all if it is none."""
    other = _other(decimal)
    # Thousands never begin with a zero: 0,226 has a decimal comma.
    number = rf"(?:[1-9][0-9]{{0,2}}(?:[{other} \u00a0\u202f'’][0-9]{{3}})+|[0-9]+)(?:[{decimal}][0-9]+)?"
    before, after = rf"(?P<before>{_UNIT})?[ \u00a0]?", rf"[ \u00a0]?(?P<after>{_UNIT})?"
    pattern = rf"^(?P<sign>[+-])?{before}(?P<inner>[+-])?(?P<number>{number}){after}$"
    parts = text.str.extract_groups(pattern)
    leading, trailing = parts.struct.field("before").fill_null(""), parts.struct.field("after").fill_null("")
    signs = parts.struct.field("sign").fill_null("") + parts.struct.field("inner").fill_null("")
    doubtful = ((leading != "") & (trailing != "")) | (signs.str.len_chars() > 1)
    number_of = parts.struct.field("number").set(doubtful, None)
    return pl.DataFrame({"sign": signs, "number": number_of, "unit": leading + trailing}).to_struct("parts")


def _other(decimal: Decimal) -> str:
    return "," if decimal == "." else "."
