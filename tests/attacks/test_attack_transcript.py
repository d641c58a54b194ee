"""Everything a party receives over a run with two passive parties is uniform to it, and a retry changes every mask."""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pytest
from support.attacks.key_owner import secret_coefficients
from support.attacks.returned_products import returned_ciphertexts
from support.attacks.uniformity import looks_uniform
from support.attacks.weakened import send_all_coefficients, unused_coefficients
from support.layers.exchanges import Transcript, run_exchanges
from support.layers.interaction import PARAMETERS, Layer, encrypted_layer, make_shape, numbered, plaintext_layer

from vfl.he.arithmetic.bits import packed_words, unpack_bits
from vfl.he.layout import BackwardLayout, product_layout, reduction_layout
from vfl.he.packing import ReductionPacking, RowPacking
from vfl.ids import StepKey
from vfl.interact.encrypted_active import EncryptedActive
from vfl.interact.fixed_point import center
from vfl.interact.layer import InteractionShape
from vfl.messages import (
    EncryptedActivations,
    EncryptedGradientBlocks,
    EncryptedGradientRows,
    ForwardShare,
    FreshCiphertexts,
    GradientCommitment,
    HiddenCiphertexts,
    MaskedActivationGradient,
    MaskedActivationProduct,
    MaskedGradientProduct,
    MaskedWeightGradient,
    WeightShareOffer,
)
from vfl.privacy.pairwise_masks import PairwiseMasks

WIDTHS = {"bank": 3, "telco": 2}
ROWS, OUT_WIDTH, STEPS, MULTIPLIER = 60, 3, 3, 5
SHAPE = make_shape(WIDTHS, OUT_WIDTH)
SENT_TO_ALL = EncryptedGradientRows | EncryptedGradientBlocks | GradientCommitment


@dataclass
class Recording:
    """A run with everything each party sent, and what no other party may learn from it."""

    layer: Layer
    transcript: Transcript
    secrets: dict[str, np.ndarray] = field(default_factory=dict)

    def messages(self, kind):
        return [message for _, _, message in self.transcript.sent if isinstance(message, kind)]


def _record(layer: Layer) -> Recording:
    rng = np.random.default_rng(3)
    run = Recording(layer, Transcript())
    layer.setup(run.transcript)
    for step in range(STEPS):
        alpha = {name: rng.integers(-1024, 1025, (ROWS, width)) for name, width in WIDTHS.items()}
        d_z = rng.integers(-4096, 4097, (ROWS, OUT_WIDTH))
        run.secrets |= {f"alpha of {name}, step {step}": value for name, value in alpha.items()}
        run.secrets |= {f"dL/dZ, step {step}": d_z}
        run.secrets |= {f"weights of {name}, step {step}": value for name, value in layer.shares().items()}
        layer.forward(step, alpha, run.transcript)
        layer.backward(step, d_z, MULTIPLIER, run.transcript)
    return run


def _packed(per: int) -> RowPacking:
    return RowPacking(ROWS, OUT_WIDTH, PARAMETERS.degree, 64, per, 64)


@pytest.fixture(
    scope="module",
    params=[BackwardLayout(_packed(4), _packed(4)), BackwardLayout(_packed(1), _packed(2))],
    ids=["shared", "apart"],
)
def run(request):
    """With one encryption of the gradient for both products, and with one for each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InteractionShape, "backward_layout", lambda self, rows, columns, parameters: request.param)
        yield _recorded()


def _recorded() -> Recording:
    recording = _record(encrypted_layer(SHAPE))
    for name, key in recording.layer.keys.items():
        recording.secrets[f"secret key of {name}"] = secret_coefficients(PARAMETERS, key)[None, :]
    for name, share in recording.layer.active.shares().items():
        recording.secrets[f"final V of {name}"] = share
    for name, side in recording.layer.passive.items():
        recording.secrets[f"final U of {name}"] = side.shares()[name]
    return recording


def test_every_message_kind_of_the_protocol_was_recorded(run):
    kinds = {type(message) for _, _, message in run.transcript.sent}
    apart = set() if _backward_layout().shared else {EncryptedGradientBlocks}
    assert kinds == apart | {
        WeightShareOffer,
        GradientCommitment,
        EncryptedActivations,
        MaskedActivationProduct,
        ForwardShare,
        EncryptedGradientRows,
        MaskedGradientProduct,
        MaskedWeightGradient,
        MaskedActivationGradient,
    }


@pytest.mark.parametrize(("kind", "name"), [(ForwardShare, "sh_z_BK"), (MaskedActivationGradient, "sh_d_alpha_BD")])
def test_shares_are_uniform(run, kind, name):
    values = np.concatenate([getattr(message, name).ravel() for message in run.messages(kind)])
    assert np.abs(values).max() <= PARAMETERS.t // 2
    assert looks_uniform(values, PARAMETERS.t)


def _backward_layout() -> BackwardLayout:
    return SHAPE.backward_layout(ROWS, OUT_WIDTH, PARAMETERS)


def _returned(run) -> list[tuple[str, HiddenCiphertexts, RowPacking | ReductionPacking]]:
    """Every hidden product of the run: to whom it went, and how its result is packed."""
    found = []
    for _, receiver, message in run.transcript.sent:
        if isinstance(message, HiddenCiphertexts):
            found.append((receiver, message, _packing(run, receiver, message)))
    return found


def _packing(run, receiver, message) -> RowPacking | ReductionPacking:
    if isinstance(message, MaskedActivationProduct):
        return SHAPE.forward_layout(receiver, ROWS, OUT_WIDTH, PARAMETERS).product
    sender = next(sender for sender, _, sent in run.transcript.sent if sent is message)
    backward = _backward_layout()
    if isinstance(message, MaskedGradientProduct):
        return product_layout(backward.rows, WIDTHS[sender]).product
    return reduction_layout(backward.blocks, WIDTHS[sender]).product


def test_masked_products_decrypt_to_uniform_coefficients_wherever_they_can_be_decrypted(run):
    keys, values = run.layer.keys, defaultdict(list)
    for receiver, message, packing in _returned(run):
        decrypted = keys[receiver].decrypt(returned_ciphertexts(message, packing))[:, packing.positions]
        values[type(message)].append(decrypted.ravel())
    for kind in (MaskedActivationProduct, MaskedGradientProduct):
        assert looks_uniform(np.concatenate(values[kind]), PARAMETERS.t)


def test_masked_weight_gradients_decrypt_to_uniform_coefficients(monkeypatch):
    """One has few entries, which are too few to tell; here all coefficients are sent."""
    send_all_coefficients(monkeypatch)
    run = _record(encrypted_layer(SHAPE))
    for receiver, message, packing in _returned(run):
        decrypted = run.layer.keys[receiver].decrypt(returned_ciphertexts(message, packing))
        assert looks_uniform(decrypted, PARAMETERS.t)


def test_returned_products_have_no_more_coefficients_than_the_result_has_entries(run):
    """c0 of a product is sent where its packing holds entries, c1 whole, and both packed to their bits."""
    bits = PARAMETERS.settings.prime_bits
    for _, message, packing in _returned(run):
        holds = ~unused_coefficients(packing).all(axis=0)
        np.testing.assert_array_equal(packing.positions, np.flatnonzero(holds))
        assert message.ct_first_CLW.shape[2] == packed_words(int(holds.sum()), bits)
        assert message.ct_second_CLW.shape[2] == packed_words(PARAMETERS.degree, bits)


def test_every_polynomial_of_every_ciphertext_is_uniform_modulo_every_prime(run):
    """Fresh ciphertexts are sent as first polynomials and seeds, returned ones as both, the first at few positions."""
    polynomials = [
        (m.ct_first_CLW, PARAMETERS.degree) for _, _, m in run.transcript.sent if isinstance(m, FreshCiphertexts)
    ]
    for _, message, packing in _returned(run):
        polynomials += [
            (message.ct_first_CLW, len(packing.positions)),
            (message.ct_second_CLW, PARAMETERS.degree),
        ]
    for words, count in polynomials:
        residues = unpack_bits(words, count, PARAMETERS.settings.prime_bits)
        for index, prime in enumerate(PARAMETERS.primes[: words.shape[1]]):
            if residues[:, index].size >= 320:
                assert looks_uniform(residues[:, index], prime)


def test_no_encryption_has_the_seed_of_another(run):
    """The gradient goes to all passive parties alike, so it counts once."""
    transcript = run.transcript
    sent = [*transcript.of_kind(FreshCiphertexts, "active", "bank"), *run.messages(EncryptedActivations)]
    every = np.concatenate([message.seeds_C for message in sent])
    assert every.shape[0] >= STEPS * 3
    assert np.unique(every, axis=0).shape == every.shape


def test_every_passive_party_gets_the_same_encryption_of_the_gradient(run):
    kinds = {type(message) for message in run.messages(EncryptedGradientRows | EncryptedGradientBlocks)}
    assert len(kinds) == 1 + (not _backward_layout().shared)
    for kind in kinds:
        to_bank, to_telco = (run.transcript.numbered(kind, "active", name) for name in WIDTHS)
        assert len(to_bank) == STEPS
        assert [(n, id(m)) for n, m in to_bank] == [(n, id(m)) for n, m in to_telco]


def _residues(message) -> list[np.ndarray]:
    """The residues that a message carries, a word each: secrets among them would not show in packed bits."""
    bits = PARAMETERS.settings.prime_bits
    packed = [tensor for name, tensor in message.tensors().items() if name.startswith("ct_")]
    return [unpack_bits(words, words.shape[2] * 32 // bits, bits).astype("<u4") for words in packed]


def _places(secrets: dict[str, np.ndarray], transcript: Transcript) -> list[str]:
    """Secrets that stand in a message, as integers, as residues modulo a prime or as residues modulo t."""
    forms = {}
    for what, values in secrets.items():
        row = np.ascontiguousarray(values[0])
        forms[what] = [row.astype("<i8").tobytes(), (row % PARAMETERS.t).astype("<i8").tobytes()]
        forms[what] += [(row % prime).astype("<u4").tobytes() for prime in PARAMETERS.primes]
    found = []
    for _, _, message in transcript.sent:
        content = b"".join(tensor.tobytes() for tensor in [*message.tensors().values(), *_residues(message)])
        found += [what for what, needles in forms.items() if any(needle in content for needle in needles)]
    return found


def test_no_secret_appears_in_a_message(run):
    assert _places(run.secrets, run.transcript) == []


def test_the_search_for_secrets_finds_them_in_the_clear_protocol():
    recording = _record(plaintext_layer(SHAPE))
    assert any(what.startswith("alpha") for what in _places(recording.secrets, recording.transcript))


def test_no_two_messages_share_a_ciphertext_or_a_share(run):
    contents = [
        part.tobytes()
        for _, receiver, message in run.transcript.sent
        if receiver == "bank" or not isinstance(message, SENT_TO_ALL)
        for tensor in message.tensors().values()
        for part in np.atleast_2d(tensor)
    ]
    assert len(set(contents)) == len(contents)


# --- one passive party's contribution to Z ---


@dataclass
class Attempts:
    """One step run twice under different attempt numbers, as the active party saw it."""

    contributions: list[dict[str, np.ndarray]]
    z: list[np.ndarray]
    alpha: list[dict[str, np.ndarray]]
    weights: dict[str, np.ndarray]


def _run_attempts(monkeypatch: pytest.MonkeyPatch, attempts: tuple[int, ...]) -> Attempts:
    """The active party takes its own r_i off every share that it received: all it can know of one passive party."""
    rng = np.random.default_rng(9)
    masks: dict[str, np.ndarray] = {}
    masked_product = EncryptedActive._masked_product

    def remember(self, name, rows, columns):
        masks[name] = yield from masked_product(self, name, rows, columns)
        return masks[name]

    monkeypatch.setattr(EncryptedActive, "_masked_product", remember)
    layer = encrypted_layer(SHAPE)
    layer.setup()
    result = Attempts([], [], [], layer.shares())
    for attempt in attempts:
        alpha = {name: rng.integers(-1024, 1025, (ROWS * 3, width)) for name, width in WIDTHS.items()}
        key, transcript = StepKey("job", 0, attempt), Transcript()
        ids = numbered(ROWS * 3)
        sides = {
            n: side.forward(key, alpha[n], side._releases.labels("active", ids, alpha[n], layer.columns), layer.columns)
            for n, side in layer.passive.items()
        }
        z = run_exchanges({"active": layer.active.forward(key, ROWS * 3, layer.columns), **sides}, transcript)["active"]
        shares = {s: m.sh_z_BK for s, _, m in transcript.sent if isinstance(m, ForwardShare)}
        result.contributions.append({n: center(shares[n] - masks[n], PARAMETERS.tau) for n in shares})
        result.z.append(z)
        result.alpha.append(alpha)
    return result


def _own_part(alpha: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return center(alpha @ weights, PARAMETERS.tau)


def test_only_the_sum_of_contributions_means_anything(monkeypatch):
    seen = _run_attempts(monkeypatch, (0,))
    contributions = seen.contributions[0]
    for name, values in contributions.items():
        assert looks_uniform(values, PARAMETERS.t)
        assert (values != _own_part(seen.alpha[0][name], seen.weights[name])).all()
    np.testing.assert_array_equal(center(sum(contributions.values()), PARAMETERS.tau), seen.z[0])
    assert not looks_uniform(seen.z[0], PARAMETERS.t)


def test_without_pairwise_masks_the_active_party_reads_every_contribution(monkeypatch):
    monkeypatch.setattr(PairwiseMasks, "total", lambda self, key, message, shape: np.zeros(shape, dtype=np.int64))
    seen = _run_attempts(monkeypatch, (0,))
    for name, values in seen.contributions[0].items():
        assert not looks_uniform(values, PARAMETERS.t)
        np.testing.assert_array_equal(values, _own_part(seen.alpha[0][name], seen.weights[name]))


def test_a_repeated_step_has_new_masks(monkeypatch):
    seen = _run_attempts(monkeypatch, (0, 1))
    for name in WIDTHS:
        difference = seen.contributions[1][name] - seen.contributions[0][name]
        assert looks_uniform(difference, PARAMETERS.t)


def test_masks_that_ignore_the_attempt_give_differences_away(monkeypatch):
    total = PairwiseMasks.total

    def ignoring(self, key, message, shape):
        return total(self, StepKey(key.run, key.step, 0), message, shape)

    monkeypatch.setattr(PairwiseMasks, "total", ignoring)
    monkeypatch.setattr(PairwiseMasks, "_use_once", lambda self, key, message: None)
    seen = _run_attempts(monkeypatch, (0, 1))
    for name in WIDTHS:
        difference = center(seen.contributions[1][name] - seen.contributions[0][name], PARAMETERS.tau)
        expected = _own_part(seen.alpha[1][name] - seen.alpha[0][name], seen.weights[name])
        np.testing.assert_array_equal(difference, expected)
