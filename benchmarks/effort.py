"""How much is measured. The shapes of rows with a target are the same in quick and full runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Rows per batch, width d of every bottom, width K of the interaction layer; written rows x d x K."""

    rows: int
    width: int
    out_width: int

    def __str__(self) -> str:
        return f"{self.rows}x{self.width}x{self.out_width}"


@dataclass(frozen=True)
class SystemCase:
    """A job with real processes: number of steps encrypted and in the clear, and the target in samples/s, if any."""

    shape: Shape
    steps: int
    clear_steps: int
    target: float | None


@dataclass(frozen=True)
class Sweeps:
    """Values to vary, one axis at a time, from ``base``."""

    base: Shape
    rows: tuple[int, ...]
    widths: tuple[int, ...]
    out_widths: tuple[int, ...]
    passive: tuple[int, ...]
    repeats: int


@dataclass(frozen=True)
class Effort:
    """Sizes and repeats of one run.

    Attributes:
        kernel: shape for the kernels, the single step and the first system case.
        ckks_rows: rows that the CKKS peer multiplies in one product.
        paillier_rows: rows that the Paillier peer computes; its cost per sample is derived from them.
        paillier_outputs: how many of the d * K weight gradients it masks.
        connections: connections of each kind that are opened in turns.
        alignment_ids: number of ids of each of the two parties.
        system: the last case also shows whether memory stays flat over a few steps.
        flat_steps: steps of the kernel shape over which memory must stay flat; 0 skips this.
    """

    name: str
    kernel: Shape
    repeats: int
    ckks_rows: int
    paillier_bits: int
    paillier_rows: int
    paillier_outputs: int
    system: tuple[SystemCase, ...]
    sweeps: Sweeps
    epochs: int
    flat_steps: int
    connections: int
    alignment_ids: int


_LARGE, _MIDDLE, _SMALL = Shape(8192, 32, 32), Shape(1024, 16, 16), Shape(256, 16, 16)

QUICK = Effort(
    name="quick",
    kernel=_LARGE,
    repeats=3,
    ckks_rows=4096,
    paillier_bits=2048,
    paillier_rows=1,
    paillier_outputs=8,
    system=(
        SystemCase(_LARGE, 5, 10, 6000),
        SystemCase(_MIDDLE, 12, 20, 3000),
        SystemCase(_SMALL, 100, 100, 1000),
    ),
    sweeps=Sweeps(
        Shape(2048, 16, 16), (256, 1024, 4096, 16384, 32768), (8, 16, 32, 64), (8, 16, 32, 64), (1, 2, 4, 8), 1
    ),
    epochs=1,
    flat_steps=0,
    connections=50,
    alignment_ids=50_000,
)

FULL = Effort(
    name="full",
    kernel=_LARGE,
    repeats=10,
    ckks_rows=4096,
    paillier_bits=2048,
    paillier_rows=8,
    paillier_outputs=64,
    system=(
        SystemCase(_LARGE, 25, 25, 6000),
        SystemCase(_MIDDLE, 50, 50, 3000),
        SystemCase(_SMALL, 1000, 200, 1000),
    ),
    sweeps=Sweeps(
        Shape(4096, 32, 32),
        (256, 512, 1024, 2048, 4096, 8192, 16384, 32768),
        (4, 8, 16, 32, 64, 128),
        (4, 8, 16, 32, 64, 128),
        (1, 2, 3, 4, 6, 8),
        3,
    ),
    epochs=2,
    flat_steps=1000,
    connections=200,
    alignment_ids=100_000,
)
