"""The audit log as a file: private, never overwritten, complete up to the last record, and no log means no job."""

import errno
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.federations.federation import ACTIVE
from support.federations.in_process import job_of, parties_in_process
from support.logs import captured_logs

from vfl import messages as m
from vfl.audit.log import Crossed, read_lines
from vfl.audit.trail import EARLY_RECORDS, AuditTrail, AuditTrails, Terms
from vfl.audit.verify import verify
from vfl.coordinator.config import CoordinatorConfig, coordinator_beside
from vfl.errors import AuditError, DataError, ProtocolError, RemoteError
from vfl.ids import StepKey
from vfl.job.digests import job_digest
from vfl.party.config import load_party
from vfl.transport.wire.recorder import Direction, MessageRecord
from vfl.version import PROTOCOL_VERSION

CROSSING = MessageRecord(
    Direction.SENT, "bank", "forward_share", m.Protection.MASKED, StepKey("job-1", 1, 0), 0, (), 8, "ab" * 32
)
CLINIC = "clinic"


@pytest.fixture
def terms(federation):
    setup = load_party(federation.write().path(CLINIC))
    return Terms(CLINIC, setup.job, setup.federation, setup.config.policy.model_dump(mode="json"))


@pytest.fixture
def trail(tmp_path, terms):
    return AuditTrail(tmp_path / "logs", terms)


def lines(trail):
    with trail.path.open("rb") as file:
        return list(read_lines(file))


def test_a_log_begins_and_ends_and_only_its_owner_reads_it(trail):
    trail.open("job-1", 0)
    trail.record(CROSSING)
    trail.record(replace(CROSSING, key=StepKey("job-2", 1, 0)))  # of another job, which is none of this log's
    trail.close(None)
    found = verify(lines(trail))
    assert (found.intact, found.records, found.closed.outcome, found.closed.bytes_sent) == (True, 3, "finished", 8)
    assert found.opened.policy["allow_unencrypted"] is False
    assert found.opened.terms["protocol"] == "encrypted"
    assert stat.S_IMODE(trail.path.stat().st_mode) == 0o600
    assert trail.path.name == "job-1.clinic.jsonl"


def test_an_error_closes_the_log_with_its_code(trail):
    trail.open("job-1", 0)
    trail.close(DataError("x", detail="a value"))
    assert verify(lines(trail)).closed.outcome == "data"
    assert b"a value" not in trail.path.read_bytes()


def test_what_came_before_its_job_is_written_within_bounds(trail):
    trail.record(replace(CROSSING, kind="lost"))
    for kind in ("other",) * (EARLY_RECORDS - 1):
        trail.record(replace(CROSSING, kind=kind, key=StepKey("job-2", 0, 0)))
    trail.record(replace(CROSSING, kind="kept"))
    trail.open("job-1", 0)
    trail.close(None)
    kinds = [line.record.kind for line in lines(trail) if isinstance(line.record, Crossed)]
    assert kinds == ["kept"]
    assert verify(lines(trail)).closed.dropped == 1


def test_a_log_is_never_written_over(tmp_path, terms):
    names = []
    for _ in range(3):
        trail = AuditTrail(tmp_path, terms)
        trail.open("job-1", 0)
        trail.close(None)
        names.append(trail.path.name)
    assert names == ["job-1.clinic.jsonl", "job-1.clinic.2.jsonl", "job-1.clinic.3.jsonl"]


@pytest.mark.parametrize("job", ["../job", "a/b", ".hidden", "", "x" * 200])
def test_a_name_that_would_lead_elsewhere_is_refused(trail, job):
    with pytest.raises(ProtocolError):
        trail.open(job, 0)


def _full(monkeypatch, bytes_left, *, may_be_cut=True):
    """A disk that takes only so many bytes of the next line; return how to free space."""
    write, truncate = os.write, os.ftruncate

    def refused(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", lambda file, line: write(file, line[:bytes_left]) if bytes_left else refused())
    if not may_be_cut:
        monkeypatch.setattr(os, "ftruncate", refused)

    def free():
        monkeypatch.setattr(os, "write", write)
        monkeypatch.setattr(os, "ftruncate", truncate)

    return free


@pytest.mark.parametrize(("bytes_left", "may_be_cut"), [(0, True), (1, True), (100, True), (100, False)])
def test_a_full_disk_stops_the_message_and_the_log_is_consistent_afterward(trail, monkeypatch, bytes_left, may_be_cut):
    trail.open("job-1", 0)
    trail.record(CROSSING)
    free = _full(monkeypatch, bytes_left, may_be_cut=may_be_cut)
    for _ in range(2):
        with pytest.raises(AuditError, match="cannot be written"):
            trail.record(CROSSING)
    free()
    trail.record(CROSSING)
    trail.close(None)
    found = verify(lines(trail))
    assert (found.problems, found.torn, found.records, found.closed.bytes_sent) == ([], False, 4, 16)


def test_a_log_that_cannot_be_begun_leaves_no_file_and_can_be_begun_later(trail, monkeypatch):
    trail.record(CROSSING)
    free = _full(monkeypatch, 10)
    with pytest.raises(AuditError, match="cannot be written"):
        trail.open("job-1", 0)
    assert list(trail.path.parent.iterdir()) == []
    free()
    trail.open("job-1", 0)
    trail.close(None)
    assert (verify(lines(trail)).problems, len(lines(trail))) == ([], 3)


def test_a_cut_last_record_is_dropped_when_the_run_is_resumed_and_that_is_logged(tmp_path, terms):
    first, second = AuditTrail(tmp_path, terms), AuditTrail(tmp_path, terms)
    first.open("job-1", 0)
    first.record(CROSSING)
    whole = first.path.read_bytes()
    first.close(None)
    first.path.write_bytes(whole + b'{"n":2,"time":"20')  # the process was killed while the disk was full
    with captured_logs() as logs:
        second.open("job-1", 1)
    second.close(None)
    assert [(event["file"], event["bytes"]) for event in logs if "incomplete" in event["event"]] == [
        (str(first.path), 17)
    ]
    assert first.path.read_bytes() == whole
    assert (verify(lines(first)).problems, verify(lines(first)).torn) == ([], False)


def test_a_log_that_is_still_written_is_left_alone(tmp_path, terms):
    first, second = AuditTrail(tmp_path, terms), AuditTrail(tmp_path, terms)
    first.open("job-1", 0)
    with first.path.open("ab") as file:
        file.write(b"half of")
    second.open("job-1", 1)
    assert first.path.read_bytes().endswith(b"half of")
    first.close(None)
    second.close(None)


def test_records_of_a_killed_process_are_all_there(tmp_path, federation):
    party = federation.write().path(CLINIC)
    program = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_audit_trail import AuditTrail, Terms, CROSSING, load_party
setup = load_party(Path({str(party)!r}))
trail = AuditTrail(Path({str(tmp_path / "logs")!r}), Terms("clinic", setup.job, setup.federation))
trail.open("job-1", 0)
for _ in range(100):
    trail.record(CROSSING)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == -9
    (path,) = (tmp_path / "logs").iterdir()
    with path.open("rb") as file:
        found = verify(read_lines(file))
    assert (found.intact, found.records, found.closed) == (True, 101, None)


async def test_without_a_log_there_is_no_job(federation):
    federation.parties[CLINIC]["audit"] = {"directory": "table.csv/logs"}
    setup = load_party(federation.write().path(ACTIVE))
    prepare = m.Prepare(job_of(federation), "job-1", 0, job_digest(setup.job, setup.federation), PROTOCOL_VERSION)
    async with parties_in_process(federation) as (_, clients):
        with pytest.raises(RemoteError, match="the audit log cannot be written") as raised:
            await clients[CLINIC].prepare(prepare)
        assert raised.value.remote_code == AuditError.code
        assert "table.csv" not in str(raised.value)


async def test_a_refused_job_leaves_a_log_that_says_so(federation):
    del federation.tables[CLINIC]
    setup = load_party(federation.write().path(ACTIVE))
    prepare = m.Prepare(job_of(federation), "job-1", 0, job_digest(setup.job, setup.federation), PROTOCOL_VERSION)
    async with parties_in_process(federation) as (parties, clients):
        with pytest.raises(RemoteError):
            await clients[CLINIC].prepare(prepare)
        await clients[CLINIC].abort(m.Abort(job_of(federation), "job-1", 0, "coordinator", "data", "no table"), 30)
        await parties[CLINIC]
    with federation.path(CLINIC, "audit/job-1.clinic.jsonl").open("rb") as file:
        records = [line.record for line in read_lines(file)]
    assert [(r.kind, r.direction) for r in records[1:-1]] == [
        ("prepare", "received"),
        ("failure", "sent"),
        ("abort", "received"),
    ]
    assert records[-1].outcome == "data"


def test_the_default_directory_is_beside_the_file(federation, tmp_path):
    setup = load_party(federation.write().path(CLINIC))
    assert setup.config.audit.directory == federation.path(CLINIC, "audit")
    assert coordinator_beside(tmp_path / "job.toml").audit.directory == tmp_path / "audit"
    assert CoordinatorConfig().tls is None


def test_an_idle_log_counts_nothing_of_another_job(tmp_path, terms):
    trails, busy, idle = AuditTrails(), AuditTrail(tmp_path / "busy", terms), AuditTrail(tmp_path / "idle", terms)
    trails.add(idle)
    trails.add(busy)
    own = replace(CROSSING, kind="own", key=StepKey("job-2", 0, 0))
    trails.record(own)
    for number in range(EARLY_RECORDS // 8):  # as before many runs are prepared, one after the other
        trails.record(replace(CROSSING, key=StepKey(f"job-1-{number}", 0, 0)))
    busy.open("job-1", 0)
    for _ in range(EARLY_RECORDS + 10):
        trails.record(CROSSING)
    idle.open("job-2", 0)
    for trail in (idle, busy):
        trail.close(None)
    assert [line.record.kind for line in lines(idle) if isinstance(line.record, Crossed)] == ["own"]
    assert verify(lines(idle)).closed.dropped == 0
    assert verify(lines(busy)).closed.records == EARLY_RECORDS + 11
    assert not any(crossing.key.run == "job-1" for _, crossing in idle._early)


def test_messages_that_many_runs_drop_are_counted_in_bounded_memory(trail):
    for number in range(3 * EARLY_RECORDS):
        trail.record(replace(CROSSING, key=StepKey(f"job-{number}", 0, 0)))
    assert len(trail._dropped) <= EARLY_RECORDS + 1
    trail.open("job-0", 0)
    trail.close(None)
    assert verify(lines(trail)).closed.dropped == 1 + 2 * EARLY_RECORDS - EARLY_RECORDS


def test_the_folder_is_private_and_a_link_in_it_is_not_followed(tmp_path, terms):
    victim = tmp_path / "victim"
    victim.write_text("whole line\nand more", encoding="ascii")
    trail = AuditTrail(tmp_path / "logs" / "audit", terms)
    trail.open("job-1", 0)
    trail.close(None)
    assert stat.S_IMODE(trail.path.parent.stat().st_mode) == 0o700
    trail.path.unlink()
    trail.path.symlink_to(victim)
    again = AuditTrail(tmp_path / "logs" / "audit", terms)
    again.open("job-1", 0)
    again.close(None)
    assert again.path.name == "job-1.clinic.2.jsonl"
    assert victim.read_text(encoding="ascii") == "whole line\nand more"
