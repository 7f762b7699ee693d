package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"

	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/backend"
	"postern/internal/config"
)

// The account that the built-in configuration starts with.
const (
	demoUser   = "demo"
	demoDomain = "localhost"
)

// makeDemo adds the demo account with a random password when the users file is new. The
// password stands in a file that only its owner can read, not on the terminal.
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
	file, err := backend.OpenUsersFile(users.Path)
	if err != nil {
		return err
	}
	hash, err := passhash.New(password, users.BcryptCost)
	if err != nil {
		return err
	}
	return file.Add(ctx, auth.Identity{User: demoUser, Domain: demoDomain}, hash)
}

// banner tells what listens where, and one line to try it.
func (a *app) banner(ctx context.Context, cfg *config.Config) error {
	password, err := makeDemo(ctx, cfg)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "postern %s listens on\n", version)
	w := tabwriter.NewWriter(a.out, 2, 0, 2, ' ', 0)
	var generic string
	for _, l := range cfg.Listeners {
		fmt.Fprintf(w, "  %s\t%s\n", l.Protocol, l.Address)
		if l.Protocol == "generic" && l.Network == "tcp" {
			generic = filepath.Join("/dev/tcp", filepath.Join(splitAddress(l.Address)))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "data: %s\n", cfg.DataDir)
	if _, err := os.Stat(password); err == nil && generic != "" {
		fmt.Fprintf(a.out, `Ask it, in another shell (1 is yes, 0 is no):
  bash -c 'exec 3<>%s; echo "auth:%s:%s:$(cat %q)" >&3; head -n1 <&3'
`, generic, demoUser, demoDomain, password)
	}
	return nil
}
