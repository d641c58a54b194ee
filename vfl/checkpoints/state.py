"""The content of a checkpoint as bytes: tensors and texts as safetensors, encrypted at rest if there is a key.

It contains no code. Its size and the size of its header are checked before it is parsed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from safetensors import SafetensorError
from safetensors.torch import load, save

from vfl.errors import CheckpointError, ConfigError
from vfl.pki.keyfiles import read_private

MAX_STATE_BYTES = (1 << 31) - (1 << 20)
"""Maximum size of a checkpoint's state in bytes; one call of AES-GCM takes at most 2 GiB."""
MAX_HEADER_BYTES = 1 << 26
"""Maximum size of the safetensors header in bytes, including names, shapes and all texts."""
KEY_BYTES = 32
ENCRYPTION_BYTES = 28
"""Bytes that encryption adds: a 12-byte nonce before, a 16-byte tag after."""

_NONCE_BYTES = 12
_LENGTH_BYTES = 8
_METADATA = "__metadata__"


def encode_state(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, str]) -> bytes:
    """Tensors of any shape, on any device, and texts, as one safetensors file. Tensors may share memory.

    Raises:
        CheckpointError: a tensor cannot be stored, or the result is too large.
    """
    try:
        copies = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
        # With empty metadata, some versions of the library write a header that is not JSON.
        content = save(copies, metadata=dict(facts) or None)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            "the state of this party's model contains something that a checkpoint cannot store",
            detail=str(error),
            remedy="use dense tensors of ordinary types in the bottom model",
        ) from error
    if len(content) > MAX_STATE_BYTES - ENCRYPTION_BYTES or _header_bytes(content) > MAX_HEADER_BYTES:
        raise CheckpointError(
            "the state of this party's model is too large for a checkpoint",
            detail=f"{len(content)} bytes, at most {MAX_STATE_BYTES} are allowed",
            remedy="use a smaller bottom model",
        )
    return content


def decode_state(content: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The arguments of ``encode_state``, with tensors on the CPU.

    Raises:
        CheckpointError: the bytes are not a valid state.
    """
    size = _header_bytes(content)
    if size > min(MAX_HEADER_BYTES, len(content) - _LENGTH_BYTES):
        raise damaged("the header of the safetensors file is too long")
    try:
        # The library cannot read the metadata of a file in memory.
        facts = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + size]).get(_METADATA, {})
        return load(content), facts
    except (SafetensorError, KeyError, ValueError, RuntimeError, AttributeError, RecursionError) as error:
        raise damaged(f"not a safetensors file: {error}") from error


def _header_bytes(content: bytes) -> int:
    return int.from_bytes(content[:_LENGTH_BYTES], "little")


def damaged(detail: str) -> CheckpointError:
    """The error for a checkpoint whose files are not as they were written."""
    return CheckpointError(
        "a checkpoint is damaged",
        detail=detail,
        remedy="remove it; the run then resumes from an earlier one that all parties have, or starts over",
    )


# --- encryption at rest ---


def load_key(file: Path | None, variable: str | None) -> bytes | None:
    """The key that encrypts checkpoints; None if none is configured.

    Raises:
        ConfigError: it is configured but missing, readable by others, or not 64 hexadecimal digits.
    """
    if file is not None:
        text = read_private(file, "the key file of the checkpoints").decode("ascii", errors="replace")
    elif variable is not None:
        text = os.environ.get(variable, "")
    else:
        return None
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        where = str(file) if file is not None else f"environment variable {variable}"
        raise ConfigError(
            "the checkpoint key is not 64 hexadecimal digits",
            detail=where,
            remedy="put a key there, for instance the output of 'openssl rand -hex 32'",
        )
    return key


def encrypt(key: bytes, content: bytes, associated: bytes) -> bytes:
    """Nonce, ciphertext and tag: AES-256-GCM (NIST SP 800-38D) with a random nonce, bound to ``associated``."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, content, associated)


def decrypt(key: bytes, content: bytes, associated: bytes) -> bytes:
    """The content that ``encrypt`` encrypted.

    Raises:
        CheckpointError: the key or ``associated`` is different, or bytes were changed.
    """
    try:
        return AESGCM(key).decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], associated)
    except (InvalidTag, ValueError) as error:
        raise CheckpointError(
            "a checkpoint was encrypted with another key",
            remedy="set 'checkpoints.key_file' or 'checkpoints.key_variable' to the key that the run began with",
        ) from error
