package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"postern/internal/apppassword"
	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/cache"
	"postern/internal/store"
	"postern/internal/unixtime"
)

// Secrets and sizes of the configuration under test.
const (
	jsxcSecret  = "bench-secret"
	totpSeed    = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
	totpSecret  = "bench-token-secret"
	slots       = 64   // of each backend
	diskUsers   = 4096 // in a disk cache, far more than the hot tier holds
	hotAccounts = 1000 // that log in by hot cache, token, app password and the mail protocols

	appDomain = "app.bench"
)

// appKey is the key of the app passwords.
var appKey = strings.Repeat("k", apppassword.KeySize)

// configText returns the configuration under test, with a domain for each path. Passwords that are
// hashed on the way have the lowest bcrypt cost, so that the figures show the broker and not bcrypt.
func configText(dir, address, cloud, level string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "data_dir = %q\nlog { level = %q }\n", filepath.Join(dir, "data"), level)
	// Long enough for a queue of costly hashes on a busy machine.
	fmt.Fprintf(&b, "listen \"generic\" {\n  address = %q\n  deadline = \"30s\"\n}\n", address)
	for name, protocol := range map[string]string{saslauthdSocket: "saslauthd", dovecotSocket: "dovecot", webSocket: "http"} {
		fmt.Fprintf(&b, "listen %q {\n  address = \"unix:%s\"\n  default_domain = \"hot.bench\"\n}\n", protocol, filepath.Join(dir, name))
	}
	web := func(kind, name, path, more string) {
		fmt.Fprintf(&b, "backend %q %q {\n  url = \"http://%s%s\"\n  slots = %d\n  %s\n}\n", kind, name, cloud, path, slots, more)
	}
	signed := fmt.Sprintf("secret = %q\n", jsxcSecret)
	for _, wait := range []string{"0", "20"} {
		web("jsxc", "jsxc"+wait, "/"+wait, signed+"queue = 1024")
		web("json", "json"+wait, "/"+wait, "queue = 1024")
		web("nextcloud", "nextcloud"+wait, "/"+wait, "queue = 1024\n  refusal_budget = 0")
		for _, kind := range []string{"jsxc", "json", "nextcloud"} {
			fmt.Fprintf(&b, "domain \"%s%s.bench\" {\n  backends = [backend.%s.%[1]s%[2]s]\n  cache { storage = \"none\" }\n}\n", kind, wait, kind)
		}
	}
	web("jsxc", "short", "/20", signed+"queue = 64")
	fmt.Fprintf(&b, `backend "users" "local" { bcrypt_cost = 4 }
domain "short.bench" {
  backends = [backend.jsxc.short]
  cache { storage = "none" }
}
domain "users.bench" {
  backends = [backend.users.local]
  cache { storage = "none" }
}
domain "hot.bench" {
  backends = [backend.jsxc.jsxc0]
  cache { bcrypt_cost = 4 }
}
backend "oidc" "idp" {
  issuer         = "http://%s%s"
  audience       = "postern"
  username_claim = "preferred_username"
  slots          = %d
}
domain "bearer.bench" { backends = [backend.oidc.idp] }
domain "first.bench" {
  backends = [backend.oidc.idp]
  cache { storage = "none" }
}
backend "app_passwords" "devices" { key = file(%q) }
domain %q {
  backends = [backend.app_passwords.devices, backend.jsxc.jsxc0]
  cache { bcrypt_cost = 4 }
}
domain "totp.bench" {
  backends = [backend.users.local]
  token "totp" {
    seed    = %q
    secrets = [%q]
  }
}
`, cloud, idpPath, slots, keyFile(dir), appDomain, totpSeed, totpSecret)
	// A login with a hash that would wait asks a backend that is well, so this one is away.
	fmt.Fprintf(&b, "backend \"json\" \"away\" { url = \"http://127.0.0.1:1/\" }\n")
	for _, cost := range []int{4, 12} {
		fmt.Fprintf(&b, "domain \"disk%d.bench\" {\n  backends = [backend.json.away]\n  cache { hot_entries = 16 }\n}\n", cost)
	}
	return b.String()
}

// keyFile has the key of the app passwords.
func keyFile(dir string) string { return filepath.Join(dir, "app.key") }

// fillApps makes an app password for each of n users of appDomain in the store of a data directory.
func fillApps(dataDir string, n int) (secrets []string, err error) {
	p, err := store.OpenPebble(filepath.Join(dataDir, "store"), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	key, now := apppassword.NewKey(auth.NewSecret(appKey)), unixtime.At(time.Now())
	var ops []store.Op
	for i := range n {
		id, a := auth.Identity{User: fmt.Sprint("user", i), Domain: appDomain}, new(apppassword.Account)
		_, secret, err := a.Add(key, id.Domain, id.User, apppassword.New{Name: "phone"}, now)
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		secrets = append(secrets, secret.Show().Reveal())
		ops = append(ops, store.Op{Key: apppassword.RecordKey(id), Value: a.Encode()})
	}
	return secrets, errors.Join(p.Apply(ops, true), p.Close())
}

// fill writes n users of a domain, named by a prefix and a number, into the store of a data directory.
// Each has the hash of "password" at this bcrypt cost; at cost 0, each has a different hash that
// matches no password.
func fill(dataDir, domain, prefix string, n, cost int) error {
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return err
	}
	p, err := store.OpenPebble(filepath.Join(dataDir, "store"), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	hash := ""
	if cost > 0 {
		if hash, err = passhash.New("password", cost); err != nil {
			return errors.Join(err, p.Close())
		}
	}
	now := unixtime.At(time.Now())
	ops := []store.Op{{Key: []byte(cache.Unclaimed), Value: []byte{1}}} // the daemon's backend vouches for them
	for i := range n {
		id := auth.Identity{User: fmt.Sprint(prefix, i), Domain: domain}
		name := cache.Name{Account: id.User}
		user := cache.User{
			Verifiers: []cache.Verifier{{Name: name, Hash: hash, First: now, Verified: now, Used: now}},
			Exists:    cache.Existence{Name: name, Known: true, Yes: true, At: now},
		}
		if cost == 0 {
			user.Verifiers[0].Hash = someHash()
		}
		ops = append(ops, store.Op{Key: cache.RecordKey(id), Value: user.Encode()})
		if len(ops) >= 1000 || i == n-1 {
			if err := p.Apply(ops, false); err != nil {
				return errors.Join(err, p.Close())
			}
			ops = ops[:0]
		}
	}
	return p.Close()
}

// someHash returns random text of the form of a bcrypt hash, which compresses as badly.
func someHash() string {
	const digits = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	b := []byte("$2a$12$")
	for range 53 {
		b = append(b, digits[rand.N(len(digits))])
	}
	return string(b)
}

// startConfigured starts the program under test with configText and its files in dir. prepare runs
// before the start.
func (b *bench) startConfigured(dir string, prepare func(config string) error) (*child, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	config := dir + ".hcl"
	text := configText(dir, address, b.cloud.addr, b.level)
	if err := errors.Join(os.WriteFile(config, []byte(text), 0o600), os.MkdirAll(dir, 0o700), os.WriteFile(keyFile(dir), []byte(appKey), 0o600)); err != nil {
		return nil, err
	}
	if err := prepare(config); err != nil {
		return nil, err
	}
	return startPostern(b.binary, config, address)
}

// addUser adds an account to the users backend by `postern user add`.
func addUser(postern, config, address string) error {
	cmd := exec.Command(postern, "user", "add", "--config", config, address)
	cmd.Stdin = strings.NewReader("password\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("add an account: %w: %s", err, out)
	}
	return nil
}
