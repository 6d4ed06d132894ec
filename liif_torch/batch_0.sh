#!/usr/bin/env bash
exec bash "$(dirname "${BASH_SOURCE[0]}")/../scripts/batch_0.sh" --framework torch "$@"
