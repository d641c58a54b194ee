"""Counts in a party's ledger what it releases, before it leaves."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from vfl.errors import JobAborted
from vfl.ids import Split
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
        self._closed = False
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the ledger. Nothing is released afterward: an attempt that is over may still be at work in a thread."""
        with self._lock:
            self._closed = True
            if self._ledger is not None:
                self._ledger.close()
                self._ledger = None

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
        self._charge([b"%b\x1f%b" % (receiver.encode(), row_id) for row_id in row_ids], labels, release)

    def _charge(self, rows: Sequence[bytes], labels: Sequence[bytes], release: Release) -> None:
        if not self._counts:
            return
        with self._lock:
            if self._closed:
                raise JobAborted("the attempt is over")
            if self._ledger is None:
                self._ledger = self._setup.config.open_ledger()
            self._ledger.charge(rows, labels, release, self._setup.config.policy.max_releases_per_row)
