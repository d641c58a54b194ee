"""What users configure: frozen bottoms, parties without features, all tasks, categorical columns, both file formats."""

import json

import numpy as np
import polars as pl
import pytest
from support.federations.federation import ACTIVE, COORDINATOR, Federation, Processes
from support.federations.in_process import run_federation

from vfl.messages import Protection

OUR_MODELS = """
from torch import nn

def wide(inputs, width, units):
    return nn.Sequential(nn.Linear(inputs.numeric_width, units), nn.ReLU(), nn.Linear(units, width), nn.Tanh())
"""
CLINIC, INSURER = "clinic", "insurer"
GRADIENTS = {"encrypted": "masked_activation_gradient", "plaintext": "clear_activation_gradient"}


async def _finished(federation):
    run = await run_federation(federation.write())
    assert set(run.errors.values()) == {None}, run.errors
    return run


@pytest.mark.parametrize("protocol", GRADIENTS)
async def test_no_gradient_crosses_to_a_frozen_bottom(tmp_path, protocol):
    federation = Federation(tmp_path, (CLINIC, INSURER))
    federation.job["interaction"]["protocol"] = protocol
    federation.job["model"]["widths"][CLINIC] = 3
    federation.job["model"]["trainable"] = [INSURER]
    federation.parties[CLINIC]["bottom"] = {"kind": "identity"}
    for party in federation.parties.values():
        party["policy"]["allow_unencrypted"] = True
    run = await _finished(federation)
    assert GRADIENTS[protocol] in run.kinds(ACTIVE, INSURER)
    assert GRADIENTS[protocol] not in run.kinds(ACTIVE, CLINIC)
    assert ("masked_gradient_product" in run.kinds(INSURER, ACTIVE)) == (protocol == "encrypted")
    assert "masked_gradient_product" not in run.kinds(CLINIC, ACTIVE)
    assert not any(key.startswith("bottom.") for key in federation.saved(CLINIC))
    assert run.outcome.test["auc"] > 0.5


async def test_nothing_is_encrypted_for_gradients_when_all_bottoms_are_frozen(federation):
    federation.job["model"]["widths"][CLINIC] = 3
    federation.job["model"]["trainable"] = []
    federation.job["training"]["method"] = "joint"
    federation.parties[CLINIC]["bottom"] = {"kind": "identity"}
    run = await _finished(federation)
    assert "masked_activation_gradient" not in run.kinds(ACTIVE, CLINIC)
    assert "encrypted_gradient_blocks" in run.kinds(ACTIVE, CLINIC)
    assert "encrypted_gradient_rows" not in run.kinds(ACTIVE, CLINIC)


async def test_an_encrypted_job_sends_the_messages_of_the_encrypted_protocol_only(federation):
    run = await _finished(federation)
    assert not any(message.protection is Protection.CLEAR for _, _, message in run.sent)
    before_training = {"public_keys", "id_count", "blinded_id_list", "common_ids"}
    gradients = {
        "gradient_commitment",
        "encrypted_gradient_rows",
        "masked_activation_gradient",
    }  # so small a batch shares one packing
    to_clinic = gradients | {"masked_activation_product", "common_id_count", "best_pass_state"}
    assert run.kinds(ACTIVE, CLINIC) == before_training | to_clinic
    products = {"masked_gradient_product", "masked_weight_gradient"}
    to_bank = {"weight_share_offer", "fully_blinded_id_list", "encrypted_activations", "forward_share"} | products
    assert run.kinds(CLINIC, ACTIVE) == before_training | to_bank


@pytest.mark.parametrize("table_has_features", [True, False])
async def test_an_active_party_without_own_features(federation, table_has_features):
    federation.job["model"]["widths"][ACTIVE] = 0
    if not table_has_features:
        federation.tables[ACTIVE] = federation.tables[ACTIVE].select("id", "defaulted")
    run = await _finished(federation)
    assert not any(key.startswith("bottom.") for key in federation.saved(ACTIVE))
    assert run.outcome.test["auc"] > 0.5


async def test_categorical_columns_with_missing_values_in_parquet(federation):
    table = federation.tables[CLINIC]
    rng = np.random.default_rng(1)
    city = rng.choice(np.array(["bonn", "köln", None], dtype=object), table.height)
    known = pl.Series("clinic_x0", [None, *table["clinic_x0"][1:]])
    federation.tables[CLINIC] = table.with_columns(known, pl.Series("city", city.tolist(), dtype=pl.String))
    federation.parties[CLINIC]["data"]["path"] = "table.parquet"
    await _finished(federation)
    (job,) = federation.path(CLINIC, "model").iterdir()
    fitted = json.loads((job / "preprocessing.json").read_text(encoding="utf-8"))
    assert [column["categories"] for column in fitted["categorical"]] == [["bonn", "köln"]]
    assert any("embeddings" in key for key in federation.saved(CLINIC))


def _score(federation):
    joined = federation.tables[ACTIVE].drop("defaulted").join(federation.tables[CLINIC], on="id", maintain_order="left")
    return joined.select(pl.sum_horizontal(pl.exclude("id"))).to_series()


async def test_multiclass(federation):
    score = _score(federation)
    federation.tables[ACTIVE] = federation.tables[ACTIVE].with_columns(
        defaulted=10 * ((score > -1).cast(pl.Int64) + (score > 1).cast(pl.Int64))
    )
    federation.job["task"] = {"kind": "multiclass", "classes": 3}
    run = await _finished(federation)
    assert set(run.outcome.test) >= {"accuracy", "macro_auc", "log_loss"}
    (job,) = federation.path(ACTIVE, "model").iterdir()
    assert json.loads((job / "labels.json").read_text(encoding="utf-8"))["values"] == [0, 10, 20]


async def test_regression(federation):
    federation.tables[ACTIVE] = federation.tables[ACTIVE].with_columns(defaulted=1000 + 50 * _score(federation))
    federation.job["task"] = {"kind": "regression"}
    federation.job["training"]["passes"] = 4
    run = await _finished(federation)
    assert set(run.outcome.test) >= {"rmse", "mae", "r2"}
    assert 0 < run.outcome.test["r2"] <= 1
    assert run.outcome.history[-1]["loss"] < run.outcome.history[0]["loss"]


@pytest.mark.slow
def test_a_bottom_of_the_users_own_beside_real_processes(federation, tmp_path):
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "our_models.py").write_text(OUR_MODELS)
    federation.parties[CLINIC]["bottom"] = {
        "kind": "custom",
        "factory": "our_models:wide",
        "options": {"units": 12},
    }
    with Processes(federation.write(), pythonpath=tmp_path / "python") as processes:
        report = processes.succeed()
        assert "our_models" not in processes.output(COORDINATOR) + processes.output(ACTIVE)
    assert federation.saved(CLINIC)["bottom.module.0.weight"].shape == (12, 3)
    assert report["training_bytes_sent"].keys() == {ACTIVE, CLINIC}
