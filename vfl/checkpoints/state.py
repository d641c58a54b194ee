"""The content of a checkpoint as bytes: tensors and texts as safetensors, encrypted at rest if there is a key.

Nothing in it is code. Its size and the size of its header are bounded before anything is made of it.
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
"""Bytes of a checkpoint's state at most; one call of AES-GCM takes no more than 2 GiB."""
MAX_HEADER_BYTES = 1 << 26
"""Bytes of the safetensors header at most, with names, shapes and all texts."""
KEY_BYTES = 32
ENCRYPTION_BYTES = 28
"""What encryption adds: a nonce of 12 bytes before, a tag of 16 after."""

_NONCE_BYTES = 12
_LENGTH_BYTES = 8
_METADATA = "__metadata__"


def encode_state(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, str]) -> bytes:
    """Tensors of any shape, on any device, and texts, as one safetensors file. Tensors may share memory.

    Raises:
        CheckpointError: a tensor cannot be stored, or all is too large.
    """
    try:
        copies = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
        # Empty metadata makes some versions of the library write a header that is no JSON.
        content = save(copies, metadata=dict(facts) or None)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            "the state of this party's model has something that a checkpoint cannot store",
            detail=str(error),
            remedy="use dense tensors of ordinary types in the bottom model",
        ) from error
    if len(content) > MAX_STATE_BYTES - ENCRYPTION_BYTES or _header_bytes(content) > MAX_HEADER_BYTES:
        raise CheckpointError(
            "the state of this party's model is too large for a checkpoint",
            detail=f"{len(content)} bytes of at most {MAX_STATE_BYTES}",
            remedy="use a smaller bottom model",
        )
    return content


def decode_state(content: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """What ``encode_state`` was given; tensors on the CPU.

    Raises:
        CheckpointError: the bytes are not such a file.
    """
    size = _header_bytes(content)
    if size > min(MAX_HEADER_BYTES, len(content) - _LENGTH_BYTES):
        raise damaged("the header of the safetensors file is longer than it may be")
    try:
        # The library gives no metadata of a file in memory.
        facts = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + size]).get(_METADATA, {})
        return load(content), facts
    except (SafetensorError, KeyError, ValueError, RuntimeError, AttributeError, RecursionError) as error:
        raise damaged(f"not a safetensors file: {error}") from error


def _header_bytes(content: bytes) -> int:
    return int.from_bytes(content[:_LENGTH_BYTES], "little")


def damaged(detail: str) -> CheckpointError:
    """The error of a checkpoint whose files are not what was written."""
    return CheckpointError(
        "a checkpoint is damaged",
        detail=detail,
        remedy="remove it; the run goes on from an earlier one that all parties have, or starts anew",
    )


# --- encryption at rest ---


def load_key(file: Path | None, variable: str | None) -> bytes | None:
    """The key that checkpoints are encrypted with; None where none is configured.

    Raises:
        ConfigError: it is named but not there, readable by others, or not 64 hexadecimal digits.
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
            "the key of the checkpoints is not 64 hexadecimal digits",
            detail=where,
            remedy="write one there, for instance the output of 'openssl rand -hex 32'",
        )
    return key


def encrypt(key: bytes, content: bytes, associated: bytes) -> bytes:
    """Nonce, ciphertext and tag: AES-256-GCM (NIST SP 800-38D) with a random nonce, bound to ``associated``."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, content, associated)


def decrypt(key: bytes, content: bytes, associated: bytes) -> bytes:
    """What ``encrypt`` was given.

    Raises:
        CheckpointError: another key, another ``associated``, or changed bytes.
    """
    try:
        return AESGCM(key).decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], associated)
    except (InvalidTag, ValueError) as error:
        raise CheckpointError(
            "a checkpoint was encrypted with another key",
            remedy="give the key with which the run began in 'checkpoints.key_file' or 'checkpoints.key_variable'",
        ) from error
