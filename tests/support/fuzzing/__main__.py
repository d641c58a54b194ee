"""Runs targets one after the other and prints a table: ``python -m support.fuzzing`` (``scripts/fuzz.sh``)."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from support.fuzzing.members import remove_folder
from support.fuzzing.targets import TARGETS

_PROGRESS = re.compile(r"^#(\d+)\s.*?cov: (\d+) ft: (\d+)", re.MULTILINE)
_MEMORY = Path("/dev/shm")  # noqa: S108  # a private directory is made in it
_ROW = "{:<22} {:>9} {:>7} {:>8} {:>8} {:>9}"


@dataclass(frozen=True)
class Result:
    """What came of one target.

    Attributes:
        inputs: how many were tried, as libFuzzer counts.
        kept: the inputs that it crashed on, took too long for or too much memory; at most one.
        coverage: edges and comparisons of vfl that were reached.
        features: those, each with how often.
    """

    name: str
    inputs: int
    kept: list[Path]
    seconds: float
    coverage: int
    features: int

    def row(self) -> str:
        """A line of the table."""
        return _ROW.format(
            self.name, f"{self.inputs:,}", len(self.kept), f"{self.seconds:.0f}", self.coverage, self.features
        )


def main() -> int:
    """Fuzz the chosen targets; 1 if one of them failed."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    print(_ROW.format("target", "inputs", "crashes", "seconds", "coverage", "features"), flush=True)
    results = []
    for name in options.target or TARGETS:
        results.append(_fuzzed(name, options))
        print(results[-1].row(), flush=True)
    total = sum(result.inputs for result in results)
    crashes = [path for result in results for path in result.kept]
    print(_ROW.format("all", f"{total:,}", len(crashes), f"{sum(r.seconds for r in results):.0f}", "", ""))
    for path in crashes:
        print(f"kept: {path}, its output: {path.parent / 'output.txt'}")
    return bool(crashes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="inputs of each target")
    parser.add_argument("--seconds", type=int, default=0, help="at most so long for each target; 0 for no limit")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="only this one; repeatable")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="folder for inputs that failed")
    parser.add_argument("--seed", type=int, default=0, help="of libFuzzer's choices; 0 takes another one each time")
    parser.add_argument("--timeout", type=int, default=10, help="seconds that one input may take")
    parser.add_argument("--memory-mb", type=int, default=2048, help="resident memory of one process")
    return parser.parse_args()


def _fuzzed(name: str, options: argparse.Namespace) -> Result:
    target, folder = TARGETS[name], options.out.resolve() / name
    folder.mkdir(exist_ok=True)
    earlier = set(folder.iterdir())
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vfl-fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None) as scratch:
        corpus = Path(scratch) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(target.seeds):
            (corpus / f"seed-{number}").write_bytes(seed)
        flags = {
            "runs": options.runs,
            "max_total_time": options.seconds,
            "seed": options.seed,
            "timeout": options.timeout,
            "rss_limit_mb": options.memory_mb,
            "max_len": target.max_bytes,
            "artifact_prefix": f"{folder}/",
        }
        command = [sys.executable, "-m", "support.fuzzing.guided", name, str(folder)]
        given = [*(f"-{flag}={value}" for flag, value in flags.items()), str(corpus)]
        # The process ends without a chance to remove its own files.
        environment = {**os.environ, "TMPDIR": scratch}
        done = subprocess.run([*command, *given], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    output = done.stdout.decode(errors="replace")
    (folder / "output.txt").write_text(output, encoding="utf-8")
    kept = sorted(set(folder.iterdir()) - earlier - {folder / "output.txt"})
    if done.returncode and not kept:  # it ended before libFuzzer could keep an input
        kept = [folder / "output.txt"]
    *_, last = [(0, 0, 0), *(tuple(map(int, found)) for found in _PROGRESS.findall(output))]
    return Result(name, last[0], kept, time.monotonic() - started, last[1], last[2])


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        remove_folder()
