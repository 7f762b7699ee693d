# `make` builds; `make help` lists the targets.
.DEFAULT_GOAL := build

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X postern/internal/version.Version=$(VERSION)

# The limit for the tests of one package. It ends a hang; a machine that is busy with other work
# must not reach it.
TIMEOUT ?= 60m

# Without the paths of this folder in what is compiled, a clone elsewhere finds it in Go's cache. The tests that
# build the program do so in the same way.
export GOFLAGS := $(strip $(shell go env GOFLAGS 2>/dev/null) -trimpath)

# Password hashing takes nine times as long under the race detector, and shares no memory: its
# package is left out.
RACE := -race -gcflags=golang.org/x/crypto/blowfish=-race=false

.PHONY: help
help: ## List the targets.
	@sed -n 's/^\([a-z][a-z/-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  %-12s %s\n", $$1, $$2 }'

.PHONY: build
build: ## Build bin/postern and bin/postern-relay, and their documentation in bin/docs (default).
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/postern
	@# Servers start many, and without a C library each takes 1.6 MB less.
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/postern-relay
	@scripts/package/docs.sh bin/postern

.PHONY: run
run: build ## Start the broker on a built-in configuration, with its data in ./run.
	./bin/postern serve --embedded --data-dir run

# RUN=PATTERN runs a part: the tests of all packages whose names match the pattern of go test -run,
# such as RUN=Reload or RUN='^TestPromise$', in any letter case. For one package, `go test ./internal/cache` is quicker.
.PHONY: test
ifdef RUN
test: setup
	go test $(RACE) -timeout $(TIMEOUT) -run '(?i)$(value RUN)' ./...
else
test: setup check unit ## Install what the tests need, then run all of them; RUN=PATTERN runs a part.
endif

.PHONY: setup
setup: ## Install the servers and tools that the tests need (apt-get, debootstrap).
	./scripts/setup.sh

.PHONY: check
check: ## Run gofmt, go vet, staticcheck, go mod tidy -diff, and check the types for other systems.
	./scripts/check.sh

.PHONY: cross
cross: ## Compile for SYSTEMS, which takes minutes each the first time.
	for s in $(SYSTEMS); do CGO_ENABLED=0 GOOS=$${s%/*} GOARCH=$${s#*/} go build ./cmd/postern ./cmd/postern-relay || exit; done

.PHONY: costs
costs: ## Say what each direct dependency costs: seconds of compiling, and bytes of the program.
	go run ./scripts/costs

.PHONY: deadcode
deadcode: ## List functions that no program reaches; fail if there are any.
	./scripts/deadcode.sh

# The race detector allocates, too: tests that count allocations run once more without it.
.PHONY: unit
unit: ## Run all tests, without installing anything first.
	go test $(RACE) -p 4 -timeout $(TIMEOUT) ./...
	go test -timeout $(TIMEOUT) -run Allocations ./internal/... ./actors/...

# BENCH adds flags: make bench BENCH='-only token -json out.json'. scripts/bench/README describes
# them, what is measured, and how to install the peers that postern is compared with. Machines differ,
# so only ratios and what must hold are compared with the committed figures. MICRO= leaves out the
# benchmarks of single packages.
RESULTS ?= scripts/bench/results.txt
MICRO ?= ./...
.PHONY: bench
bench: build bin/posternbench ## Measure postern side by side with bare echoes and other servers, then in storms.
	rm -f bin/bench.txt
	./bin/posternbench -postern bin/postern -out bin/bench.txt $(BENCH)
	$(if $(MICRO),go test -run '^$$' -bench . -benchtime 0.5s $(MICRO))
	./bin/posternbench storm -postern bin/postern -out bin/bench.txt $(BENCH); status=$$?; $(MAKE) --no-print-directory bench-compare; \
	./bin/posternbench aims bin/bench.txt; exit $$status

.PHONY: storm
storm: build bin/posternbench ## Have everybody come at once, in every way; fail if somebody does not get in who could.
	rm -f bin/storm.txt
	./bin/posternbench storm -postern bin/postern -out bin/storm.txt $(BENCH); status=$$?; $(MAKE) --no-print-directory bench-compare MEASURED=bin/storm.txt; exit $$status

MEASURED ?= bin/bench.txt
.PHONY: bench-compare
bench-compare:
	go tool -modfile=scripts/bench/tools.mod benchstat -ignore cpu,machine -filter '.unit:(ratio OR at-least OR at-most)' $(RESULTS) $(MEASURED)

.PHONY: profile
profile: bin/posternbench ## Say which actors and locks the hot path spends its time in.
	go build -tags profile -o bin/postern-profile ./cmd/postern
	./bin/posternbench profile -postern bin/postern-profile $(BENCH)

.PHONY: soak
soak: build bin/posternbench ## Drive a mixed load; fail if memory, goroutines, descriptors or the store grow.
	./bin/posternbench soak -postern bin/postern $(BENCH)

.PHONY: bin/posternbench
bin/posternbench:
	go build -o $@ ./scripts/bench

.PHONY: fuzz
fuzz: ## Fuzz every parser for FUZZTIME (30s); the committed seeds run with every test.
	./scripts/fuzz.sh

# A short form is part of the tests. Each run prints its seed; POSTERN_CHAOS_SEED=N repeats it.
POSTERN_CHAOS ?= 10m
.PHONY: chaos
chaos: setup ## Inject faults of every kind into real processes for POSTERN_CHAOS (10m).
	POSTERN_CHAOS=$(POSTERN_CHAOS) go test $(RACE) -timeout 3h -v -run 'Chaos|Storm' ./actors/... ./cmd/e2e/...

.PHONY: nodes
nodes: setup ## Run several brokers beside one store, on machines of their own with a network that fails.
	go test $(RACE) -timeout 1h -v ./internal/store/valkeystore ./cmd/e2e/nodes ./cmd/e2e/network

# scripts/package/files lists what is installed, packages included.
PREFIX ?= /usr
UNITDIR ?= /usr/lib/systemd/system
export PREFIX UNITDIR DESTDIR
.PHONY: install
install: ## Install what was built (PREFIX, UNITDIR, DESTDIR).
	@scripts/package/install.sh install

.PHONY: uninstall
uninstall: ## Remove what `make install` installed; /etc/postern and the data stay.
	@scripts/package/install.sh uninstall

# Packages are built in OUT. The same commit yields the same bytes; an image also has the
# certificate authorities of this machine, or those of the file CERTIFICATES.
OUT ?= bin
ARCH ?= amd64 arm64
SYSTEMS ?= linux/amd64 linux/arm64 freebsd/amd64 darwin/arm64
PACKAGE = LDFLAGS='$(LDFLAGS)' OUT='$(OUT)' CERTIFICATES='$(CERTIFICATES)' scripts/package/build.sh
.PHONY: deb
deb: ## Build the Debian packages for ARCH (amd64 arm64).
	$(PACKAGE) deb $(ARCH:%=linux/%)

.PHONY: reproducible
reproducible: ## Build the Debian packages of the last commit for ARCH twice; fail if they differ.
	ARCH='$(ARCH)' scripts/package/reproducible.sh

.PHONY: tarball
tarball: ## Build archives to unpack in /, for SYSTEMS.
	$(PACKAGE) tarball $(SYSTEMS)

.PHONY: image
image: ## Build OCI images for ARCH; podman and docker load them.
	$(PACKAGE) image $(ARCH:%=linux/%)

# Short recipes are part of the tests. As root: the tests start systemd, and apt installs the servers.
.PHONY: manual-test
manual-test: ## Follow the README and every page in fresh Debian 12 and 13, and count the commands (RUN=trixie/exim, RUN=./exim: a part).
	./scripts/setup.sh all
	POSTERN_MANUAL=full go test -count 1 -timeout 8h -v -run '^TestPages$$$(if $(RUN),/$(value RUN))' ./cmd/e2e/manual

# A short form is part of the tests, too, and the same holds for root.
.PHONY: package-test
package-test: ## Install, upgrade under load and purge the package in fresh Debian 12 and 13; start the image; make archives.
	./scripts/setup.sh all
	POSTERN_PACKAGES=full go test -count 1 -timeout 4h -v ./cmd/e2e/packages

.PHONY: clean
clean: ## Remove bin/ and run/.
	rm -rf bin run
