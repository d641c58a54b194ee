#!/usr/bin/env bash
# A long training whose processes are killed at random moments and started again, beside the same one in quiet: steps
# lost, weights that differ, growth of memory and of open file handles. Ends with 1 when anything was lost.
#   scripts/soak.sh                                          5,000 steps, some ten minutes
#   scripts/soak.sh 20000 --seed 7 --json benchmarks/results/soak.json
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$caller"
OMP_NUM_THREADS=1 PYTHONPATH="$root:$root/tests" exec "$root/.venv/bin/python" -m support.faults.soak "$@"
