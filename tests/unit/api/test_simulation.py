"""A whole federation in this process: what it gives, what it leaves alone, and how it fails."""

import asyncio
import logging
import os
import signal
import threading

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

import vfl
from vfl.errors import CallbackError, ConfigError, DataError, ModelError, PolicyRefusal
from vfl.ids import Split


def weights(folder):
    """Bottom, top and own weights of every party, by file and name; shares differ from run to run."""
    found = {}
    for file in sorted(folder.rglob("model.safetensors")):
        party = file.relative_to(folder).parts[0]
        found |= {f"{party}: {name}": value for name, value in load_file(file).items()}
    return found


def test_a_simulation_trains_and_says_what_it_measured(parties, job, tmp_path):
    bank, telco = parties()
    run = vfl.simulate(job, active=bank, passive=[telco], output=tmp_path)
    assert run.rows == 240
    assert [record["epoch"] for record in run.history] == [1.0, 2.0]
    assert {"loss", "validation_auc"} <= run.history[0].keys()
    assert 0.5 < run.test["auc"] <= 1
    assert set(run.bytes_sent) == {"bank", "telco"}
    assert all(sent > 1e6 for sent in run.bytes_sent.values()), "ciphertexts are large"
    assert run.name.startswith("credit-")
    assert run.recoveries == []
    assert "rows=240" in repr(run)
    assert (tmp_path / "telco" / "audit").is_dir()


def test_the_same_simulation_gives_the_same_weights_also_in_a_thread_and_in_a_loop(parties, job, tmp_path):
    def simulate(name):
        bank, telco = parties()
        vfl.simulate(job, active=bank, passive=[telco], output=tmp_path / name)

    async def in_a_loop():
        simulate("loop")  # as in a notebook, whose cells run inside a loop

    simulate("first")
    simulate("second")
    thread = threading.Thread(target=simulate, args=("thread",), daemon=True)
    thread.start()
    thread.join()
    asyncio.run(in_a_loop())
    first = weights(tmp_path / "first")
    assert first
    for name in ("second", "thread", "loop"):
        other = weights(tmp_path / name)
        assert first.keys() == other.keys()
        assert all(first[key].tobytes() == other[key].tobytes() for key in first), name


async def test_two_at_once_do_not_disturb_each_other(parties, job, tmp_path):
    async def simulate(name):
        bank, telco = parties()
        await vfl.simulate_async(job, active=bank, passive=[telco], output=tmp_path / name)

    await simulate("alone")
    await asyncio.gather(simulate("a"), simulate("b"))
    alone = weights(tmp_path / "alone")
    for name in ("a", "b"):
        assert all(alone[key].tobytes() == value.tobytes() for key, value in weights(tmp_path / name).items())


def test_another_seed_gives_other_weights(parties, job, tmp_path):
    bank, telco = parties()
    vfl.simulate(job, active=bank, passive=[telco], output=tmp_path / "a")
    other = vfl.Job("credit", task="binary", seed=4, widths=4, model={"interaction_width": 4, "top": {"hidden": [8]}},
                    training={"method": "joint", "passes": 2, "batch_size": 64},
                    split={"validation": 0.1, "test": 0.2})  # fmt: skip
    vfl.simulate(other, active=bank, passive=[telco], output=tmp_path / "b")
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert any(a[key].tobytes() != b[key].tobytes() for key in a)


def test_the_host_program_is_left_as_it_was(parties, job, capsys):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    before = (torch.get_num_threads(), dict(os.environ), signal.getsignal(signal.SIGINT), logging.getLogger().handlers)
    bank, telco = parties(model_threads=2)
    vfl.simulate(job, active=bank, passive=[telco])
    after = (torch.get_num_threads(), dict(os.environ), signal.getsignal(signal.SIGINT), logging.getLogger().handlers)
    assert before == after
    assert torch.equal(torch.get_rng_state(), state)
    assert capsys.readouterr() == ("", "")
    assert not [thread.name for thread in threading.enumerate() if thread.name == "idle-work"]


class Bottom(nn.Sequential):
    def __init__(self, inputs: vfl.BottomInputs, width: int) -> None:
        super().__init__(nn.Linear(inputs.numeric_width, width), nn.Tanh())
        self.inputs = inputs

    def forward(self, numeric, categorical):
        return super().forward(numeric)


@pytest.mark.parametrize("bottom", [Bottom, lambda inputs, width: Bottom(inputs, width), "identity"])
def test_a_bottom_is_a_class_a_callable_or_a_name(frames, job, bottom):
    numeric = frames["telco"].drop("plan")
    if bottom == "identity":
        job = vfl.Job("credit", task="binary", widths={"bank": 4, "telco": 1}, training={"passes": 1})
    else:
        numeric = frames["telco"]
    label = vfl.Table(frames["bank"], id="id", label="default")
    bank = vfl.Party("bank", label, policy={"allow_trainable": ["telco"]})
    telco = vfl.Party("telco", vfl.Table(numeric, id="id"), bottom=bottom)
    run = vfl.simulate(job, active=bank, passive=[telco])
    assert run.test
    assert len(run.model.predict({"bank": bank.table, "telco": telco.table})) == 240


class Tied(nn.Module):
    def __init__(self, inputs: vfl.BottomInputs, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs.numeric_width, width)
        self.second = self.first

    def forward(self, numeric, categorical):
        return torch.tanh(self.first(numeric))


def test_a_bottom_that_uses_a_layer_twice_is_saved(parties, job):
    bank, telco = parties(bottom=Tied)
    run = vfl.simulate(job, active=bank, passive=[telco])
    assert len(run.model.predict({"bank": bank.table, "telco": telco.table})) == 240


def test_encodings_are_fitted_in_a_run_and_saved_with_the_model(frames, tmp_path):
    job = vfl.Job("credit", task="binary", widths={"bank": 4}, training={"passes": 2, "local_epochs": 2})
    bank = vfl.Party("bank", vfl.Table(frames["bank"], id="id", label="default"))
    telco = vfl.Party("telco", vfl.Table(frames["telco"], id="id"))
    run = vfl.simulate(job, active=bank, passive=[telco], output=tmp_path)
    tables = {"bank": bank.table, "telco": telco.table}
    folders = {name: next((tmp_path / name).rglob("model.json")).parent for name in tables}
    loaded = vfl.JointModel.load(folders)
    np.testing.assert_array_equal(loaded.predict_proba(tables), run.model.predict_proba(tables))


def test_an_active_party_may_have_labels_only(frames, job):
    bank = vfl.Party("bank", vfl.Table(frames["bank"].select("id", "default"), id="id", label="default"))
    telco = vfl.Party("telco", vfl.Table(frames["telco"], id="id"))
    run = vfl.simulate(job, active=bank, passive=[telco])
    proba = run.model.predict_proba({"bank": bank.table, "telco": telco.table})
    assert proba.shape == (240, 2)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)


def test_three_parties(frames, job):
    telco = frames["telco"]
    shop = telco.select("id", pl.col("calls").alias("baskets"))
    parties = [vfl.Party(name, vfl.Table(frame, id="id")) for name, frame in (("telco", telco), ("shop", shop))]
    run = vfl.simulate(
        job, active=vfl.Party("bank", vfl.Table(frames["bank"], id="id", label="default")), passive=parties
    )
    assert set(run.bytes_sent) == {"bank", "telco", "shop"}


# --- callbacks ---


class Recorder(vfl.Callback):
    def __init__(self):
        self.seen = []

    def on_ready(self, ready):
        self.seen.append(ready)

    def on_step(self, step):
        self.seen.append(step)

    def on_epoch(self, epoch):
        self.seen.append(epoch)

    def on_evaluation(self, evaluation):
        self.seen.append(evaluation)

    def on_checkpoint(self, checkpoint):
        self.seen.append(checkpoint)

    def of(self, kind):
        return [event for event in self.seen if isinstance(event, kind)]


def test_callbacks_at_the_coordinator_and_at_each_party_see_the_run(parties, job):
    bank, telco = parties()
    recorders = {name: Recorder() for name in ("coordinator", "bank", "telco")}
    vfl.simulate(
        job,
        active=bank,
        passive=[telco],
        callbacks=[recorders["coordinator"]],
        party_callbacks={name: [recorders[name]] for name in ("bank", "telco")},
    )
    for name, recorder in recorders.items():
        (ready,) = recorder.of(vfl.Ready)
        assert (ready.rows, ready.steps_per_epoch, ready.gradient_receivers) == (240, 3, ("telco",)), name
        steps = recorder.of(vfl.Step)
        assert [step.step for step in steps] == [1, 2, 3, 5, 6, 7], name
        assert [step.batch.epoch for step in steps] == [0, 0, 0, 1, 1, 1]
        assert sum(step.rows for step in steps) == 2 * ready.train_rows
        assert all(step.bytes_sent > 0 and step.seconds > 0 for step in steps)
        assert [epoch.epoch for epoch in recorder.of(vfl.Epoch)] == [0, 1], name
        assert recorder.of(vfl.CheckpointDone)
    assert all(step.loss is not None for name in ("coordinator", "bank") for step in recorders[name].of(vfl.Step))
    assert all(step.loss is None for step in recorders["telco"].of(vfl.Step)), "it does not know the loss"
    scored = [(event.split, set(event.metrics)) for event in recorders["bank"].of(vfl.EvaluationDone)]
    assert [split for split, _ in scored] == [Split.VALIDATION, Split.VALIDATION, Split.TEST]
    assert "auc" in scored[0][1]
    coordinator = recorders["coordinator"].of(vfl.EvaluationDone)
    assert [event.split for event in coordinator] == [Split.VALIDATION, Split.VALIDATION, Split.TEST]


class Failing(vfl.Callback):
    def on_step(self, step):
        raise KeyError("a value of the table")


@pytest.mark.parametrize("at", ["coordinator", "telco"])
def test_an_exception_in_a_callback_ends_the_run_and_says_which(parties, job, at):
    bank, telco = parties()
    options = {"callbacks": [Failing()]} if at == "coordinator" else {"party_callbacks": {at: [Failing()]}}
    with pytest.raises(CallbackError, match="a callback failed") as raised:
        vfl.simulate(job, active=bank, passive=[telco], **options)
    assert "Failing.on_step" in raised.value.detail
    assert "a value" not in raised.value.summary


# --- what fails ---


def test_an_error_at_a_party_is_raised_in_full(parties, job, frames):
    bank, _ = parties()
    repeated = vfl.Party("telco", vfl.Table(pl.concat([frames["telco"], frames["telco"][:3]]), id="id"))
    with pytest.raises(DataError, match="the id column has repeated values") as raised:
        vfl.simulate(job, active=bank, passive=[repeated])
    assert "<table in memory>" in raised.value.detail


def test_policies_hold_in_a_simulation_too(parties, job):
    bank, telco = parties(policy={"min_aligned_rows": 1000})
    with pytest.raises(PolicyRefusal, match="fewer than 1000") as raised:
        vfl.simulate(job, active=bank, passive=[telco])
    assert raised.value.__notes__ == ["this party is 'telco'"]


def test_a_width_of_a_party_that_takes_no_part_is_refused(parties):
    bank, telco = parties()
    with pytest.raises(ConfigError, match="names tlco") as raised:
        vfl.simulate(vfl.Job("credit", task="binary", widths={"tlco": 4}), active=bank, passive=[telco])
    assert raised.value.remedy == "state widths by party: bank, telco"


def test_a_bottom_that_breaks_its_contract_names_its_party(parties, job):
    bank, telco = parties(bottom=lambda inputs, width: nn.Linear(3, 3))
    with pytest.raises(
        ModelError, match=r"(?s)takes 2 positional arguments.*\(rows, numeric columns\) floats"
    ) as raised:
        vfl.simulate(job, active=bank, passive=[telco])
    assert "'telco'" in "".join(raised.value.__notes__)


def test_a_job_that_is_wrong_is_refused_when_it_is_made():
    with pytest.raises(ConfigError, match="job 'credit'"):
        vfl.Job("credit", task="binary", training={"passes": 0})
    with pytest.raises(ConfigError) as raised:
        vfl.Job("credit", task="binary", timeouts={"silence": 8})
    assert "timeouts.silence: unknown key" in str(raised.value)
    with pytest.raises(ConfigError, match="a multiclass task needs 'classes'"):
        vfl.Job("credit", task="multiclass")


def test_a_width_that_is_not_stated_is_the_default_or_follows_from_the_table(parties):
    job = vfl.Job("credit", task="binary", widths=4)
    for bottom, widths in (("mlp", {"bank": 4, "telco": 4}), (None, {"bank": 4})):
        bank, telco = parties(bottom=bottom)
        assert job.content(bank, [telco])["model"]["widths"] == widths
    named = vfl.Job("credit", task="binary", widths={"bank": 4})
    assert named.content(bank, [telco])["model"]["widths"] == {"bank": 4}


def test_a_width_that_a_bottom_does_not_have_is_refused(parties):
    bank, telco = parties(bottom=None)
    job = vfl.Job("credit", task="binary", widths={"bank": 4, "telco": 4})
    with pytest.raises(ConfigError, match="the bottom of party 'telco' has width 9, and the job states 4") as raised:
        vfl.simulate(job, active=bank, passive=[telco])
    assert "remove 'telco' from model.widths" in raised.value.remedy


def test_an_active_party_that_allows_no_trainable_bottom_refuses_one(parties, job, frames):
    _, telco = parties()
    bank = vfl.Party("bank", vfl.Table(frames["bank"], id="id", label="default"))
    with pytest.raises(PolicyRefusal, match="trains the bottom of telco, whose gradients tell labels"):
        vfl.simulate(job, active=bank, passive=[telco])


@pytest.mark.parametrize(
    ("bottom", "declared", "says"),
    [
        ("mlp", [], "the bottom of party 'telco' trains, but the job declares it frozen"),
        (None, ["telco"], "the bottom of party 'telco' is frozen, but the job declares that it trains"),
    ],
)
def test_a_bottom_that_is_not_as_the_job_declares_it_is_refused(parties, bottom, declared, says):
    bank, telco = parties(bottom=bottom)
    job = vfl.Job("credit", task="binary", model={"trainable": declared}, training={"method": "joint", "passes": 1})
    with pytest.raises(ConfigError, match=says) as raised:
        vfl.simulate(job, active=bank, passive=[telco])
    assert "'telco'" in raised.value.remedy
    assert "model.trainable" in raised.value.remedy


def test_by_default_passive_bottoms_are_frozen_and_receive_nothing(parties):
    bank, telco = parties(bottom=None)
    recorder = Recorder()
    job = vfl.Job("credit", task="binary", training={"local_epochs": 1}, split={"validation": 0.1, "test": 0.2})
    run = vfl.simulate(job, active=bank, passive=[telco], callbacks=[recorder])
    assert [ready.gradient_receivers for ready in recorder.of(vfl.Ready)] == [()]
    assert [record["epoch"] for record in run.history] == [1.0, 2.0, 3.0, 4.0, 5.0]
    metrics = [*run.test.values(), *(value for record in run.history for value in record.values())]
    assert all(value == round(value, 4) for value in run.test.values())
    assert len(metrics) > 10


def test_a_party_made_in_python_cannot_serve_before_it_has_files(parties):
    bank, _ = parties()
    with pytest.raises(ConfigError, match="has no files"):
        bank.serve()
