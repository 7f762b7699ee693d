package doctor

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/internal/backend"
	"postern/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// canary is the secret of these tests; no report may hold it.
const canary = "cAnArY4secretsNobodyMayRead"

// The users of the machine.
const (
	rootUID     = 0
	posternUID  = 900
	ejabberdUID = 901
	saslGID     = 45
)

const goodConfig = `
data_dir = "/var/lib/postern"
listen "ejabberd"  { address = "127.0.0.1:23662" }
listen "dovecot"   { address = "127.0.0.1:23668" }
listen "saslauthd" {
  address = "unix:/run/saslauthd/mux"
  group   = "sasl"
}
backend "users" "local" {}
domain "example.org" {
  backends = [backend.users.local]
  token "jsxc" { secrets = [file("/etc/postern/secret")] }
  token "totp" {
    seed    = file("/etc/postern/seed")
    secrets = [file("/etc/postern/secret")]
  }
}
metrics { address = "127.0.0.1:23669" }
log { file = "/var/log/postern/postern.log" }
`

const goodEjabberd = `
hosts:
  - example.org
auth_method: external
extauth_program: "/usr/bin/postern pipe --protocol ejabberd"
auth_use_cache: false   # postern has one
disable_sasl_mechanisms: ["X-OAUTH2"]
`

// machine is a simulated machine without faults, for tests to break.
type machine struct {
	*Env
	denied  map[string]bool // files that this user may not read
	files   map[string]File
	texts   map[string]string
	subject Subject
}

func dir(mode fs.FileMode, uid, gid int) File {
	return File{Mode: fs.ModeDir | mode, UID: uid, GID: gid}
}
func file(mode fs.FileMode, uid, gid int) File { return File{Mode: mode, UID: uid, GID: gid} }

func newMachine() *machine {
	m := &machine{
		files: map[string]File{
			"/": dir(0o755, 0, 0), "/etc": dir(0o755, 0, 0), "/var": dir(0o755, 0, 0), "/run": dir(0o755, 0, 0),
			"/etc/postern":               dir(0o755, 0, 0),
			"/etc/postern/config.hcl":    file(0o640, 0, posternUID),
			"/etc/postern/secret":        file(0o640, 0, posternUID),
			"/var/lib":                   dir(0o755, 0, 0),
			"/var/lib/postern":           dir(0o711, posternUID, posternUID),
			"/var/lib/postern/store":     dir(0o700, posternUID, posternUID),
			"/var/lib/postern/users":     file(0o600, posternUID, posternUID),
			"/var/log":                   dir(0o755, 0, 0),
			"/var/log/postern":           dir(0o750, posternUID, posternUID),
			"/run/saslauthd":             dir(0o710, posternUID, saslGID),
			"/usr/bin/postern":           file(0o755, 0, 0),
			"/etc/ejabberd":              dir(0o755, 0, 0),
			"/etc/ejabberd/ejabberd.yml": file(0o644, 0, 0),
			"/usr/sbin/ejabberdctl":      file(0o755, 0, 0),
		},
		texts: map[string]string{
			"/etc/postern/config.hcl": goodConfig, "/etc/postern/secret": canary, "/etc/postern/seed": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "/etc/ejabberd/ejabberd.yml": goodEjabberd,
		},
		subject: Subject{Version: "1.2", File: "/etc/postern/config.hcl", StoreDir: "/var/lib/postern/store"},
	}
	now := time.Date(2030, 5, 17, 12, 0, 0, 0, time.UTC)
	m.subject.Daemon = &Daemon{Info: &Info{
		Version: "1.2", PID: 4711, Started: now, Config: m.subject.File, Loaded: now,
		Listeners: []string{"ejabberd", "dovecot", "saslauthd"}, Metrics: "127.0.0.1:23669", Store: true,
	}}
	m.Env = &Env{
		Now: func() time.Time { return now }, UID: posternUID, Stat: m.stat, ReadFile: m.read,
		Probe:    func(string) error { return nil },
		Free:     func(string) (uint64, error) { return 10 << 30, nil },
		MaxFiles: func(int) (uint64, error) { return 65536, nil },
		UserName: func(uid int) string {
			return map[int]string{0: "root", posternUID: "postern", ejabberdUID: "ejabberd"}[uid]
		},
		Groups:  func(int) []int { return nil },
		Sockets: func() []string { return nil },
		GroupID: func(name string) (int, error) {
			if name != "sasl" {
				return 0, errors.New("no such group")
			}
			return saslGID, nil
		},
		UserID: func(name string) (int, error) {
			for uid, known := range map[int]string{0: "root", posternUID: "postern", ejabberdUID: "ejabberd"} {
				if known == name {
					return uid, nil
				}
			}
			return 0, errors.New("no such user")
		},
		Glob: func(pattern string) (found []string) {
			for path := range m.files {
				if ok, _ := filepath.Match(pattern, path); ok {
					found = append(found, path)
				}
			}
			return found
		},
		OpenDisk: func(string) error { return nil },
		Run:      func(context.Context, string, ...string) error { return nil },
		LookupHost: func(context.Context, string) ([]string, error) {
			return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
		},
		Dial:    func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no server is there") },
		Listen:  func(string, string) (net.Listener, error) { return silentListener{}, nil },
		Connect: connect,
	}
	return m
}

// connect makes the backend of a block.
func connect(b config.Backend, shape func(*backend.HTTPOptions)) (backend.Backend, error) {
	o := backend.HTTPOptions{URL: b.URL, CAFile: b.CAFile, UserAgent: "postern/test", ConnectTimeout: b.ConnectTimeout, Timeout: b.Timeout}
	shape(&o)
	switch b.Kind {
	case config.KindNextcloud:
		return backend.NewNextcloud(backend.NextcloudOptions{
			HTTPOptions: o, AdminUser: b.AdminUser, AdminPassword: b.AdminPassword, MaxDelay: b.MaxDelay,
		})
	case config.KindJSXC:
		return backend.NewJSXC(backend.JSXCOptions{HTTPOptions: o, Secret: b.Secret})
	case config.KindJSON:
		return backend.NewJSON(o)
	case config.KindOIDC:
		var scim *backend.SCIMOptions
		if b.OIDC.SCIMURL != "" {
			scim = &backend.SCIMOptions{URL: b.OIDC.SCIMURL, Token: b.OIDC.SCIMToken}
		}
		return backend.NewOIDC(backend.OIDCOptions{
			HTTPOptions: o, JWT: b.Accepts(config.AcceptJWT), Introspection: b.Accepts(config.AcceptIntrospection), PasswordGrant: b.Accepts(config.AcceptPasswordGrant),
			Audience: b.OIDC.Audience, UsernameClaim: b.OIDC.UsernameClaim, ClientID: b.OIDC.ClientID, ClientSecret: b.OIDC.ClientSecret, SCIM: scim,
		})
	}
	return noUsers{}, nil
}

// noUsers is a users file without users.
type noUsers struct{}

func (noUsers) Ask(context.Context, backend.Query) backend.Result {
	return backend.Result{Class: backend.Refused}
}
func (noUsers) Close() error { return nil }

// silentListener is a listener that accepts nothing.
type silentListener struct{ net.Listener }

func (silentListener) Close() error { return nil }

func (m *machine) stat(path string) (File, error) {
	f, there := m.files[filepath.Clean(path)]
	if !there {
		return File{}, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist}
	}
	return f, nil
}

func (m *machine) read(path string) ([]byte, error) {
	text, there := m.texts[path]
	if m.denied[path] {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
	}
	if !there {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return []byte(text), nil
}

// info is a File as package fs describes one.
type info struct{ File }

func (i info) Name() string       { return "" }
func (i info) Size() int64        { return i.File.Size }
func (i info) Mode() fs.FileMode  { return i.File.Mode }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.File.Mode.IsDir() }
func (i info) Sys() any           { return nil }

// replace replaces a part of a file's text.
func (m *machine) replace(path, from, to string) {
	m.texts[path] = strings.Replace(m.texts[path], from, to, 1)
}

// report examines the machine as it is now.
func (m *machine) report(t *testing.T) Report {
	t.Helper()
	if m.denied[m.subject.File] {
		m.subject.Problems = config.Problems{{File: m.subject.File, Message: "cannot read the configuration: permission denied", Denied: true}}
		r := NewReport(m.subject.Version, m.Now(), Run(t.Context(), m.Chains(m.subject)))
		holdsNoSecret(t, r)
		return r
	}
	m.subject.Config, m.subject.Problems = config.Parse(m.subject.File, []byte(m.texts[m.subject.File]), config.Env{
		ReadFile: m.read,
		Stat: func(path string) (fs.FileInfo, error) {
			f, err := m.stat(path)
			return info{f}, err
		},
	})
	r := NewReport(m.subject.Version, m.Now(), Run(t.Context(), m.Chains(m.subject)))
	holdsNoSecret(t, r)
	return r
}

func holdsNoSecret(t *testing.T, r Report) {
	t.Helper()
	for _, f := range r.Findings {
		if strings.Contains(f.Text+f.Cure, canary) || strings.Contains(f.Text+f.Cure, "GEZDGNBV") {
			t.Errorf("%s %s holds a secret: %s", f.Hop, f.Check, f.Text)
		}
		if bad := f.Status == Warning || f.Status == Failure; f.Text == "" || bad && f.Cure == "" || f.Status == OK && f.Cure != "" {
			t.Errorf("%s %s: %s %q, %q", f.Hop, f.Check, f.Status, f.Text, f.Cure)
		}
	}
}

// want describes an expected finding; text and cure are parts of its sentences.
type want struct {
	hop, check string
	status     Status
	text, cure string
}

// expect reports a missing finding, and what was found instead.
func (w want) expect(t *testing.T, r Report) {
	t.Helper()
	there := ""
	for _, f := range r.Findings {
		if f.Hop != w.hop || f.Check != w.check {
			continue
		}
		if f.Status == w.status && strings.Contains(f.Text, w.text) && strings.Contains(f.Cure, w.cure) {
			return
		}
		there += "\n" + string(f.Status) + ": " + f.Text + " -> " + f.Cure
	}
	t.Errorf("no %s of %s %s with %q and %q, but%s", w.status, w.hop, w.check, w.text, w.cure, there)
}

// bad counts warnings and failures.
func bad(r Report) int { return r.Failures + r.Warnings }
