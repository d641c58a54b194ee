"""Values of a sweep are stated as in TOML, lists included."""

import pytest

from vfl.cli.sweep import _values
from vfl.errors import ConfigError


def test_values_are_those_of_toml_and_lists_are_whole():
    stated = ["model.top.hidden=[16,16],[32,32]", "seed=1,2", "training.optimizer.name=adam,sgd", 'task.loss="mse"']
    assert _values(stated) == {
        "model.top.hidden": [[16, 16], [32, 32]],
        "seed": [1, 2],
        "training.optimizer.name": ["adam", "sgd"],
        "task.loss": ["mse"],
    }
    with pytest.raises(ConfigError, match="no key with values"):
        _values(["seed"])
