"""Alignment: that all parties hold the same ids, and the order of rows that they all derive."""

from vfl.align.digest import check_same_ids, id_set_digest
from vfl.align.order import canonical_order

__all__ = ["canonical_order", "check_same_ids", "id_set_digest"]
