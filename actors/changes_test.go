package actors

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// changeFrames are the requests that change joe, as ejabberd sends them.
var changeFrames = []string{
	"setpass:joe:dom.example:new", "tryregister:joe:dom.example:new", "removeuser:joe:dom.example", "removeuser3:joe:dom.example:good",
}

func ejabberdFrame(text string) string {
	return string([]byte{byte(len(text) >> 8), byte(len(text))}) + text
}

// TestChangesNeedPermission: a listener takes changes only if its block says so. A refusal is not taken
// for success, and no backend sees it.
func TestChangesNeedPermission(t *testing.T) {
	r := newRig(t, func(s *setup) {
		s.fake.ask = func(context.Context, backend.Query) backend.Result { return backend.Result{Class: backend.Accepted} }
	})
	listen := func(protocol string, changes bool) string {
		cfg := listenerBlock(protocol)
		cfg.Name, cfg.Changes = fmt.Sprintf("%s-%t", protocol, changes), changes
		return r.listen(cfg)
	}
	for _, changes := range []bool{false, true} {
		framed, lines := listen("ejabberd", changes), listen("generic", changes)
		wantFrame, wantLine, asked := "\x00\x02\x00\x02", "0\n", int64(0)
		if changes {
			wantFrame, wantLine, asked = "\x00\x02\x00\x01", "1\n", 1
		}
		for _, frame := range changeFrames {
			for _, c := range [][3]string{{framed, ejabberdFrame(frame), wantFrame}, {lines, frame + "\n", wantLine}} {
				before := r.fake.asked.Load()
				if got := r.exchange(c[0], c[1]); got != c[2] {
					t.Errorf("changes = %t: %s: answered %q, want %q", changes, frame, got, c[2])
				}
				if n := r.fake.asked.Load() - before; n != asked {
					t.Errorf("changes = %t: %s: the backend was asked %d times, want %d", changes, frame, n, asked)
				}
			}
		}
	}
	if got := r.exchange(r.listen(listenerBlock("generic")), "auth:joe:dom.example:good\n"); got != "1\n" {
		t.Errorf("a login was answered %q", got)
	}
}

// changeChain is a domain on two backends, of which each knows its own users and has its own faults.
func changeChain(t *testing.T, first, second func(backend.Query) backend.Result) (r *rig, asked func() []string) {
	var mu sync.Mutex
	var list []string
	noting := func(name string, answer func(backend.Query) backend.Result) *fakeBackend {
		return &fakeBackend{ask: func(_ context.Context, q backend.Query) backend.Result {
			mu.Lock()
			defer mu.Unlock()
			list = append(list, name+" "+q.Op.String())
			return answer(q)
		}}
	}
	r = newRig(t, func(s *setup) {
		s.fake = noting("first", first)
		s.more = map[string]*fakeBackend{"second": noting("second", second)}
		more := s.cfg.Backends[0]
		more.Name = "second"
		s.cfg.Backends = append(s.cfg.Backends, more)
		s.cfg.Domains[0].Backends = []config.BackendRef{rigBackend, more.BackendRef}
		s.cfg.Backends[0].AdminUser = "Robot"
		withLimits(s)
	})
	return r, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(list)
	}
}

// having answers as a server with some users, which registers none itself unless registers is true.
func having(registers bool, users ...string) func(backend.Query) backend.Result {
	return func(q backend.Query) backend.Result {
		known := slices.Contains(users, q.User)
		switch {
		case q.Op == auth.OpTryRegister && !registers:
			return backend.Result{Class: backend.Unsupported}
		case q.Op == auth.OpRemoveUser3 && q.Secret.Reveal() != "good":
			return backend.Result{Class: backend.Refused, Known: known}
		case known != (q.Op == auth.OpTryRegister):
			return backend.Result{Class: backend.Accepted, Known: true}
		}
		return backend.Result{Class: backend.Refused, Absent: !known, Known: known}
	}
}

// TestChangesInAChain: an account is registered only where no backend has the name, and changed only
// at the backend that has it. While one of them cannot say, the change is a temporary failure.
func TestChangesInAChain(t *testing.T) {
	down := func(backend.Query) backend.Result { return outage(context.Background(), backend.Query{}) }
	jsxc, users := having(false, "alice"), having(true, "bob")
	cases := map[string]struct {
		first   func(backend.Query) backend.Result
		request string
		want    string
		asked   string // of the second backend
	}{
		"a name that the first one has":         {jsxc, "tryregister:alice:dom.example:evil", "\x00\x00", ""},
		"a name that the second one has":        {jsxc, "tryregister:bob:dom.example:evil", "\x00\x00", "isuser"},
		"a free name":                           {jsxc, "tryregister:carol:dom.example:x", "\x00\x01", "isuser tryregister"},
		"a free name beside an outage":          {down, "tryregister:carol:dom.example:x", "\x00\x02", ""},
		"a password at the first one":           {jsxc, "setpass:alice:dom.example:x", "\x00\x01", ""},
		"a password at the second one":          {jsxc, "setpass:bob:dom.example:x", "\x00\x01", "isuser setpass"},
		"a password beside an outage":           {down, "setpass:bob:dom.example:x", "\x00\x02", ""},
		"a password of a user that is not":      {jsxc, "setpass:carol:dom.example:x", "\x00\x02", "isuser"}, // 0 would mean success
		"a removal at the second one":           {jsxc, "removeuser:bob:dom.example", "\x00\x01", "isuser removeuser"},
		"a removal by the wrong password":       {jsxc, "removeuser3:bob:dom.example:bad", "\x00\x00", "isuser removeuser3"},
		"the service account, in other letters": {jsxc, "setpass:rObot:dom.example:x", "\x00\x02", ""},
		"a second account of that name":         {jsxc, "tryregister:ROBOT:dom.example:x", "\x00\x02", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r, asked := changeChain(t, c.first, users)
			cfg := listenerBlock("ejabberd")
			cfg.Changes = true
			if got := r.exchange(r.listen(cfg), ejabberdFrame(c.request)); got != "\x00\x02"+c.want {
				t.Errorf("answered %q, want %q", got, c.want)
			}
			var second []string
			for _, q := range asked() {
				if op, ok := strings.CutPrefix(q, "second "); ok {
					second = append(second, op)
				}
			}
			if got := strings.Join(second, " "); got != c.asked {
				t.Errorf("the second backend was asked for %q, want %q; all: %q", got, c.asked, asked())
			}
		})
	}
}

// TestRemovalByPasswordIsLimited: removeuser3 compares a password, so it is limited as a login is, and
// by the same count.
func TestRemovalByPasswordIsLimited(t *testing.T) {
	r, asked := changeChain(t, having(false), having(true, "bob"))
	cfg := listenerBlock("generic")
	cfg.Changes = true
	address := r.listen(cfg)
	for i := range 4 { // as many as withLimits lets pass
		if got := r.exchange(address, fmt.Sprintf("removeuser3:bob:dom.example:bad%d\n", i)); got != "0\n" {
			t.Fatalf("a wrong password was answered %q", got)
		}
	}
	before := len(asked())
	if got := r.exchange(address, "removeuser3:bob:dom.example:good\n"); got != "0\n" || strings.Contains(strings.Join(asked()[before:], " "), "removeuser3") {
		t.Errorf("after four wrong passwords: answered %q, %q was asked", got, asked()[before:])
	}
	a := r.auth("bob", "good")
	if a.Verdict == auth.Allow || a.Source != auth.SourceLimitUser {
		t.Errorf("a login then: %v (%v)", a.Verdict, a.Source)
	}
}
