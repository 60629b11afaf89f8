# Starts the service: makes .venv, installs the lock, serves. Needs Python 3.11 or newer.
$ErrorActionPreference = "Stop"
Set-Location (Join-Path $PSScriptRoot "..")
. scripts/install.ps1
& .venv/Scripts/compliance-copilot serve @args
exit $LASTEXITCODE
