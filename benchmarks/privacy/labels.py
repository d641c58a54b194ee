"""What a passive party can infer about labels from everything that it received in training."""

from __future__ import annotations

import numpy as np

import vfl
from benchmarks.privacy.recording import Recording, recorded
from benchmarks.privacy.runs import PASSIVE, Tables, make_job, make_parties
from vfl.attacks.label_inference import LabelInference, label_inference

KNOWN_LABELS = 200
"""At most a tenth of the rows."""
PASSES = 5
"""Of joint training, where the passive party receives d alpha."""


def received_in_default_run(tables: Tables, split: int) -> LabelInference:
    """Attack the whole encrypted transcript of a default run: all that the passive party reads or could read."""
    active, passive = make_parties(tables, draw=0)
    with recorded() as seen:
        vfl.simulate(make_job(tables, split, encrypted=True), active=active, passive=[passive])
    return inferred(seen, split)


def received_with_trainable_bottom(tables: Tables, split: int) -> LabelInference:
    """The same attacks where the passive party's bottom trains, so that it receives d alpha, in the clear."""
    active, passive = make_parties(tables, draw=0, bottoms={PASSIVE: "mlp"})
    job = make_job(tables, split, training={"passes": PASSES})
    with recorded() as seen:
        vfl.simulate(job, active=active, passive=[passive])
    return inferred(seen, split)


def inferred(seen: Recording, seed: int) -> LabelInference:
    """Run all attacks on what the passive party received."""
    rows, received = seen.received_by_row(PASSIVE)
    labels = seen.active._state.dataset.labels[rows]
    # With more classes, or a value to predict: the upper half against the lower.
    positive = (labels > np.median(labels)) if len(np.unique(labels)) > 2 else labels == labels.max()
    count = min(KNOWN_LABELS, len(rows) // 10)
    known = np.random.default_rng(seed).permutation(len(rows))[:count]
    return label_inference(received, positive.astype(np.int64), known=known, seed=seed)
