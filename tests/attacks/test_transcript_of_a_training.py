"""Everything that anybody receives in a real encrypted training of three parties, byte by byte at the transport.

Real gRPC servers with real certificates. What is looked for: anything that is not uniform where a mask should make it
so; activations, gradients, labels, ids and secret keys in any usual encoding; tensors at the coordinator; and messages
that are not in the audit logs of both sides. Every finding also has a build that shows it.

Statistics: the chi-square p-values of one run are compared with FALSE_ALARMS divided by their number, so that a sound
build fails once in 10^9 runs (up to the approximation by the chi-square distribution, with 5 or more values per bin).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from support.attacks.chi_square import uniform_p_values
from support.attacks.key_owner import secret_coefficients
from support.federations.federation import ACTIVE, COORDINATOR, ID_PREFIX, Federation
from support.federations.in_process import Run, run_federation
from support.layers.interaction import PARAMETERS
from support.wire.taps import Call, Tap, tap_servers

import vfl.he.ciphertexts
from vfl import messages as m
from vfl.audit.log import Crossed, read_lines
from vfl.audit.summary import compare, read_half
from vfl.audit.verify import verify
from vfl.he.arithmetic.bits import unpack_bits
from vfl.interact import encrypted_active, encrypted_passive
from vfl.interact.encrypted_active import EncryptedActive
from vfl.interact.stream import KeyOwner
from vfl.messages.exchange import Send
from vfl.party.peers.exchange_driver import ExchangeDriver
from vfl.party.peers.key_exchange import SessionKeys
from vfl.party.roles.active import ActiveParty
from vfl.party.roles.passive import PassiveParty
from vfl.transport.v1 import data_pb2
from vfl.transport.wire.data_codec import MessageDecoder

CLINIC, INSURER = "clinic", "insurer"
PASSIVE = (CLINIC, INSURER)
EVERYBODY = (ACTIVE, *PASSIVE, COORDINATOR)
FALSE_ALARMS = 1e-9
ROW_COUNT = 16
"""Values of a column in one needle; fewer than 8 bytes are not looked for, since they occur by chance."""


@dataclass
class Transcript:
    """One training: what crossed, what must not, and what the parties wrote down."""

    tap: Tap
    run: Run
    federation: Federation
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    keys: dict[str, SessionKeys] = field(default_factory=dict)
    agreement: dict[str, bytes] = field(default_factory=dict)
    decrypted: dict[tuple[str, str], list[np.ndarray]] = field(default_factory=dict)
    """By kind of message, all that the owners of the keys read in it."""

    def log(self, name: str) -> Path:
        (path,) = self.federation.path(name, "audit").glob("*.jsonl")
        return path


async def _record(folder: Path, monkeypatch: pytest.MonkeyPatch, passes: int = 2) -> Transcript:
    federation = Federation(folder, PASSIVE, rows=120)
    federation.job["training"] |= {"passes": passes, "batch_size": 32}
    federation.job["split"]["validation"] = 0.2
    # Wide enough for the statistics of the smallest messages, the shares of initial weights.
    federation.job["model"] |= {"interaction_width": 16, "widths": dict.fromkeys(federation.names, 16)}
    seen = Transcript(tap_servers(monkeypatch), Run(), federation.write())
    _remember_secrets(seen, monkeypatch)
    seen.run = await run_federation(federation, over_grpc=True)
    return seen


def _remember_secrets(seen: Transcript, monkeypatch: pytest.MonkeyPatch) -> None:
    quantized, with_noise = PassiveParty._quantized_alpha, PassiveParty._with_noise
    top, make_keys = ActiveParty._train_top, SessionKeys.__init__
    receive_products = KeyOwner.receive

    def remember_alpha(self, key, batch):
        alpha = quantized(self, key, batch)
        remember(f"alpha {self._state.setup.name} {key.step}", alpha)
        return alpha

    def remember_released(self, alpha_BD, labels):
        """What is encrypted: activations with noise, which are secret, too."""
        released = with_noise(self, alpha_BD, labels)
        remember(f"alpha {self._state.setup.name} released {len(seen.columns)}", released)
        return released

    def remember(name, alpha):
        for column in (0, alpha.shape[1] - 1):
            seen.columns[f"{name} {column}"] = alpha[:, column]
        seen.columns[f"{name} rows"] = alpha.ravel()

    def remember_top(self, key, batch):
        result = top(self, key, batch)
        seen.columns[f"labels {key.step}"] = np.asarray(self._labels(batch)).astype(np.int64).ravel()
        seen.columns[f"dL/dZ {key.step} rows"] = self._d_z.ravel()
        seen.columns[f"dL/dZ {key.step} 0"] = self._d_z[:, 0]
        return result

    def remember_keys(self, name, *arguments, **options):
        make_keys(self, name, *arguments, **options)
        seen.keys[name] = self
        seen.agreement[name] = self._agreement._private.private_bytes_raw()

    def remember_products(self, sender, kind, packing, level, parts):
        result = yield from receive_products(self, sender, kind, packing, level, parts)
        seen.decrypted.setdefault((kind.kind, "decrypted"), []).append(result)
        return result

    monkeypatch.setattr(KeyOwner, "receive", remember_products)
    monkeypatch.setattr(PassiveParty, "_quantized_alpha", remember_alpha)
    monkeypatch.setattr(PassiveParty, "_with_noise", remember_released)
    monkeypatch.setattr(ActiveParty, "_train_top", remember_top)
    monkeypatch.setattr(SessionKeys, "__init__", remember_keys)


# --- the findings: each empty on a sound build ---


def not_uniform(seen: Transcript) -> list[str]:
    """Kinds of messages whose shares, decrypted products or ciphertext polynomials are not uniform."""
    samples: dict[tuple[str, str, int], list[np.ndarray]] = {}
    for (kind, what), products in seen.decrypted.items():
        samples[kind, what, PARAMETERS.t] = [product % PARAMETERS.t for product in products]
    # B1 goes to all passive parties alike; counted once for each it would be no independent sample.
    once = {(c.header.kind, c.header.sender, c.header.step, c.payload): c for c in seen.tap.deliveries()}
    for call in once.values():
        message = _decoded(call)
        if message.protection not in (m.Protection.MASKED, m.Protection.ENCRYPTED):
            continue
        for name, tensor in message.tensors().items():
            if tensor.dtype == np.int64:
                samples.setdefault((message.kind, name, PARAMETERS.t), []).append(tensor)
            elif tensor.dtype == np.uint32 and tensor.size:
                for prime, residues in _residues(tensor):
                    samples.setdefault((message.kind, name, prime), []).append(residues)
    tested = {
        what: uniform_p_values(np.concatenate([part.ravel() for part in parts]), what[2])
        for what, parts in samples.items()
    }
    assert {kind for kind, _, _ in tested} >= {
        m.ForwardShare.kind,
        m.MaskedWeightGradient.kind,
        m.EncryptedGradientRows.kind,
    }
    limit = FALSE_ALARMS / sum(len(values) for values in tested.values())
    return sorted({kind for (kind, _, _), values in tested.items() if min(values) < limit})


def _residues(words_CLW):
    """Of packed polynomials: their residues modulo every prime. Widths of 16 leave no padding in the last word."""
    bits = PARAMETERS.settings.prime_bits
    residues = unpack_bits(words_CLW, words_CLW.shape[2] * 32 // bits, bits)
    for index, prime in enumerate(PARAMETERS.primes[: words_CLW.shape[1]]):
        yield prime, residues[:, index]


def _decoded(call: Call):
    decoder = MessageDecoder(call.header, max_message_bytes=2**30)
    for chunk in call.received[1:]:
        decoder.feed(data_pb2.Chunk.FromString(chunk))
    return decoder.finish()


def secrets_on_the_wire(seen: Transcript) -> set[str]:
    """What must not cross and stands somewhere in what crossed, at any byte."""
    content = b"\x00gap\x00".join(_everything(seen.tap))
    return {what.split(" ")[0] for what, needle in _needles(seen) if needle in content}


def _everything(tap: Tap) -> list[bytes]:
    """Whole raw messages; of data messages the payload in one piece, since chunks may end anywhere; metadata."""
    found = []
    for call in tap.calls:
        is_data = call.method == "Deliver"
        found += [*(call.received[:1] if is_data else call.received), *call.replied, call.payload if is_data else b""]
        found += [value if isinstance(value, bytes) else value.encode() for value in call.metadata.values()]
    return found


def _needles(seen: Transcript) -> list[tuple[str, bytes]]:
    needles = [
        (what, encoded)
        for what, values in seen.columns.items()
        if np.unique(values[:ROW_COUNT]).size > 1
        for encoded in _encodings(values[:ROW_COUNT], what)
    ]
    for name, keys in seen.keys.items():
        coefficients = secret_coefficients(PARAMETERS, keys.secret)
        needles += [("key " + name, encoded) for encoded in _integer_forms(coefficients[: 4 * ROW_COUNT])]
        needles.append(("key " + name, seen.agreement[name]))
        needles += [("key " + name, shared._secret) for shared in keys.shared.values()]
    for table in seen.federation.tables.values():
        needles += [("id", identifier.encode()) for identifier in table["id"]]
    needles += [("id", ID_PREFIX.encode(code)) for code in ("utf-8", "utf-16-le", "utf-16-be")]
    return needles


def _encodings(values: np.ndarray, what: str) -> list[bytes]:
    scale = 1.0 if what.startswith("labels") else 1 / 1024 if what.startswith("alpha") else 1 / 4096
    floats = [(values * scale).astype(kind).tobytes() for kind in ("<f4", ">f4", "<f8", ">f8", "<f2")]
    return [form for form in [*floats, *_integer_forms(values)] if len(form) >= 8]


def _integer_forms(values: np.ndarray) -> list[bytes]:
    """Fixed point as it is, modulo t and modulo every prime, in every width that holds it."""
    forms = [values.astype(kind).tobytes() for kind in ("<i8", ">i8", "<i4", ">i4", "<i2", ">i2")]
    if np.abs(values).max() < 128:
        forms.append(values.astype("i1").tobytes())
    forms.append((values % PARAMETERS.t).astype("<i8").tobytes())
    return forms + [(values % prime).astype(kind).tobytes() for prime in PARAMETERS.primes for kind in ("<u4", "<u8")]


def tensors_at_the_coordinator(seen: Transcript) -> list[str]:
    """Replies to the coordinator that are larger than the names, counts and metrics they should be."""
    assert seen.tap.control()
    large = [call.method for call in seen.tap.control() if any(len(reply) > 512 for reply in call.replied)]
    return large + [call.server for call in seen.tap.calls if call.server == COORDINATOR]


def unaccounted(seen: Transcript) -> list[str]:
    """Messages of the wire that are not, once each, in the logs of sender and receiver, and the reverse."""
    wire: dict[str, Counter[tuple[str, ...]]] = {name: Counter() for name in EVERYBODY}
    for call in seen.tap.deliveries():
        header, digest = call.header, _digest(call, call.header.kind, call.payload)
        wire[header.sender]["sent", call.server, header.kind, digest] += 1
        wire[call.server]["received", header.sender, header.kind, digest] += 1
    for call in seen.tap.control():
        if call.method == "Heartbeat":  # the only call that is not logged: it has no content, and comes for ever
            continue
        for content, side, other in ((call.received, "sent", "received"), (call.replied, "received", "sent")):
            if content[0]:
                wire[COORDINATOR][side, call.server, "control", ""] += 1
                wire[call.server][other, COORDINATOR, "control", ""] += 1
    problems = []
    for name in EVERYBODY:
        with seen.log(name).open("rb") as file:
            records = [line.record for line in read_lines(file) if line is not None]
        logged = Counter(_entry(record) for record in records if isinstance(record, Crossed))
        problems += [f"{name}: {entry[:3]}" for entry in (wire[name] - logged) + (logged - wire[name])]
    return problems


def _entry(record: Crossed) -> tuple[str, ...]:
    if record.kind in m.MESSAGE_TYPES:
        return record.direction, record.peer, record.kind, record.digest
    return record.direction, record.peer, "control", ""


def _digest(call: Call, kind: str, content: bytes) -> str:
    """As SECURITY.md describes it, written here a second time."""
    salt = call.metadata["vfl-audit-salt-bin"]
    return hmac.new(salt, kind.encode() + b"\x00" + hashlib.sha256(content).digest(), "sha256").hexdigest()


# --- a sound build ---


@pytest.fixture(scope="session")  # tests of this module do not all follow one another
def seen(tmp_path_factory) -> Transcript:
    with pytest.MonkeyPatch.context() as context:
        found = asyncio.run(_record(tmp_path_factory.mktemp("transcript"), context))
    assert set(found.run.errors.values()) == {None}, found.run.errors
    return found


def test_whatever_is_masked_or_encrypted_is_uniform_to_its_receiver(seen):
    assert not_uniform(seen) == []


def test_no_activation_gradient_label_id_or_key_occurs_in_any_byte_that_crossed(seen):
    assert len(_everything(seen.tap)) > 100
    assert {what.split(" ")[0] for what, _ in _needles(seen)} == {"alpha", "labels", "dL/dZ", "key", "id"}
    assert secrets_on_the_wire(seen) == set()


def test_the_coordinator_receives_no_tensor(seen):
    assert tensors_at_the_coordinator(seen) == []


def test_every_message_is_in_the_logs_of_both_sides(seen):
    assert unaccounted(seen) == []
    for name in EVERYBODY:
        with seen.log(name).open("rb") as file:
            found = verify(read_lines(file))
        assert found.intact
        assert found.closed is not None
        assert found.closed.outcome == "finished"


def test_the_logs_of_any_two_agree(seen):
    halves = []
    for name in EVERYBODY:
        with seen.log(name).open("rb") as file:
            halves.append(read_half(read_lines(file)))
    for at, first in enumerate(halves):
        for second in halves[at + 1 :]:
            found = compare(first, second)
            assert found.agreed > 0
            assert found.differences == []


def test_no_log_holds_an_id_a_value_or_a_path(seen):
    for name in EVERYBODY:
        content = seen.log(name).read_bytes()
        assert ID_PREFIX.encode() not in content
        assert str(seen.federation.folder).encode() not in content
        assert not any(needle in content for _, needle in _needles(seen))


# --- weakened builds: what each test is for ---


async def _weakened(tmp_path, monkeypatch) -> Transcript:
    return await _record(tmp_path, monkeypatch, passes=1)


async def test_a_build_without_masks_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        vfl.he.ciphertexts, "uniform_mask", lambda p, positions: np.zeros(positions.shape, dtype=np.int64)
    )
    found = set(not_uniform(await _weakened(tmp_path, monkeypatch)))
    # Products with a weight share, which is uniform itself, look uniform one by one even so; that whole batches of them
    # give the share away is shown in test_attack_key_owner.py.
    assert found == {m.MaskedWeightGradient.kind, m.MaskedActivationGradient.kind}


async def test_a_build_that_sends_activations_in_the_clear_is_noticed(tmp_path, monkeypatch):
    """One message too many, past the check that refuses it."""
    monkeypatch.setattr(m.ClearActivations, "protection", m.Protection.PUBLIC)
    forward = encrypted_passive.EncryptedPassive.forward
    receive_all = EncryptedActive.forward

    def telling(self, key, alpha_BD, labels, columns):
        yield Send((self._shape.active,), m.ClearActivations(alpha_BD, np.zeros_like(alpha_BD)))
        yield from forward(self, key, alpha_BD, labels, columns)

    def listening(self, key, rows, columns):
        for name in self._shape.passive:
            yield from encrypted_active.receive(name, m.ClearActivations)
        return (yield from receive_all(self, key, rows, columns))

    monkeypatch.setattr(encrypted_passive.EncryptedPassive, "forward", telling)
    monkeypatch.setattr(EncryptedActive, "forward", listening)
    seen = await _weakened(tmp_path, monkeypatch)
    assert secrets_on_the_wire(seen) == {"alpha"}
    assert unaccounted(seen) == []  # and the log shows it


@pytest.mark.parametrize("what", ["key", "id", "labels", "dL/dZ"])
def test_the_search_finds_every_kind_of_secret_wherever_it_is_put(seen, what):
    """At an odd place of what the coordinator reads."""
    needle = next(encoded for name, encoded in reversed(_needles(seen)) if name.split(" ")[0] == what)
    call = Call(CLINIC, "Score", {}, [b""], [b"odd" + needle])
    assert secrets_on_the_wire(replace(seen, tap=Tap([call]))) == {what}


def test_a_tensor_for_the_coordinator_is_noticed(seen):
    call = Call(CLINIC, "Score", {}, [b""], [bytes(1000)])
    assert tensors_at_the_coordinator(replace(seen, tap=Tap([call]))) == ["Score"]


async def test_a_message_past_the_log_is_noticed(tmp_path, monkeypatch):
    deliver = ExchangeDriver._deliver

    async def past_the_log(self, to, message, address):
        client = self._clients[to].channel
        recorder = client._recorder
        client._recorder = None if message.kind == m.ForwardShare.kind else recorder
        try:
            await deliver(self, to, message, address)
        finally:
            client._recorder = recorder

    monkeypatch.setattr(ExchangeDriver, "_deliver", past_the_log)
    seen = await _weakened(tmp_path, monkeypatch)
    assert set(unaccounted(seen)) == {f"{name}: ('sent', '{ACTIVE}', 'forward_share')" for name in PASSIVE}
