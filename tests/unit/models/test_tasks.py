"""Tasks: losses against their formulas, the gradient bound, metrics against scikit-learn and by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from vfl.errors import DataError, ModelError
from vfl.models.config import TaskConfig
from vfl.models.tasks.labels import ScaleEncoding
from vfl.models.tasks.task import make_task

BINARY = make_task(TaskConfig(kind="binary"))
MULTICLASS = make_task(TaskConfig(kind="multiclass", classes=3))
HUBER = make_task(TaskConfig(kind="regression"))
MSE = make_task(TaskConfig(kind="regression", loss="mse"))
COUNTS = make_task(TaskConfig(kind="regression", loss="poisson"))


def sample(task, rows: int, scale: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, task.out_width, generator=generator) * scale
    if task.config.kind == "regression":
        return logits, torch.randn(rows, generator=generator) * scale
    return logits, torch.randint(task.config.class_count, (rows,), generator=generator)


def test_widths_metrics_and_bounds():
    assert [task.out_width for task in (BINARY, MULTICLASS, HUBER)] == [1, 3, 1]
    assert [task.primary_metric for task in (BINARY, MULTICLASS, HUBER)] == ["auc", "accuracy", "r2"]
    assert [task.gradient_bound for task in (BINARY, MULTICLASS, HUBER, MSE)] == [1.0, math.sqrt(2), 1.0, 4.0]


@pytest.mark.parametrize(
    ("task", "logits", "labels", "expected"),
    [
        (BINARY, [[0.0], [2.0]], [1, 0], [math.log(2), 2 + math.log1p(math.exp(-2))]),
        (MULTICLASS, [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [2, 0], [math.log(3), math.log(math.e + 2) - 1]),
        (HUBER, [[0.5], [3.0]], [0.0, 0.0], [0.125, 2.5]),
        (MSE, [[0.5], [3.0]], [0.0, 0.0], [0.25, 9.0]),
        (COUNTS, [[0.0], [0.0], [math.log(2.0)]], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0 - math.log(2.0)]),
    ],
)
def test_loss_per_sample_by_hand(task, logits, labels, expected):
    loss = task.loss_per_sample(torch.tensor(logits), torch.tensor(labels))
    assert loss.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("task", [BINARY, MULTICLASS, HUBER])
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_the_gradient_of_one_sample_stays_within_its_bound(task, scale, seed):
    logits, labels = sample(task, 64, scale, seed)
    logits.requires_grad_()
    task.loss_per_sample(logits, labels).sum().backward()
    assert logits.grad.norm(dim=1).max() <= task.gradient_bound * (1 + 1e-6)


@pytest.mark.parametrize("task", [BINARY, MULTICLASS, HUBER])
def test_the_bound_is_attained(task):
    logits = torch.zeros(1, task.out_width)
    logits[0, 0] = 50.0
    logits.requires_grad_()
    wrong = torch.tensor([0 if task is BINARY else 1])
    task.loss_per_sample(logits, wrong).sum().backward()
    assert logits.grad.norm() == pytest.approx(task.gradient_bound)


@pytest.mark.parametrize("task", [BINARY, MULTICLASS, HUBER, MSE])
def test_shapes_that_would_broadcast_silently_are_refused(task):
    logits, labels = sample(task, 6, 1.0)
    for bad in ((logits, labels[:, None]), (logits, labels[:1]), (logits.flatten(), labels)):
        with pytest.raises(ModelError, match="do not match"):
            task.loss_per_sample(*bad)
        with pytest.raises(ModelError, match="do not match"):
            task.metrics(*bad)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_binary_metrics_agree_with_scikit_learn(scale):
    logits, labels = sample(BINARY, 400, scale)
    score, truth = torch.sigmoid(logits.double().squeeze(1)).numpy(), labels.numpy()
    false_rate, true_rate, _ = reference.roc_curve(truth, score)
    expected = {
        "auc": reference.roc_auc_score(truth, score),
        "average_precision": reference.average_precision_score(truth, score),
        "ks": np.abs(true_rate - false_rate).max(),
        "accuracy": reference.accuracy_score(truth, score > 0.5),
        "log_loss": np.logaddexp(0.0, logits.double().squeeze(1).numpy() * (1 - 2 * truth)).mean(),
    }
    assert BINARY.metrics(logits, labels) == pytest.approx(expected, abs=1e-6)


def test_logits_between_zero_and_one_are_not_taken_for_probabilities():
    logits, labels = torch.tensor([[0.1], [0.4], [-0.3]]), torch.tensor([1, 1, 0])
    assert BINARY.metrics(logits, labels)["accuracy"] == 1.0
    assert BINARY.metrics(logits[:2], labels[:2])["accuracy"] == 1.0


def test_confident_logits_do_not_tie():
    logits, labels = torch.tensor([[20.0], [25.0], [30.0]]), torch.tensor([0, 1, 1])
    assert BINARY.metrics(logits, labels)["auc"] == 1.0


@pytest.mark.parametrize("label", [0, 1])
def test_ranking_metrics_of_a_single_class_are_nan_without_a_warning(label):
    scored = BINARY.metrics(torch.tensor([[1.0], [-1.0]]), torch.tensor([label, label]))
    assert all(math.isnan(scored[name]) for name in ("auc", "average_precision", "ks"))
    assert scored["accuracy"] == 0.5
    assert math.isfinite(scored["log_loss"])


def test_multiclass_metrics_agree_with_scikit_learn():
    logits, labels = sample(MULTICLASS, 300, 2.0)
    score, truth = torch.softmax(logits.double(), dim=1).numpy(), labels.numpy()
    expected = {
        "accuracy": reference.accuracy_score(truth, score.argmax(axis=1)),
        "macro_auc": reference.roc_auc_score(truth, score, multi_class="ovr"),
        "log_loss": reference.log_loss(truth, score),
    }
    assert MULTICLASS.metrics(logits, labels) == pytest.approx(expected, abs=1e-6)


def test_macro_auc_is_averaged_over_the_classes_that_occur():
    logits, labels = sample(MULTICLASS, 300, 2.0)
    logits, labels = logits[labels != 2], labels[labels != 2]
    score = torch.softmax(logits.double(), dim=1).numpy()
    areas = [reference.roc_auc_score(labels.numpy() == number, score[:, number]) for number in (0, 1)]
    scored = MULTICLASS.metrics(logits, labels)
    assert scored["macro_auc"] == pytest.approx(np.mean(areas), abs=1e-6)


def test_a_single_class_has_no_macro_auc():
    scored = MULTICLASS.metrics(torch.eye(3)[:2], torch.tensor([0, 0]))
    assert math.isnan(scored["macro_auc"])
    assert scored["accuracy"] == 0.5


@pytest.mark.parametrize("encoding", [None, ScaleEncoding(mean=100.0, std=20.0)])
def test_regression_metrics_are_in_the_unit_of_the_labels(encoding):
    logits, labels = sample(HUBER, 200, 1.0)
    std, mean = (encoding.std, encoding.mean) if encoding else (1.0, 0.0)
    predicted = logits.double().squeeze(1).numpy() * std + mean
    truth = labels.double().numpy() * std + mean
    expected = {
        "rmse": reference.root_mean_squared_error(truth, predicted),
        "mae": reference.mean_absolute_error(truth, predicted),
        "r2": reference.r2_score(truth, predicted),
    }
    assert HUBER.metrics(logits, labels, encoding) == pytest.approx(expected, rel=1e-5)


def test_r2_without_spread_is_nan():
    scored = HUBER.metrics(torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 1.0]))
    assert math.isnan(scored["r2"])
    assert scored["mae"] == 0.5


@pytest.mark.parametrize("task", [BINARY, MULTICLASS, HUBER])
def test_metrics_of_no_rows_are_nan_under_the_same_names(task):
    empty = task.metrics(torch.empty(0, task.out_width), torch.empty(0, dtype=torch.int64))
    assert all(math.isnan(value) for value in empty.values())
    assert empty.keys() == task.metrics(*sample(task, 30, 1.0)).keys()
    assert task.primary_metric in empty


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        (BINARY, np.array([0, 1, 1])),
        (BINARY, np.array([0.0, 1.0])),
        (BINARY, np.array([True, False])),
        (MULTICLASS, np.array([2, 0])),
        (HUBER, np.array([0.5, -3.0, 1e20])),
    ],
)
def test_fitting_labels_pass(task, labels):
    task.check_labels(labels)


@pytest.mark.parametrize(
    ("task", "labels", "remedy"),
    [
        (BINARY, np.array([0, 1, 2]), "kind and classes"),
        (BINARY, np.array([1, 2]), "count from 1"),
        (BINARY, np.array([-1, 1]), "fit_labels"),
        (BINARY, np.array(["no", "yes"]), "fit_labels"),
        (MULTICLASS, np.array([1, 2, 3]), "count from 1"),
        (MULTICLASS, np.array([0.5, 1.0]), "fit_labels"),
        (HUBER, np.array(["low", "high"]), "numeric label column"),
        (HUBER, np.array([1.0, np.nan]), "every row a label"),
    ],
)
def test_unfit_labels_are_refused_with_a_remedy_and_no_values_in_the_summary(task, labels, remedy):
    with pytest.raises(DataError) as caught:
        task.check_labels(labels)
    assert remedy in caught.value.remedy
    assert "yes" not in caught.value.summary
    assert "2" not in caught.value.summary
