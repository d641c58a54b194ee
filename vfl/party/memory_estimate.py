"""Estimates how much memory a job needs at a party, before it starts."""

from __future__ import annotations

from collections.abc import Mapping

from vfl.he.layout import plan_backward, plan_product
from vfl.ids import Role
from vfl.models.config import DEFAULT_WIDTH
from vfl.party.config import PartySetup
from vfl.runtime.logs import get_logger
from vfl.transport.wire.limits import MEBIBYTE

_log = get_logger("vfl.party")

_LIBRARIES = {Role.ACTIVE: 600 * 10**6, Role.PASSIVE: 500 * 10**6}
"""Memory of a process that trains the smallest job: the interpreter, torch and the other libraries."""
_COPIES_OF_CIPHERTEXTS = 1.2
_COPIES_OF_TABLE = 4
"""As read, selected and preprocessed, plus one copy while one form is converted into another."""


def estimated_peak(setup: PartySetup, table_bytes: int, known_widths: Mapping[str, int]) -> int:
    """Peak memory of the process in bytes, accurate to 25%; fitted to peaks measured with 256 to 8,192 rows a batch.

    Args:
        table_bytes: size of the whole table in memory.
        known_widths: widths of bottoms by party; the default one is assumed of the others.
    """
    role = Role(setup.entry.role)
    total = _LIBRARIES[role] + _COPIES_OF_TABLE * table_bytes
    if setup.job.interaction.protocol != "encrypted":
        return total
    ciphertexts = _ciphertexts(setup, role, known_widths)
    each = 2 * 8 * len(setup.parameters.primes) * setup.parameters.degree
    return total + setup.config.pool_memory_mb * MEBIBYTE + int(_COPIES_OF_CIPHERTEXTS * ciphertexts * each)


def check_memory(setup: PartySetup, table_bytes: int, known_widths: Mapping[str, int]) -> None:
    """Check a job's estimated peak, which is logged, against the party's policy; for the arguments see above.

    Raises:
        PolicyRefusal: the job may need more memory than this party allows.
    """
    policy = setup.config.policy
    estimate = estimated_peak(setup, table_bytes, known_widths)
    _log.info("memory", needed_at_most_mb=estimate // 10**6, allowed_mb=policy.max_memory_mb)
    policy.check_memory(estimate)


def _ciphertexts(setup: PartySetup, role: Role, known_widths: Mapping[str, int]) -> int:
    """Ciphertexts in one step: activations and products, of all passive parties if active, else the party's own."""
    rows = setup.job.training.largest_batch
    degree, link, out = setup.parameters.degree, setup.job.interaction.link_mbit, setup.job.interaction_width
    widths = tuple(known_widths.get(party.name, DEFAULT_WIDTH) for party in setup.federation.passives)
    own = widths if role is Role.ACTIVE else (known_widths.get(setup.name, DEFAULT_WIDTH),)
    forward = [plan_product(rows, width, out, degree, link) for width in own]
    backward = plan_backward(rows, out, widths, widths, degree, link)
    gradient = backward.blocks.ciphertexts + (backward.rows.ciphertexts if backward.rows else 0)
    return gradient + sum(layout.source.ciphertexts + layout.product.ciphertexts for layout in forward)
