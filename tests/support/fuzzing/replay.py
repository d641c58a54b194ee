"""Decodes the inputs that a target kept, and counts the lines of decoders reached: ``... replay TARGET CORPUS OUT``.

libFuzzer counts edges of all that is instrumented, and of one target. This says how much of a module's code was tried.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

import coverage

ROOT = Path(__file__).resolve().parents[3]
DECODERS = (
    "vfl/align/protocol.py",
    "vfl/audit/file.py",
    "vfl/audit/log.py",
    "vfl/audit/summary.py",
    "vfl/audit/verify.py",
    "vfl/checkpoints/manifest.py",
    "vfl/checkpoints/state.py",
    "vfl/configuration/toml_files.py",
    "vfl/coordinator/replies.py",
    "vfl/data/sources/files.py",
    "vfl/models/tasks/labels.py",
    "vfl/party/private_seed.py",
    "vfl/pki/keyfiles.py",
    "vfl/pki/newest_lists.py",
    "vfl/pki/own_certificate.py",
    "vfl/pki/parsing.py",
    "vfl/pki/profile.py",
    "vfl/pki/revocation.py",
    "vfl/pki/statements.py",
    "vfl/pki/trust.py",
    "vfl/privacy/ledger/anchor.py",
    "vfl/privacy/ledger/schema.py",
    "vfl/run_records/reading.py",
    "vfl/run_records/rows.py",
    "vfl/run_records/schema.py",
    "vfl/transport/access.py",
    "vfl/transport/inbox/inbox.py",
    "vfl/transport/wire/control_codec.py",
    "vfl/transport/wire/data_codec.py",
    "vfl/transport/wire/failures.py",
    "vfl/transport/wire/recorder.py",
)
"""Modules that turn bytes from a peer or from a file into values, and those that check these values."""


def lines_of(measured: Iterable[Path]) -> dict[str, tuple[int, int]]:
    """Statements of each decoder, and how many of them the measured replays reached together."""
    together = coverage.Coverage(data_file=None, config_file=False)
    reached: dict[str, set[int]] = {name: set() for name in DECODERS}
    for path in measured:
        for name, lines in json.loads(path.read_text(encoding="utf-8")).items():
            reached[name] |= set(lines)
    found = {}
    for name in DECODERS:
        _, statements, _, _, _ = together.analysis2(str(ROOT / name))
        found[name] = (len(statements), len(reached[name] & set(statements)))
    return found


def main() -> None:
    """Replay one target."""
    target_name, corpus, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    warnings.simplefilter("ignore")
    measured = coverage.Coverage(data_file=None, config_file=False, include=[str(ROOT / name) for name in DECODERS])
    measured.start()
    from support.fuzzing.targets import TARGETS

    target = TARGETS[target_name]
    inputs = (path.read_bytes() for path in sorted(corpus.iterdir()))
    for data in (*target.seeds, *inputs):
        target.check(data)
    measured.stop()
    data_of = measured.get_data()
    lines = {name: sorted(data_of.lines(str(ROOT / name)) or ()) for name in DECODERS}
    out.write_text(json.dumps(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
