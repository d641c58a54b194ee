"""Counts in a party's ledger what it releases, before it leaves."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from vfl.errors import JobAborted
from vfl.ids import Role, Split
from vfl.job.schedule import planned_releases
from vfl.party.config import PartySetup
from vfl.privacy.ledger.ledger import DisclosureLedger
from vfl.privacy.ledger.release import Purpose, Release
from vfl.privacy.releases import Releases


class Disclosure:
    """What one party discloses in one job.

    In a plaintext job, which shows activations and gradients as they are, there is nothing to count.
    """

    def __init__(self, setup: PartySetup) -> None:
        self._setup = setup
        self._counts = setup.job.interaction.protocol == "encrypted"
        self._ledger: DisclosureLedger | None = None
        self._ahead: dict[int, list[bytes]] | None = None
        self._closed = False
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the ledger. Nothing is released afterward: an attempt that is over may still be at work in a thread."""
        with self._lock:
            self._closed = True
            if self._ledger is not None:
                self._ledger.close()
                self._ledger = None

    def expect(self, row_ids: Mapping[Split, Sequence[bytes]]) -> None:
        """State what the run will release, which is checked as a whole before its first release.

        Args:
            row_ids: of the aligned rows of each split.
        """
        job, ahead = self._setup.job, dict[int, list[bytes]]()
        if self._setup.entry.role is Role.PASSIVE:
            for split, times in planned_releases(job).items():
                ahead.setdefault(times, []).extend(row_ids[split])
        else:
            rows = row_ids[Split.TRAIN]
            ahead[job.passes] = [_of_receiver(name, row) for name in job.model.trainable for row in rows]
        self._ahead = {times: rows for times, rows in ahead.items() if times and rows}

    def of_outputs(
        self,
        releases: Releases,
        run: str,
        split: Split,
        row_ids: Sequence[bytes],
        labels: Sequence[bytes],
        columns: slice,
    ) -> None:
        """Count a passive party's release of rows of Z.

        Raises:
            PolicyRefusal: a row was released as often as this party allows.
            LedgerError: it cannot be counted.
        """
        setup = self._setup
        ratio = setup.job.relative_noise
        # Relative noise is in units of the deviation of Z itself.
        sigma, bound = (ratio, 1.0) if ratio else (releases.sigma, setup.parameters.z_limit)
        purpose = Purpose.TRAINING if split is Split.TRAIN else Purpose.EVALUATION
        context = releases.context(setup.federation.active.name, columns)
        width = columns.stop - columns.start
        self._charge(row_ids, labels, Release(run, setup.job.name, purpose, width, sigma, bound, context))

    def of_gradients(
        self,
        releases: Releases,
        run: str,
        receiver: str,
        row_ids: Sequence[bytes],
        labels: Sequence[bytes],
        columns: slice,
        width: int,
    ) -> None:
        """Count an active party's release of rows of d alpha; each receiver has counts of its own.

        Args:
            width: of d alpha.

        Raises:
            PolicyRefusal: a row was released to this receiver as often as this party allows.
            LedgerError: it cannot be counted.
        """
        limit, context = self._setup.parameters.d_alpha_limit, releases.context(receiver, columns)
        release = Release(run, self._setup.job.name, Purpose.GRADIENT, width, releases.sigma, limit, context)
        self._charge([_of_receiver(receiver, row_id) for row_id in row_ids], labels, release)

    def _charge(self, rows: Sequence[bytes], labels: Sequence[bytes], release: Release) -> None:
        if not self._counts:
            return
        with self._lock:
            if self._closed:
                raise JobAborted("the attempt is over")
            if self._ledger is None:
                self._ledger = self._setup.config.open_ledger()
            limit, ahead = self._setup.config.policy.max_releases_per_row, self._ahead
            self._ledger.charge(rows, labels, release, limit, ahead)
            self._ahead = None


def _of_receiver(receiver: str, row_id: bytes) -> bytes:
    """What stands for a row of which a receiver gets gradients."""
    return b"%b\x1f%b" % (receiver.encode(), row_id)


def keeps_ledger(setup: PartySetup) -> bool:
    """Whether this party releases in its job what a ledger counts."""
    releases = setup.entry.role is Role.PASSIVE or bool(setup.job.model.trainable)
    return releases and setup.job.interaction.protocol == "encrypted"


def check_ledger(setup: PartySetup) -> None:
    """See that the ledger can be used, if this party needs it in its job; it is created on first use.

    Raises:
        LedgerError: it cannot, or it was copied, reset or put back from a copy.
    """
    if keeps_ledger(setup):
        setup.config.open_ledger().close()


def ledger_left(setup: PartySetup) -> str:
    """What the ledger leaves for the job, in words; empty if this party needs none. Creates no file.

    Raises:
        LedgerError: see ``check_ledger``.
    """
    if not keeps_ledger(setup):
        return ""
    config, role = setup.config, setup.entry.role
    needed = max(planned_releases(setup.job).values()) if role is Role.PASSIVE else setup.job.passes
    limit = config.policy.max_releases_per_row
    allowed = "no limit" if limit is None else f"{limit:,} allowed"
    if not (config.privacy.ledger.exists() or config.ledger_anchor.exists()):
        return f"ledger: nothing released yet, {needed:,} releases of a row needed, {allowed}"
    with config.open_ledger() as ledger:
        summary = ledger.summary()
    full = 0 if limit is None else sum(rows for n, rows in summary.distribution.items() if n + needed > limit)
    return (
        f"ledger: {summary.rows:,} rows released, {summary.most:,} times at most, {needed:,} more releases of a row "
        f"needed, {allowed}: {full:,} rows have too few left"
    )
