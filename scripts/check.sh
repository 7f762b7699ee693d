#!/bin/sh
# What machines can say of the code without running it.
set -eu
cd "$(dirname "$0")/.."

unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	echo "not gofmt-ed:" "$unformatted" >&2
	exit 1
fi
go vet ./...
go tool staticcheck ./...
go mod tidy -diff
go mod verify >/dev/null
