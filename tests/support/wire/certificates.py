"""Certificates that nobody should accept, and a process that shows them all the same."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vfl.configuration.federation import TlsFiles
from vfl.ids import Role
from vfl.pki.credentials import Credentials
from vfl.pki.issuing.authority import Authority
from vfl.pki.keyfiles import new_private_key, write_private_key
from vfl.pki.profile import Owner


class Unchecked(Credentials):
    """Credentials of a process that does not care whether others will accept its certificate."""

    def _check(self, loaded: Any) -> None:
        pass


@dataclass
class Issuer:
    """A CA in a folder that issues whatever is asked for."""

    folder: Path
    authority: Authority
    root: Authority | None = None

    @classmethod
    def make(cls, folder: Path, federation: str = "demo") -> Issuer:
        folder.mkdir(parents=True, exist_ok=True)
        made = cls(folder, Authority.create(federation))
        made.ca.write_bytes(made.authority.certificate.public_bytes(Encoding.PEM))
        made.revoked.write_bytes(made.authority.revoke([]))
        return made

    @classmethod
    def below_a_root(cls, folder: Path) -> Issuer:
        """An intermediate CA (``own``) whose root is the one that others know (``ca``)."""
        root_key, key = new_private_key(), new_private_key()
        root = Authority(root_key, _authority("root", root_key.public_key(), "root", root_key))
        folder.mkdir(parents=True)
        made = cls(folder, Authority(key, _authority("middle", key.public_key(), "root", root_key)), root)
        made.own.write_bytes(made.authority.certificate.public_bytes(Encoding.PEM))
        made.ca.write_bytes(root.certificate.public_bytes(Encoding.PEM))
        made.revoked.write_bytes(root.revoke([]))
        return made

    def revoke_itself(self) -> None:
        assert self.root is not None
        earlier = x509.load_pem_x509_crl(self.revoked.read_bytes())
        self.revoked.write_bytes(self.root.revoke([self.authority.certificate], earlier))

    @property
    def own(self) -> Path:
        return self.folder / "own.crt"

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def revoked(self) -> Path:
        return self.folder / "revoked.crl"

    def files(self, name: str, **changes: Any) -> TlsFiles:
        """A key and its certificate; ``changes`` are those of ``certificate``, and ``key``, ``passphrase``, ``ca``."""
        key = changes.pop("key", None) or new_private_key()
        passphrase, ca = changes.pop("passphrase", None), changes.pop("ca", self.ca)
        at = self.folder / f"{name}-{len(list(self.folder.iterdir()))}"
        at.mkdir()
        (at / "party.crt").write_bytes(self.certificate(name, key, **changes).public_bytes(Encoding.PEM))
        write_private_key(at / "party.key", key, passphrase)
        return TlsFiles(ca=ca, certificate=at / "party.crt", key=at / "party.key", revoked=self.revoked)

    def certificate(
        self,
        name: str,
        key: Any,
        *,
        role: str | None = None,
        federation: str = "demo",
        identities: tuple[str, ...] | None = None,
        server_name: str | None = None,
        common_name: str | None = None,
        usage: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH),
        authority: bool = False,
        begins: timedelta = timedelta(minutes=-5),
        lasts: timedelta = timedelta(days=1),
        self_signed: bool = False,
    ) -> x509.Certificate:
        """A certificate of ``name``, correct but for what is given; with ``common_name`` it has no DNS name."""
        roles = {"hub": Role.COORDINATOR, "bank": Role.ACTIVE}
        owner = Owner(federation, name, roles.get(name, Role.PASSIVE))
        unit = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role)] if role else []
        subject = owner.subject() if role is None else x509.Name(unit)
        if common_name is not None:
            subject = x509.Name([*unit, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        signer, issuer = (key, subject) if self_signed else (self.authority.key, self.authority.certificate.subject)
        names = [
            *(x509.UniformResourceIdentifier(uri) for uri in ((owner.identity,) if identities is None else identities)),
            *([] if common_name else [x509.DNSName(server_name or f"{name}.{federation}.vfl.internal")]),
        ]
        begin = datetime.now(UTC) + begins
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + lasts)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        )
        if names:
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if authority:
            made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return made.sign(signer, hashes.SHA256())

    def revoke(self, files: TlsFiles) -> None:
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        earlier = x509.load_pem_x509_crl(self.revoked.read_bytes())
        self.revoked.write_bytes(self.authority.revoke([certificate], earlier))


def _authority(name: str, key: Any, issuer: str, signer: Any) -> x509.Certificate:
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (name, issuer)]
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    return (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, decipher_only=False, **usage),
            critical=True,
        )
        .sign(signer, hashes.SHA256())
    )
