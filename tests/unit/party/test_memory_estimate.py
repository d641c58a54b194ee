"""The memory that a job may need is known before it starts, and may be refused."""

import pytest
import tomli_w
from support.federations.federation import ACTIVE, COORDINATOR, Federation, Processes
from support.federations.in_process import run_federation

from vfl.errors import PolicyRefusal
from vfl.job.policy import PolicyConfig
from vfl.party.config import load_party
from vfl.party.memory_estimate import estimated_peak

CLINIC = "clinic"


def estimate(federation, name=CLINIC, table_bytes=0):
    setup = load_party(federation.path(name))
    return estimated_peak(setup, table_bytes, setup.job.model.widths)


WIDE = {ACTIVE: 4, CLINIC: 64}


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [("training", "batch_size", 4096), ("model", "widths", WIDE), ("model", "interaction_width", 64)],
)
def test_larger_jobs_need_more(federation, table, key, value):
    federation.job["training"]["evaluation_batch_size"] = 64
    small = estimate(federation.write())
    federation.job[table][key] = value
    federation.path(CLINIC, "job.toml").write_text(tomli_w.dumps(federation.job), encoding="utf-8")
    assert estimate(federation) > small
    assert estimate(federation, table_bytes=10**6) == estimate(federation) + 4 * 10**6


def test_a_job_above_the_ceiling_is_refused_with_both_numbers():
    policy = PolicyConfig(max_memory_mb=700)
    policy.check_memory(700 * 10**6)
    with pytest.raises(PolicyRefusal, match="may need 701 MB of memory, more than 700"):
        policy.check_memory(700 * 10**6 + 1)


@pytest.mark.slow
def test_a_process_stays_below_its_estimate_and_one_that_has_less_refuses_the_job(federation):
    federation.job["training"]["passes"] = 1
    with Processes(federation.write(), preloaded=False) as processes:
        outcome = processes.succeed()
    for name in federation.names:
        assert outcome["peak_memory"][name] < estimate(federation, name, table_bytes=10**5)
    file = federation.path(CLINIC)
    content = file.read_text(encoding="utf-8").replace("[policy]", "[policy]\nmax_memory_mb = 300")
    file.write_text(content, encoding="utf-8")
    with Processes(federation) as processes:
        processes.start()
        codes = processes.wait()
    assert (codes[CLINIC], codes[COORDINATOR]) == (8, 16)
    assert "may need" in processes.output(ACTIVE)


async def test_memory_is_checked_again_when_the_widths_of_bottoms_are_known(tmp_path):
    """The widths of encodings follow from tables, so the first estimate assumes the default."""
    federation = Federation(tmp_path, rows=400)
    federation.job |= {"model": {}, "interaction": {}, "training": {"evaluation_batch_size": 65536}}
    for party in federation.parties.values():
        party.pop("bottom", None)
    federation.write()
    setup = load_party(federation.path(CLINIC))
    table_bytes = setup.load_table().bytes
    assumed, known = (
        -(-estimated_peak(setup, table_bytes, widths) // 10**6) for widths in ({}, {ACTIVE: 64, CLINIC: 24})
    )
    assert known > assumed
    party = federation.path(CLINIC)
    party.write_text(party.read_text().replace("[policy]", f"[policy]\nmax_memory_mb = {assumed}"))
    run = await run_federation(federation)
    assert "MB of memory, more than" in run.errors[CLINIC].summary
    assert not any(message.kind == "encrypted_activations" for _, _, message in run.sent)
