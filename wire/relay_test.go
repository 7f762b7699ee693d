package wire

import (
	"errors"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
)

func relayRequests() []auth.Request {
	return []auth.Request{
		{Op: auth.OpAuth, User: "joe", Domain: "dom.example", Secret: auth.NewSecret("a:b\n\x01c"), Patience: 9 * time.Second},
		{Op: auth.OpAuth, User: "josé", Secret: auth.NewSecret("x"), Service: "imap", Client: "192.0.2.1", Patience: time.Millisecond},
		{Op: auth.OpIsUser, User: "joe", Domain: "dom.example", Patience: time.Second},
		{Op: auth.OpIsUser, User: "joe+x", Base: "joe", Domain: "dom.example", Patience: time.Second},
		{Op: auth.OpIsDomain, Domain: "dom.example", Patience: time.Second},
		{Op: auth.OpSetPass, User: "joe", Domain: "dom.example", Secret: auth.NewSecret(strings.Repeat("x", auth.MaxSecret)), Patience: time.Second},
		{Op: auth.OpIsUser, User: "alice+news", Domain: "d", Base: "alice", Named: true, Patience: time.Second},
		{Op: auth.OpRoster, User: strings.Repeat("u", auth.MaxName), Domain: strings.Repeat("d", auth.MaxName), Patience: time.Hour},
	}
}

func sameRequest(a, b auth.Request) bool {
	sameSecret := a.Secret.Reveal() == b.Secret.Reveal()
	a.Secret, b.Secret = auth.Secret{}, auth.Secret{}
	return sameSecret && a == b
}

func TestRelayRoundTrip(t *testing.T) {
	var stream []byte
	for _, r := range relayRequests() {
		stream = AppendRelayRequest(stream, &r, r.Patience)
	}
	for _, piece := range []int{1, 7, len(stream)} {
		codec, err := New(Relay, Options{})
		if err != nil {
			t.Fatal(err)
		}
		var got []auth.Request
		var buf []byte
		for rest := stream; len(rest) > 0 || len(buf) > 0; {
			var req auth.Request
			n, ev := codec.Decode(buf, &req)
			buf = buf[n:]
			if ev == Ask {
				got = append(got, req)
				continue
			}
			if ev != More || len(rest) == 0 {
				t.Fatalf("event %d with %d bytes left", ev, len(rest))
			}
			size := min(piece, len(rest))
			buf, rest = append(buf, rest[:size]...), rest[size:]
		}
		for i, want := range relayRequests() {
			if i >= len(got) || !sameRequest(got[i], want) {
				t.Fatalf("in pieces of %d: request %d came through as %+v", piece, i, got[i])
			}
		}
	}
}

func TestRelayRefuses(t *testing.T) {
	good := AppendRelayRequest(nil, &auth.Request{Op: auth.OpAuth, User: "joe", Domain: "d", Secret: auth.NewSecret("x")}, time.Second)
	change := func(at int, to byte) []byte {
		b := append([]byte(nil), good...)
		b[at] = to
		return b
	}
	asked := func(r auth.Request) []byte { return AppendRelayRequest(nil, &r, time.Second) }
	for name, c := range map[string]struct {
		frame []byte
		want  Event
	}{
		"other version":     {change(4, 1), Broken},
		"no operation":      {change(5, 0), Broken},
		"unknown operation": {change(5, byte(auth.Operations)), Broken},
		"field too long":    {change(11, 0xff), Broken},
		"field too short":   {change(11, 1), Broken},
		"frame too long":    {[]byte{0xff, 0, 0, 0}, Broken},
		"frame too short":   {[]byte{0, 0, 0, 3}, Broken},
		"bad name":          {asked(auth.Request{Op: auth.OpAuth, User: "j@e", Domain: "d", Secret: auth.NewSecret("x")}), Refuse},
		"no user":           {asked(auth.Request{Op: auth.OpIsUser, Domain: "d"}), Refuse},
		"user of a domain":  {asked(auth.Request{Op: auth.OpIsDomain, User: "joe", Domain: "d"}), Refuse},
		"no domain":         {asked(auth.Request{Op: auth.OpIsDomain}), Refuse},
		"cut":               {good[:len(good)-1], More},
	} {
		var req auth.Request
		if _, ev := (relayCodec{}).Decode(c.frame, &req); ev != c.want {
			t.Errorf("%s: event %d, want %d", name, ev, c.want)
		}
	}
}

func TestRelayAnswers(t *testing.T) {
	answers := []auth.Answer{
		{Verdict: auth.Allow, Source: auth.SourceHot}, {Verdict: auth.Unavailable, Source: auth.SourceDeadline},
		{Verdict: auth.Allow, Source: auth.SourceBackend, Body: []byte("{}\n")},
	}
	var stream []byte
	for _, a := range answers {
		stream = relayCodec{}.AppendAnswer(stream, &auth.Request{Op: auth.OpAuth}, a)
	}
	for _, want := range answers {
		for cut := range 6 {
			if n, _, err := DecodeRelayAnswer(stream[:cut]); n != 0 || err != nil {
				t.Fatalf("of %d bytes %d were taken, %v", cut, n, err)
			}
		}
		n, a, err := DecodeRelayAnswer(stream)
		if err != nil || a.Verdict != want.Verdict || a.Source != want.Source || string(a.Body) != string(want.Body) {
			t.Fatalf("got %+v, %v, want %+v", a, err, want)
		}
		stream = stream[n:]
	}
	for _, b := range [][]byte{{0, 0, 0, 1, 0, 0}, {0, 0, 0, 2, 9, 0}, {0xff, 0, 0, 0}} {
		if _, _, err := DecodeRelayAnswer(b); !errors.Is(err, ErrRelay) {
			t.Errorf("%x: %v", b, err)
		}
	}
	large := relayCodec{}.AppendAnswer(nil, &auth.Request{Op: auth.OpRoster}, auth.Answer{Verdict: auth.Allow, Body: make([]byte, relayMaxAnswer)})
	if n, a, err := DecodeRelayAnswer(large); err != nil || n != len(large) || a.Verdict != auth.Unavailable {
		t.Errorf("a body that is too long: %d, %v, %v", n, a.Verdict, err)
	}
}

// The name of an account crosses the relay, if it was asked for.
func TestRelayNamesTheAccount(t *testing.T) {
	named := auth.Request{Op: auth.OpIsUser, User: "mail", Domain: "DOM.example", Named: true}
	for _, c := range []struct {
		req  auth.Request
		a    auth.Answer
		want auth.Answer
	}{
		{named, auth.Answer{Verdict: auth.Allow, Account: "alice", Domain: "dom.example"}, auth.Answer{Verdict: auth.Allow, Account: "alice", Domain: "dom.example"}},
		{named, auth.Answer{Verdict: auth.Deny, Account: "alice", Domain: "dom.example"}, auth.Answer{Verdict: auth.Deny}},
		{auth.Request{Op: auth.OpIsUser, User: "mail", Domain: "d"}, auth.Answer{Verdict: auth.Allow, Account: "alice", Domain: "d"}, auth.Answer{Verdict: auth.Allow}},
	} {
		_, got, err := DecodeRelayAnswer(relayCodec{}.AppendAnswer(nil, &c.req, c.a))
		got = NameRelayAnswer(&c.req, got)
		if err != nil || got.Verdict != c.want.Verdict || got.Account != c.want.Account || got.Domain != c.want.Domain || len(got.Body) > 0 {
			t.Errorf("%+v: got %+v, %v", c, got, err)
		}
	}
}

func TestRelayGreeting(t *testing.T) {
	codec, _ := New(Relay, Options{})
	greeting := codec.(Greeter).Greeting()
	if len(greeting) != RelayGreeting || CheckRelayGreeting(greeting) != nil {
		t.Errorf("the greeting %q is not taken", greeting)
	}
	greeting[3]++
	if !errors.Is(CheckRelayGreeting(greeting), ErrRelay) {
		t.Error("the greeting of another version is taken")
	}
}

func FuzzRelay(f *testing.F) {
	for _, r := range relayRequests()[:4] {
		f.Add(AppendRelayRequest(nil, &r, r.Patience))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var req auth.Request
		n, ev := relayCodec{}.Decode(data, &req)
		if n < 0 || n > len(data) || ev == Ask && n == 0 {
			t.Fatalf("took %d of %d bytes", n, len(data))
		}
		if ev != Ask {
			return
		}
		if req.Op.NeedsSecret() {
			if err := auth.CheckSecret(req.Secret.Reveal()); err != nil {
				t.Fatal(err)
			}
		}
		var again auth.Request
		if _, ev := (relayCodec{}).Decode(AppendRelayRequest(nil, &req, req.Patience), &again); ev != Ask {
			t.Fatalf("what was decoded does not encode: event %d", ev)
		}
		if req.Patience > 0 && !sameRequest(req, again) {
			t.Fatalf("%+v became %+v", req, again)
		}
	})
}
