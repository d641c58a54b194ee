#!/usr/bin/env bash
# Sets everything up and fuzzes every decoder with atheris (docs/fuzzing.md); fails if an input crashes one.
#   scripts/fuzz.sh                                     10,000 inputs for each target
#   scripts/fuzz.sh --runs 100000 --target table-csv    more, for some
# Inputs that fail are kept in runs/fuzz, one folder a target.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
.venv/bin/python -c 'import atheris' 2>/dev/null ||
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[fuzz]'
# Threads would only wait for one another in inputs this small.
export OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1
PYTHONPATH="$PWD/tests" exec .venv/bin/python -m support.fuzzing "$@"
