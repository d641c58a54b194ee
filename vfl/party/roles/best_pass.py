"""A party's part of the model as of the best joint pass so far, and how all parties go back to it together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from vfl.checkpoints.store import Snapshot
from vfl.errors import MismatchError
from vfl.ids import Role, StepKey
from vfl.interact.layer import ActiveInteraction, PassiveInteraction
from vfl.job.best_epoch import BestSoFar
from vfl.messages import BestPassState
from vfl.messages.exchange import Exchange, Send, receive
from vfl.party.learning import snapshots
from vfl.party.learning.bottom import prefixed, under
from vfl.party.roles.common import PartyContext
from vfl.privacy.lineage import digest
from vfl.runtime.logs import get_logger

_BEST = "best_pass"
_PART, _NUMBERS, _SESSION = "part", "numbers", "session"

_log = get_logger("vfl.party")


class BestPass:
    """What one party keeps of the best pass so far.

    Shares of the interaction weights of different passes, or of one pass in different attempts, add up to weights whose
    difference from the true ones the active party knows: Z would then give away the activations. So nobody goes back
    before the active party has told what it goes back to, and a passive party only to the same.

    Attributes:
        so_far: which pass it is.
    """

    def __init__(self, context: PartyContext) -> None:
        job = context.setup.job
        self._context = context
        self._kept: Snapshot | None = None
        self._session = b""
        self.so_far = BestSoFar(job.task.primary_metric, job.training.patience)

    def mark(self, epoch: int, snapshot: Snapshot) -> None:
        """Keep what training changes as it is in this snapshot, in place of that of an earlier pass."""
        context = self._context
        self._kept = Snapshot(epoch, snapshots.trained_part(snapshot, bottom=context.trains), {})
        self._session = context.keys.session
        self.so_far.mark(epoch)
        _log.info("the best pass so far", epoch=context.dataset.plan.counted(epoch) + 1)

    def go_back(self) -> Exchange[Snapshot]:
        """Agree with the others on the pass; return this party's part of the model as it was then.

        The weights are those of the pass, and so is the lineage: what is released by them has the noise that it would
        have had then, and what was released then is released no second time.

        Raises:
            MismatchError: the active party would go back to another state.
        """
        setup, kept = self._context.setup, self._kept
        if kept is None:
            raise RuntimeError("no pass was marked")
        active, passives = setup.federation.active.name, tuple(party.name for party in setup.federation.passives)
        epoch, lineage = self.so_far.epoch, snapshots.lineage_of(kept)
        own = digest("vfl best pass", str(epoch).encode(), lineage, self._session)
        if setup.entry.role is Role.ACTIVE:
            yield Send(passives, BestPassState(np.frombuffer(own, dtype=np.uint8)))
        elif (yield from receive(active, BestPassState)).digest.tobytes() != own:
            raise MismatchError(
                f"{active} would go back to another pass than {setup.name}, or to another state as of that pass",
                remedy="ask the coordinator's operator whether it marked the same passes at all parties; shares of "
                "different passes would give activations away",
            )
        self._kept = None
        _log.info("back to the best pass", epoch=kept.step + 1)
        return kept

    async def restore(self, interaction: ActiveInteraction | PassiveInteraction, key: StepKey) -> Snapshot:
        """Go back with the others; give bottom and interaction layer, whichever role has them, what they were then.

        Returns:
            What was kept of the pass, for what only one role has.

        Raises:
            MismatchError: see ``go_back``.
        """
        context = self._context
        kept = await context.mail.run(self.go_back(), key, "agreeing on the best pass")
        if context.trains:
            snapshots.load_bottom(kept, context.bottom)
        interaction.restore(snapshots.interaction_weights(kept))
        return kept

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint needs."""
        if self.so_far.epoch is None:
            return {}
        numbers = torch.tensor([self.so_far.epoch, self.so_far.score], dtype=torch.float64)
        session = torch.tensor(list(self._session), dtype=torch.uint8)
        part = {} if self._kept is None else prefixed(_PART, self._kept.tensors)
        return prefixed(_BEST, {_NUMBERS: numbers, _SESSION: session, **part})

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from a checkpoint with what ``state`` returned."""
        state = under(_BEST, tensors)
        if _NUMBERS not in state:
            return
        epoch, score = state[_NUMBERS].tolist()
        self.so_far.mark(int(epoch))
        self.so_far.score = score
        self._session = state[_SESSION].numpy().tobytes()
        if part := under(_PART, state):
            self._kept = Snapshot(int(epoch), part, {})
