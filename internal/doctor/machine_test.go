package doctor

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/unit"
)

// On a machine without faults all checks succeed and none is skipped.
func TestHealthy(t *testing.T) {
	r := newMachine().report(t)
	for _, f := range r.Findings {
		if f.Status != OK {
			t.Errorf("%s %s: %s: %s", f.Hop, f.Check, f.Status, f.Text)
		}
	}
	if r.Exit != 0 || r.Status != OK || len(r.Findings) < 20 {
		t.Errorf("exit status %d, %s, %d findings", r.Exit, r.Status, len(r.Findings))
	}
}

// alone removes the daemon, which is a failure of its own.
func alone(m *machine) { m.subject.Daemon = &Daemon{} }

const (
	dataDir = "/var/lib/postern"
	conf    = "/etc/postern/config.hcl"
	yml     = "/etc/ejabberd/ejabberd.yml"
)

// bcryptLine is a hash of bcrypt.
const bcryptLine = "$2b$04$Ov3rTheH1llsAndFarAway.uF1dd1erzGr33nAndTheDrumzOfW4r"

var errDisk = errors.New("input/output error")

// Each fault is found, with its cure, and nothing else is (others counts its consequences).
func TestFindings(t *testing.T) {
	for name, c := range map[string]struct {
		breaks func(m *machine)
		others int
		want   want
	}{
		"syntax": {func(m *machine) { m.texts[conf] = "domain {" }, 0,
			want{"configuration", "text", Failure, conf + ":1: ", ""}},
		"readable secret": {func(m *machine) { m.files["/etc/postern/secret"] = file(0o644, 0, 0) }, 0,
			want{"configuration", "text", Warning, "every user of this machine can read the secret", "chmod o-rwx /etc/postern/secret"}},
		"open listener": {func(m *machine) { m.replace(conf, "127.0.0.1:23662", "0.0.0.0:23662") }, 0,
			want{"configuration", "text", Warning, "in clear", "127.0.0.1"}},
		"configuration for all to write": {func(m *machine) { m.files[conf] = file(0o646, 0, posternUID) }, 0,
			want{"configuration", "mode", Failure, "can change", "chmod o-w"}},
		"configuration the daemon cannot read": {func(m *machine) { m.files[conf] = file(0o600, 0, 0) }, 0,
			want{"configuration", "mode", Failure, "postern, which postern runs as, cannot read " + conf, "chgrp"}},
		"configuration behind a closed door": {func(m *machine) { m.files["/etc/postern"] = dir(0o700, 0, 0) }, 0,
			want{"configuration", "mode", Failure, "cannot enter /etc/postern", "chmod o+x /etc/postern"}},
		"no data directory": {func(m *machine) { delete(m.files, dataDir); alone(m) }, 1,
			want{"files", "data-dir", Warning, "does not exist yet", "install -d"}},
		"data directory is a file": {func(m *machine) { m.files[dataDir] = file(0o600, posternUID, posternUID) }, 0,
			want{"files", "data-dir", Failure, "not a directory", "another data_dir"}},
		"data directory for all to write": {func(m *machine) { m.files[dataDir] = dir(0o777, posternUID, posternUID) }, 0,
			want{"files", "data-dir", Failure, "other users can write", "chmod go-w " + dataDir}},
		"data directory out of sight": {func(m *machine) {
			m.Stat = func(path string) (File, error) {
				if path == dataDir {
					return File{}, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrPermission}
				}
				return m.stat(path)
			}
		}, 0, want{"files", "data-dir", Failure, "permission denied", "sudo -u postern"}},
		"another user's data directory": {func(m *machine) { m.UID = rootUID }, 0,
			want{"files", "owner", Warning, "belongs to postern, but doctor runs as root", "sudo -u postern postern doctor"}},
		"little space": {func(m *machine) { m.Free = func(string) (uint64, error) { return 99 << 20, nil } }, 0,
			want{"files", "free-space", Warning, "99 MiB left", "free disk space"}},
		"no space": {func(m *machine) { m.Free = func(string) (uint64, error) { return 1 << 20, nil } }, 0,
			want{"files", "free-space", Failure, "1 MiB left", "free disk space"}},
		"no directory for the log": {func(m *machine) { delete(m.files, "/var/log/postern") }, 0,
			want{"files", "log", Failure, "/var/log/postern", "install -d"}},
		"log of another user": {func(m *machine) { m.files["/var/log/postern/postern.log"] = file(0o600, 0, 0) }, 0,
			want{"files", "log", Failure, "postern cannot write /var/log/postern/postern.log", "chown postern"}},
		"few files": {func(m *machine) { m.MaxFiles = func(int) (uint64, error) { return 1024, nil } }, 0,
			want{"files", "open-files", Warning, `the limit of the daemon is 1024 open files, less than max_connections of "ejabberd" (16384)`, "LimitNOFILE="}},
		"store for all to read": {func(m *machine) { m.files[dataDir+"/store"] = dir(0o755, posternUID, posternUID) }, 0,
			want{"store", "mode", Failure, "other users can enter " + dataDir + "/store (mode 0755)", "chmod 0700 " + dataDir + "/store"}},
		"store for a group to pass": {func(m *machine) { m.files[dataDir+"/store"] = dir(0o710, posternUID, posternUID) }, 0,
			want{"store", "mode", Failure, "mode 0710", "chmod 0700"}},
		"read-only disk": {func(m *machine) { m.Probe = func(string) error { return syscall.EROFS } }, 0,
			want{"store", "writable", Failure, "read-only file system", "ReadWritePaths="}},
		"failed store": {func(m *machine) { m.subject.Daemon.Info.StoreFailed = "disk full" }, 0,
			want{"store", "open", Failure, "disk full", "restart postern"}},
		"failed store on a read-only disk": {func(m *machine) {
			m.Probe = func(string) error { return syscall.EROFS }
			m.subject.Daemon.Info.StoreFailed = "disk full"
		}, 1, want{"store", "open", Failure, "disk full", "restart postern"}},
		"daemon without store": {func(m *machine) { m.subject.Daemon.Info.Store = false }, 0,
			want{"store", "open", Failure, "works from memory", "log says why"}},
		"damaged store": {func(m *machine) { alone(m); m.OpenDisk = func(string) error { return errDisk } }, 1,
			want{"store", "open", Failure, "input/output error", "move /var/lib/postern/store away"}},
		"no daemon": {alone, 0,
			want{"daemon", "running", Failure, "no listener is served", "systemctl enable --now postern"}},
		"only pipes": {func(m *machine) { m.subject.Daemon.Info.ForPipes = true }, 0,
			want{"daemon", "running", Failure, "it serves no listener", "start the daemon"}},
		"forbidden daemon": {func(m *machine) { m.subject.Daemon, m.UID = &Daemon{Err: os.ErrPermission}, ejabberdUID }, 1,
			want{"daemon", "running", Failure, "may not connect to it", "sudo -u postern postern doctor"}},
		"hung daemon": {func(m *machine) { m.subject.Daemon = &Daemon{Err: os.ErrDeadlineExceeded} }, 0,
			want{"daemon", "running", Failure, "does not answer", "restart"}},
		"old daemon": {func(m *machine) { m.subject.Daemon = &Daemon{Err: ErrOldDaemon} }, 0,
			want{"daemon", "version", Warning, "older version than this program (1.2)", "restart"}},
		"other version": {func(m *machine) { m.subject.Daemon.Info.Version = "1.1" }, 0,
			want{"daemon", "version", Warning, "the daemon is version 1.1, this program is 1.2", "restart"}},
		"other configuration": {func(m *machine) { m.subject.Daemon.Info.Config = "/etc/other.hcl" }, 0,
			want{"daemon", "loaded", Warning, "/etc/other.hcl", "--config"}},
		"not reloaded": {func(m *machine) { m.subject.Daemon.Info.Pending = []string{"domain a changed"} }, 0,
			want{"daemon", "loaded", Warning, "domain a changed", "postern reload"}},
		"daemon cannot reload": {func(m *machine) { m.subject.Daemon.Info.Unloadable = "cannot read it" }, 0,
			want{"daemon", "loaded", Failure, "cannot read it", "correct it"}},
		"unserved listener": {func(m *machine) { m.subject.Daemon.Info.Listeners = []string{"dovecot", "saslauthd"} }, 0,
			want{"listener.ejabberd", "address", Failure, "does not serve", "postern reload"}},
		"unserved metrics": {func(m *machine) { m.subject.Daemon.Info.Metrics = "" }, 0,
			want{"metrics", "address", Failure, "does not serve", "postern reload"}},
		"port of metrics in use": {func(m *machine) {
			alone(m)
			m.Listen = func(network, address string) (net.Listener, error) {
				if address != "127.0.0.1:23669" {
					return silentListener{}, nil
				}
				return nil, &net.OpError{Op: "listen", Net: network, Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
			}
		}, 1, want{"metrics", "address", Failure, "another program listens on 127.0.0.1:23669", "ss -ltnp"}},
		"port in use":   {listening(syscall.EADDRINUSE), 3, want{"listener.ejabberd", "address", Failure, "another program listens on 127.0.0.1:23662", "ss -ltnp"}},
		"low port":      {listening(syscall.EACCES), 3, want{"listener.ejabberd", "address", Failure, "may not listen", "above 1023"}},
		"wrong address": {listening(syscall.EADDRNOTAVAIL), 3, want{"listener.ejabberd", "address", Failure, "does not have the address", "correct"}},
		"no such group": {func(m *machine) { m.replace(conf, `"sasl"`, `"sals"`) }, 0,
			want{"listener.saslauthd", "group", Failure, "no group sals", "groupadd"}},
		"socket for all": {func(m *machine) { m.replace(conf, `group   = "sasl"`, `mode = "0666"`) }, 0,
			want{"listener.saslauthd", "group", Warning, "every user of this machine may connect", `mode = "0660"`}},
		"group shut out": {func(m *machine) { m.files["/run/saslauthd"] = dir(0o700, posternUID, saslGID) }, 0,
			want{"listener.saslauthd", "path", Failure, "members of group sasl cannot enter /run/saslauthd", "chgrp sasl /run/saslauthd"}},
		"socket of another mode": {func(m *machine) { m.files["/run/saslauthd/mux"] = file(fs.ModeSocket|0o600, posternUID, saslGID) }, 0,
			want{"listener.saslauthd", "path", Warning, "has mode 0600", "postern reload"}},
		"no socket": {func(m *machine) { alone(m); m.files["/run/saslauthd/mux"] = file(0o660, 0, saslGID) }, 1,
			want{"listener.saslauthd", "address", Failure, "is not a socket", "move it away"}},
		"other listener": {func(m *machine) {
			alone(m)
			m.files["/run/saslauthd/mux"] = file(fs.ModeSocket|0o660, 0, saslGID)
			m.Dial = dials
		}, 1, want{"listener.saslauthd", "address", Failure, "another program listens on /run/saslauthd/mux", "saslauthd?"}},
		"busy listener": {otherSocket(syscall.EAGAIN), 1,
			want{"listener.saslauthd", "address", Failure, "may be listening on /run/saslauthd/mux", "remove the file"}},
		"listener of another user": {otherSocket(syscall.EACCES), 1,
			want{"listener.saslauthd", "address", Failure, "permission denied", "stop it"}},
		"no directory of the socket": {func(m *machine) { alone(m); delete(m.files, "/run/saslauthd") }, 1,
			want{"listener.saslauthd", "address", Warning, "/run/saslauthd does not exist", "create it"}},
		"readable hashes": {func(m *machine) { m.files[dataDir+"/users"] = file(0o644, posternUID, posternUID) }, 0,
			want{"backend.users.local", "file", Failure, "can read the password hashes", "chmod o-rwx"}},
		"hashes for a group to write": {func(m *machine) { m.files[dataDir+"/users"] = file(0o660, posternUID, posternUID) }, 0,
			want{"backend.users.local", "file", Failure, "can change the passwords", "chmod go-w"}},
		"no users": {func(m *machine) { delete(m.files, dataDir+"/users") }, 0,
			want{"backend.users.local", "file", Warning, "no users yet", "postern user add"}},
		"lines of a users file": {func(m *machine) {
			m.files[dataDir+"/users"] = file(0o600, posternUID, posternUID)
			m.texts[dataDir+"/users"] = "# users\nalice@example.org:" + bcryptLine + "\nbob@example.org:" + canary + "\neve@example.org:{SHA}" + canary + "\nalice@example.org:" + bcryptLine + "\n"
		}, 0, want{"backend.users.local", "lines", Failure, "line 3: not a usable bcrypt hash: length is not 60, and 2 more lines like it", "postern user passwd"}},
		"ejabberd offers X-OAUTH2": {func(m *machine) { m.replace(yml, "disable_sasl_mechanisms", "# disable_sasl_mechanisms") }, 0,
			want{"ejabberd", "auth", Warning, "X-OAUTH2", "disable_sasl_mechanisms"}},
		"ejabberd bans": {func(m *machine) { m.replace(yml, "auth_method", "modules:\n  mod_fail2ban: {}\nauth_method") }, 0,
			want{"ejabberd", "auth", Warning, "mod_fail2ban", "unban_ip"}},
		"no listener at all": {func(m *machine) {
			m.texts[conf] = "backend \"users\" \"local\" {}\ndomain \"example.org\" { backends = [backend.users.local] }"
			m.replace(yml, "postern pipe", "postern serve")
			m.subject.Daemon.Info.Listeners = nil
		}, 1, want{"listener", "any", Warning, "no server can ask", "systemctl enable --now postern-ejabberd.socket"}},
		"a proxy that is not used": {func(m *machine) {
			m.texts[conf] += "\nbackend \"json\" \"app\" { url = \"https://app.example/\" }\n"
			m.UnusedProxy = func(url string) string { return map[string]string{"https://app.example/": "HTTPS_PROXY"}[url] }
		}, 2, want{"proxy", "environment", Warning, "HTTPS_PROXY is set, but not used by backend.json.app", "proxy ="}},
		"a registered domain's server": {func(m *machine) {
			for _, name := range []string{"a.example", "b.example"} {
				m.subject.Registered = append(m.subject.Registered, Registered{
					Backend: config.Backend{BackendRef: config.BackendRef{Kind: "json", Name: name}, URL: "https://app.example/"}, Domain: config.Domain{Name: name},
				})
			}
		}, 0, want{"backend.json.a.example", "dns", Failure, "no host app.example", "DNS record"}},
		"a registered domain's secret": {func(m *machine) {
			for name, secret := range map[string]string{"a.example": "short", "b.example": "0123456789abcdef"} {
				m.subject.Registered = append(m.subject.Registered, Registered{Domain: config.Domain{
					Name: name, JSXC: &config.JSXCToken{Secrets: []auth.Secret{auth.NewSecret(secret)}},
				}})
			}
		}, 0, want{"tokens", "registered", Warning, "1 registered domain with an API secret of fewer than 16 bytes", "postern domain set"}},
		"short secret": {func(m *machine) { m.texts["/etc/postern/secret"] = "hunter2" }, 1,
			want{"tokens", "jsxc", Warning, "only 7 bytes", "openssl rand"}},
		"short seed": {func(m *machine) { m.texts["/etc/postern/seed"] = "GEZDGNBVGY3TQOJQ" }, 0,
			want{"tokens", "totp-seed", Warning, "only 10 bytes", "base32"}},
		"ejabberd's cache": {func(m *machine) { m.replace(yml, "auth_use_cache: false", "auth_use_cache: true") }, 0,
			want{"ejabberd", "auth", Warning, "a cache of its own", "auth_use_cache: false"}},
		"ejabberd's cache, by default": {func(m *machine) { m.replace(yml, "auth_use_cache: false", "#auth_use_cache: false") }, 0,
			want{"ejabberd", "auth", Warning, "a cache of its own", "auth_use_cache: false"}},
		"relative program": {func(m *machine) { m.replace(yml, "/usr/bin/postern", "postern") }, 0,
			want{"ejabberd", "auth", Failure, "not an absolute path", "whole path"}},
		"program not there": {func(m *machine) { delete(m.files, "/usr/bin/postern") }, 0,
			want{"ejabberd", "auth", Failure, "does not exist: /usr/bin/postern", "install it"}},
		"program not executable": {func(m *machine) { m.files["/usr/bin/postern"] = file(0o644, 0, 0) }, 0,
			want{"ejabberd", "auth", Failure, "cannot be executed", "chmod 755"}},
		"program without pipe": {func(m *machine) { m.replace(yml, " pipe", " serve") }, 0,
			want{"ejabberd", "auth", Failure, "not its pipe", "pipe --protocol ejabberd"}},
		"no program": {func(m *machine) { m.replace(yml, "/usr/bin/postern pipe --protocol ejabberd", "") }, 0,
			want{"ejabberd", "auth", Failure, "is empty", "pipe --protocol ejabberd"}},
		"no such ejabberd": {func(m *machine) { m.subject.Ejabberd = "/nowhere.yml" }, 0,
			want{"ejabberd", "auth", Warning, "/nowhere.yml cannot be read", "--ejabberd"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine()
			c.breaks(m)
			r := m.report(t)
			c.want.expect(t, r)
			if n := bad(r); n != c.others+1 {
				t.Errorf("%d findings that are not well, want %d", n, c.others+1)
				for _, f := range r.Findings {
					if f.Status != OK {
						t.Logf("%s %s: %s: %s", f.Hop, f.Check, f.Status, f.Text)
					}
				}
			}
			again := newMachine()
			again.subject.Flags = " --config " + conf
			c.breaks(again)
			namesConfig(t, again.report(t))
			worst := map[Status]int{Warning: 1, Failure: 2}[c.want.status]
			if r.Exit < worst {
				t.Errorf("exit status %d, want at least %d", r.Exit, worst)
			}
		})
	}
}

// namesConfig reports commands in cures that are not about the configuration that was examined.
func namesConfig(t *testing.T, r Report) {
	t.Helper()
	command := regexp.MustCompile(`postern (?:doctor|reload|serve|user add \S+)( --config ` + conf + `)?`)
	for _, f := range r.Findings {
		for _, m := range command.FindAllStringSubmatch(f.Cure, -1) {
			if m[1] == "" {
				t.Errorf("%s %s: of another configuration: %s", f.Hop, f.Check, f.Cure)
			}
		}
	}
}

// Commands in cures name the configuration that is examined, and the user that postern runs as: that of the
// service, if systemd starts it with this configuration, or else the owner of the data directory.
func TestCures(t *testing.T) {
	const flags = " --config /srv/other.hcl"
	for name, c := range map[string]struct {
		breaks func(m *machine)
		want   string // doctor; reload; start; restart
	}{
		"of the service": {enabled, "postern doctor; postern reload; sudo systemctl enable --now postern; restart it: sudo systemctl restart postern"},
		"asked by root": {func(m *machine) { enabled(m); m.UID = rootUID },
			"sudo -u postern postern doctor; postern reload; systemctl enable --now postern; restart it: systemctl restart postern"},
		"asked by another": {func(m *machine) { enabled(m); m.UID = ejabberdUID },
			"sudo -u postern postern doctor; sudo -u postern postern reload; sudo systemctl enable --now postern; restart it: sudo systemctl restart postern"},
		"no unit": {func(m *machine) {}, "postern doctor; postern reload; sudo systemctl enable --now postern, or postern serve; restart it: sudo systemctl restart postern"},
		"another configuration": {func(m *machine) { enabled(m); m.subject.Flags = flags },
			"postern doctor" + flags + "; postern reload" + flags + "; postern serve" + flags + "; restart it: stop it, then postern serve" + flags},
		"of another user": {func(m *machine) {
			enabled(m)
			m.subject.Flags, m.files[dataDir] = flags, dir(0o711, ejabberdUID, ejabberdUID)
		}, "sudo -u ejabberd postern doctor" + flags + "; sudo -u ejabberd postern reload" + flags + "; sudo -u ejabberd postern serve" + flags +
			"; restart it: stop it, then sudo -u ejabberd postern serve" + flags},
		"of root": {func(m *machine) { m.subject.Flags, m.files[dataDir] = flags, dir(0o711, rootUID, 0) },
			"sudo postern doctor" + flags + "; sudo postern reload" + flags + "; sudo postern serve" + flags + "; restart it: stop it, then sudo postern serve" + flags},
		"without a directory": {func(m *machine) { m.subject.Flags = flags; delete(m.files, dataDir) },
			"postern doctor" + flags + "; postern reload" + flags + "; postern serve" + flags + "; restart it: stop it, then postern serve" + flags},
	} {
		m := newMachine()
		c.breaks(m)
		m.report(t) // sets the subject's configuration
		e := *m.Env
		e.unit = m.subject.Service
		cure := e.newCures(m.subject)
		_, command, _ := strings.Cut(cure.doctor(), ": ")
		if got := strings.Join([]string{command, cure.reload(), cure.start(), cure.restart()}, "; "); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
		}
	}
}

// listening makes binding any port fail, without a daemon.
func listening(err error) func(m *machine) {
	return func(m *machine) {
		alone(m)
		m.Listen = func(network, address string) (net.Listener, error) {
			return nil, &net.OpError{Op: "listen", Net: network, Err: os.NewSyscallError("bind", err)}
		}
	}
}

// otherSocket creates a socket file to which connections fail.
func otherSocket(err error) func(m *machine) {
	return func(m *machine) {
		alone(m)
		m.files["/run/saslauthd/mux"] = file(fs.ModeSocket|0o660, 0, saslGID)
		m.Dial = func(_ context.Context, network, _ string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", err)}
		}
	}
}

// A leftover socket file is not a fault.
func TestSocketOfBefore(t *testing.T) {
	m := newMachine()
	otherSocket(syscall.ECONNREFUSED)(m)
	want{"listener.saslauthd", "address", OK, "will be replaced", ""}.expect(t, m.report(t))
}

// A missing daemon is not a fault if all listeners are systemd's.
func TestNoDaemonNeeded(t *testing.T) {
	m := newMachine()
	alone(m)
	m.texts[conf] = `
backend "users" "local" {}
listen "ejabberd" { address = "systemd:ejabberd" }
domain "example.org" { backends = [backend.users.local] }`
	r := m.report(t)
	want{"daemon", "running", OK, "none is needed", ""}.expect(t, r)
	want{"listener.ejabberd", "address", Skipped, "systemd opens", ""}.expect(t, r)
	if bad(r) != 0 {
		t.Errorf("%+v", r.Findings)
	}
}

// The store is examined even if only registered domains or shared rosters need it.
func TestStoreWithoutDiskCache(t *testing.T) {
	for name, more := range map[string]string{"registry": "}\nregistry {}", "roster": "roster \"ejabberd\" {\n ejabberdctl = \"/usr/sbin/ejabberdctl\"\n }\n}"} {
		t.Run(name, func(t *testing.T) {
			m := newMachine()
			m.texts[conf] = `
backend "jsxc" "cloud" {
  url    = "https://cloud.example.org/"
  secret = "0123456789012345678901234567890123456789"
}
domain "example.org" {
  backends = [backend.jsxc.cloud]
  cache { storage = "memory" }
  ` + more
			m.subject.Daemon.Info.StoreFailed = "disk full"
			want{"store", "open", Failure, "disk full", "restart postern"}.expect(t, m.report(t))
		})
	}
}

// Only the owner of the data directory writes in it. Root does not, since the owner could not
// replace root's files. Nothing is tried that a daemon may be using.
func TestHandsOff(t *testing.T) {
	for name, breaks := range map[string]func(m *machine){
		"root": func(m *machine) { alone(m); m.UID = rootUID },
		"daemon": func(m *machine) {
			m.files[dataDir] = dir(0o711, 1, 1)
			m.subject.Daemon = &Daemon{Err: os.ErrPermission}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine()
			breaks(m)
			m.Probe = func(dir string) error { t.Errorf("wrote in %s", dir); return nil }
			m.OpenDisk = func(dir string) error { t.Errorf("opened %s", dir); return nil }
			if name == "daemon" {
				m.Listen = func(_, address string) (net.Listener, error) {
					t.Errorf("bound %s", address)
					return silentListener{}, nil
				}
			}
			want{"store", "open", Skipped, "not opened", ""}.expect(t, m.report(t))
		})
	}
}

// Listeners of protocols that do not carry the client's address are named.
func TestBlindListeners(t *testing.T) {
	want{"clients", "addresses", OK, "limits there count users only: ejabberd", ""}.expect(t, newMachine().report(t))
}

// The owner of the data directory may read the configuration as a member of any of its groups.
func TestOwnersGroups(t *testing.T) {
	m := newMachine()
	m.files[conf] = file(0o640, 0, saslGID)
	want{"configuration", "mode", Failure, "cannot read", "chgrp"}.expect(t, m.report(t))
	m.Groups = func(uid int) []int { return map[int][]int{posternUID: {7, saslGID}}[uid] }
	want{"configuration", "mode", OK, "readable for postern", ""}.expect(t, m.report(t))
}

// Every outcome for any text as ejabberd's configuration is complete.
func FuzzEjabberd(f *testing.F) {
	for _, seed := range []string{goodEjabberd, "extauth_program:", "extauth_program: \"\"\nuse_cache: no", "- extauth_program: x # y", ":::\n#"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m := newMachine()
		for _, o := range m.ejabberdConfig(yml, text) {
			if o.Text == "" || (o.Status == OK) != (o.Cure == "") {
				t.Errorf("%q: %+v", text, o)
			}
		}
	})
}

// The domain of the user that --as names is examined though its server is one of another domain, and without
// the daemon registered domains are not known.
func TestRegisteredUser(t *testing.T) {
	m := newMachine()
	for _, name := range []string{"a.example", "b.example", "c.example"} {
		m.subject.Registered = append(m.subject.Registered, Registered{
			Backend: config.Backend{BackendRef: config.BackendRef{Kind: "json", Name: name}, URL: "https://app.example/"}, Domain: config.Domain{Name: name},
		})
	}
	m.subject.Known = KnownUser{User: "ann", Domain: "b.example"}
	r := m.report(t)
	want{"backend.json.b.example", "dns", Failure, "no host", ""}.expect(t, r)
	want{"registry", "domains", OK, "3 registered domains on 1 server", ""}.expect(t, r)
	m = newMachine()
	m.texts[conf] += "registry {}\n"
	alone(m)
	want{"registry", "domains", Skipped, "not known without the daemon", "while the daemon runs"}.expect(t, m.report(t))
}

// enabled is a machine whose service is enabled, and runs as postern.
func enabled(m *machine) {
	m.files["/etc/systemd/system/multi-user.target.wants/postern.service"] = file(0o777, 0, 0)
	m.subject.Service.Unit = unit.Service{File: "/usr/lib/systemd/system/postern.service", User: "postern"}
}

// The data directory was given to ejabberd, but the service runs as postern: each user sees the one cure, and
// nothing that sends to another user or gives more to ejabberd.
func TestDirectoryOfAnother(t *testing.T) {
	for name, uid := range map[string]int{"root": rootUID, "postern": posternUID, "ejabberd": ejabberdUID} {
		t.Run(name, func(t *testing.T) {
			m := newMachine()
			enabled(m)
			m.UID = uid
			m.files[dataDir] = dir(0o700, ejabberdUID, ejabberdUID)
			m.subject.Daemon = &Daemon{}
			m.subject.DataDir = dataDir
			if uid == posternUID {
				m.subject.Daemon = &Daemon{Err: os.ErrPermission} // the pipes' broker
			}
			if uid == ejabberdUID {
				m.denied = map[string]bool{conf: true}
			}
			r := m.report(t)
			want{"files", "owner", Failure, "/var/lib/postern belongs to ejabberd, but postern.service runs as postern", "sudo chown -R postern: /var/lib/postern && sudo systemctl restart postern"}.expect(t, r)
			for _, f := range r.Findings {
				if strings.Contains(f.Text+f.Cure, "sudo -u ejabberd") || strings.Contains(f.Cure, "group of ejabberd") || strings.Contains(f.Cure, "chown ejabberd") {
					t.Errorf("%s %s sends elsewhere: %s: %s", f.Hop, f.Check, f.Text, f.Cure)
				}
			}
		})
	}
	m := newMachine() // without the service the owner is right
	m.files[dataDir] = dir(0o711, ejabberdUID, ejabberdUID)
	m.UID = ejabberdUID
	want{"files", "owner", OK, "belongs to ejabberd, the user that doctor runs as", ""}.expect(t, m.report(t))
	m = newMachine() // whose user a drop-in changes
	enabled(m)
	m.files[dataDir] = dir(0o711, ejabberdUID, ejabberdUID)
	m.subject.Service.Unit.User = "ejabberd"
	want{"files", "owner", Warning, "belongs to ejabberd, but doctor runs as postern", "sudo -u ejabberd postern doctor"}.expect(t, m.report(t))
}

// Lines that are commented out are no options.
func TestEjabberdOptions(t *testing.T) {
	options, keep := ejabberdOptions("#extauth_program: \"/usr/bin/postern pipe\"\n  - extauth_program: '/usr/bin/other' # postern pipe\nauth_method: external\n")
	if got := options["extauth_program"]; len(got) != 1 || got[0] != "/usr/bin/other" {
		t.Errorf("programs %q", got)
	}
	if len(keep) != 2 || options["auth_method"][0] != "external" {
		t.Errorf("%q, %q", options, keep)
	}
}

// An ejabberd beside the daemon needs a listener that admits its user.
func TestEjabberdBeside(t *testing.T) {
	for name, c := range map[string]struct {
		config string
		want   want
	}{
		"none":    {"", want{"ejabberd", "pipe", Failure, "has no listener at /run/postern/relay.sock", `listen "relay" {}`}},
		"alone":   {"listen \"relay\" {}\n", want{"ejabberd", "pipe", OK, "may not register", ""}},
		"changes": {"listen \"relay\" { changes = true }\n", want{"ejabberd", "pipe", OK, "asks the daemon", ""}},
		"changes of another": {"listen \"relay\" {\nusers = [\"ejabberd\", \"prosody\"]\nchanges = [\"prosody\"]\n}\n",
			want{"ejabberd", "pipe", OK, "may not register", ""}},
		"of its owner":      {"listen \"relay\" {\nowner = \"ejabberd\"\nmode = \"0600\"\n}\n", want{"ejabberd", "pipe", OK, "asks the daemon", ""}},
		"for another":       {"listen \"relay\" { users = [\"dovecot\"] }\n", want{"ejabberd", "pipe", Failure, "does not admit the user ejabberd", "users"}},
		"for another group": {"listen \"relay\" { group = \"sasl\" }\n", want{"ejabberd", "pipe", Failure, "does not admit the user ejabberd", "users"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine()
			enabled(m)
			m.texts[conf] += c.config
			m.subject.Daemon.Info.Listeners = append(m.subject.Daemon.Info.Listeners, "relay")
			c.want.expect(t, m.report(t))
		})
	}
	for name, c := range map[string]struct {
		says string
		err  error
		want want
	}{
		"not running": {"", syscall.ENOENT, want{"ejabberd", "pipe", Failure, "/run/postern/relay.sock", "systemctl start postern"}},
		"closed":      {"", nil, want{"ejabberd", "pipe", Failure, "closes the connections of ejabberd's user", "users there"}},
		"served":      {"pr/2", nil, want{"ejabberd", "pipe", OK, "asks the daemon", ""}},
	} {
		t.Run("as ejabberd: "+name, func(t *testing.T) {
			m := newMachine()
			enabled(m)
			m.UID, m.denied, m.subject.DataDir = ejabberdUID, map[string]bool{conf: true}, dataDir
			m.subject.Daemon = &Daemon{Err: os.ErrPermission}
			m.Dial = func(context.Context, string, string) (net.Conn, error) {
				if c.err != nil {
					return nil, c.err
				}
				ours, theirs := net.Pipe()
				go func() {
					_, _ = theirs.Write([]byte(c.says))
					_ = theirs.Close()
				}()
				return ours, nil
			}
			r := m.report(t)
			c.want.expect(t, r)
			want{"configuration", "text", Skipped, "permission denied", "sudo -u postern postern doctor"}.expect(t, r)
			if n := bad(r); n != map[bool]int{true: 1}[c.says == ""] {
				t.Errorf("%d findings that are not well", n)
			}
		})
	}
}
