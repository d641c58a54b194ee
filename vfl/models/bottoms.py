"""Bottom models, which map a party's features to alpha, and the contract that the interaction layer relies on.

Shape suffixes: B rows of the batch, D width of the bottom's output; p numeric and c categorical columns.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from vfl.errors import ModelError
from vfl.models.config import (
    BottomConfig,
    BottomInputs,
    CnnBottom,
    CustomBottom,
    EncodingsBottom,
    IdentityBottom,
    MlpBottom,
)
from vfl.models.custom import build_custom, own_code
from vfl.models.encodings import EncodingsNetwork, TrainingFeatures, fit_encodings
from vfl.models.encodings.mlp import EncodedMlp
from vfl.models.networks import CnnNetwork, IdentityNetwork, MlpNetwork
from vfl.models.seeding import seeded

_ROWS_PER_CELL = 20
_PROBE_ROWS = 8
_PROBE_SCALE = 3.0
_HOW_IT_IS_CALLED = (
    "correct the code named in this party's log; forward() takes (rows, numeric columns) floats and, if the table has "
    "categorical columns, (rows, categorical columns) codes"
)


class Bottom(nn.Module):
    """A bottom model f_i with its contract: (B, p) and (B, c) to alpha (B, d), every value in [-1, 1].

    Args:
        module: the network; called with ``numeric`` only if there are no categorical columns.
        inputs: the columns it expects.
        width: d; that of encodings follows from what they were fitted to, whatever is given here.
        frozen: parameters stay as they are, and the network stays in evaluation mode.
        custom: the network is the party's own, so that whatever it raises is a ``ModelError``.
    """

    def __init__(
        self, module: nn.Module, inputs: BottomInputs, width: int, *, frozen: bool = False, custom: bool = False
    ) -> None:
        super().__init__()
        self.module = module
        self.inputs = inputs
        self._width = width
        self._custom = custom
        if frozen:
            module.requires_grad_(False)
        self.train()

    def guard(self, doing: str) -> AbstractContextManager[None]:
        """Context in which code of the network runs, see ``own_code``."""
        return own_code(doing, _HOW_IT_IS_CALLED) if self._custom else nullcontext()

    @property
    def width(self) -> int:
        """d."""
        return self.module.width if isinstance(self.module, EncodingsNetwork) else self._width

    @property
    def trainable(self) -> bool:
        """Whether any parameter requires a gradient; if not, this party is never sent an activation gradient."""
        return any(parameter.requires_grad for parameter in self.parameters())

    def train(self, mode: bool = True) -> Bottom:
        """Set training mode, except that a bottom without trainable parameters always stays in evaluation mode."""
        with self.guard("in train() or eval()"):
            super().train(mode and self.trainable)
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """See ``torch.nn.Module``.

        Raises:
            ModelError: the party's own network has state that is no tensor, or fails.
        """
        with self.guard("in state_dict()"):
            state = super().state_dict(*args, **kwargs)
        if stray := [name for name, value in state.items() if not isinstance(value, Tensor)]:
            raise ModelError(
                "the state of this party's own bottom model is not made of tensors alone",
                detail=f"not a tensor: {', '.join(stray)}",
                remedy="keep state in parameters and buffers; leave out get_extra_state()",
            )
        return state

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Features to alpha.

        Args:
            numeric: (B, p) float.
            categorical: (B, c) int64 codes; (B, 0) if there are no categorical columns.

        Returns:
            alpha (B, d); see ``check_output`` for its contract.

        Raises:
            ModelError: the input does not have the columns this bottom was built for, or a custom network raised.
        """
        expected = (self.inputs.numeric_width, len(self.inputs.cardinalities))
        if (numeric.shape[1], categorical.shape[1]) != expected:
            raise ModelError(
                "the bottom model was built for different columns",
                detail=f"built for {expected}, got {(numeric.shape[1], categorical.shape[1])} numeric and "
                "categorical columns",
                remedy="use the columns and preprocessing that the model was trained with",
            )
        with self.guard("in its forward pass"):
            alpha_BD: Tensor = self.module(numeric, categorical) if self.inputs.cardinalities else self.module(numeric)
        return alpha_BD

    def check_output(self, alpha_BD: Tensor, name: str, rows: int | None = None) -> None:
        """Refuse an output that the fixed-point interaction layer cannot represent.

        Args:
            alpha_BD: the output to check.
            name: the party's name, for the message.
            rows: B, if the caller knows it.

        Raises:
            ModelError: not a dense floating point tensor (B, d), not finite, or outside [-1, 1].
        """
        if not isinstance(alpha_BD, Tensor) or alpha_BD.layout is not torch.strided:
            got = f"{alpha_BD.layout}" if isinstance(alpha_BD, Tensor) else type(alpha_BD).__name__
            what = "is not a dense tensor"
            raise self._broken(name, what, f"got {got}", "return one tensor of (rows, width) from forward()")
        last_dimensions = (alpha_BD.shape[0] if rows is None else rows, self.width)
        if not alpha_BD.is_floating_point() or alpha_BD.ndim != 2 or tuple(alpha_BD.shape) != last_dimensions:
            raise self._broken(
                name,
                "does not have the agreed shape and type",
                f"expected (rows, {self.width}) floating point, got {tuple(alpha_BD.shape)} {alpha_BD.dtype}",
                "end the bottom with a layer that has as many units as this party's width in job.toml",
            )
        with self.guard("when its output was read"):
            largest = alpha_BD.detach().abs().max().item() if alpha_BD.numel() else 0.0
            finite = bool(torch.isfinite(alpha_BD).all())
        if not finite:
            raise self._broken(
                name,
                "is not finite",
                "it contains NaN or infinity",
                "lower this party's learning rate, and check the features for missing or extreme values",
            )
        if largest > 1.0:
            raise self._broken(
                name,
                "is not within [-1, 1]",
                f"the largest |value| is {largest:g}",
                "end the bottom with torch.nn.Tanh() or torch.nn.Hardtanh()",
            )

    def _broken(self, name: str, what: str, detail: str, remedy: str) -> ModelError:
        layer, module = list(self.module.named_modules())[-1]
        where = f"last layer '{layer or 'module'}' ({type(module).__name__}) of the model set by [bottom] in party.toml"
        return ModelError(
            f"the output of the bottom model of party '{name}' {what}", detail=f"{where}: {detail}", remedy=remedy
        )


def build_bottom(
    config: BottomConfig,
    inputs: BottomInputs,
    width: int,
    seed: int,
    factory: Callable[..., Any] | None = None,
    training: TrainingFeatures | None = None,
) -> Bottom:
    """Build a party's bottom model on the CPU.

    Args:
        config: which model.
        inputs: the party's columns after preprocessing.
        width: d, the number of values a row is mapped to; encodings and identity have their own.
        seed: the same seed gives the same weights; torch's global generator is left as it was.
        factory: of a custom bottom, in place of the one that ``config`` names.
        training: features that encodings are fitted to; without them, they are empty until a saved state is loaded.

    Raises:
        ModelError: the model does not fit the columns or the width, or a custom factory failed.
        DataError: encodings cannot be fitted, as no column varies.
        ConfigError: a custom factory cannot be found.
    """
    with seeded(seed):
        match config:
            case MlpBottom():
                if config.bins is None:
                    return Bottom(MlpNetwork(config, inputs, width), inputs, width)
                cells = _encodings(_cells_beside(config.bins, inputs, training), inputs, training)
                return Bottom(EncodedMlp(cells, config, inputs, width), inputs, width)
            case CnnBottom():
                return Bottom(CnnNetwork(config, inputs, width), inputs, width)
            case IdentityBottom():
                return Bottom(IdentityNetwork(config, inputs), inputs, inputs.numeric_width)
            case EncodingsBottom():
                encodings = _encodings(config, inputs, training)
                return Bottom(encodings, inputs, encodings.width)
            case CustomBottom():
                module = build_custom(config, inputs, width, factory)
                return Bottom(module, inputs, width, frozen=config.frozen, custom=True)


def _cells_beside(bins: int, inputs: BottomInputs, training: TrainingFeatures | None) -> EncodingsBottom:
    """Cells that a trained network sees: no more than its rows can teach it to use."""
    columns = inputs.numeric_width + len(inputs.cardinalities)
    most = 0 if training is None else len(training.numeric) // _ROWS_PER_CELL
    return EncodingsBottom(bins=bins, whiten=False, max_width=min(512, max(most, 4 * columns)))


def _encodings(config: EncodingsBottom, inputs: BottomInputs, training: TrainingFeatures | None) -> EncodingsNetwork:
    return EncodingsNetwork(config, inputs) if training is None else fit_encodings(config, inputs, training)


def probe_bottom(bottom: Bottom, name: str) -> None:
    """Run a few random rows through a copy of the bottom, so that a broken model is refused before the run starts.

    The rows cover a wider range than standardized features. If the bottom trains, a gradient is taken, too. The bottom
    itself, its buffers and torch's global generator are left unchanged.

    Args:
        bottom: the model to test, in training and in evaluation mode.
        name: the party's name, for the message.

    Raises:
        ModelError: it raises an exception or breaks the output contract, or its output does not depend on its trainable
            parameters.
    """
    with bottom.guard("when it was copied for a trial"):
        trial = copy.deepcopy(bottom)
    with seeded(0):
        numeric, categorical = _probe_rows(bottom)
        for training in (True, False):
            trial.train(training)
            alpha_BD = _attempt(trial, name, numeric, categorical)
            trial.check_output(alpha_BD, name, rows=_PROBE_ROWS)
            if trial.trainable and not alpha_BD.requires_grad:
                raise ModelError(
                    f"the output of the bottom model of party '{name}' does not depend on its trainable parameters",
                    remedy="remove detach() and no_grad() from the model, or set [bottom] frozen = true in party.toml",
                )
            if trial.trainable and training:
                with trial.guard("in its backward pass"):
                    alpha_BD.sum().backward()  # type: ignore[no-untyped-call]


def _probe_rows(bottom: Bottom) -> tuple[Tensor, Tensor]:
    parameter = next(bottom.parameters(), torch.empty(0))
    numeric = torch.randn(_PROBE_ROWS, bottom.inputs.numeric_width) * _PROBE_SCALE
    codes = [torch.randint(n, (_PROBE_ROWS,)) for n in bottom.inputs.cardinalities]
    categorical = torch.stack(codes, dim=1) if codes else torch.empty(_PROBE_ROWS, 0, dtype=torch.int64)
    return numeric.to(parameter.device), categorical.to(parameter.device)


def _attempt(bottom: Bottom, name: str, numeric: Tensor, categorical: Tensor) -> Tensor:
    try:
        return bottom(numeric, categorical)  # type: ignore[no-any-return]
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"the bottom model of party '{name}' fails on a batch",
            detail=f"{type(error).__name__}: {error}",
            remedy="check that the model set by [bottom] in party.toml takes (rows, numeric columns) floats and, if "
            "the table has categorical columns, (rows, categorical columns) codes",
        ) from error
