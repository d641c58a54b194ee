"""Whether a party takes part in a job that the coordinator offers, and where it keeps the one that it accepted.

A party that was restarted has to know the job of a run that goes on: the other parties' checkpoints are of that job.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vfl import messages as m
from vfl.errors import MismatchError, VflError
from vfl.job.acceptance import check_accepted
from vfl.job.config import JobConfig
from vfl.job.digests import check_digest, job_digest, job_id
from vfl.job.offer import read_job_text
from vfl.job.setup import check_job
from vfl.messages import MAX_JOB_TEXT
from vfl.party.config import PartySetup
from vfl.party.jobs.acceptance import check_acceptable
from vfl.party.service.preparation import check_call, check_protocol
from vfl.runtime.durable_files import flush, make_directories, not_writable, read_file, replace_file
from vfl.runtime.logs import get_logger

_log = get_logger("vfl.party")


def accepted_setup(own: PartySetup, call: m.Offer) -> PartySetup:
    """This party's setup for an offered job: everything but the job is as in its own files.

    Raises:
        ProtocolError: the coordinator speaks another protocol, or offers no readable job.
        MismatchError: the federations differ, or the jobs in more than ``[accept]`` allows; names the keys, or the
            tables of a party that accepts nothing.
        PolicyRefusal: this party's policy does not allow the job, or the run is named as one of another job.
        ConfigError, ParameterError: the job contradicts the federation, or its bounds do not hold.
    """
    check_protocol(call)
    if not own.config.accept:
        check_digest(job_digest(own.job, own.federation), call.digest)
    setup = _for_job(own, read_job_text(call.text, own.job.federation))
    # Fails where the federations differ, or the defaults of two versions.
    check_call(call, job_digest(setup.job, setup.federation))
    if job_id(setup.job, setup.federation) != call.job:
        raise MismatchError(
            "the coordinator offers another job than its call names",
            remedy="check that the coordinator runs the same version of vfl, unchanged",
        )
    check_acceptable(setup)
    return setup


def _for_job(own: PartySetup, job: JobConfig) -> PartySetup:
    check_accepted(own.config.accept, own.job, job)
    return replace(own, job=job, parameters=check_job(job, own.federation))


class AcceptedJob:
    """The file with the offered job that a party serves, of mode 0600, beside its checkpoints.

    Args:
        own: the party's files.
    """

    def __init__(self, own: PartySetup) -> None:
        self._own = own

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._own.config.checkpoints.directory / f"{self._own.job.name}.{self._own.name}.accepted.json"

    def setup(self) -> PartySetup:
        """The setup to begin with: for the job in the file if there is one that is still accepted, else the own one."""
        if not self._own.config.accept:
            return self._own
        try:
            content = read_file(self.path, MAX_JOB_TEXT)
            text = (content or b"").decode("ascii")
            setup = _for_job(self._own, read_job_text(text, self._own.job.federation))
            check_acceptable(setup)
        except FileNotFoundError:
            return self._own
        except (OSError, UnicodeDecodeError, VflError) as error:
            _log.warning("the job that was accepted last is not served", file=str(self.path), reason=str(error))
            return self._own
        return setup

    def write(self, text: str) -> None:
        """Keep the text of a job; none if empty. On disk when this returns.

        Raises:
            CheckpointError: it cannot be written.
        """
        try:
            if text:
                make_directories(self.path.parent)
                replace_file(self.path, text.encode())
            elif self.path.exists():
                self.path.unlink()
                flush(self.path.parent)
        except OSError as error:
            raise not_writable(error, "the accepted job", "checkpoints.directory") from error
