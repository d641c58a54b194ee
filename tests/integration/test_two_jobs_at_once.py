"""Two jobs over the same party processes, at the same time: each as if it were alone."""

import asyncio
import copy
import shutil

import pytest
import tomli_w
from support.faults.recovering import run_here
from support.federations.federation import COORDINATOR, Federation, Processes, differing

pytestmark = pytest.mark.slow

EPOCHS = 8


def two_jobs(folder):
    """A federation whose parties have two party files each: ``party.toml`` and ``other.toml``, for different jobs."""
    federation = Federation(folder)
    federation.job["training"]["passes"] = EPOCHS
    other = copy.deepcopy(federation.job) | {"name": "other", "seed": 12}
    other["training"]["passes"] = 2
    other["model"]["interaction_width"] = 3
    federation.write()
    for name in (*federation.names, COORDINATOR):
        federation.path(name, "other_job.toml").write_text(tomli_w.dumps(other), encoding="utf-8")
    for name in federation.names:
        file = federation.path(name).read_text(encoding="utf-8")
        file = file.replace('job = "job.toml"', 'job = "other_job.toml"').replace('"model"', '"other_model"')
        federation.path(name, "other.toml").write_text(file, encoding="utf-8")
    return federation


def test_two_jobs_at_once_give_the_weights_that_each_gives_alone(tmp_path):
    federation = two_jobs(tmp_path)
    kinds = (("party.toml", "job.toml", "model"), ("other.toml", "other_job.toml", "other_model"))
    expected = {}
    for file, job, output in kinds:
        ended = asyncio.run(run_here(federation, party_file=file, job_file=job))
        assert set(ended.errors.values()) == {None}
        expected[output] = federation.everything_saved(output)
        for name in federation.names:
            shutil.rmtree(federation.path(name, output))
    with Processes(federation) as processes:
        for name in federation.names:
            processes.start_command(name, "party", "party.toml", "other.toml")
        processes.start_command(COORDINATOR, "run", "job.toml", "--report", "outcome.json")
        processes.start_command("second coordinator", "run", "other_job.toml", at=COORDINATOR)
        processes.wait_for("second coordinator", "epoch 1/")  # while the first one, of many more epochs, still trains
        assert f"epoch {EPOCHS}/" not in processes.output(COORDINATOR)
        assert set(processes.wait().values()) == {0}
        for name in federation.names:
            _assert_every_line_names_its_job(processes.output(name))
        last = processes.output(COORDINATOR).splitlines()[-1]
        assert last.startswith(f"each party has its part of the model; report: {federation.path(COORDINATOR)}"[:-10])
        assert f"record: {federation.path(COORDINATOR, 'runs.sqlite')}" in last
    for _, _, output in kinds:
        assert differing(federation.everything_saved(output), expected[output]) == []


def _assert_every_line_names_its_job(output):
    """After the first lines, which are about the process."""
    _, _, after = output.partition("waiting for the coordinator")
    lines = [line for line in after.splitlines()[1:] if "dropped an early message" not in line]
    assert len(lines) > 20
    assert [line for line in lines if "job=job" not in line and "job=other" not in line] == []
    for job, passes in (("job", EPOCHS), ("other", 2)):
        own = [line for line in lines if f"job={job}" in line]
        assert all(any(f"epoch {at}/{passes} " in line for line in own) for at in range(1, passes + 1))
        assert any("run finished" in line and "audit_log=" in line for line in own)
        assert [line for line in own if "] scored " in line and "=0." not in line] == []


@pytest.mark.parametrize(("key", "value"), [("name", '"clinic"'), ("threads", "2")])
def test_files_of_different_processes_are_refused(tmp_path, key, value):
    federation = two_jobs(tmp_path)
    path = federation.path("bank", "other.toml")
    lines = [f"{key} = {value}" if line.startswith(f"{key} =") else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines), encoding="utf-8")
    with Processes(federation) as processes:
        processes.start_command("bank", "party", "party.toml", "other.toml")
        assert processes.wait() == {"bank": 2}
        assert f"they differ in {key}" in processes.output("bank")
