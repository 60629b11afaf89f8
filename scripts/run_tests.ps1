# Runs the test suite: makes .venv, installs the lock, pytest. Needs Python 3.11 or newer.
$ErrorActionPreference = "Stop"
Set-Location (Join-Path $PSScriptRoot "..")
. scripts/install.ps1
$env:PYTHONPATH = "."
& .venv/Scripts/python -m pytest -q -n 2 @args
exit $LASTEXITCODE
