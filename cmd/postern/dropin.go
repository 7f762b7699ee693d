package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"postern/cmd/internal/relay"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/xcauth"
)

// guise is the program that postern stands in for under the name that it was called by, or nil.
// A first word that is neither an option nor a URL is one of postern's own commands under any
// name: the broker that copies of xcauth start is `xcauth serve`, where postern was not linked
// but copied.
func guise(argv []string) func(a *app, args []string) int {
	if len(argv) == 0 || len(argv) > 1 && argv[1] != "" && argv[1][0] != '-' && !strings.ContainsAny(argv[1], ":/") {
		return nil
	}
	switch filepath.Base(argv[0]) {
	case "xcauth", "xcauth.py":
		return func(a *app, args []string) int { return a.asXcauth("xcauth", xcauth.Defaults(), args) }
	case "external_cloud", "external_cloud.py":
		first := xcauth.Defaults()
		first.Log = "/var/log/ejabberd"
		return func(a *app, args []string) int { return a.asXcauth("external_cloud.py", first, args) }
	case "ejabberd-auth", "ejabberd-auth.py":
		return (*app).asEjabberdAuth
	}
	return nil
}

// asXcauth does what xcauth does with its arguments.
func (a *app) asXcauth(name string, base xcauth.Options, args []string) int {
	read := func() (*xcauth.Options, error) {
		o, err := xcauth.Parse(base, args, os.ReadFile, xcauth.DefaultConfigs()...)
		if err == nil && !o.Help && !o.Version {
			err = o.Complete()
		}
		return o, err
	}
	o, err := read()
	d := disguise{app: a, name: name, usage: xcauth.Usage(name), protocol: xcauth.Protocol(xcauth.GuessType(args))}
	if err == nil {
		d.protocol = xcauth.Protocol(o.Type)
	}
	d.prepare = func() (*config.Config, error) {
		o, err := read()
		if err != nil {
			return nil, err
		}
		return a.xcauthConfig(o, &d)
	}
	switch {
	case err != nil:
		return d.refuse(err)
	case o.Help:
		return a.say(d.usage)
	case o.Version:
		return a.say("postern " + version + "\n")
	case o.Test != auth.OpNone:
		return d.test(o)
	case passedSockets() > 0:
		return d.serve(o.Type)
	case o.Type == "":
		return d.refuse(fmt.Errorf("one of the arguments --type/-t, --auth-test/-A, --isuser-test/-I, --roster-test/-R is required"))
	}
	return d.pipe()
}

// asEjabberdAuth does what kongo2002's auth.py does with its arguments.
func (a *app) asEjabberdAuth(args []string) int {
	d := disguise{app: a, name: "ejabberd-auth", usage: xcauth.UsageEjabberdAuth(), protocol: "ejabberd"}
	o, err := xcauth.ParseEjabberdAuth(args)
	if err != nil {
		return d.refuse(err)
	}
	if o.Help {
		return a.say(d.usage)
	}
	d.prepare = func() (*config.Config, error) {
		dir := filepath.Join("/var/lib/ejabberd-auth", ownName(o.URL))
		return d.write(dir, o.Config(dir, d.logFile(o.Log, "extauth.log")))
	}
	return d.pipe()
}

func (a *app) say(text string) int {
	if _, err := a.out.WriteString(text); err != nil {
		return 1
	}
	return 0
}

// disguise is postern at work under another program's name. The settings of that program are
// turned into a configuration file of postern's, which the broker that is started reads as any
// other.
type disguise struct {
	*app
	name, usage string
	protocol    string
	prepare     func() (*config.Config, error) // writes the configuration
	passing     bool                           // a run by hand, with a log of its own
	rewritten   bool                           // by write, since it was last asked
	warned      map[string]bool
}

// ownName is the directory of those who ask one server. Copies that ask another one must not
// share their answers.
func ownName(url string) string {
	sum := sha256.Sum256([]byte(url))
	return fmt.Sprintf("postern-%x", sum[:4])
}

// write puts a configuration where the broker will read it: readable by its user only, since it
// holds secrets.
func (d *disguise) write(dataDir, text string) (*config.Config, error) {
	meet, err := relayDir(&config.Config{DataDir: dataDir})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(meet, d.name+".hcl")
	env := config.OSEnv()
	env.Stat = nil // written with a safe mode
	cfg, problems := config.Parse(file, []byte(text), env)
	if problems.Failed() {
		return nil, fmt.Errorf("the settings make no valid configuration: %w", problems.Err())
	}
	d.configFile = file
	before, err := os.ReadFile(file)
	if err == nil && (bytes.Equal(before, []byte(text)) || d.passing && sameButLog(file, before, cfg)) {
		return cfg, nil
	}
	if err := writePrivate(file, []byte(text)); err != nil {
		return nil, fmt.Errorf("configuration for the broker: %w", err)
	}
	d.rewritten = true
	return cfg, nil
}

// logFile is the log in a directory, or nothing if no file can be written there: then standard
// error is the log.
func (d *disguise) logFile(dir, name string) string {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		d.warn("the log goes to standard error: " + err.Error())
		return ""
	}
	_ = f.Close()
	return path
}

// warn says something once, where it is no answer to the peer.
func (d *disguise) warn(text string) {
	if d.warned[text] {
		return
	}
	if d.warned == nil {
		d.warned = map[string]bool{}
	}
	d.warned[text] = true
	if !sameFile(d.out, d.err) || byHand(d.in) {
		relay.OpenLog(relay.Stderr).Warn(text)
	}
}

// refuse deals with settings that cannot be used: people are told, and servers are answered
// "cannot tell" until they can be.
func (d *disguise) refuse(err error) int {
	if byHand(d.in) || passedSockets() > 0 || d.protocol == "" && nobodyAsks(d.in) {
		fmt.Fprint(d.err, d.usage)
		fmt.Fprintf(d.err, "%s: error: %v\n", d.name, err)
		return 2
	}
	return d.standBy(err)
}

// nobodyAsks reports whether standard input is no peer's: a file, or the null device.
func nobodyAsks(in *os.File) bool {
	info, err := in.Stat()
	return err != nil || info.Mode().IsRegular() || info.Mode()&os.ModeCharDevice != 0 && !isTerminal(in)
}

func (d *disguise) standBy(err error) int {
	if err := d.standIn(d.protocol, err, func() error {
		if d.prepare == nil {
			return err
		}
		_, err := d.ready()
		return err
	}); err != nil {
		return 1
	}
	return 0
}

// pipe answers standard input.
func (d *disguise) pipe() int {
	leaveInherited(d.in)
	if _, err := d.ready(); err != nil {
		return d.standBy(err)
	}
	if err := d.app.pipe(d.protocol, ""); err != nil {
		return 1
	}
	return 0
}

// serve answers on the sockets that systemd passes. Those whose name is no protocol speak that
// of --type (PROTOCOLS 6.9).
func (d *disguise) serve(kind string) int {
	_, err := d.ready()
	if err == nil {
		_ = os.Setenv("LISTEN_FDNAMES", xcauth.SocketNames(os.Getenv("LISTEN_FDNAMES"), passedSockets(), kind))
		err = d.app.serve(context.Background(), serveOptions{})
	}
	if err != nil {
		fmt.Fprintf(d.err, "%s: %v\n", d.name, err)
		return 1
	}
	return 0
}

// passedSockets counts the sockets that systemd has passed to this process.
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
