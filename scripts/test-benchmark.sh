#!/usr/bin/env bash
# LIIF's habit: bash scripts/test-benchmark.sh MODEL GPU [torch|jittor]; the framework may also stand in FRAMEWORK.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/scripts/python.sh"
if [ $# -lt 2 ]; then
    echo "usage: bash scripts/test-benchmark.sh MODEL GPU [torch|jittor]     GPU: a number, or cpu" >&2
    exit 2
fi
exec "$PYTHON" "$ROOT/scripts/batch_test_simple.py" --brief --models "$1" --gpu "$2" \
    --frameworks "${3:-${FRAMEWORK:-torch}}" \
    --configs test/test-{set5,set14,b100,urban100}-{2,3,4,6,8}.yaml
