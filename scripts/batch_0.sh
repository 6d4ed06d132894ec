#!/usr/bin/env bash
# Train the runs of a recipe: bash batch_0.sh --recipe bsds400 --only paper --gpu 0; --help says the rest.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/scripts/python.sh"
exec "$PYTHON" "$ROOT/scripts/batch_train.py" "$@"
