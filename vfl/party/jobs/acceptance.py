"""Whether a party can and may take part in a job, with what its files say."""

from __future__ import annotations

import torch

from vfl.errors import ConfigError
from vfl.ids import Role
from vfl.party.config import PartyConfig, PartySetup


def check_acceptable(setup: PartySetup) -> None:
    """Check that this party can and may take part in the job. Run during preparation, so all parties see the result.

    Raises:
        ConfigError: a passive party has a label or time column; an active one has no label column, or a time column
            that the job's split does not need, or none although it does; the device cannot be used.
        PolicyRefusal: this party's policy does not allow the job.
    """
    _check_role(setup)
    _check_time(setup)
    _check_device(setup.config)
    passives = [party.name for party in setup.federation.passives]
    setup.config.policy.check_names(passives, setup.entry.role)
    setup.config.policy.check_job(setup.job, setup.entry.role)


def _check_role(setup: PartySetup) -> None:
    has_label = setup.config.data.label_column is not None
    if setup.entry.role is Role.PASSIVE and has_label:
        raise ConfigError(
            f"party '{setup.name}' is passive but configures a label column",
            detail=f"data.label_column = '{setup.config.data.label_column}'",
            remedy="remove data.label_column from party.toml (label= of vfl.Table); only the active one holds labels",
        )
    if setup.entry.role is Role.ACTIVE and not has_label:
        raise ConfigError(
            f"party '{setup.name}' is active but configures no label column",
            remedy="set data.label_column in party.toml (label= of vfl.Table)",
        )


def _check_time(setup: PartySetup) -> None:
    """Check that there is a time column exactly where the split needs it: at the active party, if it is by time."""
    has_time, by = setup.config.data.time_column is not None, setup.job.split.by
    if setup.entry.role is Role.PASSIVE:
        if has_time:
            raise ConfigError(
                f"party '{setup.name}' is passive but configures a time column",
                detail=f"data.time_column = '{setup.config.data.time_column}'",
                remedy="remove data.time_column from party.toml (time= of vfl.Table); the active party splits the rows",
            )
    elif by == "time" and not has_time:
        raise ConfigError(
            f"the job splits the rows by time, and party '{setup.name}' configures no time column",
            remedy="set data.time_column in party.toml (time= of vfl.Table), or agree on another split.by in the job",
        )
    elif by != "time" and has_time:
        raise ConfigError(
            f"party '{setup.name}' configures a time column, and the job does not split the rows by time",
            detail=f"data.time_column = '{setup.config.data.time_column}', split.by = '{by}'",
            remedy="remove data.time_column from party.toml (time= of vfl.Table; to use it as a feature, list it in "
            'data.columns), or agree on split.by = "time" in the job',
        )


def _check_device(config: PartyConfig) -> None:
    try:
        torch.zeros(1, device=config.device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            "the configured device cannot be used",
            detail=f"device = '{config.device}' in party.toml: {error}",
            remedy='set device = "cpu", or a device that torch finds on this machine',
        ) from error
