"""What runs disclose, by attacks: one command prints the whole table.

    python -m benchmarks.privacy --data FOLDER [--splits 5] [--draws 3] [--runs 8] [--json FILE] [--quick]

``FOLDER`` contains the tables of the demo.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.privacy.measure import Effort, lattice_rows, measure
from benchmarks.privacy.runs import real_tables
from benchmarks.reporting.machine import description

QUICK = Effort(splits=1, draws=1, runs=2)


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=Effort.splits)
    parser.add_argument("--draws", type=int, default=Effort.draws)
    parser.add_argument("--runs", type=int, default=Effort.runs, help="over the same rows, attacked together")
    parser.add_argument("--quick", action="store_true", help="one split, one draw, two runs")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    effort = QUICK if options.quick else Effort(options.splits, options.draws, options.runs)
    started = time.perf_counter()
    rows = measure(real_tables(options.data, "default_credit"), effort, thorough=True)
    for name in ("motor", "vehicle"):
        rows += measure(real_tables(options.data, name), effort, thorough=False)
    rows += lattice_rows(real_tables(options.data, "vehicle"))
    for row in rows:
        print(row)
    seconds = time.perf_counter() - started
    print(f"{seconds:.0f} s")
    if options.json:
        content = {
            "machine": description(),
            "effort": asdict(effort),
            "seconds": seconds,
            "rows": [asdict(r) for r in rows],
        }
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
