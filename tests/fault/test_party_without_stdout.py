"""A party serves, whatever becomes of its standard output: a full disk must not keep it from starting."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from support.federations.federation import Federation

SECONDS = 90.0


def test_a_party_starts_though_its_standard_output_is_full(tmp_path):
    federation = Federation(tmp_path).write()
    command = [sys.executable, "-m", "vfl", "party", str(federation.path("clinic"))]
    log = tmp_path / "log"
    with Path("/dev/full").open("wb") as full, log.open("wb") as errors:
        party = subprocess.Popen(command, stdout=full, stderr=errors, env=dict(os.environ))
    try:
        deadline = time.monotonic() + SECONDS
        while b"waiting for the coordinator" not in log.read_bytes():
            assert party.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        assert b"240 rows" in log.read_bytes(), "what was understood of its table"
    finally:
        party.send_signal(signal.SIGTERM)
        assert party.wait(SECONDS) == 143
