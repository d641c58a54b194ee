#!/usr/bin/env bash
# Generates the Python code of protos/ into the package.
#   scripts/generate_protos.sh           writes vfl/**/v1/*_pb2*
#   scripts/generate_protos.sh --check   exits 1, showing the difference, when the committed code is out of date
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

generate() { # into directory $1
  find protos -name '*.proto' -printf '%P\n' | sort | xargs python -m grpc_tools.protoc \
    --proto_path=protos --python_out="$1" --pyi_out="$1" --grpc_python_out="$1"
}

case "${1:-}" in
  "") generate . ;;
  --check)
    fresh=$(mktemp -d)
    trap 'rm -rf "$fresh"' EXIT
    generate "$fresh"
    for directory in $(cd "$fresh" && find . -type d -name 'v[0-9]*'); do
      diff -ru --exclude=__init__.py --exclude=__pycache__ "$directory" "$fresh/$directory" || {
        echo "generated code is out of date: run scripts/generate_protos.sh and commit the result" >&2
        exit 1
      }
    done
    ;;
  *)
    echo "usage: scripts/generate_protos.sh [--check]" >&2
    exit 2
    ;;
esac
