"""What coordinator and parties need of a transport. gRPC implements it, and memory does within one process."""

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
    """What a party does when the coordinator asks. Every call may come twice and must then give the same answer.

    A call is cancelled when the coordinator's deadline passes or its connection is lost.
    """

    async def prepare(self, call: m.Prepare) -> m.Prepared:
        """Get ready for a run."""

    async def restore(self, call: m.Restore) -> m.Restored:
        """Take a checkpoint, to resume from it."""

    async def align(self, call: m.Align) -> m.Aligned:
        """Exchange keys, check the ids, build the models."""

    async def begin(self, call: m.Begin) -> m.Begun:
        """Agree on initial weights."""

    async def run_phase(self, call: m.PhaseCall) -> m.PhaseReport:
        """Do one phase of one step."""

    async def score(self, call: m.Score) -> m.Scored:
        """Compute metrics."""

    async def checkpoint(self, call: m.Checkpoint) -> m.Checkpointed:
        """Write down the state."""

    async def commit(self, call: m.Commit) -> m.Committed:
        """All parties have written theirs."""

    async def heartbeat(self, call: m.Heartbeat) -> m.Alive:
        """Say immediately what the party is doing."""

    async def abort(self, call: m.Abort) -> None:
        """Stop the run."""

    async def finish(self, call: m.Finish) -> m.Finished:
        """Save the party's part of the model."""

    async def release(self, call: m.Release) -> m.Released:
        """The run is over."""


class ControlChannel(Protocol):
    """The coordinator's calls to one party, see ``ControlHandler``.

    Every method raises RemoteError (the party's own error) or PeerUnreachable (it went away); those with a ``timeout``
    raise DeadlineExceeded after so many seconds. The others wait for as long as the call takes: whether the party makes
    progress is asked by heartbeats.
    """

    async def wait_ready(self, timeout: float) -> None:  # noqa: ASYNC109  # part of the error
        """Wait at most ``timeout`` seconds until the party answers; raises PeerUnreachable if it does not."""

    async def prepare(self, call: m.Prepare) -> m.Prepared:
        """Get ready for a run."""

    async def restore(self, call: m.Restore) -> m.Restored:
        """Take a checkpoint, to resume from it."""

    async def align(self, call: m.Align, timeout: float) -> m.Aligned:  # noqa: ASYNC109
        """Find the common ids, exchange keys, build the models; or only count the common ids."""

    async def begin(self, call: m.Begin) -> m.Begun:
        """Agree on initial weights."""

    async def run_phase(self, call: m.PhaseCall) -> m.PhaseReport:
        """Do one phase of one step."""

    async def score(self, call: m.Score) -> m.Scored:
        """Compute metrics."""

    async def checkpoint(self, call: m.Checkpoint) -> m.Checkpointed:
        """Write down the state after a step."""

    async def commit(self, call: m.Commit) -> m.Committed:
        """All parties have written their checkpoint."""

    async def heartbeat(self, call: m.Heartbeat, timeout: float) -> m.Alive:  # noqa: ASYNC109
        """Is it there, and does it make progress? Not recorded, as it has no content and no end."""

    async def abort(self, call: m.Abort, timeout: float) -> None:  # noqa: ASYNC109
        """Stop the run; said even where it cannot be recorded."""

    async def finish(self, call: m.Finish) -> m.Finished:
        """Save the party's part of the model."""

    async def release(self, call: m.Release, timeout: float) -> m.Released:  # noqa: ASYNC109
        """The run is over."""


class PeerChannel(Protocol):
    """Delivers messages to one party. A delivery is tried once; to repeat it is the coordinator's decision."""

    async def wait_ready(self, timeout: float) -> None:  # noqa: ASYNC109  # part of the error
        """Wait at most ``timeout`` seconds until the party answers; raises PeerUnreachable if it does not."""

    async def deliver(self, address: Address, message: Message, timeout: float) -> None:  # noqa: ASYNC109
        """Send a message; returns when the party has stored it.

        Raises:
            ProtocolError: the message is larger than the limit.
            RemoteError: the party refused it.
            PeerUnreachable: the party went away.
            DeadlineExceeded: it took longer than ``timeout`` seconds.
        """


@dataclass(frozen=True)
class PartyEnd:
    """What a party puts at its end of a network.

    Attributes:
        handler: does what the coordinator asks.
        inbox: gets the messages of the other parties.
        traffic: counts what is sent and received.
        recorder: is given a record of every message.
        doctor: answers members that ask how this party is.
    """

    name: str
    handler: ControlHandler
    inbox: Inbox
    traffic: TrafficMeter
    recorder: Recorder | None
    doctor: DoctorHandler | None = None


class Network(Protocol):
    """Connects the members of one federation. What is opened on a stack is closed with it."""

    @property
    def credentials(self) -> Credentials | None:
        """What this member signs with; None where nothing is signed."""

    async def peer(
        self, stack: AsyncExitStack, caller: str, peer: str, traffic: TrafficMeter, recorder: Recorder | None
    ) -> PeerChannel:
        """A connection of one party to another."""

    async def control(self, stack: AsyncExitStack, party: str, recorder: Recorder | None) -> ControlChannel:
        """The coordinator's connection to a party."""

    async def serve(self, stack: AsyncExitStack, end: PartyEnd) -> None:
        """Answer for a party until the stack is closed.

        Raises:
            ListenError: its port cannot be opened.
        """
