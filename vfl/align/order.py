"""The order of rows that all parties derive from their common ids, each for itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def canonical_order(ids: list[str]) -> npt.NDArray[np.int64]:
    """Positions of a party's rows in the order of their ids.

    Ids are compared as UTF-8 bytes: no locale and no meaning of digits, so parties with the same set of ids, however
    their tables are sorted, get their rows in the same order.

    Args:
        ids: n different ids.

    Returns:
        (n,) positions in the party's own table.
    """
    encoded = [identity.encode() for identity in ids]
    return np.array(sorted(range(len(ids)), key=encoded.__getitem__), dtype=np.int64)
