"""The text of a job that a coordinator hands out, and how a party reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

from vfl.configuration.toml_files import has_long_integer, validated
from vfl.errors import ConfigError, ProtocolError
from vfl.job.config import JobConfig
from vfl.job.digests import canonical
from vfl.messages import MAX_JOB_TEXT

_FEDERATION = "federation"
_SOURCE = "the offered job"


def job_text(job: JobConfig) -> str:
    """The content of job.toml as canonical JSON, without the path of the federation file, which is local."""
    return canonical(job.model_dump(mode="json", exclude={_FEDERATION})).decode()


def read_job_text(text: str, federation: Path) -> JobConfig:
    """The job in such a text, by the same rules as one in a file.

    Only what ``job_text`` writes is read: at most ``MAX_JOB_TEXT`` characters, no key twice, integers of 64 bits,
    finite numbers. So the cost is bounded, and two readers cannot understand it differently.

    Args:
        federation: path of this party's federation file.

    Raises:
        ProtocolError: it is anything else. What is wrong with it is in ``detail``.
    """
    try:
        if len(text) > MAX_JOB_TEXT:
            raise ValueError(f"more than {MAX_JOB_TEXT} characters")
        content = json.loads(text, parse_constant=_refused)
        if not isinstance(content, dict) or _FEDERATION in content or has_long_integer(content):
            raise ValueError("no table, a path of the federation, or an integer of more than 64 bits")
        job = validated({**content, _FEDERATION: str(federation)}, JobConfig, _SOURCE)
        if job_text(job) != text:
            raise ValueError("not the canonical text of a job")
    except (ValueError, RecursionError, ConfigError) as error:  # JSON may be nested deeply
        raise ProtocolError(
            "the coordinator offers a job that this party cannot read",
            detail=str(error),
            remedy="check that the coordinator runs the same version of vfl",
        ) from None
    return job


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"the number {constant}")
