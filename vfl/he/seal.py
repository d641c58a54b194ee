"""The boundary to SEAL (through ``tenseal.sealapi``): keys, encryptions of zero, decryption.

SEAL does everything that touches key material or samples errors. Its binding offers no bulk access to coefficients, so
ciphertexts pass through its save and load streams, in anonymous memory files that never reach a disk.
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

from vfl.errors import ParameterError, ProtocolError
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
        sealapi.CoeffModulus.Create(parameters.degree, [settings.prime_bits] * (settings.primes + 1))
    )
    encryption.set_plain_modulus(sealapi.Modulus(parameters.t))
    made = sealapi.SEALContext(encryption, True, sealapi.SEC_LEVEL_TYPE.TC128)
    if not made.parameters_set():
        raise ParameterError(
            f"SEAL refuses the job's [ring] settings: {made.parameters_error_message()}",
            remedy="use the default [ring] settings",
        )
    chosen = tuple(p.value() for p in made.first_context_data().parms().coeff_modulus())
    if chosen != parameters.primes:
        raise ParameterError("this build of SEAL chooses other primes than expected", remedy="install tenseal 0.3")
    return made


@lru_cache(maxsize=8)
def _level_ids(parameters: Parameters) -> dict[int, tuple[int, ...]]:
    """SEAL's identifier of the parameters with each number of primes."""
    ids: dict[int, tuple[int, ...]] = {}
    data = context(parameters).first_context_data()
    while data is not None:
        ids[len(data.parms().coeff_modulus())] = tuple(data.parms_id())
        data = data.next_context_data()
    return ids


class PublicKey:
    """A party's public encryption key. It can only make encryptions of zero; plaintexts are added to residues."""

    def __init__(self, parameters: Parameters, key: Any) -> None:
        self._parameters = parameters
        self._key = key
        self._encryptor = sealapi.Encryptor(context(parameters), key)

    @classmethod
    def from_bytes(cls, parameters: Parameters, data: bytes, owner: str) -> PublicKey:
        """Load a peer's key from SEAL's stream, which must be uncompressed throughout so that its size is known.

        Raises:
            ProtocolError: not a valid key for these parameters.
        """
        key = sealapi.PublicKey()
        try:
            if len(data) != _public_key_bytes(parameters) or any(
                _HEADER.unpack_from(data, at)[4] != _UNCOMPRESSED for at in (0, _HEADER.size + _CIPHERTEXT.size)
            ):
                raise ValueError("unexpected size or compression")
            with _memory_file(data) as path:
                key.load(context(parameters), path)
        except (ValueError, RuntimeError) as error:
            raise ProtocolError(
                f"the public encryption key of {owner} is malformed or made for other parameters",
                detail=str(error),
                remedy="check that every party runs the same version of vfl and the same job file",
            ) from error
        return cls(parameters, key)

    def to_bytes(self) -> bytes:
        """SEAL's stream of the key, uncompressed."""
        return _with_header(_saved_body(self._key))

    def encrypt_zeros(self, count: int) -> torch.Tensor:
        """Fresh encryptions of zero: residues (count, 2, L, N)."""
        ciphertext = sealapi.Ciphertext()
        out = []
        for _ in range(count):
            self._encryptor.encrypt_zero(ciphertext)
            out.append(_residues(self._parameters, ciphertext))
        return _stacked(self._parameters, out)


class SecretKey:
    """A party's key pair. The secret key exists only in this process and has no serialised form."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        generator = sealapi.KeyGenerator(context(parameters))
        public = sealapi.PublicKey()
        generator.create_public_key(public)
        secret = generator.secret_key()
        self.public = PublicKey(parameters, public)
        self._encryptor = sealapi.Encryptor(context(parameters), public)
        self._encryptor.set_secret_key(secret)
        self._decryptor = sealapi.Decryptor(context(parameters), secret)

    def __reduce__(self) -> str:
        raise TypeError("a secret key cannot be serialised")

    def encrypt_zeros(self, count: int) -> torch.Tensor:
        """Fresh symmetric encryptions of zero, with less noise than public-key ones: residues (count, 2, L, N)."""
        ciphertext = sealapi.Ciphertext()
        out = []
        for _ in range(count):
            self._encryptor.encrypt_zero_symmetric(ciphertext)
            out.append(_residues(self._parameters, ciphertext))
        return _stacked(self._parameters, out)

    def decrypt(self, residues: torch.Tensor) -> npt.NDArray[np.int64]:
        """Plaintext coefficients (C, N), in [0, t), of ciphertexts (C, 2, level, N)."""
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


def _public_key_bytes(parameters: Parameters) -> int:
    """Size of an uncompressed public key: two polynomials over all primes, the special one included."""
    words = 2 * (len(parameters.primes) + 1) * parameters.degree
    return _HEADER.size + _CIPHERTEXT.size + _ARRAY_BYTES + 8 * words


def _stacked(parameters: Parameters, ciphertexts: list[npt.NDArray[np.int64]]) -> torch.Tensor:
    shape = (len(ciphertexts), 2, len(parameters.primes), parameters.degree)
    return torch.from_numpy(np.stack(ciphertexts) if ciphertexts else np.zeros(shape, dtype=np.int64))


def _residues(parameters: Parameters, ciphertext: Any) -> npt.NDArray[np.int64]:
    words = np.frombuffer(_saved_body(ciphertext), dtype=np.int64, offset=_CIPHERTEXT.size + _ARRAY_BYTES)
    return words.reshape(2, len(parameters.primes), parameters.degree)


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
    """Version of SEAL that stands in its streams; it loads no other."""
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
