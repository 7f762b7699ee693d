// Package pipe is `postern pipe`: it answers one peer on standard input and output through the
// daemon that owns the data directory.
//
// The work itself is done by package relay, in the small program postern-relay if that is
// installed; this package turns a configuration into the settings of a relay. What keeps a pipe
// from working is logged and never ends the process: ejabberd ends external authentication on all
// of its virtual hosts if the program exits at once. Until the fault is corrected, every question is
// answered "temporary failure": see Fallback.
package pipe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"postern/cmd/internal/configfile"
	"postern/cmd/internal/daemon"
	"postern/cmd/internal/datadir"
	"postern/cmd/internal/pipe/relay"
	"postern/internal/config"
	"postern/internal/logfile"
	"postern/wire"
)

// Stdio is the standard streams of the process, passed in so that tests can replace them.
type Stdio struct{ In, Out, Err *os.File }

// Options shape a pipe.
type Options struct {
	Protocol string           // of the peer
	Socket   string           // relay to this socket, without reading a configuration; empty: to the owner of the data directory
	Flags    configfile.Flags // without Socket
	Dump     string           // see relay.Settings
}

// Run answers standard input until that ends.
func Run(std Stdio, o Options) error {
	CloseInheritedFDs(std.In)
	s, err := Settings(std, o)
	if misplaced := checkTerminal(std.In, o.Protocol); misplaced != nil {
		if ByHand(std.In) {
			return misplaced
		}
		if err == nil {
			relay.OpenLog(s.Log).Error("not usable", "err", misplaced)
		}
		return Fallback(std, o.Protocol, misplaced, func() error { return misplaced })
	}
	if err != nil {
		return Fallback(std, o.Protocol, err, func() error {
			_, err := Settings(std, o)
			return err
		})
	}
	s.Dump = o.Dump
	// Become postern-relay if it is installed: it needs a sixth of the memory.
	if self, err := os.Executable(); err == nil {
		for _, small := range relayPrograms(self) {
			_ = syscall.Exec(small, append([]string{small}, s.Args()...), os.Environ())
		}
	}
	relay.Main(s)
	return nil
}

// relayPrograms returns where postern-relay may be: below the prefix under which postern is installed
// or, as in a folder of builds, beside it. An older version's, beside it, comes last.
func relayPrograms(self string) []string {
	dir := filepath.Dir(self)
	return []string{filepath.Join(dir, "../lib/postern/postern-relay"), filepath.Join(dir, "postern-relay")}
}

// Settings returns how standard input is to be served: with the limits of the protocol's first
// listener, through the owner of the configuration's data directory.
func Settings(std Stdio, o Options) (relay.Settings, error) {
	front, err := defaults(o.Protocol)
	if err != nil {
		return relay.Settings{}, err
	}
	if o.Socket != "" {
		return besideDaemon(std, front, o.Socket), nil
	}
	cfg, err := o.Flags.Load(nil)
	if err == nil {
		for _, l := range slices.Backward(cfg.Listeners) {
			if l.Protocol == o.Protocol {
				front = l // the first one
			}
		}
	}
	if anothersDaemon(o.Flags) { // its configuration need not be readable
		return besideDaemon(std, front, config.RelayPath), nil
	}
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w; if another user's daemon is to answer, %s", err, relayLine())
	}
	if err != nil {
		return relay.Settings{}, err
	}
	if socket, err := anothersRelay(cfg); err != nil || socket != "" {
		return besideDaemon(std, front, socket), err
	}
	dir, err := datadir.Rendezvous(cfg.DataDir)
	if err != nil {
		return relay.Settings{}, err
	}
	s := settings(front, logPlace(std, cfg, dir))
	s.Socket, s.Lock = filepath.Join(dir, datadir.RelaySocket), filepath.Join(dir, datadir.LockFile)
	s.Elsewhere = filepath.Join(datadir.Runtime(cfg.DataDir), datadir.RelaySocket)
	s.Broker, err = brokerCommand(o.Flags, cfg, dir)
	return s, err
}

// besideDaemon returns the settings of a relay to a daemon's listener. It never starts a broker.
func besideDaemon(std Stdio, front config.Listener, socket string) relay.Settings {
	log := relay.Stderr
	if SameFile(std.Out, std.Err) {
		log = relay.Nowhere
	}
	s := settings(front, log)
	s.Socket = socket
	return s
}

// anothersDaemon reports whether the daemon of the machine, which another user runs, has a listener for pipes.
// Then the data directory is that user's, and this process makes nothing of its own in its place.
func anothersDaemon(flags configfile.Flags) bool {
	file, err := filepath.Abs(flags.File)
	if err != nil || flags.Embedded || file != config.DefaultPath || os.Geteuid() == 0 {
		return false
	}
	if dir, ok := config.DataDir(file); ok {
		if owner, known := datadir.Owner(dir); known && owner == os.Geteuid() {
			return false
		}
	}
	info, err := os.Stat(config.RelayPath)
	return err == nil && info.Mode()&fs.ModeSocket != 0
}

// anothersRelay returns the socket at which the daemon of another user, whose data directory the configuration
// names, takes questions of pipes; "" if this user's pipes may have a broker of their own. It fails if the daemon has
// no such socket.
func anothersRelay(cfg *config.Config) (string, error) {
	owner, known := datadir.Owner(cfg.DataDir)
	if !known || owner == os.Geteuid() || unix.Access(cfg.DataDir, unix.W_OK) == nil {
		return "", nil
	}
	for i := range cfg.Listeners {
		if l := &cfg.Listeners[i]; l.Protocol == string(wire.Relay) && l.Network == "unix" {
			return l.Address, nil
		}
	}
	if !datadir.MayBeServed(cfg.DataDir) {
		return "", nil
	}
	return "", fmt.Errorf("the daemon of the user %s, whose data directory is %s, has no listener for this user's pipes: %s", datadir.UserName(owner), cfg.DataDir, relayLine())
}

// relayLine says what a daemon needs for pipes of this user.
func relayLine() string {
	return fmt.Sprintf("add `listen \"relay\" { users = [%q] }` to its configuration, then `sudo postern reload`", datadir.UserName(os.Geteuid()))
}

func settings(front config.Listener, log string) relay.Settings {
	s := relay.Settings{
		Protocol: front.Protocol, DefaultDomain: front.DefaultDomain, Deadline: front.Deadline,
		Pipeline: front.Pipeline, MaxFrame: front.MaxFrame, BinaryAnswers: front.BinaryAnswers,
		Delimiter: front.RecipientDelimiter, FixedDomain: front.FixedDomain, Log: log,
	}
	if front.Logins { // else the flag is left out: a postern-relay of an older version does not know it
		s.Table = wire.Login
	}
	return s
}

// brokerCommand returns the command that starts the broker of pipes.
func brokerCommand(flags configfile.Flags, cfg *config.Config, dir string) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the program itself: %w", err)
	}
	o := daemon.Options{LockFD: relay.LockFD}
	if dir != cfg.DataDir {
		o.PipeDir = dir
	}
	o.Flags, err = flags.Absolute(cfg.DataDir)
	return append([]string{self}, o.Args()...), err
}

// CheckProtocol returns an error if a pipe cannot speak a protocol.
func CheckProtocol(protocol string) error {
	_, err := defaults(protocol)
	return err
}

// checkTerminal returns an error if standard input is a terminal that passes on whole lines only, and
// the protocol has none: its requests would never arrive, or with other bytes.
func checkTerminal(in *os.File, name string) error {
	if name == string(wire.Generic) || name == string(wire.TCPTable) {
		return nil
	}
	if !relay.PassesLines(in) {
		return nil
	}
	return fmt.Errorf("--protocol %s cannot work on a terminal, which passes on lines of text only: "+
		"let the server start it with pipes, or use --protocol generic", name)
}

// defaults returns the limits of a protocol when the configuration has no listener for it.
func defaults(protocol string) (config.Listener, error) {
	if protocol == string(wire.Dovecot) || protocol == string(wire.DovecotUserdb) || protocol == string(wire.HTTPProtocol) {
		return config.Listener{}, fmt.Errorf("--protocol %[1]s is for sockets only: add listen %[1]q to the configuration of `postern serve`", protocol)
	}
	l, known := config.DefaultListener(protocol)
	if known && l.Protocol == protocol && protocol != string(wire.Relay) { // nor a name of xcauth's units
		return l, nil
	}
	return config.Listener{}, fmt.Errorf("--protocol %q is not one of ejabberd, generic, saslauthd, tcp_table and socketmap: name the one that your server speaks", protocol)
}

// logPlace returns where a pipe logs. Standard error is the log only if it is not where the
// answers go: on a pseudo-terminal both reach the peer, which would take a log line for an
// answer. It is also the log if the file of the log block cannot be opened.
func logPlace(std Stdio, cfg *config.Config, dir string) string {
	place := relay.Stderr
	if SameFile(std.Out, std.Err) {
		place = filepath.Join(dir, "pipe.log")
	}
	file, err := logfile.Open(cfg.Log.File)
	switch {
	case err != nil:
		relay.OpenLog(place).Error("log file cannot be opened; logging here instead", "err", err)
	case file != nil:
		_ = file.Close()
		return cfg.Log.File
	}
	return place
}

// SameFile reports whether two descriptors lead to the same file, or that is not known.
func SameFile(a, b *os.File) bool {
	x, errA := a.Stat()
	y, errB := b.Stat()
	return errors.Join(errA, errB) != nil || os.SameFile(x, y)
}

// ByHand reports whether a person types: terminals that programs make do not echo.
func ByHand(f *os.File) bool {
	return relay.Echoes(f)
}
