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
	return file.Add(ctx, auth.Identity{User: demoUser, Domain: demoDomain}, hash)
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
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "data: %s\n", cfg.DataDir)
	if _, err := os.Stat(password); err == nil && generic != "" {
		fmt.Fprintf(a.Out, `Log in, in another shell:
  %s test auth %s@%s --embedded --data-dir %q < %q
or as a server does (1 is yes, 0 is no):
  bash -c 'exec 3<>%s; echo "auth:%s:%s:$(cat %q)" >&3; head -n1 <&3'
`, os.Args[0], demoUser, demoDomain, cfg.DataDir, password, generic, demoUser, demoDomain, password)
	}
	return nil
}
