"""Targets: this party's own files, which others may have had in their hands: configuration, audit logs, saved state."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from support.fuzzing.members import ACTIVE, JOB, PASSIVE, folder
from support.fuzzing.registry import MEBIBYTE, fuzz_target
from vfl.audit.file import drop_cut_record
from vfl.audit.log import Chain, Closed, Crossed, Opened, read_lines
from vfl.audit.summary import compare, read_half, summarize
from vfl.audit.verify import verify
from vfl.cli.audit import _as_data, _facts
from vfl.cli.check import kind_of
from vfl.configuration.federation import load_federation
from vfl.configuration.toml_files import load_toml
from vfl.coordinator.config import CoordinatorConfig
from vfl.errors import VflError
from vfl.job.offer import job_text, read_job_text
from vfl.job.setup import load_job, load_job_setup
from vfl.messages import Protection
from vfl.models.tasks.labels import ClassEncoding, LabelEncoding, ScaleEncoding
from vfl.party.config import PartyConfig
from vfl.party.private_seed import load_private_seed

EXAMPLES = Path(__file__).resolve().parents[4] / "parties"
_HOSTILE = (
    b"x = " + b"[" * 600,
    b"x = " + b"9" * 5000,
    b"x = 0x" + b"f" * 5000,
    b".".join([b"x"] * 500) + b" = 1",
    b".".join([b"x"] * 4000) + b" = 1",
    b"x = [1979-05-27T07:32:00Z, 1e999, -inf, nan, 1_0]\n",
    b'job = "~nobody-of-this-name/x"\nfederation = "\\u0000"\nname = "x"\n',
    b"[interaction]\nlink_mbit = 0x" + b"f" * 400 + b"\n",
)
_TOML_BYTES = 8192
_TOML_ROOM = 24 * MEBIBYTE
"""A key of as many parts as fit into one line takes this much."""
_TIME = "2026-01-01T00:00:00.000Z"


def file_with(name: str, data: bytes) -> Path:
    """A file of this name that holds the input."""
    path = folder() / name
    path.write_bytes(data)
    return path


def _examples(*names: str) -> Callable[[], Iterator[bytes]]:
    return lambda: iter([*((EXAMPLES / name).read_bytes() for name in names), *_HOSTILE])


# --- configuration ---


@fuzz_target(_examples("federation.toml"), room=_TOML_ROOM, max_bytes=_TOML_BYTES)
def federation_toml(data: bytes) -> None:
    """federation.toml."""
    path = file_with("federation.toml", data)
    kind_of(path)
    load_federation(path)


@fuzz_target(_examples("job.toml"), room=_TOML_ROOM, max_bytes=_TOML_BYTES)
def job_toml(data: bytes) -> None:
    """job.toml, checked against a federation and against the analytic bounds."""
    file_with("federation.toml", (EXAMPLES / "federation.toml").read_bytes())
    load_job_setup(file_with("job.toml", data))


@fuzz_target(lambda: [job_text(load_job(EXAMPLES / "job.toml")).encode(), b"[" * 4000, b'{"seed":' + b"9" * 5000])
def offered_job(data: bytes) -> None:
    """A job that the coordinator offers, as a party reads it."""
    read_job_text(data.decode("utf-8", "replace"), EXAMPLES / "federation.toml")


@fuzz_target(_examples("active/party.toml", "passive/party.toml"), room=_TOML_ROOM, max_bytes=_TOML_BYTES)
def party_toml(data: bytes) -> None:
    """party.toml."""
    path = file_with("party.toml", data)
    kind_of(path)
    load_toml(path, PartyConfig)


@fuzz_target(_examples("coordinator/coordinator.toml"), room=_TOML_ROOM, max_bytes=_TOML_BYTES)
def coordinator_toml(data: bytes) -> None:
    """coordinator.toml."""
    load_toml(file_with("coordinator.toml", data), CoordinatorConfig)


@fuzz_target(lambda: [b"00" * 32 + b"\n", b"0g" * 32, b"ab" * 31])
def private_seed(data: bytes) -> None:
    """The file of the private training seed."""
    path = file_with("private_seed", data)
    path.chmod(0o600)
    load_private_seed(path)


# --- audit logs ---


def _log(party: str, peer: str, direction: str) -> bytes:
    chain = Chain()
    opened = {
        "party": party, "run": JOB, "attempt": 0, "federation": "demo", "roles": {party: "active", peer: "passive"},
        "policy": {"min_aligned_rows": 100, "allow_unencrypted": False}, "terms": {"epochs": 3, "tls": "mutual"},
        "job_digest": "job=1", "version": "0.1.0",
    }  # fmt: skip
    crossed = {
        "direction": direction, "peer": peer, "kind": "forward_share", "protection": Protection.MASKED, "step": 1,
        "attempt": 0, "part": 0, "tensors": [{"name": "sh_z_BK", "dtype": "int64", "shape": [2, 4]}], "bytes": 64,
        "digest": "0" * 64, "batch": {"phase": "top", "split": "train", "epoch": 0, "index": 0},
    }  # fmt: skip
    totals = {"bytes_sent": 128 * (direction == "sent"), "bytes_received": 128 * (direction == "received")}
    closed = {"outcome": "finished", "records": 3, "dropped": 0} | totals
    lines = []
    for event, facts in ((Opened, opened), (Crossed, crossed), (Crossed, crossed), (Closed, closed)):
        lines.append(chain.line(event, _TIME, **facts))
        chain.written(lines[-1])
    return b"".join(lines)


def _read_everything(log: bytes, other: bytes) -> None:
    verify(read_lines([log]), head="0" * 64)
    told = summarize(read_lines(log[at : at + 512] for at in range(0, len(log), 512)))
    list(_facts(told))
    json.dumps(_as_data(Path("job.jsonl"), told))
    compare(read_half(read_lines([log])), read_half(read_lines([other])))


_OTHER = _log(PASSIVE, ACTIVE, "received")


@fuzz_target(lambda: [_log(ACTIVE, PASSIVE, "sent"), _OTHER])
def audit_log(data: bytes) -> None:
    """A log as it stands in a file: verified, told in words, compared with another party's."""
    _read_everything(data, _OTHER)


@fuzz_target(lambda: [_OTHER, _OTHER[:-9], b"x" * 3000])
def cut_audit_log(data: bytes) -> None:
    """A log that a full disk or a killed process may have cut off, when the same run begins another one."""
    drop_cut_record(file_with("cut.jsonl", data))


def _unlinked() -> Iterator[bytes]:
    """The records of a log without their hashes."""
    log = re.sub(rb',"hash":"\w+"', b"", _log(ACTIVE, PASSIVE, "sent"))
    yield re.sub(rb'"previous":"\w+"', b'"previous":"?"', log)


@fuzz_target(_unlinked)
def audit_records(data: bytes) -> None:
    """The same with hashes that fit whatever the records say, as somebody who writes a log anew would have them."""
    lines, previous = [], b"0" * 64
    for body in data.splitlines():
        linked = body.replace(b'"previous":"?"', b'"previous":"' + previous + b'"')
        previous = hashlib.sha256(linked).hexdigest().encode()
        lines.append(linked[:-1] + b',"hash":"' + previous + b'"}\n')
    _read_everything(b"".join(lines), _OTHER)


# --- saved state ---


def _encodings() -> list[bytes]:
    made = (ClassEncoding(values=(0, 1)), ClassEncoding(values=("a", "b")), ScaleEncoding(mean=0.5, std=2.0))
    return [*(each.to_json().encode() for each in made), b'{"kind":"classes","values":[]}']


@fuzz_target(_encodings)
def label_encoding(data: bytes) -> None:
    """labels.json of the active party, and encoding labels with it."""
    encoding = LabelEncoding.from_json(data.decode(errors="replace"))
    for labels in (np.array([0.0, 1.0]), np.array(["a", "b"])):
        with contextlib.suppress(VflError):
            encoding.encode(labels)
