#!/usr/bin/env bash
# Train the paper's experiments: bash batch_0.sh --recipe bsds400 --gpu 0; --help says the rest.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/scripts/python.sh"
exec "$PYTHON" "$ROOT/scripts/batch_train.py" "$@"
