"""Label encodings: fitted on the training part, saved as JSON, refusing what they have not seen."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vfl.errors import ConfigError, DataError
from vfl.models.config import TaskConfig
from vfl.models.tasks.class_order import ClassOrder
from vfl.models.tasks.labels import ClassEncoding, CountEncoding, LabelEncoding, ScaleEncoding, fit_labels

BINARY = TaskConfig(kind="binary")
MULTICLASS = TaskConfig(kind="multiclass", classes=3)
REGRESSION = TaskConfig(kind="regression")
COUNTS = TaskConfig(kind="regression", loss="poisson")


@pytest.mark.parametrize(
    ("config", "labels", "values", "encoded"),
    [
        (BINARY, [1, 0, 1], (0, 1), [1, 0, 1]),
        (BINARY, [1.0, 0.0], (0, 1), [1, 0]),
        (BINARY, [False, True], (0, 1), [0, 1]),
        (BINARY, [-1, 1], (-1, 1), [0, 1]),
        (BINARY, ["Yes", "no", "Yes"], ("no", "Yes"), [1, 0, 1]),
        (BINARY, np.array(["TRUE", "FALSE"], dtype=object), ("FALSE", "TRUE"), [1, 0]),
        (BINARY, ["pos", "neg"], ("neg", "pos"), [1, 0]),
        (MULTICLASS, ["low", "mid", "high"], ("high", "low", "mid"), [1, 2, 0]),
        (MULTICLASS, [3, 1, 2], (1, 2, 3), [2, 0, 1]),
        (MULTICLASS, [0.5, 1.5, 2.5], (0.5, 1.5, 2.5), [0, 1, 2]),
        (MULTICLASS, [0, 2, 2], (0, 1, 2), [0, 2, 2]),
    ],
)
def test_classes_are_the_sorted_distinct_labels(config, labels, values, encoded):
    raw = np.asarray(labels)
    encoding = fit_labels(config, raw)
    assert encoding == ClassEncoding(values=values)
    assert encoding.encode(raw).dtype == np.int64
    assert encoding.encode(raw).tolist() == encoded
    assert LabelEncoding.from_json(encoding.to_json()) == encoding


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, unique=True))
def test_regression_labels_are_standardized_and_come_back(labels):
    raw = np.asarray(labels, dtype=np.float64)
    encoding = fit_labels(REGRESSION, raw)
    assert isinstance(encoding, ScaleEncoding)
    encoded = encoding.encode(raw)
    assert encoded.dtype == np.float32
    assert np.allclose(encoded.astype(np.float64) * encoding.std + encoding.mean, raw, atol=1e-5 * np.abs(raw).max())
    assert LabelEncoding.from_json(encoding.to_json()) == encoding


@pytest.mark.parametrize(
    ("config", "labels", "message"),
    [
        (BINARY, [1, 1, 1], "are the same"),
        (BINARY, [], "are the same"),
        (BINARY, [0, 1, 2], "as many distinct labels"),
        (MULTICLASS, ["a", "b"], "as many distinct labels"),
        (MULTICLASS, [1, 2, 3, 4], "as many distinct labels"),
        (BINARY, [0.0, np.nan], "cannot be used as it is"),
        (BINARY, np.array(["a", None], dtype=object), "cannot be used as it is"),
        (BINARY, [[0, 1]], "cannot be used as it is"),
        (BINARY, np.array(["2020-01-01"], dtype="datetime64[D]"), "cannot be used as it is"),
        (REGRESSION, [2.0, 2.0], "no usable spread"),
        (REGRESSION, [1e300, -1e300], "no usable spread"),
        (REGRESSION, [], "no usable spread"),
        (REGRESSION, ["a", "b"], "not numbers"),
        (COUNTS, [0, 1, -2], "negative"),
        (COUNTS, [0, 0], "all labels of the training part are 0"),
    ],
)
def test_labels_that_cannot_be_fitted_are_refused(config, labels, message):
    with pytest.raises(DataError, match=message) as caught:
        fit_labels(config, np.asarray(labels))
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("fitted", "labels"),
    [((1, 2, 3), [1, 4]), ((1, 2, 3), [0]), ((1, 3), [2]), (("a", "b"), ["c"]), (("a", "b"), [1]), ((0, 1), ["0"])],
)
def test_labels_unseen_in_training_are_refused(fitted, labels):
    with pytest.raises(DataError, match="do not occur in the training part") as caught:
        ClassEncoding(values=fitted).encode(np.asarray(labels))
    assert str(labels[-1]) in caught.value.detail


def test_the_summary_holds_no_label():
    with pytest.raises(DataError) as caught:
        ClassEncoding(values=("bad", "good")).encode(np.asarray(["fraud"]))
    assert "fraud" in caught.value.detail
    assert "fraud" not in caught.value.summary


@pytest.mark.parametrize("text", ["", "{}", '{"kind": "scale", "mean": 0, "std": 0}', '{"kind": "classes"}'])
def test_a_damaged_file_is_a_clear_error(text):
    with pytest.raises(ConfigError, match="cannot be read"):
        LabelEncoding.from_json(text)


@pytest.mark.parametrize("values", ["[]", "[1, 1]", '["a", "a"]', "[0.5, 0.25, 0.5]"])
def test_saved_classes_have_to_be_distinct_and_at_least_one(values):
    with pytest.raises(ConfigError, match="cannot be read"):
        LabelEncoding.from_json(f'{{"kind": "classes", "values": {values}}}')


def test_two_words_need_to_be_told_which_is_positive():
    with pytest.raises(DataError, match="either may be the positive one") as caught:
        fit_labels(BINARY, np.array(["good", "bad"]))
    assert caught.value.detail == 'set positive_label = "good" or positive_label = "bad"'
    assert "positive_label" in caught.value.remedy
    assert not {"good", "bad"} & set(caught.value.remedy.split()), "others see the remedy, and the words are labels"
    assert "good" not in caught.value.summary


@pytest.mark.parametrize(
    ("config", "labels", "order", "values"),
    [
        (BINARY, ["good", "bad"], ClassOrder(positive="bad"), ("good", "bad")),
        (BINARY, ["yes", "no"], ClassOrder(positive="no"), ("yes", "no")),
        (BINARY, [0, 1], ClassOrder(positive="0"), (1, 0)),
        (BINARY, [1.5, 2.5], ClassOrder(positive="1.5"), (2.5, 1.5)),
        (MULTICLASS, ["low", "mid", "high"], ClassOrder(classes=("low", "mid", "high")), ("low", "mid", "high")),
        (MULTICLASS, ["low", "high"], ClassOrder(classes=("low", "mid", "high")), ("low", "mid", "high")),
        (MULTICLASS, [30, 10], ClassOrder(classes=("10", "20", "30")), (10, 20, 30)),
    ],
)
def test_a_stated_order_is_kept(config, labels, order, values):
    encoding = fit_labels(config, np.asarray(labels), order)
    assert encoding == ClassEncoding(values=values)
    assert encoding.encode(np.asarray(labels)).tolist() == [values.index(label) for label in labels]
    assert LabelEncoding.from_json(encoding.to_json()) == encoding


@pytest.mark.parametrize(
    ("config", "labels", "order", "error"),
    [
        (BINARY, ["good", "bad"], ClassOrder(positive="ugly"), DataError),
        (MULTICLASS, ["a", "b", "c"], ClassOrder(classes=("a", "b", "d")), DataError),
        (MULTICLASS, ["a", "b", "c"], ClassOrder(classes=("a", "b", "c", "d")), DataError),
        (MULTICLASS, [1, 2], ClassOrder(classes=("1", "2", "x")), ConfigError),
        (MULTICLASS, ["a", "b", "c"], ClassOrder(positive="a"), ConfigError),
        (BINARY, ["a", "b"], ClassOrder(classes=("a", "b", "c")), ConfigError),
        (REGRESSION, [1.0, 2.0], ClassOrder(positive="1"), ConfigError),
    ],
)
def test_a_stated_order_that_does_not_fit_is_refused(config, labels, order, error):
    with pytest.raises(error) as caught:
        fit_labels(config, np.asarray(labels), order)
    assert caught.value.remedy


def test_counts_are_in_units_of_their_mean():
    encoding = fit_labels(COUNTS, np.array([0.0, 2.0, 4.0]))
    assert encoding == CountEncoding(mean=2.0)
    assert encoding.encode(np.array([0.0, 4.0])).tolist() == [0.0, 2.0]
    assert encoding.decode(torch.tensor([0.0, math.log(2.0)])).tolist() == pytest.approx([2.0, 4.0])
    assert torch.isfinite(encoding.decode(torch.tensor([1e6]))).all()
    assert LabelEncoding.from_json(encoding.to_json()) == encoding
