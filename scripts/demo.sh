#!/usr/bin/env bash
# Sets everything up and runs the demo: two organizations and a coordinator train one model, encrypted.
#   scripts/demo.sh                                             Wisconsin breast cancer, built in
#   scripts/demo.sh --data DIR --dataset default_credit         tables of your own; also vehicle, motor
#   scripts/demo.sh --data DIR --dataset motor --parties 3 --epochs 5
#   scripts/demo.sh --trainable                                 the passive parties' models train, too, at a price
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$caller"
exec "$root/.venv/bin/vfl" demo --out "$root/runs/demo" "$@"
