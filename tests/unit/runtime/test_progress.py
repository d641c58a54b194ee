"""Pieces of work are counted for the job that they are of, whichever thread finishes them."""

import asyncio

from vfl.he.arithmetic.compute import computing, spread
from vfl.runtime.progress import Progress, count_in, current_progress, piece_finished


async def _job(progress, pieces):
    count_in(progress)
    await asyncio.to_thread(spread, lambda item: item, range(pieces))
    await asyncio.create_task(_piece())


async def _piece():
    piece_finished()


async def test_concurrent_jobs_count_their_own_progress():
    jobs = [Progress() for _ in range(3)]
    before = current_progress().pieces
    with computing(2, "cpu"):
        await asyncio.gather(*(_job(progress, 10 * at) for at, progress in enumerate(jobs)))
    assert [progress.pieces for progress in jobs] == [1, 11, 21]
    assert current_progress().pieces == before
