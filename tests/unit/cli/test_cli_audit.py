"""``vfl audit``: what a person reads, and the exit code when a log cannot be trusted."""

import dataclasses
import json

import pytest
from typer.testing import CliRunner

from vfl.audit.trail import AuditTrail, Terms
from vfl.cli.main import app
from vfl.errors import AuditError
from vfl.ids import StepKey
from vfl.messages import Protection
from vfl.party.config import load_party
from vfl.transport.wire.recorder import Direction, MessageRecord


@pytest.fixture
def audit():
    def run(*arguments):
        result = CliRunner().invoke(app, ["audit", *map(str, arguments)])
        return result.exit_code, result.output

    return run


def _crossing(direction, peer, kind="forward_share", protection=Protection.MASKED):
    return MessageRecord(direction, peer, kind, protection, StepKey("job-1", 1, 0), 0, (), 2_000_000, "ab" * 32)


@pytest.fixture
def logs(federation, tmp_path):
    """Logs of clinic and bank of one job, which agree."""
    federation.write()
    paths = []
    for name, direction, peer in (("clinic", Direction.SENT, "bank"), ("bank", Direction.RECEIVED, "clinic")):
        setup = load_party(federation.path(name))
        policy = setup.config.policy.model_dump(mode="json")
        trail = AuditTrail(tmp_path / "logs" / name, Terms(name, setup.job, setup.federation, policy))
        trail.open("job-1", 0)
        trail.record(_crossing(direction, peer))
        trail.close(None)
        paths.append(trail.path)
    return paths


def test_a_log_is_summarized_in_plain_words(logs, audit, tmp_path):
    code, output = audit(logs[0], "--json", tmp_path / "out.json")
    assert code == 0, output
    for part in (
        "log of clinic (passive), run job-1",
        "protocol encrypted",
        "allow_unencrypted no",
        "allow_trainable none,",
        "in the clear: nothing",
        "ended: finished",
        "What left clinic",
        "bank reads clinic's noisy part",
        "2.0 MB",
    ):
        assert part in output
    (told,) = json.loads((tmp_path / "out.json").read_text())
    assert (told["sent"][0]["kind"], told["sent"][0]["bytes"], told["in_the_clear"]) == ("forward_share", 2_000_000, 0)


def test_no_setting_is_shown_without_its_value(federation, audit, tmp_path):
    federation.job["model"] = {}
    federation.job["training"] = {"passes": 1}
    setup = load_party(federation.write().path("clinic"))
    trail = AuditTrail(tmp_path, Terms("clinic", setup.job, setup.federation))
    trail.open("job-1", 0)
    trail.close(None)
    assert "trainable none" in audit(trail.path)[1]


def test_a_directory_is_summarized_log_by_log(logs, audit, tmp_path):
    code, output = audit(logs[0].parent)
    assert code == 0
    assert logs[0].name in output
    code, output = audit(tmp_path / "logs")
    assert (code, "no audit log here" in output) == (AuditError.exit_code, True)


def test_what_was_in_the_clear_stands_out(federation, audit, tmp_path):
    setup = load_party(federation.write().path("clinic"))
    trail = AuditTrail(tmp_path, Terms("clinic", setup.job, setup.federation))
    trail.open("job-1", 0)
    trail.record(_crossing(Direction.SENT, "bank", "clear_activations", Protection.CLEAR))
    trail.close(None)
    _, output = audit(trail.path)
    assert "IN THE CLEAR: 1 messages (clear_activations sent)" in output
    assert "NOT PROTECTED" in output


def test_verify_says_what_it_proves(logs, audit):
    code, output = audit("verify", logs[0])
    assert code == 0
    assert "3 records are consistent; head " in output
    assert "only --head can rule out that the log was rewritten" in output
    head = output.split("head ")[1][:64]
    code, output = audit("verify", logs[0], "--head", head)
    assert (code, "nothing was removed, changed or added" in output) == (0, True)
    code, output = audit("verify", logs[1], "--head", head)
    assert (code, "truncated or rewritten" in output) == (AuditError.exit_code, True)


def test_verify_names_a_changed_record(logs, audit):
    logs[0].write_bytes(logs[0].read_bytes().replace(b'"bytes":2000000', b'"bytes":1000000'))
    code, output = audit("verify", logs[0])
    assert (code, "record 1 (line 2) was changed" in output) == (AuditError.exit_code, True)
    assert audit(logs[0])[0] == AuditError.exit_code


def test_verify_of_a_truncated_log_says_what_it_cannot_show(logs, audit):
    content = logs[0].read_bytes().splitlines(keepends=True)
    logs[0].write_bytes(b"".join(content[:-1]) + content[-1][:30])
    code, output = audit("verify", logs[0])
    assert code == AuditError.exit_code
    for part in ("the last line is incomplete", "no closing record, so its end may be missing", "--head"):
        assert part in output


def test_compare(logs, audit):
    code, output = audit("compare", *logs)
    assert (code, "clinic and bank: 1 messages are the same in the logs of both" in output) == (0, True)
    code, output = audit("compare", logs[0], logs[0])
    assert (code, "not the logs of two parties" in output) == (AuditError.exit_code, True)


def _logged(federation, folder, name, run, crossings):
    setup = load_party(federation.path(name))
    trail = AuditTrail(folder / name, Terms(name, setup.job, setup.federation))
    trail.open(run, 0)
    for crossing in crossings:
        trail.record(crossing)
    trail.close(None)
    return trail.path


def test_compare_reads_what_a_party_logged_after_a_restart(federation, logs, audit, tmp_path):
    after = _crossing(Direction.SENT, "bank", "encrypted_activations", Protection.ENCRYPTED)
    before = dataclasses.replace(after, direction=Direction.RECEIVED, peer="clinic", kind="forward_share")
    both = [
        dataclasses.replace(before, protection=Protection.MASKED),
        dataclasses.replace(after, direction=Direction.RECEIVED, peer="clinic"),
    ]
    later = _logged(federation, tmp_path / "logs", "clinic", "job-1", [after])
    assert later.name == "job-1.clinic.2.jsonl"
    whole = _logged(federation, tmp_path / "whole", "bank", "job-1", both)
    clinic = logs[0]
    for arguments in ((clinic, whole), (whole, clinic), (clinic.parent, whole.parent), (clinic, later, whole)):
        code, output = audit("compare", *arguments)
        assert (code, "2 messages are the same" in output) == (0, True), output
    code, output = audit("compare", later, whole)
    assert (code, "differ in 1 message" in output) == (AuditError.exit_code, True)
    assert "pass every log that each party has of the run" in output


def test_compare_asks_which_run_where_there_are_several(federation, logs, audit, tmp_path):
    for name in ("clinic", "bank"):
        _logged(federation, tmp_path / "logs", name, "job-2", [])
    code, output = audit("compare", *(path.parent for path in logs))
    assert (code, "these are logs of 2 runs" in output) == (AuditError.exit_code, True)
    assert audit("compare", *logs)[0] == 0
    assert audit("compare", logs[0].parent, logs[1])[0] == 0


def test_a_changed_log_of_several_is_found(federation, logs, audit, tmp_path):
    later = _logged(federation, tmp_path / "logs", "clinic", "job-1", [_crossing(Direction.SENT, "bank")])
    later.write_bytes(later.read_bytes().replace(b'"bytes":2000000', b'"bytes":1000000'))
    code, output = audit("compare", *logs)
    assert (code, "the log of clinic is not consistent" in output) == (AuditError.exit_code, True)


def test_a_file_that_is_not_there(audit, tmp_path):
    for command in ([], ["verify"]):
        code, output = audit(*command, tmp_path / "absent.jsonl")
        assert (code, "cannot be read" in output) == (AuditError.exit_code, True)
