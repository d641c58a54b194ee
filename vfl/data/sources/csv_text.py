"""The text of a CSV file: unpacked, decoded, and which character separates its fields."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

from charset_normalizer import from_bytes

from vfl.data.config import DataConfig
from vfl.errors import DataError
from vfl.runtime.memory import available_memory_bytes

HEAD = 1 << 16
"""Bytes of a file from which its header and its encoding are recognized."""
_SEPARATORS = (",", ";", "\t", "|")
_PIECE = 1 << 20
_BYTES_PER_FIELD = 32
"""At least, while a file is read: columns of text with 16 bytes for each value, twice."""
_GZIP = b"\x1f\x8b"


def read_text(config: DataConfig, limit: int | None = None) -> bytes:
    """The file's text in UTF-8.

    Args:
        limit: read so many bytes at most, a character that they cut in two excluded.

    Raises:
        OSError: the file cannot be read.
        DataError: it is no text in the configured encoding; its archive is damaged, or larger than memory allows.
    """
    raw = _unpacked(config.path, limit)
    partial = limit is not None and len(raw) >= limit
    if config.encoding == "utf-8":
        try:
            raw[: len(raw) - 3 if partial else None].decode("utf-8")
        except UnicodeDecodeError as error:
            raise _wrong_encoding(config, raw, error) from None
        return raw
    try:
        return raw.decode(config.encoding).encode("utf-8")
    except UnicodeDecodeError as error:
        if partial and error.end >= len(raw) - 3:
            return raw[: error.start].decode(config.encoding).encode("utf-8")
        raise _wrong_encoding(config, raw, error) from None


def separator_of(config: DataConfig, text: bytes) -> str:
    """As configured, or whichever of the usual separators the header has most of; a comma if it has none."""
    if config.separator != "auto":
        return "\t" if config.separator == "tab" else config.separator
    header = text[:HEAD].decode("utf-8", "ignore").lstrip("\ufeff\r\n").partition("\n")[0]
    outside_quotes = re.sub(r'"[^"]*"', "", header)
    # max keeps the first of several with the same count.
    return max(_SEPARATORS, key=outside_quotes.count)


def check_fits(path: Path, text: bytes, separator: str) -> None:
    """Check that the columns of a file fit into memory: a field that takes two bytes in the file takes far more there.

    Raises:
        DataError: they do not.
    """
    available = available_memory_bytes()
    fields = text.count(separator.encode()) + text.count(b"\n")
    needed = fields * _BYTES_PER_FIELD
    if available is not None and needed > available:
        raise DataError(
            "the configured table is too large for the free memory",
            detail=f"{path}: about {fields:,} fields need at least {needed >> 20} MiB; {available >> 20} MiB are free",
            remedy="export fewer columns or rows, or use Parquet",
        )


def _unpacked(path: Path, limit: int | None) -> bytes:
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
        file.seek(0)
        if not packed:
            return file.read(-1 if limit is None else limit)
        if limit is None:
            # What is unpacked is then held as text and as columns.
            limit = (available_memory_bytes() or 1 << 40) // 4
        pieces, size = [], 0
        try:
            with gzip.open(file) as text:
                while size < limit and (piece := text.read(min(_PIECE, limit - size))):
                    pieces.append(piece)
                    size += len(piece)
                if size >= limit > HEAD and text.read(1):
                    raise DataError(
                        "the configured table is too large when it is unpacked",
                        detail=f"{path}: more than {limit >> 20} MiB, a quarter of the free memory",
                        remedy="export fewer columns or rows, or use Parquet",
                    )
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(
                "the configured table is a damaged gzip file", detail=str(path), remedy="export the table again"
            ) from error
    return b"".join(pieces)


def _wrong_encoding(config: DataConfig, raw: bytes, error: UnicodeDecodeError) -> DataError:
    """Names the likely encoding, as recognized from text around the first byte that does not fit."""
    start = max(0, error.start - HEAD // 2)
    guess = from_bytes(raw[start : start + HEAD]).best()
    likely = guess.encoding if guess is not None and guess.encoding != config.encoding else None
    declared = f'set encoding = "{likely}"' if likely else "set 'encoding'"
    return DataError(
        f"the configured table is not text in {config.encoding.upper()}",
        detail=f"{config.path}: byte {error.start + 1}{f'; it is likely {likely}' if likely else ''}",
        remedy=f"{declared} in [data] of party.toml, or save the file as UTF-8",
    )
