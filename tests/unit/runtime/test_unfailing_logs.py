"""A log that cannot be written never fails what is being logged, nor does it change how a process ends."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vfl.runtime.logs import ROOT, get_logger
from vfl.runtime.standard_streams import MAX_WAITING_BYTES, UnfailingStream


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


def test_a_pipe_that_nobody_reads_blocks_nobody_and_what_was_dropped_is_counted():
    read, write = os.pipe()
    stream, line = UnfailingStream(write, "utf-8"), "x" * 999 + "\n"
    begin = time.monotonic()
    for _ in range(5000):
        assert stream.write(line) == 1000
    assert time.monotonic() - begin < 5
    stream.write("")
    kept = b""
    while kept.count(b"\n") < MAX_WAITING_BYTES // 1000:
        kept += os.read(read, 1 << 16)
    time.sleep(0.2)
    stream.write("the next\n")
    while not kept.endswith(b"the next\n"):
        kept += os.read(read, 1 << 16)
    *lines, note, _ = kept.decode().splitlines()
    assert set(lines) == {"x" * 999}, "whole lines in their order"
    assert note == f"{5000 - len(lines)} lines of this log were dropped: nobody read them in time"
    os.close(read)
    stream.end()
    os.close(write)


_FLOOD = """
import sys
from vfl.runtime.standard_streams import secure_standard_streams
secure_standard_streams()
for number in range(5000):
    print("x" * 1000, file=sys.stderr)
print("done", flush=True)
sys.exit(7)
"""


def test_a_process_whose_log_nobody_reads_works_and_ends_as_usual():
    with subprocess.Popen([sys.executable, "-c", _FLOOD], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"done\n"
        assert process.wait(30) == 7


def test_a_process_that_ends_has_written_what_its_reader_takes():
    program = _FLOOD.replace("range(5000)", "range(500)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (7, 500)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_writes_too():
    read, write = os.pipe()
    stream = UnfailingStream(write, "utf-8")
    stream.write("parent\n")
    stream.end()
    child = os.fork()
    if child == 0:
        stream.write("child\n")
        stream.end()
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"parent\nchild\n"
    os.close(read)
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
