"""The attacks of a curious key owner on a product that another party computed under its key and sent back.

All three are linear algebra: the product is a public linear map of the other party's secret factor, applied to
ciphertexts that the key owner made itself. Each attack reads one trace of the factor: the second polynomial, the
noise, or the plaintext coefficients that the result does not use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from support.attacks.key_owner import (
    centered_integers,
    integers,
    scaled_noise,
    secret_coefficients,
    solve_modular,
    to_residues,
)
from vfl.he.keys import SecretKey
from vfl.he.parameters import Parameters

EQUATIONS_PER_UNKNOWN = 8


@dataclass
class ReturnedProduct:
    """A key owner's view of one product.

    Attributes:
        sent: fresh ciphertexts it made (C, 2, L, N), and ``plaintext`` (C, N) what they hold.
        returned: ciphertexts that came back (C', 2, level, N); zero in c0 where nothing was sent.
        known: the coefficients (N) where c0 was sent.
        product: the public map from the other party's factor and ciphertexts to their product.
        factor_shape: shape of the factor.
        unused: which coefficients (C', N) of the product hold no entry of the result.
    """

    parameters: Parameters
    key: SecretKey
    sent: torch.Tensor
    plaintext: np.ndarray
    returned: torch.Tensor
    known: np.ndarray
    product: Callable[[np.ndarray, torch.Tensor], torch.Tensor]
    factor_shape: tuple[int, int]
    unused: np.ndarray

    def images(self, ciphertexts: torch.Tensor) -> list[torch.Tensor]:
        """Products with every unit matrix: what each entry of the factor contributes."""
        images = []
        for index in np.ndindex(self.factor_shape):
            unit = np.zeros(self.factor_shape, dtype=np.int64)
            unit[index] = 1
            images.append(self.product(unit, ciphertexts))
        return images

    def images_of_integers(self, polynomials: np.ndarray) -> np.ndarray:
        """The same for polynomials of integers (C, N) in place of ciphertexts: (entries, C', N)."""
        ciphertexts = torch.zeros_like(self.sent)
        level = ciphertexts.shape[2]
        ciphertexts[:, 0] = torch.from_numpy(to_residues(self.parameters, polynomials, level))
        return np.stack([integers(self.parameters, image[:, 0].numpy()) for image in self.images(ciphertexts)])


def from_second_polynomial(view: ReturnedProduct) -> np.ndarray | None:
    """Solve returned c1 = sum of the factor's entries times their images of c1, modulo two primes (60 bits > tau)."""
    level = 2
    images = [image[:, 1].numpy() for image in view.images(view.sent[:, :, :level].contiguous())]
    returned = view.returned[:, 1].numpy()
    solutions = []
    for index, prime in enumerate(view.parameters.primes[:level]):
        columns = np.stack([image[:, index].ravel() for image in images], axis=1)
        rows = _some_rows(columns)
        solution = solve_modular(columns[rows], returned[:, index].ravel()[rows], prime)
        if solution is None:
            return None
        solutions.append(solution)
    factor = integers(view.parameters, np.array(solutions))
    return factor.reshape(view.factor_shape)


def from_noise(view: ReturnedProduct) -> np.ndarray:
    """Least squares on noise = sum of the factor's entries times their images of the sent noise, in exact integers.

    Where c0 was sent; elsewhere the noise cannot be known.
    """
    p = view.parameters
    secret = secret_coefficients(p, view.key)
    sent = scaled_noise(p, secret, view.sent, view.plaintext)
    returned = scaled_noise(p, secret, view.returned, view.key.decrypt(view.returned)).ravel()
    returned = returned * (p.modulus(view.sent.shape[2]) // p.modulus(view.returned.shape[2]))
    images = view.images_of_integers(sent).reshape(-1, returned.size).T
    known = np.broadcast_to(view.known, view.unused.shape).ravel()
    rows = np.any(images != 0, axis=1) & known
    images, returned = images[rows], returned[rows]
    pseudo_inverse = np.linalg.pinv((images / p.t).astype(np.float64))
    factor = np.zeros(images.shape[1], dtype=object)
    for _ in range(6):
        residual = ((returned - images @ factor) / p.t).astype(np.float64)
        factor = factor + np.array([round(x) for x in pseudo_inverse @ residual], dtype=object)
    return factor.reshape(view.factor_shape)


def from_unused_coefficients(view: ReturnedProduct) -> np.ndarray | None:
    """Solve decrypted = sum of the factor's entries times their images of the plaintext, modulo t."""
    images = view.images_of_integers(view.plaintext)[:, view.unused].T
    decrypted = view.key.decrypt(view.returned)[view.unused]
    informative = np.flatnonzero(np.any(images != 0, axis=1))
    rows = informative[_some_rows(images[informative])]
    solution = solve_modular(images[rows], decrypted[rows], view.parameters.t)
    if solution is None:
        return None
    return centered_integers(np.array(solution, dtype=object), view.parameters.t).reshape(view.factor_shape)


def _some_rows(columns: np.ndarray) -> np.ndarray:
    """Indices of enough equations to solve for every column and to notice a contradiction."""
    count = min(columns.shape[0], EQUATIONS_PER_UNKNOWN * columns.shape[1])
    return np.random.default_rng(0).choice(columns.shape[0], count, replace=False)
