"""A small federation that trains stagewise: frozen encodings at the passive parties, one column of Z for each pass."""

from __future__ import annotations

from pathlib import Path

from support.federations.federation import ACTIVE, Federation


def stagewise_federation(folder: Path, passive: tuple[str, ...] = ("clinic",), *, encrypted: bool = True) -> Federation:
    """Two stages and three local epochs, with batches of up to 64 rows; not written yet."""
    federation = Federation(folder, passive, rows=200)
    federation.job["model"] = {"widths": {ACTIVE: 4}, "top": {"hidden": [8]}}
    federation.job["training"] = {"passes": 2, "local_epochs": 3, "batch_size": 32, "evaluation_batch_size": 64}
    federation.job["interaction"] = {"protocol": "encrypted" if encrypted else "plaintext"}
    federation.parties[ACTIVE]["policy"] = {}
    federation.parties[ACTIVE]["train_alone"] = False  # which is no part of what is tested with it
    for name, party in federation.parties.items():
        if name in passive:
            del party["bottom"]
        if not encrypted:
            party["policy"]["allow_unencrypted"] = True
    return federation
