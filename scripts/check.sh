#!/bin/sh
# Runs the static checks: formatting, go vet, staticcheck, the module files, and the types on other
# systems. That takes about 12 seconds of CPU, whatever is in Go's cache. To compile for them takes 115
# seconds and 400 MB of the cache for each system the first time: `make cross` does so, and `make
# package-test` for the systems of the packages and archives that it makes.
set -eu
cd "$(dirname "$0")/.."

unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	echo "check: run gofmt -w on:" "$unformatted" >&2
	exit 1
fi
go vet ./...
go vet -tags profile ./cmd/postern
(cd scripts/idp && go vet . && go mod tidy -diff)
go tool staticcheck ./...
go run ./scripts/typecheck linux/arm64,freebsd/amd64,darwin/arm64 ./cmd/postern ./cmd/postern-relay
go mod tidy -diff
go mod verify >/dev/null
