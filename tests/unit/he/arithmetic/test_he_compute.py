"""Work on several threads, or on a device, gives what it gives on one: results in order, errors passed on."""

import asyncio
import threading

import numpy as np
import pytest
import torch
from support.attacks.key_owner import phase, secret_coefficients
from support.layers.ciphertexts import encrypted, hidden, uniform_plaintexts

from vfl.errors import ParameterError
from vfl.he.arithmetic.compute import computing, kernel_device, spread, zeros
from vfl.he.keys import SecretKey
from vfl.he.noise import Hiding, zero_encryption_noise
from vfl.he.parameters import Parameters, RingSettings

PARAMETERS = Parameters.validated(RingSettings())


@pytest.fixture(params=[1, 3])
def threads(request):
    with computing(request.param, "cpu"):
        yield request.param


def test_results_come_in_order(threads):
    assert spread(lambda item: item * item, range(50)) == [item * item for item in range(50)]
    assert spread(lambda item: item, iter(())) == []


def test_one_item_stays_in_the_calling_thread(threads):
    assert spread(lambda item: threading.get_ident(), [0]) == [threading.get_ident()]


def test_more_items_are_shared_among_the_threads(threads):
    together = threading.Barrier(threads, timeout=10)
    used = spread(lambda item: (together.wait(), threading.get_ident())[1], range(threads))
    assert len(set(used)) == threads


def test_an_error_reaches_the_caller(threads):
    def fail(item: int) -> None:
        if item == 3:
            raise ParameterError("refused", remedy="none")

    with pytest.raises(ParameterError, match="refused"):
        spread(fail, range(5))


def test_encryption_and_hiding_are_right_and_every_draw_its_own(threads):
    key = SecretKey(PARAMETERS)
    plaintext = uniform_plaintexts(PARAMETERS, 6)
    fresh = encrypted(PARAMETERS, key, plaintext).expanded(PARAMETERS)
    zeros = key.public.encrypt_zeros(6)
    returned, mask = hidden(PARAMETERS, key.public, fresh, Hiding(110, 6))
    np.testing.assert_array_equal(key.decrypt(returned), (plaintext + mask) % PARAMETERS.t)
    noise = phase(PARAMETERS, secret_coefficients(PARAMETERS, key), zeros)
    assert np.abs(noise).max() <= zero_encryption_noise(PARAMETERS)
    every = [polynomial.numpy().tobytes() for made in (fresh, zeros, returned) for polynomial in made.flatten(0, 2)]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize("name", ["no_such_device", "cuda:99", "meta:x"])
def test_a_device_that_does_not_exist_is_refused_and_changes_nothing(name):
    before = kernel_device()
    with pytest.raises((RuntimeError, AssertionError)), computing(1, name):
        pass
    assert kernel_device() == before


def test_the_device_is_the_one_that_was_chosen():
    with computing(1, "cpu"):
        assert kernel_device() == torch.device("cpu")


def test_what_one_task_chose_is_not_another_s():
    """Parties in one process compute with threads of their own."""

    async def party(threads, results, turn):
        with computing(threads, "cpu"):
            await turn.wait()
            results[threads] = await asyncio.to_thread(spread, lambda _: threading.current_thread().name, range(40))

    async def both():
        results, turn = {}, asyncio.Event()
        tasks = [asyncio.create_task(party(threads, results, turn)) for threads in (1, 3)]
        await asyncio.sleep(0)
        turn.set()
        await asyncio.gather(*tasks)
        return results

    results = asyncio.run(both())
    assert not any(name.startswith("ciphertexts") for name in results[1])
    assert all(name.startswith("ciphertexts") for name in results[3])


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.complex128])
@pytest.mark.parametrize("shape", [(0, 3), (2, 3), (3, 2**19), (1, 7, 2**20 + 1)])
def test_zeros_are_zeros_of_their_own(shape, dtype):
    """Small and large ones, which live in memory of another kind."""
    one, other = zeros(shape, dtype), zeros(shape, dtype)
    assert (one.shape, one.dtype) == (shape, dtype)
    one.fill_(1)
    assert torch.equal(other, torch.zeros(shape, dtype=dtype))
    assert torch.equal(one, torch.ones(shape, dtype=dtype))


def test_large_zeros_go_to_the_device_that_was_asked_for():
    assert zeros((3, 2**20), torch.int64, torch.device("meta")).device.type == "meta"
