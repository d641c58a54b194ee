"""What a ledger comes to: releases per row, and what each run has spent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Use:
    """What one run released for one purpose, at one width and noise.

    Attributes:
        run, job, purpose, width, sigma: as in ``Release``.
        bound: the largest bound on the signal.
        rows: distinct rows.
        releases: distinct releases of rows: three passes over 100 rows are 300.
        information: sum of K bound^2 / sigma^2 over these releases, see ``Release.information``.
        first, last: time of the first and the last release, in seconds since 1970.
    """

    run: str
    job: str
    purpose: str
    width: int
    sigma: float
    bound: float
    rows: int
    releases: int
    information: float
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What was released so far.

    Attributes:
        rows: that were released at all.
        releases: distinct releases of rows.
        most: releases of the row that was released most often.
        mean: releases per row.
        distribution: how many rows were released how often, by number of releases.
        information: of the row with the highest sum of K bound^2 / sigma^2.
        uses: by run, the first one first.
    """

    rows: int
    releases: int
    most: int
    mean: float
    distribution: dict[int, int]
    information: float
    uses: tuple[Use, ...]


def describe(summary: Summary, limit: int | None = None) -> Iterator[str]:
    """The summary in words, line by line.

    Args:
        limit: ``policy.max_releases_per_row``.
    """
    if not summary.rows:
        yield "nothing has been released yet"
        return
    yield f"{summary.rows:,} rows were released {summary.releases:,} times under noise"
    yield f"releases per row: {summary.mean:.1f} on average, {summary.most:,} at most"
    if limit is None:
        yield "limit: none (policy.max_releases_per_row)"
    else:
        at_limit = sum(rows for releases, rows in summary.distribution.items() if releases >= limit)
        yield f"limit: {limit:,} (policy.max_releases_per_row); {at_limit:,} rows are at it"
    yield f"information, K signal^2 / sigma^2 summed over the releases of a row: {summary.information:.3g} at most"
    for use in summary.uses:
        yield (
            f"run {use.run} (job {use.job}, {use.purpose}): {use.releases:,} releases of {use.rows:,} rows,"
            f" K {use.width}, sigma {use.sigma:.3g}, signal up to {use.bound:.3g},"
            f" information {use.information / use.rows:.3g} per row"
        )
