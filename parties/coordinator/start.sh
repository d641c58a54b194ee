#!/usr/bin/env bash
# Starts the coordinator: it connects to the parties, runs the job and ends.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
exec "${VFL:-vfl}" run ../job.toml --config coordinator.toml "$@"
