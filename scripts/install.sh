# Read by run_api.sh and run_tests.sh: .venv with the locked requirements, once per lock.
PYTHON=${PYTHON:-python3}
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Python 3.11 or newer is needed; name it with PYTHON=/path/to/python3.11" >&2
    exit 1
fi
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
if ! cat requirements.txt requirements.lock pyproject.toml | cmp -s - .venv/installed; then
    .venv/bin/python -m pip install --quiet -r requirements.txt
    cat requirements.txt requirements.lock pyproject.toml > .venv/installed
fi
