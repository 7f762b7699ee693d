package status

import (
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/recent"
)

var now = time.Date(2026, 3, 1, 12, 0, 30, 0, time.UTC)

// logOf remembers decisions of the last minutes.
func logOf(decisions ...recent.Decision) *recent.Log {
	l := new(recent.Log)
	l.Switch(true, now.Add(-time.Hour))
	for i, d := range decisions {
		d.At = now.Add(-time.Minute + time.Duration(i)*time.Millisecond)
		l.Note(d)
	}
	return l
}

func TestView(t *testing.T) {
	l := logOf(
		recent.Decision{Front: "mux", User: "joe", Domain: "dom.example", Verdict: auth.Allow, Source: auth.SourceHot, Took: time.Millisecond},
		recent.Decision{Front: "mux", User: "joe", Domain: "dom.example", Verdict: auth.Deny, Source: auth.SourceBackend, Took: 3 * time.Millisecond},
		recent.Decision{Front: "imap", User: "ann", Domain: "dom.example", Verdict: auth.Unavailable, Source: auth.SourceBackend, Took: time.Second, Reason: `no "ann"`, Client: "192.0.2.7"},
	)
	v := NewView(State{}, l, recent.Filter{}, false, now)
	if v.Hour.Total() != 3 || v.Minute.Yes != 1 || v.Minute.No != 1 || v.Minute.Temporary != 1 || len(v.Fronts) != 2 || v.Fronts[0].Name != "imap" {
		t.Errorf("%+v", v)
	}
	if percent, ok := v.Hour.HitRate(); !ok || percent < 33 || percent > 34 {
		t.Errorf("%v%% were remembered", percent)
	}
	if v.Fronts[1].Minutes[58].Total() != 2 || v.Fronts[1].Minutes[59].Total() != 0 {
		t.Errorf("%+v", v.Fronts[1].Minutes)
	}
	if len(v.Decisions) != 3 || v.Decisions[0].User != "ann" || v.Decisions[0].Reason != `no "ann"` || v.Decisions[0].Client != "192.0.2.7" {
		t.Errorf("%+v", v.Decisions)
	}
	if v.Health != "warning" { // a temporary failure
		t.Errorf("health %s: %v", v.Health, v.Notes)
	}
	if v = NewView(State{}, l, recent.Filter{User: "joe"}, false, now); len(v.Decisions) != 2 || v.Hour.Total() != 3 {
		t.Errorf("selected: %+v", v.Decisions)
	}
}

// TestPrivateView: no name and no address is left whole, also not within a reason, and what the daemon gave is unchanged.
func TestPrivateView(t *testing.T) {
	l := logOf(recent.Decision{User: "joanna", Domain: "dom.example", Client: "192.0.2.77", Verdict: auth.Deny, Reason: `joanna is "Joanna Doe", from 192.0.2.77`})
	s := State{
		Limits:   Limits{Limited: []Limited{{Kind: User, Name: "joanna@dom.example"}, {Kind: Address, Name: "192.0.2.77/32"}}},
		Backends: []Backend{{Name: "json.app", Open: true, Cause: `Get "https://app.example/users/joanna": timeout`}},
	}
	v := NewView(s, l, recent.Filter{}, true, now)
	if text := v.Decisions[0].User + v.Decisions[0].Client + v.Decisions[0].Reason + v.Limits.Limited[0].Name + v.Limits.Limited[1].Name + v.Backends[0].Cause + v.Notes[0].Text; strings.Contains(text, "oanna") || strings.Contains(text, "77") {
		t.Error(text)
	}
	if s.Limits.Limited[0].Name != "joanna@dom.example" || !strings.Contains(s.Backends[0].Cause, "joanna") {
		t.Error("the state was changed")
	}
	// A search for parts of a name would bring it to light letter by letter.
	for part, want := range map[string]int{"joan": 0, "JOANNA": 1, "": 1} {
		if v = NewView(s, l, recent.Filter{User: part}, true, now); len(v.Decisions) != want {
			t.Errorf("%q finds %d", part, len(v.Decisions))
		}
	}
}

func TestNotes(t *testing.T) {
	for name, c := range map[string]struct {
		state  State
		health string
		text   string
	}{
		"nothing":         {State{}, "ok", ""},
		"an open breaker": {State{Backends: []Backend{{Name: "json.app", Open: true, Since: now.Add(-time.Minute), Cause: "refused"}}}, "failure", "json.app is not asked since 11:59:30: refused"},
		"no cause":        {State{Backends: []Backend{{Open: true}}}, "failure", "unknown"},
		"the store":       {State{Store: Store{Failed: "disk full"}}, "failure", "disk full"},
		"a shared store":  {State{Store: Store{Shared: &SharedStore{}}}, "failure", "away"},
		"a reload":        {State{Config: Config{Refused: "no"}}, "failure", "reload was refused"},
		"the cache":       {State{CacheStalled: true}, "failure", "does not answer"},
		"a restart":       {State{Restarts: 2}, "warning", "2 restarts"},
		"the disk":        {State{Domains: []Domain{{Name: "dom.example", StoreFailing: true}}}, "warning", "dom.example"},
		"a limit":         {State{Limits: Limits{Limited: []Limited{{Kind: User}}}}, "warning", "1 account or address is limited"},
		"both":            {State{CacheStalled: true, Restarts: 1}, "failure", "1 restart "},
	} {
		v := NewView(c.state, nil, recent.Filter{}, false, now)
		all := ""
		for _, n := range v.Notes {
			all += n.Text + "\n"
		}
		if v.Health != c.health || !strings.Contains(all, c.text) || c.text == "" && all != "" {
			t.Errorf("%s: %s: %s", name, v.Health, all)
		}
	}
}

func TestShorten(t *testing.T) {
	for name, want := range map[string]string{"joe@dom.example": "j…@dom.example", "joe": "j…", "j": "…", "j@dom.example": "…@dom.example", "": "", "@x": "…@x", "élan": "é…", "\xff\xfe": "…"} {
		if got := ShortenUser(name); got != want {
			t.Errorf("user %q: %q; want %q", name, got, want)
		}
	}
	for address, want := range map[string]string{
		"192.0.2.7": "192.0.2.0/24", "192.0.2.7/32": "192.0.2.0/24", "10.0.0.0/8": "10.0.0.0/8", "2001:db8:1:2:3::4": "2001:db8:1::/48", "2001:db8:1:2::/64": "2001:db8:1::/48",
		"::ffff:192.0.2.7": "192.0.2.0/24", "": "", "joe": "…", "fe80::1%eth0": "fe80::/48",
	} {
		if got := ShortenAddress(address); got != want {
			t.Errorf("address %q: %q; want %q", address, got, want)
		}
	}
	for text, want := range map[string]string{
		`plain`: `plain`, `a "b" c "d"`: `a "…" c "…"`, `a "b \" c" d`: `a "…" d`, `a "b`: `a "…"`, `a "b\`: `a "…"`, `for eve`: `for …`,
	} {
		if got := ShortenText(text, "eve", ""); got != want {
			t.Errorf("text %q: %q; want %q", text, got, want)
		}
	}
}

func TestTexts(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := number(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
	for d, want := range map[time.Duration]string{0: "–", 400: "1 µs", 250 * time.Microsecond: "250 µs", 1500 * time.Microsecond: "1.5 ms", 42 * time.Millisecond: "42 ms", 2500 * time.Millisecond: "2.5 s"} {
		if got := tookText(Duration(d)); got != want {
			t.Errorf("%v: %s; want %s", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{-1: "0 s", 42 * time.Second: "42 s", 90 * time.Second: "1 min", 90 * time.Minute: "1 h 30 min", 72 * time.Hour: "3 days"} {
		if got := ago(d); got != want {
			t.Errorf("%v: %s; want %s", d, got, want)
		}
	}
	for n, want := range map[uint64]string{1: "1 B", 999: "999 B", 1500: "1.5 kB", 2_000_000: "2.0 MB", 3e15: "3000.0 TB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %s; want %s", n, got, want)
		}
	}
	if stamp(now.Add(-24*time.Hour), now) != "2026-02-28 12:00:30" || stamp(now, now) != "12:00:30" {
		t.Error("stamp")
	}
}
