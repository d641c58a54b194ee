"""A call of the coordinator names a batch by numbers, which are of a peer and can be any."""

import numpy as np
import polars as pl
import pytest

from vfl.data.table import Table
from vfl.errors import ProtocolError
from vfl.ids import Batch, Split
from vfl.job.config import JobConfig
from vfl.party.learning.dataset import Dataset


@pytest.fixture(scope="module")
def dataset():
    job = JobConfig.model_validate(
        {
            "name": "job",
            "seed": 1,
            "task": {"kind": "binary"},
            "training": {"method": "joint", "batch_size": 10, "passes": 3},
            "split": {"test": 0.5},
        }
    )
    ids, numbers = pl.Series([f"{row:02}" for row in range(40)]), np.arange(40.0)
    none = np.empty((40, 0), dtype=np.object_)
    return Dataset(Table(ids, ids, numbers[:, None], ("x",), none, (), numbers), job)


def test_the_batches_of_a_pass_are_there(dataset):
    assert [len(dataset.batch_rows(batch)) for batch in dataset.batches(Split.TRAIN, 0)] == [10, 10]


@pytest.mark.parametrize("index", [-1, 2, 2**63 - 1, -(2**63)])
def test_a_batch_that_a_pass_does_not_have_is_refused(dataset, index):
    with pytest.raises(ProtocolError, match="a batch that does not exist in the train rows"):
        dataset.batch_rows(Batch(Split.TRAIN, 0, index))


def test_a_split_without_rows_has_no_batch(dataset):
    with pytest.raises(ProtocolError, match="validation"):
        dataset.batch_rows(Batch(Split.VALIDATION, 0, 0))


@pytest.mark.parametrize("split", [Split.TRAIN, Split.TEST])
@pytest.mark.parametrize("epoch", [-1, 4, 2**32, 2**63 - 1])
def test_an_epoch_that_cannot_be_is_refused(dataset, epoch, split):
    with pytest.raises(ProtocolError, match="a batch that does not exist"):
        dataset.batch_rows(Batch(split, epoch, 0))


def test_test_rows_are_scored_after_the_last_epoch(dataset):
    assert len(dataset.batch_rows(Batch(Split.TEST, 3, 0))) == 20
