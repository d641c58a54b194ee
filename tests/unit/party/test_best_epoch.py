"""The best of several epochs by the validation rows, and the model as it was then."""

import math

import pytest
import torch

from vfl.party.learning.best_epoch import BestEpoch


class Model:
    """One number that training changes."""

    def __init__(self):
        self.value = torch.zeros(1)

    def state(self):
        return {"value": self.value}

    def load_state(self, state):
        self.value = state["value"].clone()


def train(best, model, scores, first=0):
    for epoch, score in enumerate(scores, first):
        model.value.fill_(float(epoch))
        best.consider(epoch, {} if score is None else {"auc": score})


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [([0.5, 0.7, 0.6], 1), ([0.5, 0.7, 0.7], 1), ([0.9], 0), ([math.nan, 0.1], 1), ([None, 0.1, None], 1)],
)
def test_the_first_best_epoch_is_restored(scores, chosen):
    model = Model()
    best = BestEpoch(model, "auc")
    train(best, model, scores)
    best.restore()
    assert (best.epoch, model.value.item()) == (chosen, chosen)


def test_without_any_score_the_model_stays_as_it_is():
    model = Model()
    best = BestEpoch(model, "auc")
    train(best, model, [None, math.nan])
    best.restore()
    assert model.value.item() == 1.0
    assert best.state() == {}


def test_patience():
    model = Model()
    best, limitless = BestEpoch(model, "auc", patience=2), BestEpoch(model, "auc")
    over = []
    for epoch, score in enumerate([0.5, 0.4, 0.6, 0.5, 0.5, 0.5]):
        best.consider(epoch, {"auc": score})
        limitless.consider(epoch, {"auc": score})
        over.append(best.patience_is_over)
    assert over == [False, False, False, False, True, True]
    assert not limitless.patience_is_over


@pytest.mark.parametrize("interrupted_after", range(1, 6))
def test_an_interruption_changes_nothing(interrupted_after):
    scores = [0.5, 0.4, 0.6, 0.5, 0.55, 0.3]
    model = Model()
    best = BestEpoch(model, "auc", patience=2)
    train(best, model, scores[:interrupted_after])
    best.loss = 0.25
    resumed_model = Model()
    resumed = BestEpoch(resumed_model, "auc", patience=2)
    resumed.load_state({name: value.clone() for name, value in best.state().items()})
    assert resumed.loss == 0.25
    assert resumed.patience_is_over == best.patience_is_over
    train(resumed, resumed_model, scores[interrupted_after:], interrupted_after)
    resumed.restore()
    assert (resumed.epoch, resumed.score, resumed_model.value.item()) == (2, 0.6, 2.0)
