#!/usr/bin/env bash
# Makes the project's own Python environment in .venv, or leaves an up-to-date one alone. Sourced by the other scripts,
# which then are in the project's folder: $root; they were called in $caller.
#   VFL_PYTHON   the Python to use (3.11 or newer); default: python3.11 or newer on PATH
set -euo pipefail
caller=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

find_python() {
  local candidate
  for candidate in "${VFL_PYTHON:-}" python3.11 python3.12 python3.13 python3; do
    if [[ -n $candidate ]] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "vfl needs Python 3.11 or newer; install it or set VFL_PYTHON" >&2
  exit 1
}

make_environment() {
  local python wanted
  wanted=$(cat pyproject.toml constraints.txt requirements.lock | cksum)
  if [[ -f .venv/vfl-made-from && $(<.venv/vfl-made-from) == "$wanted" ]]; then
    return
  fi
  python=$(find_python)
  [[ ! -L .venv ]] || rm .venv  # a link to another project's environment: clearing it would clear that one
  echo "making .venv with $("$python" --version) ..." >&2
  "$python" -m venv --clear .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "torch==2.13.0"
  # Every other file must have one of the hashes in requirements.lock. The package itself is built with what came so.
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
  echo "$wanted" > .venv/vfl-made-from
}

make_environment
