"""What keeps a party's ids from matching is said with its remedy, and without an id."""

import polars as pl
import pytest

from vfl.party.roles.rows.id_forms import oddities


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        (["100295.0", "7.", "12"], "2 end in a decimal point or zeros after it"),
        (["007", "08", "12", "0"], '2 begin with a zero, which other tools drop: ids.type = "integer"'),
        (["1.5E12", "2E+05", "7"], "2 are in scientific notation"),
        (["a b", "c"], '1 have white space inside: ids.white_space = "remove"'),
        (["'1'", '"2"'], "2 are in quotation marks"),
        (["1,000,000", "12"], "1 have separators between thousands"),
        (["Ab", "cd", "CD"], '2 have capital letters where others have small ones: ids.case = "lower"'),
    ],
)
def test_each_form_is_counted_and_has_its_remedy(ids, says):
    found = oddities(pl.Series(ids))
    assert len(found) == 1
    assert found[0].startswith(says)
    assert all(one not in found[0].partition(" ")[2] for one in ids if len(one) > 2)


@pytest.mark.parametrize("ids", [["c0001", "c0002"], ["1", "20"], ["AB", "CD"], []])
def test_plain_ids_are_nothing_to_mention(ids):
    assert oddities(pl.Series(ids, dtype=pl.String)) == []
