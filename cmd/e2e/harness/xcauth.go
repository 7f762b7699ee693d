package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"postern/internal/auth/passhash"
)

// Xcauth is the files of an xcauth installation: a database made by SQL and a configuration file.
type Xcauth struct {
	Dir, Conf, DB string
}

// NewXcauth makes the files of an xcauth for a server's URL and secret, and more of its settings.
func NewXcauth(t *testing.T, url, secret, more string) Xcauth {
	t.Helper()
	w := Xcauth{Dir: t.TempDir()}
	w.Conf, w.DB = filepath.Join(w.Dir, "xcauth.conf"), filepath.Join(w.Dir, "xcauth.sqlite3")
	w.SQL(t, xcauthSchema)
	log := filepath.Join(w.Dir, "log")
	if err := os.Mkdir(log, 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("# made by hand\n[xcauth]\nurl=%s\nsecret: %s\ndb = %s ; here\nlog %s\ncache-storage=db\n%s", url, secret, w.DB, log, more)
	if err := os.WriteFile(w.Conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

// XcauthDown is an xcauth with joe's password in its database and a server that is down.
func XcauthDown(t *testing.T, more string) Xcauth {
	t.Helper()
	w := NewXcauth(t, DeadURL(t)+"/api", "cAnArY-of-the-server", more)
	w.Knows(t, "joe@dom.example", "secret", time.Minute)
	return w
}

// xcauthSchema makes the tables of xcauth 2.0.
const xcauthSchema = `
CREATE TABLE domains (xmppdomain TEXT PRIMARY KEY, authsecret TEXT, authurl TEXT, authdomain TEXT, regcontact TEXT,
  regfirst TEXT DEFAULT CURRENT_TIMESTAMP, reglatest TEXT DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE authcache (jid TEXT PRIMARY KEY, pwhash TEXT, firstauth TEXT DEFAULT CURRENT_TIMESTAMP,
  remoteauth TEXT DEFAULT CURRENT_TIMESTAMP, anyauth TEXT DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE rosterinfo (jid TEXT PRIMARY KEY, fullname TEXT, grouplist TEXT, responsehash TEXT, last_update TEXT);
CREATE TABLE rostergroups (groupname TEXT PRIMARY KEY, userlist TEXT);
`

// HashOf is a hash as Python's bcrypt writes it.
func HashOf(t *testing.T, password string) string {
	t.Helper()
	hash, err := passhash.New(password, 4)
	if err != nil {
		t.Fatal(err)
	}
	return "$2b$" + hash[4:]
}

// SQL runs statements on the database.
func (w Xcauth) SQL(t *testing.T, text string) {
	t.Helper()
	if r := RunCommand(t, text, Program(t, "sqlite3"), "-bail", w.DB); r.Code != 0 {
		t.Fatalf("sqlite3: %s", r.Err)
	}
}

// Knows puts an account into xcauth's cache, with a password that was verified some time ago.
func (w Xcauth) Knows(t *testing.T, jid, password string, ago time.Duration) {
	t.Helper()
	at := time.Now().UTC().Add(-ago).Format("2006-01-02 15:04:05.999999")
	w.SQL(t, fmt.Sprintf("INSERT INTO authcache VALUES ('%s', '%s', '2019-01-01 00:00:00', '%s', '%s');", jid, HashOf(t, password), at, at))
}

// Imports runs `postern import xcauth` on the files and returns what it prints.
func (w Xcauth) Imports(t *testing.T, args ...string) string {
	t.Helper()
	return OK(t, "", append([]string{"import", "xcauth", "--conf", w.Conf}, args...)...)
}

// Home is the directory of the broker that copies have started.
func (w Xcauth) Home(t *testing.T) string {
	t.Helper()
	homes, _ := filepath.Glob(filepath.Join(w.Dir, "postern-*"))
	if len(homes) != 1 {
		t.Fatalf("the brokers' directories: %v, want one", homes)
	}
	return homes[0]
}

// OwnerEnds waits for the end of the broker that copies have started, which uses its directory
// until then.
func (w Xcauth) OwnerEnds(t *testing.T) {
	t.Helper()
	locks, _ := filepath.Glob(filepath.Join(w.Dir, "postern-*", OwnerLock))
	for _, lock := range locks {
		if owner := OwnerOf(t, filepath.Dir(lock)); owner != 0 {
			WaitFor(t, "the end of the owner", func() bool { return !Alive(owner) })
		}
	}
}

// CalledAs is the program under test under another name.
func CalledAs(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(Binary, path); err != nil {
		t.Fatal(err)
	}
	return path
}
