"""Pairwise masks cancel over all passive parties, differ wherever anything differs, and each alone is uniform."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.attacks.uniformity import looks_uniform

from vfl.errors import ProtocolError
from vfl.ids import StepKey
from vfl.privacy.agreement import AgreementKey
from vfl.privacy.pairwise_masks import PairwiseMasks

TAU = 58
KEY = StepKey("job", 7, 0)


def _federation(names: list[str], tau: int = TAU) -> dict[str, PairwiseMasks]:
    keys = {name: AgreementKey() for name in names}
    return {
        name: PairwiseMasks(
            name,
            {peer: keys[name].agree(keys[peer].public_bytes, name, peer) for peer in names if peer != name},
            tau,
        )
        for name in names
    }


@settings(max_examples=20, deadline=None)
@given(
    names=st.lists(st.text("abcXYZ-é0", min_size=1, max_size=5), min_size=2, max_size=8, unique=True),
    rows=st.integers(1, 40),
    width=st.integers(1, 9),
    tau=st.sampled_from([16, 40, 58]),
)
def test_masks_cancel_over_all_parties_but_not_over_fewer(names, rows, width, tau):
    masks = {n: m.total(KEY, "z", (rows, width)) for n, m in _federation(names, tau).items()}
    assert all(m.min() >= 0 and m.max() < 1 << tau for m in masks.values())
    assert ((sum(masks.values()) & ((1 << tau) - 1)) == 0).all()
    if tau == TAU:
        for left_out in names:
            partial = sum(m for n, m in masks.items() if n != left_out)
            assert ((partial & ((1 << tau) - 1)) != 0).any()


def test_a_single_passive_party_has_no_mask():
    masks = PairwiseMasks("bank", {}, TAU).total(KEY, "z", (4, 2))
    assert masks.shape == (4, 2)
    assert not masks.any()


def test_masks_differ_for_every_job_step_attempt_and_message():
    masks = _federation(["bank", "telco"])["bank"]
    uses = [
        (KEY, "z"),
        (replace(KEY, run="job2"), "z"),
        (replace(KEY, step=8), "z"),
        (replace(KEY, attempt=1), "z"),
        (StepKey("job", 0, 7), "z"),
        (KEY, "d_alpha"),
    ]
    totals = [masks.total(key, message, (64, 64)) for key, message in uses]
    for left, right in combinations(totals, 2):
        assert (left == right).mean() < 0.01
        assert looks_uniform(left - right, 1 << TAU)


def test_the_same_use_gives_the_same_mask_at_both_ends():
    federation = _federation(["bank", "telco"])
    bank, telco = (federation[n].total(KEY, "z", (5, 5)) for n in ("bank", "telco"))
    with pytest.raises(ProtocolError, match="without a new attempt"):
        federation["bank"].total(KEY, "z", (5, 5))
    np.testing.assert_array_equal((bank + telco) % (1 << TAU), np.zeros((5, 5), dtype=np.int64))


@pytest.mark.parametrize("parties", [2, 5])
def test_one_partys_masked_value_is_uniform(parties):
    names = [f"p{i}" for i in range(parties)]
    federation = _federation(names)
    value = np.arange(64 * 64).reshape(64, 64)
    assert not looks_uniform(value, 1 << TAU)
    for name in names:
        assert looks_uniform(value + federation[name].total(KEY, "z", (64, 64)), 1 << TAU)


def test_colluders_do_not_unmask_two_honest_parties():
    """All but two parties pool their secrets: the mask between the two honest ones still hides each value."""
    names = ["a", "b", "c", "d"]
    keys = {n: AgreementKey() for n in names}
    secrets = {n: {m: keys[n].agree(keys[m].public_bytes, n, m) for m in names if m != n} for n in names}
    whole = PairwiseMasks("a", secrets["a"], TAU).total(KEY, "z", (64, 64))
    known = PairwiseMasks("a", {n: secrets[n]["a"] for n in ("c", "d")}, TAU).total(KEY, "z", (64, 64))
    assert looks_uniform(whole - known, 1 << TAU)
    alone = PairwiseMasks("a", {"b": secrets["b"]["a"]}, TAU).total(KEY, "z", (64, 64))
    np.testing.assert_array_equal((whole - known - alone) % (1 << TAU), np.zeros((64, 64), dtype=np.int64))
