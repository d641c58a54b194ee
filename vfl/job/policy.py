"""What a party refuses to take part in, regardless of the job file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vfl.configuration.toml_files import Configuration
from vfl.errors import PolicyRefusal
from vfl.job.config import JobConfig

Count = Annotated[int, Field(ge=1)]


class PolicyConfig(Configuration):
    """``[policy]`` of party.toml.

    Attributes:
        allow_unencrypted: take part in jobs with ``interaction.protocol = "plaintext"``.
        min_aligned_rows: refuse to train on fewer common rows.
        min_batch_size: refuse smaller batches, whose sums reveal more about single rows.
        max_epochs: refuse longer jobs, which use every row more often.
        max_memory_mb: refuse a job for which the whole process may need more memory than this, in MB.
        max_releases_per_row: refuse to release a row more often than this, over all runs and jobs of this party.
    """

    allow_unencrypted: bool = False
    min_aligned_rows: Count = 100
    min_batch_size: Count = 16
    max_epochs: Count | None = None
    max_memory_mb: Count | None = None
    max_releases_per_row: Count | None = None

    def check_job(self, job: JobConfig) -> None:
        """Refuse a job because of its settings.

        Raises:
            PolicyRefusal: naming the settings of the job and of the policy.
        """
        if job.interaction.protocol == "plaintext" and not self.allow_unencrypted:
            raise _refusal("it sends activations and gradients unencrypted", "policy.allow_unencrypted = true")
        if job.training.batch_size < self.min_batch_size:
            raise _refusal(
                f"its batch_size of {job.training.batch_size} is below {self.min_batch_size}",
                "a lower policy.min_batch_size, or a larger batch_size in the job",
            )
        if self.max_epochs is not None and job.training.epochs > self.max_epochs:
            raise _refusal(
                f"it runs {job.training.epochs} epochs, more than {self.max_epochs}",
                "a higher policy.max_epochs, or fewer epochs in the job",
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
