package wire

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
)

// prompted begins a login that the client does not finish yet.
func prompted(id int) string { return fmt.Sprintf("AUTH\t%d\tPLAIN\tservice=smtp\n", id) }

// What a client sends late, twice, or after it cancelled.
func TestDovecotOpenLogins(t *testing.T) {
	cont := "CONT\t1\t" + b64("\x00joe\x00secret") + "\n"
	const late = "FAIL\t1\treason=the login took too long\n"
	for name, c := range map[string]struct {
		age     time.Duration
		then    string
		want    string
		closed  bool
		unasked bool
	}{
		"in time":           {dialogueAge, cont, "OK\t1\tuser=joe\n", false, false},
		"late":              {dialogueAge + 1, cont, late, false, true},
		"late, twice":       {dialogueAge + 1, cont + cont, late + late, false, true},
		"late, same id":     {dialogueAge + 1, prompted(1) + cont, "CONT\t1\t\nOK\t1\tuser=joe\n", false, false},
		"in time, same id":  {dialogueAge, prompted(1) + cont, "", true, true},
		"twice":             {0, cont + cont, "OK\t1\tuser=joe\n" + late, false, false},
		"cancelled":         {0, "CANCEL\t1\n" + prompted(1) + cont, "CONT\t1\t\nOK\t1\tuser=joe\n", false, false},
		"no id":             {0, "CANCEL\n", "", true, true},
		"no data":           {0, "CONT\t1\n", "", true, true},
		"bare CR":           {0, "CONT\t1\tAGpv\rZQBz\n", "FAIL\t1\tcode=invalid_base64\treason=invalid base64\n", false, true},
		"not base64":        {0, "CONT\t1\t!!!\n" + cont, "FAIL\t1\tcode=invalid_base64\treason=invalid base64\n" + late, false, true},
		"spare bits":        {0, "CONT\t1\tAGpvZQBzZWNyZXR=\n", "FAIL\t1\tcode=invalid_base64\treason=invalid base64\n", false, true},
		"the greeting anew": {0, hello(1), "", true, true},
	} {
		s := newSession(t, allow)
		if got := s.say(hello(1) + prompted(1)); got != "CONT\t1\t\n" {
			t.Fatalf("prompted with %q", got)
		}
		s.now = s.now.Add(c.age)
		if got := s.say(c.then); got != c.want || s.closed != c.closed || (len(s.asked) == 0) != c.unasked {
			t.Errorf("%s: replied %q, closed %v, asked %d; want %q, %v", name, got, s.closed, len(s.asked), c.want, c.closed)
		}
	}
}

// A client that leaves logins unfinished keeps the newest of them.
func TestDovecotForgetsTheOldest(t *testing.T) {
	s := newSession(t, allow)
	s.say(hello(0))
	const n = 10 * maxDialogues
	for id := 1; id <= n; id++ {
		s.say(prompted(id))
		if len(s.codec.open) > maxDialogues {
			t.Fatalf("%d logins are kept", len(s.codec.open))
		}
	}
	for _, id := range []int{1, n - maxDialogues, n - maxDialogues + 1, n} {
		want := fmt.Sprintf("OK\t%d\tuser=joe\n", id)
		if id <= n-maxDialogues {
			want = fmt.Sprintf("FAIL\t%d\treason=the login took too long\n", id)
		}
		if got := s.say(fmt.Sprintf("CONT\t%d\t%s\n", id, b64("\x00joe\x00secret"))); got != want {
			t.Errorf("replied %q, want %q", got, want)
		}
	}
}

// While an answer is pending its id cannot be used; after CANCEL the answer is dropped, even if
// the id is used again.
func TestDovecotWhileAsked(t *testing.T) {
	ask := func(d *dovecot, line string) (req auth.Request, ev Event) {
		_, ev = d.Decode([]byte(line), &req)
		return req, ev
	}
	begin := func(minor int) (*dovecot, auth.Request) {
		d := newDovecot(16384, Options{})
		for line := range strings.Lines(hello(minor)) {
			ask(d, line)
		}
		req, ev := ask(d, authLine(1, "\x00joe\x00one"))
		if ev != Ask {
			t.Fatalf("event %d", ev)
		}
		return d, req
	}
	yes, cannot := auth.Answer{Verdict: auth.Allow}, auth.Answer{}
	for _, line := range []string{authLine(1, "\x00joe\x00two"), prompted(1), "CONT\t1\t" + b64("x") + "\n"} {
		d, _ := begin(1)
		if _, ev := ask(d, line); ev != Broken {
			t.Errorf("%q: event %d, want Broken", line, ev)
		}
	}
	d, first := begin(0)
	if _, ev := ask(d, "CANCEL\t1\n"); ev != Note {
		t.Fatalf("CANCEL: event %d", ev)
	}
	second, ev := ask(d, authLine(1, "\x00joe\x00two"))
	if ev != Ask || second.Secret.Reveal() != "two" {
		t.Fatalf("the id cannot be used again: event %d", ev)
	}
	if d.ClosesAfterFlush(&first, cannot) || len(d.AppendAnswer(nil, &first, yes)) > 0 {
		t.Error("a cancelled login was answered")
	}
	if !d.ClosesAfterFlush(&second, cannot) || d.ClosesAfterFlush(&second, yes) {
		t.Error("a temporary failure does not close the connection, or a yes does")
	}
	if got := d.AppendAnswer(nil, &second, yes); string(got) != "OK\t1\tuser=joe\n" {
		t.Errorf("replied %q", got)
	}
	if got := d.AppendAnswer(nil, &second, yes); len(got) > 0 {
		t.Errorf("replied %q once more", got)
	}
	d, first = begin(1)
	if got := d.AppendAnswer(nil, &first, cannot); d.ClosesAfterFlush(&first, cannot) || string(got) != "FAIL\t1\tuser=joe\ttemp\tcode=temp_fail\n" {
		t.Errorf("cannot tell: %q", got)
	}
}

// No password is left in what the codec keeps.
func TestDovecotKeepsNoPassword(t *testing.T) {
	d := newDovecot(16384, Options{})
	for _, line := range []string{
		"VERSION\t1\t1\n", "CPID\t1\n", authLine(1, "\x00joe\x00canary-1"), "AUTH\t2\tLOGIN\tservice=smtp\tresp=" + b64("joe") + "\n",
		"CONT\t2\t" + b64("canary-2") + "\n", authLine(3, "\x00joe\x00canary-3\x00"), authLine(4, "\x00joe\x00canary-4") + "!",
	} {
		var req auth.Request
		d.Decode([]byte(line), &req)
		if kept := d.plain[:cap(d.plain)]; bytes.Contains(kept, []byte("canary")) {
			t.Errorf("after %q: %q is kept", line, kept)
		}
	}
}

func FuzzDovecot(f *testing.F) {
	for _, v := range loadDovecot(f) {
		var input []byte
		for _, s := range v.Steps {
			input = append(input, join(f, s.SendHex, s.SendParts)...)
		}
		if v.Kind == "session" && len(input) < 4096 {
			f.Add(input, uint16(len(input)/2), uint16(0))
			f.Add(input, uint16(3), uint16(64))
		}
	}
	f.Add([]byte(hello(2)+"AUTH\t1\tLOGIN\tservice=a\x01tb\tresp="+b64("j\xc3\xa9@d")+"\nCONT\t1\t"+b64("p\t\n")+"\n"), uint16(40), uint16(0))
	f.Add([]byte(hello(0)+bearerLine("OAUTHBEARER", rfcMessage)+bearerLine("XOAUTH2", "")+"CONT\t7\tAQ==\n"), uint16(60), uint16(0))
	f.Fuzz(func(t *testing.T, input []byte, cut, limit uint16) {
		checkDecode(t, Dovecot, input, cut, limit)
		checkReplies(t, input)
	})
}

// checkReplies: whatever is sent, a reply is one line of whole fields, although names are
// repeated in it as they came.
func checkReplies(t *testing.T, input []byte) {
	s := newSession(t, allow)
	s.send(input, max(len(input), 1))
	if s.output != "" && !strings.HasSuffix(s.output, "\n") {
		t.Fatalf("half a line in %q", s.output)
	}
	for line := range strings.Lines(s.output) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		for _, c := range line[:len(line)-1] {
			if c < ' ' && c != '\t' {
				t.Fatalf("control character in %q", line)
			}
		}
		wrong := len(fields) < 2
		switch fields[0] {
		case "OK":
			wrong = wrong || len(fields) != 3 || !strings.HasPrefix(fields[2], "user=") || len(fields[2]) < 6
		case "CONT":
			wrong = wrong || len(fields) != 3
		case "FAIL":
		default:
			wrong = true
		}
		if wrong {
			t.Fatalf("reply %q", line)
		}
	}
}
