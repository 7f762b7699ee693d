package wire

import (
	"fmt"
	"testing"

	"postern/internal/auth"
)

// A yes names the account as the backend does, whatever spelling came; a no repeats what came. So
// no spelling evades what a mail server keeps by the name.
func TestDovecotNamesTheAccount(t *testing.T) {
	for _, c := range []struct {
		typed, service  string
		verdict         auth.Verdict
		account, domain string
		want            string
	}{
		{"ALICE@EXAMPLE.ORG.", "smtp", auth.Allow, "alice", "example.org", "OK\t1\tuser=alice@example.org\n"},
		{"alice", "smtp", auth.Allow, "alice", "example.org", "OK\t1\tuser=alice@example.org\n"},
		{"alice", "doveadm", auth.Allow, "", "example.org", "OK\t1\tuser=alice@example.org\n"},
		{"a.lice@example.org", "imap", auth.Allow, "alice", "example.org", "OK\t1\tuser=alice@example.org\n"},
		{"alice", "xmpp", auth.Allow, "alice", "example.org", "OK\t1\tuser=alice\n"},
		{"Alice", "xmpp", auth.Allow, "alice@example.org", "example.org", "OK\t1\tuser=alice\n"},
		{"Alice@example.org", "xmpp", auth.Allow, "alice", "example.org", "OK\t1\tuser=alice@example.org\n"},
		{"alice@example.org", "smtp", auth.Allow, "Alice@EXAMPLE.org", "example.org", "OK\t1\tuser=Alice@example.org\n"},
		{"alice@example.org", "smtp", auth.Allow, "alice@other.example", "example.org", "OK\t1\tuser=alice@other.example@example.org\n"},
		{"alice", "smtp", auth.Allow, "a\tb\n", "example.org", "OK\t1\tuser=a\x01tb\x01n@example.org\n"},
		{"ALICE", "smtp", auth.Deny, "alice", "example.org", "FAIL\t1\tuser=ALICE\n"},
		{"ALICE@Example.org", "smtp", auth.Deny, "alice", "example.org", "FAIL\t1\tuser=ALICE@example.org\n"},
		{"ALICE", "smtp", auth.Unavailable, "", "example.org", "FAIL\t1\tuser=ALICE\ttemp\tcode=temp_fail\n"},
	} {
		s := newSession(t, func(*auth.Request) auth.Answer {
			return auth.Answer{Verdict: c.verdict, Account: c.account, Domain: c.domain}
		})
		got := s.say(hello(1) + fmt.Sprintf("AUTH\t1\tPLAIN\tservice=%s\tresp=%s\n", c.service, b64("\x00"+c.typed+"\x00secret")))
		if got != c.want {
			t.Errorf("%s at %s: %q, want %q", c.typed, c.service, got, c.want)
		}
	}
}

// The table login names the account of an address, and what is no single login name is none.
func TestLoginTables(t *testing.T) {
	for _, c := range []struct {
		key, account, domain string
		tcp, socketmap       string
	}{
		{"Alice@EXAMPLE.org", "alice", "example.org", "200 alice@example.org\n", "20:OK alice@example.org,"},
		{"alice@example.org", "", "", "200 alice@example.org\n", "20:OK alice@example.org,"},
		{"mail@example.org", "josé%", "example.org", "200 jos%C3%A9%25@example.org\n", "21:OK josé%@example.org,"},
		{"x@example.org", "a b", "example.org", "500 no login name\n", "9:NOTFOUND ,"},
		{"x@example.org", "a,b", "example.org", "500 no login name\n", "9:NOTFOUND ,"},
	} {
		answer := func(r *auth.Request) auth.Answer {
			if !r.Named || r.Op != auth.OpIsUser {
				t.Errorf("asked %+v", *r)
			}
			return auth.Answer{Verdict: auth.Allow, Account: c.account, Domain: c.domain}
		}
		tcp := newPeer(t, TCPTable, Options{Table: Login}, answer)
		tcp.send([]byte("get " + c.key + "\n"))
		maps := newPeer(t, Socketmap, Options{}, answer)
		maps.send([]byte(netstring("login " + c.key)))
		if string(tcp.output) != c.tcp || string(maps.output) != c.socketmap {
			t.Errorf("%s: %q and %q, want %q and %q", c.key, tcp.output, maps.output, c.tcp, c.socketmap)
		}
	}
	for v, want := range map[auth.Verdict][2]string{
		auth.Deny:        {"500 no such user\n", "9:NOTFOUND ,"},
		auth.Unavailable: {"400 temporarily unavailable\n", "20:TEMP try again later,"},
	} {
		answer := func(*auth.Request) auth.Answer { return auth.Answer{Verdict: v} }
		tcp := newPeer(t, TCPTable, Options{Table: Login}, answer)
		tcp.send([]byte("get joe@dom.example\n"))
		maps := newPeer(t, Socketmap, Options{}, answer)
		maps.send([]byte(netstring("login joe@dom.example")))
		if string(tcp.output) != want[0] || string(maps.output) != want[1] {
			t.Errorf("%v: %q and %q", v, tcp.output, maps.output)
		}
	}
}

// An unknown map is refused, and the reason has the names that there are.
func TestUnknownMap(t *testing.T) {
	got := steps(t, Socketmap, Options{}, []byte(netstring("aliases joe@dom.example")))
	const want = `unknown map "aliases": the maps are mailbox, login and domain`
	if len(got) != 1 || got[0].ev != Refuse || got[0].req.Fault != want {
		t.Errorf("%+v, want %s", got, want)
	}
}

func netstring(text string) string { return fmt.Sprintf("%d:%s,", len(text), text) }

// With a fixed domain, whatever realm a program sends is not looked at.
func TestFixedDomain(t *testing.T) {
	for _, c := range []struct {
		user, realm string
		want        string // user asked about; empty: refused
	}{
		{"joe", "5ee3a2ac-9a1e-4cf3-8d5e-3a2f6e7d1c55", "joe"}, {"joe", "My Repository", "joe"},
		{"joe", "", "joe"}, {"joe", "a@b", "joe"}, {"joe", "host\n", "joe"}, {"joe@example.org", "", "joe"},
		{"joe@example.org", "My Repository", ""}, {"joe@", "", ""}, {"", "My Repository", ""},
	} {
		got := steps(t, Saslauthd, Options{FixedDomain: "dom.example"}, login(c.user, "secret", "svn", c.realm))
		if len(got) != 1 || (got[0].ev == Ask) != (c.want != "") {
			t.Errorf("%q of %q: %+v", c.user, c.realm, got)
			continue
		}
		if r := got[0].req; c.want != "" && (r.User != c.want || r.Domain != "dom.example") {
			t.Errorf("%q of %q: asked about %s of %s", c.user, c.realm, r.User, r.Domain)
		}
	}
}
