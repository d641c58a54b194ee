"""The ledger of an attempt: closed with it, for work that is still going on in a thread, too."""

import pytest
from support.federations.federation import Federation

from vfl.errors import JobAborted
from vfl.ids import Split
from vfl.party.config import load_party
from vfl.party.roles.disclosure import Disclosure
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
