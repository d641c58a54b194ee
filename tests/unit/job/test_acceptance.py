"""``[accept]`` of party.toml: what may differ between an offered job and a party's own."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from vfl.configuration.toml_files import validated
from vfl.errors import MismatchError, ProtocolError
from vfl.job.acceptance import CHOICES, NUMBERS, VARIABLE, Accepted, check_accepted, differing, in_words, settings
from vfl.job.config import JobConfig
from vfl.job.offer import job_text, read_job_text
from vfl.messages import MAX_JOB_TEXT

RULES = TypeAdapter(Accepted)
FEDERATION = Path("federation.toml")


def job(**changes):
    content = {"name": "job", "seed": 3, "task": {"kind": "binary"}}
    for key, value in changes.items():
        *tables, last = key.split(".")
        table = content
        for name in tables:
            table = table.setdefault(name, {})
        table[last] = value
    return validated(content, JobConfig, "a job")


OWN = job()
NEVER = ("name", "task.kind", "task.classes", "ids.columns", "interaction.protocol", "ring", "model.trainable",
         "model.widths", "training.method", "split.test", "timeouts.connect", "checkpoints.every_steps")  # fmt: skip


def test_every_key_of_a_job_either_may_vary_or_is_known_never_to():
    """A key that is added to the job has to be decided about."""
    groups = ("ids.", "split.", "timeouts.", "checkpoints.")
    never = {key for key in settings(OWN) if key in NEVER or key.startswith(groups)}
    assert settings(OWN).keys() == VARIABLE | never | {"interaction.link_mbit"}
    assert not VARIABLE & never
    assert not NUMBERS & CHOICES


@pytest.mark.parametrize("key", [*NEVER, "federation", "training", "training.optimiser.rate", "x" * 10_000])
def test_what_may_not_vary_is_refused_by_name_when_the_file_is_read(key):
    with pytest.raises(ValidationError) as refused:
        RULES.validate_python({key: True})
    (problem,) = refused.value.errors()
    assert f"'{key[:256]}' is no key of job.toml that may vary" in problem["msg"]
    assert len(problem["msg"]) < 2_000


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (False, "must be true for any value"),
        (0.1, "must be true for any value"),
        ([], "must list 1 to 64 values"),
        ([[1]], "must list 1 to 64 values"),
        (list(range(65)), "must list 1 to 64 values"),
        ({}, "must be a table with"),
        ({"maximum": 1}, "must be a table with"),
        ({"max": "1"}, "must be a table with"),
        ({"min": True}, "must be a table with"),
        ({"min": 2, "max": 1}, "'min' must not be above 'max'"),
        ({"optimizer": {"learning_rate": True}}, "put a key with dots in quotes"),
    ],
)
def test_a_rule_in_another_form_is_refused_in_words(rule, says):
    with pytest.raises(ValidationError) as refused:
        RULES.validate_python({"training.passes": rule})
    assert [says in problem["msg"] for problem in refused.value.errors()] == [True]


def test_words_have_no_range():
    with pytest.raises(ValidationError, match="has no range"):
        RULES.validate_python({"task.loss": {"max": 1}})


def accepts(rules, **changes):
    try:
        check_accepted(RULES.validate_python(rules), OWN, job(**changes))
    except MismatchError:
        return False
    return True


@given(value=st.integers(1, 4096), low=st.integers(1, 4096), high=st.integers(1, 4096))
def test_a_range_admits_what_is_in_it(value, low, high):
    low, high = sorted((low, high))
    rules = {"training.passes": {"min": low, "max": high}}
    assert accepts(rules, **{"training.passes": value}) == (low <= value <= high)


@given(
    value=st.sampled_from(["huber", "mse", "poisson"]), listed=st.sets(st.sampled_from(["huber", "mse"]), min_size=1)
)
def test_a_list_admits_what_is_in_it(value, listed):
    own = job(**{"task.kind": "regression"})
    rules = RULES.validate_python({"task.loss": sorted(listed)})
    try:
        check_accepted(rules, own, job(**{"task.kind": "regression", "task.loss": value}))
        accepted = True
    except MismatchError:
        accepted = False
    assert accepted == (value in listed)


@given(key=st.sampled_from(["seed", "training.passes", "training.keep_best", "split.test", "timeouts.connect"]))
def test_without_rules_nothing_may_differ_and_a_rule_for_one_key_is_none_for_another(key):
    changed = {"seed": 4, "training.passes": 1, "training.keep_best": False, "split.test": 0.5, "timeouts.connect": 9.0}
    assert accepts({})
    assert not accepts({}, **{key: changed[key]})
    assert accepts({"seed": True}, **{key: changed[key]}) == (key == "seed")


def test_a_key_that_the_offered_job_leaves_out_counts_with_what_holds_without_it():
    own = job(**{"training.passes": 1})
    for rule, accepted in (({"max": 2}, True), ({"max": 1}, False)):
        try:
            check_accepted(RULES.validate_python({"training.passes": rule}), own, OWN)
            assert accepted
        except MismatchError:
            assert not accepted


def test_a_switch_is_no_number():
    assert not accepts({"training.keep_best": [1]}, **{"training.keep_best": False, "seed": 3})
    assert accepts({"training.keep_best": [False]}, **{"training.keep_best": False})


def test_the_coordinator_learns_keys_and_the_log_ranges():
    with pytest.raises(MismatchError) as refused:
        check_accepted(RULES.validate_python({"seed": {"max": 777}}), OWN, job(**{"seed": 999, "split.test": 0.5}))
    error = refused.value
    assert "in: seed (beyond what it accepts), split.test" in error.summary
    assert "777" not in error.summary + error.remedy
    assert "seed: offered 999, accepted at most 777" in error.detail


def test_rules_in_words():
    rules = {"seed": True, "training.passes": {"min": 1, "max": 4}, "training.keep_best": [True, False]}
    words = [in_words(rule) for rule in RULES.validate_python(rules).values()]
    assert words == ["any value", "at least 1, at most 4", "true or false"]


@given(seed=st.integers(0, 2**63 - 1), rate=st.floats(1e-300, 1e300), passes=st.none() | st.integers(1, 4096))
def test_a_job_is_read_from_its_text_as_it_is(seed, rate, passes):
    keys = {"seed": seed, "training.optimizer.learning_rate": rate}
    written = job(**keys, **({} if passes is None else {"training.passes": passes}))
    read = read_job_text(job_text(written), FEDERATION)
    assert differing(written, read) == {}
    assert job_text(read) == job_text(written)


@given(text=st.text(max_size=60) | st.text('[]{}":,0', max_size=60) | st.binary(max_size=60).map(str))
def test_any_other_text_is_refused(text):
    with pytest.raises(ProtocolError):
        read_job_text(text, FEDERATION)


def test_a_job_is_read_in_its_canonical_form_only():
    text = job_text(OWN)
    assert read_job_text(text, FEDERATION)
    others = [f" {text}", text.replace('"seed":3', '"seed":3.0'), text.replace('"seed":3', '"seed":"3"'),
              text.replace('"seed":3', '"seed":1,"seed":3'), text + " " * MAX_JOB_TEXT]  # fmt: skip
    for other in others:
        with pytest.raises(ProtocolError):
            read_job_text(other, FEDERATION)
