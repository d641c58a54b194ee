"""How long an interrupted run is waited for: what counts, and what is of no use to wait for."""

import asyncio

import pytest
from support.virtual_time import in_virtual_time

from vfl.coordinator.interruption import FRUITLESS_ATTEMPTS, Interruption
from vfl.errors import ModelError, PeerUnreachable, RemoteError

LIMIT = 60.0
GONE = PeerUnreachable("clinic did not answer")


def begun():
    """An interruption that begins now."""
    return Interruption(PeerUnreachable("clinic did not answer"), "step 3", LIMIT)


@in_virtual_time
async def test_a_party_that_stays_away_is_waited_for_as_long_as_the_limit_says():
    interruption = begun()
    interruption.failed_again(GONE, 3)
    await asyncio.sleep(LIMIT - 1)
    assert interruption.seconds_left == pytest.approx(1.0, abs=0.1)
    interruption.failed_again(GONE, 3)
    await asyncio.sleep(1)
    with pytest.raises(PeerUnreachable, match="clinic did not answer") as raised:
        interruption.failed_again(GONE, 3)
    assert "the checkpoint of step 3 is kept: 'vfl run --resume' continues from it" in raised.value.remedy


@in_virtual_time
async def test_a_long_alignment_of_all_parties_does_not_count():
    interruption = begun()
    interruption.failed_again(GONE, 3)
    await asyncio.sleep(10)
    interruption.all_are_there()
    await asyncio.sleep(20 * LIMIT)
    interruption.failed_again(GONE, 3)
    assert interruption.seconds_left == pytest.approx(LIMIT - 10, abs=0.1)


@in_virtual_time
async def test_parties_that_meet_the_same_end_again_and_again_are_given_up():
    interruption = begun()
    interruption.failed_again(GONE, 3)
    for _ in range(FRUITLESS_ATTEMPTS - 1):
        interruption.all_are_there()
        await asyncio.sleep(LIMIT)
        interruption.failed_again(GONE, 3)
    interruption.all_are_there()
    await asyncio.sleep(LIMIT)
    with pytest.raises(PeerUnreachable):
        interruption.failed_again(GONE, 3)


@in_virtual_time
async def test_attempts_that_fail_at_once_are_repeated_until_the_limit():
    interruption = begun()
    for _ in range(10 * FRUITLESS_ATTEMPTS):
        interruption.all_are_there()
        await asyncio.sleep(0.5)
        assert interruption.failed_again(GONE, 3) > 0


@pytest.mark.parametrize(
    "error", [ModelError("a bottom without output"), RemoteError("clinic", ModelError.code, "a bottom without output")]
)
@in_virtual_time
async def test_what_waiting_does_not_mend_ends_the_run_at_once_and_promises_nothing(error):
    interruption = begun()
    with pytest.raises(type(error)) as raised:
        interruption.failed_again(error, 3)
    assert "--resume" not in raised.value.remedy


@in_virtual_time
async def test_what_began_an_interruption_is_what_is_reported_and_not_what_followed_from_it():
    interruption = begun()
    interruption.failed_again(GONE, 3)
    await asyncio.sleep(LIMIT)
    with pytest.raises(PeerUnreachable) as raised:
        interruption.failed_again(PeerUnreachable("bank did not answer at bank:1 within 0 s"), 3)
    assert raised.value.summary == "clinic did not answer"
    assert "the latest of the failed attempts since then: bank did not answer" in raised.value.detail
