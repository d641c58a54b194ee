"""The coordinator hands out its job: what a party's ``[accept]`` allows is trained as if every file had been edited."""

import asyncio
import json
import re
import stat
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest
from support.faults.recovering import run_here
from support.federations.federation import ACTIVE, COORDINATOR, Federation, differing
from support.logs import captured_logs
from typer.testing import CliRunner

from vfl import messages as m
from vfl.cli.main import app
from vfl.coordinator.process import RunOptions, run_job
from vfl.errors import MismatchError, PolicyRefusal, ProtocolError, RemoteError
from vfl.job.callbacks import Callback
from vfl.job.digests import job_digest, job_id
from vfl.job.offer import job_text
from vfl.job.setup import load_job_setup
from vfl.party.config import load_party
from vfl.party.process import serve_party
from vfl.run_records.result import RunResult
from vfl.run_records.store import RunStore
from vfl.transport.in_memory import InMemoryNetwork
from vfl.version import PROTOCOL_VERSION

CLINIC, SECONDS = "clinic", 30.0
RATE = "training.optimizer.learning_rate"


def federation_in(folder, accept=None, **at_coordinator):
    """Not written; the coordinator's job differs from the parties' in these dotted keys.

    Args:
        accept: ``[accept]`` of every party.
    """
    made = Federation(folder, rows=160)
    made.job["training"] |= {"passes": 1, "batch_size": 32}
    for name in made.names:
        made.parties[name]["accept"] = accept or {}
    change(made.other_job(COORDINATOR), **at_coordinator)
    return made


def change(job, **keys):
    for key, value in keys.items():
        *tables, last = key.split(".")
        table = job
        for name in tables:
            table = table.setdefault(name, {})
        table[last] = value


CHANGED = {RATE: 0.02, "seed": 12, "training.batch_size": 48}
ACCEPT = {RATE: {"min": 0.001, "max": 0.1}, "seed": True, "training.batch_size": {"max": 64}}


def opened(federation, name):
    (log,) = federation.path(name, "audit").glob("*.jsonl")
    return json.loads(log.read_text(encoding="utf-8").splitlines()[0])


async def test_what_is_accepted_is_trained_to_the_weights_of_edited_files(tmp_path):
    offered = federation_in(tmp_path / "offered", ACCEPT, **CHANGED)
    edited = federation_in(tmp_path / "edited", **CHANGED)
    change(edited.job, **CHANGED)
    for each in (offered, edited):
        each.folder.mkdir()
        ended = await run_here(each.write())
        assert set(ended.errors.values()) == {None}, ended.errors
    assert differing(offered.everything_saved(), edited.everything_saved()) == []
    record = opened(offered, CLINIC)["offered"]
    assert record["in_file"].keys() == CHANGED.keys()
    assert record["settings"]["seed"] == "12"
    assert record["settings"]["training.batch_size"] == "48"
    assert "offered" not in opened(edited, CLINIC)
    summary = CliRunner().invoke(app, ["audit", str(offered.path(CLINIC, "audit"))])
    assert summary.exit_code == 0, summary.output
    assert "seed 12 (file: 11)" in " ".join(summary.output.split())


async def refused(federation, match, kind):
    """How the coordinator's run ends, and that nobody has begun it."""
    ended = await run_here(federation.write())
    error = ended.errors[COORDINATOR]
    assert isinstance(error, RemoteError)
    assert error.remote_code == kind.code, error
    assert match in str(error)
    assert not federation.path(CLINIC, "audit").exists()
    return ended


@pytest.mark.parametrize(
    ("accept", "changed", "says"),
    [
        ({}, {"seed": 12}, "differs from the coordinator's in: seed"),
        ({}, {RATE: 0.02}, "differs from the coordinator's in: training"),
        ({"seed": True}, {"seed": 12, RATE: 0.02}, f"differs from the coordinator's in: {RATE}\n"),
        ({RATE: {"max": 0.01}}, {RATE: 0.02}, f"{RATE} (beyond what it accepts)"),
        ({"seed": True}, {"timeouts.connect": 7.0}, "timeouts.connect"),
        ({"seed": True}, {"split.test": 0.5}, "split.test"),
    ],
    ids=["nothing accepted", "nothing accepted of a table", "another key", "out of range", "timeouts", "split"],
)
async def test_what_is_not_accepted_is_refused_by_name_and_begins_nowhere(tmp_path, accept, changed, says):
    ended = await refused(federation_in(tmp_path, accept, **changed), says, MismatchError)
    assert "0.01" not in str(ended.errors[COORDINATOR]), "ranges are the party's own"


async def test_policies_apply_to_what_is_accepted(tmp_path):
    made = federation_in(tmp_path, {"training.batch_size": True}, **{"training.batch_size": 8})
    await refused(made, "its batch_size of 8 is below 16", PolicyRefusal)


@asynccontextmanager
async def serving(federation, *, keep_serving=True):
    """The parties of a written federation, as tasks by name, and the network of its coordinator."""
    network = InMemoryNetwork(load_party(federation.path(ACTIVE)).federation)
    tasks = {}

    def start(name):
        setup = load_party(federation.path(name))
        tasks[name] = asyncio.ensure_future(serve_party(setup, keep_serving=keep_serving, network=network))

    for name in federation.names:
        start(name)
    try:
        yield network, tasks, start
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def lead(federation, network, *, callbacks=(), **changes):
    job, settings, _ = load_job_setup(federation.path(COORDINATOR, "job.toml"))
    return await run_job(job.model_copy(update=changes), settings, network, RunOptions(callbacks=callbacks))


class Offers:
    """Offers of a federation's coordinator."""

    def __init__(self, federation):
        self.job, self.settings, _ = load_job_setup(federation.path(COORDINATOR, "job.toml"))

    def of(self, **changes):
        job = self.job.model_copy(update=changes)
        return m.Offer(
            job_id(job, self.settings),
            f"{job.name}-1",
            0,
            job_digest(job, self.settings),
            PROTOCOL_VERSION,
            job_text(job),
        )


HOSTILE = {
    "nested": "[" * 60_000,
    "a key that no job has": '{"nonsense":1}',
    "long": "x" * (m.MAX_JOB_TEXT + 1),
    "many keys": "{" + ",".join(f'"{n}":0' for n in range(7_000)) + "}",
    "a number of 50,000 digits": '{"seed":' + "9" * 50_000 + "}",
    "not finite": '{"seed":NaN}',
    "a path of the federation": '{"federation":"/etc/passwd"}',
    "empty": "",
}


async def test_hostile_offers_are_refused_and_the_party_serves_its_job(tmp_path):
    made = federation_in(tmp_path, ACCEPT).write()
    async with serving(made) as (network, tasks, _), AsyncExitStack() as stack:
        client = await network.control(stack, CLINIC, None)
        await client.wait_ready(SECONDS)
        offers = Offers(made)
        honest = offers.of(seed=12)

        async def raised(**changes):
            with pytest.raises(RemoteError) as error:
                await client.offer(replace(honest, **changes))
            return error.value

        for text in HOSTILE.values():
            assert (await raised(text=text)).remote_code == ProtocolError.code
        assert "differs from the coordinator's" in (await raised(text=offers.of(seed=13).text)).remote_summary
        assert "does not serve" in (await raised(job="another@1")).remote_summary
        assert "another job than its call names" in (await raised(job=f"{offers.job.name}@1")).remote_summary
        assert "speaks protocol" in (await raised(protocol_version="0")).remote_summary
        assert "the name of another" in (await raised(run="another-1")).remote_summary
        assert (
            "in: federation"
            in (await raised(digest=re.sub("federation=[0-9a-f]+", "federation=0", honest.digest))).remote_summary
        )
        renamed = offers.of(name="another")
        assert "in: name" in (await raised(text=renamed.text)).remote_summary
        protocol = offers.job.interaction.model_copy(update={"protocol": "plaintext"})
        assert "in: interaction.protocol" in (await raised(text=offers.of(interaction=protocol).text)).remote_summary
        assert not list(made.path(CLINIC, "checkpoints").glob("*"))
        assert not any(task.done() for task in tasks.values())
        assert (await lead(made, network)).steps


def released(federation):
    with load_party(federation.path(CLINIC)).config.open_ledger() as ledger:
        return ledger.summary().releases


async def test_runs_of_offered_jobs_follow_each_other_and_are_charged_as_what_they_are(tmp_path):
    """Noise and ledger are bound to the offered job: another seed releases again, an equal job does not."""
    made = federation_in(tmp_path, {"seed": {"min": 11, "max": 13}}).write()
    charged = []
    async with serving(made) as (network, _, _):
        for seed in (12, 12, 11):
            await lead(made, network, seed=seed)
            charged.append(released(made))
        assert not (made.path(CLINIC, "checkpoints") / "job.clinic.accepted.json").exists(), (
            "it is that of the file again"
        )
    assert 0 < charged[0] == charged[1] < charged[2]
    logs = [json.loads(log.read_text(encoding="utf-8").splitlines()[0]) for log in made.path(CLINIC, "audit").iterdir()]
    seeds = [log.get("offered", {}).get("settings", {}).get("seed", "") for log in logs]
    assert sorted(seeds) == ["", "12", "12"]


async def test_a_run_under_way_is_not_disturbed_by_an_offer(tmp_path):
    made = federation_in(tmp_path, ACCEPT).write()
    offers, answers = Offers(made), []
    async with serving(made) as (network, _, _), AsyncExitStack() as stack:
        client = await network.control(stack, CLINIC, None)

        class InTheMiddle(Callback):
            def on_step(self, step):
                if step.step == 2:
                    answers.append(asyncio.ensure_future(client.offer(offers.of(seed=12))))

        outcome = await lead(made, network, callbacks=(InTheMiddle(),))
        with pytest.raises(RemoteError, match="busy with another run"):
            await answers[0]
    assert not outcome.recoveries
    assert outcome.steps


async def test_a_party_that_was_restarted_resumes_the_run_of_an_offered_job(tmp_path):
    changed = {"seed": 12}
    for folder in ("disturbed", "undisturbed"):
        (tmp_path / folder).mkdir()
    made = federation_in(tmp_path / "disturbed", ACCEPT, **changed)
    still = federation_in(tmp_path / "undisturbed", ACCEPT, **changed)
    for each in (made, still):
        for job in (each.job, each.job_at[COORDINATOR]):
            job["training"]["passes"] = 2
            job["checkpoints"] = {"unsynced_every_steps": 1, "every_steps": 2}
        each.write()
    async with serving(made, keep_serving=False) as (network, tasks, start):

        class Restart(Callback):
            restarted = False

            def on_step(self, step):
                if step.step == 2 and not self.restarted:
                    self.restarted = True
                    kept = made.path(CLINIC, "checkpoints") / "job.clinic.accepted.json"
                    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
                    tasks[CLINIC].cancel()
                    tasks[CLINIC].add_done_callback(lambda _: start(CLINIC))

        outcome = await lead(made, network, callbacks=(Restart(),))
        assert len(outcome.recoveries) == 1
        async with asyncio.timeout(SECONDS):
            assert [await tasks[name] for name in made.names] == [None, None]
        start(CLINIC)  # once more: it knows the run, of whose end the coordinator may not have told it
        async with AsyncExitStack() as stack:
            client = await network.control(stack, CLINIC, None)
            await client.wait_ready(SECONDS)
            job = Offers(made).of().job
            assert await client.release(m.Release(job, outcome.run, 1), SECONDS) == m.Released(CLINIC)
    ended = await run_here(still)
    assert set(ended.errors.values()) == {None}
    assert differing(made.everything_saved(), still.everything_saved()) == []


def shown(federation, *arguments):
    result = CliRunner().invoke(app, ["runs", "--party", str(federation.path(CLINIC)), *arguments])
    assert result.exit_code == 0, result.output
    return result.output


async def test_a_party_records_its_runs_and_shows_them_as_a_coordinator_does(tmp_path):
    made = federation_in(tmp_path, {"seed": {"max": 20}, "training.batch_size": True}).write()
    async with serving(made) as (network, _, _):
        with pytest.raises(RemoteError, match="beyond what it accepts"):
            await lead(made, network, seed=99)
        done = await lead(made, network, seed=12)
    (record,) = json.loads(shown(made, "--json"))
    assert (record["run"], record["state"], record["job"]) == (done.run, "finished", "job")
    assert done.run in shown(made)
    text = shown(made, "show", done.run[:-3])
    assert "The run is finished" in text
    assert str(made.path(CLINIC, "model") / done.run) in "".join(text.split())
    full = json.loads(shown(made, "--json", "show", done.run))
    outcome, events = full["outcome"], {event["kind"]: event["facts"] for event in full["events"]}
    assert (outcome["rows"], outcome["steps"], outcome["test"]) == (done.rows, done.steps, {}), "clinic has no metrics"
    assert events["released"]["releases"] == released(made) > 0
    file = made.path(CLINIC, "party_runs.sqlite")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with RunStore(made.path(ACTIVE, "party_runs.sqlite")) as of_active:
        assert RunResult.from_json(of_active.outcome(done.run)).test == done.test


async def test_a_record_that_cannot_be_written_or_is_the_coordinator_s_ends_no_run(tmp_path):
    made = federation_in(tmp_path)
    made.parties[ACTIVE]["runs"] = {"database": "federation.toml"}
    made.parties[CLINIC]["runs"] = {"database": "../coordinator/runs.sqlite"}
    with captured_logs() as events:
        ended = await run_here(made.write())
    assert set(ended.errors.values()) == {None}
    reasons = [event["reason"] for event in events if "record of runs" in event["event"]]
    assert len(reasons) == 2, reasons
    with RunStore(made.path(COORDINATOR, "runs.sqlite")) as store:
        (record,) = store.runs()
        assert (record.attempt, str(record.state)) == (0, "finished")
