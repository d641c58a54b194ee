"""Runs targets one after the other and prints two tables: ``python -m support.fuzzing`` (``scripts/fuzz.sh``).

The first says how many inputs each target was given; the second, which part of the decoders' code they reached.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from support.fuzzing.members import remove_folder
from support.fuzzing.replay import lines_of
from support.fuzzing.targets import TARGETS

_PROGRESS = re.compile(r"^#(\d+)\s.*?cov: (\d+) ft: (\d+)", re.MULTILINE)
_MEMORY = Path("/dev/shm")  # noqa: S108  # a private directory is made in it
_ROW = "{:<22} {:>11} {:>7} {:>8} {:>8} {:>9}"
_LINES = "{:<38} {:>10} {:>8} {:>7}"


@dataclass
class Result:
    """What came of one target, over all passes.

    Attributes:
        inputs: how many were tried, as libFuzzer counts.
        kept: the inputs that it crashed on, took too long for or too much memory.
        coverage: edges and comparisons of vfl that were reached.
        features: those, each with how often.
    """

    name: str
    inputs: int = 0
    kept: list[str] = field(default_factory=list)
    seconds: float = 0.0
    coverage: int = 0
    features: int = 0

    def row(self) -> str:
        """A line of the table."""
        numbers = (f"{self.inputs:,}", len(self.kept), f"{self.seconds:.0f}", self.coverage, self.features)
        return _ROW.format(self.name, *numbers)


def main() -> int:
    """Fuzz the chosen targets until there are enough inputs; 1 if one of them failed."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    results = {name: Result(name) for name in options.target or TARGETS}
    with tempfile.TemporaryDirectory(prefix="vfl-fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None) as scratch:
        while True:
            print(_ROW.format("target", "inputs", "crashes", "seconds", "coverage", "features"), flush=True)
            for result in results.values():
                _fuzz(result, options, Path(scratch))
                print(result.row(), flush=True)
                _write_report(options, results, None)
            total = sum(result.inputs for result in results.values())
            crashes = [path for result in results.values() for path in result.kept]
            seconds = sum(result.seconds for result in results.values())
            print(_ROW.format("all", f"{total:,}", len(crashes), f"{seconds:.0f}", "", ""), flush=True)
            if crashes or total >= options.total:
                break
        lines = _replayed(list(results), options, Path(scratch))
    _write_report(options, results, lines)
    for path in crashes:
        print(f"kept: {path}, its output: {Path(path).parent / 'output.txt'}")
    return bool(crashes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="inputs of each target and pass")
    parser.add_argument("--seconds", type=int, default=0, help="at most so long for each target and pass; 0: no limit")
    parser.add_argument("--total", type=int, default=0, help="more passes over all targets until so many inputs")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="only this one; repeatable")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="folder for inputs that failed")
    parser.add_argument("--report", type=Path, help="JSON file with both tables, rewritten after each target")
    parser.add_argument("--seed", type=int, default=0, help="of libFuzzer's choices; 0 takes another one each time")
    parser.add_argument("--timeout", type=int, default=10, help="seconds that one input may take")
    parser.add_argument("--memory-mb", type=int, default=2048, help="resident memory of one process")
    parser.add_argument("--trace-every", type=int, default=1, help="trace the allocations of one in so many inputs")
    return parser.parse_args()


def _fuzz(result: Result, options: argparse.Namespace, scratch: Path) -> None:
    """One pass over a target; what earlier passes found is where it starts."""
    target, folder = TARGETS[result.name], options.out.resolve() / result.name
    folder.mkdir(exist_ok=True)
    earlier = set(folder.iterdir())
    started = time.monotonic()
    corpus, temporary = scratch / "corpus" / result.name, scratch / "temporary"
    corpus.mkdir(parents=True, exist_ok=True)
    temporary.mkdir(exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    flags = {
        "runs": options.runs,
        "max_total_time": options.seconds,
        "seed": options.seed,
        "timeout": options.timeout,
        "report_slow_units": options.timeout,
        "rss_limit_mb": options.memory_mb,
        "max_len": target.max_bytes,
        "artifact_prefix": f"{folder}/",
    }
    command = [sys.executable, "-m", "support.fuzzing.guided", result.name, str(folder), str(options.trace_every)]
    given = [*(f"-{flag}={value}" for flag, value in flags.items()), str(corpus)]
    done = _run([*command, *given], temporary)
    output = done.stdout.decode(errors="replace")
    (folder / "output.txt").write_text(output, encoding="utf-8")
    kept = sorted(set(folder.iterdir()) - earlier - {folder / "output.txt"})
    if done.returncode and not kept:  # it ended before libFuzzer could keep an input
        kept = [folder / "output.txt"]
    *_, (inputs, result.coverage, result.features) = [
        (0, result.coverage, result.features),
        *(tuple(map(int, found)) for found in _PROGRESS.findall(output)),
    ]
    result.inputs += inputs
    result.kept += map(str, kept)
    result.seconds += time.monotonic() - started


def _run(command: list[str], temporary: Path) -> subprocess.CompletedProcess[bytes]:
    """A process of its own; it may end without a chance to remove its own files."""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    remove_folder_content(temporary)
    return done


def remove_folder_content(folder: Path) -> None:
    """Leave nothing that the next process could find."""
    subprocess.run(["find", str(folder), "-mindepth", "1", "-delete"], check=True)


def _replayed(names: list[str], options: argparse.Namespace, scratch: Path) -> dict[str, tuple[int, int]]:
    """Which lines of the decoders the corpora of these targets reach."""
    measured = []
    for name in names:
        out = scratch / f"{name}.json"
        command = [sys.executable, "-m", "support.fuzzing.replay", name, str(scratch / "corpus" / name), str(out)]
        done = _run(command, scratch / "temporary")
        if done.returncode:
            (options.out / name / "replay.txt").write_bytes(done.stdout)
            print(f"the replay of {name} failed: {options.out / name / 'replay.txt'}")
            continue
        measured.append(out)
    lines = lines_of(measured)
    print(_LINES.format("module", "statements", "reached", "%"))
    for name, (count, reached) in lines.items():
        print(_LINES.format(name, count, reached, f"{100 * reached / count:.0f}"))
    count, reached = (sum(each) for each in zip(*lines.values(), strict=True))
    print(_LINES.format("all decoders", count, reached, f"{100 * reached / count:.1f}"), flush=True)
    return lines


def _write_report(options: argparse.Namespace, results: dict[str, Result], lines: object) -> None:
    if options.report is None:
        return
    tried = [asdict(result) for result in results.values() if result.seconds]
    content = {
        "inputs": sum(result.inputs for result in results.values()),
        "crashes": sum(len(result.kept) for result in results.values()),
        "traced_every": options.trace_every,
        "targets": tried,
        "lines_of_decoders": lines,
    }
    draft = options.report.with_suffix(".draft")
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draft.replace(options.report)


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        remove_folder()
