#!/usr/bin/env bash
# LIIF's habit: bash scripts/test-benchmark.sh MODEL GPU [torch|jittor] [SCALE ...]
SETS="set5 set14 b100 urban100"
SCALES="2 3 4 6 8"
. "$(dirname "${BASH_SOURCE[0]}")/test-sets.sh"
