import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.federations.federation import Federation

from vfl.configuration.federation import FederationConfig, load_federation
from vfl.errors import ConfigError, MismatchError, ParameterError
from vfl.job.config import JobConfig
from vfl.job.digests import check_digest, job_digest, training_statement
from vfl.job.setup import check_widths, load_job, load_job_setup
from vfl.party.config import load_party


def _job(changes=None, table=None) -> JobConfig:
    content = {
        "name": "job",
        "seed": 1,
        "task": {"kind": "binary"},
        "model": {"widths": {"bank": 4, "clinic": 4}},
    }
    if table is None:
        content |= changes or {}
    else:
        content[table] = {**content.get(table, {}), **changes}
    return JobConfig.model_validate(content)


def _federation(**changes) -> FederationConfig:
    parties = [
        {"name": "bank", "role": "active", "endpoint": "127.0.0.1:5001"},
        {"name": "clinic", "role": "passive", "endpoint": "127.0.0.1:5002"},
    ]
    return FederationConfig.model_validate(
        {"name": "test", "coordinator": "coordinator", "parties": parties, **changes}
    )


DIFFERENCES = {
    "name": ({"name": "other"}, None),
    "seed": ({"seed": 2}, None),
    "task": ({"kind": "regression"}, "task"),
    "model": ({"widths": {"bank": 4, "clinic": 5}}, "model"),
    "ids": ({"case": "lower"}, "ids"),
    "training": ({"batch_size": 255}, "training"),
    "interaction": ({"learning_rate": 0.25}, "interaction"),
    "privacy": ({"z_noise": 0.25}, "privacy"),
    "split": ({"test": 0.2}, "split"),
    "ring": ({"gradient_bits": 11}, "ring"),
    "timeouts": ({"progress": 5.0}, "timeouts"),
    "checkpoints": ({"every_steps": 7}, "checkpoints"),
}


def test_every_table_of_the_job_is_part_of_the_digest():
    assert DIFFERENCES.keys() == JobConfig.model_fields.keys() - {"federation"}


@pytest.mark.parametrize("table", DIFFERENCES)
def test_a_difference_is_named_by_its_table(table):
    own, theirs = (job_digest(job, _federation()) for job in (_job(), _job(*DIFFERENCES[table])))
    with pytest.raises(MismatchError) as raised:
        check_digest(own, theirs)
    assert raised.value.summary.endswith(f"differs from the coordinator's in: {table}")
    assert "same job.toml" in raised.value.remedy


def test_another_federation_is_a_difference():
    own, theirs = job_digest(_job(), _federation()), job_digest(_job(), _federation(coordinator="hub"))
    with pytest.raises(MismatchError, match="in: federation"):
        check_digest(own, theirs)


def test_where_the_files_lie_is_no_difference(tmp_path):
    first, second = (Federation(tmp_path / name) for name in ("first", "second"))
    second.federation = copy.deepcopy(first.federation)
    for federation in (first, second):
        federation.folder.mkdir()
        federation.write()
    setups = [load_party(first.path("bank")), load_party(second.path("clinic"))]
    check_digest(*(job_digest(setup.job, setup.federation) for setup in setups))


def test_values_cannot_be_read_from_a_digest_and_names_of_the_other_side_are_not_repeated():
    digest = job_digest(_job({"name": "secret-campaign"}), _federation())
    assert "secret-campaign" not in digest
    with pytest.raises(MismatchError) as raised:
        check_digest(digest, "\x1b[31mforged=1,=,,training")
    assert "forged" not in str(raised.value)
    assert "training" in raised.value.summary


@given(st.text(max_size=200))
def test_any_text_for_a_digest_is_a_mismatch(text):
    with pytest.raises(MismatchError):
        check_digest(job_digest(_job(), _federation()), text)


@pytest.mark.parametrize(
    ("widths", "says"),
    [
        ({"bank": 4, "clinic": 4, "telco": 4}, "not in federation.toml: telco"),
        ({"bank": 4, "clinic": 0}, "has width 0 for passive party clinic"),
    ],
)
def test_widths_have_to_fit_the_federation(widths, says):
    job = _job({"widths": widths}, "model")
    with pytest.raises(ConfigError, match=r"model\.widths") as raised:
        check_widths(job, _federation())
    assert says in raised.value.summary


@pytest.mark.parametrize("widths", [{"bank": 0, "clinic": 1}, {"bank": 4}, {}])
def test_an_active_party_may_have_no_width_and_other_widths_follow_from_tables(widths):
    check_widths(_job({"widths": widths}, "model"), _federation())


@pytest.mark.parametrize("named", ["bank", "telco"])
def test_only_passive_parties_of_the_federation_can_be_declared_trainable(named):
    with pytest.raises(ConfigError, match=rf"model\.trainable of the job names {named}") as raised:
        check_widths(_job({"trainable": ["clinic", named]}, "model"), _federation())
    assert "name passive parties only" in raised.value.remedy
    check_widths(_job({"trainable": ["clinic"]}, "model"), _federation())


def test_the_rate_decays_from_pass_to_pass_of_joint_training_alone():
    rates = {"learning_rate": 0.5, "learning_rate_decay": 0.5}
    job = _job({"interaction": rates, "training": {"method": "joint", "passes": 4}})
    assert [job.rate_in(epoch) for epoch in range(4)] == [0.5, 0.25, 0.125, 0.0625]
    assert job.extreme_rates == (0.5, 0.0625)
    with pytest.raises(ValidationError, match="learning_rate_decay is for joint training"):
        _job({"learning_rate_decay": 0.5}, "interaction")


def test_the_rate_of_the_last_pass_is_checked_before_anything_starts(federation):
    federation.job["training"] = {"method": "joint", "passes": 20, "batch_size": 32}
    federation.job["interaction"] = {"learning_rate": 0.5, "learning_rate_decay": 0.7}
    with pytest.raises(ParameterError, match=r"learning_rate 0\.000569\d* cannot be represented at batches of 32"):
        load_job_setup(federation.write().path("bank", "job.toml"))


def test_the_method_follows_from_what_trains():
    assert _job().stagewise
    assert not _job({"trainable": ["clinic"]}, "model").stagewise
    assert not _job({"method": "joint"}, "training").stagewise


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"trainable": ["clinic"]}, 'empty model.trainable, or use "joint"'),
        ({"interaction_width": 3}, "or set it to 4"),
        ({"interaction_width": 1}, "or set it to 4"),
    ],
)
def test_what_does_not_fit_stagewise_training_is_refused_with_a_remedy(federation, model, says):
    federation.job["model"] = model
    federation.job["training"] = {"method": "stagewise", "passes": 4}
    with pytest.raises(ConfigError) as raised:
        load_job(federation.write().path("bank", "job.toml"))
    assert says in str(raised.value)


def test_stagewise_training_has_a_column_for_each_pass_and_logit():
    assert (_job().passes, _job().interaction_width) == (2, 2)
    multiclass = _job({"task": {"kind": "multiclass", "classes": 5}})
    assert (multiclass.passes, multiclass.interaction_width) == (1, 5)
    assert _job({"passes": 3}, "training").interaction_width == 3


def test_the_statement_of_training_binds_what_determines_the_model_and_nothing_else():
    """Noise is bound to it: an equal replay, also one that is not encrypted, draws the same."""
    base = training_statement(_job(), _federation())
    assert len(base) == 32
    changing = {name: training_statement(_job(*change), _federation()) for name, change in DIFFERENCES.items()}
    same = {name for name, statement in changing.items() if statement == base}
    assert same == {"timeouts", "checkpoints"}
    assert len(set(changing.values())) == len(changing) - 1
    assert training_statement(_job({"protocol": "plaintext"}, "interaction"), _federation()) == base
    assert training_statement(_job(), _federation(coordinator="hub")) == base
    other = _federation(
        parties=[
            {"name": "bank", "role": "active", "endpoint": "127.0.0.1:5001"},
            {"name": "telco", "role": "passive", "endpoint": "127.0.0.1:5002"},
        ]
    )
    assert training_statement(_job({"widths": {}}, "model"), other) != training_statement(
        _job({"widths": {}}, "model"), _federation()
    )


def test_splits_have_to_leave_rows_to_train_on(federation):
    federation.job["split"] = {"validation": 0.5, "test": 0.5}
    with pytest.raises(ConfigError, match="must leave rows to train on"):
        load_job(federation.write().path("bank", "job.toml"))


def test_a_ring_that_does_not_carry_the_job_is_refused_before_anything_starts(federation):
    federation.job["ring"] = {"primes": 2}
    with pytest.raises(ParameterError) as raised:
        load_job_setup(federation.write().path("bank", "job.toml"))
    assert raised.value.remedy


def test_a_learning_rate_that_a_last_batch_could_not_represent_is_refused_before_anything_starts(federation):
    """m = 1 for the full batch, which is exact; 1.06 and more for most smaller ones."""
    federation.job["training"] = {"batch_size": 256}
    federation.job["interaction"] = {"learning_rate": 2.0**-10}
    with pytest.raises(ParameterError, match="cannot be represented at batches of") as raised:
        load_job_setup(federation.write().path("bank", "job.toml"))
    assert "ring." in raised.value.remedy
    assert "interaction.learning_rate = " in raised.value.remedy


def test_paths_are_relative_to_the_file_that_names_them(federation):
    setup = load_party(federation.write().path("clinic"))
    folder = federation.path("clinic").parent
    assert setup.config.data.path == folder / "table.csv"
    assert setup.config.private_seed == folder / "private_seed"
    assert setup.job == load_job(folder / "job.toml")
    assert setup.federation == load_federation(folder / "federation.toml")


def test_a_party_that_is_not_in_the_federation_is_told_who_is(federation):
    federation.parties["clinic"]["name"] = "hospital"
    with pytest.raises(ConfigError, match="party 'hospital' is not in the federation") as raised:
        load_party(federation.write().path("clinic"))
    assert "bank, clinic" in raised.value.detail


def test_a_linear_model_has_defaults_of_its_own_and_leaves_what_is_stated():
    job = _job({"model": {"kind": "linear", "top": {"lipschitz": 2.0}}})
    assert (job.top.hidden, job.top.lipschitz, job.passes, job.local_epochs) == ((), 2.0, 1, 12)
    assert job.optimizer.learning_rate == 0.1
    assert _job({"model": {"kind": "linear"}, "training": {"optimizer": {"name": "sgd"}}}).optimizer.name == "sgd"
    assert _job({"model": {"kind": "linear"}, "task": {"kind": "regression"}}).passes == 2
    with_classes = _job({"task": {"kind": "multiclass", "classes": 3}})
    assert (with_classes.top.lipschitz, with_classes.local_epochs) == (4.0, 12)
    assert with_classes.resolved.model.top.lipschitz == 4.0, "defaults are part of the digest"
    assert (_job().top.hidden, _job().top.lipschitz) == ((32, 32), 1.0)


@pytest.mark.parametrize(("more", "key"), [({"top": {"hidden": [8]}}, "hidden"), ({"trainable": ["clinic"]}, "train")])
def test_what_makes_a_linear_model_another_is_refused(more, key):
    with pytest.raises(ValidationError, match=key):
        _job({"model": {"kind": "linear", **more}})


@pytest.mark.parametrize(
    ("training", "validation", "epochs", "a_pass"),
    [
        ({"method": "joint"}, 0.1, True, True),
        ({"method": "joint"}, 0.0, False, False),
        ({"method": "joint", "keep_best": False}, 0.1, False, False),
        ({"method": "joint", "local_epochs": 3}, 0.1, True, True),
        ({"method": "stagewise"}, 0.1, True, False),
        ({"method": "stagewise", "local_epochs": 0}, 0.1, False, False),
    ],
)
def test_the_best_epoch_is_kept_by_default_where_validation_rows_can_tell(training, validation, epochs, a_pass):
    job = _job({"training": training, "split": {"validation": validation}})
    assert (job.keeps_best, job.keeps_best_pass) == (epochs, a_pass)
    assert job.resolved.training.keep_best is epochs


@pytest.mark.parametrize(
    ("training", "validation", "says"),
    [
        ({"method": "joint", "keep_best": True}, 0.0, "set split.validation"),
        ({"method": "joint", "patience": 2}, 0.0, "set split.validation"),
        ({"method": "stagewise", "local_epochs": 0, "patience": 2}, 0.1, "training.local_epochs above 0"),
        ({"method": "joint", "keep_best": False, "patience": 2}, 0.1, "patience needs keep_best"),
    ],
)
def test_a_choice_without_anything_to_choose_by_is_refused(training, validation, says):
    with pytest.raises(ValidationError, match=says):
        _job({"training": training, "split": {"validation": validation}})
