from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

import vfl


@pytest.fixture
def frames() -> dict[str, pl.DataFrame]:
    """The bank's and the telco's columns about the same 240 customers, in different orders."""
    rng = np.random.default_rng(7)
    ids = [f"c{number:03d}" for number in range(240)]
    x = rng.normal(size=(240, 4))
    label = (x @ np.array([1.0, -1.0, 2.0, -1.5]) > 0).astype(int)
    bank = pl.DataFrame({"id": ids, "income": x[:, 0], "debt": x[:, 1], "default": label})
    telco = pl.DataFrame({"id": ids, "calls": x[:, 2], "plan": np.where(x[:, 3] > 0, "flat", "prepaid")})
    return {"bank": bank, "telco": telco.sample(fraction=1.0, shuffle=True, seed=1)}


@pytest.fixture
def parties(frames) -> Callable[..., tuple[vfl.Party, vfl.Party]]:
    """The telco's bottom trains unless a test says otherwise, which the bank's policy allows."""

    def make(**telco_options: object) -> tuple[vfl.Party, vfl.Party]:
        label = vfl.Table(frames["bank"], id="id", label="default")
        bank = vfl.Party("bank", label, policy={"allow_trainable": ["telco"]})
        return bank, vfl.Party("telco", vfl.Table(frames["telco"], id="id"), **{"bottom": "mlp", **telco_options})

    return make


@pytest.fixture
def job() -> vfl.Job:
    """Small: two joint passes of three steps."""
    return vfl.Job(
        "credit",
        task="binary",
        seed=3,
        widths=4,
        model={"interaction_width": 4, "top": {"hidden": [8]}},
        training={"method": "joint", "passes": 2, "batch_size": 64},
        split={"validation": 0.1, "test": 0.2},
    )
