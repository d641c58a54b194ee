"""A coordinator or relay between two parties puts its own public keys in place of theirs, and reads what they encrypt.

It succeeds on a build that does not check signatures, and is refused on ours.
"""

import dataclasses

import numpy as np
import pytest
from support.layers.interaction import PARAMETERS
from support.logs import captured_logs
from support.wire.certificates import Issuer

from vfl.configuration.federation import FederationConfig
from vfl.errors import MismatchError, ProtocolError
from vfl.he.arithmetic.residues import prime_column, scaled_plaintext
from vfl.he.keys import SecretKey
from vfl.ids import StepKey
from vfl.messages import PublicKeys
from vfl.messages.exchange import Receive, Send
from vfl.party.peers.key_exchange import KEYS_PURPOSE, AgreedState, OwnPart, SessionKeys
from vfl.pki.credentials import Credentials
from vfl.pki.statements import Statement
from vfl.pki.trust import CertificateRefused
from vfl.privacy.agreement import AgreementKey

KEY = StepKey("job-1", 0, 0)
STATE = AgreedState(b"statement", 10, 1, b"lineage", b"session")
PART = OwnPart(4, bytes(range(32)))
FEDERATION = FederationConfig.model_validate(
    {
        "name": "demo",
        "coordinator": "hub",
        "parties": [
            {"name": "bank", "role": "active", "endpoint": "127.0.0.1:5001"},
            {"name": "shop", "role": "passive", "endpoint": "127.0.0.1:5002"},
        ],
    }
)


@pytest.fixture(scope="module")
def issuer(tmp_path_factory):
    return Issuer.make(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="module")
def credentials(issuer):
    return {name: Credentials(issuer.files(name), FEDERATION, name) for name in ("bank", "shop", "hub")}


class Relay:
    """Has its own encryption and agreement keys, and everything that it has ever seen pass."""

    def __init__(self):
        self.secret = SecretKey(PARAMETERS)
        self.agreement = AgreementKey()

    def swap(self, message: PublicKeys) -> PublicKeys:
        return dataclasses.replace(
            message,
            he_public_key=np.frombuffer(self.secret.public.to_bytes(), np.uint8),
            agreement_key=np.frombuffer(self.agreement.public_bytes, np.uint8),
        )

    def sign_as(self, credentials, message: PublicKeys) -> PublicKeys:
        """Sign the swapped keys, in the name of bank, with a certificate that the relay really has."""
        contents = (message.he_public_key, message.agreement_key, message.state, message.width, message.inputs)
        signed_contents = tuple(part.tobytes() for part in contents)
        signed = credentials.sign(Statement(KEYS_PURPOSE, "demo", KEY.run, KEY.attempt, "bank", signed_contents))
        parts = {name: np.frombuffer(getattr(signed, name), np.uint8) for name in ("certificate", "signature")}
        return dataclasses.replace(message, **parts)


def own_message(keys: SessionKeys, peer: str, key: StepKey = KEY, state: AgreedState = STATE, part: OwnPart = PART):
    """What a party sends, and its exchange, which waits for the peer's."""
    exchange = keys.exchange((peer,), key, state, part)
    sent = next(exchange)
    assert isinstance(sent, Send)
    return sent.message, exchange


def give(exchange, message: PublicKeys):
    assert isinstance(exchange.send(None), Receive)
    with pytest.raises(StopIteration):
        exchange.send(message)


@pytest.fixture
def parties(credentials):
    return {
        name: SessionKeys(name, PARAMETERS, encrypted=True, federation="demo", credentials=credentials[name])
        for name in ("bank", "shop")
    }


def test_honest_keys_are_taken(parties):
    messages = {name: own_message(keys, {"bank": "shop", "shop": "bank"}[name]) for name, keys in parties.items()}
    give(messages["shop"][1], messages["bank"][0])
    give(messages["bank"][1], messages["shop"][0])
    secrets = {parties["bank"].shared["shop"].derive_key("x"), parties["shop"].shared["bank"].derive_key("x")}
    assert len(secrets) == 1
    assert len(parties["bank"].session) == 32
    assert parties["bank"].session == parties["shop"].session
    assert (parties["bank"].peer_parts, parties["shop"].peer_parts) == ({"shop": PART}, {"bank": PART})


def _bytes(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.uint8)


OTHER = dataclasses.replace(STATE, step=9)
"""The checkpoint before the one of the others."""


@pytest.mark.parametrize(
    "change",
    [
        {"statement": b"other"},
        {"step": 9},
        {"attempt": 2},
        {"lineage": b""},
        {"lineage": b"other"},
        {"session": b"other"},
    ],
)
def test_a_peer_with_another_state_is_refused_whoever_restored_it(parties, change):
    """A coordinator that restores different checkpoints at two parties would have shares that do not belong together
    used, and Z tell activations."""
    (from_bank, _) = own_message(parties["bank"], "shop", state=dataclasses.replace(STATE, **change))
    (_, shop) = own_message(parties["shop"], "bank")
    assert isinstance(shop.send(None), Receive)
    with pytest.raises(MismatchError, match="bank would begin with another state than shop"):
        shop.send(from_bank)
    assert parties["shop"].shared == {}
    assert parties["shop"].peer_encryption == {}


@pytest.mark.parametrize("width", [-1, 513, 10**6])
def test_a_width_that_cannot_be_is_refused(parties, width):
    (from_bank, _) = own_message(parties["bank"], "shop", part=OwnPart(width, PART.inputs))
    (_, shop) = own_message(parties["shop"], "bank")
    assert isinstance(shop.send(None), Receive)
    with pytest.raises(ProtocolError, match="bank states no width of its bottom from 0 to 512"):
        shop.send(from_bank)


def test_a_commitment_of_another_length_is_refused(parties):
    (from_bank, _) = own_message(parties["bank"], "shop", part=OwnPart(4, bytes(31)))
    (_, shop) = own_message(parties["shop"], "bank")
    assert isinstance(shop.send(None), Receive)
    with pytest.raises(ProtocolError, match="bank states no commitment of 32 bytes"):
        shop.send(from_bank)


def test_without_the_check_the_relay_reads_everything(parties, monkeypatch):
    monkeypatch.setattr(SessionKeys, "_check", lambda self, theirs, peer, key: None)
    relay = Relay()
    (from_bank, _), (_, shop) = own_message(parties["bank"], "shop"), own_message(parties["shop"], "bank")
    give(shop, relay.swap(from_bank))
    theirs = parties["shop"]
    as_bank = relay.agreement.agree(theirs._agreement.public_bytes, "bank", "shop")
    assert as_bank.derive_key("id-set-digest") == theirs.shared["bank"].derive_key("id-set-digest")
    values = np.arange(PARAMETERS.degree, dtype=np.int64)[None]
    level = len(PARAMETERS.primes)
    ciphertext = theirs.peer_encryption["bank"].encrypt_zeros(1)
    ciphertext[:, 0] += scaled_plaintext(PARAMETERS, values, level)
    assert (relay.secret.decrypt(ciphertext.remainder_(prime_column(PARAMETERS, level))) == values).all()


def attacks(relay, from_bank, credentials, earlier):
    """Every message that the relay could give to shop in bank's name, by what is tried."""
    swapped = relay.swap(from_bank)
    empty = np.empty(0, np.uint8)
    return {
        "the signature of the true keys": swapped,
        "the relay's own certificate": relay.sign_as(credentials["hub"], swapped),
        "a certificate of shop itself": relay.sign_as(credentials["shop"], swapped),
        "no signature": dataclasses.replace(swapped, certificate=empty, intermediates=empty, signature=empty),
        "only the agreement key swapped": dataclasses.replace(from_bank, agreement_key=swapped.agreement_key),
        "only the encryption key swapped": dataclasses.replace(from_bank, he_public_key=swapped.he_public_key),
        "bank's keys of an earlier attempt": earlier[0],
        "bank's keys of another job": earlier[1],
        "another state under the true signature": dataclasses.replace(from_bank, state=_bytes(OTHER.encode())),
        "another width under the true signature": dataclasses.replace(from_bank, width=_bytes(b"5")),
        "another table under the true signature": dataclasses.replace(from_bank, inputs=_bytes(bytes(32))),
    }


ATTACKS = [
    "the signature of the true keys",
    "the relay's own certificate",
    "a certificate of shop itself",
    "no signature",
    "only the agreement key swapped",
    "only the encryption key swapped",
    "bank's keys of an earlier attempt",
    "bank's keys of another job",
    "another state under the true signature",
    "another width under the true signature",
    "another table under the true signature",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_with_the_check_swapped_keys_are_refused(parties, credentials, attack):
    relay = Relay()
    (from_bank, _), (_, shop) = own_message(parties["bank"], "shop"), own_message(parties["shop"], "bank")
    earlier = [own_message(parties["bank"], "shop", key)[0] for key in (StepKey("job-1", 0, 1), StepKey("job-2", 0, 0))]
    message = attacks(relay, from_bank, credentials, earlier)[attack]
    assert isinstance(shop.send(None), Receive)
    with pytest.raises(CertificateRefused):
        shop.send(message)
    assert parties["shop"].shared == {}
    assert parties["shop"].peer_encryption == {}
    assert parties["shop"].peer_parts == {}


def test_without_certificates_keys_are_unsigned_and_the_log_says_so():

    keys = {
        name: SessionKeys(name, PARAMETERS, encrypted=True, federation="demo", credentials=None)
        for name in ("bank", "shop")
    }
    with captured_logs() as logs:
        (from_bank, _), (_, shop) = own_message(keys["bank"], "shop"), own_message(keys["shop"], "bank")
        give(shop, from_bank)
    assert from_bank.signature.size == 0
    assert [(entry["event"], entry["signed"]) for entry in logs] == [
        ("own keys", False),
        ("own keys", False),
        ("keys of a peer", False),
    ]
    assert logs[0]["fingerprint"] == logs[2]["fingerprint"]
    with pytest.raises(ProtocolError):
        PublicKeys(from_bank.he_public_key, from_bank.agreement_key, *[b""] * 6)
