package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"text/tabwriter"

	"postern/cmd/internal/configfile"
	"postern/cmd/internal/datadir"
	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/version"
)

// The account that the built-in configuration starts with.
const (
	demoUser   = "demo"
	demoDomain = "localhost"
)

// makeDemo adds the demo account with a random password if there is no users file yet. The
// password is written to a file that only its owner can read, and not to the terminal.
func makeDemo(ctx context.Context, cfg *config.Config) (passwordFile string, err error) {
	passwordFile = filepath.Join(cfg.DataDir, "demo.password")
	users := cfg.Backends[0]
	if _, err := os.Stat(users.Path); !errors.Is(err, fs.ErrNotExist) {
		return passwordFile, err
	}
	password := rand.Text()
	if err := os.WriteFile(passwordFile, []byte(password), 0o600); err != nil {
		return "", fmt.Errorf("demo account: %w", err)
	}
	if err := addDemo(ctx, users, password); err != nil {
		return "", fmt.Errorf("demo account: %w", err)
	}
	return passwordFile, nil
}

func addDemo(ctx context.Context, users config.Backend, password string) error {
	file, err := backend.OpenUsersFile(users.Path, users.FoldCase)
	if err != nil {
		return err
	}
	hash, err := passhash.New(password, users.BcryptCost)
	if err != nil {
		return err
	}
	return file.Add(ctx, auth.Identity{User: demoUser, Domain: demoDomain}, hash, nil)
}

// printDemo prints the listeners of the built-in configuration, and a command to try them.
func (a *app) printDemo(ctx context.Context, cfg *config.Config) error {
	password, err := makeDemo(ctx, cfg)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "postern %s listens on\n", version.Version)
	w := tabwriter.NewWriter(a.Out, 2, 0, 2, ' ', 0)
	var generic string
	for _, l := range cfg.Listeners {
		fmt.Fprintf(w, "  %s\t%s\n", l.Protocol, l.Address)
		if l.Protocol == "generic" && l.Network == "tcp" {
			host, port, _ := net.SplitHostPort(l.Address)
			generic = filepath.Join("/dev/tcp", host, port)
		}
	}
	fmt.Fprintf(w, "  relay\t%s (`postern pipe`)\n", filepath.Join(cfg.DataDir, datadir.RelaySocket))
	if err := w.Flush(); err != nil {
		return err
	}
	dir := fromHere(cfg.DataDir)
	fmt.Fprintf(a.Out, "data: %s\n", dir)
	if _, err := os.Stat(password); err != nil || generic == "" {
		return nil
	}
	flags := fmt.Sprintf(" --embedded --data-dir %q", dir)
	if configfile.RunningDemo() == dir {
		flags = ""
	}
	fmt.Fprintf(a.Out, `Log in, in another shell in this directory:
  %s test auth %s@%s%s < %q
or as a server does (1 is yes, 0 is no):
  bash -c 'exec 3<>%s; echo "auth:%[2]s:%[3]s:$(cat %[5]q)" >&3; head -n1 <&3'
`, os.Args[0], demoUser, demoDomain, flags, fromHere(password), generic)
	return nil
}

// fromHere returns a path as seen from the working directory, if it is below.
func fromHere(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(here, path)
	if err != nil || !filepath.IsLocal(rel) {
		return path
	}
	return rel
}
