"""Noise on Z in joint training: in proportion to Z in every pass, although bottoms and weights change."""

import numpy as np
import pytest
from support.federations.federation import Federation
from support.federations.in_process import run_federation

from vfl.ids import Split
from vfl.party.roles.passive import PassiveParty

CLINIC = "clinic"
RATIO = 0.5
PASSES = 4


class Watched:
    """What a passive party would have released of each training batch, and what it did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.exact: list[np.ndarray] = []
        self.noise: list[np.ndarray] = []
        self.factors: list[np.ndarray] = []
        forward, with_noise = PassiveParty._quantized_alpha, PassiveParty._with_noise

        def begins(party, key, batch):
            alpha = forward(party, key, batch)
            self._training = batch.split is Split.TRAIN
            if self._training:
                self.factors.append(party._noise.factor_DD)
            return alpha

        def adds(party, alpha, labels):
            noisy = with_noise(party, alpha, labels)
            if self._training:
                self.exact.append(alpha)
                self.noise.append(noisy - alpha)
            return noisy

        monkeypatch.setattr(PassiveParty, "_quantized_alpha", begins)
        monkeypatch.setattr(PassiveParty, "_with_noise", adds)


@pytest.mark.parametrize("trains", [True, False])
async def test_noise_has_the_stated_ratio_to_every_combination_of_outputs_in_every_pass(tmp_path, monkeypatch, trains):
    federation = Federation(tmp_path, rows=1200)
    optimizer = {"name": "adam", "learning_rate": 0.05}
    federation.job["training"] |= {"method": "joint", "passes": PASSES, "batch_size": 128, "optimizer": optimizer}
    federation.job["privacy"] = {"relative_noise": RATIO}
    federation.job["model"]["trainable"] = [CLINIC] if trains else []
    if not trains:
        del federation.parties[CLINIC]["bottom"], federation.job["model"]["widths"]
    watched = Watched(monkeypatch)
    run = await run_federation(federation.write())
    assert set(run.errors.values()) == {None}, run.errors
    same = [np.array_equal(watched.factors[0], factor) for factor in watched.factors[1:]]
    assert len(same) > 4 * PASSES
    assert set(same) == {not trains}, "fitted again where outputs change"
    # What a frozen bottom's noise is fitted to is all rows, of which a batch is a sample.
    exactly, noisy = (kept if trains else [np.concatenate(kept)] for kept in (watched.exact, watched.noise))
    for exact, noise in zip(exactly, noisy, strict=True):
        for weights in np.random.default_rng(1).normal(size=(20, exact.shape[1])):
            expected = RATIO * (exact @ weights).std()
            assert (noise @ weights).std() == pytest.approx(expected, rel=0.35)


async def test_rows_that_are_scored_alone_have_the_noise_of_all(tmp_path, monkeypatch):
    """The covariance of a single row would be none."""
    federation = Federation(tmp_path, rows=161)
    federation.job["split"] = {"validation": 0.0, "test": 0.25}
    federation.job["training"]["evaluation_batch_size"] = 39
    federation.job["privacy"] = {"relative_noise": RATIO}
    scored = []
    with_noise = PassiveParty._with_noise

    def adds(party, alpha, labels):
        noisy = with_noise(party, alpha, labels)
        scored.append(noisy - alpha)
        return noisy

    monkeypatch.setattr(PassiveParty, "_with_noise", adds)
    run = await run_federation(federation.write())
    assert set(run.errors.values()) == {None}, run.errors
    assert len(scored[-1]) == 1
    assert np.abs(scored[-1]).max() > 2, "in units of 2^-10"
