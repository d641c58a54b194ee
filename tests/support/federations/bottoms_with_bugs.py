"""Bottom models as users write them, with a bug each, which shows at one moment: ``made_at`` says at which."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

OWED = "customer-00042 owes 1234.50"
"""What users' exceptions say, and no other organization may read."""


class Plain(nn.Module):
    def __init__(self, inputs: Any, width: int) -> None:
        super().__init__()
        self.calls = 0
        self.net = nn.Sequential(nn.Linear(inputs.numeric_width, width), nn.Tanh())

    def forward(self, numeric: Tensor) -> Any:
        self.calls += 1
        return self.net(numeric)


class Late(Plain):
    def forward(self, numeric: Tensor) -> Any:
        out = super().forward(numeric)
        if self.calls > 6:
            raise ValueError(OWED)
        return out


class Exits(Plain):
    def forward(self, numeric: Tensor) -> Any:
        raise SystemExit(OWED)


class ExitsLate(Plain):
    def forward(self, numeric: Tensor) -> Any:
        out = super().forward(numeric)
        if self.calls > 6:
            raise SystemExit(OWED)
        return out


class Iterates(Plain):
    def forward(self, numeric: Tensor) -> Any:
        out = super().forward(numeric)
        if self.calls > 6:
            next(iter(()))
        return out


class ReturnsDict(Plain):
    def forward(self, numeric: Tensor) -> Any:
        return {"out": super().forward(numeric)}


class ReturnsDictLate(Plain):
    def forward(self, numeric: Tensor) -> Any:
        out = super().forward(numeric)
        return {"out": out} if self.calls > 6 else out


class NotANumber(Plain):
    def forward(self, numeric: Tensor) -> Any:
        return super().forward(numeric) * torch.nan


class NotANumberLate(Plain):
    def forward(self, numeric: Tensor) -> Any:
        out = super().forward(numeric)
        return out * torch.nan if self.calls > 6 else out


class TooWideLate(Plain):
    def forward(self, numeric: Tensor) -> Any:
        out = super().forward(numeric)
        return torch.cat([out, out], dim=1) if self.calls > 6 else out


class OutOfRangeLate(Plain):
    def forward(self, numeric: Tensor) -> Any:
        out = super().forward(numeric)
        return out * 0 + 1.5 if self.calls > 6 else out


class IntegersLate(Plain):
    def forward(self, numeric: Tensor) -> Any:
        out = super().forward(numeric)
        return out.round().long() if self.calls > 6 else out


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, late: bool) -> Tensor:
        ctx.late = late
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        if ctx.late:
            raise SystemExit(OWED)
        return gradient, None


class BackwardLate(Plain):
    def forward(self, numeric: Tensor) -> Any:
        out = super().forward(numeric)
        return _Backward.apply(out, self.calls > 6)


class ExitsInFactory(Plain):
    def __init__(self, inputs: Any, width: int) -> None:
        raise SystemExit(OWED)


class StateOfItsOwn(Plain):
    def get_extra_state(self) -> Any:
        return {"seen": OWED}

    def set_extra_state(self, state: Any) -> None:
        pass


class Lazy(Plain):
    def __init__(self, inputs: Any, width: int) -> None:
        super().__init__(inputs, width)
        self.net = nn.Sequential(nn.LazyLinear(width), nn.Tanh())
