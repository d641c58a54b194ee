"""Model configuration: what is refused, and that messages say what to change."""

import pytest
from pydantic import TypeAdapter, ValidationError

from vfl.models.config import (
    BottomConfig,
    CnnBottom,
    CustomBottom,
    EncodingsBottom,
    IdentityBottom,
    MlpBottom,
    TaskConfig,
    TopConfig,
    without_alone,
)

BOTTOMS = TypeAdapter(BottomConfig)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"kind": "mlp", "hidden": [16, 8]}, MlpBottom(hidden=(16, 8))),
        ({"kind": "cnn", "shape": [1, 8, 8]}, CnnBottom(shape=(1, 8, 8))),
        ({"kind": "identity"}, IdentityBottom(scale=0.25)),
        ({"kind": "encodings", "ridge": 0}, EncodingsBottom(bins=8, max_width=512, whiten=True, ridge=0.0, clip=8.0)),
        (
            {"kind": "custom", "factory": "acme.models:make", "options": {"depth": 2}, "frozen": True},
            CustomBottom(factory="acme.models:make", options={"depth": 2}, frozen=True),
        ),
    ],
)
def test_kind_selects_the_bottom(raw, expected):
    assert BOTTOMS.validate_python(raw) == expected


@pytest.mark.parametrize(
    "raw",
    [
        {"kind": "transformer"},
        {"kind": "mlp", "hiden": [16]},
        {"kind": "mlp", "hidden": [0]},
        {"kind": "cnn"},
        {"kind": "cnn", "shape": [1, 8, 8], "channels": []},
        {"kind": "identity", "scale": -1.0},
        {"kind": "identity", "scale": float("nan")},
        {"kind": "encodings", "bins": 0},
        {"kind": "encodings", "max_width": 513},
        {"kind": "encodings", "buckets": 1},
        {"kind": "encodings", "ridge": -1e-9},
        {"kind": "encodings", "clip": 0},
        {"kind": "custom", "factory": "no_colon"},
        {"kind": "custom", "factory": "../path:make"},
    ],
)
def test_malformed_bottoms_are_refused(raw):
    with pytest.raises(ValidationError):
        BOTTOMS.validate_python(raw)


def test_odd_hidden_widths_of_the_top_are_refused_with_a_remedy():
    with pytest.raises(ValidationError, match=r"must be even.*use 34 instead of 33"):
        TopConfig(hidden=(32, 33))


@pytest.mark.parametrize("lipschitz", [0.0, -1.0, float("inf"), float("nan")])
def test_lipschitz_constant_must_be_positive_and_finite(lipschitz):
    with pytest.raises(ValidationError):
        TopConfig(lipschitz=lipschitz)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"kind": "multiclass"}, "needs 'classes'"),
        ({"kind": "multiclass", "classes": 2}, "use kind = 'binary'"),
        ({"kind": "binary", "classes": 2}, "does not apply to a binary task"),
        ({"kind": "regression", "classes": 3}, "does not apply to a regression task"),
        ({"kind": "binary", "loss": "mse"}, "'loss' does not apply"),
    ],
)
def test_contradictory_tasks_are_refused_with_a_remedy(raw, message):
    with pytest.raises(ValidationError, match=message):
        TaskConfig.model_validate(raw)


def test_configuration_is_immutable():
    with pytest.raises(ValidationError):
        TopConfig().lipschitz = 2.0  # type: ignore[misc]


def test_metrics_come_back_in_one_order_and_apart():
    mixed = {"median_certified_radius": 2.0, "alone_accuracy": 0.7, "accuracy": 0.8, "alone_auc": 0.6, "auc": 0.9}
    joint, alone = without_alone(mixed)
    assert list(joint.items()) == [("auc", 0.9), ("accuracy", 0.8), ("median_certified_radius", 2.0)]
    assert list(alone.items()) == [("auc", 0.6), ("accuracy", 0.7)]
