"""A job with its federation: read from their files, checked against each other and the bounds of the ring."""

from __future__ import annotations

from pathlib import Path

from vfl.configuration.federation import FederationConfig, load_federation
from vfl.configuration.toml_files import load_toml
from vfl.errors import ConfigError, ParameterError
from vfl.he.arithmetic.updates import check_rates, most_rows
from vfl.he.bounds import Workload, check_bounds, possible_training_sizes
from vfl.he.parameters import Parameters
from vfl.job.config import JobConfig
from vfl.models.config import DEFAULT_WIDTH


def load_job(path: Path) -> JobConfig:
    """Read job.toml.

    Raises:
        ConfigError: naming the file, the key and what to do.
    """
    return load_toml(path, JobConfig)


def check_widths(job: JobConfig, federation: FederationConfig) -> None:
    """Check that ``model.widths`` and ``model.trainable`` name parties of the federation, and that no width is wrong.

    Raises:
        ConfigError: naming the parties that are wrong.
    """
    widths = job.model.widths
    unknown = [name for name in widths if name not in federation.names]
    empty = [party.name for party in federation.passives if widths.get(party.name) == 0]
    passive = {party.name for party in federation.passives}
    if stray := sorted(set(job.model.trainable) - passive):
        raise ConfigError(
            f"model.trainable of the job names {', '.join(stray)}, which is no passive party of federation.toml",
            remedy="name passive parties only; the active party's bottom always trains",
        )
    for names, what in (
        (unknown, "names parties that are not in federation.toml:"),
        (empty, "has width 0 for passive party"),
    ):
        if names:
            raise ConfigError(
                f"model.widths of the job {what} {', '.join(names)}",
                remedy="state widths of parties of the federation only, of at least 1; the active party may have 0",
            )


def load_job_setup(path: Path) -> tuple[JobConfig, FederationConfig, Parameters]:
    """Read a job and its federation, and check both against each other and against the analytic bounds.

    Raises:
        ConfigError: a file is invalid, or the files contradict each other.
        ParameterError: the ring is insecure or its bounds do not hold for the job's shapes.
    """
    job = load_job(path)
    federation = load_federation(job.federation)
    return job, federation, check_job(job, federation)


def check_job(job: JobConfig, federation: FederationConfig) -> Parameters:
    """Check a job and a federation against each other and the analytic bounds; returns the job's ring parameters.

    Raises:
        ConfigError: the job and the federation contradict each other.
        ParameterError: the ring is insecure or its bounds do not hold for the job's shapes.
    """
    check_widths(job, federation)
    parameters = Parameters.validated(job.ring_settings)
    widths = tuple(job.model.widths.get(party.name, DEFAULT_WIDTH) for party in federation.passives)
    training = job.training
    # The sizes of the last batches, and widths that follow from tables, are known after the alignment: every party
    # checks again.
    if job.stagewise:
        # The number of training rows is known after the alignment; a rate that is too small for any is refused here.
        if not most_rows(job.interaction_rate, parameters.settings):
            raise ParameterError(
                f"interaction.learning_rate {job.interaction_rate:g} cannot be represented as an integer for any "
                "number of training rows: it is too small",
                remedy="leave it out, or set one that suits the rows: 'vfl check' shows how many a rate suits",
            )
        work = Workload.stagewise_before_alignment(training.evaluation_batch_size, parameters.degree)
    else:
        sizes = training.batch_size, training.evaluation_batch_size
        work = Workload.before_alignment(job.passes, *sizes, parameters.degree)
        for rate in job.extreme_rates:
            check_rates(rate, job.interaction.momentum, possible_training_sizes(training.batch_size), parameters)
    check_bounds(parameters, work, widths, job.interaction_width, link_mbit=job.interaction.link_mbit)
    return parameters
