#!/bin/sh
# Runs every fuzz target for FUZZTIME (default 30s), one after the other; one that fails keeps
# none of the others from its turn.
set -eu
cd "$(dirname "$0")/.."

failed=""
for package in $(go list ./...); do
	listed=$(go test -list '^Fuzz' "$package") # a package that does not build is an error
	for target in $(echo "$listed" | grep '^Fuzz' || true); do
		echo "$package $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-30s}" "$package" ||
			failed="$failed $package:$target"
	done
done
if [ -n "$failed" ]; then
	echo "fuzz: failed:$failed" >&2
	exit 1
fi
