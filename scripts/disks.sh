#!/usr/bin/env bash
# Fills, closes and locks the disks of each role of a running job, one after the other, and prints what happens and
# within how many seconds. Needs root, for small disks in memory; takes ten minutes. Ends with 1 if a process hangs.
#   scripts/disks.sh --sink audit                    only these
#   scripts/disks.sh --write docs/operations.md      puts the table there
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
export OMP_NUM_THREADS=1 PYTHONPATH="$root:$root/tests"
exec "$root/.venv/bin/python" -m support.faults.disks "$@"
