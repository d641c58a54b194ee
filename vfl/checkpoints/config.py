"""Where a party keeps its checkpoints, how many it keeps, and the key that encrypts them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from vfl.configuration.toml_files import Configuration, LocalPath


class CheckpointConfig(Configuration):
    """``[checkpoints]`` of party.toml.

    Attributes:
        directory: where this party keeps its part of the state of its runs, one subdirectory per run.
        keep: how many checkpoints that survive a power cut are kept per run.
        key_file: file of mode 0600 with the key that encrypts them, 64 hexadecimal digits.
        key_variable: environment variable with that key.
    """

    # The path is resolved against the configuration file, even as a default inside another model.
    model_config = ConfigDict(revalidate_instances="always")

    directory: LocalPath = Path("checkpoints")
    keep: Annotated[int, Field(ge=1)] = 3
    key_file: LocalPath | None = None
    key_variable: str | None = None

    @model_validator(mode="after")
    def _one_key(self) -> CheckpointConfig:
        if self.key_file is not None and self.key_variable is not None:
            raise ValueError("set key_file or key_variable, not both")
        return self
