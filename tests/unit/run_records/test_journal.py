"""Two coordinators of one run: the one that was taken for dead leaves it alone when it comes back."""

import pytest

from vfl.errors import CheckpointError, PeerUnreachable, ProtocolError
from vfl.run_records.journal import RunJournal
from vfl.run_records.result import RunResult
from vfl.run_records.store import CommittedCheckpoint, RunState, RunStore

RUN = "job-1"


@pytest.fixture
def store(tmp_path):
    with RunStore(tmp_path / "runs.sqlite") as store:
        store.begin(RUN, "job", "test", "digest", "job.toml")
        yield store


def _two(store):
    first = RunJournal(store, RUN)
    first.next_attempt()
    second = RunJournal(store, RUN)
    assert not first.superseded
    second.next_attempt()
    return first, second


@pytest.mark.parametrize(
    "change",
    [
        RunJournal.next_attempt,
        RunJournal.save,
        lambda ledger: ledger.commit(3, {}, durable=False),
        lambda ledger: ledger.go_back(CommittedCheckpoint(2, 0, True, {}, RunResult(RUN).to_json())),
    ],
    ids=["next_attempt", "save", "commit", "go_back"],
)
def test_a_superseded_coordinator_changes_nothing(store, change):
    first, second = _two(store)
    with pytest.raises(ProtocolError, match="another coordinator has taken over the run"):
        change(first)
    assert (store.get(RUN).attempt, store.get(RUN).state, store.checkpoints(RUN)) == (1, RunState.RUNNING, [])
    change(second)


def test_what_stops_a_superseded_coordinator_does_not_stop_the_run(store):
    first, second = _two(store)
    first.stop(PeerUnreachable("gone"))
    assert store.get(RUN).state is RunState.RUNNING
    second.stop(PeerUnreachable("gone"))
    assert store.get(RUN).state is RunState.FAILED


def test_a_record_that_cannot_be_read_is_no_reason_to_leave_the_parties_alone(store, monkeypatch):
    ledger = RunJournal(store, RUN)

    def unreadable(run):
        raise CheckpointError("the record of runs cannot be read")

    monkeypatch.setattr(store, "get", unreadable)
    assert not ledger.superseded


def test_what_the_parties_said_of_their_tables_outlives_a_beginning_anew(store):
    ledger = RunJournal(store, RUN)
    ledger.next_attempt()
    ledger.outcome.party_rows, ledger.outcome.rows_without_id = {"bank": 12}, {"bank": 1}
    ledger.outcome.steps = 2
    assert ledger.begin_anew() == 2
    assert (ledger.outcome.party_rows, ledger.outcome.rows_without_id) == ({"bank": 12}, {"bank": 1})
    assert ledger.outcome.steps == 0
