"""What a job takes at a party, before it starts."""

from __future__ import annotations

from vfl.he.layout import plan_backward, plan_product
from vfl.ids import Role
from vfl.party.config import PartySetup
from vfl.transport.wire.limits import MEBIBYTE

_LIBRARIES = {Role.ACTIVE: 600 * 10**6, Role.PASSIVE: 500 * 10**6}
"""Of a process that trains the smallest job: the interpreter, torch and the other libraries."""
_COPIES_OF_CIPHERTEXTS = 1.2
_COPIES_OF_TABLE = 4
"""Read, selected, preprocessed, and once while one is made of the other."""


def estimated_peak(setup: PartySetup, table_bytes: int) -> int:
    """Bytes that the process takes at most, within a quarter; fitted to measured peaks of 256 to 8,192 rows a batch.

    Args:
        table_bytes: what the whole table takes in memory.
    """
    role = Role(setup.entry.role)
    total = _LIBRARIES[role] + _COPIES_OF_TABLE * table_bytes
    if setup.job.interaction.protocol != "encrypted":
        return total
    ciphertexts = _ciphertexts(setup, role)
    each = 2 * 8 * len(setup.parameters.primes) * setup.parameters.degree
    return total + setup.config.pool_memory_mb * MEBIBYTE + int(_COPIES_OF_CIPHERTEXTS * ciphertexts * each)


def _ciphertexts(setup: PartySetup, role: Role) -> int:
    """Of one step: activations and products of every passive party at the active one, its own at a passive one."""
    model, rows = setup.job.model, setup.job.training.largest_batch
    degree, link, out = setup.parameters.degree, setup.job.interaction.link_mbit, model.interaction_width
    widths = tuple(model.widths[party.name] for party in setup.federation.passives)
    own = widths if role is Role.ACTIVE else (setup.width,)
    forward = [plan_product(rows, width, out, degree, link) for width in own]
    backward = plan_backward(rows, out, widths, widths, degree, link)
    gradient = backward.blocks.ciphertexts + (backward.rows.ciphertexts if backward.rows else 0)
    return gradient + sum(layout.source.ciphertexts + layout.product.ciphertexts for layout in forward)
