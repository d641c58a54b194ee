"""Fits an 'encodings' bottom to training rows: chooses the cells, then whitens them.

Shape suffixes: M cells; D width of the output.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vfl.errors import DataError, ModelError
from vfl.models.arithmetic import torch_threads
from vfl.models.config import BottomInputs, EncodingsBottom
from vfl.models.encodings.cells import TrainingFeatures, choose_resolution, lay_out, report, survey
from vfl.models.encodings.network import BLOCK_ROWS, CELL_BITS, WEIGHT_BITS, EncodingsNetwork
from vfl.runtime.logs import get_logger

_log = get_logger("vfl.models")

_SMALLEST_EIGENVALUE = 1e-6
"""In units of the mean eigenvalue: what is below is a linear dependency between cells, or next to one."""
_NEARLY_LARGEST = 0.9
"""Entries of an eigenvector that rounding may order either way do not decide on its sign."""


def fit_encodings(config: EncodingsBottom, inputs: BottomInputs, training: TrainingFeatures) -> EncodingsNetwork:
    """Fit the encodings of a table; the same rows in the same order give the same bits.

    Args:
        inputs: the party's columns; its ``names`` appear in the log of this party.
        training: features of the training rows.

    Raises:
        ModelError: the features do not have these columns.
        DataError: no column varies, or there are more cells than fit into an output that is not whitened.
    """
    expected = (inputs.numeric_width, len(inputs.cardinalities))
    if (training.numeric.shape[1], training.categorical.shape[1]) != expected:
        raise ModelError("the training features do not have the columns that the encodings are for")
    columns = survey(config, inputs, training)
    resolution = choose_resolution(config, columns)
    report(inputs, columns, resolution)
    arrays = lay_out(columns, resolution)
    network = EncodingsNetwork(config, inputs)
    nothing = {"weight": torch.empty(0, 0).double(), "offset": torch.empty(0).double()}
    cells = columns.cell_count(resolution)
    if not cells:
        raise DataError(
            "no feature column of this party varies in the training rows",
            remedy="export columns that differ between rows, or more rows",
        )
    if config.whiten:
        flat = nothing | {"weight": torch.empty(cells, 0).double()}
        network.load_state_dict(arrays | flat)
        network.load_state_dict(arrays | _whitening(config, network, training))
    elif cells > config.max_width:
        raise DataError(
            "this party's table has too many columns for encodings without whitening",
            detail=f"{cells} cells at the coarsest resolution, at most {config.max_width} are allowed",
            remedy="set [bottom] whiten = true or a larger max_width in party.toml, or drop columns in [data]",
        )
    else:
        network.load_state_dict(arrays | nothing)
    _log.info(
        "fitted the encodings",
        columns=len(columns.numeric) + len(columns.categorical),
        cells=cells,
        bins=resolution.bins,
        hashed=sum(column.is_hashed(resolution) for column in columns.categorical),
        buckets=resolution.buckets,
        width=network.width,
    )
    return network


def _whitening(config: EncodingsBottom, network: EncodingsNetwork, training: TrainingFeatures) -> dict[str, Tensor]:
    """Weight (M, D) and offset (D,) of ``(cells - mean) (C + ridge I)^(-1/2) / clip`` in the eigenbasis of C.

    Components come in descending order of their eigenvalues, without those that are nearly constant; the ridge is in
    units of the mean eigenvalue.
    """
    mean_M, covariance_MM = moments(network, training)
    with torch_threads(1):  # their number decides on the last bits of eigenvectors
        eigenvalues, vectors = torch.linalg.eigh(covariance_MM)
        eigenvalues, vectors = eigenvalues.flip(0), vectors.flip(1)
        unit = float(covariance_MM.trace()) / len(mean_M)
        count = min(int((eigenvalues > _SMALLEST_EIGENVALUE * unit).sum()), config.max_width)
        eigenvalues_D, vectors_MD = eigenvalues[:count], vectors[:, :count]
        # One step of training on whitened features is a ridge regression: with few rows it needs a larger ridge.
        ridge = len(mean_M) / len(training.numeric) if config.ridge is None else config.ridge
        scale_D = _signs(vectors_MD) / (config.clip * (eigenvalues_D + ridge * unit).sqrt())
        return _on_grid(vectors_MD * scale_D, mean_M)


def moments(network: EncodingsNetwork, training: TrainingFeatures) -> tuple[Tensor, Tensor]:
    """Mean (M,) and covariance (M, M) of the cells, the same bits with any number of threads.

    The sums over a block are integers that a double holds exactly, and blocks are added in order.
    """
    size, rows = network.cell_count, len(training.numeric)
    sums_M, products_MM = np.zeros(size), np.zeros((size, size))
    for start in range(0, rows, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        counts_BM = network.cell_counts(training.numeric[block], training.categorical[block]).numpy()
        sums_M += counts_BM.sum(axis=0)
        products_MM += counts_BM.T @ counts_BM
    mean_M = sums_M / rows * 2.0**-CELL_BITS
    covariance_MM = products_MM / rows * 4.0**-CELL_BITS - np.outer(mean_M, mean_M)
    return torch.from_numpy(mean_M), torch.from_numpy(covariance_MM)


def _signs(vectors_MD: Tensor) -> Tensor:
    """The signs (D,) that make the first of each vector's largest entries positive."""
    sizes = vectors_MD.abs()
    first_D = (sizes >= _NEARLY_LARGEST * sizes.amax(dim=0)).int().argmax(dim=0)
    return vectors_MD.gather(0, first_D[None])[0].sign()


def _on_grid(weight_MD: Tensor, mean_M: Tensor) -> dict[str, Tensor]:
    """Round each output's weights to a grid on which its sums are exact, and the offset to that of the products."""
    _, exponent_D = torch.frexp(weight_MD.abs().sum(dim=0))
    step_D = torch.ldexp(torch.ones_like(weight_MD[0]), exponent_D - WEIGHT_BITS)
    rounded_MD = (weight_MD / step_D).round() * step_D
    fine_D = step_D * 2.0**-CELL_BITS
    offset_D = ((rounded_MD * mean_M[:, None]).sum(dim=0) / fine_D).round() * fine_D
    return {"weight": rounded_MD, "offset": offset_D}
