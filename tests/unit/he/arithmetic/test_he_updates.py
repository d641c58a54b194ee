"""Learning rate and momentum as integers: how far they are off, what is refused, and that proposals are accepted."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfl.errors import ParameterError, RangeError
from vfl.he.arithmetic.updates import MAX_KERNEL_ERROR, check_rates, rounded_kernel, update_kernel
from vfl.he.bounds import possible_training_sizes
from vfl.he.parameters import Parameters, RingSettings

PARAMETERS = Parameters.validated(RingSettings())
UNIT = 2.0**-18  # the rate per row that m = 1 stands for


@pytest.mark.parametrize(("m", "percent"), [(1.6, 50), (6.4, 17.5), (25.6, 5.4), (64, 2.5)])
def test_small_integers_change_momentum(m, percent):
    kernel = rounded_kernel(m * 256 * UNIT, 0.9, 256, PARAMETERS.settings)
    assert 100 * kernel.error == pytest.approx(percent, abs=0.4)
    exact = [m * 0.9**k for k in range(400)]
    padded = [*kernel.integers, *[0] * 400][:400]
    assert kernel.integers == tuple(round(value) for value in exact if round(value))
    off = sum(abs(a - b) for a, b in zip(padded, exact, strict=True))
    assert kernel.error == pytest.approx(off / sum(exact))


def test_without_momentum_there_is_one_integer():
    assert update_kernel(6.2 * 256 * UNIT, 0.0, 256, PARAMETERS) == (6,)
    assert rounded_kernel(6.2 * 256 * UNIT, 0.0, 256, PARAMETERS.settings).error == pytest.approx(0.2 / 6.2)
    assert update_kernel(0.0, 0.9, 256, PARAMETERS) == (0,)


@pytest.mark.parametrize("rate", [1e-9, 25.6 * 256 * UNIT, 1e9])
def test_kernels_that_are_more_than_a_twentieth_off_are_refused(rate):
    with pytest.raises(RangeError, match="cannot be represented at batches of 256 rows"):
        update_kernel(rate, 0.9, 256, PARAMETERS)
    with pytest.raises(ParameterError, match="cannot be represented at batches of 256 rows"):
        check_rates(rate, 0.9, [256], PARAMETERS)


def test_other_bits_are_proposed_by_name_and_are_accepted():
    with pytest.raises(ParameterError) as caught:
        check_rates(0.01, 0.9, [256, 200], PARAMETERS)
    assert "set ring.weight_bits = 42, or set interaction.learning_rate = 0.0" in caught.value.remedy
    check_rates(0.01, 0.9, [256, 200], Parameters.validated(RingSettings(weight_bits=42)))
    with pytest.raises(ParameterError):
        check_rates(0.01, 0.9, [256, 200], Parameters.validated(RingSettings(weight_bits=41)))


@settings(deadline=None, max_examples=60)
@given(
    rate=st.floats(1e-5, 1.0),
    momentum=st.sampled_from([0.0, 0.5, 0.9, 0.95]),
    sizes=st.lists(st.integers(1, 2000), min_size=1, max_size=5),
)
def test_everything_proposed_is_accepted(rate, momentum, sizes):
    try:
        check_rates(rate, momentum, sizes, PARAMETERS)
    except ParameterError as error:
        remedy = error.remedy
    else:
        assert all(update_kernel(rate, momentum, size, PARAMETERS) for size in sizes)
        return
    changes = {name: int(bits) for name, bits in re.findall(r"ring\.(\w+) = (\d+)", remedy)}
    if changes:
        changed = Parameters.validated(RingSettings(**changes))
        assert changed.z_limit >= 32
        check_rates(rate, momentum, sizes, changed)
    rates = re.findall(r"\d[\d.e+-]*", remedy.partition("learning_rate = ")[2])
    assert 1 <= len(rates) <= 2
    for other in rates:
        check_rates(float(other), momentum, sizes, PARAMETERS)


@settings(deadline=None, max_examples=60)
@given(first=st.integers(2, 2000), rest=st.floats(-0.5, 0.5), momentum=st.floats(0, 0.99), batch=st.integers(1, 300))
def test_every_size_that_may_occur_is_checked(first, rest, momentum, batch):
    """The bound that spares most sizes agrees with trying all of them."""
    rate = (first + rest) * batch * UNIT
    sizes = possible_training_sizes(batch)
    errors = [rounded_kernel(rate, momentum, size, PARAMETERS.settings).error for size in sizes]
    try:
        check_rates(rate, momentum, sizes, PARAMETERS)
    except ParameterError:
        assert max(errors) > MAX_KERNEL_ERROR
    else:
        assert max(errors) <= MAX_KERNEL_ERROR


def test_the_last_smaller_batch_is_checked_before_the_run():
    """m = 1 at 256 rows is exact, 1.28 at 200 rows is not: such a run used to die at the end of its first epoch."""
    check_rates(256 * UNIT, 0.0, [256], PARAMETERS)
    with pytest.raises(ParameterError, match=r"batches of 200 rows: rounding to integers would change the .* 22 %"):
        check_rates(256 * UNIT, 0.0, [256, 200], PARAMETERS)
