package migrate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"postern/cmd/internal/configfile"
	"postern/cmd/internal/daemon"
	"postern/cmd/internal/datadir"
	"postern/cmd/internal/pipe"
	"postern/cmd/internal/pipe/relay"
	"postern/internal/atomicfile"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/version"
	"postern/internal/xcauth"
)

// Compat returns the program that postern replaces under the name by which it was called, as a
// function from arguments to exit status; nil if that is postern itself. A first argument that is
// neither an option nor a URL is one of postern's own commands under any name: the broker that
// copies of xcauth start is `xcauth serve` if postern was copied to that name.
func Compat(argv []string) func(std pipe.Stdio, args []string) int {
	if len(argv) == 0 || len(argv) > 1 && argv[1] != "" && argv[1][0] != '-' && !strings.ContainsAny(argv[1], ":/") {
		return nil
	}
	switch filepath.Base(argv[0]) {
	case "xcauth", "xcauth.py":
		return func(std pipe.Stdio, args []string) int { return asXcauth(std, "xcauth", xcauth.Defaults(), args) }
	case "external_cloud", "external_cloud.py":
		base := xcauth.Defaults()
		base.Log = "/var/log/ejabberd"
		return func(std pipe.Stdio, args []string) int { return asXcauth(std, "external_cloud.py", base, args) }
	case "ejabberd-auth", "ejabberd-auth.py":
		return asEjabberdAuth
	}
	return nil
}

// asXcauth does what xcauth does with its arguments.
func asXcauth(std pipe.Stdio, name string, base xcauth.Options, args []string) int {
	read := func() (*xcauth.Options, error) {
		o, err := xcauth.Parse(base, args, os.ReadFile, xcauth.DefaultConfigs()...)
		if err == nil && !o.Help && !o.Version {
			err = o.Complete()
		}
		return o, err
	}
	o, err := read()
	c := compat{Stdio: std, name: name, usage: xcauth.Usage(name), protocol: xcauth.Protocol(xcauth.GuessType(args))}
	if err == nil {
		c.protocol = xcauth.Protocol(o.Type)
	}
	c.prepare = func() (*config.Config, error) {
		o, err := read()
		if err != nil {
			return nil, err
		}
		return c.xcauthConfig(o)
	}
	switch {
	case err != nil:
		return c.refuse(err)
	case o.Help:
		return c.print(c.usage)
	case o.Version:
		return c.print("postern " + version.Version + "\n")
	case o.Test != auth.OpNone:
		return c.test(o)
	case passedSockets() > 0:
		return c.serve(o.Type)
	case o.Type == "":
		return c.refuse(fmt.Errorf("one of the arguments --type/-t, --auth-test/-A, --isuser-test/-I, --roster-test/-R is required"))
	}
	return c.pipe()
}

// asEjabberdAuth does what kongo2002's auth.py does with its arguments.
func asEjabberdAuth(std pipe.Stdio, args []string) int {
	c := compat{Stdio: std, name: "ejabberd-auth", usage: xcauth.UsageEjabberdAuth(), protocol: "ejabberd"}
	o, err := xcauth.ParseEjabberdAuth(args)
	if err != nil {
		return c.refuse(err)
	}
	if o.Help {
		return c.print(c.usage)
	}
	c.prepare = func() (*config.Config, error) {
		dir := filepath.Join("/var/lib/ejabberd-auth", ownName(o.URL))
		return c.write(dir, o.Config(dir, c.logFile(o.Log, "extauth.log")))
	}
	return c.pipe()
}

func (c *compat) print(text string) int {
	if _, err := c.Out.WriteString(text); err != nil {
		return 1
	}
	return 0
}

// compat is postern running under another program's name.
type compat struct {
	pipe.Stdio
	flags       configfile.Flags // the configuration, once write has written it
	name, usage string
	protocol    string                         // of standard input; empty: not known
	prepare     func() (*config.Config, error) // writes the configuration
	ownLog      bool                           // a single test: it does not log to the broker's file
	dump        string                         // the file to which SIGUSR1 writes, as in xcauth
	rewritten   bool                           // write has changed the configuration
	warned      map[string]bool
}

// ownName returns the name of the directory of copies that ask one server. Copies that ask another
// server must not share their answers.
func ownName(url string) string {
	sum := sha256.Sum256([]byte(url))
	return fmt.Sprintf("postern-%x", sum[:4])
}

// write writes a configuration to where the broker reads it. It has secrets, so only this user may
// read it.
func (c *compat) write(dataDir, text string) (*config.Config, error) {
	meeting, err := datadir.Rendezvous(dataDir)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(meeting, c.name+".hcl")
	cfg, err := parse(file, []byte(text))
	if err != nil {
		return nil, fmt.Errorf("the settings make no valid configuration: %w", err)
	}
	c.flags.File = file
	before, err := os.ReadFile(file)
	if err == nil && (bytes.Equal(before, []byte(text)) || c.ownLog && sameButLog(file, before, cfg)) {
		return cfg, nil
	}
	if err := atomicfile.Write(file, []byte(text), nil); err != nil {
		return nil, fmt.Errorf("configuration for the broker: %w", err)
	}
	c.rewritten = true
	return cfg, nil
}

// logFile returns the path of the log in a directory, or "" for standard error if no file can be
// written there.
func (c *compat) logFile(dir, name string) string {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		c.warn("the log goes to standard error: " + err.Error())
		return ""
	}
	_ = f.Close()
	return path
}

// warn logs a text once, unless standard error is connected to the peer.
func (c *compat) warn(text string) {
	if c.warned[text] {
		return
	}
	if c.warned == nil {
		c.warned = map[string]bool{}
	}
	c.warned[text] = true
	if !pipe.SameFile(c.Out, c.Err) || pipe.ByHand(c.In) {
		relay.OpenLog(relay.Stderr).Warn(text)
	}
}

// refuse handles settings that cannot be used: a person gets an error, and a server gets
// temporary failures until the settings are corrected.
func (c *compat) refuse(err error) int {
	if pipe.ByHand(c.In) || passedSockets() > 0 || c.protocol == "" && hasNoPeer(c.In) {
		fmt.Fprint(c.Err, c.usage)
		fmt.Fprintf(c.Err, "%s: error: %v\n", c.name, err)
		return 2
	}
	return c.fallback(err)
}

// hasNoPeer reports whether standard input is a file or the null device.
func hasNoPeer(in *os.File) bool {
	info, err := in.Stat()
	return err != nil || info.Mode().IsRegular() || info.Mode()&os.ModeCharDevice != 0 && !relay.OnTerminal(in, in)
}

func (c *compat) fallback(err error) int {
	if err := pipe.Fallback(c.Stdio, c.protocol, err, func() error {
		if c.prepare == nil {
			return err
		}
		_, err := c.ready()
		return err
	}); err != nil {
		return 1
	}
	return 0
}

// pipe answers standard input.
func (c *compat) pipe() int {
	pipe.CloseInheritedFDs(c.In)
	if _, err := c.ready(); err != nil {
		return c.fallback(err)
	}
	if err := pipe.Run(c.Stdio, pipe.Options{Protocol: c.protocol, Flags: c.flags, Dump: c.dump}); err != nil {
		fmt.Fprintf(c.Err, "%s: %v\n", c.name, err) // only a person's terminal gets one
		return 1
	}
	return 0
}

// serve answers on the sockets that systemd passes. As with xcauth's units, a socket that is not
// named after a protocol speaks that of --type.
func (c *compat) serve(kind string) int {
	_, err := c.ready()
	if err == nil {
		_ = os.Setenv("LISTEN_FDNAMES", xcauth.SocketNames(os.Getenv("LISTEN_FDNAMES"), passedSockets(), kind))
		err = daemon.Run(context.Background(), daemon.Options{Flags: c.flags, Log: c.Err})
	}
	if err != nil {
		fmt.Fprintf(c.Err, "%s: %v\n", c.name, err)
		return 1
	}
	return 0
}

// passedSockets returns how many sockets systemd has passed to this process.
func passedSockets() int {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return 0
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n < 0 || n > 4096 {
		return 0
	}
	return n
}

// parse reads a configuration that is in no file.
func parse(file string, text []byte) (*config.Config, error) {
	cfg, problems := configfile.Parse(configfile.File{Path: file, Data: text}, nil)
	return cfg, problems.Err()
}
