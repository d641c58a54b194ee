"""Prepares a run at one party, and hands the job out where the party's file differs from it."""

from __future__ import annotations

from vfl import messages as m
from vfl.errors import MismatchError, RemoteError
from vfl.job.config import JobConfig
from vfl.job.offer import job_text
from vfl.transport.channels import ControlChannel


async def offered_and_prepared(client: ControlChannel, call: m.Prepare, job: JobConfig) -> m.Prepared:
    """Get a party ready for a run; one whose file differs is offered the job, which its ``[accept]`` may allow.

    Raises:
        RemoteError: the party refuses the run or the job; it names what differs.
        VflError: see ``ControlChannel``.
    """
    try:
        return await client.prepare(call)
    except RemoteError as error:
        if error.remote_code != MismatchError.code or len(text := job_text(job)) > m.MAX_JOB_TEXT:
            raise
    await client.offer(m.Offer(call.job, call.run, call.attempt, call.digest, call.protocol_version, text))
    return await client.prepare(call)
