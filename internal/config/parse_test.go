package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
)

const (
	usersBlock = "backend \"users\" \"local\" {}\n"
	starBlock  = "domain \"*\" { backends = [backend.users.local] }\n"
	base       = usersBlock + starBlock
)

func TestDefaults(t *testing.T) {
	cfg, problems := parse(t, `
listen "ejabberd"  { address = "127.0.0.1:0" }
listen "generic"   { address = "[::1]:23663" }
listen "saslauthd" { address = "unix:sock" }
listen "mail" {
  protocol = "tcp_table"
  address  = "localhost:23665"
}
backend "jsxc" "cloud" {
  url    = "https://cloud.example.org/x"
  secret = file("cloud.secret")
}
backend "users" "local" {}
domain "EXAMPLE.org." { backends = [backend.jsxc.cloud, backend.users.local] }
`)
	if len(problems) != 0 {
		t.Errorf("unexpected warnings:\n%s", render(problems))
	}
	listener := func(l Listener) Listener {
		l.FrameTimeout, l.WriteTimeout = 30*time.Second, 10*time.Second
		l.Pipeline, l.MaxConnections = 64, 16384
		return l
	}
	secret := auth.NewSecret(canary)
	want := &Config{
		DataDir: "/var/lib/postern", DrainTimeout: 10 * time.Second,
		Listeners: []Listener{
			listener(Listener{Name: "ejabberd", Protocol: "ejabberd", Network: "tcp", Address: "127.0.0.1:0",
				Deadline: 9 * time.Second, MaxFrame: 65536}),
			listener(Listener{Name: "generic", Protocol: "generic", Network: "tcp", Address: "[::1]:23663",
				Deadline: 4 * time.Second, MaxFrame: 65536}),
			listener(Listener{Name: "saslauthd", Protocol: "saslauthd", Network: "unix", Mode: 0o660,
				Address: "/var/lib/postern/sock", Deadline: 8 * time.Second, IdleTimeout: 30 * time.Second, MaxFrame: 32768}),
			listener(Listener{Name: "mail", Protocol: "tcp_table", Network: "tcp", Address: "localhost:23665",
				Deadline: 20 * time.Second, MaxFrame: 65536}),
		},
		Backends: []Backend{
			{BackendRef: BackendRef{"jsxc", "cloud"}, FoldCase: true, URL: "https://cloud.example.org/x", Secret: secret,
				ConnectTimeout: 5 * time.Second, Timeout: 10 * time.Second, MaxResponse: 1048576,
				Slots: 32, MinSlots: 4, Queue: 65536, BreakerFailures: 5, BreakerCooldown: time.Second, RefusalWindow: 30 * time.Minute},
			{BackendRef: BackendRef{"users", "local"}, FoldCase: true, Path: "/var/lib/postern/users", BcryptCost: 12,
				Slots: 32, MinSlots: 4, Queue: 65536, BreakerFailures: 5, BreakerCooldown: time.Second},
		},
		Domains: []Domain{{
			Name: "example.org", Backends: []BackendRef{{"jsxc", "cloud"}, {"users", "local"}}, Login: []string{"{user}"},
			JSXC: &JSXCToken{Secrets: []auth.Secret{secret}, TTL: time.Hour},
			Cache: Cache{Storage: StorageDisk, QueryTTL: time.Hour, VerifyTTL: 24 * time.Hour,
				OutageTTL: 168 * time.Hour, RefusedTTL: 5 * time.Minute, ExistsTTL: time.Hour,
				AbsentTTL: time.Minute, BcryptCost: 12, Secrets: 4, HotEntries: 100000},
			Limit: defaultLimit(),
		}},
		Registry: Registry{Idle: 15 * time.Minute, MaxLive: 10000,
			Cache: Cache{Storage: StorageDisk, QueryTTL: time.Hour, VerifyTTL: 24 * time.Hour,
				OutageTTL: 168 * time.Hour, RefusedTTL: 5 * time.Minute, ExistsTTL: time.Hour,
				AbsentTTL: time.Minute, BcryptCost: 12, Secrets: 4, HotEntries: 1000}, Limit: defaultLimit()},
		Log:   Log{Level: "info", Format: "text"},
		Files: []string{"/etc/postern/cloud.secret"},
	}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("got  %+v\nwant %+v", cfg, want)
	}
}

func TestValues(t *testing.T) {
	cfg, _ := parse(t, `
data_dir = "data"
listen "mux" {
  protocol     = "saslauthd"
  address      = "unix:/run/../run/mux"
  mode         = "0666"
  owner        = "12"
  group        = "sasl"
  idle_timeout = "0s"
  default_domain = "B\u00dcCHER.example"
}
listen "e" {
  protocol       = "ejabberd"
  address        = "127.0.0.1:1"
  binary_answers = true
}
backend "users" "u" { path = "/x/users" }
backend "jsxc" "a" {
  url    = "http://localhost/a?b=c"
  secret = env("TOKEN_SECRET")
}
backend "jsxc" "b" {
  url     = "http://[::1]/b"
  secret  = "${file("sub/${"directory"}/relative")}!"
  ca_file = "/etc/ssl/certs/ca-certificates.crt"
}
domain "*" {
  backends    = [backend.jsxc.a, backend.users.u, backend.jsxc.b]
  auth_domain = ["One.example", "two.example"]
  cache { storage = "none" }
}
domain "off.example" {
  backends = [backend.jsxc.a]
  token "jsxc" { enabled = false }
}
domain "own.example" {
  backends = [backend.users.u]
  token "jsxc" {
    secrets = [env("TOKEN_SECRET"), "`+canary+`2"]
    ttl     = "1d12h"
  }
  token "totp" {
    nonce_digits = 16
    seed    = "gezdgnbvgy3tqojq===="
    secrets = env("TOKEN_SECRET")
  }
}
log { file = "logs/x" }
`)
	mux := cfg.Listeners[0]
	if mux.Address != "/run/mux" || mux.Mode != 0o666 || mux.Owner != "12" || mux.Group != "sasl" ||
		mux.IdleTimeout != 0 || mux.DefaultDomain != "bücher.example" {
		t.Errorf("unix listener: %+v", mux)
	}
	if !cfg.Listeners[1].BinaryAnswers {
		t.Error("binary_answers was lost")
	}
	if cfg.DataDir != "/etc/postern/data" || cfg.Log.File != "/etc/postern/data/logs/x" || cfg.Backends[0].Path != "/x/users" {
		t.Errorf("paths: %q, %q, %q", cfg.DataDir, cfg.Log.File, cfg.Backends[0].Path)
	}
	star, off, own := cfg.Domains[0], cfg.Domains[1], cfg.Domains[2]
	if got := reveal(star.JSXC.Secrets); !reflect.DeepEqual(got, []string{canary, canary + "!"}) {
		t.Errorf("default token secrets: %q", got)
	}
	if !reflect.DeepEqual(star.AuthDomains, []string{"One.example", "two.example"}) || star.Cache.Storage != StorageNone {
		t.Errorf("fallback domain: %+v", star)
	}
	if off.JSXC != nil {
		t.Error("enabled = false did not turn the jsxc token off")
	}
	if got := reveal(own.JSXC.Secrets); !reflect.DeepEqual(got, []string{canary, canary + "2"}) || own.JSXC.TTL != 36*time.Hour {
		t.Errorf("token jsxc: %q, %v", got, own.JSXC.TTL)
	}
	if own.TOTP.Seed.Reveal() != "gezdgnbvgy3tqojq====" || len(own.TOTP.Secrets) != 1 || own.TOTP.NonceDigits != 16 {
		t.Error("token totp was not kept")
	}
}

func reveal(secrets []auth.Secret) []string {
	var out []string
	for _, s := range secrets {
		out = append(out, s.Reveal())
	}
	return out
}

func TestSecretOfCRLFFile(t *testing.T) {
	cfg, _ := parse(t, "backend \"jsxc\" \"c\" {\n url = \"http://127.0.0.1/\"\n secret = file(\"open.secret\")\n}\n"+
		"domain \"x\" { backends = [backend.jsxc.c] }\n")
	if got := cfg.Backends[0].Secret.Reveal(); got != canary {
		t.Errorf("secret has %d bytes, want %d", len(got), len(canary))
	}
}

func TestDefault(t *testing.T) {
	dir := t.TempDir()
	cfg, problems := Default(dir)
	if cfg == nil || len(problems) != 0 {
		t.Fatalf("Default: %s", render(problems))
	}
	var got []string
	for _, l := range cfg.Listeners {
		got = append(got, l.Protocol+" "+l.Address+" "+l.DefaultDomain)
	}
	want := []string{
		"ejabberd 127.0.0.1:23662 ", "generic 127.0.0.1:23663 ", "tcp_table 127.0.0.1:23665 ", "socketmap 127.0.0.1:23667 ",
		"saslauthd 127.0.0.1:23666 localhost", "saslauthd " + dir + "/saslauthd.sock localhost",
		"dovecot 127.0.0.1:23668 localhost", "dovecot_userdb " + dir + "/userdb.sock localhost", "http " + dir + "/http.sock localhost",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("listeners: %q, want %q", got, want)
	}
	d := cfg.Domains[0]
	if len(cfg.Domains) != 1 || d.Name != "*" || d.Cache.Storage != StorageDisk || d.Cache.BcryptCost != 12 ||
		cfg.Backends[0].Path != dir+"/users" {
		t.Errorf("domains: %+v, backends: %+v", cfg.Domains, cfg.Backends)
	}
	if cfg, problems := Default(""); cfg != nil || !problems.Failed() {
		t.Error("Default accepts an empty data directory")
	}
	if cfg, _ := Default("/" + strings.Repeat("d", 100)); cfg != nil {
		t.Error("Default accepts a directory too long for its socket")
	}
}

// TestNextcloud reads a backend with a service account, one without, and rules for logins.
func TestNextcloud(t *testing.T) {
	cfg, _ := parse(t, `
backend "nextcloud" "a" {
  url             = "https://cloud.example.org/sub/"
  admin_user      = "postern"
  admin_password  = file("nextcloud.secret")
  accept_other_id = true
  max_delay       = "5s"
  max_members     = 7
}
backend "nextcloud" "b" { url = "https://b.example.org" }
domain "a.example" {
  backends = [backend.nextcloud.a]
  login    = ["{user}@{domain}", "{user}"]
}
domain "b.example" { backends = [backend.nextcloud.b] }
`)
	a, b := cfg.Backends[0], cfg.Backends[1]
	if a.AdminUser != "postern" || a.AdminPassword.Reveal() != canary || !a.AcceptOtherID || a.MaxDelay != 5*time.Second || a.MaxMembers != 7 {
		t.Errorf("%+v", a)
	}
	if b.AdminUser != "" || !b.AdminPassword.Empty() || b.AcceptOtherID || b.MaxDelay != 1600*time.Millisecond || b.MaxMembers != 10000 {
		t.Errorf("%+v", b)
	}
	if got := cfg.Domains[0].Login; !slices.Equal(got, []string{"{user}@{domain}", "{user}"}) {
		t.Errorf("login is %q", got)
	}
	if got := cfg.Domains[1].Login; !slices.Equal(got, []string{"{user}"}) {
		t.Errorf("login is %q", got)
	}
}

// The templates of a home are Dovecot's, which HCL would take for its own; HCL's way to write them
// is understood as well.
func TestUserdb(t *testing.T) {
	for text, want := range map[string]Userdb{
		`userdb {}`: {},
		`userdb { home = "/m/%{domain}/%{user}" }`:                                {Home: "/m/%{domain}/%{user}"},
		`userdb { home = "/m/%%{domain}/%%{user}" }`:                              {Home: "/m/%{domain}/%{user}"},
		`userdb { home = "%{user}%%{user}%{user}" }`:                              {Home: ""},
		"userdb {\n uid = 5000\n gid = \"vmail\"\n home = \"/m\"\n}":              {"5000", "2000", "/m"},
		"userdb {\n uid = \"5000\"\n gid = \"1\"\n home = \"/%{user}%{user}\"\n}": {"5000", "1", "/%{user}%{user}"},
	} {
		cfg, problems := Parse("x", []byte(`
backend "users" "u" {}
domain "*" { backends = [backend.users.u] }
listen "dovecot_userdb" {
  address = "unix:/x"
  `+text+`
}`), testEnv(t))
		switch {
		case want.Home == "" && strings.Contains(text, "home"):
			if cfg != nil || !strings.Contains(render(problems), "absolute") {
				t.Errorf("%s: %s", text, render(problems))
			}
		case cfg == nil:
			t.Errorf("%s: %s", text, render(problems))
		case cfg.Listeners[0].Userdb != want:
			t.Errorf("%s: %+v, want %+v", text, cfg.Listeners[0].Userdb, want)
		}
	}
}
