"""``vfl check``: tell which kind of file it is, and validate it with everything it refers to."""

from __future__ import annotations

import tomllib
from pathlib import Path

from vfl.configuration import load_toml
from vfl.data.table import load_table
from vfl.errors import ConfigError
from vfl.ids import Role
from vfl.train.party_config import CoordinatorConfig, check_acceptable, load_job_setup, load_party, party_credentials
from vfl.transport.config import load_federation


def check_file(path: Path) -> str:
    """Validate one file; return what it is and says, in one line.

    Raises:
        VflError: the first thing that is wrong, with file, key and remedy.
    """
    keys = _top_level_keys(path)
    if keys & {"data", "job"}:
        return _check_party(path)
    if "task" in keys or "training" in keys:
        job, federation, parameters = load_job_setup(path)
        return (
            f"job '{job.name}', {job.task.kind}, {job.training.epochs} epochs of batches of {job.training.batch_size}, "
            f"{job.interaction.protocol}, {len(federation.parties)} parties, ring 2^{parameters.tau} at 128 bits: valid"
        )
    if "parties" in keys:
        federation = load_federation(path)
        return f"federation '{federation.name}', {len(federation.parties)} parties, tls {federation.tls.mode}: valid"
    load_toml(path, CoordinatorConfig)
    return "coordinator settings: valid"


def _check_party(path: Path) -> str:
    setup = load_party(path)
    check_acceptable(setup)
    party_credentials(setup)
    table = load_table(setup.config.data, setup.job.ids, needs_label=setup.entry.role is Role.ACTIVE)
    setup.config.policy.check_rows(len(table))
    features = len(table.numeric_names) + len(table.categorical_names)
    return (
        f"party '{setup.name}', {setup.entry.role}, {len(table)} rows, {table.dropped} without an id, "
        f"{features} features, "
        f"job '{setup.job.name}': valid"
    )


def _top_level_keys(path: Path) -> set[str]:
    try:
        return set(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigError("a configuration file is missing", detail=str(path), remedy="correct its path") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            "a configuration file cannot be read", detail=f"{path}: {error}", remedy="correct the syntax there"
        ) from None
