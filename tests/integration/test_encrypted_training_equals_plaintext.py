"""Real processes: encrypted jobs end with the weights of the plaintext one, and of themselves, bit for bit.

Parties of the plaintext job share one process.
"""

import asyncio
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pytest
import torch
from support.faults.recovering import run_here
from support.federations.federation import ACTIVE, Federation, Processes

pytestmark = pytest.mark.slow


@dataclass
class Trained:
    federation: Federation
    report: dict[str, Any]


def _federation(folder, passive):
    folder.mkdir()
    federation = Federation(folder, passive)
    federation.job["training"]["passes"] = 3 - len(passive)
    return federation


def _train(folder, passive=("clinic",)):
    federation = _federation(folder, passive)
    with Processes(federation.write()) as processes:
        return Trained(federation, processes.succeed())


def _train_in_the_clear(folder, passive=("clinic",)):
    federation = _federation(folder, passive)
    federation.job["interaction"]["protocol"] = "plaintext"
    for party in federation.parties.values():
        party["policy"]["allow_unencrypted"] = True
    ended = asyncio.run(run_here(federation.write()))
    assert ended.outcome is not None, ended.errors
    return Trained(federation, asdict(ended.outcome))


@pytest.fixture(scope="session")
def encrypted(tmp_path_factory) -> Trained:
    return _train(tmp_path_factory.mktemp("jobs") / "encrypted")


def _assert_same_model(one: Trained, other: Trained):
    for name in one.federation.names:
        first, second = one.federation.saved(name), other.federation.saved(name)
        assert first.keys() == second.keys()
        assert any(key.startswith("bottom.") for key in first)
        for key, value in first.items():
            assert torch.equal(value, second[key]), f"{name}: {key}"
    assert {key.partition(".")[0] for key in one.federation.saved(ACTIVE)} == {"bottom", "own", "top"}
    weights = one.federation.joint_weights()
    assert set(weights) == set(one.federation.names[1:])
    for name, expected in other.federation.joint_weights().items():
        np.testing.assert_array_equal(weights[name], expected)
    for what in ("history", "test", "steps", "rows"):
        assert one.report[what] == other.report[what]


def test_encrypted_and_plaintext_jobs_give_the_same_model(encrypted, tmp_path):
    plaintext = _train_in_the_clear(tmp_path / "plaintext")
    _assert_same_model(encrypted, plaintext)
    assert plaintext.federation.saved("clinic", "interaction.safetensors") == {}
    assert encrypted.report["steps"] == 4
    assert encrypted.report["test"]["auc"] > 0.7


def test_so_do_those_of_three_parties(tmp_path):
    passive = ("clinic", "insurer")
    _assert_same_model(_train(tmp_path / "encrypted", passive), _train_in_the_clear(tmp_path / "plaintext", passive))


def test_a_repeated_job_gives_the_same_model_under_other_shares(encrypted, tmp_path):
    repeated = _train(tmp_path / "repeated")
    _assert_same_model(encrypted, repeated)
    assert encrypted.report["run"] != repeated.report["run"]
    for holder in ("clinic", ACTIVE):
        shares = [t.federation.saved(holder, "interaction.safetensors")["clinic"] for t in (encrypted, repeated)]
        assert not (shares[0] == shares[1]).any()
