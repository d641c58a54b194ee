#!/usr/bin/env bash
# Sets everything up and measures vfl side by side with its peers, as ratios of one run (benchmarks/README.md).
#   scripts/bench.sh --quick --json out.json      under three minutes on two cores; plots are written beside the JSON
#   scripts/bench.sh --json out.json --data DIR   the reference run; DIR holds the default_credit tables
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$caller"
PYTHONPATH=$root exec "$root/.venv/bin/python" -m benchmarks "$@"
