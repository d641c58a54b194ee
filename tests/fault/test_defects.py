"""A defect of ours ends the run by name everywhere, and stands in the record of runs."""

from support import virtual_time
from support.faults.recovering import run_here, small_federation
from support.federations.federation import ACTIVE, COORDINATOR
from support.logs import captured_logs, logged

from vfl.job.schedule import Schedule
from vfl.party.roles.active import ActiveParty
from vfl.run_records.store import RunState, RunStore


def test_a_defect_of_the_coordinator(tmp_path, monkeypatch, logs):
    def divides_by_zero(*_):
        return 1 // 0

    monkeypatch.setattr(Schedule, "epoch_steps", property(divides_by_zero))  # which no party asks for
    federation = small_federation(tmp_path).write()
    ended = virtual_time.run(run_here(federation))
    assert ended.errors[COORDINATOR].code == "internal"
    assert ended.errors[COORDINATOR].summary == "an internal error of the coordinator during weight initialization"
    assert ended.errors[COORDINATOR].summary in ended.errors[ACTIVE].summary
    assert "ZeroDivisionError" in logged(logs), "whoever mends it needs the stack trace"
    assert "ZeroDivisionError" not in str(ended.errors[ACTIVE])
    with RunStore(federation.path(COORDINATOR, "runs.sqlite")) as store:
        (record,) = store.runs()
    assert record.state is RunState.FAILED


def test_a_defect_of_a_party_is_traced_in_its_log_without_verbose(tmp_path, monkeypatch):
    monkeypatch.setattr(ActiveParty, "score", lambda *_: 1 // 0)
    with captured_logs() as events:
        ended = virtual_time.run(run_here(small_federation(tmp_path).write()))
    error = ended.errors[ACTIVE]
    assert error.code == "internal"
    assert error.remedy.startswith("report the stack trace in this party's log; the checkpoint of step ")
    assert "ZeroDivisionError" in logged(events)
    assert "ZeroDivisionError" not in str(ended.errors[COORDINATOR])
