"""When a checkpoint that survives a power cut is taken: on time in spite of interruptions, and always at the end."""

import json

from support import virtual_time
from support.faults.recovering import run_here, small_federation
from support.federations.federation import ACTIVE, COORDINATOR

from vfl.run_records.store import RunStore

CLINIC = "clinic"


def _durable_steps(federation):
    with RunStore(federation.path(COORDINATOR, "runs.sqlite")) as store:
        (run,) = store.runs()
        return [found.step for found in store.checkpoints(run.run) if found.durable]


def test_an_interruption_does_not_put_the_next_one_off(tmp_path):
    federation = small_federation(tmp_path)
    federation.job["checkpoints"] = {"unsynced_every_steps": 1, "every_steps": 4}
    federation.write()
    for stop_at, resume in ((3, False), (3, True)):
        ended = virtual_time.run(run_here(federation, stop_at=stop_at, resume=resume))
        assert ended.errors[COORDINATOR].code == "aborted"
    assert _durable_steps(federation) == [5, 0], "the fourth training step; after the third is one of validation"


def test_the_last_one_survives_a_power_cut_also_where_there_is_nothing_to_validate(tmp_path):
    federation = small_federation(tmp_path)
    federation.job["split"]["validation"] = 0.0
    federation.job["checkpoints"] = {"unsynced_every_steps": 1, "every_steps": 1000}
    ended = virtual_time.run(run_here(federation.write()))
    assert ended.errors == dict.fromkeys(ended.errors)
    last = ended.outcome.steps
    assert _durable_steps(federation) == [last, 0]
    for name in (ACTIVE, CLINIC):
        (run,) = federation.path(name, "checkpoints").iterdir()
        newest = max(path for path in run.iterdir())
        manifest = json.loads((newest / "manifest.json").read_text(encoding="utf-8"))
        assert (manifest["step"], manifest["durable"]) == (last, True)
