"""What a default run discloses, by attacks: one command makes the table of SECURITY.md.

    python -m benchmarks.privacy --data FOLDER [--splits 5] [--draws 3] [--json FILE]

Every run is a whole simulated federation on ``default_credit``. Its arithmetic is that of the encrypted protocol,
computed in the clear, which draws the same noise: tests show that both give the same integers.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

import vfl
from vfl.attacks.feature_reconstruction import KnownWeights, reconstruct_features
from vfl.ids import Split
from vfl.party.roles.active import ActiveParty
from vfl.party.roles.passive import PassiveParty

Floats = npt.NDArray[np.float64]

KNOWN_ROWS = (500, 5000)
ATTACKED_ROWS = 3000
CONFIDENCE = 1.96
"""Standard errors on both sides of a mean."""


@dataclasses.dataclass
class View:
    """What an attacker and the judge of the attack have after a run.

    Attributes:
        kept_NK: noisy Z of every training row, as the active party keeps it.
        own_NA: the active party's own columns of these rows, and the label.
        targets_NP: the passive party's columns.
        alpha_ND: its bottom's outputs.
        weights_DK: the true interaction weights.
        test: metrics of the run.
    """

    kept_NK: Floats
    own_NA: Floats
    targets_NP: Floats
    alpha_ND: Floats
    weights_DK: Floats
    test: dict[str, float]


@contextmanager
def _watched() -> Iterator[dict[str, Any]]:
    """Both roles of the runs inside, as they are when they save."""
    seen: dict[str, Any] = {}
    saves = {role: role.save for role in (ActiveParty, PassiveParty)}

    def watching(role: type) -> Any:
        async def save(self: Any, run: str) -> float:
            seen[role.__name__] = self
            result: float = await saves[role](self, run)
            return result

        return save

    active, passive = (patch.object(role, "save", watching(role)) for role in (ActiveParty, PassiveParty))
    with active, passive:
        yield seen


def run_once(data: Path, split: int, draw: int, protocol: str = "plaintext", **tables: Any) -> View:
    """One run; ``split`` is the job's seed, ``draw`` the passive party's private seed."""
    policy = {"allow_unencrypted": True, "min_relative_noise": 0.0}
    seeds = {name: hashlib.sha256(f"{name} {split} {draw}".encode()).digest() for name in ("bank", "telco")}
    guest, host = (data / f"default_credit_hetero_{name}.csv" for name in ("guest", "host"))
    bank = vfl.Party("bank", vfl.Table(guest, id="id", label="y"), policy=policy, private_seed=seeds["bank"])
    telco = vfl.Party("telco", vfl.Table(host, id="id"), policy=policy, private_seed=seeds["telco"])
    training = {"batch_size": 512, **tables.pop("training", {})}
    job = vfl.Job("credit", task="binary", seed=split, training=training, interaction={"protocol": protocol}, **tables)
    with _watched() as seen:
        run = vfl.simulate(job, active=bank, passive=[telco])
    active, passive = seen["ActiveParty"], seen["PassiveParty"]
    rows = active._state.dataset.rows_of(Split.TRAIN)
    own, targets = (_columns(role)[rows] for role in (active, passive))
    labels = active._state.dataset.labels[rows]
    weights = active._interaction.shares()["telco"] * 2.0**-active._state.setup.parameters.settings.weight_bits
    return View(
        active._kept.of(rows).double().numpy(),
        np.column_stack([own, labels]),
        targets,
        passive._state.outputs((Split.TRAIN,)),
        weights,
        dict(run.test),
    )


def _columns(role: Any) -> Floats:
    """The party's numeric columns in the order of the dataset."""
    features = role._state.dataset._features.numeric
    columns: Floats = features.double().numpy()
    return columns


def advantage(views: list[View], known: int, seed: int) -> float:
    """The strongest attack's gain with the outputs of all these runs over the same rows, the weights known to it."""
    first = views[0]
    order = np.random.default_rng(seed).permutation(len(first.own_NA))
    attacked, known_rows = order[:ATTACKED_ROWS], order[ATTACKED_ROWS:][:known]
    views_NVK = np.stack([view.kept_NK for view in views], axis=1)
    scale = views_NVK.reshape(-1, views_NVK.shape[2]).std(axis=0)
    weights = np.stack([view.weights_DK / scale for view in views])[None]
    noise = float(np.mean([_noise(view, scale) for view in views]))
    found = reconstruct_features(
        views_NVK / scale,
        first.own_NA,
        first.targets_NP,
        known_rows,
        attacked,
        weights=KnownWeights(first.alpha_ND, weights, noise),
        seed=seed,
    )
    return found.advantage


def _noise(view: View, scale: Floats) -> float:
    return float(((view.kept_NK - view.alpha_ND @ view.weights_DK) / scale).std())


def interval(values: list[float]) -> dict[str, float]:
    """Mean, and the half width of its confidence interval."""
    spread = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return {"mean": statistics.fmean(values), "half_width": CONFIDENCE * spread}


def measure(data: Path, splits: int, draws: int) -> dict[str, Any]:
    """All rows of the table."""
    auc, gains = [], {known: [] for known in KNOWN_ROWS}
    repeated: dict[int, list[float]] = {}
    for split in range(splits):
        views = []
        for draw in range(draws):
            started = time.perf_counter()
            views.append(run_once(data, split, draw))
            auc.append(views[-1].test["auc"])
            for known in KNOWN_ROWS:
                gains[known].append(advantage(views[-1:], known, seed=split))
            shown = f"split {split}, draw {draw}: AUC {auc[-1]:.4f}, advantage"
            print(
                shown,
                [round(gains[k][-1], 3) for k in KNOWN_ROWS],
                f"{time.perf_counter() - started:.0f} s",
                file=sys.stderr,
            )
        for runs in (1, 2, 4, 8):
            if runs <= len(views):
                repeated.setdefault(runs, []).append(advantage(views[:runs], KNOWN_ROWS[-1], seed=split))
    exact = [run_once(data, split, 0, privacy={"relative_noise": 0.0}).test["auc"] for split in range(splits)]
    return {
        "test_auc": interval(auc),
        "test_auc_without_noise": interval(exact),
        "advantage": {str(known): interval(values) for known, values in gains.items()},
        "advantage_after_runs": {str(runs): interval(values) for runs, values in repeated.items()},
    }


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.data, options.splits, options.draws)
    text = json.dumps(found, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
