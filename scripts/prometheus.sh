#!/usr/bin/env bash
# Makes sure that promtool and prometheus (Debian's package) are here. Prints for pytest what has to be
# left out when they are not and cannot be installed; says so in one line.
set -u
have() { command -v promtool >/dev/null && command -v prometheus >/dev/null; }
if ! have && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { apt-get update && apt-get install -y --no-install-recommends prometheus; } >/dev/null 2>&1
fi
if ! have; then
    echo "Prometheus is not installed and could not be (needs root, apt and a mirror): alerts are not checked." >&2
    echo "--ignore=tests_check/test_prometheus.py"
fi
