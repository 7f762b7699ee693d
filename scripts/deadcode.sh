#!/bin/sh
# Lists the functions that no program of the repository reaches and exits with status 1 if there are
# any. Functions that only tests use count as unreachable, except in packages for tests (NAMEtest and
# those in cmd/e2e).
set -eu
cd "$(dirname "$0")/.."

found=$(go tool deadcode ./...)
found=$(echo "$found" | grep -v -e '^[^:]*test/[^/]*\.go:' -e '^cmd/e2e/' || true)
if [ -n "$found" ]; then
	echo "$found" >&2
	exit 1
fi
