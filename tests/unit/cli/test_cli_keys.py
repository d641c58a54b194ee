"""``vfl keys`` as operators use it: CA, request, signature, check, revocation."""

import stat
from pathlib import Path

import pytest
import tomli_w
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from typer.testing import CliRunner

from vfl.cli.main import app
from vfl.configuration.federation import TlsFiles, load_federation
from vfl.ids import Role
from vfl.pki.credentials import Credentials
from vfl.pki.keyfiles import new_private_key
from vfl.pki.profile import Owner

PASSPHRASE = "correct horse battery"  # noqa: S105  # of this test


def keys(*arguments: object, code: int = 0, given: str | None = None) -> str:
    result = CliRunner().invoke(app, ["keys", *map(str, arguments)], input=given)
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "federation.toml"
    parties = [
        {"name": "bank", "role": "active", "endpoint": "bank.example:5001"},
        {"name": "shop", "role": "passive", "endpoint": "10.1.2.3:5001", "server_name": "vfl.shop.example"},
    ]
    path.write_text(tomli_w.dumps({"name": "demo", "coordinator": "hub", "parties": parties}), encoding="utf-8")
    return path


@pytest.fixture
def ca(file: Path) -> Path:
    keys("ca", file, "--out", file.parent / "ca")
    return file.parent / "ca"


def made(file: Path, ca: Path, name: str, *options: object) -> TlsFiles:
    folder = file.parent / name
    keys("request", file, name, "--out", folder, *options)
    keys("sign", file, folder / "party.csr", "--ca", ca, "--yes")
    return TlsFiles(
        ca=ca / "ca.crt", certificate=folder / "party.crt", key=folder / "party.key", revoked=ca / "revoked.crl"
    )


@pytest.mark.parametrize("name", ["bank", "shop", "hub"])
def test_from_nothing_to_credentials_that_work(file, ca, name):
    files = made(file, ca, name, "--host", "further.example")
    credentials = Credentials(files, load_federation(file), name)
    assert credentials.trust.lists
    assert {stat.S_IMODE(path.stat().st_mode) for path in (files.key, ca / "ca.key")} == {0o600}
    shown = keys("show", files.certificate, "--ca", ca / "ca.crt", "--federation", file, "--revoked", files.revoked)
    role = {"bank": "active", "shop": "passive", "hub": "coordinator"}[name]
    for text in (
        f"spiffe://demo/party/{name}",
        "further.example",
        "days left     364",
        f"accepted as   {name}, {role}",
    ):
        assert text in shown
    fingerprint = x509.load_pem_x509_certificate(files.certificate.read_bytes()).fingerprint(hashes.SHA256())
    assert fingerprint.hex(":").upper() in shown


def test_the_host_of_the_federation_file_is_in_the_request(file, ca):
    shown = keys("show", made(file, ca, "shop").certificate.with_suffix(".csr"))
    for host in ("10.1.2.3", "vfl.shop.example", "shop.demo.vfl.internal"):
        assert host in shown


def test_revoking_is_seen_by_everybody(file, ca):
    bank, shop = made(file, ca, "bank"), made(file, ca, "shop")
    federation = load_federation(file)
    others = Credentials(shop, federation, "shop")
    assert "1 certificate(s) revoked" in keys("revoke", bank.certificate, "--ca", ca)
    assert "1 certificate(s) revoked" in keys("revoke", "--ca", ca)
    (issued,) = (ca / "issued").glob("shop-*.crt")
    assert "has been revoked" in keys("show", bank.certificate, "--ca", ca / "ca.crt", "--federation", file,
                                      "--revoked", ca / "revoked.crl", code=2)  # fmt: skip
    assert len(others.trust.lists[0].content) == 1
    assert "2 certificate(s) revoked" in keys("revoke", issued, "--ca", ca)


def test_another_authority_revokes_nothing_here(file, ca):
    keys("ca", file, "--out", file.parent / "other")
    bank = made(file, ca, "bank")
    assert "not issued by this CA" in keys("revoke", bank.certificate, "--ca", file.parent / "other", code=2)


def test_keys_and_authorities_are_never_overwritten(file, ca):
    bank = made(file, ca, "bank")
    before = bank.key.read_bytes(), (ca / "ca.key").read_bytes()
    assert "never overwritten" in keys("request", file, "bank", "--out", bank.key.parent, code=2)
    assert "already" in keys("ca", file, "--out", ca, code=2)
    assert (bank.key.read_bytes(), (ca / "ca.key").read_bytes()) == before


def test_a_renewal_keeps_the_key(file, ca):
    bank = made(file, ca, "bank")
    before = x509.load_pem_x509_certificate(bank.certificate.read_bytes())
    keys("sign", file, bank.certificate.with_suffix(".csr"), "--ca", ca, "--yes")
    after = x509.load_pem_x509_certificate(bank.certificate.read_bytes())
    assert after.serial_number != before.serial_number
    assert after.public_key() == before.public_key()


def test_encrypted_keys(file, monkeypatch):
    monkeypatch.setenv("SECRET", PASSPHRASE)
    folder = file.parent
    keys("ca", file, "--out", folder / "ca", "--passphrase-env", "SECRET")
    keys("request", file, "bank", "--out", folder / "bank", "--passphrase-env", "SECRET")
    for path in (folder / "ca" / "ca.key", folder / "bank" / "party.key"):
        with pytest.raises(TypeError, match="encrypted"):
            load_pem_private_key(path.read_bytes(), None)
        load_pem_private_key(path.read_bytes(), PASSPHRASE.encode())
    signing = ("sign", file, folder / "bank" / "party.csr", "--ca", folder / "ca", "--yes")
    assert "passphrase is unknown" in keys(*signing, code=2)
    keys(*signing, "--passphrase-env", "SECRET")
    monkeypatch.setenv("SECRET", "short")
    assert "too short" in keys("request", file, "shop", "--out", folder / "shop", "--passphrase-env", "SECRET", code=2)
    assert not (folder / "shop").exists()
    assert "no terminal" in keys("request", file, "shop", "--out", folder / "shop", "--encrypt", code=2)


def test_signing_asks_or_compares(file, ca):
    folder = file.parent / "bank"
    shown = keys("request", file, "bank", "--out", folder)
    fingerprint = next(line.split()[1] for line in shown.splitlines() if line.startswith("key "))
    signing = ("sign", file, folder / "party.csr", "--ca", ca)
    assert "not signed" in keys(*signing, given="n\n", code=2)
    assert "not for the key" in keys(*signing, "--expect", fingerprint[:-1] + "x", code=2)
    assert not (folder / "party.crt").exists()
    assert fingerprint in keys(*signing, "--expect", fingerprint.lower().replace(":", " "))


def request_of(path, owner, hosts=()):
    """As somebody makes it who does not use ``vfl keys request``."""
    names = [x509.UniformResourceIdentifier(owner.identity), *map(x509.DNSName, hosts)]
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(owner.subject())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(new_private_key(), hashes.SHA256())
    )
    path.write_bytes(request.public_bytes(Encoding.PEM))
    return path


@pytest.mark.parametrize(
    ("owner", "hosts", "says"),
    [
        (Owner("other", "bank", Role.ACTIVE), (), "belongs to no member in federation.toml"),
        (Owner("demo", "nobody", Role.ACTIVE), (), "belongs to no member in federation.toml"),
        (Owner("demo", "shop", Role.ACTIVE), (), "its role is not 'passive'"),
        (Owner("demo", "shop", Role.COORDINATOR), (), "its role is not 'passive'"),
        (Owner("demo", "bank", Role.ACTIVE), ("shop.demo.vfl.internal",), "server name of another"),
        (Owner("demo", "bank", Role.ACTIVE), ("SHOP.demo.VFL.internal",), "server name of another"),
        (Owner("demo", "bank", Role.ACTIVE), ("bank.other.vfl.internal",), "server name of another"),
        (Owner("demo", "bank", Role.ACTIVE), ("vfl.shop.example",), "server name of another"),
        (Owner("demo", "bank", Role.ACTIVE), ("VFL.shop.example",), "server name of another"),
        (Owner("demo", "bank", Role.ACTIVE), ("vfl.shop.example.",), "neither a DNS name"),
        (Owner("demo", "bank", Role.ACTIVE), ("*.example",), "neither a DNS name"),
    ],
)
def test_what_the_authority_does_not_sign(file, ca, tmp_path, owner, hosts, says):
    path = request_of(tmp_path / "x.csr", owner, hosts)
    assert says in keys("sign", file, path, "--ca", ca, "--yes", code=2)
    assert not list((ca / "issued").iterdir())


def test_a_request_that_was_changed_is_not_signed(file, ca, tmp_path):
    path = request_of(tmp_path / "x.csr", Owner("demo", "bank", Role.ACTIVE))
    content = bytearray(x509.load_pem_x509_csr(path.read_bytes()).public_bytes(Encoding.DER))
    content[-1] ^= 1
    path.write_bytes(x509.load_der_x509_csr(bytes(content)).public_bytes(Encoding.PEM))
    assert "its signature is invalid" in keys("sign", file, path, "--ca", ca, "--yes", code=2)


@pytest.mark.parametrize("host", ["*.example", "a b", "", "ä.example"])
def test_hosts_are_names_or_addresses(file, host):
    folder = file.parent / "bank"
    assert "neither a DNS name nor" in keys("request", file, "bank", "--out", folder, "--host", host, code=2)
    assert not folder.exists()


def test_unreadable_files_are_reported(file, ca, tmp_path):
    (tmp_path / "text").write_text("x", encoding="ascii")
    assert "cannot be read" in keys("show", tmp_path / "text", code=2)
    assert "cannot be read" in keys("show", tmp_path / "none", code=2)
    assert "cannot be read" in keys("sign", file, tmp_path / "text", "--ca", ca, "--yes", code=2)
    assert "the federation has no member named" in keys("request", file, "nobody", "--out", tmp_path / "x", code=2)
    assert "both --federation and --ca" in keys("show", ca / "ca.crt", "--ca", ca / "ca.crt", code=2)
    (ca / "ca.key").chmod(0o644)
    assert "can be read or changed" in keys("revoke", "--ca", ca, code=2)
