"""The boundary to SEAL (through ``tenseal.sealapi``): parameters, secret keys, decryption.

SEAL reserves the last prime for key switching, of which there is none here. So its ciphertexts have one prime fewer
than ours at most, its keys have all of them.

Its binding has no bulk access to coefficients, so ciphertexts pass through its load streams and plaintexts through
its save streams: in anonymous memory on Linux, in a private temporary directory elsewhere.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tenseal.sealapi as sealapi
import torch
import zstandard

from vfl.errors import ParameterError
from vfl.he.arithmetic.residues import scaled_plaintext
from vfl.he.parameters import Parameters

_HEADER = struct.Struct("<HBBBBHQ")  # magic, header bytes, major, minor, compression, reserved, total bytes
_MAGIC = 0xA15E
_UNCOMPRESSED = 0
_CIPHERTEXT = struct.Struct("<4QBQQQdQ")  # parms_id, ntt form, polynomials, degree, primes, scale, correction factor
_PLAINTEXT = struct.Struct("<4QQd")  # parms_id, coefficients, scale
_ARRAY_BYTES = _HEADER.size + 8  # arrays inside have a header of their own, then the number of 64-bit words


@lru_cache(maxsize=8)
def context(parameters: Parameters) -> Any:
    """SEAL's context at 128-bit security for these parameters.

    Raises:
        ParameterError: SEAL refuses them.
    """
    settings = parameters.settings
    encryption = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.BFV)
    encryption.set_poly_modulus_degree(parameters.degree)
    encryption.set_coeff_modulus(
        sealapi.CoeffModulus.Create(parameters.degree, [settings.prime_bits] * settings.primes)
    )
    encryption.set_plain_modulus(sealapi.Modulus(parameters.t))
    made = sealapi.SEALContext(encryption, True, sealapi.SEC_LEVEL_TYPE.TC128)
    if not made.parameters_set():
        raise ParameterError(
            f"SEAL refuses the job's [ring] settings: {made.parameters_error_message()}",
            remedy="use the default [ring] settings",
        )
    chosen = tuple(p.value() for p in made.key_context_data().parms().coeff_modulus())
    if chosen != parameters.primes:
        raise ParameterError("this build of SEAL chooses other primes than expected", remedy="install tenseal 0.3")
    return made


@lru_cache(maxsize=8)
def _level_ids(parameters: Parameters) -> dict[int, tuple[int, ...]]:
    """SEAL's identifier of the parameters with each number of primes that its ciphertexts may have."""
    ids: dict[int, tuple[int, ...]] = {}
    data = context(parameters).first_context_data()
    while data is not None:
        ids[len(data.parms().coeff_modulus())] = tuple(data.parms_id())
        data = data.next_context_data()
    return ids


class SealSecret:
    """A secret key inside SEAL: generated and used for decryption there."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        secret = sealapi.KeyGenerator(context(parameters)).secret_key()
        self._decryptor = sealapi.Decryptor(context(parameters), secret)

    def coefficients(self) -> npt.NDArray[np.int64]:
        """The ternary secret s (N). SEAL keeps it transformed; the ciphertext (0, q / t) decrypts to it."""
        p, level = self._parameters, max(_level_ids(self._parameters))
        one = np.zeros((1, p.degree), dtype=np.int64)
        one[0, 0] = 1
        probe = torch.zeros((1, 2, level, p.degree), dtype=torch.int64)
        probe[:, 1] = scaled_plaintext(p, one, level)
        modular = self.decrypt(probe)[0]
        secret: npt.NDArray[np.int64] = np.where(modular > 1, modular - p.t, modular)
        return secret

    def decrypt(self, residues: torch.Tensor) -> npt.NDArray[np.int64]:
        """Plaintext coefficients (C, N), in [0, t), of ciphertexts (C, 2, level, N) that lack at least one prime."""
        ciphertext, plaintext = sealapi.Ciphertext(), sealapi.Plaintext()
        out = np.zeros((residues.shape[0], self._parameters.degree), dtype=np.int64)
        words = residues.contiguous().numpy()
        for index in range(words.shape[0]):
            with _memory_file(_ciphertext_stream(self._parameters, words[index])) as path:
                ciphertext.load(context(self._parameters), path)
            self._decryptor.decrypt(ciphertext, plaintext)
            coefficients = _plaintext_coefficients(plaintext)
            out[index, : coefficients.size] = coefficients
        return out


def _plaintext_coefficients(plaintext: Any) -> npt.NDArray[np.int64]:
    return np.frombuffer(_saved_body(plaintext), dtype=np.int64, offset=_PLAINTEXT.size + _ARRAY_BYTES)


def _ciphertext_stream(parameters: Parameters, words: npt.NDArray[np.int64]) -> bytes:
    """SEAL's uncompressed stream of one ciphertext (2, level, N)."""
    level = words.shape[1]
    parms_id = _level_ids(parameters)[level]
    members = _CIPHERTEXT.pack(*parms_id, 0, 2, parameters.degree, level, 1.0, 1)
    array = _with_header(struct.pack("<Q", words.size) + words.tobytes())
    return _with_header(members + array)


@cache
def _version() -> tuple[int, int]:
    """Version of SEAL written in its streams; it loads no other."""
    with _memory_file(b"") as path:
        sealapi.Plaintext().save(path)
        _, _, major, minor, *_ = _HEADER.unpack_from(Path(path).read_bytes())
    return major, minor


def _with_header(body: bytes) -> bytes:
    """SEAL's uncompressed stream with this body."""
    return _HEADER.pack(_MAGIC, _HEADER.size, *_version(), _UNCOMPRESSED, 0, _HEADER.size + len(body)) + body


def _saved_body(item: Any) -> bytes:
    """What SEAL saves of an object, decompressed and without its header."""
    with _memory_file(b"") as path:
        item.save(path)
        stream = Path(path).read_bytes()
    compression = _HEADER.unpack_from(stream)[4]
    if compression == _UNCOMPRESSED:
        return stream[_HEADER.size :]
    return zstandard.ZstdDecompressor().decompressobj().decompress(stream[_HEADER.size :])


@contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    """Path of a file with this content: anonymous memory on Linux, a temporary file elsewhere."""
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "seal"
            path.write_bytes(content)
            yield str(path)
        return
    descriptor = os.memfd_create("vfl-seal")
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
