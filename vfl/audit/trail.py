"""A party's audit log as a file: one for each run, append-only, readable by its owner only.

A record is written in a single call before the message leaves or is used, so a killed process leaves every complete
record behind. The file is flushed to disk when it is opened and closed; in between, a power cut may lose the last
seconds.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ConfigDict

from vfl.audit.file import LogFile, drop_cut_record, not_writable
from vfl.audit.log import Chain, Closed, Crossed, Opened, Record
from vfl.audit.past import Past, read_past
from vfl.configuration.federation import FederationConfig
from vfl.configuration.toml_files import Configuration, LocalPath
from vfl.errors import AuditError, ProtocolError, VflError
from vfl.ids import RUN_NAME, Role
from vfl.job.config import JobConfig
from vfl.job.digests import job_digest
from vfl.runtime.durable_files import make_directories
from vfl.runtime.foreign_text import printable
from vfl.runtime.logs import get_logger
from vfl.transport.wire.recorder import Direction, MessageRecord
from vfl.version import PACKAGE_VERSION

_log = get_logger("vfl.audit")

EARLY_RECORDS = 256
"""Messages remembered from before their run was prepared here: as many as the inbox holds."""
_SAME_NAME = 1000
_ANY_RUN = ""


class AuditConfig(Configuration):
    """``[audit]`` of party.toml and coordinator.toml.

    Attributes:
        directory: where the audit logs are written, one file for each run.
    """

    # The path is resolved against the configuration file, even as a default inside another model.
    model_config = ConfigDict(revalidate_instances="always")

    directory: LocalPath = Path("audit")


@dataclass(frozen=True)
class Terms:
    """What the first record of an audit log says about the job.

    Attributes:
        party: whose log it is.
        policy: the party's policy; empty at the coordinator.
        offered: the job's settings, and those of this party's own file that differ (``vfl.audit.log.OfferedJob``);
            None where the job is that of the file.
    """

    party: str
    job: JobConfig
    federation: FederationConfig
    policy: Mapping[str, object] = field(default_factory=dict)
    offered: Mapping[str, Mapping[str, str]] | None = None

    def facts(self, run: str, attempt: int) -> dict[str, object]:
        """Fields of the opening record."""
        roles = {self.federation.coordinator: str(Role.COORDINATOR)}
        training = self.job.training
        return {
            "party": self.party,
            "run": run,
            "attempt": attempt,
            "federation": self.federation.name,
            "roles": roles | {party.name: str(party.role) for party in self.federation.parties},
            "policy": {key: ",".join(v) if isinstance(v, list) else v for key, v in self.policy.items()},
            "terms": {
                "protocol": self.job.interaction.protocol,
                "method": "stagewise" if self.job.stagewise else "joint",
                "passes": self.job.passes,
                "local_epochs": self.job.local_epochs,
                "batch_size": training.batch_size,
                "evaluation_batch_size": training.evaluation_batch_size,
                "z_noise": self.job.privacy.z_noise,
                "relative_noise": self.job.relative_noise,
                "d_alpha_noise": self.job.privacy.d_alpha_noise,
                "trainable": ",".join(self.job.model.trainable),
                "tls": self.federation.tls.mode,
            },
            "job_digest": job_digest(self.job, self.federation),
            "version": PACKAGE_VERSION,
            "offered": self.offered,
        }


class AuditTrail:
    """Implements ``vfl.transport.wire.recorder.Recorder`` with the file of one run. Used from one event loop.

    Args:
        directory: created when the first run is opened.
        terms: what the log says about the job.

    Attributes:
        path: of the file; None before a run is opened.
        run: whose messages are recorded; None before a run is opened.
    """

    def __init__(self, directory: Path, terms: Terms) -> None:
        self._directory = directory
        self._terms = terms
        self._early: deque[tuple[str, MessageRecord]] = deque(maxlen=EARLY_RECORDS)
        self._dropped: Counter[str] = Counter()
        self._chain = Chain()
        self._file: LogFile | None = None
        self._bytes = dict.fromkeys(Direction, 0)
        self.path: Path | None = None
        self.run: str | None = None

    def change_terms(self, terms: Terms) -> None:
        """Let the log of the next run speak of another job; what was remembered for that run stays."""
        self._terms = terms

    def open(self, run: str, attempt: int) -> None:
        """Begin the log of a run; messages that came for it earlier are written first.

        Raises:
            ProtocolError: the name of the run cannot be a file name.
            AuditError: the file cannot be created. A party without a log accepts no job.
        """
        self._file = self._new_file(run)
        try:
            self._write(Opened, _now(), **self._terms.facts(run, attempt))
            for time, crossing in self._early:
                if crossing.key.run == run:
                    self._write_crossing(time, crossing)
            self._file.sync()
        except AuditError:  # there may be another attempt to open one
            self._file.close()
            self._file, self._chain, self._bytes = None, Chain(), dict.fromkeys(Direction, 0)
            raise
        self._early.clear()
        self.run = run

    def past(self, run: str) -> Past:
        """How far a run came, by the latest log of it that a process of this party has written.

        Raises:
            AuditError: that log cannot be read.
        """
        latest = None
        for number in range(1, _SAME_NAME if RUN_NAME.fullmatch(run) else 1):
            if not os.path.lexists(path := self._path(run, number)):
                break
            latest = path
        return Past() if latest is None else read_past(latest)

    def _path(self, run: str, number: int) -> Path:
        suffix = f".{number}" if number > 1 else ""  # the same run, resumed after a failure
        return self._directory / f"{run}.{self._terms.party}{suffix}.jsonl"

    def _new_file(self, run: str) -> LogFile:
        if not RUN_NAME.fullmatch(run):
            raise ProtocolError("the name of the run cannot be a file name", detail=repr(printable(run)))
        try:
            make_directories(self._directory)
            for number in range(1, _SAME_NAME):
                path = self._path(run, number)
                try:
                    file = LogFile(path)
                except FileExistsError:
                    drop_cut_record(path)
                    continue
                self.path = path
                return file
        except OSError as error:
            raise not_writable(str(error)) from error
        raise not_writable(f"{self._directory} is full of logs of {run}")

    def record(self, crossing: MessageRecord) -> None:
        """See ``Recorder``. Messages of a run that is not open yet are remembered, within bounds.

        Raises:
            AuditError: it cannot be written; then the message must not leave or be used.
        """
        if self.run is None:
            if len(self._early) == EARLY_RECORDS:
                self._count_dropped(self._early[0][1].key.run)
            self._early.append((_now(), crossing))
        elif crossing.key.run == self.run:
            self._write_crossing(_now(), crossing)

    def _count_dropped(self, run: str) -> None:
        """Count a message that is no longer remembered, for its run; what exceeds as many runs, for any run."""
        self._dropped[run if run in self._dropped or len(self._dropped) < EARLY_RECORDS else _ANY_RUN] += 1

    def forget(self, run: str) -> None:
        """A run is another job's: what was remembered of it is not this log's."""
        self._dropped.pop(run, None)
        if any(crossing.key.run == run for _, crossing in self._early):
            self._early = deque((each for each in self._early if each[1].key.run != run), maxlen=EARLY_RECORDS)

    def _write_crossing(self, time: str, crossing: MessageRecord) -> None:
        batch = crossing.batch
        self._write(
            Crossed,
            time,
            direction=str(crossing.direction),
            peer=crossing.peer,
            kind=crossing.kind,
            protection=crossing.protection,
            step=crossing.key.step,
            attempt=crossing.key.attempt,
            part=crossing.part,
            tensors=[{"name": t.name, "dtype": t.dtype, "shape": list(t.shape)} for t in crossing.tensors],
            bytes=crossing.bytes,
            digest=crossing.digest,
            batch=None
            if batch is None
            else {"phase": str(crossing.phase), "split": str(batch.split), "epoch": batch.epoch, "index": batch.index},
        )
        self._bytes[crossing.direction] += crossing.bytes

    def _write(self, event: type[Record], time: str, /, **facts: object) -> None:
        if self._file is None:
            raise AuditError("the audit log is closed")
        line = self._chain.line(event, time, **facts)
        self._file.append(line)
        self._chain.written(line)

    def close(self, error: VflError | None) -> None:
        """End the log with its closing record, if a run was opened.

        Raises:
            AuditError: it cannot be written.
        """
        if self._file is None:
            return
        try:
            self._write(
                Closed,
                _now(),
                outcome=error.code if error else "finished",
                records=self._chain.records,
                bytes_sent=self._bytes[Direction.SENT],
                bytes_received=self._bytes[Direction.RECEIVED],
                dropped=self._dropped[self.run or _ANY_RUN] + self._dropped[_ANY_RUN],
            )
            self._file.sync()
        finally:
            self._file.close()
            self._file = None
        _log.info("audit log closed", file=str(self.path), records=self._chain.records, head=self._chain.head)


class AuditTrails:
    """Implements ``Recorder`` for a party that serves several jobs: each trail keeps the messages of its own run."""

    def __init__(self) -> None:
        self._trails: list[AuditTrail] = []

    def add(self, trail: AuditTrail) -> None:
        """Add a trail."""
        self._trails.append(trail)

    def remove(self, trail: AuditTrail) -> None:
        """Remove a trail."""
        self._trails.remove(trail)

    def record(self, crossing: MessageRecord) -> None:
        """See ``Recorder``."""
        owner = next((trail for trail in self._trails if trail.run == crossing.key.run), None)
        if owner is not None:
            owner.record(crossing)
        for trail in self._trails:
            if owner is None:  # nobody knows yet whose run it is
                trail.record(crossing)
            elif trail.run is None:
                trail.forget(crossing.key.run)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
