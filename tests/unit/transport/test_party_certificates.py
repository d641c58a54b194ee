import asyncio
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from support.logs import captured_logs
from support.wire.certificates import Issuer

from vfl.errors import ConfigError
from vfl.ids import Role
from vfl.pki.credentials import Credentials
from vfl.pki.expiry import warn_of_expiry, watch_expiry, watched
from vfl.pki.issuing.throwaway import make_federation_certificates
from vfl.pki.keyfiles import PassphraseSource
from vfl.transport.tls.credentials import server_credentials

BANK = "spiffe://demo/party/bank"
ROLES = {"bank": Role.ACTIVE, "hub": Role.COORDINATOR}


@pytest.fixture
def files(tmp_path):
    return make_federation_certificates(tmp_path / "tls", "demo", ROLES, ["bank.example", "10.1.2.3"])


def test_a_certificate_names_its_party_role_and_hosts_and_is_short_lived(files):
    certificate = x509.load_pem_x509_certificate(files["bank"].certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [BANK]
    assert set(names.get_values_for_type(x509.DNSName)) == {"localhost", "bank.example", "bank.demo.vfl.internal"}
    assert {str(a) for a in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1", "10.1.2.3"}
    assert certificate.subject.rfc4514_string() == "CN=bank,OU=active,O=demo"
    assert certificate.not_valid_after_utc <= datetime.now(UTC) + timedelta(days=30)
    ca = x509.load_pem_x509_certificate(files["bank"].ca.read_bytes())
    certificate.verify_directly_issued_by(ca)


def test_keys_are_private_differ_and_the_ca_key_is_not_stored(files, tmp_path):
    keys = sorted((tmp_path / "tls").rglob("*.key"))
    assert keys == sorted(f.key for f in files.values())
    assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)
    assert len({key.read_bytes() for key in keys}) == 2
    stored = b"".join(p.read_bytes() for p in (tmp_path / "tls").rglob("*") if p.is_file())
    assert stored.count(b"PRIVATE KEY-----\n") == 2 * len(keys)


def test_certificates_are_never_overwritten(files, tmp_path):
    with pytest.raises(ConfigError, match="already"):
        make_federation_certificates(tmp_path / "tls", "demo", ROLES)


def test_files_of_a_party_and_of_the_coordinator_load(files, federation):
    assert server_credentials(Credentials(files["bank"], federation, "bank")) is not None
    assert Credentials(files["hub"], federation, "hub").trust.authorities


@pytest.mark.parametrize(
    ("replace", "says"),
    [
        ({"key": "missing"}, "'tls.key' cannot be read"),
        ({"revoked": "missing"}, "'tls.revoked' cannot be read"),
        ({"ca": "key"}, "'tls.ca' is not a PEM certificate"),
        ({"ca": "certificate"}, "a certificate that is not a CA"),
        ({"certificate": "key"}, "'tls.certificate' is not a PEM certificate"),
        ({"revoked": "certificate"}, "no PEM revocation list"),
        ({"revoked": "other list"}, "not signed by a CA in tls.ca"),
        ({"key": "certificate"}, "can be read or changed by users other than its owner"),
        ({"key": "text"}, "not a PEM private key"),
        ({"key": "other key"}, "does not belong to the certificate"),
    ],
)
def test_wrong_files_are_named(files, replace, says, federation, tmp_path, issuer):
    bank = files["bank"]
    text = tmp_path / "text"
    text.touch(mode=0o600)
    paths = {
        "missing": bank.key.with_name("none"),
        "key": bank.key,
        "certificate": bank.certificate,
        "other key": files["hub"].key,
        "other list": issuer.revoked,
        "text": text,
    }
    with pytest.raises(ConfigError, match=says) as caught:
        Credentials(bank.model_copy(update={name: paths[other] for name, other in replace.items()}), federation, "bank")
    assert str(tmp_path) not in caught.value.summary + caught.value.remedy


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_key_that_others_can_read_or_change_is_refused(files, federation, mode):
    files["bank"].key.chmod(mode)
    with pytest.raises(ConfigError, match="others") as caught:
        Credentials(files["bank"], federation, "bank")
    assert "chmod 600" in caught.value.remedy


def test_the_coordinators_certificate_need_not_be_for_a_server(issuer, federation):
    Credentials(issuer.files("hub", usage=(ExtendedKeyUsageOID.CLIENT_AUTH,)), federation, "hub")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lasts": timedelta(minutes=1)}, "expired"),
        ({"begins": timedelta(minutes=5)}, "not valid yet"),
        ({"self_signed": True}, "was not issued by a CA"),
        ({"federation": "other"}, "another federation"),
        ({"role": "passive"}, "not for the role 'active'"),
        ({"role": ""}, "not for the role 'active'"),
        ({"identities": ()}, "0 identities"),
        ({"identities": (BANK, "spiffe://demo/party/shop")}, "2 identities"),
        ({"identities": ("spiffe://demo/party/nobody",)}, "no member of this federation"),
        ({"server_name": "bank.example"}, "lacks the server name"),
        ({"server_name": "*.demo.vfl.internal"}, "lacks the server name"),
        ({"common_name": "bank.demo.vfl.internal", "role": "active"}, "lacks the server name"),
        ({"usage": (ExtendedKeyUsageOID.CLIENT_AUTH,)}, "is not for servers"),
        ({"authority": True}, "is a CA's"),
        ({"usage": (ExtendedKeyUsageOID.SERVER_AUTH,)}, "not issued by a CA"),
        ({"key": ed25519.Ed25519PrivateKey.generate()}, "key type is not supported"),
        ({"key": ec.generate_private_key(ec.SECP521R1())}, "key type is not supported"),
        ({"key": rsa.generate_private_key(65537, 1024)}, "key type is not supported"),  # noqa: S505  # weak on purpose
    ],
)
def test_a_certificate_that_no_peer_would_accept_is_refused_at_home(issuer, federation, changes, says):
    with pytest.raises(ConfigError, match=says):
        Credentials(issuer.files("bank", **changes), federation, "bank")


def test_a_certificate_of_another_party_is_refused(files, federation):
    with pytest.raises(ConfigError, match="not for this party") as caught:
        Credentials(files["hub"], federation, "bank")
    assert BANK in caught.value.detail


def test_a_revoked_certificate_is_refused_at_home(issuer, federation):
    files = issuer.files("bank")
    Credentials(files, federation, "bank")
    issuer.revoke(files)
    with pytest.raises(ConfigError, match="revoked"):
        Credentials(files, federation, "bank")


def test_a_stated_server_name_stands_in_for_the_derived_one(issuer, federation):
    config = federation.model_dump()
    config["parties"][0]["server_name"] = "vfl.bank.example"
    stated = type(federation).model_validate(config)
    files = issuer.files("bank", server_name="vfl.bank.example")
    assert Credentials(files, stated, "bank").federation.server_name("bank") == "vfl.bank.example"
    with pytest.raises(ConfigError, match="lacks the server name"):
        Credentials(issuer.files("bank"), stated, "bank")


def test_several_authorities_may_stand_in_one_file(issuer, federation, tmp_path):
    other = Issuer.make(tmp_path / "other")
    bundle = tmp_path / "bundle.crt"
    bundle.write_bytes(issuer.ca.read_bytes() + other.ca.read_bytes())
    lists = tmp_path / "lists.crl"
    ours, theirs = issuer.files("bank", ca=bundle), other.files("bank", ca=bundle)
    other.revoke(theirs)
    lists.write_bytes(issuer.revoked.read_bytes() + other.revoked.read_bytes())
    assert len(Credentials(ours.model_copy(update={"revoked": lists}), federation, "bank").trust.authorities) == 2
    Credentials(theirs.model_copy(update={"revoked": issuer.revoked}), federation, "bank")
    with pytest.raises(ConfigError, match="revoked"):
        Credentials(theirs.model_copy(update={"revoked": lists}), federation, "bank")


@pytest.mark.parametrize("way", ["passphrase_file", "passphrase_env", "terminal"])
def test_an_encrypted_key_opens_with_its_passphrase(issuer, federation, way, tmp_path, monkeypatch):
    files = issuer.files("bank", passphrase=b"correct horse")
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text("correct horse\n", encoding="ascii")
    monkeypatch.setenv("BANK_KEY", "correct horse")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "correct horse")
    stated = {"passphrase_file": {"passphrase_file": secret}, "passphrase_env": {"passphrase_env": "BANK_KEY"}}
    assert Credentials(files.model_copy(update=stated.get(way, {})), federation, "bank").passphrase == b"correct horse"


def test_a_missing_or_wrong_passphrase_is_an_error(issuer, federation, monkeypatch):
    files = issuer.files("bank", passphrase=b"correct horse")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    with pytest.raises(ConfigError, match="its passphrase is unknown"):
        Credentials(files, federation, "bank")
    named = files.model_copy(update={"passphrase_env": "BANK_KEY"})
    with pytest.raises(ConfigError, match="is empty"):
        Credentials(named, federation, "bank")
    monkeypatch.setenv("BANK_KEY", "wrong")
    with pytest.raises(ConfigError, match="its passphrase is wrong"):
        Credentials(named, federation, "bank")


def test_a_passphrase_file_that_others_can_read_is_refused(tmp_path):
    (tmp_path / "secret").write_text("x", encoding="ascii")
    (tmp_path / "secret").chmod(0o644)
    with pytest.raises(ConfigError, match="passphrase file can be read"):
        PassphraseSource(tmp_path / "secret").stated()


@pytest.mark.parametrize("days", [1, 20, 400])
def test_a_fresh_certificate_is_not_warned_of(issuer, federation, days):
    credentials = Credentials(issuer.files("bank", lasts=timedelta(days=days)), federation, "bank")
    with captured_logs() as logs:
        warn_of_expiry(credentials)
    assert logs == []


@pytest.mark.parametrize(
    ("begins", "lasts"),
    [(timedelta(days=-340), timedelta(days=365)), (timedelta(hours=-20), timedelta(days=1))],
)
def test_a_certificate_that_ends_soon_is_warned_of(issuer, federation, begins, lasts):
    credentials = Credentials(issuer.files("bank", begins=begins, lasts=lasts), federation, "bank")
    with captured_logs() as logs:
        warn_of_expiry(credentials)
    assert [(entry["event"], entry["whose"], entry["days_left"]) for entry in logs] == [
        ("a certificate expires soon; renew it", "own", 24 if lasts.days > 1 else 0)
    ]


async def test_expiry_is_looked_at_at_the_start_and_again_and_again(issuer, federation, monkeypatch):
    files = issuer.files("bank", begins=timedelta(hours=-20), lasts=timedelta(days=1))
    credentials = Credentials(files, federation, "bank")
    monkeypatch.setattr(watch_expiry, "__defaults__", (0.01,))
    with captured_logs() as logs:
        async with watched(credentials):
            await asyncio.sleep(0.2)
        so_far = len(logs)
        await asyncio.sleep(0.05)
    assert 2 <= so_far == len(logs)


def test_a_stale_revocation_list_is_warned_of(tmp_path, federation, monkeypatch):
    issuer = Issuer.make(tmp_path / "ca")
    monkeypatch.setattr("vfl.pki.issuing.authority.LIST_DAYS", -1 / 1440)
    files = issuer.files("bank")
    issuer.revoke(issuer.files("shop"))
    with captured_logs() as logs:
        warn_of_expiry(Credentials(files, federation, "bank"))
    assert [entry["event"] for entry in logs] == ["a revocation list is stale; get a new one from the CA"]


def test_an_intermediate_ca_is_followed_and_its_revocation_seen(tmp_path, federation):
    """The certificate file of an organization's own CA holds a chain."""
    middle = Issuer.below_a_root(tmp_path / "company")
    files = middle.files("bank")
    with pytest.raises(ConfigError, match="was not issued by a CA"):
        Credentials(files, federation, "bank")
    files.certificate.write_bytes(files.certificate.read_bytes() + middle.own.read_bytes())
    Credentials(files, federation, "bank")
    middle.revoke_itself()
    with pytest.raises(ConfigError, match="revoked"):
        Credentials(files, federation, "bank")
