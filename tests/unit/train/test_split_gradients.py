"""One step of the split model, quantised and encrypted, moves every parameter as autograd moves the joined model.

Joined: alpha_i = f_i(x_i), Z = sum_i alpha_i W_i + alpha_0 W_0 + b, L = mean loss(g(Z)), all in floating point.
"""

import copy

import numpy as np
import pytest
import torch
from support.federation import ACTIVE, Federation
from support.interaction import PARAMETERS, encrypted_layer, make_shape, oracle_layer

from vfl.data.preprocess import Features
from vfl.interact.fixed_point import (
    d_alpha_to_real,
    quantise_activations,
    quantise_gradient,
    update_multiplier,
    z_to_real,
)
from vfl.models.bottoms import build_bottom
from vfl.models.config import BottomInputs, MlpBottom
from vfl.train.job import OptimiserConfig
from vfl.train.local_model import LocalBottom
from vfl.train.party_config import load_party
from vfl.train.upper import UpperModel

ROWS, COLUMNS, WIDTH, OUT_WIDTH = 64, 3, 4, 4
PASSIVE = ("clinic", "insurer")
RATE = 0.5
PLAIN_SGD = OptimiserConfig(name="sgd", learning_rate=1.0)
"""A step of this moves a parameter by exactly minus its gradient."""

TASKS = {
    "binary": ({"kind": "binary"}, lambda rng: rng.integers(0, 2, ROWS)),
    "multiclass": ({"kind": "multiclass", "classes": 3}, lambda rng: rng.integers(0, 3, ROWS)),
    "regression": ({"kind": "regression"}, lambda rng: rng.normal(5.0, 2.0, ROWS)),
}


class Split:
    """All parties of one step, driven by hand."""

    def __init__(self, folder, task, labels, make_layer):
        federation = Federation(folder, PASSIVE)
        federation.job["task"] = task
        federation.job["training"]["optimiser"] = PLAIN_SGD.model_dump()
        setup = load_party(federation.write().path(ACTIVE))
        self.labels = labels
        self.upper = UpperModel.build(setup, labels, seed=1)
        self.bottoms = {name: self._bottom(name, seed) for seed, name in enumerate((ACTIVE, *PASSIVE))}
        self.layer = make_layer(make_shape(dict.fromkeys(PASSIVE, WIDTH), OUT_WIDTH))
        self.layer.setup()

    def _bottom(self, name, seed):
        bottom = build_bottom(MlpBottom(hidden=(8,)), BottomInputs(COLUMNS), WIDTH, seed)
        return LocalBottom(bottom, name, PLAIN_SGD, "cpu")

    def step(self, features):
        rng = np.random.default_rng(3)
        alpha = {name: bottom.forward(features[name], training=True) for name, bottom in self.bottoms.items()}
        quantised = {name: quantise_activations(alpha[name].numpy(), PARAMETERS, rng, name) for name in PASSIVE}
        z_BK = torch.from_numpy(z_to_real(self.layer.forward(1, quantised), PARAMETERS)).float()
        loss, d_z_BK = self.upper.train(z_BK, alpha[ACTIVE], self.labels)
        quantised_d_z = quantise_gradient(d_z_BK, PARAMETERS, rng)
        d_alpha = self.layer.backward(1, quantised_d_z, update_multiplier(RATE, ROWS, PARAMETERS))
        for name in PASSIVE:
            self.bottoms[name].backward(d_alpha_to_real(d_alpha[name], PARAMETERS, name) / ROWS)
        self.bottoms[ACTIVE].backward(self.upper.d_alpha)
        self.upper.step()
        return loss

    def parameters(self):
        named = {f"{name}.{key}": p for name, b in self.bottoms.items() for key, p in b.bottom.named_parameters()}
        named |= {f"own.{key}": p for key, p in self.upper.own.named_parameters()}
        named |= {f"top.{key}": p for key, p in self.upper.top.named_parameters()}
        values = {key: p.detach().clone().double() for key, p in named.items()}
        scale = 2.0**-PARAMETERS.settings.weight_bits
        return values | {f"W.{key}": torch.from_numpy(w * scale) for key, w in self.layer.weights().items()}


class Joined:
    """The same model in one piece, in floating point."""

    def __init__(self, split: Split):
        self.bottoms = {name: copy.deepcopy(b.bottom) for name, b in split.bottoms.items()}
        self.own, self.top = copy.deepcopy(split.upper.own), copy.deepcopy(split.upper.top)
        self.task, self.encoding = split.upper.task, split.upper.encoding
        self.weights = {k[2:]: p.float().requires_grad_() for k, p in split.parameters().items() if k.startswith("W.")}

    def loss(self, features, labels):
        alpha = {
            name: bottom(x.numeric, x.categorical)
            for (name, bottom), x in zip(self.bottoms.items(), (features[name] for name in self.bottoms), strict=True)
        }
        z_BK = self.own(alpha[ACTIVE]) + sum(alpha[name] @ self.weights[name] for name in PASSIVE)
        encoded = torch.from_numpy(self.encoding.encode(labels))
        return self.task.loss_per_sample(self.top(z_BK), encoded).mean()

    def gradients(self):
        modules = {**self.bottoms, "own": self.own, "top": self.top}
        named = {f"{name}.{key}": p.grad for name, m in modules.items() for key, p in m.named_parameters()}
        return named | {f"W.{name}": w.grad for name, w in self.weights.items()}


@pytest.mark.parametrize("make_layer", [encrypted_layer, oracle_layer])
@pytest.mark.parametrize("task", TASKS)
def test_every_parameter_moves_by_the_gradient_of_the_joined_model(tmp_path, task, make_layer):
    rng = np.random.default_rng(5)
    config, make_labels = TASKS[task]
    labels = make_labels(rng)
    features = {
        name: Features(torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(at)), torch.empty(ROWS, 0))
        for at, name in enumerate((ACTIVE, *PASSIVE))
    }
    split = Split(tmp_path, config, labels, make_layer)
    joined = Joined(split)
    before = split.parameters()
    loss = split.step(features)
    after = split.parameters()
    expected_loss = joined.loss(features, labels)
    expected_loss.backward()
    assert loss == pytest.approx(expected_loss.item(), abs=1e-3)
    gradients = joined.gradients()
    assert gradients.keys() == before.keys()
    for name, gradient in gradients.items():
        rate = RATE if name.startswith("W.") else 1.0
        moved = (before[name] - after[name]) / rate
        assert gradient.norm() > 0, name
        assert (moved - gradient).norm() <= 5e-3 * gradient.norm(), name


def test_d_alpha_differs_from_autograd_by_the_rounding_of_the_gradient_only():
    """|d alpha - dL/dZ W^T| <= 2^-f_d * sum_k |W_k|, |step / rate - alpha^T dL/dZ / B| <= 2^-f_d * mean_b |alpha|."""
    rng = np.random.default_rng(6)
    layer = encrypted_layer(make_shape({"clinic": WIDTH}, OUT_WIDTH))
    layer.setup()
    alpha_BD = rng.integers(-1024, 1025, (ROWS, WIDTH))
    real_alpha = torch.from_numpy(alpha_BD * 2.0**-PARAMETERS.settings.activation_bits).requires_grad_()
    weights = layer.weights()["clinic"] * 2.0**-PARAMETERS.settings.weight_bits
    real_weights = torch.from_numpy(weights).requires_grad_()
    z_BK = z_to_real(layer.forward(1, {"clinic": alpha_BD}), PARAMETERS)
    joined_z = real_alpha @ real_weights
    np.testing.assert_allclose(z_BK, joined_z.detach().numpy(), rtol=0, atol=1e-13)
    loss = torch.nn.functional.softplus(joined_z).sum(1).mean()
    loss.backward()
    d_z_BK = torch.sigmoid(joined_z).detach().numpy()
    quantised = quantise_gradient(d_z_BK, PARAMETERS, rng)
    d_alpha_BD = layer.backward(1, quantised, update_multiplier(RATE, ROWS, PARAMETERS))["clinic"]
    step = 2.0**-PARAMETERS.settings.gradient_bits
    error_BD = np.abs(d_alpha_to_real(d_alpha_BD, PARAMETERS, "") / ROWS - real_alpha.grad.numpy())
    assert (error_BD <= step / ROWS * np.abs(weights).sum(1) + 1e-12).all()
    moved_DK = (weights - layer.weights()["clinic"] * 2.0**-PARAMETERS.settings.weight_bits) / RATE
    error_DK = np.abs(moved_DK - real_weights.grad.numpy())
    rounded_rate = 1e-3 * np.abs(real_weights.grad.numpy())
    assert (error_DK <= step * np.abs(real_alpha.detach().numpy()).mean(0)[:, None] + rounded_rate).all()
