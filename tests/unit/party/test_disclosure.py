"""The ledger of an attempt: closed with it, for work that is still going on in a thread, too."""

import dataclasses

import pytest
from support.federations.federation import Federation

from vfl.errors import JobAborted, LedgerError, PolicyRefusal
from vfl.ids import Split
from vfl.party.config import load_party
from vfl.party.roles.disclosure import Disclosure, check_ledger
from vfl.privacy.ledger.release import Purpose, Release
from vfl.privacy.releases import Releases

COLUMNS, IDS, LABELS = slice(0, 1), [b"1", b"2"], [bytes([1]) * 32, bytes([2]) * 32]
RELEASES = Releases("clinic", b"statement", bytes(32), 0.5)


@pytest.fixture
def setup(tmp_path):
    federation = Federation(tmp_path).write()
    return load_party(federation.path("clinic"))


def test_an_attempt_that_is_over_releases_nothing_more(setup):
    disclosure = Disclosure(setup)
    disclosure.of_outputs(RELEASES, "run", Split.TRAIN, IDS, LABELS, COLUMNS)
    disclosure.close()
    with pytest.raises(JobAborted, match="the attempt is over"):
        disclosure.of_outputs(RELEASES, "run", Split.TRAIN, IDS, [bytes(32), bytes(32)], COLUMNS)
    disclosure.close()
    with setup.config.open_ledger() as ledger:
        assert ledger.spent(IDS) == [1, 1]


def test_gradients_of_a_row_are_counted_for_each_receiver(setup):
    disclosure = Disclosure(setup)
    for receiver, labels in (("clinic", LABELS), ("insurer", [bytes([3]) * 32, bytes([4]) * 32])):
        disclosure.of_gradients(RELEASES, "run", receiver, IDS, labels, COLUMNS, 4)
    disclosure.close()
    with setup.config.open_ledger() as ledger:
        assert ledger.summary().most == 1
        assert ledger.summary().rows == 4


SPLITS = {Split.TRAIN: IDS, Split.VALIDATION: [b"3"], Split.TEST: [b"4"]}


def _limited(setup, limit):
    policy = setup.config.policy.model_copy(update={"max_releases_per_row": limit})
    return dataclasses.replace(setup, config=setup.config.model_copy(update={"policy": policy}))


def _release(setup, run, ids, seed):
    disclosure = Disclosure(setup)
    disclosure.expect(SPLITS)
    labels = [bytes([seed, at]) * 16 for at in range(len(ids))]
    try:
        disclosure.of_outputs(RELEASES, run, Split.TRAIN, ids, labels, COLUMNS)
    finally:
        disclosure.close()


@pytest.mark.parametrize("spent", [[b"2"], [b"3"]])
def test_a_run_that_cannot_fit_is_refused_before_its_first_release(setup, spent):
    """Two passes and two evaluations: one earlier release of a limit of two is too many for any row of either split."""
    setup = _limited(setup, 2)
    with setup.config.open_ledger() as ledger:
        ledger.charge(spent, [bytes([9]) * 32], Release("run-1", "job", Purpose.TRAINING, 1, 0.4, 1.0))
    with pytest.raises(PolicyRefusal, match="rows have fewer releases left than it needs") as caught:
        _release(setup, "run-2", IDS[:1], 1)
    assert "1 of 4 rows would be released more than 2 times" in caught.value.detail
    assert "run-1 (job job, training): 1 rows" in caught.value.detail
    with setup.config.open_ledger() as ledger:
        assert ledger.spent(IDS[:1]) == [0]


def test_a_run_that_fits_or_goes_on_or_repeats_another_is_not_refused(setup):
    setup = _limited(setup, 3)
    _release(setup, "run-1", IDS, 1)
    _release(setup, "run-1", IDS, 2)  # another attempt: its earlier releases are its own
    _release(setup, "run-2", IDS, 1)  # an equal replay, which costs nothing
    with pytest.raises(PolicyRefusal, match="rows have fewer releases left"):
        _release(setup, "run-3", IDS, 3)


def test_the_run_itself_is_no_earlier_run(setup):
    setup = _limited(setup, 2)
    for seed in (1, 2):
        _release(setup, "run-1", IDS, seed)
    with pytest.raises(PolicyRefusal, match="rows are at their limit") as caught:
        _release(setup, "run-1", IDS, 3)
    assert "other runs released, the latest first: none" in caught.value.detail


def test_a_ledger_put_back_from_a_copy_is_noticed_before_anything_is_released(setup):
    check_ledger(setup)
    before = setup.config.privacy.ledger.read_bytes()
    _release(setup, "run-1", IDS, 1)
    setup.config.privacy.ledger.write_bytes(before)
    with pytest.raises(LedgerError, match="put back from a copy"):
        check_ledger(setup)
