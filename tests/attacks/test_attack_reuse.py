"""What is handed out twice gives differences away: covers those of the products they hide, zeros those of plaintexts.

The attacks succeed on a build whose pools hand out the same items again and again, and find nothing on ours, whether
its pools are empty or full.
"""

import numpy as np
import pytest
from support.attacks.key_owner import centered_integers, integers, solve_modular
from support.attacks.returned_products import returned_ciphertexts
from support.attacks.uniformity import looks_uniform
from support.attacks.weakened import take_without_removing
from support.layers.exchanges import Transcript
from support.layers.interaction import PARAMETERS, encrypted_layer, make_shape

from vfl.he.ciphertexts import from_wire
from vfl.he.pool import Pools
from vfl.messages import EncryptedActivations, MaskedActivationProduct

ROWS, WIDTH, OUT_WIDTH, PASSIVE = 120, 3, 4, "telco"
SHAPE = make_shape({PASSIVE: WIDTH}, OUT_WIDTH)


class TwoSteps:
    """Two forward passes, and what each party can compute from their messages."""

    def __init__(self, *, filled: bool) -> None:
        rng = np.random.default_rng(2)
        made: list[Pools] = []

        def make_pools(name: str) -> Pools:
            made.append(Pools(1 << 28))
            return made[-1]

        self.layer = encrypted_layer(SHAPE, make_pools=make_pools)
        self.layer.setup()
        self.layer.forward(0, {PASSIVE: np.zeros((ROWS, WIDTH), dtype=np.int64)})  # tells the pools what is needed
        while filled and any(pools.fill_one() for pools in made):
            pass
        self.share_v = self.layer.active.shares()[PASSIVE]
        self.alpha = [rng.integers(-1024, 1025, (ROWS, WIDTH)) for _ in range(2)]
        self.transcripts = [Transcript(), Transcript()]
        for step in range(2):
            self.layer.forward(step + 1, {PASSIVE: self.alpha[step]}, self.transcripts[step])
        self.layout = SHAPE.forward_layout(PASSIVE, ROWS, OUT_WIDTH, PARAMETERS)

    def difference_of_products(self) -> np.ndarray:
        """(alpha_1 - alpha_0) V, if the covers are the same: what the key owner gets by decrypting and subtracting."""
        packing, found = self.layout.product, []
        for transcript in self.transcripts:
            (message,) = transcript.of_kind(MaskedActivationProduct)
            returned = returned_ciphertexts(message, packing)
            found.append(packing.unpack(self.layer.keys[PASSIVE].decrypt(returned)))
        return (found[1] - found[0]) % PARAMETERS.t

    def solved_share(self) -> np.ndarray | None:
        """V, from the difference of products and the activations, which the key owner knows."""
        alpha, difference = self.alpha[1] - self.alpha[0], self.difference_of_products()
        columns = [solve_modular(alpha, column, PARAMETERS.t) for column in difference.T]
        if any(column is None for column in columns):
            return None
        return centered_integers(np.array(columns, dtype=object).T, PARAMETERS.t)

    def difference_of_activations(self) -> np.ndarray:
        """alpha_1 - alpha_0, if the encryptions of zero are the same: what anybody reads from the first polynomials."""
        level, q = len(PARAMETERS.primes), PARAMETERS.modulus(len(PARAMETERS.primes))
        shape = (self.layout.source.ciphertexts, level, PARAMETERS.degree)
        first = []
        for transcript in self.transcripts:
            (message,) = transcript.of_kind(EncryptedActivations)
            first.append(from_wire(PARAMETERS, message.ct_first_CLW, shape, "sender", "it").numpy())
        difference = integers(PARAMETERS, first[1] - first[0])
        scaled = (2 * PARAMETERS.t * difference + q) // (2 * q) % PARAMETERS.t
        return self.layout.source.unpack(centered_integers(scaled, PARAMETERS.t).astype(np.int64))


@pytest.fixture(scope="module")
def reusing():
    with pytest.MonkeyPatch.context() as patch:
        take_without_removing(patch)
        return TwoSteps(filled=False)


@pytest.fixture(scope="module", params=["filled", "empty"])
def ours(request):
    return TwoSteps(filled=request.param == "filled")


def test_a_cover_used_twice_gives_the_difference_of_products_and_the_weights_away(reusing):
    expected = ((reusing.alpha[1] - reusing.alpha[0]) @ reusing.share_v) % PARAMETERS.t
    np.testing.assert_array_equal(reusing.difference_of_products(), expected)
    np.testing.assert_array_equal(reusing.solved_share(), reusing.share_v)


def test_two_of_our_products_tell_nothing_by_their_difference(ours):
    assert looks_uniform(ours.difference_of_products(), PARAMETERS.t)
    assert ours.solved_share() is None


def test_an_encryption_of_zero_used_twice_gives_the_difference_of_activations_away(reusing):
    np.testing.assert_array_equal(reusing.difference_of_activations(), reusing.alpha[1] - reusing.alpha[0])


def test_two_of_our_encryptions_tell_nothing_by_their_difference(ours):
    assert looks_uniform(ours.difference_of_activations(), PARAMETERS.t)
