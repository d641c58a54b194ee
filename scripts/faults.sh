#!/usr/bin/env bash
# Kills, stops and slows every role at every point of a job, and compares the trained weights with those of a quiet run.
# Prints role x point x fault -> recovered, steps lost, seconds; ends with 1 when anything was not recovered. Takes half
# an hour; a part of it runs with the tests.
#   scripts/faults.sh -k "in a step"     only the scenarios with this in their name
#   scripts/faults.sh --json FILE        the table as data, too
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
export OMP_NUM_THREADS=1 PYTHONPATH="$root:$root/tests"
failed=0
(cd "$caller" && exec "$root/.venv/bin/python" -m support.faults.matrix "$@") || failed=1
# Faults of connections, clocks and memory that take too long to run with every test.
[[ " $* " == *" -k "* ]] || .venv/bin/python -m pytest -q -m faults_full tests/fault || failed=1
exit "$failed"
