package actors

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/apppassword"
	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/scram"
	"postern/internal/scram/scramtest"
)

// usersBeside is a users backend that closes a rig's fake with itself.
type usersBeside struct {
	backend.Backend
	fake *fakeBackend
}

func (u usersBeside) Ask(ctx context.Context, q backend.Query) backend.Result {
	u.fake.asked.Add(1)
	return u.Backend.Ask(ctx, q)
}

func (u usersBeside) Close() error {
	_ = u.fake.Close()
	return u.Backend.Close()
}

// Keyless implements backend.Keyed.
func (u usersBeside) Keyless(domain string) (int, error) {
	return u.Backend.(backend.Keyed).Keyless(domain)
}

// scramRig is a rig on a users file in which joe and ann have SCRAM keys of "pencil", and plain has none.
type scramRig struct {
	*rig
	users, seed string // paths
}

var scramUsers = config.BackendRef{Kind: config.KindUsers, Name: rigBackend.Name}

func newScramRig(t *testing.T, keyed []string, change func(*setup)) *scramRig {
	t.Helper()
	dir := t.TempDir()
	r := &scramRig{users: filepath.Join(dir, "users"), seed: filepath.Join(dir, "scram.seed")}
	r.rig = newRig(t, func(s *setup) {
		s.cfg.Backends[0].BackendRef, s.cfg.Backends[0].FoldCase = scramUsers, true
		s.cfg.Domains[0].Backends = []config.BackendRef{scramUsers}
		s.cfg.Domains[0].ScramSeed = r.seed
		s.wrap = func(f *fakeBackend) backend.Backend {
			b, err := backend.NewUsers(backend.UsersOptions{Path: r.users, Cost: passhash.MinCost, Fold: true, SeedFile: r.seed},
				func(_ context.Context, _ auth.Identity, run func()) error { run(); return nil })
			if err != nil {
				t.Fatal(err)
			}
			return usersBeside{b, f}
		}
		if change != nil {
			change(s)
		}
	})
	for _, user := range keyed {
		r.addUser(user, true)
	}
	return r
}

// addUser adds a user with the password "pencil" to the file.
func (r *scramRig) addUser(user string, keyed bool) {
	r.t.Helper()
	id := auth.Identity{User: user, Domain: "dom.example"}
	hash, err := passhash.New("pencil", passhash.MinCost)
	if err != nil {
		r.t.Fatal(err)
	}
	var keys *scram.Keys
	if keyed {
		if keys, err = backend.NewKeys(r.seed, id, auth.NewSecret("pencil")); err != nil {
			r.t.Fatal(err)
		}
	}
	file, err := backend.OpenUsersFile(r.users, true)
	if err == nil {
		err = file.Add(context.Background(), id, hash, keys)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// sasl are the requests of a client's two messages.
func sasl(c *scramtest.Client, bindings string) auth.Request {
	return auth.Request{Op: auth.OpScram, User: c.User, Domain: "dom.example", Secret: auth.NewSecret(c.First()), Service: "xmpp",
		Client: "192.0.2.1", SASL: &auth.SASL{Mechanism: c.Mechanism, Bindings: bindings}}
}

// final is the request of the last message, for the answer to the first one.
func final(c *scramtest.Client, first auth.Answer) auth.Request {
	challenge, state, _ := strings.Cut(string(first.Body), " ")
	req := sasl(c, "")
	req.Op, req.Secret = auth.OpAuth, auth.NewSecret(c.Final(challenge))
	req.SASL = &auth.SASL{Mechanism: c.Mechanism, Binding: c.Binding, State: state}
	return req
}

// prove logs a client in by SCRAM.
func (r *rig) prove(c scramtest.Client) auth.Answer {
	r.t.Helper()
	if c.Mechanism == "" {
		c.Mechanism = "SCRAM-SHA-256"
	}
	first := r.ask(sasl(&c, ""))
	r.want(first, auth.Allow, auth.SourceScram)
	a := r.ask(final(&c, first))
	if a.Verdict == auth.Allow && string(a.Body) != c.Signature || a.Verdict != auth.Allow && len(a.Body) > 0 {
		r.t.Errorf("%s: %v with the message %q", c.User, a.Verdict, a.Body)
	}
	return a
}

func pencil(user string) scramtest.Client { return scramtest.Client{User: user, Password: "pencil"} }

func wrong(user string) scramtest.Client { return scramtest.Client{User: user, Password: "wrong"} }

// TestScram: a proof of the password is as good as the password. Nothing of it is remembered.
func TestScram(t *testing.T) {
	r := newScramRig(t, []string{"joe"}, nil)
	for _, mechanism := range []string{"SCRAM-SHA-1", "SCRAM-SHA-256"} {
		for range 2 {
			for user, want := range map[string]auth.Verdict{"joe": auth.Allow, "JOE": auth.Allow, "nobody": auth.Deny} {
				c := pencil(user)
				c.Mechanism = mechanism
				before := r.fake.asked.Load()
				r.want(r.prove(c), want, auth.SourceBackend)
				c.Password = "wrong"
				r.want(r.prove(c), auth.Deny, auth.SourceBackend)
				if n := r.fake.asked.Load() - before; n != 2 {
					t.Errorf("the backend was asked %d times", n)
				}
			}
		}
	}
	if u := r.cached("joe"); len(u.Verifiers)+len(u.Refusals) > 0 {
		t.Errorf("the cache knows %+v", u)
	}
	r.want(r.auth("joe", "pencil"), auth.Allow, auth.SourceBackend)
	if text := r.log.String(); !strings.Contains(text, "mechanism=SCRAM-SHA-1 ") || strings.Contains(text, "r=fyko") {
		t.Errorf("the log:\n%s", text)
	}
}

// TestScramFirstAnswer: what a client is sent first does not show whether there is such an account.
func TestScramFirstAnswer(t *testing.T) {
	r := newScramRig(t, []string{"joe"}, nil)
	r.addUser("plain", false)
	salts := map[string]string{}
	for range 2 {
		for _, user := range []string{"joe", "plain", "nobody", "nobody2"} {
			c := pencil(user)
			c.Mechanism = "SCRAM-SHA-256"
			a := r.ask(sasl(&c, ""))
			r.want(a, auth.Allow, auth.SourceScram)
			challenge, _, _ := strings.Cut(string(a.Body), " ")
			fields := strings.Split(challenge, ",")
			if len(fields) != 3 || fields[2] != "i=10000" || len(fields[1]) != 26 {
				t.Fatalf("%s: %q", user, challenge)
			}
			if was := salts[user]; was != "" && was != fields[1] {
				t.Errorf("the salt of %s changes", user)
			}
			salts[user] = fields[1]
		}
	}
	if salts["nobody"] == salts["nobody2"] || salts["joe"] == salts["plain"] || r.fake.asked.Load() > 0 {
		t.Errorf("salts %q, and the backend was asked %d times", salts, r.fake.asked.Load())
	}
}

// TestScramAttacks: what does not come of one exchange of one client is no login.
func TestScramAttacks(t *testing.T) {
	r := newScramRig(t, []string{"joe", "ann"}, nil)
	offers := "tls-exporter,tls-unique"
	for name, c := range map[string]struct {
		mechanism, gs2, binding, offers string
		change                          func(*auth.Request)
		first, last                     auth.Verdict
		source                          auth.Source
	}{
		"right":      {first: auth.Allow, last: auth.Allow, source: auth.SourceBackend},
		"bound":      {mechanism: "SCRAM-SHA-256-PLUS", gs2: "p=tls-exporter,,", binding: "data", offers: offers, first: auth.Allow, last: auth.Allow, source: auth.SourceBackend},
		"downgraded": {gs2: "y,,", offers: offers, first: auth.Deny},
		"another channel": {mechanism: "SCRAM-SHA-256-PLUS", gs2: "p=tls-exporter,,", binding: "data", offers: offers, first: auth.Allow,
			change: func(q *auth.Request) { q.SASL.Binding = "other" }, last: auth.Deny, source: auth.SourceScram},
		"a changed nonce": {first: auth.Allow, last: auth.Deny, source: auth.SourceScram,
			change: func(q *auth.Request) {
				q.Secret = auth.NewSecret(strings.Replace(q.Secret.Reveal(), "r=fyko", "r=fyk0", 1))
			}},
		"a changed proof": {first: auth.Allow, last: auth.Deny, source: auth.SourceBackend, change: func(q *auth.Request) {
			text, proof, _ := strings.Cut(q.Secret.Reveal(), ",p=")
			raw, _ := base64.StdEncoding.DecodeString(proof)
			raw[0] ^= 1
			q.Secret = auth.NewSecret(text + ",p=" + base64.StdEncoding.EncodeToString(raw))
		}},
		"no message":          {first: auth.Allow, change: func(q *auth.Request) { q.Secret = auth.NewSecret("pencil") }, last: auth.Deny, source: auth.SourceScram},
		"another user":        {first: auth.Allow, change: func(q *auth.Request) { q.User = "ann" }, source: auth.SourceScram},
		"another mechanism":   {first: auth.Allow, change: func(q *auth.Request) { q.SASL.Mechanism = "SCRAM-SHA-1" }, source: auth.SourceScram},
		"no state":            {first: auth.Allow, change: func(q *auth.Request) { q.SASL.State = "-" }, source: auth.SourceScram},
		"an unknown hash":     {mechanism: "SCRAM-SHA-512", first: auth.Deny},
		"a mechanism without": {mechanism: "PLAIN", first: auth.Deny},
	} {
		client := pencil("joe")
		client.Mechanism, client.GS2, client.Binding = c.mechanism, c.gs2, c.binding
		if client.Mechanism == "" {
			client.Mechanism = "SCRAM-SHA-256"
		}
		first := r.ask(sasl(&client, c.offers))
		if r.want(first, c.first, auth.SourceScram); c.first != auth.Allow {
			continue
		}
		req := final(&client, first)
		if c.change != nil {
			c.change(&req)
		}
		if a := r.ask(req); a.Verdict != c.last || a.Source != c.source {
			t.Errorf("%s: %v (%v), want %v (%v)", name, a.Verdict, a.Source, c.last, c.source)
		}
	}

	c := pencil("joe")
	c.Mechanism = "SCRAM-SHA-256"
	first := r.ask(sasl(&c, ""))
	again, late := final(&c, first), c
	r.want(r.ask(again), auth.Allow, auth.SourceBackend)
	r.want(r.ask(again), auth.Unavailable, auth.SourceScram) // replayed
	late.Nonce = ""
	first = r.ask(sasl(&late, ""))
	r.clock.advance(scram.Lifetime)
	r.want(r.ask(final(&late, first)), auth.Unavailable, auth.SourceScram)
}

// TestScramKeys: an account without keys, or with some that are not used, is no yes and no no.
func TestScramKeys(t *testing.T) {
	r := newScramRig(t, []string{"joe", "low", "old"}, nil)
	r.addUser("plain", false)
	data, err := os.ReadFile(r.users)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	edit := func(line string, change func(string) string) {
		at := strings.Index(text, line)
		end := at + strings.IndexByte(text[at:], '\n')
		text = text[:at] + change(text[at:end]) + text[end:]
	}
	edit("#scram low@", func(line string) string { return strings.Replace(line, ":10000,", ":4096,", 1) })
	other, err := passhash.New("other", passhash.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	edit("old@", func(string) string { return "old@dom.example:" + other }) // as by another program
	if err := os.WriteFile(r.users, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.want(r.prove(pencil("joe")), auth.Allow, auth.SourceBackend)
	for _, user := range []string{"plain", "low", "old"} {
		a := r.prove(pencil(user))
		r.want(a, auth.Unavailable, auth.SourceBackend)
		if !strings.Contains(a.Reason, "no SCRAM keys") {
			t.Errorf("%s: %q", user, a.Reason)
		}
	}
}

// TestScramLimits: a wrong proof is a guess.
func TestScramLimits(t *testing.T) {
	r := newScramRig(t, []string{"joe", "ann", "eve", "max"}, withLimits)
	tried := 0
	guess := func(user, from string, plain bool) auth.Answer {
		if tried++; plain {
			return r.ask(auth.Request{Op: auth.OpAuth, User: user, Domain: "dom.example", Secret: auth.NewSecret(fmt.Sprint("wrong", tried)), Client: from})
		}
		c := wrong(user)
		c.Mechanism = "SCRAM-SHA-1"
		req := sasl(&c, "")
		first := r.ask(req)
		req = final(&c, first)
		req.Client = from
		return r.ask(req)
	}
	for i := range 4 {
		r.want(guess("joe", "", i%2 == 0), auth.Deny, auth.SourceBackend)
	}
	r.want(guess("joe", "", false), auth.Unavailable, auth.SourceLimitUser)
	r.want(guess("joe", "", true), auth.Unavailable, auth.SourceLimitUser)
	r.clock.advance(20 * time.Minute)
	r.want(r.prove(pencil("joe")), auth.Allow, auth.SourceBackend)

	for _, user := range []string{"ann", "ann", "eve", "eve", "max", "nobody"} {
		r.want(guess(user, "198.51.100.1", false), auth.Deny, auth.SourceBackend)
	}
	r.want(guess("max", "198.51.100.1", false), auth.Unavailable, auth.SourceLimitAddress)
	r.want(guess("max", "198.51.100.2", false), auth.Deny, auth.SourceBackend)
}

// TestScramAppPasswords: each app password of an account can be proved, by the rules that hold for it as a
// password, and the account's own besides.
func TestScramAppPasswords(t *testing.T) {
	in := openStore(t)
	r := newScramRig(t, []string{"joe"}, func(s *setup) { withApps(s, in) })
	add := func(n apppassword.New) string {
		text := r.add("joe", n)
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		if err := r.KeyAppPassword(ctx, auth.Identity{User: "joe", Domain: "dom.example"}, auth.NewSecret(text)); err != nil {
			t.Fatal(err)
		}
		return text
	}
	phone, mail, lost := add(apppassword.New{Name: "phone"}), add(apppassword.New{Name: "mail", Services: []string{"imap"}}), add(apppassword.New{Name: "lost"})
	guest := add(apppassword.New{Name: "guest", Expires: r.clock.now().Add(time.Hour)})
	for _, mechanism := range []string{"SCRAM-SHA-1", "SCRAM-SHA-256"} {
		with := func(password string) auth.Answer {
			return r.prove(scramtest.Client{Mechanism: mechanism, User: "joe", Password: password})
		}
		r.because(with(phone), auth.Allow, "")
		r.because(with(strings.ReplaceAll(phone, "-", "")), auth.Allow, "")
		r.because(with(guest), auth.Allow, "")
		r.because(with(mail), auth.Deny, "not for xmpp")
		r.want(with("pencil"), auth.Allow, auth.SourceBackend)
		r.want(with("wrong"), auth.Deny, auth.SourceBackend)
		r.want(r.prove(scramtest.Client{Mechanism: mechanism, User: "nobody", Password: phone}), auth.Deny, auth.SourceBackend)
	}
	r.clock.advance(time.Hour)
	r.because(r.prove(scramtest.Client{User: "joe", Password: guest}), auth.Deny, "expired")

	c := scramtest.Client{Mechanism: "SCRAM-SHA-256", User: "joe", Password: lost}
	first := r.ask(sasl(&c, ""))
	req := final(&c, first)
	r.revoke("joe", "lost")
	r.because(r.ask(req), auth.Deny, "revoked")
	r.because(r.login("joe", "xmpp", lost), auth.Deny, "revoked")
}

// TestScramRequiresAppPassword: where an app password is required, the account's own is refused as by PLAIN; and the
// account must be enabled.
func TestScramRequiresAppPassword(t *testing.T) {
	var says atomic.Pointer[backend.Result]
	says.Store(&backend.Result{Class: backend.Accepted})
	seed := filepath.Join(t.TempDir(), "scram.seed")
	r := appRig(t, func(s *setup) {
		s.cfg.Domains[0].ScramSeed = seed
		s.cfg.Domains[0].AppPasswords.Require = []string{"xmpp"}
		s.cfg.Domains[0].Cache.ExistsTTL, s.cfg.Domains[0].Cache.AbsentTTL = 0, 0
		s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
			if q.Op != auth.OpIsUser {
				t.Errorf("%v was asked", q.Op)
			}
			return *says.Load()
		}
	})
	phone := r.add("joe", apppassword.New{Name: "phone"})
	r.want(r.prove(scramtest.Client{User: "joe", Password: phone}), auth.Unavailable, auth.SourceConfig)
	r.because(r.login("joe", "xmpp", phone), auth.Allow, "")
	proves := func() auth.Answer { return r.prove(scramtest.Client{User: "joe", Password: phone}) }
	eventually(t, "the keys of the app password are made", func() bool { return proves().Verdict == auth.Allow })
	r.because(r.prove(pencil("joe")), auth.Deny, "no such app password")
	for _, c := range []struct {
		result backend.Result
		want   auth.Verdict
		reason string
	}{
		{backend.Result{Class: backend.Accepted, Disabled: true}, auth.Deny, "disabled"},
		{backend.Result{Class: backend.Refused, Absent: true}, auth.Deny, "does not exist"},
		{backend.Result{Class: backend.Accepted}, auth.Allow, ""},
	} {
		says.Store(&c.result)
		r.because(proves(), c.want, c.reason)
	}
	client := pencil("joe")
	client.Mechanism = "SCRAM-SHA-256"
	first := r.ask(sasl(&client, ""))
	last := final(&client, first)
	last.Service = "imap" // where PLAIN has the backend asked
	r.want(r.ask(last), auth.Unavailable, auth.SourceScram)
}

// TestScramOff: a domain without it has none of it.
func TestScramOff(t *testing.T) {
	r := newRig(t, nil)
	c := pencil("joe")
	c.Mechanism = "SCRAM-SHA-256"
	r.want(r.ask(sasl(&c, "")), auth.Unsupported, auth.SourceUnsupported)
	r.want(r.ask(final(&c, auth.Answer{Body: []byte("r=x,s=,i=1 -")})), auth.Unsupported, auth.SourceUnsupported)
	if r.fake.asked.Load() > 0 {
		t.Error("the backend was asked")
	}
}

// module is a connection as mod_auth_postern has it.
type module struct {
	t *testing.T
	c client
}

// ask sends a frame and returns the value of the answer and what follows it.
func (m module) ask(text string) (value uint16, rest string) {
	m.t.Helper()
	if _, err := m.c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(text))), text...)); err != nil {
		m.t.Fatal(err)
	}
	for {
		head := make([]byte, 2)
		if _, err := io.ReadFull(m.c, head); err != nil {
			m.t.Fatal(err)
		}
		body := make([]byte, binary.BigEndian.Uint16(head))
		if _, err := io.ReadFull(m.c, body); err != nil {
			m.t.Fatal(err)
		}
		if body[0] != 'P' { // a report of a change
			return binary.BigEndian.Uint16(body), string(body[2:])
		}
	}
}

const watchScram = "watch:0:dom.example"

// TestScramOffer: over a listener, SCRAM is offered once every account has keys, which a login by PLAIN brings about,
// and not any more when one has none.
func TestScramOffer(t *testing.T) {
	r := newScramRig(t, []string{"joe"}, nil)
	block := listenerBlock("ejabberd")
	m := module{t, r.dial(r.listen(block))}
	offered := func(want bool) {
		t.Helper()
		eventually(t, "SCRAM is offered as it must be", func() bool {
			r.offers.mu.Lock()
			r.offers.known = nil // or it would take its time
			r.offers.mu.Unlock()
			value, _ := m.ask(watchScram)
			return value == 1|uint16(auth.WatchScram)<<8 == want && value&0xff == 1
		})
	}
	offered(true)
	r.addUser("plain", false)
	offered(false)
	c := pencil("plain")
	c.Mechanism = "SCRAM-SHA-256"
	login := func() uint16 {
		t.Helper()
		value, rest := m.ask("scram:plain:dom.example:xmpp 192.0.2.1 SCRAM-SHA-256 - " + c.First())
		challenge, state, ok := strings.Cut(rest, " ")
		if value != 1 || !ok {
			t.Fatalf("the first answer is %d %q", value, rest)
		}
		value, rest = m.ask("proof:plain:dom.example:xmpp 192.0.2.1 SCRAM-SHA-256 - " + state + " " + c.Final(challenge))
		if (value == 1) != (rest == c.Signature) || value != 1 && rest != "" {
			t.Errorf("the last answer is %d %q", value, rest)
		}
		c.Nonce = ""
		return value
	}
	if value := login(); value != 2 {
		t.Errorf("without keys: %d", value)
	}
	if value, _ := m.ask("login:plain:dom.example:xmpp 192.0.2.1 pencil"); value != 1 {
		t.Errorf("PLAIN: %d", value)
	}
	offered(true)
	if value := login(); value != 1 {
		t.Errorf("after a login by PLAIN: %d", value)
	}
	c.Password = "wrong"
	if value := login(); value != 0 {
		t.Errorf("a wrong password: %d", value)
	}
	if value, rest := m.ask("scram:plain:dom.example:xmpp 192.0.2.1 SCRAM-SHA-256 tls-unique y,,n=plain,r=x"); value != 0 || rest != "" {
		t.Errorf("downgraded: %d %q", value, rest)
	}
	if value, rest := m.ask("scram:plain:other.example:xmpp 192.0.2.1 SCRAM-SHA-256 - n,,n=plain,r=x"); value != 0 || rest != "" {
		t.Errorf("a domain that is not served: %d %q", value, rest)
	}
}

// TestScramOfferOfAppPasswords: an app password without keys keeps SCRAM from being offered; a revoked one does not.
func TestScramOfferOfAppPasswords(t *testing.T) {
	seed := filepath.Join(t.TempDir(), "scram.seed")
	r := appRig(t, func(s *setup) {
		s.cfg.Domains[0].ScramSeed = seed
		s.cfg.Domains[0].AppPasswords.RequireAll = true
	})
	d := r.table.Current("dom.example")
	keyless := func(service string) (n int) {
		n, err := r.keyless(d, "dom.example", service)
		if err != nil {
			n = -1
		}
		return n
	}
	counts := func(what string, want int) {
		t.Helper()
		eventually(t, what, func() bool { return keyless("xmpp") == want })
	}
	counts("nothing is missing", 0)
	r.add("joe", apppassword.New{Name: "lost"})
	phone := r.add("Joe", apppassword.New{Name: "phone"})
	counts("two are missing", 2)
	r.revoke("joe", "lost")
	counts("one is missing", 1)
	r.because(r.login("Joe", "xmpp", phone), auth.Allow, "")
	counts("none is missing any more", 0)
}

// TestScramOwnerUnderAttack: guesses from elsewhere do not shut out the owner, from an address that has proved itself.
func TestScramOwnerUnderAttack(t *testing.T) {
	r := newScramRig(t, []string{"joe"}, withLimits)
	r.want(r.prove(pencil("joe")), auth.Allow, auth.SourceBackend)
	guess := func() auth.Answer {
		c := wrong("joe")
		c.Mechanism = "SCRAM-SHA-256"
		req := final(&c, r.ask(sasl(&c, "")))
		req.Client = ""
		return r.ask(req)
	}
	for range 4 {
		r.want(guess(), auth.Deny, auth.SourceBackend)
	}
	for range 2 {
		r.want(guess(), auth.Unavailable, auth.SourceLimitUser)
		r.want(r.prove(pencil("joe")), auth.Allow, auth.SourceBackend)
	}
}
