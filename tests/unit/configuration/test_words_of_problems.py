"""Every key with every wrong value: the error is in the reader's words, names the key, and repeats no value."""

import copy
import re

import pytest

from vfl.configuration.federation import FederationConfig
from vfl.configuration.problems import _models_in
from vfl.configuration.toml_files import validated
from vfl.coordinator.config import CoordinatorConfig
from vfl.errors import ConfigError
from vfl.job.config import JobConfig
from vfl.party.config import PartyConfig

WRONG = [-57, "S3CRET value!", 1.57, True, [], ["S3CRET", 57], {"S3CRETkey": 1}, 10**9 + 57]
WORDS = r"Input|instance of|\bclass\b|Path|tuple|dict|union|\btag\b|pattern|str\b|[<>^$\\]|\[\^|57|S3CRET value"
PYTHON = re.compile(WORDS)
PARTIES = [
    {"name": "bank", "role": "active", "endpoint": "a:1"},
    {"name": "shop", "role": "passive", "endpoint": "b:2"},
]
TLS = {"ca": "a", "certificate": "b", "key": "c"}
JOB = {"name": "job", "seed": 1, "task": {"kind": "binary"}} | {
    table: {}
    for table in ("model", "ids", "training", "interaction", "privacy", "split", "ring", "timeouts", "checkpoints")
}
JOB |= {"model": {"top": {}}, "training": {"optimizer": {}}}
PARTY = {
    "name": "bank",
    "job": "j",
    "data": {"path": "x", "id_column": "id"},
    "bottom": {"kind": "mlp"},
    "tls": TLS,
} | {table: {} for table in ("policy", "audit", "checkpoints", "privacy", "optimizer")}
FILES = {
    "federation": (FederationConfig, {"name": "f", "coordinator": "c", "parties": PARTIES, "tls": {}}),
    "job": (JobConfig, JOB),
    "party": (PartyConfig, PARTY),
    "cnn": (PartyConfig, {**PARTY, "bottom": {"kind": "cnn", "shape": [1, 2, 3]}}),
    "encodings": (PartyConfig, {**PARTY, "bottom": {"kind": "encodings"}}),
    "custom": (PartyConfig, {**PARTY, "bottom": {"kind": "custom", "factory": "a:b"}}),
    "coordinator": (CoordinatorConfig, {"tls": TLS, "audit": {}, "runs": {}}),
}


def _places(model, content, path=()):
    """Every table of a content that has a model, with that model."""
    yield path, model
    for name, spec in model.model_fields.items():
        inner = content.get(name)
        models = list(_models_in(spec.annotation))
        if isinstance(inner, list) and models and inner:
            yield from _places(models[0], inner[0], (*path, name, 0))
        if isinstance(inner, dict):
            kinds = {one.model_fields["kind"].default: one for one in models if "kind" in one.model_fields}
            yield from (_places(kinds.get(inner.get("kind"), models[0]), inner, (*path, name)) if models else ())


def _changed(content, path, key, value):
    changed = table = copy.deepcopy(content)
    for part in path:
        table = table[part]
    table[key] = value
    return changed


@pytest.mark.parametrize("name", FILES)
def test_no_message_has_python_or_a_value_in_it(name):
    model, content = FILES[name]
    validated(content, model, "the file")
    said = []
    for path, table in _places(model, content):
        for key in table.model_fields:
            for value in WRONG:
                try:
                    validated(_changed(content, path, key, value), model, "the file")
                except ConfigError as error:
                    said.append(str(error))
    assert len(said) > 20
    assert [text for text in said if PYTHON.search(text)] == []


@pytest.mark.parametrize(
    ("change", "says", "remedy"),
    [
        ((("parties", 0), "role", "boss"), "parties[0].role: must be 'active' or 'passive'", "correct 'role'"),
        (((), "name", "Our Bank"), "name: must be of lowercase letters, digits and hyphens", "correct 'name'"),
        (((), "mode", "mutual"), "mode: unknown key", "write 'mode' in [tls]"),
    ],
)
def test_a_problem_is_said_in_words(change, says, remedy):
    model, content = FILES["federation"]
    with pytest.raises(ConfigError) as caught:
        validated(_changed(content, *change), model, "the file")
    assert says in caught.value.detail
    assert caught.value.remedy == remedy


@pytest.mark.parametrize(
    ("change", "says", "remedy"),
    [
        (((), "batch_size", 3), "batch_size: unknown key", "write 'batch_size' in [training]"),
        ((("training",), "batchsize", 3), "training.batchsize: unknown key", "write 'batch_size'"),
        ((("training",), "sead", 3), "training.sead: unknown key", "use one of: method, passes"),
        ((("training",), "interaction_width", 3), "unknown key", "write 'interaction_width' in [model]"),
        ((("training",), "seed", 3), "training.seed: unknown key", "write 'seed' outside of all tables"),
        ((("model",), "widths", {"bank": -1}), "model.widths.bank: must be at least 0", "correct 'bank'"),
    ],
)
def test_an_unknown_key_is_sent_to_the_table_that_has_it(change, says, remedy):
    model, content = FILES["job"]
    with pytest.raises(ConfigError) as caught:
        validated(_changed(content, *change), model, "the file")
    assert says in caught.value.detail
    assert caught.value.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("kind", "mpl", "bottom.kind: must be one of 'mlp', 'cnn', 'identity', 'encodings', 'custom'"),
        ("activation", "tanh", "bottom.activation: must be 'relu' or 'gelu'"),
    ],
)
def test_a_table_of_several_kinds_is_named_as_the_file_has_it(key, value, says):
    model, content = FILES["party"]
    with pytest.raises(ConfigError) as caught:
        validated(_changed(content, ("bottom",), key, value), model, "the file")
    assert f"  {says}" in caught.value.detail.splitlines()
