#!/usr/bin/env bash
# LIIF's habit: bash scripts/test-div2k.sh MODEL GPU [torch|jittor] [SCALE ...]
SETS="div2k"
SCALES="2 3 4 6 12 18 24 30"
. "$(dirname "${BASH_SOURCE[0]}")/test-sets.sh"
