package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"regexp"
	"strings"
	"testing"

	"postern/internal/auth"
)

func answerOf(tb testing.TB, p Protocol, o Options, op auth.Operation, a auth.Answer) []byte {
	tb.Helper()
	codec, err := New(p, o)
	if err != nil {
		tb.Fatal(err)
	}
	const before = "before"
	out := codec.AppendAnswer([]byte(before), &auth.Request{Op: op}, a)
	after, found := bytes.CutPrefix(out, []byte(before))
	if !found {
		tb.Fatalf("AppendAnswer changed what it appends to: %q", out)
	}
	return after
}

func TestAnswers(t *testing.T) {
	everyOp := []auth.Operation{auth.OpNone, auth.OpAuth, auth.OpIsUser, auth.OpSetPass, auth.OpTryRegister,
		auth.OpRemoveUser, auth.OpRemoveUser3, auth.OpCertAuth}
	changes := []auth.Operation{auth.OpSetPass, auth.OpTryRegister, auth.OpRemoveUser, auth.OpRemoveUser3}
	questions := []auth.Operation{auth.OpNone, auth.OpAuth, auth.OpIsUser, auth.OpCertAuth}
	allButSetPass := []auth.Operation{auth.OpNone, auth.OpAuth, auth.OpIsUser, auth.OpTryRegister, auth.OpRemoveUser,
		auth.OpRemoveUser3, auth.OpCertAuth}
	isUser := []auth.Operation{auth.OpIsUser}
	none := auth.SourceNone
	for _, c := range []struct {
		proto   Protocol
		options Options
		verdict auth.Verdict
		source  auth.Source
		ops     []auth.Operation
		want    string
	}{
		{Ejabberd, Options{}, auth.Allow, none, everyOp, "\x00\x02\x00\x01"},
		{Ejabberd, Options{}, auth.Deny, none, allButSetPass, "\x00\x02\x00\x00"},
		{Ejabberd, Options{}, auth.Deny, none, []auth.Operation{auth.OpSetPass}, "\x00\x02\x00\x02"},
		{Ejabberd, Options{}, auth.Unavailable, none, everyOp, "\x00\x02\x00\x02"},
		{Ejabberd, Options{}, auth.Unsupported, none, changes, "\x00\x02\x00\x02"},
		{Ejabberd, Options{}, auth.Unsupported, none, questions, "\x00\x02\x00\x00"},
		{Ejabberd, Options{BinaryAnswers: true}, auth.Allow, none, everyOp, "\x00\x02\x00\x01"},
		{Ejabberd, Options{BinaryAnswers: true}, auth.Deny, none, everyOp, "\x00\x02\x00\x00"},
		{Ejabberd, Options{BinaryAnswers: true}, auth.Unavailable, none, everyOp, "\x00\x02\x00\x00"},
		{Ejabberd, Options{BinaryAnswers: true}, auth.Unsupported, none, everyOp, "\x00\x02\x00\x00"},
		{Generic, Options{}, auth.Allow, none, everyOp, "1\n"},
		{Generic, Options{}, auth.Deny, none, everyOp, "0\n"},
		{Generic, Options{}, auth.Unavailable, none, everyOp, "0\n"},
		{Generic, Options{}, auth.Unsupported, none, everyOp, "0\n"},
		{Saslauthd, Options{}, auth.Allow, none, everyOp, "\x00\x0aOK success"},
		{Saslauthd, Options{}, auth.Deny, none, everyOp, "\x00\x18NO authentication failed"},
		{Saslauthd, Options{}, auth.Unsupported, none, everyOp, "\x00\x18NO authentication failed"},
		{Saslauthd, Options{}, auth.Unavailable, none, everyOp, "\x00\x00"},
		{TCPTable, Options{}, auth.Allow, none, isUser, "200 OK\n"},
		{TCPTable, Options{}, auth.Deny, auth.SourceBackend, isUser, "500 no such user\n"},
		{TCPTable, Options{}, auth.Deny, auth.SourceMalformed, isUser, "500 malformed request\n"},
		{TCPTable, Options{}, auth.Unsupported, none, isUser, "500 not supported\n"},
		{Socketmap, Options{}, auth.Allow, none, isUser, "5:OK OK,"},
		{Socketmap, Options{}, auth.Deny, none, isUser, "9:NOTFOUND ,"},
		{Socketmap, Options{}, auth.Deny, auth.SourceMalformed, []auth.Operation{auth.OpNone}, "18:PERM not supported,"},
		{Socketmap, Options{}, auth.Unavailable, none, isUser, "20:TEMP try again later,"},
		{Socketmap, Options{}, auth.Unsupported, none, isUser, "18:PERM not supported,"},
		{TCPTable, Options{}, auth.Unavailable, none, isUser, "400 temporarily unavailable\n"},
	} {
		for _, op := range c.ops {
			got := answerOf(t, c.proto, c.options, op, auth.Answer{Verdict: c.verdict, Source: c.source})
			if string(got) != c.want {
				t.Errorf("%s %+v: %v to %v is %q, want %q", c.proto, c.options, c.verdict, op, got, c.want)
			}
		}
	}
}

func TestRosterAnswerIsOneLine(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"plain", `{"a":1}`, `{"a":1}` + "\n"},
		{"pretty printed", "{\r\n  \"a\": 1\n}\n", "{    \"a\": 1 } \n"},
		{"bare CR", "[\r]", "[ ]\n"},
		{"not ASCII", "\"é\u2028\"", "\"é\u2028\"\n"},
		{"empty", "", "None\n"},
	} {
		body := []byte(c.body)
		got := answerOf(t, Generic, Options{}, auth.OpRoster, auth.Answer{Verdict: auth.Allow, Body: body})
		if string(got) != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if string(body) != c.body {
			t.Errorf("%s: the backend's document was changed to %q", c.name, body)
		}
	}
	for _, v := range []auth.Verdict{auth.Deny, auth.Unavailable, auth.Unsupported} {
		got := answerOf(t, Generic, Options{}, auth.OpRoster, auth.Answer{Verdict: v, Body: []byte("error")})
		if string(got) != "None\n" {
			t.Errorf("%v: %q, want None", v, got)
		}
	}
}

func TestOneShot(t *testing.T) {
	for p, want := range map[Protocol]bool{Ejabberd: false, Generic: false, Saslauthd: true, TCPTable: false} {
		if codec, _ := New(p, Options{}); codec.OneShot() != want {
			t.Errorf("%s: %v, want %v", p, !want, want)
		}
	}
}

// postmapClass is what postmap 3.7.11 makes of a reply: found, not found, or '!' for a
// temporary error.
func postmapClass(reply []byte) (class byte, value string) {
	line, whole := strings.CutSuffix(string(reply), "\n")
	if line, _, _ = strings.Cut(line, "\n"); !whole || len(reply) > 4096 {
		return '!', ""
	}
	if !regexp.MustCompile(`(?s)^[245]\d\d\s`).MatchString(line) {
		return '!', ""
	}
	if !regexp.MustCompile(`^([^%]|%[0-9A-Fa-f]{2})*$`).MatchString(line) || line[0] == '4' {
		return '!', ""
	}
	text := regexp.MustCompile(`%..`).ReplaceAllStringFunc(line[4:], func(coded string) string {
		b, _ := hex.DecodeString(coded[1:])
		return string(b)
	})
	text, _, _ = strings.Cut(text, "\x00")
	return line[0], text
}

// TestRepliesAreUnderstood compares the replies with what the real clients made of
// replies when the vectors were recorded.
func TestRepliesAreUnderstood(t *testing.T) {
	reply := func(p Protocol, v auth.Verdict) string {
		return hex.EncodeToString(answerOf(t, p, Options{}, auth.OpIsUser, auth.Answer{Verdict: v}))
	}
	seen := map[Protocol]map[string]string{}
	for p := range vectorFiles {
		seen[p] = map[string]string{}
		for _, v := range loadVectors(t, p) {
			if _, known := seen[p][v.ReplyHex]; v.Kind == "reply" && !known { // later cases are about timing
				seen[p][v.ReplyHex] = v.Ejabberd2301 + v.Prosody + v.Libsasl2
			}
		}
	}
	for _, c := range []struct {
		proto   Protocol
		verdict auth.Verdict
		want    string
	}{
		{Ejabberd, auth.Allow, "true"},
		{Ejabberd, auth.Deny, "false"},
		{Ejabberd, auth.Unavailable, "error unexpected_response, call fails, not cached, program kept"},
		{Generic, auth.Allow, "success"},
		{Generic, auth.Deny, "not-authorized"},
		{Saslauthd, auth.Allow, "success"},
		{Saslauthd, auth.Unavailable, "generic failure (temporary)"},
	} {
		if got := seen[c.proto][reply(c.proto, c.verdict)]; got != c.want {
			t.Errorf("%s: the real client takes the reply to %v for %q, want %q", c.proto, c.verdict, got, c.want)
		}
	}
	refusal := answerOf(t, Saslauthd, Options{}, auth.OpAuth, auth.Answer{Verdict: auth.Deny})
	if int(binary.BigEndian.Uint16(refusal)) != len(refusal)-2 || len(refusal) > 1023 || string(refusal[2:4]) != "NO" {
		t.Errorf("saslauthd refusal %q", refusal)
	}
}

func TestTCPTableRepliesAreUnderstood(t *testing.T) {
	for _, v := range loadVectors(t, TCPTable) {
		if v.Kind != "reply" {
			continue
		}
		class, value := postmapClass(join(t, v.ReplyHex, v.ReplyParts))
		got := [2]bool{class == '2', class == '5'}
		want := [2]bool{v.Postmap.Exit == 0, v.Postmap.Exit == 1 && v.Postmap.Value != nil}
		wrong := class == '2' && value != *v.Postmap.Value && !strings.Contains(*v.Postmap.Value, "*")
		if got != want || wrong {
			t.Errorf("%s: the model of postmap says %c %q", v.Name, class, value)
		}
	}
	for verdict, want := range map[auth.Verdict]byte{
		auth.Allow: '2', auth.Deny: '5', auth.Unsupported: '5', auth.Unavailable: '!',
	} {
		for _, source := range []auth.Source{auth.SourceBackend, auth.SourceMalformed} {
			reply := answerOf(t, TCPTable, Options{}, auth.OpIsUser, auth.Answer{Verdict: verdict, Source: source})
			class, value := postmapClass(reply)
			if class != want || class == '2' && value == "" {
				t.Errorf("postmap takes %q for %c %q", reply, class, value)
			}
			if verdict == auth.Unavailable && !bytes.HasPrefix(reply, []byte("4")) {
				t.Errorf("%q is an error, but not a temporary one by its code", reply)
			}
		}
	}
}
