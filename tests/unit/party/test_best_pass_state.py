"""The active party states what it goes back to; a passive party goes back to nothing else."""

from types import SimpleNamespace

import pytest
import torch

from vfl.checkpoints.store import Snapshot
from vfl.errors import MismatchError
from vfl.ids import Role
from vfl.interact.layer import LINEAGE
from vfl.job.config import JobConfig
from vfl.party.roles.best_pass import BestPass

ACTIVE, PASSIVE = "bank", "clinic"
JOB = {"name": "job", "seed": 1, "task": {"kind": "binary"}}


def best_pass(role: Role, session: bytes = b"session") -> BestPass:
    parties = {Role.ACTIVE: SimpleNamespace(name=ACTIVE, role=Role.ACTIVE)}
    parties[Role.PASSIVE] = SimpleNamespace(name=PASSIVE, role=Role.PASSIVE)
    setup = SimpleNamespace(
        job=JobConfig.model_validate(JOB),
        name=parties[role].name,
        entry=parties[role],
        federation=SimpleNamespace(active=parties[Role.ACTIVE], passives=(parties[Role.PASSIVE],)),
    )
    dataset = SimpleNamespace(plan=SimpleNamespace(counted=lambda epoch: epoch))
    return BestPass(SimpleNamespace(setup=setup, trains=True, keys=SimpleNamespace(session=session), dataset=dataset))


def snapshot(lineage: int = 3, weight: float = 0.0) -> Snapshot:
    head = torch.full((32,), lineage, dtype=torch.int64)
    tensors = {f"interaction.{LINEAGE}": head, "bottom.model.w": torch.full((2,), weight), "rows": torch.zeros(4)}
    return Snapshot(9, tensors, {"table": "digest"})


def gone_back(active: BestPass, passive: BestPass) -> Snapshot:
    """What the passive party goes back to, if it agrees."""
    sent = next(active.go_back())
    exchange = passive.go_back()
    next(exchange)
    with pytest.raises(StopIteration) as done:
        exchange.send(sent.message)
    return done.value.value


def marked(role: Role, epoch: int = 1, session: bytes = b"session", lineage: int = 3) -> BestPass:
    best = best_pass(role, session)
    best.mark(epoch, snapshot(lineage))
    return best


def test_a_copy_of_what_training_changes_is_kept():
    before = snapshot(weight=1.0)
    best = best_pass(Role.PASSIVE)
    best.mark(1, before)
    before.tensors["bottom.model.w"].fill_(2.0)
    kept = gone_back(marked(Role.ACTIVE), best)
    assert kept.tensors.keys() == {f"interaction.{LINEAGE}", "bottom.model.w"}
    assert kept.tensors["bottom.model.w"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("other", [{"epoch": 0}, {"session": b"another attempt"}, {"lineage": 4}])
def test_another_pass_attempt_or_lineage_is_refused(other):
    """In another attempt, shares of the same pass are others."""
    with pytest.raises(MismatchError, match="bank would go back to another pass than clinic"):
        gone_back(marked(Role.ACTIVE, **other), marked(Role.PASSIVE))


def test_a_checkpoint_has_all_of_it_until_the_parties_went_back():
    best = best_pass(Role.PASSIVE)
    assert best.state() == {}
    best.mark(1, snapshot(weight=1.0))
    best.so_far.score = 0.75
    resumed = best_pass(Role.PASSIVE, b"a later attempt")
    resumed.load_state(best.state())
    assert (resumed.so_far.epoch, resumed.so_far.score, resumed.so_far.unmarked) == (1, 0.75, False)
    kept = gone_back(marked(Role.ACTIVE), resumed)
    assert kept.tensors["bottom.model.w"].tolist() == [1.0, 1.0]
    again = best_pass(Role.PASSIVE)
    again.load_state(resumed.state())
    assert again.so_far.epoch == 1
    assert not any(name.startswith("best_pass.part") for name in again.state())
