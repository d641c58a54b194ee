"""One step of a real job moves every parameter of every party as autograd moves the joined model.

Joined: alpha_i = f_i(x_i), Z = sum_i alpha_i W_i, L = mean loss(g([0, Z] + alpha_0 W_0 + b)), all in floating point.
"""

import copy
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pytest
import torch
from support.attacks.weakened import without_noise
from support.federations.federation import ACTIVE, Federation
from support.federations.in_process import run_federation
from support.layers.interaction import PARAMETERS, encrypted_layer, make_shape

from vfl.ids import Phase
from vfl.interact.fixed_point import center, d_alpha_to_real, quantize_gradient, update_kernel, z_to_real
from vfl.party.roles.active import ActiveParty
from vfl.party.roles.passive import PassiveParty

ROWS, WIDTH, OUT_WIDTH = 64, 4, 4
PASSIVE = ("clinic", "insurer")
RATE = 0.5
WEIGHT_UNIT = 2.0**-PARAMETERS.settings.weight_bits


@dataclass
class Step:
    """The first step of a job, seen from inside every party: modules before it, and parameters after it."""

    modules: dict = field(default_factory=dict)
    features: dict = field(default_factory=dict)
    shares: dict = field(default_factory=dict)
    moved_modules: dict = field(default_factory=dict)
    moved_shares: dict = field(default_factory=dict)
    labels: np.ndarray | None = None
    task: object = None
    loss: float = 0.0

    def begin(self, role, batch):
        name, dataset = role._state.setup.name, role._state.dataset
        rows = dataset.batch_rows(batch)
        self.modules |= copy.deepcopy(_modules(role))
        self.features[name] = dataset.features(rows)
        self.shares[name] = role._interaction.shares()
        if name == ACTIVE:
            self.task, self.labels = (
                role._upper.task,
                torch.from_numpy(role._upper.encoding.encode(dataset.labels[rows])),
            )

    def end(self, role):
        self.moved_modules |= copy.deepcopy(_modules(role))
        self.moved_shares[role._state.setup.name] = role._interaction.shares()


def _modules(role):
    modules = {role._state.setup.name: role._state.bottom.bottom}
    return modules | ({"own": role._upper.own, "top": role._upper.top} if isinstance(role, ActiveParty) else {})


def _joint_weights(shares):
    """W_i, from the shares of all parties."""
    total = {name: np.zeros((WIDTH, OUT_WIDTH), dtype=np.int64) for name in PASSIVE}
    for held in shares.values():
        for name, share in held.items():
            total[name] = total[name] + share
    return {name: torch.from_numpy(center(weight, PARAMETERS.tau) * WEIGHT_UNIT) for name, weight in total.items()}


async def _first_step(federation, monkeypatch):
    step = Step()
    for kind in (ActiveParty, PassiveParty):

        async def watching(self, key, phase, batch, run_phase=kind.run_phase):
            if (key.step, phase) == (1, Phase.BOTTOM_FORWARD):
                step.begin(self, batch)
            metrics = await run_phase(self, key, phase, batch)
            if (key.step, phase) == (1, Phase.BOTTOM_BACKWARD):
                step.end(self)
            step.loss = step.loss or metrics.get("loss", 0.0)
            return metrics

        monkeypatch.setattr(kind, "run_phase", watching)
    run = await run_federation(federation.write())
    assert set(run.errors.values()) == {None}
    return step


def _joined_gradients(step):
    """Loss, and the gradient by every parameter of the joined model."""
    weights = {name: weight.float().requires_grad_() for name, weight in _joint_weights(step.shares).items()}
    alpha = {name: step.modules[name](x.numeric, x.categorical) for name, x in step.features.items()}
    z_BK = sum(alpha[name] @ weight for name, weight in weights.items())
    own = step.modules["own"](alpha[ACTIVE])
    # The first inputs of the top are the active party's own.
    inputs = own + torch.nn.functional.pad(z_BK, (own.shape[1] - OUT_WIDTH, 0))
    loss = step.task.loss_per_sample(step.modules["top"](inputs), step.labels).mean()
    loss.backward()
    gradients = {f"{name}.{key}": p.grad for name, m in step.modules.items() for key, p in m.named_parameters()}
    return loss.item(), gradients | {f"W.{name}": weight.grad for name, weight in weights.items()}


def _movements(step):
    """Minus the change of every parameter, over its learning rate."""
    before, after = (
        {f"{name}.{key}": p.detach() for name, m in modules.items() for key, p in m.named_parameters()}
        for modules in (step.modules, step.moved_modules)
    )
    old, new = _joint_weights(step.shares), _joint_weights(step.moved_shares)
    return {key: before[key] - after[key] for key in before} | {f"W.{n}": (old[n] - new[n]) / RATE for n in PASSIVE}


def _labels(kind, table):
    score = table[f"{ACTIVE}_x0"]
    if kind == "binary":
        return table["defaulted"]
    return (score > -0.5).cast(pl.Int64) + (score > 0.5).cast(pl.Int64) if kind == "multiclass" else 5 + 2 * score


@pytest.mark.parametrize(
    ("kind", "protocol"),
    [("binary", "encrypted"), ("multiclass", "encrypted"), ("regression", "encrypted"), ("binary", "plaintext")],
)
async def test_every_parameter_moves_by_the_gradient_of_the_joined_model(tmp_path, monkeypatch, kind, protocol):
    without_noise(monkeypatch)
    federation = Federation(tmp_path, PASSIVE)
    federation.job["seed"] = 12  # one of which no unit of the top changes its side by the rounding of Z
    federation.job["task"] = {"kind": kind} | ({"classes": 3} if kind == "multiclass" else {})
    federation.job["training"] = {"passes": 1, "batch_size": ROWS, "optimizer": {"name": "sgd", "learning_rate": 1.0}}
    federation.job["interaction"] = {"protocol": protocol, "learning_rate": RATE}
    for party in federation.parties.values():
        party["policy"]["allow_unencrypted"] = True
    table = federation.tables[ACTIVE]
    federation.tables[ACTIVE] = table.with_columns(_labels(kind, table).alias("defaulted"))
    step = await _first_step(federation, monkeypatch)
    loss, gradients = _joined_gradients(step)
    assert step.loss == pytest.approx(loss, abs=1e-3)
    movements = _movements(step)
    assert gradients.keys() == movements.keys()
    for name, gradient in gradients.items():
        assert gradient.norm() > 0, name
        assert (movements[name] - gradient).norm() <= 0.01 * gradient.norm(), name


def test_d_alpha_differs_from_autograd_by_the_rounding_of_the_gradient_only():
    """|d alpha - dL/dZ W^T| <= 2^-f_d * sum_k |W_k|, |step / rate - alpha^T dL/dZ / B| <= 2^-f_d * mean_b |alpha|."""
    rng = np.random.default_rng(6)
    layer = encrypted_layer(make_shape({"clinic": WIDTH}, OUT_WIDTH))
    layer.setup()
    alpha_BD = rng.integers(-1024, 1025, (ROWS, WIDTH))
    real_alpha = torch.from_numpy(alpha_BD * 2.0**-PARAMETERS.settings.activation_bits).requires_grad_()
    weights = layer.shares()["clinic"] * WEIGHT_UNIT
    real_weights = torch.from_numpy(weights).requires_grad_()
    z_BK = z_to_real(layer.forward(1, {"clinic": alpha_BD}), PARAMETERS)
    joined_z = real_alpha @ real_weights
    np.testing.assert_allclose(z_BK, joined_z.detach().numpy(), rtol=0, atol=1e-13)
    loss = torch.nn.functional.softplus(joined_z).sum(1).mean()
    loss.backward()
    d_z_BK = torch.sigmoid(joined_z).detach().numpy()
    quantized = quantize_gradient(d_z_BK, PARAMETERS, rng)
    d_alpha_BD = layer.backward(1, quantized, update_kernel(RATE, 0.0, ROWS, PARAMETERS)[0])["clinic"]
    step = 2.0**-PARAMETERS.settings.gradient_bits
    error_BD = np.abs(d_alpha_to_real(d_alpha_BD, PARAMETERS, "") / ROWS - real_alpha.grad.numpy())
    assert (error_BD <= step / ROWS * np.abs(weights).sum(1) + 1e-12).all()
    moved_DK = (weights - layer.shares()["clinic"] * WEIGHT_UNIT) / RATE
    error_DK = np.abs(moved_DK - real_weights.grad.numpy())
    rounded_rate = 1e-3 * np.abs(real_weights.grad.numpy())
    assert (error_DK <= step * np.abs(real_alpha.detach().numpy()).mean(0)[:, None] + rounded_rate).all()
