#!/usr/bin/env bash
# Sets everything up and runs every check: lint, types, import rules, generated code, tests.
# Arguments go to pytest: scripts/test.sh -k transport
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
export PATH="$PWD/.venv/bin:$PATH"

ruff check .
ruff format --check .
mypy vfl
lint-imports
scripts/generate_protos.sh --check
exec pytest -n 2 --dist loadfile "$@"
