package actors

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// moduleConn is a connection of mod_auth_postern.
type moduleConn struct {
	t  testing.TB
	c  client
	in *bufio.Reader
}

func (r *rig) moduleConn(address string) *moduleConn {
	r.t.Helper()
	c := r.dial(address)
	return &moduleConn{r.t, c, bufio.NewReader(c)}
}

func (m *moduleConn) send(text string) {
	m.t.Helper()
	if _, err := m.c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(text))), text...)); err != nil {
		m.t.Fatal(err)
	}
}

// frame reads one frame, and shows the time in it as "new" if it is not zero.
func (m *moduleConn) frame() string {
	m.t.Helper()
	size := make([]byte, 2)
	if _, err := io.ReadFull(m.in, size); err != nil {
		m.t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(size))
	if _, err := io.ReadFull(m.in, body); err != nil {
		m.t.Fatal(err)
	}
	if len(body) < 10 {
		return fmt.Sprint(body)
	}
	age := "never"
	if ms := int64(binary.BigEndian.Uint64(body[2:])); ms > 0 {
		age = "new"
		if d := time.Since(time.UnixMilli(ms)); d < -time.Hour || d > time.Hour {
			age = d.String()
		}
	}
	if body[0] == 'P' {
		return fmt.Sprintf("%s %c %s", body[10:], body[1], age)
	}
	return fmt.Sprintf("%v %s", body[:2], age)
}

func (m *moduleConn) want(frames ...string) {
	m.t.Helper()
	for _, want := range frames {
		if got := m.frame(); got != want {
			m.t.Errorf("read %q, want %q", got, want)
		}
	}
}

func (m *moduleConn) ask(text, want string) {
	m.t.Helper()
	m.send(text)
	m.want(want)
}

// accounts is a backend with one user, joe.
type accounts struct {
	sync.Mutex
	password string
	absent   bool
	disabled bool
}

func (a *accounts) ask(_ context.Context, q backend.Query) backend.Result {
	a.Lock()
	defer a.Unlock()
	switch {
	case a.absent && q.Op != auth.OpTryRegister:
		return backend.Result{Class: backend.Refused, Absent: true, Known: q.Op == auth.OpIsUser}
	case q.Op == auth.OpAuth && a.disabled:
		return backend.Result{Class: backend.Refused, Known: true, Disabled: true}
	case q.Op == auth.OpAuth && q.Secret.Reveal() != a.password:
		return backend.Result{Class: backend.Refused}
	case q.Op == auth.OpSetPass:
		a.password = q.Secret.Reveal()
	case q.Op == auth.OpRemoveUser:
		a.absent = true
	case q.Op == auth.OpTryRegister:
		a.password, a.absent = q.Secret.Reveal(), false
	}
	return backend.Result{Class: backend.Accepted, Known: true, Disabled: a.disabled}
}

func (a *accounts) change(do func()) {
	a.Lock()
	defer a.Unlock()
	do()
}

// TestWatch: a connection that watches a domain is told of each change that ends what was issued for an
// account, and of nothing else, between the answers.
func TestWatch(t *testing.T) {
	a := &accounts{password: "first"}
	r := newRig(t, func(s *setup) { withTokens(s); s.fake.ask = a.ask })
	l := listenerBlock("ejabberd")
	l.Changes = true
	m := r.moduleConn(r.listen(l))
	const account = "account:joe:dom.example"
	login := func(password string) string { return "login:joe:dom.example:xmpp 192.0.2.1 " + password }
	const yes, no = "[0 1]", "[0 0]"
	m.ask("watch:0:dom.example", "[1 1]") // there are one-time tokens
	m.ask("isuser:joe:dom.example", yes)
	m.ask(account, "[0 1] never")
	m.ask(login("first"), yes)
	m.ask(login("wrong"), no)
	m.ask(account, "[0 1] never")
	m.ask("account:joe:DOM.example.", "[0 1] never")

	// A new password beside the old one is none; the refusal of one that was accepted is.
	a.change(func() { a.password = "second" })
	m.ask(login("second"), yes)
	m.ask(account, "[0 1] never")
	m.send(login("first"))
	r.wantBoth(m, no, "joe c new")
	m.ask(login("first"), no)
	m.ask(account, "[0 1] new")

	m.send("setpass:joe:dom.example:third")
	r.wantBoth(m, yes, "joe c new")
	if err := r.ForgetUser(context.Background(), joeOf("Joe")); err != nil {
		t.Fatal(err)
	}
	m.want("joe c new")
	if err := r.ForgetDomain(context.Background(), "dom.example"); err != nil {
		t.Fatal(err)
	}
	m.want(" c new")
	m.ask("account:ann:dom.example", "[0 1] new")

	// Disabled at the backend, noticed by the question for a login without password.
	m.ask(account, "[0 1] new")
	a.change(func() { a.disabled = true })
	m.ask(account, "[0 1] new") // it is not asked again for a moment
	r.clock.advance(2 * time.Minute)
	m.send(account)
	r.wantBoth(m, "[0 3] new", "joe d new")
	m.ask(login("third"), no)
	a.change(func() { a.disabled = false })
	r.clock.advance(10 * time.Minute) // the refusal is forgotten
	m.ask(login("third"), yes)
	m.ask(account, "[0 1] new")

	m.send("removeuser:joe:dom.example")
	r.wantBoth(m, yes, "joe r new")
	m.ask(account, "[0 0] new")
	m.ask("tryregister:joe:dom.example:fourth", yes)
	m.ask(account, "[0 1] new")

	// Another connection gets what it has missed, and no other domain's.
	n := r.moduleConn(r.listen(listenerBlock("ejabberd")))
	n.ask("watch:1:dom.example", "[1 1]")
	got := map[string]bool{n.frame(): true, n.frame(): true}
	if !got["joe r new"] || !got[" c new"] {
		t.Errorf("missed %v", got)
	}
	n.ask("watch:0:other.example", "[0 1]")
	m.send("setpass:joe:dom.example:fifth")
	r.wantBoth(m, yes, "joe c new")
	n.ask("isuser:joe:dom.example", yes)
}

func joeOf(user string) auth.Identity { return auth.Identity{User: user, Domain: "dom.example"} }

// wantBoth reads an answer and a report, which may come in either order.
func (r *rig) wantBoth(m *moduleConn, answer, report string) {
	r.t.Helper()
	got := []string{m.frame(), m.frame()}
	if got[0] == report {
		got[0], got[1] = got[1], got[0]
	}
	if got[0] != answer || got[1] != report {
		r.t.Errorf("read %q, want %q and %q", got, answer, report)
	}
}

// TestChangesAreKept: a change is known after a restart, also where the cache has forgotten the account.
func TestChangesAreKept(t *testing.T) {
	disk := openStore(t)
	a := &accounts{password: "good"}
	for i, want := range []string{"[0 1] never", "[0 1] new"} {
		r := newRig(t, func(s *setup) { onDisk(s, disk); s.fake.ask = a.ask })
		m := r.moduleConn(r.listen(listenerBlock("ejabberd")))
		m.ask("account:joe:dom.example", want)
		if i == 0 {
			if err := r.ForgetUser(context.Background(), joeOf("joe")); err != nil {
				t.Fatal(err)
			}
		}
		r.stop()
	}
}

// TestClientOfTheModule: the address that the module passes on is the one that is limited, and logged with
// the login.
func TestClientOfTheModule(t *testing.T) {
	r := newRig(t, func(s *setup) {
		s.cfg.Domains[0].Limit = config.Limit{UserRefusals: 100, AddressRefusals: 3, Window: 10 * time.Minute,
			FirstPause: time.Minute, LongestPause: 15 * time.Minute}
	})
	m := r.moduleConn(r.listen(listenerBlock("ejabberd")))
	for i := range 3 {
		m.ask(fmt.Sprintf("login:user%d:dom.example:xmpp 192.0.2.1 wrong", i), "[0 0]")
	}
	asked := r.fake.asked.Load()
	m.send("login:joe:dom.example:xmpp 192.0.2.1 good")
	if got := m.frame(); got == "[0 1]" || r.fake.asked.Load() != asked {
		t.Errorf("answered %s from a limited address", got)
	}
	m.ask("login:joe:dom.example:xmpp 192.0.2.2 good", "[0 1]")
	m.ask("login:ann:dom.example:xmpp - good", "[0 1]")
	eventually(t, "the address in the log", func() bool { return strings.Contains(r.log.String(), "client=192.0.2.1") })
}
