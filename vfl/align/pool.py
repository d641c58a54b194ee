"""Spreads blinding over helper processes, one per core; short lists are blinded in this process."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from vfl.align.curve import POINT_BYTES, SmallOrderPoint, blind_digests, blind_points
from vfl.align.worker import DIGESTS, HEADER, POINTS, REFUSED, SECRET
from vfl.errors import InternalError
from vfl.runtime.helper_processes import helper_environment
from vfl.runtime.progress import Progress, current_progress

PIECE_POINTS = 1024
"""Points that a helper gets at a time: about 35 ms of work, so that all finish at nearly the same time."""
FEW_POINTS = 1 << 12
"""Shorter lists are blinded in this process: starting helpers would take longer."""


class BlindingPool:
    """Blinds with one secret scalar, which stays in the memory of this process and its helpers.

    Helpers start on first use, end in ``close`` and start again if there is more to do. If this process is killed, they
    end because their input is closed.

    Args:
        processes: how many helpers, at least 1.
    """

    def __init__(self, processes: int) -> None:
        self._secret = X25519PrivateKey.generate().private_bytes_raw()
        self._processes = processes
        self._helpers: list[subprocess.Popen[bytes]] = []
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        self._threads: ThreadPoolExecutor | None = None

    def blind_digests(self, digests: bytes) -> bytes:
        """Hash 32-byte digests of ids to the curve and blind them; 32 bytes for each, in order."""
        return self._spread(DIGESTS, digests, blind_digests)

    def blind_points(self, points: bytes) -> bytes:
        """Blind points that other parties blinded; 32 bytes for each, in order.

        Raises:
            SmallOrderPoint: one of them is of small order.
        """
        return self._spread(POINTS, points, blind_points)

    def _spread(self, kind: bytes, content: bytes, here: Callable[[bytes, bytes], bytes]) -> bytes:
        if self._threads is None and len(content) < FEW_POINTS * POINT_BYTES:
            return here(self._secret, content)
        if self._threads is None:
            self._start()
        size = PIECE_POINTS * POINT_BYTES
        pieces = [content[start : start + size] for start in range(0, len(content), size)]
        if self._threads is None:
            raise RuntimeError("the helpers have been started")
        return b"".join(self._threads.map(partial(self._ask, current_progress(), kind), pieces))

    def _start(self) -> None:
        for _ in range(self._processes):
            helper = subprocess.Popen(
                [sys.executable, "-P", "-m", "vfl.align.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=helper_environment(),
                process_group=0,  # Ctrl-C at a terminal goes to the party's process, which ends its helpers
            )
            self._helpers.append(helper)
            _write(helper, SECRET, self._secret)
            self._idle.put(helper)
        self._threads = ThreadPoolExecutor(self._processes, thread_name_prefix="blinding")

    def _ask(self, progress: Progress, kind: bytes, piece: bytes) -> bytes:
        helper = self._idle.get()
        try:
            _write(helper, kind, piece)
            status, blinded = _read(helper)
        finally:
            self._idle.put(helper)
        progress.piece_finished()
        if status == REFUSED:
            raise SmallOrderPoint("a point of small order")
        return blinded

    def close(self) -> None:
        """End the helpers. The scalar is kept, so what was blinded with it remains usable."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        for helper in self._helpers:
            with contextlib.suppress(BrokenPipeError):  # a helper that ended early
                helper.communicate()
        self._helpers, self._threads, self._idle = [], None, queue.SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _write(helper: subprocess.Popen[bytes], kind: bytes, content: bytes) -> None:
    if helper.stdin is None:
        raise RuntimeError("a helper always has an input")
    try:
        helper.stdin.write(HEADER.pack(kind, len(content)) + content)
        helper.stdin.flush()
    except BrokenPipeError as error:
        raise _gone() from error


def _read(helper: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    if helper.stdout is None:
        raise RuntimeError("a helper always has an output")
    header = helper.stdout.read(HEADER.size)
    if len(header) < HEADER.size:
        raise _gone()
    status, size = HEADER.unpack(header)
    content = helper.stdout.read(size)
    if len(content) < size:
        raise _gone()
    return status, content


def _gone() -> InternalError:
    return InternalError(
        "a helper process of the alignment ended early",
        remedy="check whether the system killed it for lack of memory; 'threads' in party.toml sets how many there are",
    )
