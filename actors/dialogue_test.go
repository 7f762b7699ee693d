package actors

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// question is one request of a dialogue and the verdict that it deserves.
type question struct {
	op      string // empty: malformed
	user    string
	domain  string
	secret  string
	verdict auth.Verdict
}

// frame is the question as its peer writes it.
func (q question) frame(protocol string) string {
	text := "nonsense"
	switch {
	case q.op == "":
	case protocol == "tcp_table":
		return "get " + q.user + "@" + q.domain + "\n"
	case q.op == "isdomain":
		text = "domain " + q.domain
	case protocol == "socketmap":
		text = "mailbox " + q.user + "@" + q.domain
	default:
		text = q.op + ":" + q.user + ":" + q.domain
		if q.secret != "" {
			text += ":" + q.secret
		}
	}
	switch protocol {
	case "socketmap":
		return fmt.Sprintf("%d:%s,", len(text), text)
	case "ejabberd":
		return string(binary.BigEndian.AppendUint16(nil, uint16(len(text)))) + text
	}
	return text + "\n"
}

// reply is the answer that the peer must read, written down once more so that the codecs are not
// tested by themselves.
func (q question) reply(protocol string) string {
	yes := q.verdict == auth.Allow
	switch {
	case protocol == "tcp_table" && q.op == "":
		return "500 malformed request\n"
	case protocol == "tcp_table" && yes:
		return "200 OK\n"
	case protocol == "tcp_table":
		return "500 no such user\n"
	case protocol == "socketmap" && q.op == "":
		return "18:PERM not supported,"
	case protocol == "socketmap" && yes:
		return "5:OK OK,"
	case protocol == "socketmap":
		return "9:NOTFOUND ,"
	case protocol == "ejabberd" && yes:
		return "\x00\x02\x00\x01"
	case protocol == "ejabberd" && (q.verdict == auth.Unsupported || q.op == "setpass"):
		return "\x00\x02\x00\x02"
	case protocol == "ejabberd":
		return "\x00\x02\x00\x00"
	case q.op == "roster":
		return `{"result":"success"}` + "\n"
	case yes:
		return "1\n"
	}
	return "0\n"
}

// mixture returns n questions of every kind that a protocol has. Each slow one stands before
// the fast one that its answer waits for, see relay; without pairs no question waits.
func mixture(protocol string, n int, pairs bool) (all []question) {
	const home, good = "dom.example", "good"
	lead := "slow"
	if !pairs {
		lead = "late"
	}
	kinds := []question{
		{"isuser", lead, home, "", auth.Allow},
		{"isuser", "fast", home, "", auth.Allow},
		{"isuser", "nobody", home, "", auth.Deny},
		{"", "", "", "", auth.Deny},
		{"isuser", "joe", "elsewhere.example", "", auth.Deny},
	}
	switch protocol {
	case "tcp_table":
	case "socketmap":
		kinds = append(kinds,
			question{"isdomain", "", home, "", auth.Allow},
			question{"isdomain", "", "elsewhere.example", "", auth.Deny},
		)
	default:
		kinds = append(kinds,
			question{"auth", lead, home, good, auth.Allow},
			question{"auth", "fast", home, "bad", auth.Deny},
			question{"auth", lead, home, "bad", auth.Deny},
			question{"auth", "fast", home, good, auth.Allow},
			question{"setpass", "joe", home, "new", auth.Unsupported},
			question{"tryregister", "joe", home, "new", auth.Unsupported},
			question{"removeuser", "joe", home, "", auth.Unsupported},
			question{"removeuser3", "joe", home, "new", auth.Unsupported},
			question{"setpass", "joe", "elsewhere.example", "new", auth.Deny},
			question{"auth", "joe", "elsewhere.example", good, auth.Deny},
		)
	}
	if protocol == "generic" {
		kinds = append(kinds, question{"roster", "joe", home, "", auth.Allow})
	}
	for i := range n {
		q := kinds[i%len(kinds)]
		pair := i
		if q.user == "fast" {
			pair-- // it stands behind its slow one
		}
		if q.user != "" {
			q.user += fmt.Sprint(pair)
		}
		all = append(all, q)
	}
	if pairs && strings.HasPrefix(all[n-1].user, "slow") {
		all = all[:n-1] // no question would release it
	}
	return all
}

// script is a dialogue as the bytes of both sides.
func script(protocol string, questions []question) (in, out string) {
	for _, q := range questions {
		in += q.frame(protocol)
		out += q.reply(protocol)
	}
	return in, out
}

// same compares the bytes of a dialogue and shows where they differ.
func same(t testing.TB, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	from := max(at-20, 0)
	t.Errorf("got %d bytes, want %d; from byte %d got %q, want %q", len(got), len(want), from,
		got[from:min(at+40, len(got))], want[from:min(at+40, len(want))])
}

// relay answers a slow user when the fast one of the same number has been asked about, so
// that answers become ready in another order than the questions came.
type relay struct {
	mu    sync.Mutex
	asked map[string]chan struct{}
}

func (r *relay) gate(number string) chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked == nil {
		r.asked = make(map[string]chan struct{})
	}
	if r.asked[number] == nil {
		r.asked[number] = make(chan struct{})
	}
	return r.asked[number]
}

func (r *relay) ask(ctx context.Context, q backend.Query) backend.Result {
	if number, slow := strings.CutPrefix(q.User, "slow"); slow {
		select {
		case <-r.gate(number):
		case <-ctx.Done():
			return backend.Result{Class: backend.Outage, Err: ctx.Err()}
		}
	}
	if number, fast := strings.CutPrefix(q.User, "fast"); fast {
		close(r.gate(number))
	}
	return goodPassword(q)
}

// transport carries a dialogue: it sends the whole input at once, ends it, and returns
// everything that comes back.
type transport struct {
	name  string
	carry func(r *rig, cfg config.Listener, input string) string
}

var transports = []transport{
	{"tcp", func(r *rig, cfg config.Listener, input string) string {
		return r.exchange(r.listenOn("tcp", cfg), input)
	}},
	{"unix", func(r *rig, cfg config.Listener, input string) string {
		return r.exchange(r.listenOn("unix", cfg), input)
	}},
}

// ended checks that the broker ends a connection, after some last words.
func ended(t *testing.T, c net.Conn, words string) {
	t.Helper()
	got, err := io.ReadAll(c)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("after %q: %v", got, err)
	}
	same(t, string(got), words)
}

// roundTrip puts one question on an open connection and checks its answer.
func roundTrip(t *testing.T, c net.Conn, protocol string, q question) {
	t.Helper()
	want := q.reply(protocol)
	got := make([]byte, len(want))
	if _, err := io.WriteString(c, q.frame(protocol)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	same(t, string(got), want)
}

var yes = question{"auth", "joe", "dom.example", "good", auth.Allow}

func roundTripText(t *testing.T, c net.Conn, input, want string) {
	t.Helper()
	if _, err := io.WriteString(c, input); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	same(t, string(got), want)
}

// fields is a saslauthd request.
func fields(texts ...string) string {
	var b []byte
	for _, text := range texts {
		b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
		b = append(b, text...)
	}
	return string(b)
}
