# Targets a newcomer needs: run, test, bench.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)

.PHONY: build run test check unit bench fuzz clean

build:
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/postern ./cmd/postern-relay

# The broker on its built-in configuration; its data goes to ./run.
run: build
	./bin/postern serve --embedded --data-dir run

# Everything, with what it needs installed first.
test: setup check unit

.PHONY: setup
setup:
	./scripts/setup.sh

check:
	./scripts/check.sh

unit:
	go test -race -timeout 15m ./...
	go test -run Allocations ./internal/token

# Side by side with a bare echo, in one run; then the parts.
bench: build
	go build -o bin/posternbench ./cmd/posternbench
	./bin/posternbench -postern bin/postern
	go test -run '^$$' -bench . -benchtime 0.5s ./...

# Each fuzz target for a while; the committed seeds run with every test.
fuzz:
	./scripts/fuzz.sh

clean:
	rm -rf bin run
