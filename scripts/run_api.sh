#!/usr/bin/env bash
# Starts the service: makes .venv, installs the lock, serves. Needs Python 3.11 or newer.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh
exec .venv/bin/compliance-copilot serve "$@"
