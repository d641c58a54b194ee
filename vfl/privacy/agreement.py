"""Keys that two parties agree on (X25519, HKDF-SHA-256), and the streams drawn from them (ChaCha20).

One agreement serves one attempt of a run; every use derives its own key from a label that names the purpose and, for
masks, the run, step, attempt and message. No key stream is ever used for two different values.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from vfl.errors import ProtocolError

KEY_BYTES = 32
_ZERO_NONCE = bytes(16)


class AgreementKey:
    """This party's ephemeral key pair for one attempt of a run. The private half never leaves the process."""

    def __init__(self) -> None:
        self._private = X25519PrivateKey.generate()

    @property
    def public_bytes(self) -> bytes:
        """The public half, 32 bytes."""
        return self._private.public_key().public_bytes_raw()

    def agree(self, peer_public: bytes, own_name: str, peer_name: str) -> SharedSecret:
        """The secret shared with a peer. Both names go into it, in the same order at both.

        Raises:
            ProtocolError: not a usable public key (wrong length, or a point of small order); names the peer.
        """
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(peer_public))
        except (ValueError, InvalidKey) as error:
            raise ProtocolError(
                f"the key-agreement key of {peer_name} is malformed",
                remedy="check that every party runs the same version of vfl",
            ) from error
        own = (own_name, self.public_bytes)
        transcript = b"\x1f".join(
            name.encode() + b"\x1e" + key for name, key in sorted((own, (peer_name, peer_public)))
        )
        return SharedSecret(shared, transcript)


class SharedSecret:
    """A secret shared by two parties, from which independent keys and streams are derived."""

    def __init__(self, secret: bytes, transcript: bytes) -> None:
        self._secret = secret
        self._transcript = transcript

    def derive_key(self, label: str) -> bytes:
        """A 32-byte key for one purpose (HKDF, RFC 5869)."""
        hkdf = HKDF(hashes.SHA256(), KEY_BYTES, salt=self._transcript, info=b"vfl/1\x1f" + label.encode())
        return hkdf.derive(self._secret)

    def stream(self, label: str, length: int) -> bytes:
        """``length`` pseudorandom bytes for one label. The key is unique to the label, so the nonce may be constant."""
        cipher = Cipher(algorithms.ChaCha20(self.derive_key(label), _ZERO_NONCE), mode=None)
        return cipher.encryptor().update(bytes(length))
