# Sets PYTHON for the shell scripts: as given, else the active environment's, else that of .venv/, else python3.
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    if [ -z "${VIRTUAL_ENV:-}" ] && [ -x "$ROOT/.venv/bin/python" ]; then
        PYTHON=$ROOT/.venv/bin/python
    fi
fi
if ! command -v "$PYTHON" >/dev/null; then
    echo "error: no such Python: $PYTHON; name one in the variable PYTHON, or run make demo, which makes .venv" >&2
    exit 2
fi
