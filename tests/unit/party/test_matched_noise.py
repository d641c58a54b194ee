"""Noise in proportion to Z whatever the weights are, and the bound on Z by which its range is checked."""

import numpy as np
import pytest

from vfl.errors import RangeError
from vfl.interact.fixed_point import GUARD
from vfl.party.learning.outputs.matched_noise import MatchedNoise, mixed_covariance
from vfl.party.learning.outputs.moments import OutputMoments
from vfl.party.learning.outputs.scale import OutputScale
from vfl.privacy.output_noise import LARGEST_DEVIATION, OutputNoise

ROWS = 30_000
UNIT = 2.0**-10


def fitted(outputs: np.ndarray, ratio: float, unit: float = 1e-9) -> MatchedNoise:
    return MatchedNoise.fit(moments_of(outputs).covariance, ratio, unit)


def moments_of(outputs: np.ndarray, parts: int = 3) -> OutputMoments:
    return OutputMoments.of(np.array_split(outputs, parts), outputs.shape[1])


@pytest.fixture(scope="module")
def outputs() -> np.ndarray:
    """Correlated, of very different scales, with a constant and a repeated column."""
    rng = np.random.default_rng(3)
    mixed = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4)) * np.array([1.0, 0.1, 0.01, 0.3])
    return np.clip(np.column_stack([mixed, np.full(500, 0.7), mixed[:, 0]]) / 8, -1, 1)


@pytest.fixture(scope="module")
def normals() -> np.ndarray:
    return OutputNoise(bytes(32)).normals([b"%032d" % row for row in range(ROWS)], 6)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 2.0])
def test_noise_on_z_is_the_stated_part_of_its_deviation_for_any_weights(outputs, normals, ratio):
    noise = fitted(outputs, ratio).of(normals)
    weights = np.random.default_rng(1).normal(size=(6, 20)) * np.geomspace(1e-3, 1e3, 20)
    deviations = (outputs @ weights).std(axis=0)
    np.testing.assert_allclose((noise @ weights).std(axis=0), ratio * deviations, rtol=5 / ROWS**0.5)
    assert np.abs((noise @ weights).mean(axis=0) / (ratio * deviations)).max() < 5 / ROWS**0.5


def test_every_combination_of_columns_is_blurred_alike(outputs, normals):
    """Averaging columns of Z, or taking their differences, removes nothing: the covariance is that of Z."""
    noise = fitted(outputs, 0.5).of(normals)
    weights = np.random.default_rng(2).normal(size=(6, 3))
    of_noise, of_z = (np.cov(values @ weights, rowvar=False, bias=True) for values in (noise, outputs))
    np.testing.assert_allclose(of_noise, 0.25 * of_z, atol=0.05 * np.abs(of_z).max())


def test_where_nothing_varies_noise_has_the_deviation_of_a_unit(outputs, normals):
    """Smaller noise would be rounded to nothing."""
    noise = fitted(outputs, 0.5, UNIT).of(normals)
    assert noise[:, 4].std() == pytest.approx(UNIT, rel=0.05)
    assert (noise[:, 0] - noise[:, 5]).std() == pytest.approx(2**0.5 * UNIT, rel=0.05)
    tiny = fitted(outputs * 1e-4, 0.1, UNIT).of(normals)
    assert (np.rint(tiny / UNIT) != 0).mean() > 0.5
    assert not fitted(outputs, 0.0, UNIT).of(normals).any()


def test_moments_of_parts_are_those_of_the_whole(outputs):
    moments = moments_of(outputs, parts=7)
    assert moments.rows == len(outputs)
    np.testing.assert_allclose(moments.covariance, np.cov(outputs, rowvar=False, bias=True), atol=1e-14)
    np.testing.assert_allclose(moments.second_moment, outputs.T @ outputs / len(outputs), atol=1e-14)
    assert moments.largest_norm == np.linalg.norm(outputs, axis=1).max()
    nothing = OutputMoments.of([], 6)
    assert (nothing.rows, nothing.largest_norm, nothing.covariance.any()) == (0, 0.0, False)
    assert not moments_of(outputs[:1], parts=1).covariance.any()


@pytest.mark.parametrize("rows", [1, 2, 8, 16, 64, 256])
def test_a_batch_of_a_few_rows_leaves_no_direction_without_noise(rows):
    """The rows of a batch vary in fewer directions than there are columns of Z, which a receiver could look at."""
    rng = np.random.default_rng(6)
    outputs = np.tanh(rng.normal(size=(5000, 64)) @ rng.normal(size=(64, 64)) / 8)
    training, batch = moments_of(outputs), moments_of(outputs[:rows], parts=1)
    weights = rng.normal(size=(64, 32))
    signal = weights.T @ training.covariance @ weights
    least = {}
    for name, covariance in (("batch", batch.covariance), ("mixed", mixed_covariance(batch, training.covariance))):
        factor = MatchedNoise.fit(covariance, 0.4, UNIT).factor_DD
        noise = weights.T @ factor @ factor.T @ weights
        roots = np.linalg.inv(np.linalg.cholesky(signal))
        least[name] = np.linalg.eigvalsh(roots @ noise @ roots.T)[0] ** 0.5
    assert least["mixed"] > 0.29
    assert least["batch"] < (0.02 if rows <= 16 else 0.3), "alone, a batch does not do"


def test_no_row_of_noise_exceeds_the_bound_on_its_norm(outputs):
    noise = fitted(outputs, 0.5)
    directions = np.random.default_rng(4).normal(size=(2000, 6))
    # The norm of 6 normal values exceeds their number's root by at most so many deviations.
    longest = directions / np.linalg.norm(directions, axis=1, keepdims=True) * (6**0.5 + LARGEST_DEVIATION)
    norms = np.linalg.norm(noise.of(longest), axis=1)
    assert 0.5 * noise.largest_norm(LARGEST_DEVIATION) < norms.max() <= noise.largest_norm(LARGEST_DEVIATION)


@pytest.mark.parametrize("width", [1, 3])
def test_one_column_of_outputs_has_noise_too(normals, width):
    outputs = np.random.default_rng(5).uniform(-1, 1, (100, width))
    assert fitted(outputs, 0.5).width == width
    assert fitted(outputs, 0.5).of(normals[:, :width]).std() == pytest.approx(0.5 * outputs.std(), rel=0.1)


# --- the range of Z ---


@pytest.mark.parametrize("seed", range(5))
def test_no_gradient_within_its_bound_makes_a_larger_z(outputs, seed):
    """Against the gradient that makes the weights as large as they can be, too."""
    rng, rate, bound = np.random.default_rng(seed), 4.0, 1.0
    training = moments_of(outputs)
    scale = OutputScale.of(training, training.largest_norm, rate, bound)
    _, vectors = np.linalg.eigh(outputs.T @ outputs)
    for residuals in (rng.uniform(-bound, bound, len(outputs)), bound * np.sign(outputs @ vectors[:, -1])):
        weights = -rate * (outputs * residuals[:, None]).mean(axis=0)
        assert np.abs(outputs @ weights).max() <= scale.largest
    assert np.abs(outputs @ weights).max() > 0.2 * scale.largest, "the bound is of the right size"


def test_a_rate_for_which_z_could_leave_its_range_is_refused_with_a_remedy(outputs):
    scale = OutputScale.of(moments_of(outputs), 1.0, 4.0, 1.0)
    limit = scale.largest / (1 - GUARD)
    scale.check_range(1.001 * limit, 1)
    scale.check_range(2.001 * limit, 2)
    for allowed, parties in ((0.999 * limit, 1), (1.999 * limit, 2)):
        with pytest.raises(RangeError, match="above this party's share of its range") as raised:
            scale.check_range(allowed, parties)
        assert "set interaction.learning_rate = 2 in" in raised.value.remedy, "4 is hardly too much"
