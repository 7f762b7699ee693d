package scram

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/scram/scramtest"
	"postern/internal/unixtime"
)

// TestVectors: the exchanges of RFC 5802 section 5 and RFC 7677 section 3.
func TestVectors(t *testing.T) {
	for _, c := range []struct {
		hash                          Hash
		first, challenge, final, want string
	}{
		{
			SHA1, "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL", "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
			"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
		},
		{
			SHA256, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
			"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
			"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
		},
	} {
		m, err := parseFirst(c.first)
		if err != nil {
			t.Fatal(err)
		}
		nonce, salt, _ := strings.Cut(strings.TrimPrefix(c.challenge, "r="), ",s=")
		salt, _, _ = strings.Cut(salt, ",")
		raw, err := base64.StdEncoding.DecodeString(salt)
		if err != nil {
			t.Fatal(err)
		}
		e := &Exchange{hash: c.hash, gs2: m.gs2, flag: string(m.flag), bare: m.bare, nonce: nonce, challenge: c.challenge}
		p, err := e.Finish(c.final, "")
		if err != nil {
			t.Fatal(err)
		}
		k := new(Keys)
		for password, want := range map[string]string{"pencil": c.want, "Pencil": ""} {
			if k.verifiers[c.hash], err = derive(c.hash, password, raw, 4096); err != nil {
				t.Fatal(err)
			}
			if got, ok := p.Verify(k); got != want || ok != (want != "") {
				t.Errorf("%v with %s: %q, %t", c.hash, password, got, ok)
			}
		}
	}
}

var (
	seed = Seed{1}
	joe  = auth.Identity{User: "joe", Domain: "dom.example"}
	noon = unixtime.At(time.Unix(1_800_000_000, 0))
)

// keysOf are the keys of joe's password "pencil".
func keysOf(t testing.TB) *Keys {
	t.Helper()
	k, err := Derive("pencil", seed.Salt(joe))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestExchange: both hashes, with and without channel binding, and a client that verifies the server.
func TestExchange(t *testing.T) {
	s, k := NewSealer(), keysOf(t)
	for _, mechanism := range []string{"SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"} {
		for _, password := range []string{"pencil", "wrong"} {
			c := scramtest.Client{Mechanism: mechanism, User: "j=o,e", Password: password, GS2: "n,a=joe@dom.example,"}
			who := &Client{ID: joe, Mechanism: mechanism, Salt: seed.Salt(joe), Bindings: []string{"tls-unique", "tls-exporter"}}
			if strings.HasSuffix(mechanism, "-PLUS") {
				c.GS2, c.Binding = "p=tls-exporter,,", "\x00\xffdata"
			}
			challenge, state, err := s.Begin(who, c.First(), noon)
			if err != nil || strings.Contains(state, " ") || !strings.HasSuffix(challenge, ",i=10000") {
				t.Fatalf("%s: %q, %q, %v", mechanism, challenge, state, err)
			}
			e, err := s.Open(who, state, noon.Add(Lifetime-time.Millisecond))
			if err != nil {
				t.Fatal(err)
			}
			p, err := e.Finish(c.Final(challenge), c.Binding)
			if err != nil || c.Nonce != e.Nonce() || !p.Fits(k) {
				t.Fatalf("%s: %v, nonce %q", mechanism, err, e.Nonce())
			}
			signature, ok := p.Verify(k)
			if ok != (password == "pencil") || ok && signature != c.Signature || !ok && signature != "" {
				t.Errorf("%s with %s: %q, %t", mechanism, password, signature, ok)
			}
			p.Refuse()
		}
	}
}

// TestAttacks: what a client, or one between it and the server, may try.
func TestAttacks(t *testing.T) {
	s, k := NewSealer(), keysOf(t)
	offers := []string{"tls-exporter"}
	swap := func(from, to string) func(string) string {
		return func(text string) string { return strings.Replace(text, from, to, 1) }
	}
	for name, c := range map[string]struct {
		mechanism, gs2 string
		offers         []string
		binding, given string // at the client, and at the server
		final          func(string) string
		want           error
	}{
		"plain":                 {want: nil},
		"downgraded":            {gs2: "y,,", offers: offers, want: ErrDowngrade},
		"cannot be offered":     {gs2: "y,,", want: nil},
		"does not bind":         {gs2: "n,,", offers: offers, want: nil},
		"plus without binding":  {mechanism: "SCRAM-SHA-256-PLUS", gs2: "n,,", offers: offers, want: ErrBinding},
		"plus denied":           {mechanism: "SCRAM-SHA-256-PLUS", gs2: "y,,", offers: offers, want: ErrDowngrade},
		"binding without plus":  {gs2: "p=tls-exporter,,", offers: offers, want: ErrBinding},
		"a type not offered":    {mechanism: "SCRAM-SHA-256-PLUS", gs2: "p=tls-unique,,", offers: offers, want: ErrBinding},
		"another connection":    {mechanism: "SCRAM-SHA-256-PLUS", gs2: "p=tls-exporter,,", offers: offers, binding: "one", given: "other", want: ErrBinding},
		"no data at the server": {mechanism: "SCRAM-SHA-256-PLUS", gs2: "p=tls-exporter,,", offers: offers, want: ErrBinding},
		"bound":                 {mechanism: "SCRAM-SHA-256-PLUS", gs2: "p=tls-exporter,,", offers: offers, binding: "one", given: "one", want: nil},
		"another header":        {final: swap("c=biws", "c=eSws"), want: ErrBinding},
		"a changed nonce":       {final: swap("r=fyko", "r=fyk0"), want: ErrNonce},
		"the client's nonce alone": {final: func(text string) string {
			return text[:len("c=biws,r=fyko+d2lbbFgONRv9qkxdawL")] + text[strings.Index(text, ",p="):]
		}, want: ErrNonce},
		"no proof":                  {final: func(text string) string { return text[:strings.Index(text, ",p=")] }, want: ErrMessage},
		"a proof of another hash":   {final: func(text string) string { return text[:strings.Index(text, ",p=")] + ",p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=" }, want: ErrMessage},
		"a mechanism that is none":  {mechanism: "SCRAM-SHA-512", want: ErrMechanism},
		"a binding without a name":  {mechanism: "SCRAM-SHA-256-PLUS", gs2: "p=,,", offers: []string{""}, want: ErrMessage},
		"an extension it must know": {gs2: "n,,m=ext,", want: ErrMessage},
	} {
		mechanism := c.mechanism
		if mechanism == "" {
			mechanism = "SCRAM-SHA-256"
		}
		client := scramtest.Client{Mechanism: mechanism, User: "joe", Password: "pencil", GS2: c.gs2, Binding: c.binding}
		p, err := proofOf(t, s, &client, c.offers, c.given, c.final)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err == nil {
			if _, ok := p.Verify(k); !ok {
				t.Errorf("%s: a right proof is refused", name)
			}
		}
	}
}

// proofOf lets joe's client go through an exchange, with a change of its last message.
func proofOf(t *testing.T, s *Sealer, c *scramtest.Client, offers []string, binding string, change func(string) string) (*Proof, error) {
	t.Helper()
	who := &Client{ID: joe, Mechanism: c.Mechanism, Salt: seed.Salt(joe), Bindings: offers}
	challenge, state, err := s.Begin(who, c.First(), noon)
	if err != nil {
		return nil, err
	}
	e, err := s.Open(who, state, noon)
	if err != nil {
		t.Fatal(err)
	}
	final := c.Final(challenge)
	if change != nil {
		final = change(final)
	}
	return e.Finish(final, binding)
}

// TestState: a state is good for its account, mechanism, process and time alone.
func TestState(t *testing.T) {
	s, who := NewSealer(), Client{ID: joe, Mechanism: "SCRAM-SHA-256", Salt: seed.Salt(joe)}
	client := scramtest.Client{Mechanism: who.Mechanism, User: "joe", Password: "pencil"}
	_, state, err := s.Begin(&who, client.First(), noon)
	if err != nil {
		t.Fatal(err)
	}
	other, mechanism := who, who
	other.ID.User, mechanism.Mechanism = "ann", "SCRAM-SHA-256-PLUS"
	for name, c := range map[string]struct {
		sealer *Sealer
		who    Client
		state  string
		at     unixtime.Time
		want   error
	}{
		"its own":           {s, who, state, noon, nil},
		"another user":      {s, other, state, noon, ErrState},
		"another mechanism": {s, mechanism, state, noon, ErrState},
		"another process":   {NewSealer(), who, state, noon, ErrState},
		"late":              {s, who, state, noon.Add(Lifetime), ErrState},
		"from the future":   {s, who, state, noon.Add(-time.Hour), ErrState},
		"cut":               {s, who, state[:len(state)-2], noon, ErrState},
		"none":              {s, who, "", noon, ErrState},
		"no base64":         {s, who, "-", noon, ErrState},
		"no mechanism":      {s, Client{ID: joe}, state, noon, ErrMechanism},
	} {
		if _, err := c.sealer.Open(&c.who, c.state, c.at); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestSpent: an exchange ends once, also when the clock is set back, and memory is bounded.
func TestSpent(t *testing.T) {
	s := Spent{Most: 2}
	for i, c := range []struct {
		nonce string
		after time.Duration
		want  error
	}{
		{"a", 0, nil},
		{"a", 0, ErrSpent},
		{"b", time.Second, nil},
		{"c", time.Second, ErrCrowded},
		{"b", time.Second, ErrSpent},
		{"a", Lifetime - time.Millisecond, ErrSpent},
		{"c", Lifetime, nil},
		{"b", Lifetime, ErrSpent},
		{"b", -time.Minute, ErrSpent},
		{"d", 2 * Lifetime, nil},
		{"e", -time.Hour, nil},
	} {
		if err := s.Add(c.nonce, noon.Add(c.after)); !errors.Is(err, c.want) {
			t.Errorf("%d: %s after %v: %v, want %v", i, c.nonce, c.after, err, c.want)
		}
	}
}

// TestSalts: a salt is that of an account, whatever the spelling, and of a seed.
func TestSalts(t *testing.T) {
	other := Seed{2}
	salts := map[Salt]string{}
	for name, salt := range map[string]Salt{
		"joe": seed.Salt(joe), "ann": seed.Salt(auth.Identity{User: "ann", Domain: joe.Domain}), "another seed": other.Salt(joe),
		"another domain": seed.Salt(auth.Identity{User: "joe", Domain: "dom.exampl"}), "moved": seed.Salt(auth.Identity{User: "ejoe", Domain: "dom.exampl"}),
	} {
		if was, ok := salts[salt]; ok {
			t.Errorf("%s has the salt of %s", name, was)
		}
		salts[salt] = name
	}
	if seed.Salt(auth.Identity{User: "JOE", Domain: joe.Domain}) != seed.Salt(joe) {
		t.Error("another spelling has another salt")
	}
}

// TestKeysText: keys are read as they were written, and do not fit another salt or iteration count.
func TestKeysText(t *testing.T) {
	k := keysOf(t)
	text := k.Text()
	back, err := ParseKeys(text)
	if err != nil || back.Text() != text || !back.Fits(seed.Salt(joe)) || strings.ContainsAny(text, ": \n") {
		t.Fatalf("%q: %v", text, err)
	}
	if back.Fits(Salt{}) || (*Keys)(nil).Fits(Salt{}) {
		t.Error("keys fit any salt")
	}
	if shown := fmt.Sprintf("%v %+v %s", k, struct{ K *Keys }{k}, k); strings.Contains(shown, strings.Split(text, ",")[3]) {
		t.Errorf("printed: %s", shown)
	}
	low, err := ParseKeys(strings.Replace(text, "10000", "4096", 1))
	if err != nil || low.Fits(seed.Salt(joe)) {
		t.Errorf("an iteration count too low: %v", err)
	}
	for _, bad := range []string{"", "10000", strings.Replace(text, "10000", "0", 1), strings.Replace(text, "10000", "x", 1), text + ",", text[1:][:len(text)-3], strings.Replace(text, "=", "", 1)} {
		if _, err := ParseKeys(bad); !errors.Is(err, ErrKeys) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestPrepare: passwords are prepared as clients do (RFC 4013 section 3).
func TestPrepare(t *testing.T) {
	for in, want := range map[string]string{"I\u00adX": "IX", "user": "user", "\u00aa": "a", "\u2168": "IX", "a\u00a0b": "a b", "a\x07": "a\x07", "\u00ad": "\u00ad"} {
		if got := prepare(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// FuzzMessages: no message panics, and what is read of it is part of it.
func FuzzMessages(f *testing.F) {
	for _, text := range []string{
		"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL", "y,a=x,n=a=2Cb,r=x,ext=1", "p=tls-unique,,n=,r=!", "n,,m=x,n=user,r=x", "n,n=user",
		"c=biws,r=fyko,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", "c=biws,r=x,ext=,p=1,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", ",p=", "",
	} {
		f.Add(text)
	}
	s, who := NewSealer(), &Client{ID: joe, Mechanism: "SCRAM-SHA-1"}
	f.Fuzz(func(t *testing.T, text string) {
		if m, err := parseFirst(text); err == nil {
			if m.gs2+m.bare != text || !strings.Contains(m.bare, ",r="+m.nonce) {
				t.Fatalf("%q: %+v", text, m)
			}
			challenge, state, err := s.Begin(who, text, noon)
			if err == nil {
				e, err := s.Open(who, state, noon)
				if err != nil || e.challenge != challenge || e.bare != m.bare || !strings.HasPrefix(e.nonce, m.nonce) {
					t.Fatalf("%q: %+v, %v", text, e, err)
				}
			}
		}
		if m, err := parseFinal(text, SHA1); err == nil {
			if len(m.proof) != SHA1.size() || !strings.HasPrefix(text, m.without+",p=") || !strings.Contains(m.without, ",r="+m.nonce) {
				t.Fatalf("%q: %+v", text, m)
			}
		}
	})
}

// FuzzParseKeys: keys that are read are written as they were read.
func FuzzParseKeys(f *testing.F) {
	f.Add(keysOf(f).Text())
	f.Add("10000,,,,,")
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := ParseKeys(text); err == nil {
			if back, err := ParseKeys(k.Text()); err != nil || back.Text() != k.Text() {
				t.Fatalf("%q: %v", text, err)
			}
		}
	})
}
