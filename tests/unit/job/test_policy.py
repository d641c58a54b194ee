import pytest

from vfl.errors import PolicyRefusal
from vfl.job.config import JobConfig
from vfl.job.policy import PolicyConfig


def _job(protocol="encrypted", **training) -> JobConfig:
    return JobConfig.model_validate(
        {
            "name": "job",
            "seed": 1,
            "task": {"kind": "binary"},
            "model": {"widths": {"bank": 4, "clinic": 4}},
            "interaction": {"protocol": protocol},
            "training": training,
        }
    )


@pytest.mark.parametrize(
    ("policy", "job", "why", "remedy"),
    [
        ({}, _job("plaintext"), "unencrypted", "policy.allow_unencrypted = true"),
        ({"min_batch_size": 32}, _job(batch_size=31), "batch_size of 31 is below 32", "policy.min_batch_size"),
        ({"max_epochs": 5}, _job(epochs=6), "6 epochs, more than 5", "policy.max_epochs"),
    ],
)
def test_a_job_beyond_the_policy_is_refused_with_both_settings(policy, job, why, remedy):
    with pytest.raises(PolicyRefusal, match="this party's policy refuses the job") as raised:
        PolicyConfig(**policy).check_job(job)
    assert why in raised.value.summary
    assert remedy in raised.value.remedy


@pytest.mark.parametrize(
    ("policy", "job"),
    [
        ({}, _job()),
        ({"allow_unencrypted": True}, _job("plaintext")),
        ({"min_batch_size": 32}, _job(batch_size=32)),
        ({"max_epochs": 5}, _job(epochs=5)),
        ({"max_epochs": None}, _job(epochs=10_000)),
    ],
)
def test_a_job_within_the_policy_is_accepted(policy, job):
    PolicyConfig(**policy).check_job(job)


def test_too_few_aligned_rows_are_refused():
    policy = PolicyConfig(min_aligned_rows=100)
    policy.check_rows(100)
    with pytest.raises(PolicyRefusal, match="only 99 rows are aligned, fewer than 100"):
        policy.check_rows(99)


def test_the_defaults_protect():
    policy = PolicyConfig()
    assert not policy.allow_unencrypted
    assert policy.min_batch_size > 1
    assert policy.min_aligned_rows > 1
