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
# Text and HTML templates call methods by names that the linker does not see, and one such call in the program has it
# keep every exported method of every type: 41 MB in place of 26. The first time this compiles the program, as some tests
# do as well.
if go build -o /dev/null -ldflags=-dumpdep ./cmd/postern 2>&1 | grep '<ReflectMethod> ->' >&2; then
	echo "check: these functions call methods by name, so that the linker cannot leave out what is not used" >&2
	exit 1
fi
go mod tidy -diff
go mod verify >/dev/null
