package wire

import (
	"testing"

	"postern/internal/auth"
)

// TestScramOperations: the messages of SCRAM that mod_auth_postern passes on.
func TestScramOperations(t *testing.T) {
	request := func(op auth.Operation, s auth.SASL) auth.Request {
		return auth.Request{Op: op, User: "joe", Domain: "dom.example", Service: "xmpp", Client: "2001:db8::1", SASL: &s}
	}
	const from = ":joe:dom.example:xmpp 2001:db8::1 "
	for _, c := range []struct {
		frame, message string
		want           auth.Request
	}{
		{"scram" + from + "SCRAM-SHA-1 - n,,n=joe,r=a b:c", "n,,n=joe,r=a b:c", request(auth.OpScram, auth.SASL{Mechanism: "SCRAM-SHA-1"})},
		{"scram" + from + "SCRAM-SHA-1-PLUS tls-unique,tls-exporter m", "m",
			request(auth.OpScram, auth.SASL{Mechanism: "SCRAM-SHA-1-PLUS", Bindings: "tls-unique,tls-exporter"})},
		{"proof" + from + "SCRAM-SHA-1 - st:ate c=biws,r=x", "c=biws,r=x", request(auth.OpAuth, auth.SASL{Mechanism: "SCRAM-SHA-1", State: "st:ate"})},
		{"proof" + from + "SCRAM-SHA-1 AGRhIHRh - c=biws,r=x", "c=biws,r=x",
			request(auth.OpAuth, auth.SASL{Mechanism: "SCRAM-SHA-1", Binding: "\x00da ta", State: "-"})},
		{"scram" + from + "SCRAM-SHA-1 n,,n=joe,r=a", "", auth.Request{Op: auth.OpScram}},
		{"scram" + from + "SCRAM-SHA-1 - ", "", auth.Request{Op: auth.OpScram}},
		{"scram" + from + "SCRAM\n - m", "", auth.Request{Op: auth.OpScram}},
		{"scram:joe:dom.example", "", auth.Request{Op: auth.OpScram}},
		{"proof" + from + "SCRAM-SHA-1 no.base64 st c=biws,r=x", "", auth.Request{Op: auth.OpAuth}},
		{"proof" + from + "SCRAM-SHA-1 - c=biws,r=x", "", auth.Request{Op: auth.OpAuth}},
	} {
		for _, pieces := range [][][]byte{{frame(c.frame)}, bytewise(frame(c.frame))} {
			got := steps(t, Ejabberd, Options{}, pieces...)
			if len(got) != 1 || (got[0].ev == Ask) != (c.message != "") {
				t.Errorf("%q: %+v", c.frame, got)
				continue
			}
			req := got[0].req
			if req.Secret.Reveal() != c.message {
				t.Errorf("%q: the message is %q", c.frame, req.Secret.Reveal())
			}
			if req.Secret = (auth.Secret{}); req.Fault != "" {
				req = auth.Request{Op: req.Op}
			}
			if !same(req, c.want) {
				t.Errorf("%q: %+v, want %+v", c.frame, req, c.want)
			}
		}
	}
}

// TestScramAnswers: postern's message follows a yes alone.
func TestScramAnswers(t *testing.T) {
	codec, err := New(Ejabberd, Options{BinaryAnswers: true})
	if err != nil {
		t.Fatal(err)
	}
	first, last := auth.Request{Op: auth.OpScram, SASL: &auth.SASL{}}, auth.Request{Op: auth.OpAuth, SASL: &auth.SASL{}}
	for _, c := range []struct {
		req  auth.Request
		a    auth.Answer
		want string
	}{
		{first, auth.Answer{Verdict: auth.Allow, Body: []byte("r=x st")}, "\x00\x08\x00\x01r=x st"},
		{last, auth.Answer{Verdict: auth.Allow, Body: []byte("v=x")}, "\x00\x05\x00\x01v=x"},
		{last, auth.Answer{Verdict: auth.Deny, Body: []byte("v=x")}, "\x00\x02\x00\x00"},
		{last, auth.Answer{}, "\x00\x02\x00\x02"},
		{first, auth.Answer{Verdict: auth.Unsupported}, "\x00\x02\x00\x03"},
		{first, auth.Answer{Verdict: auth.Allow, Body: make([]byte, maxSASL+1)}, "\x00\x02\x00\x02"},
	} {
		if got := codec.AppendAnswer(nil, &c.req, c.a); string(got) != c.want {
			t.Errorf("%v, %v: %q, want %q", c.req.Op, c.a.Verdict, got, c.want)
		}
	}
}

// TestScramThroughRelay: the relay protocol has no messages of mechanisms and no mark of tokens, and does not offer them.
func TestScramThroughRelay(t *testing.T) {
	watch := auth.Request{Op: auth.OpWatch}
	flags := byte(auth.WatchTokens | auth.WatchScram | auth.WatchBearer)
	got := relayCodec{}.AppendAnswer(nil, &watch, auth.Answer{Verdict: auth.Allow, Body: []byte{flags}})
	if last := got[len(got)-1]; auth.WatchFlags(last) != auth.WatchTokens {
		t.Errorf("the flags are %d", last)
	}
	question := AppendRelayRequest(nil, &auth.Request{Op: auth.OpScram, User: "joe", Domain: "dom.example", Secret: auth.NewSecret("x")}, 1)
	for _, s := range steps(t, Relay, Options{}, question) {
		if s.ev != Broken {
			t.Errorf("%v: %+v", s.ev, s.req)
		}
	}
}
