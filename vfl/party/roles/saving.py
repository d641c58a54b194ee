"""Saves each party's own part of a trained model in its own directory, as safetensors and JSON.

It says as much as a checkpoint, so nobody else may read it: one folder of mode 0700 for each run.
"""

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
from vfl.party.roles.run_report import RunReport, report_of, report_texts
from vfl.run_records.curves import CURVES_FILE, curves_png
from vfl.runtime.durable_files import flush, make_directories
from vfl.runtime.private.files import private_folder

if TYPE_CHECKING:
    from vfl.party.learning.top import TopTrainer


def make_output(directory: Path) -> None:
    """Create the directory for trained models, so that a problem shows before the run and not at its end.

    Raises:
        ConfigError: the directory cannot be created or written to.
    """
    try:
        make_directories(directory)
    except OSError as error:
        raise _not_writable(str(error)) from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise _not_writable(str(directory))


def save_passive(state: PartyContext, run: str, shares: Mapping[str, IntArray]) -> Path:
    """Write the bottom, interaction share, preprocessing and report of a passive party; return the directory."""
    return _save(state, run, _bottom_tensors(state), shares, report_texts(report_of(state, run)))


def save_active(
    state: PartyContext, run: str, shares: Mapping[str, IntArray], upper: TopTrainer, report: RunReport
) -> Path:
    """Write the active party's bottom, interaction shares, top, preprocessing, label encoding, report and curves."""
    tensors = _bottom_tensors(state)
    tensors |= prefixed("own", upper.own.state_dict()) | prefixed("top", upper.top.export().state_dict())
    texts = {"labels.json": upper.encoding.to_json(), **report_texts(report)}
    picture = curves_png(report.history, run)
    return _save(state, run, tensors, shares, texts, {} if picture is None else {CURVES_FILE: picture})


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
    pictures: Mapping[str, bytes] | None = None,
) -> Path:
    directory, job = state.setup.config.output / run, state.setup.job
    card = {
        "job": job.resolved.model_dump(mode="json", exclude={"federation"}) | {"ring": job.ring_settings.model_dump()},
        "party": state.setup.name,
        "width": state.width,
        "bottom": state.setup.bottom.model_dump(mode="json"),
    }
    interaction = {name: torch.from_numpy(value.copy()) for name, value in shares.items()}
    files = {
        # Copies, because a party's own bottom may use a tensor twice, which the format cannot express.
        "model.safetensors": save({name: value.cpu().contiguous().clone() for name, value in tensors.items()}),
        "interaction.safetensors": save(interaction),
    }
    texts = {
        "preprocessing.json": state.dataset.preprocessor.to_json(),
        "model.json": json.dumps(card, indent=2),
        **texts,
    }
    try:
        with private_folder(directory) as folder:
            written = {name: f"{text}\n".encode() for name, text in texts.items()}
            folder.replace(files | written | dict(pictures or {}))
        flush(directory.parent)  # no party saves again once the coordinator has the reply
    except OSError as error:
        raise _not_writable(str(error)) from error
    return directory


def _not_writable(detail: str) -> ConfigError:
    return ConfigError(
        "the trained model cannot be saved",
        detail=detail,
        remedy="free disk space, and make the directory named by 'output' in party.toml writable; each run's folder "
        "in it must be this user's own and no symbolic link",
    )
