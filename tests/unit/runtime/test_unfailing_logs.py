"""A log that cannot be written never fails what is being logged, nor does it change how a process ends."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vfl.runtime.logs import ROOT, get_logger
from vfl.runtime.standard_streams import UnfailingStream


class _Broken(logging.Handler):
    def emit(self, record):
        raise OSError("no space left on device")


class _Unprintable:
    def __repr__(self):
        raise ValueError("cannot be shown")


@pytest.fixture
def broken_handler():
    handler = _Broken()
    logging.getLogger(ROOT).addHandler(handler)
    yield
    logging.getLogger(ROOT).removeHandler(handler)


@pytest.mark.usefixtures("broken_handler")
def test_a_handler_that_raises_does_not_reach_who_logs():
    log = get_logger("vfl.test")
    log.error("an event", value=1)
    log.bind(party="bank").error("an event", value=_Unprintable())
    log.error("an event", exc_info=ValueError("broken"))


def test_a_closed_descriptor_and_a_full_disk_take_text_and_drop_it():
    read, write = os.pipe()
    os.close(read)
    with Path("/dev/full").open("wb") as full:
        for number in (write, full.fileno(), 10_000):
            assert UnfailingStream(number, "utf-8").write("lost\n") == 5
    os.close(write)


def test_text_arrives_whole_and_in_the_stream_s_encoding(tmp_path):
    with (tmp_path / "log").open("wb") as file:
        stream = UnfailingStream(file.fileno(), "ascii")
        print("caf\u00e9", file=stream)
        assert not stream.isatty()
    assert (tmp_path / "log").read_bytes() == b"caf\\xe9\n"


_PROGRAM = """
import contextlib, os, sys
from vfl.runtime.standard_streams import secure_standard_streams
secure_standard_streams()
print("to nobody", file=sys.stderr)
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
with contextlib.suppress(OSError):
    os.write(2, b"of a native library")
sys.exit(0 if file > 2 else 9)
"""


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_a_process_without_stderr_ends_as_it_would_with_it_and_no_file_takes_its_place(tmp_path, stderr):
    done = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" "$2" {stderr}', sys.executable, _PROGRAM, str(tmp_path / "file")], check=False
    )
    assert done.returncode == 0
    assert (tmp_path / "file").read_bytes() == b""
