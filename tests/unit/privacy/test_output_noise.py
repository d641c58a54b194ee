"""Noise on outputs: Gaussian, equal for an equal release, independent for any other."""

import numpy as np
import pytest

from vfl.ids import StepKey
from vfl.privacy import output_noise
from vfl.privacy.output_noise import LARGEST_DEVIATION, OutputNoise, release_labels
from vfl.privacy.releases import Releases

SECRET = bytes(range(32))
BITS = 46
ROWS, WIDTH = 40_000, 3
IDS = [b"row %d" % row for row in range(4)]
OPERAND = np.arange(12, dtype=np.int64).reshape(4, 3)
COLUMNS = slice(0, 2)


def _numbered(count: int) -> list[bytes]:
    return release_labels(b"context", [b"%d" % row for row in range(count)], np.zeros((count, 1), dtype=np.int64))


def _check_standard_normal(values: np.ndarray) -> None:
    """Mean, deviation, kurtosis, tails, and no correlation between rows or columns, all to five standard errors."""
    count = values.size
    assert abs(values.mean()) < 5 / count**0.5
    assert abs(values.std() - 1) < 5 / (2 * count) ** 0.5
    assert abs((values**4).mean() - 3) < 5 * (96 / count) ** 0.5
    beyond = (np.abs(values) > 2).mean()
    assert abs(beyond - 0.0455) < 5 * (0.0455 / count) ** 0.5
    columns = np.corrcoef(values, rowvar=False)
    assert np.abs(columns - np.eye(values.shape[1])).max() < 5 / values.shape[0] ** 0.5
    following = (values[1:] * values[:-1]).mean()
    assert abs(following) < 5 / count**0.5


@pytest.mark.parametrize("sigma", [2.0**-8, 0.3, 16.0])
def test_noise_on_outputs_is_gaussian_of_the_stated_deviation(sigma):
    noise = OutputNoise(SECRET).draw(_numbered(ROWS), WIDTH, sigma, BITS)
    assert (noise.dtype, noise.shape) == (np.int64, (ROWS, WIDTH))
    _check_standard_normal(noise / (sigma * 2.0**BITS))


def test_normal_values_are_standard_normal_and_independent_of_the_noise_on_outputs():
    source, labels = OutputNoise(SECRET), _numbered(ROWS)
    normals = source.normals(labels, WIDTH)
    _check_standard_normal(normals)
    outputs = source.draw(labels, WIDTH, 1.0, BITS) * 2.0**-BITS
    assert abs((normals * outputs).mean()) < 5 / normals.size**0.5


def test_every_low_order_bit_is_drawn():
    """A double has 53 bits; without a second draw the last ones of wide noise would be zero."""
    noise = OutputNoise(SECRET).draw(_numbered(4000), WIDTH, 16.0, 50)
    for bit in range(16):
        share = ((noise >> bit) & 1).mean()
        assert abs(share - 0.5) < 5 * 0.5 / noise.size**0.5, bit


def test_no_draw_is_beyond_the_largest_deviation():
    for word in (0, 1, 2**63, 2**64 - 1):
        words = np.full((1, 2, 2), word, dtype=np.uint64)
        values = output_noise._gaussian(words)
        assert np.isfinite(values).all()
        assert np.abs(values).max() <= LARGEST_DEVIATION


def test_equal_labels_draw_equal_noise_and_others_independent_noise():
    source, labels = OutputNoise(SECRET), _numbered(ROWS)
    noise = source.draw(labels, WIDTH, 1.0, BITS)
    np.testing.assert_array_equal(OutputNoise(SECRET).draw(labels[::-1], WIDTH, 1.0, BITS), noise[::-1])
    others = source.draw(release_labels(b"other", [b""] * ROWS, np.arange(ROWS)[:, None]), WIDTH, 1.0, BITS)
    for other in (others, OutputNoise(bytes(32)).draw(labels, WIDTH, 1.0, BITS)):
        real, theirs = noise * 2.0**-BITS, other * 2.0**-BITS
        assert abs((real * theirs).mean()) < 5 / noise.size**0.5
        assert not (noise == other).any()


def _labels(
    receiver="bank", ids=IDS, operand=OPERAND, columns=COLUMNS, lineage=None, shaping=b"", **changes
) -> list[bytes]:
    given = {"owner": "clinic", "statement": b"statement", "secret": SECRET, "sigma": 0.25, "inputs": b"table"}
    releases = Releases(**{**given, **changes})
    releases.shaping = shaping
    if lineage is not None:
        releases.move_to(lineage)
    return releases.labels(receiver, ids, operand, columns)


@pytest.mark.parametrize(
    "change",
    [
        {"owner": "insurer"},
        {"receiver": "hub"},
        {"statement": b"another job"},
        {"lineage": bytes(32)},
        {"inputs": b"another table"},
        {"sigma": 0.250001},
        {"shaping": b"another covariance"},
        {"columns": slice(1, 2)},
        {"columns": slice(0, 3)},
        {"ids": [b"other %d" % row for row in range(4)]},
        {"operand": OPERAND + 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_changed_component_of_a_label_changes_it_in_every_row(change):
    assert _labels() == _labels()
    assert all(len(label) == 32 for label in _labels())
    assert not set(_labels()) & set(_labels(**change))


def test_a_change_of_one_row_changes_the_label_of_this_row_alone():
    operand = OPERAND.copy()
    operand[2, 1] += 1
    assert [one == other for one, other in zip(_labels(), _labels(operand=operand), strict=True)] == [1, 1, 0, 1]


def test_the_end_of_an_id_is_not_taken_for_the_beginning_of_an_operand():
    operand = np.frombuffer(b"abcdefghABCDEFGH", dtype="<i8").astype(np.int64)
    one = release_labels(b"context", [b"x"], operand[None, :1])
    other = release_labels(b"context", [b"xabcdefgh"], operand[None, 1:1])
    assert one != other


def test_the_noise_of_a_release_follows_its_label_and_the_weights():
    releases = Releases("clinic", b"statement", SECRET, 0.25)
    before = releases.labels("bank", IDS, OPERAND, COLUMNS)
    noise = releases.noise(before, 2, BITS)
    np.testing.assert_array_equal(releases.noise(releases.labels("bank", IDS, OPERAND, COLUMNS), 2, BITS), noise)
    key = StepKey("run", 1, 0)
    releases.move_to(releases.after_step(key, releases.commit(key, OPERAND)))
    after = releases.labels("bank", IDS, OPERAND, COLUMNS)
    assert not set(before) & set(after)
    assert not (releases.noise(after, 2, BITS) == noise).any()
    assert not (releases.operand_noise(after, 2) == releases.operand_noise(before, 2)).any()
