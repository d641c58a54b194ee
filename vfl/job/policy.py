"""What a party refuses to take part in, regardless of the job file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from vfl.configuration.toml_files import Configuration
from vfl.errors import ConfigError, PolicyRefusal
from vfl.ids import Role, Split
from vfl.job.config import JobConfig
from vfl.job.tables import Noise
from vfl.privacy.output_noise import MIN_NOISE

Count = Annotated[int, Field(ge=1)]


class PolicyConfig(Configuration):
    """``[policy]`` of party.toml.

    Attributes:
        allow_unencrypted: take part in jobs with ``interaction.protocol = "plaintext"``.
        min_aligned_rows: refuse to train on fewer common rows.
        min_scored_rows: refuse to publish metrics of fewer rows; an active party's rule.
        min_batch_size: refuse smaller batches, whose sums reveal more about single rows.
        max_passes: refuse jobs with more passes, which use every row more often.
        max_memory_mb: refuse a job for which the whole process may need more memory than this, in MB.
        min_z_noise: refuse a job with less noise on Z.
        min_relative_noise: refuse a job with less ``privacy.relative_noise``.
        min_d_alpha_noise: refuse a job that trains passive bottoms with less noise on what they receive.
        allow_trainable: passive parties whose bottoms may train. What those receive reveals labels, so the active party
            refuses all others; see SECURITY.md.
        max_interaction_width: refuse jobs whose Z is wider, of which every release tells more numbers of a row.
        max_releases_per_row: refuse to release a row more often than this, over all runs and jobs of this party; of an
            active party's gradients, to each receiver.
    """

    allow_unencrypted: bool = False
    min_aligned_rows: Count = 100
    min_scored_rows: Count = 20
    min_batch_size: Count = 16
    max_passes: Count | None = None
    max_memory_mb: Count | None = None
    min_z_noise: Noise = MIN_NOISE
    min_relative_noise: Annotated[float, Field(ge=0)] = 0.1
    min_d_alpha_noise: Noise = MIN_NOISE
    allow_trainable: tuple[str, ...] = ()
    max_interaction_width: Count | None = 32
    max_releases_per_row: Count | None = 16

    def check_job(self, job: JobConfig, role: Role) -> None:
        """Refuse a job because of its settings.

        Args:
            role: of this party in the job.

        Raises:
            PolicyRefusal: naming the settings of the job and of the policy.
        """
        if job.interaction.protocol == "plaintext" and not self.allow_unencrypted:
            raise _refusal("it sends activations and gradients unencrypted", "policy.allow_unencrypted = true")
        for name in ("batch_size", "evaluation_batch_size"):
            if (size := getattr(job.training, name)) < self.min_batch_size:
                raise _refusal(
                    f"its {name} of {size} is below {self.min_batch_size}",
                    f"a lower policy.min_batch_size, or a larger {name} in the job",
                )
        if self.max_passes is not None and job.passes > self.max_passes:
            raise _refusal(
                f"it has {job.passes} passes over the rows, more than {self.max_passes}",
                "a higher policy.max_passes, or fewer training.passes in the job",
            )
        self._check_outputs(job, role)

    def check_names(self, passive: Sequence[str], role: Role) -> None:
        """Refuse a policy that allows labels to nobody, although it looks as if it did.

        Args:
            passive: names of the passive parties.
            role: of this party.

        Raises:
            ConfigError: ``allow_trainable`` names other parties, or this is not the active party.
        """
        if self.allow_trainable and role is Role.PASSIVE:
            raise ConfigError(
                "policy.allow_trainable is set at a passive party, where it has no effect",
                remedy="remove it: the active party, whose labels are at stake, allows bottoms to train",
            )
        if stray := [name for name in self.allow_trainable if name not in passive]:
            raise ConfigError(
                "policy.allow_trainable names what is no passive party of federation.toml",
                detail=f"{', '.join(stray)}; the passive parties are {', '.join(passive)}",
                remedy="correct the names in policy.allow_trainable of party.toml",
            )

    def _check_outputs(self, job: JobConfig, role: Role) -> None:
        if job.privacy.z_noise < self.min_z_noise:
            raise _refusal(
                f"its noise on Z of {job.privacy.z_noise:g} is below {self.min_z_noise:g}",
                "a lower policy.min_z_noise, or more privacy.z_noise in the job",
            )
        if self.max_interaction_width is not None and job.interaction_width > self.max_interaction_width:
            raise _refusal(
                f"its Z has {job.interaction_width} columns, more than {self.max_interaction_width}",
                "a higher policy.max_interaction_width, or "
                + ("fewer training.passes" if job.stagewise else "a lower model.interaction_width")
                + " in the job",
            )
        most = self.max_releases_per_row
        # An active party releases gradients, once in each pass, to whoever trains with them.
        releases = job.releases_per_row if role is Role.PASSIVE else job.passes if job.model.trainable else 0
        if most is not None and releases > most:
            raise _refusal(
                f"it releases every training row {releases} times, more often than {most}",
                "a higher policy.max_releases_per_row, or fewer training.passes in the job",
            )
        if job.relative_noise < self.min_relative_noise:
            raise _refusal(
                f"its relative noise of {job.relative_noise:g} is below {self.min_relative_noise:g}",
                "a lower policy.min_relative_noise, or more privacy.relative_noise in the job",
            )
        trainable = job.model.trainable
        if role is Role.ACTIVE and (refused := [name for name in trainable if name not in self.allow_trainable]):
            raise _refusal(
                f"it trains the bottom of {', '.join(refused)}, whose gradients tell labels",
                f"policy.allow_trainable = {json.dumps(trainable)}, or frozen bottoms",
            )
        if trainable and job.privacy.d_alpha_noise < self.min_d_alpha_noise:
            raise _refusal(
                f"its noise on d alpha of {job.privacy.d_alpha_noise:g} is below {self.min_d_alpha_noise:g}",
                "a lower policy.min_d_alpha_noise, or more privacy.d_alpha_noise in the job",
            )

    def check_rows(self, rows: int) -> None:
        """Refuse to train on too few aligned rows.

        Raises:
            PolicyRefusal: naming both numbers.
        """
        if rows < self.min_aligned_rows:
            raise _refusal(
                f"only {rows} rows are aligned, fewer than {self.min_aligned_rows}", "a lower policy.min_aligned_rows"
            )

    def check_scored(self, split: Split, rows: int) -> None:
        """Refuse to publish metrics of a few rows, which tell their labels.

        Args:
            rows: of the split that is to be scored; none at all is fine.

        Raises:
            PolicyRefusal: naming both numbers.
        """
        if 0 < rows < self.min_scored_rows:
            raise _refusal(
                f"the {split} split has only {rows} rows, and metrics of fewer than {self.min_scored_rows} tell labels",
                f"a lower policy.min_scored_rows, or a larger split.{split} in the job",
            )

    def check_memory(self, estimate: int) -> None:
        """Refuse a job that may need more memory than this party allows.

        Args:
            estimate: upper bound on the memory of the process, in bytes.

        Raises:
            PolicyRefusal: naming both numbers.
        """
        megabytes = -(-estimate // 10**6)
        if self.max_memory_mb is not None and megabytes > self.max_memory_mb:
            raise _refusal(
                f"it may need {megabytes} MB of memory, more than {self.max_memory_mb}",
                "a higher policy.max_memory_mb, or smaller batches",
            )


def _refusal(why: str, remedy: str) -> PolicyRefusal:
    return PolicyRefusal(f"this party's policy refuses the job: {why}", remedy=f"agree on {remedy}")
