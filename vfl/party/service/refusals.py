"""What a party answers to calls that do not fit the attempt it is in."""

from __future__ import annotations

from vfl.errors import PartyRestarted, PolicyRefusal, ProtocolError
from vfl.runtime.logs import get_logger

_log = get_logger("vfl.party")


def not_prepared() -> PartyRestarted:
    """A party's answer to a call for a job that it has not prepared."""
    return PartyRestarted(
        "a call arrived for a job that this party has not prepared: the party was restarted",
        remedy="if the run does not recover by itself, 'vfl run --resume' continues from the last checkpoint",
    )


def busy() -> PolicyRefusal:
    """A party's answer to a coordinator that begins a run while another is going."""
    return PolicyRefusal("this party is busy with another run", remedy="wait until that run is over, then start again")


def out_of_order(asked: str) -> PolicyRefusal:
    """A party's answer to a coordinator that does not follow the order of an attempt."""
    _log.warning("refused a call that is out of order", requested=asked)
    return PolicyRefusal(
        f"the coordinator requested {asked}",
        remedy="check that the coordinator runs the same version of vfl; if it does, ask its operator why it deviates",
    )


def superseded() -> ProtocolError:
    """A party's answer to a coordinator that has been replaced by another."""
    return ProtocolError(
        "a call from an attempt that is over was refused",
        remedy="run only one coordinator for the job: another one has taken over this run",
    )
