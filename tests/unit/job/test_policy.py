import pytest
from pydantic import ValidationError

from vfl.errors import PolicyRefusal
from vfl.ids import Role, Split
from vfl.job.config import JobConfig
from vfl.job.policy import PolicyConfig
from vfl.job.tables import RELATIVE_NOISE
from vfl.privacy.output_noise import MIN_NOISE

RELATIVE = RELATIVE_NOISE["binary"]
"""Noise by default."""


def _job(protocol="encrypted", trainable=(), privacy=None, model=None, **training) -> JobConfig:
    return JobConfig.model_validate(
        {
            "name": "job",
            "seed": 1,
            "task": {"kind": "binary"},
            "model": {"trainable": list(trainable), **(model or {})},
            "interaction": {"protocol": protocol},
            "privacy": privacy or {},
            "training": training,
        }
    )


@pytest.mark.parametrize("role", [Role.ACTIVE, Role.PASSIVE])
@pytest.mark.parametrize(
    ("policy", "job", "why", "remedy"),
    [
        ({}, _job("plaintext"), "unencrypted", "policy.allow_unencrypted = true"),
        ({"min_batch_size": 32}, _job(batch_size=31), " batch_size of 31 is below 32", "policy.min_batch_size"),
        (
            {"min_batch_size": 32},
            _job(evaluation_batch_size=31),
            "evaluation_batch_size of 31 is below 32",
            "a larger evaluation_batch_size",
        ),
        ({"max_passes": 1}, _job(passes=2), "2 passes over the rows, more than 1", "policy.max_passes"),
        ({"max_passes": 1}, _job(), "2 passes over the rows, more than 1", "policy.max_passes"),  # by default
        ({"min_z_noise": 0.25}, _job(privacy={"z_noise": 0.2}), "noise on Z of 0.2 is below 0.25", "privacy.z_noise"),
        ({"min_z_noise": 0.5}, _job(method="joint"), "noise on Z of 0.00390625 is below 0.5", "policy.min_z_noise"),
        (
            {},
            _job(model={"interaction_width": 33}, method="joint"),
            "Z has 33 columns, more than 32",
            "interaction_width",
        ),
        (
            {},
            _job(privacy={"relative_noise": 0.05}),
            "relative noise of 0.05 is below 0.1",
            "more privacy.relative_noise",
        ),
        *(
            (
                {"min_relative_noise": 9.0},
                job,
                f"relative noise of {RELATIVE:g} is below 9",
                "policy.min_relative_noise",
            )
            for job in (_job(), _job(method="joint"))
        ),
        (
            {"min_d_alpha_noise": 0.5, "allow_trainable": ("clinic",)},
            _job(trainable=["clinic"], privacy={"d_alpha_noise": 0.25}),
            "noise on d alpha of 0.25 is below 0.5",
            "policy.min_d_alpha_noise",
        ),
    ],
)
def test_a_job_beyond_the_policy_is_refused_with_both_settings(policy, job, why, remedy, role):
    with pytest.raises(PolicyRefusal, match="this party's policy refuses the job") as raised:
        PolicyConfig(**policy).check_job(job, role)
    assert why in raised.value.summary
    assert remedy in raised.value.remedy


@pytest.mark.parametrize("role", [Role.ACTIVE, Role.PASSIVE])
@pytest.mark.parametrize(
    ("policy", "job"),
    [
        ({}, _job()),
        ({"allow_unencrypted": True}, _job("plaintext")),
        ({"min_batch_size": 32}, _job(batch_size=32, evaluation_batch_size=32)),
        ({"max_passes": 5}, _job(passes=5)),
        ({"max_passes": None, "max_releases_per_row": None, "max_interaction_width": None}, _job(passes=4096)),
        ({"min_z_noise": 0.2}, _job(privacy={"z_noise": 0.2})),
        (
            {"min_d_alpha_noise": 0.25, "allow_trainable": ("clinic",)},
            _job(trainable=["clinic"], privacy={"d_alpha_noise": 0.25}),
        ),
        ({"min_relative_noise": RELATIVE}, _job()),
        ({"min_d_alpha_noise": 1.0}, _job()),  # nobody receives d alpha
        ({"allow_trainable": ("clinic", "telco")}, _job(trainable=["telco"])),
    ],
)
def test_a_job_within_the_policy_is_accepted(policy, job, role):
    PolicyConfig(**policy).check_job(job, role)


@pytest.mark.parametrize("allowed", [(), ("telco",)])
def test_only_the_active_party_has_to_allow_gradients_that_tell_its_labels(allowed):
    policy, job = PolicyConfig(allow_trainable=allowed), _job(trainable=["clinic", "telco"])
    policy.check_job(job, Role.PASSIVE)
    with pytest.raises(PolicyRefusal, match="it trains the bottom of clinic") as raised:
        policy.check_job(job, Role.ACTIVE)
    assert ("telco" in raised.value.summary) == ("telco" not in allowed)
    assert 'policy.allow_trainable = ["clinic", "telco"]' in raised.value.remedy


def test_gradients_are_counted_at_the_active_party_and_outputs_at_the_passive_one():
    policy, trained = PolicyConfig(max_releases_per_row=5, allow_trainable=("clinic",)), {"trainable": ["clinic"]}
    policy.check_job(_job(passes=5, **trained), Role.ACTIVE)
    policy.check_job(_job(passes=6, method="joint"), Role.ACTIVE)  # nobody receives d alpha
    for role, job in ((Role.ACTIVE, _job(passes=6, **trained)), (Role.PASSIVE, _job(passes=6, method="joint"))):
        with pytest.raises(PolicyRefusal, match="it releases every training row 6 times, more often than 5"):
            policy.check_job(job, role)


def test_too_few_aligned_rows_are_refused():
    policy = PolicyConfig(min_aligned_rows=100)
    policy.check_rows(100)
    with pytest.raises(PolicyRefusal, match="only 99 rows are aligned, fewer than 100"):
        policy.check_rows(99)


def test_metrics_of_a_few_rows_are_refused():
    policy = PolicyConfig(min_scored_rows=20)
    for rows in (0, 20, 21):
        policy.check_scored(Split.VALIDATION, rows)
    for rows in (1, 19):
        with pytest.raises(PolicyRefusal, match=f"the test split has only {rows} rows") as raised:
            policy.check_scored(Split.TEST, rows)
        assert "a larger split.test in the job" in raised.value.remedy


def test_the_defaults_protect():
    policy = PolicyConfig()
    assert not policy.allow_unencrypted
    assert policy.min_batch_size > 1
    assert policy.min_aligned_rows > 1
    assert policy.min_scored_rows > 1
    assert policy.min_z_noise >= MIN_NOISE
    assert policy.min_d_alpha_noise >= MIN_NOISE
    assert policy.min_relative_noise > 0
    assert policy.allow_trainable == ()


@pytest.mark.parametrize("key", ["min_z_noise", "min_d_alpha_noise"])
@pytest.mark.parametrize("value", [0.0, MIN_NOISE / 2, float("nan")])
def test_no_policy_accepts_noise_that_lattice_reduction_overcomes(key, value):
    with pytest.raises(ValidationError, match=key):
        PolicyConfig.model_validate({key: value})


def test_a_job_that_releases_rows_too_often_is_refused_before_it_begins():
    policy = PolicyConfig(max_releases_per_row=5)
    with pytest.raises(PolicyRefusal, match="releases every training row 6 times"):
        policy.check_job(_job(passes=6), Role.PASSIVE)
    policy.check_job(_job(passes=5), Role.PASSIVE)
    policy.check_job(_job(passes=6), Role.ACTIVE)
