"""Ids as points of Curve25519, and blinding them: what a helper process computes. Needs neither numpy nor torch.

Blinding is the commutative cipher of Huberman, Franklin and Hogg (EC 1999, after Meadows 1986) over X25519 (RFC 7748):
``E_k(u) = X25519(k, u)``, the u-coordinate of k P, where u is that of P. Scalars commute, E_a(E_b(u)) = E_b(E_a(u)),
because both are the u-coordinate of (ab) P; clamping changes the scalar k, not the fact that it is a scalar. A clamped
scalar is a multiple of 8, so the small-order component of a crafted point vanishes; a point with no other component
gives zero, which is refused (RFC 7748, section 6.1).

Half of all u belong not to the curve but to its quadratic twist, where the same formulas compute in another group.
Both groups are safe, so a peer that sends twist points gains nothing. But k P is on the curve if and only if P is: if
ids were hashed to any u, every blinded id would reveal one bit of its hash. So ids are hashed to the curve only.
"""

from __future__ import annotations

import hashlib

import gmpy2
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

POINT_BYTES = 32
DIGEST_BYTES = 32

_PRIME = gmpy2.mpz(2**255 - 19)
_A = 486662
_U_BITS = (1 << 255) - 1
_ID_DOMAIN = b"vfl/psi/1/id\0"
_POINT_DOMAIN = b"vfl/psi/1/point\0"
_LENGTH_BYTES = 8


class SmallOrderPoint(ValueError):
    """A point that is never a blinded id: multiplied by any scalar it gives zero."""


def id_digests(ids: list[str], run: str) -> bytes:
    """SHA-256 of each id, bound to the run; 32 bytes each, concatenated."""
    name = run.encode()
    base = hashlib.sha256(_ID_DOMAIN + len(name).to_bytes(_LENGTH_BYTES, "big") + name)
    digests = []
    for identity in ids:
        digest = base.copy()
        digest.update(identity.encode())
        digests.append(digest.digest())
    return b"".join(digests)


def hash_to_curve(digest: bytes) -> bytes:
    """A point of the curve whose discrete logarithm nobody knows, as its u-coordinate.

    The first of SHA-256(digest, 0), SHA-256(digest, 1), ... that is on the curve, so two tries on average: u is where
    u^3 + A u^2 + u is a square. The time depends on the id, which only this party's own machine can observe.
    """
    base = hashlib.sha256(_POINT_DOMAIN + digest)
    counter = 0
    while True:
        candidate = base.copy()
        candidate.update(bytes((counter,)))
        encoded = candidate.digest()
        u = int.from_bytes(encoded, "little") & _U_BITS  # as X25519 reads it: the highest bit is ignored
        if gmpy2.jacobi(u * (u * (u + _A) + 1), _PRIME) == 1:
            return encoded
        counter += 1


def blind_points(secret: bytes, points: bytes) -> bytes:
    """X25519(secret, u) of each 32-byte u.

    Raises:
        SmallOrderPoint: one of the results is zero.
    """
    exchange, read = X25519PrivateKey.from_private_bytes(secret).exchange, X25519PublicKey.from_public_bytes
    starts = range(0, len(points), POINT_BYTES)
    try:
        return b"".join([exchange(read(points[start : start + POINT_BYTES])) for start in starts])
    except ValueError as error:
        raise SmallOrderPoint("a point of small order") from error


def blind_digests(secret: bytes, digests: bytes) -> bytes:
    """X25519(secret, .) of the curve point of each 32-byte digest."""
    starts = range(0, len(digests), DIGEST_BYTES)
    return blind_points(secret, b"".join([hash_to_curve(digests[start : start + DIGEST_BYTES]) for start in starts]))
