package wire

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"postern/internal/auth"
)

var mailUsers = Options{DefaultDomain: "dom.example", Userdb: Userdb{UID: "5000", GID: "vmail", Home: "/var/vmail/%{domain}/%{user}"}}

// existing answers like a backend with one user.
func existing(r *auth.Request) auth.Answer {
	domain := r.Domain
	if domain == "" {
		domain = "dom.example"
	}
	switch {
	case r.User == "away":
		return auth.Answer{}
	case r.User == "never":
		return auth.Answer{Verdict: auth.Unsupported}
	case strings.EqualFold(r.User, "joe"):
		return auth.Answer{Verdict: auth.Allow, Account: "joe", Domain: strings.ToLower(domain)}
	case r.User == "a b", r.User == "..", r.User == "a/b", r.User == "%{home}":
		return auth.Answer{Verdict: auth.Allow, Account: r.User, Domain: domain}
	}
	return auth.Answer{Verdict: auth.Deny, Domain: domain}
}

func TestDovecotUserdb(t *testing.T) {
	const joe = "\tjoe@dom.example\tuid=5000\tgid=vmail\thome=/var/vmail/dom.example/joe\n"
	long := strings.Repeat("x", 9000)
	for name, c := range map[string]struct {
		line, want string
		closed     bool
	}{
		"Dovecot 2.3":        {"USER\t1\tjoe@dom.example\tservice=lmtp\tlip=192.0.2.1\trip=192.0.2.2", "USER\t1" + joe, false},
		"Dovecot 2.4":        {"USER\t4294836224\tjoe@dom.example\tprotocol=lmtp\tsession=a\tdebug", "USER\t4294836224" + joe, false},
		"chasquid":           {"USER\t1\tjoe@dom.example\tservice=smtp", "USER\t1" + joe, false},
		"no service":         {"USER\t1\tjoe@dom.example", "USER\t1" + joe, false},
		"other spelling":     {"USER\t2\tJOE@DOM.example\tservice=lmtp", "USER\t2" + joe, false},
		"default domain":     {"USER\t2\tjoe\tservice=lmtp", "USER\t2" + joe, false},
		"id 0":               {"USER\t0\tjoe\tservice=lmtp", "USER\t0" + joe, false},
		"blank":              {"USER\t3\ta b\tservice=lmtp", "USER\t3\ta b@dom.example\tuid=5000\tgid=vmail\thome=/var/vmail/dom.example/a b\n", false},
		"unknown":            {"USER\t3\tann@dom.example\tservice=lmtp", "NOTFOUND\t3\n", false},
		"no such name":       {"USER\t3\ta@b@dom.example\tservice=lmtp", "NOTFOUND\t3\n", false},
		"nothing":            {"USER\t3\t\tservice=lmtp", "NOTFOUND\t3\n", false},
		"no domain":          {"USER\t3\tjoe@\tservice=lmtp", "NOTFOUND\t3\n", false},
		"escaped TAB":        {"USER\t3\tj\x01toe\tservice=lmtp", "NOTFOUND\t3\n", false},
		"not UTF-8":          {"USER\t3\tj\xff\tservice=lmtp", "NOTFOUND\t3\n", false},
		"over-long name":     {"USER\t3\t" + long[:1024] + "\tservice=lmtp", "NOTFOUND\t3\n", false},
		"outage":             {"USER\t3\taway\tservice=lmtp", "FAIL\t3\n", false},
		"cannot be asked":    {"USER\t3\tnever\tservice=lmtp", "FAIL\t3\n", false},
		"no directory":       {"USER\t3\t..@dom.example\tservice=lmtp", "FAIL\t3\treason=the name cannot be part of a path\n", false},
		"others' directory":  {"USER\t3\ta/b@dom.example\tservice=lmtp", "FAIL\t3\treason=the name cannot be part of a path\n", false},
		"a variable":         {"USER\t3\t%{home}@dom.example\tservice=lmtp", "FAIL\t3\treason=the name cannot be part of a path\n", false},
		"over-long line":     {"USER\t3\tjoe\tservice=" + long, "FAIL\t3\n", false},
		"over-long no id":    {"USER\tx\tjoe\tservice=" + long, "", true},
		"over-long and else": {long, "", true},
		"LIST":               {"LIST\t7\tservice=doveadm\tuser=*", "DONE\t7\tfail\n", false},
		"LIST alone":         {"LIST\t7", "DONE\t7\tfail\n", false},
		"PASS":               {"PASS\t7\tjoe\tservice=lmtp", "FAIL\t7\n", false},
		"CPID":               {"CPID\t1", "", true},
		"unknown command":    {"REQUEST\t1\t2\t3\tabc", "", true},
		"no id":              {"USER", "", true},
		"no name":            {"USER\t1", "", true},
		"id too large":       {"USER\t4294967296\tjoe", "", true},
		"empty line":         {"", "", true},
	} {
		for _, size := range []int{1, 7, 1 << 20} {
			asked := 0
			p := newPeer(t, DovecotUserdb, mailUsers, func(r *auth.Request) auth.Answer { asked++; return existing(r) })
			input := []byte("VERSION\t1\t1\n" + c.line + "\n")
			for len(input) > 0 {
				n := min(size, len(input))
				p.send(input[:n])
				input = input[n:]
			}
			if string(p.output) != c.want || p.closed != c.closed || asked > 1 {
				t.Errorf("%s, pieces of %d: %q, closed %v, asked %d; want %q", name, size, p.output, p.closed, asked, c.want)
			}
			if p.send([]byte("USER\t9\tjoe\n")); !p.closed && !strings.HasSuffix(string(p.output), "USER\t9"+joe) {
				t.Errorf("%s: the next lookup got %q", name, p.output)
			}
		}
	}
}

// The client's first line is its version.
func TestDovecotUserdbHandshake(t *testing.T) {
	codec, _ := New(DovecotUserdb, mailUsers)
	if got := codec.(Greeter).Greeting(); !regexp.MustCompile(`^VERSION\t1\t[0-9]+\nSPID\t[1-9][0-9]*\n$`).Match(got) {
		t.Errorf("greeting %q", got)
	}
	for _, hello := range []string{"USER\t1\tjoe\n", "VERSION\t2\t0\n", "VERSION\t1\n", "VERSION\n", "GET / HTTP/1.1\r\n"} {
		p := newPeer(t, DovecotUserdb, mailUsers, existing)
		if p.send([]byte(hello)); !p.closed || len(p.output) > 0 {
			t.Errorf("%q: %q, closed %v", hello, p.output, p.closed)
		}
	}
}

// Without templates the fields are the same for all, and without values they are left out.
func TestDovecotUserdbFields(t *testing.T) {
	for _, c := range []struct {
		userdb Userdb
		want   string
	}{
		{Userdb{}, "USER\t1\t..@dom.example\n"},
		{Userdb{Home: "/var/vmail"}, "USER\t1\t..@dom.example\thome=/var/vmail\n"},
		{Userdb{UID: "1", GID: "2"}, "USER\t1\t..@dom.example\tuid=1\tgid=2\n"},
	} {
		p := newPeer(t, DovecotUserdb, Options{Userdb: c.userdb}, existing)
		if p.send([]byte("VERSION\t1\t1\nUSER\t1\t..\n")); string(p.output) != c.want {
			t.Errorf("%+v: %q, want %q", c.userdb, p.output, c.want)
		}
	}
}

// The codes of control characters are Dovecot's.
func TestDovecotEscapes(t *testing.T) {
	const plain, coded = "a\x00b\x01c\td\re\nf", "a\x010b\x011c\x01td\x01re\x01nf"
	if got := string(appendEscaped(nil, plain)); got != coded {
		t.Errorf("%q is coded as %q", plain, got)
	}
	for field, want := range map[string]string{coded: plain, "a\x01lb": "a\nb", "a\x01xb": "axb", "a\x01": "a\x01", "": "", "a b": "a b"} {
		if got := unescaped([]byte(field)); got != want {
			t.Errorf("%q is %q, want %q", field, got, want)
		}
	}
}

func FuzzDovecotUserdb(f *testing.F) {
	for _, line := range []string{
		"USER\t1\tjoe@dom.example\tservice=lmtp", "USER\t2\tjo\x01te\tprotocol=smtp\trip=192.0.2.1", "LIST\t3", "PASS\t4\tjoe",
		"USER\t1\t" + strings.Repeat("x", 100), "USER\t1\t..@d", "REQUEST\t1",
	} {
		f.Add([]byte("VERSION\t1\t1\n"+line+"\nUSER\t9\tjoe\n"), uint16(14), uint16(64))
	}
	f.Fuzz(func(t *testing.T, input []byte, cut, limit uint16) {
		checkDecode(t, DovecotUserdb, input, cut, limit)
		p := newPeer(t, DovecotUserdb, mailUsers, existing)
		p.send(input)
		for line := range strings.Lines(string(p.output)) {
			if !regexp.MustCompile(`^(?:USER\t\d+\t[^\t]+@[^\t]+\tuid=5000\tgid=vmail\thome=/var/vmail/[^\t/]+/[^\t/]+|NOTFOUND\t\d+|FAIL\t\d+(\treason=[^\t]*)?|DONE\t\d+\tfail)\n$`).MatchString(line) {
				t.Fatalf("reply %q", line)
			}
		}
		if fmt.Sprint(strings.Count(string(p.output), "..")) != "0" && strings.Contains(string(p.output), "/../") {
			t.Fatalf("a path leads up: %q", p.output)
		}
	})
}
