package wire

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
)

// dovecotVector is a case of testdata/wire_dovecot.json.
type dovecotVector struct {
	Name        string `json:"name"`
	Kind        string `json:"kind"`
	OutputRegex string `json:"output_regex"`
	Steps       []struct {
		SendHex    string              `json:"send_hex"`
		SendParts  []part              `json:"send_parts"`
		Requests   []map[string]string `json:"requests"`
		Results    []string            `json:"results"`
		ReplyRegex string              `json:"reply_regex"`
		Then       string              `json:"then"`
	} `json:"steps"`
	ReplyHex string `json:"reply_hex"`
	Postfix  string `json:"postfix_3_7_11"`
	Exim     string `json:"exim_4_96"`
	Doveadm  string `json:"doveadm_2_3_19"`
	Prosody  string `json:"prosody_0_12_3"`
}

func loadDovecot(tb testing.TB) (vectors []dovecotVector) {
	tb.Helper()
	text, err := os.ReadFile("testdata/wire_dovecot.json")
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		tb.Fatal(err)
	}
	if len(vectors) < 60 {
		tb.Fatalf("only %d vectors", len(vectors))
	}
	return vectors
}

// session plays the server around a codec. Answers leave in the order of the questions.
type session struct {
	tb     testing.TB
	codec  *dovecot
	now    time.Time
	answer func(*auth.Request) auth.Answer
	unread []byte
	output string
	asked  []auth.Request
	closed bool
}

func newSession(tb testing.TB, answer func(*auth.Request) auth.Answer) *session {
	s := &session{tb: tb, now: time.Unix(1700000000, 0), answer: answer}
	s.codec = newDovecot(16384, Options{DefaultDomain: "dom.example", Now: func() time.Time { return s.now }})
	return s
}

// allow is the answer of a session in which every password is right.
func allow(*auth.Request) auth.Answer { return auth.Answer{Verdict: auth.Allow} }

// hello begins a session with a client of a minor version.
func hello(minor int) string { return fmt.Sprintf("VERSION\t1\t%d\nCPID\t9711\n", minor) }

// authLine asks for a login by PLAIN as Postfix does.
func authLine(id int, message string) string {
	return fmt.Sprintf("AUTH\t%d\tPLAIN\tservice=smtp\tnologin\tlip=192.0.2.1\trip=192.0.2.2\tresp=%s\n", id, b64(message))
}

func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// send feeds input in pieces of a size, and returns what is answered to it.
func (s *session) send(input []byte, size int) string {
	s.output = ""
	for piece := range slices.Chunk(input, size) {
		s.unread = append(s.unread, piece...)
		for more := false; !more && !s.closed; {
			more = s.step()
		}
	}
	return s.output
}

func (s *session) say(text string) string { return s.send([]byte(text), len(text)) }

// step decodes one frame; more asks for input.
func (s *session) step() (more bool) {
	var req auth.Request
	n, ev := s.codec.Decode(s.unread, &req)
	s.unread = s.unread[n:]
	a := auth.Answer{}
	switch ev {
	case More:
		return true
	case Note:
		return false
	case Broken:
		s.closed = true
		return false
	case Ask:
		s.asked = append(s.asked, req)
		a = s.answer(&req)
	case Refuse:
		a = auth.Answer{Verdict: auth.Deny, Source: auth.SourceMalformed}
	case Reply:
		a.Body = s.codec.Reply()
	default:
		s.tb.Fatalf("event %d", ev)
	}
	if s.codec.ClosesAfterFlush(&req, a) {
		s.closed = true
		return false
	}
	s.output += string(s.codec.AppendAnswer(nil, &req, a))
	return false
}

func (v *dovecotVector) run(t *testing.T, size int) {
	var results []string
	s := newSession(t, func(*auth.Request) auth.Answer {
		if len(results) == 0 {
			t.Fatal("a request was not expected")
		}
		a := auth.Answer{Verdict: verdicts[results[0]], Source: auth.SourceBackend}
		results = results[1:]
		return a
	})
	for i, step := range v.Steps {
		s.asked, results = nil, step.Results
		got := s.send(join(t, step.SendHex, step.SendParts), size)
		asked := []map[string]string{}
		for _, r := range s.asked {
			asked = append(asked, map[string]string{"op": r.Op.String(), "user": r.User, "domain": r.Domain, "password": r.Secret.Reveal()})
		}
		if !reflect.DeepEqual(asked, step.Requests) {
			t.Errorf("step %d: requests %q, want %q", i, asked, step.Requests)
		}
		if !regexp.MustCompile(step.ReplyRegex).MatchString(got) {
			t.Errorf("step %d: replied %q, want %s", i, got, step.ReplyRegex)
		}
		if s.closed != (step.Then == "close") {
			t.Errorf("step %d: closed %v, want %s", i, s.closed, step.Then)
		}
	}
}

func TestDovecotVectors(t *testing.T) {
	for _, v := range loadDovecot(t) {
		switch v.Kind {
		case "session":
			for _, size := range []int{1, 2, 3, 7, 1 << 20} {
				t.Run(fmt.Sprintf("%s/pieces of %d", v.Name, size), func(t *testing.T) { v.run(t, size) })
			}
		case "greeting":
			first, second := newDovecot(16384, Options{}).Greeting(), newDovecot(16384, Options{}).Greeting()
			if !regexp.MustCompile(v.OutputRegex).Match(first) || string(first) == string(second) {
				t.Errorf("greetings %q, %q, want %s", first, second, v.OutputRegex)
			}
		}
	}
}

// TestDovecotRepliesAreUnderstood compares the replies with what the real clients made of
// replies when the vectors were recorded.
func TestDovecotRepliesAreUnderstood(t *testing.T) {
	seen := map[string]dovecotVector{}
	for _, v := range loadDovecot(t) {
		if v.Kind == "reply" {
			seen[string(mustHex(t, v.ReplyHex))] = v
		}
	}
	reply := func(v auth.Verdict) dovecotVector {
		s := newSession(t, func(*auth.Request) auth.Answer { return auth.Answer{Verdict: v} })
		return seen[s.say(hello(1)+authLine(1, "\x00joe\x00secret"))]
	}
	if v := reply(auth.Allow); v.Postfix != "235" || v.Exim != "235" || v.Doveadm != "ok" || v.Prosody != "success" {
		t.Errorf("yes is taken for %+v", v)
	}
	if v := reply(auth.Deny); v.Postfix != "535" || v.Exim != "535" || v.Doveadm != "failed" || v.Prosody != "not-authorized" {
		t.Errorf("no is taken for %+v", v)
	}
}

// A login carries the client's address and service; the name is taken apart at its last @ and
// repeated whole.
func TestDovecotRequest(t *testing.T) {
	for _, c := range []struct{ name, user, domain string }{
		{"joe", "joe", ""}, {"joe@dom.example", "joe", "dom.example"}, {"a b@dom.example", "a b", "dom.example"},
	} {
		s := newSession(t, allow)
		got := s.say(hello(0) + authLine(4294967295, "\x00"+c.name+"\x00pa:ss word"))
		if want := "OK\t4294967295\tuser=" + c.name + "\n"; got != want {
			t.Errorf("replied %q, want %q", got, want)
		}
		want := auth.Request{Op: auth.OpAuth, Named: true, User: c.user, Domain: c.domain, Service: "smtp", Client: "192.0.2.2",
			Secret: auth.NewSecret("pa:ss word"), Tag: s.asked[0].Tag}
		if !same(s.asked[0], want) {
			t.Errorf("asked %+v, want %+v", s.asked[0], want)
		}
	}
	for _, name := range []string{"a@b@dom.example", "joe@", "@dom.example", "@", "joe@dom/example", strings.Repeat("x", 1024)} {
		s := newSession(t, allow)
		if got := s.say(hello(1) + authLine(7, "\x00"+name+"\x00secret")); got != "FAIL\t7\n" || len(s.asked) > 0 {
			t.Errorf("%q: replied %q, asked %d", name, got, len(s.asked))
		}
	}
}

// Dovecot 2.4 calls the service protocol. What is new in its requests changes nothing, but a client
// of minor version 4 wants an answer to CANCEL.
func TestDovecot24(t *testing.T) {
	s := newSession(t, allow)
	got := s.say(hello(3) + "AUTH\t1\tPLAIN\tprotocol=imap\tfinal-resp-ok\tsecured=tls\tsession=x+\trip=192.0.2.2\tclient_id=\"a\"\tresp=" + b64("\x00joe\x00secret") + "\n")
	if want := "OK\t1\tuser=joe\n"; got != want || len(s.asked) != 1 || s.asked[0].Service != "imap" || s.asked[0].Client != "192.0.2.2" {
		t.Errorf("replied %q to %+v, want %q", got, s.asked, want)
	}
	for minor, want := range map[int]string{3: "CONT\t1\t\n", 4: "CONT\t1\t\nCANCELLED\t1\nCANCELLED\t9\n"} {
		s := newSession(t, allow)
		if got := s.say(hello(minor) + prompted(1) + "CANCEL\t1\nCANCEL\t9\n"); got != want || s.closed {
			t.Errorf("1.%d: replied %q, closed %v, want %q", minor, got, s.closed, want)
		}
	}
}

// doveadm and some mail programs send an authorisation name: it may be the login name, completed.
func TestDovecotAuthorisation(t *testing.T) {
	for message, ok := range map[string]bool{
		"joe\x00joe\x00secret":                             true,
		"joe@dom.example\x00joe\x00secret":                 true,
		"joe\x00joe@dom.example\x00secret":                 true,
		"joe@DOM.example.\x00joe\x00secret":                true,
		"joe@dom.example\x00joe@DOM.example\x00secret":     true,
		"joe@other.example\x00joe\x00secret":               false,
		"joe\x00joe@other.example\x00secret":               false,
		"ann@dom.example\x00joe\x00secret":                 false,
		"Joe@dom.example\x00joe\x00secret":                 false,
		"joe@\x00joe\x00secret":                            false,
		"@dom.example\x00joe\x00secret":                    false,
		"joe@dom.example@dom.example\x00joe\x00secret":     false,
		strings.Repeat("x", 3000) + "\x00joe\x00secret":    false,
		"joe@dom.example\x00joe@dom.example\x00sec\x00ret": false,
	} {
		s := newSession(t, allow)
		if got := s.say(hello(2) + authLine(1, message)); strings.HasPrefix(got, "OK\t1\t") != ok || s.closed {
			t.Errorf("%q: replied %q", message, got)
		}
	}
}

// A login in a line over the limit fails alone: other logins share the connection. Prosody has one
// at a time.
func TestDovecotOverlong(t *testing.T) {
	long := strings.Repeat("A", 20000)
	for name, c := range map[string]struct {
		minor  int
		line   string
		want   string
		closed bool
	}{
		"login":            {0, "AUTH\t1\tPLAIN\tservice=smtp\tresp=" + long, "FAIL\t1\treason=the request is too long\n", false},
		"of Dovecot 2.4":   {3, "AUTH\t1\tPLAIN\tprotocol=smtp\tresp=" + long, "FAIL\t1\treason=the request is too long\n", false},
		"continuation":     {2, "CONT\t7\t" + long, "FAIL\t7\treason=the request is too long\n", false},
		"of Prosody":       {1, "AUTH\t1\tPLAIN\tservice=xmpp\tresp=" + long, "", true},
		"no id":            {2, "AUTH\tx\tPLAIN\tservice=smtp\tresp=" + long, "", true},
		"id of a login":    {2, "AUTH\t7\tPLAIN\tservice=smtp\tresp=" + long, "", true},
		"unknown command":  {2, "NOTE\t1\t" + long, "", true},
		"no field at all":  {2, long, "", true},
		"before the hello": {-1, "AUTH\t1\tPLAIN\tservice=smtp\tresp=" + long, "", true},
	} {
		for _, size := range []int{100, 1 << 20} {
			s := newSession(t, allow)
			if c.minor >= 0 {
				s.say(hello(c.minor) + prompted(7))
			}
			if got := s.send([]byte(c.line+"\n"), size); got != c.want || s.closed != c.closed || len(s.asked) > 0 {
				t.Errorf("%s: replied %q, closed %v; want %q", name, got, s.closed, c.want)
			}
			if got := s.say(authLine(2, "\x00joe\x00secret")); !c.closed && got != "OK\t2\tuser=joe\n" {
				t.Errorf("%s: the next login got %q", name, got)
			}
		}
	}
}
