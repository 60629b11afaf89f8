# Read by run_api.sh and run_tests.sh: .venv with the locked requirements, once per lock.
. scripts/choose_python.sh
if [ ! -x .venv/bin/python ]; then
    candidates=("${PYTHON:-python3}")
    [ -n "${PYTHON:-}" ] || candidates+=(/usr/bin/python3)
    chosen=$(chosen_python "${candidates[@]}")
    if [ -z "$chosen" ]; then
        echo "Python 3.11 or newer (with venv) is needed; name it with PYTHON=/path/to/python3.11" >&2
        exit 1
    fi
    "$chosen" -m venv .venv
fi
if ! cat requirements.txt requirements.lock pyproject.toml | cmp -s - .venv/installed; then
    .venv/bin/python -m pip install --quiet -r requirements.txt
    cat requirements.txt requirements.lock pyproject.toml > .venv/installed
fi
