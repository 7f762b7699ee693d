package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"postern/cmd/internal/relay"
	"postern/internal/config"
	"postern/wire"
)

// relayPath is the socket on which the owner serves relays.
func relayPath(cfg *config.Config) string { return filepath.Join(cfg.DataDir, "relay.sock") }

// relayFront is the listener for relays. Each request brings its own patience; the deadline
// here is the longest of any protocol.
func relayFront(address string) config.Listener {
	return config.Listener{
		Name: "relay", Protocol: string(wire.Relay), Network: "unix", Address: address, Mode: 0o600,
		Deadline: 30 * time.Second, FrameTimeout: 30 * time.Second, WriteTimeout: 10 * time.Second,
		Pipeline: 256, MaxConnections: 16384,
	}
}

// listenRelays serves relays on the data directory's private socket.
func (d *daemon) listenRelays() error {
	front := relayFront(relayPath(d.cfg))
	socket, err := openSocket(front)
	if err != nil {
		return err
	}
	if err := d.broker.Listen(front, socket); err != nil {
		return errors.Join(err, socket.Close())
	}
	return nil
}

// served reports whether a daemon serves relays on socket.
func served(socket string) bool {
	c, err := net.DialTimeout("unix", socket, dialPatience)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// relay serves standard input through the daemon on socket. It becomes postern-relay, if that
// stands beside this program: the same work in a sixth of the memory. Otherwise it does the
// work itself.
func (a *app) relay(front config.Listener, socket, logFile string, log *slog.Logger) {
	if self, err := os.Executable(); err == nil {
		small := filepath.Join(filepath.Dir(self), "postern-relay")
		_ = syscall.Exec(small, []string{small, "-protocol", front.Protocol, "-socket", socket,
			"-default-domain", front.DefaultDomain, "-deadline", front.Deadline.String(),
			"-pipeline", strconv.Itoa(front.Pipeline), "-max-frame", strconv.Itoa(front.MaxFrame),
			"-binary-answers=" + strconv.FormatBool(front.BinaryAnswers), "-log", logFile}, os.Environ())
	}
	signal.Ignore(syscall.SIGPIPE, syscall.SIGUSR1)
	// SIGHUP, too, ends it in order: it comes when the peer closes a pseudo-terminal, and
	// Prosody does not start a program again that a signal has ended (PROTOCOLS 3.2).
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	err := relay.Run(ctx, a.in, a.out, relay.Options{
		Protocol: wire.Protocol(front.Protocol), DefaultDomain: front.DefaultDomain,
		Wire:     wire.Options{MaxFrame: front.MaxFrame, BinaryAnswers: front.BinaryAnswers},
		Deadline: front.Deadline, Pipeline: front.Pipeline, Log: log,
		Socket: socket,
	})
	if err != nil {
		log.Error("relay ended", "err", err) // the status stays 0
	}
}
