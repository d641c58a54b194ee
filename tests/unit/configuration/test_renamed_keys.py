"""Keys of an earlier version are refused with their new names, all at once."""

import pytest
import tomli_w
from support.federations.federation import COORDINATOR, Federation

from vfl.errors import ConfigError
from vfl.job.config import JobConfig
from vfl.job.setup import load_job
from vfl.party.config import load_party


@pytest.mark.parametrize("old", list(JobConfig.renamed))
def test_a_renamed_key_of_a_job_is_refused_with_its_new_name(tmp_path, old):
    federation = Federation(tmp_path)
    key, _, value = old.partition(" = ")
    table, _, name = key.partition(".")
    federation.job.setdefault(table, {})[name] = value.strip('"') or 8.0
    path = federation.write().path(COORDINATOR, "job.toml")
    with pytest.raises(ConfigError) as raised:
        load_job(path)
    assert f"{old} is now {JobConfig.renamed[old]}" in raised.value.remedy
    assert str(path) in raised.value.detail


def test_several_are_named_together(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(tomli_w.dumps({"deadlines": {"silence": 8, "absence": 600}}), encoding="utf-8")
    with pytest.raises(ConfigError, match="2 key") as raised:
        load_job(path)
    assert "deadlines.silence is now timeouts.heartbeat; deadlines.absence is now timeouts.reconnect" in str(
        raised.value
    )


def test_a_renamed_key_of_a_party(tmp_path):
    federation = Federation(tmp_path)
    federation.parties["clinic"]["optimiser"] = {"name": "sgd"}
    with pytest.raises(ConfigError, match="earlier version") as raised:
        load_party(federation.write().path("clinic"))
    assert raised.value.remedy == "optimiser is now optimizer"
