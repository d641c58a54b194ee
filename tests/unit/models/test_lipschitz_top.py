"""The Lipschitz top and its certificate: never exceeded by random, adversarial or trained probes."""

import time

import pytest
import torch
from deel.torchlip import GroupSort2
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from vfl.errors import ModelError
from vfl.models.certificate import certified_lipschitz, certified_radius
from vfl.models.config import TaskConfig, TopConfig
from vfl.models.top import LipschitzTop

K = 16
BINARY = TaskConfig(kind="binary")
MULTICLASS = TaskConfig(kind="multiclass", classes=4)


def trained_top(config: TopConfig, out_width: int, steps: int, lr: float = 0.05) -> LipschitzTop:
    top = LipschitzTop.build(config, K, out_width, seed=2)
    generator = torch.Generator().manual_seed(0)
    z_BK = torch.randn(256, K, generator=generator)
    target = torch.randn(256, out_width, generator=generator) * 10
    optimizer = torch.optim.Adam(top.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        functional.huber_loss(top(z_BK), target).backward()
        optimizer.step()
    return top


def random_ratio(top: nn.Module, spread: float) -> float:
    """Largest ratio of output to input distance over random pairs, in float64."""
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 512, K, generator=generator, dtype=torch.float64)
    b = a + spread * b
    return ((top(a) - top(b)).norm(dim=1) / (a - b).norm(dim=1)).max().item()


def adversarial_ratio(top: nn.Module) -> float:
    """The same after gradient ascent on both ends of each pair, in float64."""
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(64, K, generator=generator, dtype=torch.float64).requires_grad_()
    b = (a.detach() + 0.1 * torch.randn(64, K, generator=generator, dtype=torch.float64)).requires_grad_()
    optimizer = torch.optim.Adam([a, b], lr=0.03)
    best = 0.0
    for _ in range(40):
        optimizer.zero_grad()
        ratio = (top(a) - top(b)).norm(dim=1) / (a - b).norm(dim=1)
        best = max(best, ratio.max().item())
        (-ratio.sum()).backward()
        optimizer.step()
    return best


@pytest.mark.parametrize("steps", [0, 1, 30])
@pytest.mark.parametrize(
    ("config", "out_width"),
    [(TopConfig(), 1), (TopConfig(hidden=(64, 8), lipschitz=3.0), 4), (TopConfig(hidden=(), lipschitz=0.5), 4)],
)
def test_certificate_is_never_exceeded_and_never_above_the_configured_constant(config, out_width, steps):
    top = trained_top(config, out_width, steps)
    certificate = certified_lipschitz(top)
    plain = top.export().double()
    assert certificate <= config.lipschitz
    for spread in (1e-3, 1.0, 10.0):
        assert random_ratio(plain, spread) <= certificate
    attacked = adversarial_ratio(plain)
    assert attacked <= certificate
    # A bound that nothing comes near would pass everything above.
    assert attacked > 0.6 * certificate


def test_the_certificate_follows_the_weights_and_not_the_configuration():
    plain = LipschitzTop.build(TopConfig(), K, 1, seed=0).export()
    with torch.no_grad():
        plain[0].weight.mul_(5.0)
    assert certified_lipschitz(plain) == pytest.approx(5.0, rel=1e-3)


def test_the_certificate_of_known_weights_is_rounded_up():
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, -4.0]]))
    certificate = certified_lipschitz(nn.Sequential(layer, GroupSort2(), layer))
    assert 16.0 * (1 + 5e-14) < certificate < 16.0 * (1 + 1e-12)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize("layer", [Doubled(4, 4), nn.BatchNorm1d(4), GroupSort2(k_coef_lip=3.0), nn.LayerNorm(4)])
def test_unknown_layers_are_not_certified(layer):
    with pytest.raises(ModelError, match="not known") as caught:
        certified_lipschitz(nn.Sequential(nn.Linear(4, 4), layer))
    assert type(layer).__name__ in caught.value.detail


def test_weights_that_are_not_finite_are_refused_with_a_remedy():
    top = LipschitzTop.build(TopConfig(), K, 1, seed=0)
    plain = top.export()
    with torch.no_grad():
        plain[0].weight[0, 0] = torch.nan
        top.layers[0].parametrizations.weight.original[0, 0] = torch.inf
    with pytest.raises(ModelError, match="certified"):
        certified_lipschitz(plain)
    with pytest.raises(ModelError, match="no longer finite") as caught:
        top(torch.zeros(1, K))
    assert "learning rate" in caught.value.remedy


@given(scale=st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e3, 1e15]), rank=st.integers(1, 8), seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_the_bound_holds_for_any_raw_weight(scale, rank, seed):
    top = LipschitzTop.build(TopConfig(hidden=(8,), lipschitz=2.0), 8, 4, seed=0)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in (top.layers[0], top.layers[2]):
            raw = layer.parametrizations.weight.original
            left, right = (torch.randn(n, rank, generator=generator) for n in raw.shape)
            raw.copy_(scale * left @ right.T)
    assert certified_lipschitz(top) <= 2.0


def test_the_same_seed_gives_the_same_weights_and_the_global_generator_is_left_alone():
    torch.manual_seed(4)
    before = torch.get_rng_state()
    first, again, other = (LipschitzTop.build(TopConfig(), K, 1, seed=seed).state_dict() for seed in (7, 7, 8))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_repeated_step_computes_the_same_and_leaves_no_trace():
    top = trained_top(TopConfig(), 1, steps=5)
    state = {name: value.clone() for name, value in top.state_dict().items()}
    z_BK = torch.randn(32, K, generator=torch.Generator().manual_seed(5))
    first, again, evaluated = top(z_BK), top(z_BK), top.eval()(z_BK)
    assert torch.equal(first, again)
    assert torch.equal(first, evaluated)
    assert all(torch.equal(value, state[name]) for name, value in top.state_dict().items())


def test_evaluation_uses_the_weights_of_the_last_update():
    top = trained_top(TopConfig(), 1, steps=3)
    z_BK = torch.randn(32, K, generator=torch.Generator().manual_seed(5))
    before = top.eval()(z_BK)
    with torch.no_grad():
        for parameter in top.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(6)))
    assert not torch.allclose(top(z_BK), before, atol=1e-3)


def test_training_is_reproducible_bit_for_bit():
    states = [trained_top(TopConfig(), 1, steps=10).state_dict() for _ in range(2)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_export_and_saved_state_compute_the_same_logits():
    top = trained_top(TopConfig(lipschitz=2.0), 4, steps=5)
    restored = LipschitzTop.build(TopConfig(lipschitz=2.0), K, 4, seed=99)
    restored.load_state_dict(top.state_dict())
    z_BK = torch.randn(32, K, generator=torch.Generator().manual_seed(5))
    assert torch.equal(restored(z_BK), top(z_BK))
    torch.testing.assert_close(top.export()(z_BK), top(z_BK), rtol=1e-5, atol=1e-6)
    assert {type(layer) for layer in top.export()} == {nn.Linear, GroupSort2}


def test_an_export_is_a_copy():
    top = LipschitzTop.build(TopConfig(), K, 1, seed=0)
    z_BK = torch.ones(1, K)
    before = top(z_BK)
    for parameter in top.export().parameters():
        parameter.data.zero_()
    assert torch.equal(top(z_BK), before)


def test_the_gradient_by_z_is_bounded_by_the_certificate_and_does_not_vanish():
    top = trained_top(TopConfig(lipschitz=2.0), 1, steps=20)
    z_BK = torch.randn(128, K, generator=torch.Generator().manual_seed(5)).requires_grad_()
    top(z_BK).sum().backward()
    norms = z_BK.grad.norm(dim=1)
    assert norms.max() <= certified_lipschitz(top) * (1 + 1e-5)
    assert norms.min() > 0.5


def test_training_reduces_the_loss():
    top = LipschitzTop.build(TopConfig(lipschitz=4.0), K, 1, seed=2)
    z_BK = torch.randn(256, K, generator=torch.Generator().manual_seed(0))
    labels = (z_BK[:, 0] * z_BK[:, 1] > 0).float()
    optimizer = torch.optim.Adam(top.parameters(), lr=0.05)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(top(z_BK).squeeze(1), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_a_step_is_fast():
    """A product of two matrices of 600 x 600, ten milliseconds of one slow core, is the measure."""
    top = LipschitzTop.build(TopConfig(), 32, 1, seed=0)
    z_BK, large = torch.randn(512, 32), torch.randn(600, 600, dtype=torch.float64)
    step = _least_time(lambda: top(z_BK.requires_grad_()).sum().backward())
    assert step < _least_time(lambda: large @ large)


def _least_time(work) -> float:
    """Processor seconds of the fastest of ten."""
    durations = []
    for _ in range(10):
        start = time.process_time()
        work()
        durations.append(time.process_time() - start)
    return min(durations)


def prediction(logits: torch.Tensor) -> torch.Tensor:
    return logits.squeeze(1) > 0 if logits.shape[1] == 1 else logits.argmax(dim=1)


def margin(logits: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
    """How far the prediction is from changing; an attack drives it down."""
    if logits.shape[1] == 1:
        return logits.squeeze(1) * (predicted.double() * 2 - 1)
    own = logits.gather(1, predicted[:, None]).squeeze(1)
    return own - logits.scatter(1, predicted[:, None], -torch.inf).amax(dim=1)


def changed_within(top: nn.Module, z_BK: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """Samples whose class a projected gradient attack changes within ``radius`` (B,)."""
    predicted = prediction(top(z_BK))
    shift = torch.zeros_like(z_BK).requires_grad_()
    changed = torch.zeros_like(predicted, dtype=torch.bool)
    for _ in range(40):
        (gradient,) = torch.autograd.grad(margin(top(z_BK + shift), predicted).sum(), shift)
        step = shift.detach() - 0.1 * radius[:, None] * functional.normalize(gradient, dim=1)
        shift = functional.normalize(step, dim=1) * torch.minimum(step.norm(dim=1), radius)[:, None]
        changed |= prediction(top(z_BK + shift)) != predicted
        shift.requires_grad_()
    return changed


@pytest.mark.parametrize(("task", "out_width"), [(BINARY, 1), (MULTICLASS, 4)])
@pytest.mark.parametrize("lipschitz", [1.0, 5.0])
def test_no_attack_within_the_certified_radius_changes_the_class(task, out_width, lipschitz):
    top = trained_top(TopConfig(lipschitz=lipschitz), out_width, steps=30)
    plain = top.export().double()
    z_BK = torch.randn(128, K, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    radius = certified_radius(plain(z_BK).detach(), certified_lipschitz(top), task)
    assert radius.shape == (128,)
    assert not changed_within(plain, z_BK, radius * (1 - 1e-9)).any()
    # The attack is a real one: it does change classes a little further out.
    assert changed_within(plain, z_BK, radius * 2.0).float().mean() > 0.3


def test_the_radius_of_known_logits():
    assert certified_radius(torch.tensor([[3.0], [-1.0], [0.0]]), 2.0, BINARY).tolist() == [1.5, 0.5, 0.0]
    radius = certified_radius(torch.tensor([[1.0, 4.0, 2.0, 0.0], [7.0, 7.0, 0.0, 0.0]]), 2.0, MULTICLASS)
    assert radius.tolist() == pytest.approx([2.0 / (2.0**0.5 * 2.0), 0.0])


def test_a_regression_has_no_radius():
    with pytest.raises(ModelError, match="only for classification"):
        certified_radius(torch.zeros(2, 1), 1.0, TaskConfig(kind="regression"))


@pytest.mark.parametrize(("inputs", "logits", "expected"), [(6, 1, [2.0 / 6**0.5] * 6), (3, 3, None)])
def test_a_linear_top_begins_as_the_sum_of_the_inputs_of_each_logit(inputs, logits, expected):
    top = LipschitzTop.build(TopConfig(hidden=(), lipschitz=2.0), inputs, logits, seed=1)
    weights = top.layers[0].weight
    wanted = torch.tensor([expected]) if expected else 2.0 * torch.eye(3)
    assert torch.allclose(weights, wanted, atol=1e-4)
    assert top.layers[0].bias.tolist() == [0.0] * logits


def test_the_last_inputs_of_a_linear_top_belong_to_the_logits_in_order():
    top = LipschitzTop.build(TopConfig(hidden=()), 4 + 3, 3, seed=1)  # four of the active party, then a stage of Z
    columns = top.layers[0].weight.argmax(dim=0).tolist()
    assert columns[4:] == [0, 1, 2]
    assert (top.layers[0].weight >= 0).all()
