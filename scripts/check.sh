#!/bin/sh
# Runs the static checks: formatting, go vet, staticcheck and the module files.
set -eu
cd "$(dirname "$0")/.."

unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	echo "check: run gofmt -w on:" "$unformatted" >&2
	exit 1
fi
go vet ./...
go vet -tags profile ./cmd/postern
go tool staticcheck ./...
go mod tidy -diff
go mod verify >/dev/null
