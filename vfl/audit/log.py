"""The audit log: one JSON object per line, each with the hash of the line before it. Pure: bytes in, bytes out.

A line is ``{...,"hash":"H"}``, where H is the SHA-256 of the same bytes without ``,"hash":"H"``. Records are numbered
from 0. The first one opens the log and states the run, the job and the policy; the last one closes it with the number
of records. Lines contain names, shapes, sizes, times and salted digests, never content or ids.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from vfl.errors import AuditError
from vfl.messages import MAX_DIMENSIONS, Protection

GENESIS = "0" * 64
"""The first record's value for the hash of the previous record."""
MAX_LINE_BYTES = 65_536

_HASH = re.compile(rb'\A(\{.*),"hash":"([0-9a-f]{64})"\}\Z')

_END_BYTES = len(GENESIS) + 3
"""Length of the hash and what follows it at the end of a line."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.+-]{1,128}$")]
Text = Annotated[str, Field(max_length=2000)]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _Record(_Model):
    n: Count
    time: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")]
    previous: Digest


class OfferedJob(_Model):
    """The job of a run that the coordinator offered, and this party accepted; values are JSON.

    Attributes:
        settings: of the whole job, with its defaults.
        in_file: what this party's own job.toml says where the two differ.
    """

    settings: Annotated[dict[Word, Text], Field(max_length=128)]
    in_file: Annotated[dict[Word, Text], Field(max_length=128)]


class Opened(_Record):
    """First record: whose log this is, of which run, under which policy.

    Attributes:
        time: UTC, by the clock of the party.
        roles: of all members, by name.
        policy: the party's ``[policy]``; empty at the coordinator.
        terms: the privacy-relevant settings of the job, such as its protocol and number of epochs.
        job_digest: as compared by the parties before step 0.
        offered: the job, where it is not that of this party's own file.
    """

    event: Literal["opened"] = "opened"
    format: Literal[1] = 1
    party: Word
    run: Word
    attempt: Count
    federation: Word
    roles: Annotated[dict[Word, Word], Field(max_length=32)]
    policy: Annotated[dict[Word, bool | int | float | Text | None], Field(max_length=64)]
    terms: Annotated[dict[Word, bool | int | float | Text | None], Field(max_length=64)]
    job_digest: Text
    version: Word
    offered: OfferedJob | None = None


class Tensor(_Model):
    """Form of a tensor."""

    name: Word
    dtype: Word
    shape: Annotated[list[Count], Field(max_length=MAX_DIMENSIONS)]


class BatchOf(_Model):
    """The batch that a phase call asks for."""

    phase: Word
    split: Word
    epoch: Count
    index: Count


class Crossed(_Record):
    """One message sent or received. ``digest`` is salted; the salt is not stored (``vfl.transport.wire.recorder``)."""

    event: Literal["message"] = "message"
    direction: Literal["sent", "received"]
    peer: Word
    kind: Word
    protection: Annotated[Protection, Field(strict=False)]
    step: Count
    attempt: Count
    part: Count
    tensors: Annotated[list[Tensor], Field(max_length=16)]
    bytes: Count
    digest: Digest
    batch: BatchOf | None = None


class Closed(_Record):
    """Last record. ``outcome`` is ``finished`` or the code of the error that ended the run.

    Attributes:
        records: number of records before this one.
        dropped: messages that came before the log was opened and exceeded the memory for such messages.
    """

    event: Literal["closed"] = "closed"
    outcome: Word
    records: Count
    bytes_sent: Count
    bytes_received: Count
    dropped: Count


Record = Opened | Crossed | Closed
_RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="event")])


class Chain:
    """Turns facts into the lines of one log. ``head`` is the hash of the latest line that is in the log."""

    def __init__(self) -> None:
        self.records = 0
        self.head = GENESIS

    def line(self, event: type[Record], time: str, /, **facts: Any) -> bytes:
        """The next line, with its newline. It takes its place in the chain with ``written``.

        Raises:
            AuditError: the facts do not fit the record, for instance a name with invalid characters.
        """
        try:
            record = event(n=self.records, time=time, previous=self.head, **facts)
        except ValidationError as error:
            raise AuditError("an event cannot be written to the audit log", detail=str(error)) from error
        body = record.model_dump_json(exclude_none=True).encode()
        if len(body) + 80 > MAX_LINE_BYTES:
            raise AuditError("a record is too long for the audit log", detail=f"{len(body)} bytes")
        return body[:-1] + b',"hash":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'

    def written(self, line: bytes) -> None:
        """Continue from a line, now that all of it is in the log."""
        self.head = line[-_END_BYTES:-3].decode()
        self.records += 1


class Line:
    """One line, as read.

    Attributes:
        number: from 1.
        record: None if the bytes are not a record.
        hash: computed from the bytes.
        intact: whether it equals the hash in the line.
    """

    def __init__(self, number: int, content: bytes) -> None:
        self.number = number
        match = _HASH.fullmatch(content)
        body = match.group(1) + b"}" if match else content
        self.hash = hashlib.sha256(body).hexdigest()
        self.intact = bool(match) and match.group(2) == self.hash.encode()  # type: ignore[union-attr]
        self.record = _parsed(body) if match else None


def _parsed(body: bytes) -> Record | None:
    try:
        return _RECORD.validate_json(body)
    except ValidationError:
        return None


def read_lines(chunks: Iterable[bytes]) -> Iterator[Line | None]:
    """The lines of a log, given as pieces of any size. Memory is bounded by the maximum line length.

    Yields:
        Lines; None once at the end if the last line has no newline, as when a process was killed while writing it.
    """
    rest, number, too_long = b"", 0, False
    for chunk in chunks:
        *complete, rest = (rest + chunk).split(b"\n")
        for content in complete:
            number += 1
            yield Line(number, b"" if too_long or len(content) > MAX_LINE_BYTES else content)
            too_long = False
        if len(rest) > MAX_LINE_BYTES:
            rest, too_long = b"", True
    if rest or too_long:
        yield None
