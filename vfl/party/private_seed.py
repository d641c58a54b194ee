"""The party's private training seed: reproducible for the party, unpredictable for its peers."""

from __future__ import annotations

import secrets
from pathlib import Path

from vfl.errors import ConfigError
from vfl.pki.keyfiles import read_private
from vfl.runtime.durable_files import make_directories, replace_file

SEED_BYTES = 32


def load_private_seed(path: Path) -> bytes:
    """The party's private training seed, created on first use (mode 0600).

    Peers know the job's seed. Initial weights and rounding derive from both seeds: peers cannot predict them, yet
    the same job at the same parties reproduces the same weights (ADR 0006).

    Raises:
        ConfigError: the file exists but contains no valid seed, others may read it, or it cannot be written.
    """
    try:
        if not path.exists():
            make_directories(path.absolute().parent)
            # Durably and as a whole: this party's checkpoints are usable only with this seed.
            replace_file(path, f"{secrets.token_hex(SEED_BYTES)}\n".encode("ascii"))
        seed = bytes.fromhex(read_private(path, "the private seed file").decode("ascii"))
    except (OSError, ValueError) as error:
        raise _unusable(f"{path}: {error}") from error
    if len(seed) != SEED_BYTES:
        raise _unusable(f"{path}: {len(seed)} bytes, expected {SEED_BYTES} as hexadecimal digits")
    return seed


def _unusable(detail: str) -> ConfigError:
    return ConfigError(
        "the private seed file cannot be used",
        detail=detail,
        remedy="make the file readable and writable, or restore it; if it is lost, remove it so that a new one "
        "is created, with which existing runs cannot be resumed",
    )
