# Read by install.sh: which interpreter .venv is made with.
# Prefers one that was built with profile-guided optimization, as distributions build theirs and
# version managers often do not: docs/decisions/0051-an-optimized-interpreter.md

chosen_python() { # prints the first optimized one of its arguments that fits, else the first that fits
    local candidate first=
    for candidate in "$@"; do
        _fits "$candidate" || continue
        if _is_optimized "$candidate"; then
            echo "$candidate"
            return
        fi
        first=${first:-$candidate}
    done
    echo "$first"
}

_fits() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

_is_optimized() {
    "$1" -c '
import sys, sysconfig
told = sysconfig.get_config_var("CONFIG_ARGS") or ""
sys.exit(sys.base_prefix != "/usr" and "--enable-optimizations" not in told)'
}
