"""What coordinator and parties need from a transport. Implemented over gRPC, and in memory within one process."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

from vfl import messages as m
from vfl.ids import Address
from vfl.messages import Message
from vfl.pki.credentials import Credentials
from vfl.transport.diagnosis.call import DoctorHandler
from vfl.transport.inbox import Inbox
from vfl.transport.wire.recorder import Recorder
from vfl.transport.wire.traffic import TrafficMeter


class ControlHandler(Protocol):
    """What a party does when the coordinator calls. Every call may arrive twice and must then give the same answer.

    A call is canceled when the coordinator's deadline passes or its connection is lost.
    """

    async def offer(self, call: m.Offer) -> m.Offered:
        """Serve the coordinator's job in place of the one in the party's file, if the party accepts the differences."""

    async def prepare(self, call: m.Prepare) -> m.Prepared:
        """Get ready for a run."""

    async def restore(self, call: m.Restore) -> m.Restored:
        """Load a checkpoint, to resume from it."""

    async def align(self, call: m.Align) -> m.Aligned:
        """Exchange keys, check the ids, build the models."""

    async def begin(self, call: m.Begin) -> m.Begun:
        """Agree on initial weights."""

    async def run_phase(self, call: m.PhaseCall) -> m.PhaseReport:
        """Do one phase of one step."""

    async def score(self, call: m.Score) -> m.Scored:
        """Compute metrics."""

    async def checkpoint(self, call: m.Checkpoint) -> m.Checkpointed:
        """Save the state after a step."""

    async def commit(self, call: m.Commit) -> m.Committed:
        """Note that all parties have written their checkpoint."""

    async def heartbeat(self, call: m.Heartbeat) -> m.Alive:
        """Report immediately what the party is doing."""

    async def abort(self, call: m.Abort) -> None:
        """Stop the run."""

    async def finish(self, call: m.Finish) -> m.Finished:
        """Save the party's part of the model."""

    async def release(self, call: m.Release) -> m.Released:
        """Note that the run is over."""


class ControlChannel(Protocol):
    """The coordinator's calls to one party, see ``ControlHandler``.

    Every method raises RemoteError (the party's own error) or PeerUnreachable (it went away); those with a ``timeout``
    raise DeadlineExceeded after that many seconds. The others wait as long as the call takes, since heartbeats check
    whether the party makes progress.
    """

    async def wait_ready(self, timeout: float) -> None:  # noqa: ASYNC109  # part of the error
        """Wait at most ``timeout`` seconds until the party answers; raises PeerUnreachable if it does not."""

    async def offer(self, call: m.Offer) -> m.Offered:
        """Serve the coordinator's job in place of the one in the party's file, if the party accepts the differences."""

    async def prepare(self, call: m.Prepare) -> m.Prepared:
        """Get ready for a run."""

    async def restore(self, call: m.Restore) -> m.Restored:
        """Load a checkpoint, to resume from it."""

    async def align(self, call: m.Align, timeout: float) -> m.Aligned:  # noqa: ASYNC109
        """Find the common ids, exchange keys, build the models; or only count the common ids."""

    async def begin(self, call: m.Begin) -> m.Begun:
        """Agree on initial weights."""

    async def run_phase(self, call: m.PhaseCall) -> m.PhaseReport:
        """Do one phase of one step."""

    async def score(self, call: m.Score) -> m.Scored:
        """Compute metrics."""

    async def checkpoint(self, call: m.Checkpoint) -> m.Checkpointed:
        """Save the state after a step."""

    async def commit(self, call: m.Commit) -> m.Committed:
        """Report that all parties have written their checkpoint."""

    async def heartbeat(self, call: m.Heartbeat, timeout: float) -> m.Alive:  # noqa: ASYNC109
        """Ask whether the party is alive and makes progress. Not recorded: heartbeats have no content and no end."""

    async def abort(self, call: m.Abort, timeout: float) -> None:  # noqa: ASYNC109
        """Stop the run; sent even if it cannot be recorded."""

    async def finish(self, call: m.Finish) -> m.Finished:
        """Save the party's part of the model."""

    async def release(self, call: m.Release, timeout: float) -> m.Released:  # noqa: ASYNC109
        """Report that the run is over."""


class PeerChannel(Protocol):
    """Delivers messages to one party. A delivery is tried once; whether to repeat it is the coordinator's decision."""

    async def wait_ready(self, timeout: float) -> None:  # noqa: ASYNC109  # part of the error
        """Wait at most ``timeout`` seconds until the party answers; raises PeerUnreachable if it does not."""

    async def deliver(self, address: Address, message: Message, timeout: float) -> None:  # noqa: ASYNC109
        """Send a message; returns once the party has stored it.

        Raises:
            ProtocolError: the message is larger than the limit.
            RemoteError: the party refused it.
            PeerUnreachable: the party went away.
            DeadlineExceeded: it took longer than ``timeout`` seconds.
        """


@dataclass(frozen=True)
class PartyEnd:
    """What a party supplies at its end of a network.

    Attributes:
        handler: handles the coordinator's calls.
        inbox: receives the messages of the other parties.
        traffic: counts what is sent and received.
        recorder: receives a record of every message.
        doctor: answers members that ask for a diagnosis.
    """

    name: str
    handler: ControlHandler
    inbox: Inbox
    traffic: TrafficMeter
    recorder: Recorder | None
    doctor: DoctorHandler | None = None


class Network(Protocol):
    """Connects the members of one federation. What is opened on a stack is closed with the stack."""

    @property
    def credentials(self) -> Credentials | None:
        """What this member signs with; None if nothing is signed."""

    async def peer(
        self, stack: AsyncExitStack, caller: str, peer: str, traffic: TrafficMeter, recorder: Recorder | None
    ) -> PeerChannel:
        """A connection from one party to another."""

    async def control(self, stack: AsyncExitStack, party: str, recorder: Recorder | None) -> ControlChannel:
        """The coordinator's connection to a party."""

    async def serve(self, stack: AsyncExitStack, end: PartyEnd) -> None:
        """Answer for a party until the stack is closed.

        Raises:
            ListenError: its port cannot be opened.
        """
