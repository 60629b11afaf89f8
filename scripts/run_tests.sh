#!/usr/bin/env bash
# Runs the test suite: makes .venv, installs the lock, pytest. Needs Python 3.11 or newer.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh
export PYTHONPATH=.
exec .venv/bin/python -m pytest -q -n 2 "$@"
