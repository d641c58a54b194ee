"""The call by which the coordinator hands out its job where a party's file differs from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from vfl.messages.control import ControlMessage

MAX_JOB_TEXT = 65536
"""Characters of an offered job; an honest one has some 1,500."""
MOST_CHARACTERS = "most_characters"
"""Key in the metadata of a text field that may be longer than other texts."""


@dataclass(frozen=True, slots=True)
class Offer(ControlMessage):
    """Coordinator to party: serve this job, whose files differ from yours, before ``Prepare`` of the same run.

    ``text`` is the content of job.toml as canonical JSON, see ``vfl.job.offer``. ``digest`` is that of the
    coordinator's job and federation, as in ``Prepare``.
    """

    kind = "offer"
    job: str
    run: str
    attempt: int
    digest: str
    protocol_version: str
    text: str = field(metadata={MOST_CHARACTERS: MAX_JOB_TEXT})


@dataclass(frozen=True, slots=True)
class Offered(ControlMessage):
    """Party to coordinator: its own rules accept the job, and runs of it can be prepared."""

    kind = "offered"
    party: str
