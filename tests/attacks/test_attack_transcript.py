"""Everything a party receives over a run with two passive parties is uniform to it, and a retry changes every mask."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from support.exchanges import Transcript, run_exchanges
from support.interaction import PARAMETERS, Layer, encrypted_layer, make_shape, oracle_layer
from support.key_owner import secret_coefficients
from support.uniformity import looks_uniform

from vfl.ids import StepKey
from vfl.interact.encrypted_active import EncryptedActive
from vfl.interact.fixed_point import centre
from vfl.messages import (
    EncryptedActivations,
    EncryptedGradient,
    ForwardShare,
    MaskedActivationGradient,
    MaskedActivationProduct,
    MaskedGradientProducts,
    WeightShareOffer,
)
from vfl.privacy.pairwise_masks import PairwiseMasks

WIDTHS = {"bank": 3, "telco": 2}
ROWS, OUT_WIDTH, STEPS, MULTIPLIER = 60, 3, 3, 5
SHAPE = make_shape(WIDTHS, OUT_WIDTH)


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
        run.secrets |= {f"weights of {name}, step {step}": value for name, value in layer.weights().items()}
        layer.forward(step, alpha, run.transcript)
        layer.backward(step, d_z, MULTIPLIER, run.transcript)
    return run


@pytest.fixture(scope="module")
def run():
    recording = _record(encrypted_layer(SHAPE))
    for name, key in recording.layer.keys.items():
        recording.secrets[f"secret key of {name}"] = secret_coefficients(PARAMETERS, key)[None, :]
    for name, share in recording.layer.active.weights().items():
        recording.secrets[f"final V of {name}"] = share
    for name, side in recording.layer.passive.items():
        recording.secrets[f"final U of {name}"] = side.weights()[name]
    return recording


def test_every_message_kind_of_the_protocol_was_recorded(run):
    kinds = {type(message) for _, _, message in run.transcript.sent}
    assert kinds == {
        WeightShareOffer,
        EncryptedActivations,
        MaskedActivationProduct,
        ForwardShare,
        EncryptedGradient,
        MaskedGradientProducts,
        MaskedActivationGradient,
    }


@pytest.mark.parametrize(("kind", "name"), [(ForwardShare, "sh_z_BK"), (MaskedActivationGradient, "sh_d_alpha_BD")])
def test_shares_are_uniform(run, kind, name):
    values = np.concatenate([getattr(message, name).ravel() for message in run.messages(kind)])
    assert np.abs(values).max() <= PARAMETERS.t // 2
    assert looks_uniform(values, PARAMETERS.t)


def test_masked_products_decrypt_to_uniform_coefficients_used_or_not(run):
    keys = run.layer.keys
    for sender, receiver, message in run.transcript.sent:
        if isinstance(message, MaskedActivationProduct | MaskedGradientProducts):
            assert sender != receiver
            for words in message.tensors().values():
                decrypted = keys[receiver].decrypt(torch.from_numpy(words.astype(np.int64)))
                assert looks_uniform(decrypted, PARAMETERS.t)


def test_every_polynomial_of_every_ciphertext_is_uniform_modulo_every_prime(run):
    """Fresh ciphertexts are sent as first polynomials and seeds, returned ones whole."""
    for _, _, message in run.transcript.sent:
        for words in message.tensors().values():
            if words.dtype == np.uint32 and words.size:
                for polynomials in (words,) if words.ndim == 3 else (words[:, 0], words[:, 1]):
                    for index, prime in enumerate(PARAMETERS.primes[: words.shape[-2]]):
                        assert looks_uniform(polynomials[:, index], prime)


def test_no_encryption_has_the_seed_of_another(run):
    to_bank = [m for _, receiver, m in run.transcript.sent if isinstance(m, EncryptedGradient) and receiver == "bank"]
    seeds = [message.seeds_C for message in run.messages(EncryptedActivations)]
    seeds += [part for message in to_bank for part in (message.seeds_by_rows_C, message.seeds_by_blocks_C)]
    every = np.concatenate(seeds)
    assert every.shape[0] >= STEPS * 3
    assert np.unique(every, axis=0).shape == every.shape


def _places(secrets: dict[str, np.ndarray], transcript: Transcript) -> list[str]:
    """Secrets that stand in a message, as integers, as residues modulo a prime or as residues modulo t."""
    forms = {}
    for what, values in secrets.items():
        row = np.ascontiguousarray(values[0])
        forms[what] = [row.astype("<i8").tobytes(), (row % PARAMETERS.t).astype("<i8").tobytes()]
        forms[what] += [(row % prime).astype("<u4").tobytes() for prime in PARAMETERS.primes]
    found = []
    for _, _, message in transcript.sent:
        content = b"".join(tensor.tobytes() for tensor in message.tensors().values())
        found += [what for what, needles in forms.items() if any(needle in content for needle in needles)]
    return found


def test_no_secret_stands_in_a_message(run):
    assert _places(run.secrets, run.transcript) == []


def test_the_search_for_secrets_finds_them_in_the_clear_protocol():
    recording = _record(oracle_layer(SHAPE))
    assert any(what.startswith("alpha") for what in _places(recording.secrets, recording.transcript))


def test_no_two_messages_share_a_ciphertext_or_a_share(run):
    contents = [
        part.tobytes()
        for _, receiver, message in run.transcript.sent
        if not (isinstance(message, EncryptedGradient) and receiver != "bank")
        for tensor in message.tensors().values()
        for part in tensor
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

    def remember(self, name, activations, rows):
        message, mask_BK = masked_product(self, name, activations, rows)
        masks[name] = mask_BK
        return message, mask_BK

    monkeypatch.setattr(EncryptedActive, "_masked_product", remember)
    layer = encrypted_layer(SHAPE)
    layer.setup()
    result = Attempts([], [], [], layer.weights())
    for attempt in attempts:
        alpha = {name: rng.integers(-1024, 1025, (ROWS * 3, width)) for name, width in WIDTHS.items()}
        key, transcript = StepKey("job", 0, attempt), Transcript()
        sides = {name: side.forward(key, alpha[name]) for name, side in layer.passive.items()}
        z = run_exchanges({"active": layer.active.forward(key, ROWS * 3), **sides}, transcript)["active"]
        shares = {s: m.sh_z_BK for s, _, m in transcript.sent if isinstance(m, ForwardShare)}
        result.contributions.append({n: centre(shares[n] - masks[n], PARAMETERS.tau) for n in shares})
        result.z.append(z)
        result.alpha.append(alpha)
    return result


def _own_part(alpha: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return centre(alpha @ weights, PARAMETERS.tau)


def test_only_the_sum_of_contributions_means_anything(monkeypatch):
    seen = _run_attempts(monkeypatch, (0,))
    contributions = seen.contributions[0]
    for name, values in contributions.items():
        assert looks_uniform(values, PARAMETERS.t)
        assert (values != _own_part(seen.alpha[0][name], seen.weights[name])).all()
    np.testing.assert_array_equal(centre(sum(contributions.values()), PARAMETERS.tau), seen.z[0])
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
        return total(self, StepKey(key.job, key.step, 0), message, shape)

    monkeypatch.setattr(PairwiseMasks, "total", ignoring)
    monkeypatch.setattr(PairwiseMasks, "_use_once", lambda self, key, message: None)
    seen = _run_attempts(monkeypatch, (0, 1))
    for name in WIDTHS:
        difference = centre(seen.contributions[1][name] - seen.contributions[0][name], PARAMETERS.tau)
        expected = _own_part(seen.alpha[1][name] - seen.alpha[0][name], seen.weights[name])
        np.testing.assert_array_equal(difference, expected)
