"""The API over real connections: what is tried in one process is what processes of their own do, bit for bit."""

import threading

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file
from support.federations.quick_processes import QuickProcesses
from torch import nn
from typer.testing import CliRunner

import vfl
from vfl.api.federation_files import COORDINATOR
from vfl.cli.main import app
from vfl.errors import CallbackError, ConfigError, DataError, RemoteError
from vfl.interact.fixed_point import center

pytestmark = pytest.mark.slow

TAU = 58
TRAINED = ("telco", "shop")


def frames(rows=240):
    rng = np.random.default_rng(7)
    ids = [f"c{number:03d}" for number in range(rows)]
    x = rng.normal(size=(rows, 5))
    label = (x @ np.array([1.0, -1.0, 2.0, -1.5, 0.5]) > 0).astype(int)
    bank = pl.DataFrame({"id": ids, "income": x[:, 0], "debt": x[:, 1], "default": label})
    telco = pl.DataFrame({"id": ids, "calls": x[:, 2], "plan": np.where(x[:, 3] > 0, "flat", "prepaid")})
    shop = pl.DataFrame({"id": ids, "baskets": x[:, 4]})
    return bank, telco.sample(fraction=1.0, shuffle=True, seed=1), shop.sample(fraction=1.0, shuffle=True, seed=2)


def make(bottom="mlp"):
    """The parties; ``bottom`` is telco's."""
    bank, telco, shop = frames()
    policy = {"allow_trainable": list(TRAINED)}
    return (
        vfl.Party("bank", vfl.Table(bank, id="id", label="default"), private_seed=b"b" * 32, policy=policy),
        vfl.Party("telco", vfl.Table(telco, id="id"), private_seed=b"t" * 32, bottom=bottom),
        vfl.Party("shop", vfl.Table(shop, id="id"), private_seed=b"s" * 32, bottom="mlp"),
    )


def make_job():
    """Joint training of all bottoms: two passes of two steps."""
    return vfl.Job(
        "credit",
        task="binary",
        seed=3,
        widths=4,
        model={"interaction_width": 4, "trainable": TRAINED, "top": {"hidden": [8]}},
        training={"passes": 2, "batch_size": 100},
        split={"validation": 0.1, "test": 0.2},
    )


def make_by_default():
    """Everything as it is by default: frozen encodings, stagewise training."""
    bank, telco, shop = frames()
    job = vfl.Job("credit", task="binary", seed=3, training={"local_epochs": 3}, split={"validation": 0.1, "test": 0.2})
    return job, (
        vfl.Party("bank", vfl.Table(bank, id="id", label="default"), private_seed=b"b" * 32),
        vfl.Party("telco", vfl.Table(telco, id="id"), private_seed=b"t" * 32),
        vfl.Party("shop", vfl.Table(shop, id="id"), private_seed=b"s" * 32),
    )


def made(kind):
    return make_by_default() if kind == "default" else (make_job(), make())


KINDS = pytest.mark.parametrize("kind", ["default", "trainable"])


def saved(folder):
    """Everything that was trained, by party and name; of the interaction the sum of the shares."""
    models, shares = {}, {}
    for party in ("bank", "telco", "shop"):
        (run,) = (folder / party / "model").iterdir()
        models |= {f"{party}: {name}": value for name, value in load_file(run / "model.safetensors").items()}
        for name, share in load_file(run / "interaction.safetensors").items():
            key = name if party == "bank" else party
            shares.setdefault(key, []).append(share)
    return models | {
        f"W of {name}": center(np.sum(parts, axis=0, dtype=np.int64), TAU) for name, parts in shares.items()
    }


@KINDS
def test_a_simulation_gives_the_weights_of_real_processes(tmp_path, kind):
    job, (bank, *passive) = made(kind)
    run = vfl.simulate(job, active=bank, passive=passive, output=tmp_path / "simulated")
    files = vfl.write_federation(tmp_path / "real", job, active=bank, passive=passive)
    with QuickProcesses(files) as processes:
        processes.start(*files.parties)
        processes.start_coordinator()
        codes = processes.wait_for_all()
        assert set(codes.values()) == {0}, processes.tails()
    simulated, real = saved(tmp_path / "simulated"), saved(tmp_path / "real")
    assert simulated.keys() == real.keys()
    assert {"W of telco", "W of shop"} <= real.keys()
    assert [name for name in real if simulated[name].tobytes() != real[name].tobytes()] == []
    (recorded,) = vfl.runs(tmp_path / "real" / COORDINATOR / "runs.sqlite")
    assert recorded.test == run.test
    assert recorded.history == run.history


class Slow(nn.Module):
    """Named in this module, so that another process could import it."""

    def __init__(self, inputs, width):
        super().__init__()
        self.layer = nn.Linear(inputs.numeric_width, width)

    def forward(self, numeric, categorical):
        return self.layer(numeric).tanh()


class Steps(vfl.Callback):
    def __init__(self):
        self.steps, self.evaluated = [], []

    def on_step(self, step):
        self.steps.append(step.step)

    def on_evaluation(self, evaluation):
        self.evaluated.append(str(evaluation.split))


def serve(path, errors, **options):
    def work():
        try:
            vfl.Party.from_toml(path, bottom=options.pop("bottom", None)).serve(**options)
        except vfl.VflError as error:
            errors[path.parent.name] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_host_programs_serve_their_parties_and_coordinate_with_their_own_bottoms_and_callbacks(tmp_path):
    bank, *passive = make()
    files = vfl.write_federation(tmp_path, make_job(), active=bank, passive=passive)
    errors, coordinator, telco = {}, Steps(), Steps()
    threads = [
        serve(files.party("bank"), errors),
        serve(files.party("telco"), errors, bottom=Slow, callbacks=[telco]),
        serve(files.party("shop"), errors),
    ]
    run = vfl.train(files.job, coordinator=files.coordinator, callbacks=[coordinator])
    for thread in threads:
        thread.join()
    assert errors == {}
    assert 0 <= run.test["auc"] <= 1
    assert run.model is None, "each party keeps its part"
    assert coordinator.steps == telco.steps != []
    assert coordinator.evaluated == ["validation", "validation", "test"]
    assert [recorded.name for recorded in vfl.runs(tmp_path / COORDINATOR / "runs.sqlite")] == [run.name]


def test_written_files_are_valid_wherever_their_folder_is_moved(tmp_path):
    bank, *passive = make()
    vfl.write_federation(tmp_path / "here", make_job(), active=bank, passive=passive)
    (tmp_path / "here").rename(tmp_path / "there")
    names = ["bank", *(party.name for party in passive)]
    files = [*(f"{name}/party.toml" for name in names), f"{COORDINATOR}/coordinator.toml"]
    result = CliRunner().invoke(app, ["check", *(str(tmp_path / "there" / file) for file in files)])
    assert result.exit_code == 0, result.output


def test_an_error_at_a_party_is_raised_there_in_full_and_elsewhere_in_summary(tmp_path):
    bank, *passive = make()
    files = vfl.write_federation(tmp_path, make_job(), active=bank, passive=passive)
    (tmp_path / "telco" / "table.parquet").unlink()
    errors = {}
    threads = [serve(files.party(name), errors) for name in files.parties]
    with pytest.raises(RemoteError, match="telco: the configured table does not exist") as raised:
        vfl.train(files.job, coordinator=files.coordinator)
    for thread in threads:
        thread.join()
    assert str(tmp_path) not in str(raised.value)
    assert isinstance(errors["telco"], DataError)
    assert str(tmp_path) in errors["telco"].detail
    assert "telco: the configured table does not exist" in errors["bank"].summary


@KINDS
def test_a_run_that_was_stopped_by_its_operator_is_resumed(tmp_path, kind):
    job, (bank, *passive) = made(kind)
    files = vfl.write_federation(tmp_path / "resumed", job, active=bank, passive=passive)

    class StopAt(vfl.Callback):
        def on_step(self, step):
            if step.batch.epoch == 1:
                raise RuntimeError("enough for now")

    def train(callbacks):
        threads = [serve(files.party(name), {}) for name in files.parties]
        try:
            return vfl.train(files.job, coordinator=files.coordinator, resume=True, callbacks=callbacks)
        finally:
            for thread in threads:
                thread.join()

    with pytest.raises(CallbackError, match="a callback failed"):
        train([StopAt()])
    run = train([])
    assert len(run.history) == {"default": 2 * (1 + 1) + 3, "trainable": 2}[kind]
    vfl.simulate(job, active=bank, passive=passive, output=tmp_path / "simulated")
    resumed, simulated = saved(tmp_path / "resumed"), saved(tmp_path / "simulated")
    assert [name for name in simulated if simulated[name].tobytes() != resumed[name].tobytes()] == []


def test_a_bottom_that_no_other_process_can_find_is_not_written(tmp_path):
    bank, *passive = make(bottom=lambda inputs, width: Slow(inputs, width))
    with pytest.raises(ConfigError, match="bottom model of party 'telco' cannot be found by another process"):
        vfl.write_federation(tmp_path, make_job(), active=bank, passive=passive)


def test_a_bottom_that_has_a_name_is_written_as_one(tmp_path):
    bank, *passive = make(bottom=Slow)
    files = vfl.write_federation(tmp_path, make_job(), active=bank, passive=passive)
    assert f"{Slow.__module__}:Slow" in files.party("telco").read_text(encoding="utf-8")
