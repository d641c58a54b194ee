"""What noise is bound to: reused under two different values it cancels. Each part of the label is left out once.

The active party has one step replayed with a difference, subtracts both outputs, and reduces what is left, which is
exact if the noise was the same.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.layers.interaction import make_shape, plaintext_layer
from support.layers.interaction import releases as make_releases

from vfl.configuration.federation import FederationConfig
from vfl.job.config import JobConfig
from vfl.job.digests import differing_tables, job_digest, training_statement
from vfl.privacy import releases
from vfl.privacy.lineage import digest
from vfl.privacy.releases import Releases

pytest.importorskip("flint", reason="python-flint is not installed")

from vfl.attacks.lattice import lattice_attack

ROWS, WIDTH, OUT_WIDTH, SIGMA = 96, 12, 12, 0.3


def _activations(seed=0):
    rng = np.random.default_rng(seed)
    return np.rint(np.tanh(rng.normal(size=(ROWS, WIDTH))) * 1024).astype(np.int64)


def _layer(sigma=SIGMA, statement=b"job"):
    layer = plaintext_layer(make_shape({"telco": WIDTH}, OUT_WIDTH), seed=2, sigma=sigma)
    layer.active._releases = make_releases("active", 2, sigma, statement)
    layer.passive["telco"]._releases = make_releases("telco", 2, sigma, statement)
    layer.setup()
    return layer


def _second_output(alpha, d_z, multiplier, statement=b"job"):
    """Z of a second step, after one with this gradient and public integer."""
    layer = _layer(statement=statement)
    layer.forward(1, {"telco": alpha})
    layer.backward(1, d_z, multiplier)
    return layer.forward(2, {"telco": alpha})


def _gradient(low_bits=0):
    return np.random.default_rng(1).integers(-4096, 4097, (ROWS, OUT_WIDTH)) + low_bits


def _replay_with_changed_gradient():
    alpha, changed = _activations(), np.random.default_rng(5).integers(0, 2, (ROWS, OUT_WIDTH))
    return _second_output(alpha, _gradient(), 1 << 20) - _second_output(alpha, _gradient(changed), 1 << 20), alpha


def _replay_with_changed_rate(statements):
    alpha = _activations()
    first, second = (
        _second_output(alpha, _gradient(), (1 << 20) + at, statement=statement)
        for at, statement in enumerate(statements)
    )
    return first - second, alpha


def _changed_features_under_one_id():
    before, after = _activations(0), _activations(6)
    layer, other = _layer(), _layer()
    return layer.forward(1, {"telco": before}) - other.forward(1, {"telco": after}), before - after


def _without(monkeypatch, *left_out):
    """Release labels that lack some of their parts."""

    def context(self, receiver, columns):
        parts = {
            "owner": self._owner.encode(),
            "receiver": receiver.encode(),
            "sigma": float(self.sigma).hex().encode(),
            "columns": f"{columns.start}:{columns.stop}".encode(),
            "lineage": self.lineage,
        }
        return digest("weak", *(value for name, value in parts.items() if name not in left_out))

    monkeypatch.setattr(Releases, "context", context)
    if "operand" in left_out:
        monkeypatch.setattr(
            releases, "release_labels", lambda context, ids, _: [digest("row", context, i) for i in ids]
        )


@pytest.mark.parametrize(
    ("replay", "left_out"),
    [
        (_replay_with_changed_gradient, "lineage"),
        (_changed_features_under_one_id, "operand"),
    ],
)
def test_a_shorter_label_gives_activations_away(monkeypatch, replay, left_out):
    difference, hidden = replay()
    assert lattice_attack(difference, hidden).exact_columns == 0
    _without(monkeypatch, left_out)
    difference, hidden = replay()
    assert lattice_attack(difference, hidden).same_lattice


def test_a_statement_without_the_rate_gives_activations_away():
    """The rate stands in the job, and the lineage begins with a digest of the job."""
    difference, alpha = _replay_with_changed_rate([b"job with one rate", b"job with another"])
    assert lattice_attack(difference, alpha).exact_columns == 0
    difference, alpha = _replay_with_changed_rate([b"job without rates", b"job without rates"])
    assert not np.array_equal(difference, np.zeros_like(difference))
    (rank,) = {np.linalg.matrix_rank(difference.astype(float))}
    assert rank == min(WIDTH, OUT_WIDTH)
    assert lattice_attack(difference, alpha).same_lattice


FEDERATION = {
    "name": "f",
    "coordinator": "c",
    "tls": {"mode": "insecure-loopback"},
    "parties": [
        {"name": "bank", "role": "active", "endpoint": "127.0.0.1:1"},
        {"name": "telco", "role": "passive", "endpoint": "127.0.0.1:2"},
    ],
}


@pytest.mark.parametrize(
    "change",
    [
        {"interaction": {"learning_rate": 0.25}},
        {"interaction": {"momentum": 0.5}},
        {"privacy": {"z_noise": 0.4}},
        {"privacy": {"relative_noise": 0.7}},
        {"training": {"passes": 3}},
        {"seed": 4},
        {"split": {"test": 0.25}},
    ],
    ids=str,
)
def test_the_statement_covers_what_determines_a_model(change):
    base = {"name": "job", "seed": 3, "task": {"kind": "binary"}, "training": {"method": "joint"}}
    federation = FederationConfig.model_validate(FEDERATION)
    changed = {
        **base,
        **{key: base.get(key, {}) | value if key == "training" else value for key, value in change.items()},
    }
    one, other = (JobConfig.model_validate(content) for content in (base, changed))
    assert training_statement(one, federation) != training_statement(other, federation)
    plaintext = JobConfig.model_validate({**base, "interaction": {"protocol": "plaintext"}, "timeouts": {"connect": 9}})
    assert training_statement(one, federation) == training_statement(plaintext, federation)


DEFAULTS = [
    ("vfl.job.config.STAGE_RATES", {"binary": 5.0}),
    ("vfl.job.config.ENCODING_SCALE", 0.3),
    ("vfl.job.config.RELATIVE_NOISE", {"binary": 0.3}),
    ("vfl.job.digests.PROTOCOL_VERSION", "99.0"),
]


@pytest.mark.parametrize(("name", "value"), DEFAULTS)
def test_a_default_of_another_version_makes_another_statement(monkeypatch, name, value):
    """Equal noise on the outputs of two versions, of which one has another rate, would cancel."""
    job = JobConfig.model_validate({"name": "job", "seed": 3, "task": {"kind": "binary"}})
    stated = JobConfig.model_validate(
        {
            "name": "job",
            "seed": 3,
            "task": {"kind": "binary"},
            "training": {"method": "stagewise", "passes": 2, "local_epochs": 6},
            "model": {"interaction_width": 2},
            "interaction": {"learning_rate": job.interaction_rate},
            "privacy": {"relative_noise": job.relative_noise},
            "ring": job.ring_settings.model_dump(),
        }
    )
    federation = FederationConfig.model_validate(FEDERATION)
    statement, digest = training_statement(job, federation), job_digest(job, federation)
    assert statement == training_statement(stated, federation)
    monkeypatch.setattr(name, value)
    assert training_statement(job, federation) != statement
    # Parties compare their versions of the protocol beside the digest.
    differing = [] if "PROTOCOL_VERSION" in name else ["defaults"]
    assert differing_tables(job_digest(job, federation), digest) == differing


def test_one_stream_at_two_sigmas_gives_z_away(monkeypatch):
    def outputs():
        alpha = {"telco": _activations()}
        return [_layer(sigma).forward(1, alpha) for sigma in (0.25, 0.5)], _layer(0.0).forward(1, alpha)

    (low, high), exact = outputs()
    assert np.abs((2 * low - high) - exact).max() > 2**40
    _without(monkeypatch, "sigma")
    (low, high), exact = outputs()
    # What is left is the narrow second draw, of 2^16.
    assert np.abs((2 * low - high) - exact).max() < 2**20


def test_columns_released_one_after_the_other_have_noise_of_their_own(monkeypatch):
    def noise():
        alpha, layer, exact = {"telco": _activations()}, _layer(), _layer(0.0)
        one, other = slice(0, 1), slice(1, 2)
        return [layer.forward(1, alpha, columns=c) - exact.forward(1, alpha, columns=c) for c in (one, other)]

    first, second = noise()
    assert abs(np.corrcoef(first[:, 0], second[:, 0])[0, 1]) < 0.4
    _without(monkeypatch, "columns")
    first, second = noise()
    np.testing.assert_array_equal(first, second)
