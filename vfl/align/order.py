"""The order of rows that each party derives locally from the common ids."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl


def canonical_order(ids: pl.Series) -> npt.NDArray[np.int64]:
    """Positions of a party's rows in the order of their ids.

    Ids are compared as UTF-8 bytes: no locale and no numeric order, so parties with the same set of ids, however their
    tables are sorted, get their rows in the same order. It depends only on the common ids, which all of them know, and
    reveals nothing about the order of anybody's table.

    Args:
        ids: n distinct ids as text.

    Returns:
        (n,) positions in the party's own table.
    """
    return ids.arg_sort().to_numpy().astype(np.int64)
