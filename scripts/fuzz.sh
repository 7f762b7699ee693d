#!/bin/sh
# Runs every fuzz target in turn, each for FUZZTIME (default 30s), and exits with status 1 if any
# of them failed.
set -eu
cd "$(dirname "$0")/.."

failed=""
for package in $(go list ./...); do
	listed=$(go test -list '^Fuzz' "$package") # fails if the package does not build
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
