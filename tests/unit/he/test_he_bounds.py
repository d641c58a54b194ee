"""Jobs are checked at every batch size that can occur: none that is accepted fails a bound later."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfl.errors import ParameterError
from vfl.he.bounds import MAX_ROUNDING, REPETITIONS, Workload, check_bounds
from vfl.he.layout import MAX_TERMS, plan_backward, plan_product, reduction_layout, sizes_that_differ
from vfl.he.noise import product_distance, reduction_distance
from vfl.he.parameters import FLOODING_BITS, Parameters, RingSettings
from vfl.he.rounding import transform_error

PARAMETERS = Parameters.validated(RingSettings())
FINER = Parameters.validated(RingSettings(activation_bits=11))
DEGREE = PARAMETERS.degree


def _one(rows: int) -> Workload:
    return Workload({rows: 1}, {})


@pytest.mark.parametrize(
    ("parameters", "rows", "widths", "link_mbit", "bound"),
    [(PARAMETERS, 51_064, (512, 8), 10_000, 0.39), (FINER, 46_282, (512, 8), 10, 0.29)],
)
def test_sizes_between_powers_of_two_are_checked_themselves(parameters, rows, widths, link_mbit, bound):
    """Powers of two around them are within the bound; checks at these alone accepted both."""
    blocks = plan_backward(rows, 1, widths, widths, DEGREE, link_mbit).blocks
    assert transform_error(parameters, reduction_layout(blocks, 512)) == pytest.approx(bound, abs=0.01)
    for work in (_one(rows), Workload.before_alignment(1, rows, 64, DEGREE)):
        with pytest.raises(ParameterError, match="weight-gradient kernel is not provably exact"):
            check_bounds(parameters, work, widths, 1, link_mbit=link_mbit)
    for power in (32_768, 65_536):
        check_bounds(parameters, _one(power), widths, 1, widths, link_mbit)


def test_a_last_batch_that_may_occur_is_checked_before_the_alignment():
    """The full batch is within the bound, 46,282 rows are not."""
    widths = (512, 8)
    check_bounds(FINER, _one(65_536), widths, 1, widths, 10)
    with pytest.raises(ParameterError, match="not provably exact for batches of"):
        check_bounds(FINER, Workload.before_alignment(1, 65_536, 64, DEGREE), widths, 1, widths, 10)
    check_bounds(FINER, Workload({65_536: 10}, {46_282: 3}), widths, 1, widths, 10)  # scoring goes only forward


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 65_536),
    widths=st.lists(st.integers(1, 64), min_size=1, max_size=3).map(tuple),
    out_width=st.integers(1, 64),
    degree=st.sampled_from([4096, 8192, 16384]),
)
def test_sizes_of_one_class_have_the_same_layouts(rows, widths, out_width, degree):
    """``sizes_that_differ`` leaves out only sizes like one that it names."""
    like = min(size for size in sizes_that_differ(1, 65_536, degree) if size >= rows)
    product, other = (plan_product(size, widths[0], out_width, degree) for size in (rows, like))
    assert (_like(product.source, like), _like(product.product, like)) == (other.source, other.product)
    backward, other = (plan_backward(size, out_width, widths, widths[:1], degree) for size in (rows, like))
    assert (_like(backward.rows, like), _like(backward.blocks, like)) == (other.rows, other.blocks)


def _like(packing, rows):
    assert replace(packing, rows=rows).blocks == packing.blocks
    return replace(packing, rows=rows)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 20_000),
    trained=st.lists(st.integers(1, 100), min_size=1, max_size=4).map(tuple),
    out_width=st.integers(1, 64),
    link=st.sampled_from([10, 1000, 10_000]),
)
def test_only_the_widest_bottom_that_trains_matters(rows, trained, out_width, link):
    widths = (*trained, 30)
    all_of_them = plan_backward(rows, out_width, widths, trained, DEGREE, link)
    assert all_of_them == plan_backward(rows, out_width, widths, (max(trained),), DEGREE, link)


@pytest.mark.parametrize(("smallest", "largest"), [(1, 1), (1, 100), (33, 64), (2048, 4096), (32_768, 65_536)])
def test_classes_cover_the_whole_range_and_are_few(smallest, largest):
    sizes = list(sizes_that_differ(smallest, largest, DEGREE))
    assert sizes[0] == largest
    assert sizes == sorted(set(sizes), reverse=True)
    assert all(smallest <= size <= largest for size in sizes)
    assert len(sizes) <= 128


def test_sizes_too_large_for_the_degree_are_refused():
    with pytest.raises(ValueError, match="too large"):
        list(sizes_that_differ(1, 64 * 4096 + 1, 4096))


@settings(deadline=None, max_examples=15)
@given(batch=st.integers(1, 65_536), rest=st.floats(0.5, 1), seed=st.integers(0, 9))
def test_what_is_accepted_before_the_alignment_is_exact_at_any_last_batch(batch, rest, seed):
    widths = ((512, 8), (32,), (7, 300))[seed % 3]
    rows = min(batch, max(-(-batch // 2), int(rest * batch)))
    try:
        check_bounds(FINER, Workload.before_alignment(3, batch, 64, DEGREE), widths, 4)
    except ParameterError:
        return
    for trained in ((), widths[:1], widths):
        blocks = plan_backward(rows, 4, widths, trained, DEGREE).blocks
        assert all(transform_error(FINER, reduction_layout(blocks, width)) < MAX_ROUNDING for width in widths)
        check_bounds(FINER, _one(rows), widths, 4, trained)


def test_shapes_beyond_the_bounds_are_refused():
    work = Workload.before_alignment(1, 1024, 1024, DEGREE)
    check_bounds(PARAMETERS, work, (64, 32), 32)
    wide_activations = Parameters.validated(RingSettings(activation_bits=18, gradient_bits=4, weight_bits=32))
    with pytest.raises(ParameterError, match="not provably exact"):
        check_bounds(wide_activations, work, (64,), 32)
    with pytest.raises(ParameterError, match="too wide"):
        check_bounds(PARAMETERS, _one(64), (2 * MAX_TERMS,), 32)
    few_primes = Parameters.validated(RingSettings(primes=5))
    with pytest.raises(ParameterError, match="needs flooding of"):
        check_bounds(few_primes, _one(64), (8,), 8)


DEFAULT_CREDIT = Workload({512: 15 * 41}, {4096: 17, 1000: 17})


def test_six_primes_do_not_hide_the_noise_of_a_whole_job():
    """Each of its ciphertexts is hidden with a margin of more than 40 bits; all of them together are not."""
    six = Parameters.validated(RingSettings(primes=6))
    check_bounds(six, Workload({64: 1}, {}), (4,), 4)
    with pytest.raises(ParameterError, match=r"whole job: within a statistical distance of 2\^-24, 2\^-40") as caught:
        check_bounds(six, DEFAULT_CREDIT, (32,), 16, (32,))
    assert "7 of 30 bits" in caught.value.remedy
    check_bounds(PARAMETERS, DEFAULT_CREDIT, (32,), 16, (32,))


def test_the_distance_adds_up_over_batches_parties_epochs_and_scoring():
    """One more than the largest job of each kind is refused."""

    def accepted(epochs: int, parties: int, scored: int) -> bool:
        try:
            check_bounds(PARAMETERS, Workload({512: epochs}, {512: scored}), (32,) * parties, 16, ())
        except ParameterError:
            return False
        return True

    forward = plan_product(512, 32, 16, DEGREE)
    backward = reduction_layout(plan_backward(512, 16, (32,), (), DEGREE).blocks, 32)
    once, gradient = product_distance(PARAMETERS, forward), reduction_distance(PARAMETERS, backward)
    assert forward.product.ciphertexts * forward.product.positions.size == 512 * 16
    most = int(2.0**-FLOODING_BITS / REPETITIONS / once)
    assert most > 10**6
    assert accepted(0, 1, most)
    assert not accepted(0, 1, most + 2)
    assert accepted(0, 4, most // 4)
    assert not accepted(0, 5, most // 4)
    trained = int(2.0**-FLOODING_BITS / REPETITIONS / (once + gradient))
    assert accepted(trained, 1, 0)
    assert not accepted(trained, 1, most - trained + 2)


def test_before_the_alignment_only_the_certain_work_counts():
    six = Parameters.validated(RingSettings(primes=6))
    check_bounds(six, Workload.before_alignment(1, 64, 4096, DEGREE), (4,), 4)
    with pytest.raises(ParameterError, match="whole job"):
        check_bounds(six, Workload.before_alignment(10**6, 64, 4096, DEGREE), (4,), 4)
