# Targets a newcomer needs: run, test, bench.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X postern/internal/version.Version=$(VERSION)

.PHONY: build run test check unit bench soak fuzz chaos install clean

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
	go test -run Allocations ./internal/token ./actors

# Side by side with bare echoes and, where installed, with Cyrus saslauthd and Dovecot's auth
# (apt-get install sasl2-bin dovecot-core), in one run; then the parts. See scripts/bench/README.
# BENCH has further flags: BENCH='-only token -json out.json'.
bench: build bin/posternbench
	./bin/posternbench -postern bin/postern $(BENCH)
	go test -run '^$$' -bench . -benchtime 0.5s ./...

# A mixed load at half of what is possible; fails if memory, goroutines, descriptors or store grow.
soak: build bin/posternbench
	./bin/posternbench soak -postern bin/postern $(BENCH)

.PHONY: bin/posternbench
bin/posternbench:
	go build -o $@ ./cmd/posternbench

# Each fuzz target for a while; the committed seeds run with every test.
fuzz:
	./scripts/fuzz.sh

# Faults of every kind, for long; a short form is part of test. A run's seed is printed, and
# POSTERN_CHAOS_SEED=N repeats its questions.
POSTERN_CHAOS ?= 10m
chaos: setup
	POSTERN_CHAOS=$(POSTERN_CHAOS) go test -race -timeout 3h -v -run 'Chaos|Storm' ./actors/... ./e2e/chaos ./e2e/daemon

# What was built, the units and the examples. Packages set DESTDIR.
PREFIX ?= /usr
UNITDIR ?= /usr/lib/systemd/system
install:
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(UNITDIR) $(DESTDIR)/usr/lib/sysusers.d $(DESTDIR)/usr/lib/tmpfiles.d
	install -m 0755 bin/postern bin/postern-relay $(DESTDIR)$(PREFIX)/bin/
	sed 's|/usr/bin/postern|$(PREFIX)/bin/postern|' scripts/systemd/postern.service >$(DESTDIR)$(UNITDIR)/postern.service
	chmod 0644 $(DESTDIR)$(UNITDIR)/postern.service
	install -m 0644 scripts/systemd/*.socket $(DESTDIR)$(UNITDIR)/
	install -m 0644 scripts/systemd/postern.sysusers $(DESTDIR)/usr/lib/sysusers.d/postern.conf
	install -m 0644 scripts/systemd/postern.tmpfiles $(DESTDIR)/usr/lib/tmpfiles.d/postern.conf
	install -d $(DESTDIR)$(PREFIX)/share/postern/prosody $(DESTDIR)/usr/share/doc/postern $(DESTDIR)/etc/postern
	install -m 0644 scripts/prosody/*.lua $(DESTDIR)$(PREFIX)/share/postern/prosody/
	install -m 0644 README.md config.hcl.example $(DESTDIR)/usr/share/doc/postern/

clean:
	rm -rf bin run
