"""Saves each party's own part of a trained model in its own directory, as safetensors and JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save

from vfl.errors import ConfigError
from vfl.interact.fixed_point import IntArray
from vfl.party.learning.bottom import prefixed
from vfl.party.roles.common import PartyContext
from vfl.runtime.durable_files import flush

if TYPE_CHECKING:
    from vfl.party.learning.top import TopTrainer


def make_output(directory: Path) -> None:
    """Create the directory for trained models, so that a problem shows before the run and not at its end.

    Raises:
        ConfigError: the directory cannot be created or written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(str(error)) from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise _not_writable(str(directory))


def save_passive(state: PartyContext, run: str, shares: Mapping[str, IntArray]) -> Path:
    """Write the bottom, interaction share and preprocessing of a passive party; return the directory."""
    return _save(state, run, _bottom_tensors(state), shares, {})


def save_active(state: PartyContext, run: str, shares: Mapping[str, IntArray], upper: TopTrainer) -> Path:
    """Write the active party's bottom, interaction shares, top, preprocessing and label encoding."""
    tensors = _bottom_tensors(state)
    tensors |= prefixed("own", upper.own.state_dict()) | prefixed("top", upper.top.export().state_dict())
    return _save(state, run, tensors, shares, {"labels.json": upper.encoding.to_json()})


def _bottom_tensors(state: PartyContext) -> dict[str, torch.Tensor]:
    if state.bottom is None:
        return {}
    return prefixed("bottom", state.bottom.bottom.state_dict())


def _save(
    state: PartyContext,
    run: str,
    tensors: Mapping[str, torch.Tensor],
    shares: Mapping[str, IntArray],
    texts: Mapping[str, str],
) -> Path:
    directory, job = state.setup.config.output / run, state.setup.job
    card = {
        "job": job.model_dump(mode="json", exclude={"federation"}) | {"ring": job.ring_settings.model_dump()},
        "party": state.setup.name,
        "width": state.width,
        "bottom": state.setup.bottom.model_dump(mode="json"),
    }
    interaction = {name: torch.from_numpy(value.copy()) for name, value in shares.items()}
    files = {
        "model.safetensors": save({name: value.cpu().contiguous() for name, value in tensors.items()}),
        "interaction.safetensors": save(interaction),
    }
    texts = {
        "preprocessing.json": state.dataset.preprocessor.to_json(),
        "model.json": json.dumps(card, indent=2),
        **texts,
    }
    try:
        _write_all(directory, files | {name: f"{text}\n".encode() for name, text in texts.items()})
    except OSError as error:
        raise _not_writable(str(error)) from error
    return directory


def _write_all(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write drafts and rename them, so that no file is ever incomplete; existing files are replaced.

    Everything is on disk when this returns: no party saves again once the coordinator has the reply.
    """
    directory.mkdir(parents=True, exist_ok=True)
    drafts = {name: directory / f".{name}.draft" for name in files}
    try:
        for name, content in files.items():
            drafts[name].write_bytes(content)
            flush(drafts[name])
        for name, draft in drafts.items():
            draft.replace(directory / name)
        for changed in (directory, directory.parent):
            flush(changed)
    except OSError:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
        raise


def _not_writable(detail: str) -> ConfigError:
    return ConfigError(
        "the trained model cannot be saved",
        detail=detail,
        remedy="make the directory named by 'output' in party.toml writable, and free disk space",
    )
