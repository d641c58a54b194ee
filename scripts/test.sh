#!/usr/bin/env bash
# Sets everything up and runs every check: lint, types, import rules, generated code, tests.
# Arguments go to pytest, and then coverage is not measured: scripts/test.sh -k transport
# Tests run in random order; the seed is printed, and --randomly-seed=SEED repeats an order.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
export PATH="$PWD/.venv/bin:$PATH"

ruff check .
ruff format --check .
mypy vfl
lint-imports
scripts/generate_protos.sh --check
coverage=()
if (($# == 0)); then
  # What runs only in processes that tests start, or in tests of whole federations (tests/conftest.py), is not counted.
  coverage=(--cov --cov-report=term --cov-fail-under=95)
fi
exec pytest -n 2 --dist worksteal "${coverage[@]}" "$@"
