"""The unencrypted part, local to the active party, above the products: alpha_0 W_0 + b, top, loss, metrics."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from vfl.interact.fixed_point import MAX_GRADIENT
from vfl.models.arithmetic import model_arithmetic
from vfl.models.certificate import certified_lipschitz, certified_radius
from vfl.models.seeding import seeded
from vfl.models.tasks.class_order import Labels
from vfl.models.tasks.labels import ClassEncoding, LabelEncoding
from vfl.models.tasks.task import Task, make_task
from vfl.models.top import LipschitzTop
from vfl.party.config import PartySetup
from vfl.party.learning.bottom import load_optimizer_state, make_optimizer, optimizer_state, prefixed, set_rate, under
from vfl.party.learning.loss_weights import FloatArray, LossWeights


class TopTrainer:
    """The active party's interaction part, top model, task, and their optimizer.

    Attributes:
        own: alpha_0 W_0 + b; only the bias b if the active party has no features.
        top: the Lipschitz top.
        weights: how much each row counts in the loss.
        d_alpha: gradient of the last batch's mean loss with respect to alpha_0 (B, D); None without features.
    """

    def __init__(
        self, own: nn.Linear, top: LipschitzTop, task: Task, encoding: LabelEncoding, setup: PartySetup
    ) -> None:
        self.own = own.to(setup.config.device)
        self.top = top.to(setup.config.device)
        self.task = task
        self.encoding = encoding
        self.d_alpha: Tensor | None = None
        self.weights = LossWeights()
        self._device = setup.config.device
        self._optimizer = make_optimizer(setup.optimizer, [*own.parameters(), *top.parameters()])
        self._scored: list[tuple[Tensor, Tensor]] = []

    @classmethod
    def build(
        cls,
        setup: PartySetup,
        train_labels: Labels,
        seed: int,
        own_width: int,
        total_width: int,
        weights: FloatArray | None = None,
    ) -> TopTrainer:
        """Build for a job and fit the label encoding on the training labels.

        Args:
            weights: of the training rows, if there is a weight column.
            own_width: width of the active party's bottom; 0 without features.
            total_width: of all bottoms.

        Raises:
            DataError: the labels do not match the task.
        """
        model = setup.job.model
        task = make_task(setup.job.task)
        encoding = task.fit_labels(train_labels, setup.config.data.class_order)
        encoded = encoding.encode(train_labels)
        inputs = model.own_units + setup.job.interaction_width
        own = _own_part(own_width, total_width, inputs, seed)
        top = LipschitzTop.build(setup.job.top, inputs, task.out_width, seed)
        built = cls(own, top, task, encoding, setup)
        balanced = task.config.class_weights == "balanced"
        built.weights = LossWeights.fit(encoded, weights, balanced=balanced, classes=task.config.class_count)
        return built

    def absent_classes(self, train_labels: Labels) -> list[str]:
        """Classes of the task that do not occur in the raw labels (n,) of the training part."""
        if not isinstance(self.encoding, ClassEncoding):
            return []
        encoded = self.encoding.encode(train_labels)
        return [str(value) for at, value in enumerate(self.encoding.values) if not (encoded == at).any()]

    @model_arithmetic()
    def train(
        self, z_BK: Tensor, alpha_BD: Tensor | None, labels: Labels, weights: FloatArray | None = None
    ) -> tuple[float, np.ndarray]:
        """Run the forward and backward pass; parameters change only in ``step``.

        Args:
            z_BK: sum over the passive parties of alpha_i W_i, float32.
            alpha_BD: output of this party's own bottom.
            labels: raw labels (B,).
            weights: of the rows (B,), if there is a weight column.

        Returns:
            Mean loss, and dL/dZ per sample (B, K) before division by B, divided by ``LossWeights.divisor``.
        """
        self.top.train()
        encoded, counts = self._encoded(labels, weights)
        z_leaf = z_BK.to(self._device).requires_grad_()
        alpha_leaf = None if alpha_BD is None else alpha_BD.detach().requires_grad_()
        losses = self.task.loss_per_sample(self._logits(z_leaf, alpha_leaf), encoded)
        loss = losses.mean() if counts is None else (losses * counts).mean()
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.d_alpha = None if alpha_leaf is None else alpha_leaf.grad
        gradient = z_leaf.grad
        if gradient is None:
            raise RuntimeError("the loss does not depend on Z")
        d_z_BK = gradient.cpu().double().numpy() * len(labels)
        if self.task.config.cuts_off:
            d_z_BK = _cut_off(d_z_BK, MAX_GRADIENT)
        return loss.item(), d_z_BK / self.weights.divisor(self.task.gradient_bound)

    @model_arithmetic()
    def residuals(
        self, z_BK: Tensor, alpha_BD: Tensor | None, labels: Labels, weights: FloatArray | None = None
    ) -> tuple[float, np.ndarray]:
        """The gradient of the loss with respect to the logits, in evaluation mode; nothing changes.

        Returns:
            Mean loss, and dL/dlogits per sample (B, out), divided by ``LossWeights.divisor``.
        """
        self.top.eval()
        with torch.no_grad():
            logits = self._logits(z_BK.to(self._device), alpha_BD)
        leaf = logits.requires_grad_()
        encoded, counts = self._encoded(labels, weights)
        losses = self.task.loss_per_sample(leaf, encoded)
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        gradient_BM = gradient.cpu().double().numpy()
        if self.task.config.cuts_off:
            gradient_BM = _cut_off(gradient_BM, self.task.gradient_bound)
        if counts is None:
            return losses.mean().item(), gradient_BM
        factors_B = counts.cpu().double().numpy() / self.weights.divisor(self.task.gradient_bound)
        return (losses * counts).mean().item(), gradient_BM * factors_B[:, None]

    @model_arithmetic()
    def step(self, share_of_rate: float = 1.0) -> None:
        """Update the own part and the top with the gradients of the last ``train``, at a share of the learning rate."""
        set_rate(self._optimizer, share_of_rate)
        self._optimizer.step()

    @model_arithmetic()
    @torch.no_grad()
    def score(self, z_BK: Tensor, alpha_BD: Tensor | None, labels: Labels) -> None:
        """Keep the logits and labels of a batch for ``metrics``."""
        self.top.eval()
        logits = self._logits(z_BK.to(self._device), alpha_BD)
        self._scored.append((logits.cpu(), self._encoded(labels)[0].cpu()))

    @model_arithmetic()
    def metrics(self) -> dict[str, float]:
        """Metrics of all batches scored since the last call.

        ``median_certified_radius`` is how far Z of the median row may move (L2) before its class can change.
        """
        scored, self._scored = self._scored, []
        if not scored:
            return {}
        logits, labels = (torch.cat(parts) for parts in zip(*scored, strict=True))
        metrics = self.task.metrics(logits, labels, self.encoding)
        if self.task.config.kind != "regression":
            radii = certified_radius(logits, certified_lipschitz(self.top), self.task.config)
            metrics["median_certified_radius"] = radii.median().item()
        return metrics

    def state(self) -> dict[str, Tensor]:
        """All state that training changes."""
        return {
            **prefixed("own", self.own.state_dict()),
            **prefixed("top", self.top.state_dict()),
            **prefixed("optimizer", optimizer_state(self._optimizer)),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state`` returned.

        Raises:
            RuntimeError: the state belongs to a different model.
        """
        self.own.load_state_dict(under("own", state))
        self.top.load_state_dict(under("top", state))
        load_optimizer_state(self._optimizer, under("optimizer", state))

    def _logits(self, z_BK: Tensor, alpha_BD: Tensor | None) -> Tensor:
        own_BK = self.own.bias if alpha_BD is None else self.own(alpha_BD)
        # The first inputs of the top are the own part's alone.
        padded_BK = torch.nn.functional.pad(z_BK, (own_BK.shape[-1] - z_BK.shape[1], 0))
        logits: Tensor = self.top(padded_BK + own_BK)
        return logits

    def _encoded(self, labels: Labels, weights: FloatArray | None = None) -> tuple[Tensor, Tensor | None]:
        """Encoded labels (B,), and how much each row counts (B,) if not all count the same."""
        encoded = self.encoding.encode(labels)
        counts = self.weights.of(encoded, weights)
        return (
            torch.from_numpy(encoded).to(self._device),
            None if counts is None else torch.from_numpy(counts.astype(np.float32)).to(self._device),
        )


def _cut_off(gradient_BK: np.ndarray, largest: float) -> np.ndarray:
    """Rows whose gradient is longer than ``largest`` (L2), shortened to it."""
    norms_B1 = np.linalg.norm(gradient_BK, axis=1, keepdims=True)
    shortened: np.ndarray = gradient_BK * np.minimum(1.0, largest / np.maximum(norms_B1, np.finfo(np.float64).tiny))
    return shortened


def _own_part(width: int, total_width: int, out_width: int, seed: int) -> nn.Linear:
    """W_0 and b. Like the passive parties' weights, W_0 is scaled for a joint layer over all bottoms."""
    with seeded(seed):
        own = nn.Linear(max(width, 1), out_width)
        nn.init.normal_(own.weight, 0.0, total_width**-0.5)
        nn.init.zeros_(own.bias)
    if width == 0:
        own.weight.requires_grad_(False)
    return own
