"""What the active party notes of each epoch for its own report."""

from vfl.party.learning.epoch_history import EpochHistory


def test_mean_losses_and_metrics_by_epoch_also_after_an_interruption():
    history = EpochHistory()
    history.trained(1, 0.5)
    history.trained(1, 0.75)
    history.scored(1, {"auc": 0.6})
    history.trained(3, 0.25)
    resumed = EpochHistory()
    resumed.load_json(history.to_json())
    for one in (history, resumed):
        one.trained(3, 0.5)
        assert one.records(best=[1]) == [
            {"epoch": 1.0, "loss": 0.625, "validation_auc": 0.6, "best": 1.0},
            {"epoch": 3.0, "loss": 0.375},
        ]
