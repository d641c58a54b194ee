"""Random and changed inputs for every decoder; ``scripts/fuzz.sh`` tries many more, guided by coverage."""

import re
import tracemalloc
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fuzzing.edits import edited
from support.fuzzing.members import remove_folder
from support.fuzzing.registry import MEBIBYTE, PER_BYTE, Target, TooMuchMemory
from support.fuzzing.targets import TARGETS

from vfl.errors import ProtocolError

# Warnings are errors in tests; in production a certificate that only just may be read is warned of.
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "fuzzing.md"


@pytest.fixture(scope="module", autouse=True)
def _leave_nothing_behind():
    yield
    remove_folder()


@contextmanager
def traced():
    """Counts allocations; not for longer than needed, since it slows down everything."""
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


@pytest.fixture(params=TARGETS.values(), ids=TARGETS)
def target(request) -> Target:
    return request.param


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """Any bytes, valid encodings with a few changes, and the beginning of one with the end of another."""
    seeds, recipes = st.sampled_from(target.seeds), st.binary(max_size=24)
    cut = st.integers(0, target.max_bytes)
    spliced = st.builds(lambda one, other, at: one[:at] + other[at:], seeds, seeds, cut)
    anything = st.binary(max_size=min(target.max_bytes, 512))
    return st.one_of(st.builds(edited, seeds, recipes), st.builds(edited, spliced, recipes), anything)


def test_a_valid_encoding_is_accepted(target):
    assert any(target.check(seed) for seed in target.seeds)


# The library warns of names that are longer than X.520 has them, and decodes them.
@pytest.mark.filterwarnings("ignore:Attribute's length must be:UserWarning")
def test_any_input_is_decoded_or_refused(target):
    for seed in target.seeds:  # what is made once and kept is neither timed nor counted
        target.check(seed)

    @settings(
        max_examples=target.examples,
        deadline=timedelta(seconds=5),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(inputs(target))
    def try_one(data: bytes) -> None:
        with traced():
            target.check(data)

    try_one()


def _target(decode) -> Target:
    return Target("made-up", decode, list, room=MEBIBYTE, max_bytes=16, examples=1)


def test_another_exception_than_a_vfl_error_is_a_crash():
    with pytest.raises(KeyError):
        _target(lambda data: {}[data]).check(b"x")


def test_a_refusal_is_none():
    def refuse(_: bytes) -> None:
        raise ProtocolError("no")

    assert not _target(refuse).check(b"x")


def test_a_refusal_that_cannot_cross_is_a_crash():
    def refuse(data: bytes) -> None:
        raise ProtocolError(data)  # type: ignore[arg-type]

    with pytest.raises(AttributeError):
        _target(refuse).check(b"x")


def test_a_length_that_is_believed_is_a_crash():
    believing = _target(lambda data: bytearray(int.from_bytes(data, "big")))
    with traced():
        believing.check((MEBIBYTE // 2).to_bytes(8, "big"))
    with traced(), pytest.raises(TooMuchMemory, match="8 bytes of input"):
        believing.check((MEBIBYTE + 8 * PER_BYTE + 1).to_bytes(8, "big"))


def test_every_target_is_documented():
    documented = re.findall(r"^\| `([a-z-]+)` \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(documented) == sorted(TARGETS)
