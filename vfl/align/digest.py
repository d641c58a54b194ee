"""Whether two parties hold the same ids, told by a digest that shows nothing else."""

from __future__ import annotations

import hashlib
import hmac

from vfl.errors import AlignmentError, ParameterError

_DOMAIN = b"vfl id set v1\0"
_LENGTH_BYTES = 8
_MIN_KEY_BYTES = 16


def id_set_digest(ids: list[str], key: bytes) -> bytes:
    """HMAC-SHA-256 (RFC 2104) over the count of the ids and, sorted by UTF-8 bytes, each id after its length.

    Equal for equal sets of ids in any order. Who does not hold the key learns nothing from it; the peer, who does,
    learns whether the sets are equal, and can test guesses of the *whole* set, which only a tiny table need fear.

    Args:
        ids: different ids.
        key: secret of the two parties that compare, at least 16 bytes.

    Returns:
        32 bytes.

    Raises:
        ParameterError: the key is too short.
    """
    if len(key) < _MIN_KEY_BYTES:
        raise ParameterError(
            "the key for comparing id sets is too short",
            detail=f"{len(key)} bytes",
            remedy=f"derive a key of at least {_MIN_KEY_BYTES} bytes",
        )
    mac = hmac.new(key, _DOMAIN + len(ids).to_bytes(_LENGTH_BYTES, "big"), hashlib.sha256)
    for encoded in sorted(identity.encode() for identity in ids):
        mac.update(len(encoded).to_bytes(_LENGTH_BYTES, "big"))
        mac.update(encoded)
    return mac.digest()


def check_same_ids(own_rows: int, own_digest: bytes, peer_name: str, peer_rows: int, peer_digest: bytes) -> None:
    """Compare this party's id set with a peer's, in constant time.

    Args:
        own_rows: count of this party's ids.
        own_digest: this party's digest, under the key shared with the peer.
        peer_name: the peer, for the message.
        peer_rows: the count that the peer sent.
        peer_digest: the digest that the peer sent.

    Raises:
        AlignmentError: the sets differ; the message has the counts and never an id.
    """
    same_digest = hmac.compare_digest(own_digest, peer_digest)
    if own_rows == peer_rows and same_digest:
        return
    counts = f"{own_rows} rows here and {peer_rows} there" if own_rows != peer_rows else f"{own_rows} rows at both"
    raise AlignmentError(
        f"this party and '{peer_name}' do not hold the same ids ({counts})",
        remedy="export the same set of customers at every party, with ids written the same way (leading zeros, case); "
        "finding the common ids by private set intersection (PSI) will come in a later release",
    )
