"""A coordinator that has parties go back to different passes: shares of these give activations away (ADR 0045)."""

import numpy as np
import pytest
from support import virtual_time
from support.faults.recovering import small_federation
from support.federations.federation import ACTIVE
from support.federations.in_process import run_federation

from vfl import messages as m
from vfl.coordinator import training
from vfl.ids import Phase
from vfl.interact.encrypted_active import EncryptedActive
from vfl.interact.encrypted_passive import EncryptedPassive
from vfl.interact.fixed_point import center
from vfl.job.best_epoch import BestSoFar
from vfl.party.config import load_party
from vfl.party.roles import best_pass
from vfl.party.roles.active import ActiveParty

CLINIC = "clinic"
COLUMNS = 8
"""Of Z: as many equations for the one activation of each row."""


class Seen:
    """What an active party that looks at Z sees last, its own shares of both passes, and the true activations."""

    def __init__(self, monkeypatch):
        self.z_BK = self.alpha_BD = np.empty(0)
        self.shares = []
        forward, contribute, mark = EncryptedActive.forward, EncryptedPassive.forward, ActiveParty._mark_best

        def looked_at(interaction, key, rows, columns):
            self.z_BK = yield from forward(interaction, key, rows, columns)
            return self.z_BK

        def contributed(interaction, key, alpha_q_BD, labels, columns):
            self.alpha_BD = alpha_q_BD
            return contribute(interaction, key, alpha_q_BD, labels, columns)

        async def marked(party, key, batch):
            self.shares.append(party._interaction.shares()[CLINIC][0])
            await mark(party, key, batch)

        monkeypatch.setattr(EncryptedActive, "forward", looked_at)
        monkeypatch.setattr(EncryptedPassive, "forward", contributed)
        monkeypatch.setattr(ActiveParty, "_mark_best", marked)


@pytest.fixture
def mixed(tmp_path, monkeypatch):
    """A job with one column at clinic, frozen, whose second pass is the best, which clinic is not told."""
    federation = small_federation(tmp_path, epochs=2)
    federation.job["model"] |= {"trainable": [], "interaction_width": COLUMNS, "widths": {ACTIVE: 4, CLINIC: 1}}
    federation.job["training"]["method"] = "joint"
    federation.tables[CLINIC] = federation.tables[CLINIC].select("id", "clinic_x0")
    federation.parties[CLINIC]["bottom"] = {"kind": "identity"}
    run_phase, consider = training._run_phase, BestSoFar.consider

    async def dishonest(call, client):
        if client._party == CLINIC and call.phase is Phase.MARK_BEST and call.batch.epoch == 1:
            return m.PhaseReport(0.0, 0, 0)
        if client._party == CLINIC and call.phase is Phase.RESTORE_BEST:
            call = training.replace(call, batch=training.replace(call.batch, epoch=0))
        return await run_phase(call, client)

    monkeypatch.setattr(training, "_run_phase", dishonest)
    monkeypatch.setattr(BestSoFar, "consider", lambda best, epoch, _: consider(best, epoch, {"auc": float(epoch)}))
    return federation.write()


def test_shares_of_different_passes_never_meet(mixed):
    run = virtual_time.run(run_federation(mixed))
    assert "would go back to another pass" in run.errors[CLINIC].summary
    *_, last = (address.key.step for address, to, message in run.sent if isinstance(message, m.ForwardShare))
    (agreed,) = (address.key.step for address, _, message in run.sent if isinstance(message, m.BestPassState))
    assert last < agreed


def test_without_the_check_the_active_party_would_know_every_activation(mixed, monkeypatch):
    seen = Seen(monkeypatch)
    monkeypatch.setattr(best_pass, "digest", lambda *parts: bytes(32))
    run = virtual_time.run(run_federation(mixed))
    assert run.errors[ACTIVE].code == "range", "Z is far out of range, and known by then"
    parameters = load_party(mixed.path(ACTIVE)).parameters
    bound = 2**parameters.settings.activation_bits
    candidates = np.arange(-bound, bound + 1)
    first, second = seen.shares
    rest_BCK = center(seen.z_BK[:, None, :] - candidates[:, None] * (second - first), parameters.tau)
    found_B = candidates[np.abs(rest_BCK).max(axis=2).argmin(axis=1)]
    np.testing.assert_array_equal(found_B, seen.alpha_BD[:, 0])
