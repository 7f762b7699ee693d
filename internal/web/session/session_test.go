package session

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"postern/internal/auth"
)

var joe = auth.Identity{User: "joe", Domain: "dom.example"}

// browser keeps the cookie of a page, and sends it.
type browser struct {
	store  *Store
	cookie *http.Cookie
}

func (b *browser) request() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	return r
}

// do has the store answer, and takes its cookie.
func (b *browser) do(answer func(http.ResponseWriter, *http.Request)) *http.Cookie {
	w := httptest.NewRecorder()
	answer(w, b.request())
	cookies := w.Result().Cookies()
	if len(cookies) != 1 {
		return nil
	}
	if b.cookie = cookies[0]; b.cookie.MaxAge < 0 {
		b.cookie = nil
	}
	return cookies[0]
}

func (b *browser) begin(id auth.Identity) *http.Cookie {
	return b.do(func(w http.ResponseWriter, r *http.Request) { b.store.Begin(w, r, id) })
}

// clock is moved by the test.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func newStore(most int) (*Store, *clock) {
	c := &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	return New(Options{Page: "status", Most: most, Clock: c.now}), c
}

// TestCookie: no other site can read, set or send it.
func TestCookie(t *testing.T) {
	s, _ := newStore(0)
	b := &browser{store: s}
	c := b.begin(joe)
	if c.Name != "__Host-postern-status" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || c.MaxAge != 0 || !c.Expires.IsZero() {
		t.Errorf("%+v", c)
	}
	if len(c.Value) < 43 { // 256 bits in base 32
		t.Errorf("the number %s can be guessed", c.Value)
	}
	if got := s.Of(b.request()); got == nil || got.Account != joe {
		t.Errorf("%+v", got)
	}
	gone := b.do(s.End)
	if gone.Name != c.Name || gone.MaxAge >= 0 || !gone.Secure || gone.Path != "/" {
		t.Errorf("%+v", gone)
	}
	b.cookie = c
	if s.Of(b.request()) != nil {
		t.Error("the session goes on after its end")
	}
}

// TestFixation: a number that was set before is not the one of the session, and a session before ends.
func TestFixation(t *testing.T) {
	s, _ := newStore(0)
	b := &browser{store: s, cookie: &http.Cookie{Name: "__Host-postern-status", Value: "chosen"}}
	first := b.begin(joe)
	if first.Value == "chosen" {
		t.Error("the number was chosen by another")
	}
	if second := b.begin(joe); second.Value == first.Value {
		t.Error("the number is the same again")
	}
	for _, value := range []string{"chosen", first.Value, "", first.Value[:10]} {
		b.cookie = &http.Cookie{Name: "__Host-postern-status", Value: value}
		if s.Of(b.request()) != nil {
			t.Errorf("%q is a session", value)
		}
	}
}

// TestCookiesOfOthers: those of another page are none, and neither are two.
func TestCookiesOfOthers(t *testing.T) {
	s, _ := newStore(0)
	b := &browser{store: s}
	c := b.begin(joe)
	r := b.request()
	r.AddCookie(&http.Cookie{Name: c.Name, Value: "another"})
	if s.Of(r) != nil {
		t.Error("one of two cookies counts")
	}
	other := New(Options{Page: "self_service"})
	b.cookie = &http.Cookie{Name: other.Cookie(), Value: c.Value}
	if other.Of(b.request()) != nil || s.Of(b.request()) != nil {
		t.Error("the session of another page counts")
	}
}

func TestEnd(t *testing.T) {
	s, c := newStore(0)
	b := &browser{store: s}
	b.begin(joe)
	for range 5 {
		c.at = c.at.Add(14 * time.Minute)
		if s.Of(b.request()) == nil {
			t.Fatal("it has ended while it was used")
		}
	}
	c.at = c.at.Add(10 * time.Minute)
	byItself := b.request()
	byItself.Header.Set(Refresh, "1")
	if s.Of(byItself) == nil {
		t.Error("a page cannot load itself again")
	}
	c.at = c.at.Add(5 * time.Minute)
	if s.Of(b.request()) != nil {
		t.Error("it goes on after 15 minutes of which a page has loaded itself again")
	}
	b.begin(joe)
	for range 12*6 - 1 {
		c.at = c.at.Add(10 * time.Minute)
		s.Of(b.request())
	}
	if s.Of(b.request()) == nil {
		t.Error("it has ended before 12 hours")
	}
	if c.at = c.at.Add(10 * time.Minute); s.Of(b.request()) != nil {
		t.Error("it goes on after 12 hours")
	}
}

// TestMost: more sessions than there may be end the one that was idle for longest.
func TestMost(t *testing.T) {
	s, c := newStore(3)
	var all []*browser
	for i := range 5 {
		if i == 3 { // the first one is used again
			c.at = c.at.Add(time.Second)
			if s.Of(all[0].request()) == nil {
				t.Fatal("it has ended")
			}
		}
		b := &browser{store: s}
		c.at = c.at.Add(time.Second)
		b.begin(auth.Identity{User: fmt.Sprint(i), Domain: "x"})
		all = append(all, b)
	}
	open := ""
	for i, b := range all {
		if s.Of(b.request()) != nil {
			open += fmt.Sprint(i)
		}
	}
	if open != "034" {
		t.Errorf("open: %s", open)
	}
}

// TestEach: signing in often ends sessions of that account alone.
func TestEach(t *testing.T) {
	s, c := newStore(0)
	eve := auth.Identity{User: "eve", Domain: joe.Domain}
	other := &browser{store: s}
	other.begin(joe) // idle for longest of all
	var all []*browser
	for range 20 {
		c.at = c.at.Add(time.Second)
		b := &browser{store: s}
		b.begin(eve)
		all = append(all, b)
	}
	if s.Of(other.request()) == nil {
		t.Error("the session of another account has ended")
	}
	for i, b := range all {
		if open := s.Of(b.request()) != nil; open != (i >= 4) {
			t.Errorf("session %d: open: %t", i, open)
		}
	}
	s.EndAll(eve)
	for i, b := range all {
		if s.Of(b.request()) != nil {
			t.Errorf("session %d goes on", i)
		}
	}
	if s.Of(other.request()) == nil {
		t.Error("the end of all sessions is that of another account's")
	}
}

func TestToken(t *testing.T) {
	s, _ := newStore(0)
	w := httptest.NewRecorder()
	one, other := s.Begin(w, httptest.NewRequest(http.MethodGet, "/", nil), joe), s.Begin(w, httptest.NewRequest(http.MethodGet, "/", nil), joe)
	if !one.Owns(one.Token()) || one.Owns(other.Token()) || one.Owns("") || one.Owns(one.Token()+"x") || len(one.Token()) < 26 {
		t.Error("tokens")
	}
}

func TestConcurrentUse(t *testing.T) {
	s := New(Options{Page: "x", Most: 10})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				b := &browser{store: s}
				b.begin(joe)
				s.Of(b.request())
				b.do(s.End)
			}
		})
	}
	wg.Wait()
	if len(s.all) != 0 {
		t.Errorf("%d sessions are left", len(s.all))
	}
}
