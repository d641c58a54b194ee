"""Loading real, vertically split tables, where they are present: set VFL_DATA to their folder."""

import os
from pathlib import Path

import pytest

from vfl.align.order import canonical_order
from vfl.data.config import DataConfig
from vfl.data.preprocess import Preprocessor
from vfl.data.split import split_rows
from vfl.data.table import load_table
from vfl.ids import Split

FOLDER = Path(os.environ.get("VFL_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))


@pytest.mark.parametrize(
    ("name", "id_column", "label_column", "rows", "active_width", "passive_width"),
    [
        ("breast", "id", "y", 569, 10, 20),
        ("default_credit", "id", "y", 30_000, 13, 10),
        ("vehicle_scale", "id", "y", 846, 9, 9),
        ("motor", "idx", "motor_speed", 800, 4, 7),
    ],
)
def test_both_sides_load_and_align(name, id_column, label_column, rows, active_width, passive_width):
    paths = [FOLDER / f"{name}_hetero_{side}.csv" for side in ("guest", "host")]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"example tables are not in {FOLDER}; set VFL_DATA to their folder")
    active = load_table(DataConfig(path=paths[0], id_column=id_column, label_column=label_column), needs_label=True)
    passive = load_table(DataConfig(path=paths[1], id_column=id_column), needs_label=False)
    assert len(active) == len(passive) == rows
    active, passive = (table.select(canonical_order(table.ids)) for table in (active, passive))
    assert active.ids.equals(passive.ids)
    training = split_rows(rows, 0.0, 0.3, seed=0)[Split.TRAIN]
    for table, width in ((active, active_width), (passive, passive_width)):
        features = Preprocessor.fit(table, training).transform(table)
        assert features.numeric.shape == (rows, width)
        assert features.numeric[training].mean(dim=0).abs().max() < 0.2
