#!/usr/bin/env bash
# Starts this organization's party process. It waits for the coordinator, serves one job and ends.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
exec "${VFL:-vfl}" party party.toml "$@"
