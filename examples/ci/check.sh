#!/bin/sh
# Fails if the load test leaves goroutines behind: for any CI system. Needs root, or the capabilities that `leakprobe doctor` names.
set -eu
cd "$(dirname "$0")"
[ -n "${SERVER:-}" ] || { go build -o prices . && SERVER=./prices; }
exec "${LEAKPROBE:-leakprobe}" ci \
    --exec "$SERVER" --ready '/listening on (\S+)/' \
    --requests-from '^(\d+) requests' \
    --artifacts "${ARTIFACTS:-leakprobe-report}" \
    -- ./load.sh
