# Read by run_api.ps1 and run_tests.ps1: .venv with the locked requirements, once per lock.
$Python = if ($env:PYTHON) { $env:PYTHON } else { "python" }
& $Python -c "import sys; sys.exit(sys.version_info < (3, 11))"
if ($LASTEXITCODE -ne 0) {
    [Console]::Error.WriteLine("Python 3.11 or newer is needed; name it in `$env:PYTHON")
    exit 1
}
if (-not (Test-Path .venv/Scripts/python.exe)) { & $Python -m venv .venv }
$Wanted = (Get-Content -Raw requirements.txt, requirements.lock, pyproject.toml) -join ""
$Stamp = if (Test-Path .venv/installed) { Get-Content -Raw .venv/installed } else { "" }
if ($Wanted -ne $Stamp) {
    & .venv/Scripts/python -m pip install --quiet -r requirements.txt
    if ($LASTEXITCODE -ne 0) { exit $LASTEXITCODE }
    Set-Content -NoNewline .venv/installed $Wanted
}
