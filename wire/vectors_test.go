package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postern/internal/auth"
)

// part is one of the pieces that long inputs are written in; see the vectors' README.
type part struct {
	Hex       string `json:"hex"`
	RepeatHex string `json:"repeat_hex"`
	Count     int    `json:"count"`
}

// vector is a case of testdata/wire_*.json.
type vector struct {
	Name         string              `json:"name"`
	Kind         string              `json:"kind"`
	InputHex     string              `json:"input_hex"`
	InputParts   []part              `json:"input_parts"`
	EOF          bool                `json:"eof"`
	Requests     []map[string]string `json:"requests"`
	Results      []string            `json:"results"`
	RosterBody   string              `json:"roster_body"`
	OutputHex    *string             `json:"output_hex"`
	OutputAnyOf  []string            `json:"output_any_of_hex"`
	OutputRegex  string              `json:"output_regex"`
	Reply        string              `json:"reply"`
	Replies      []string            `json:"replies"`
	Then         string              `json:"then"`
	ReplyHex     string              `json:"reply_hex"`
	ReplyParts   []part              `json:"reply_parts"`
	Ejabberd2301 string              `json:"ejabberd_23_01"`
	Prosody      string              `json:"prosody_0_12_3"`
	Libsasl2     string              `json:"libsasl2_2_1_28"`
	Postmap      *struct {
		Exit  int     `json:"exit"`
		Value *string `json:"value"`
	} `json:"postmap_3_7_11"`
}

// vectorFiles names the vectors of each protocol.
var vectorFiles = map[Protocol]string{
	Ejabberd: "wire_ejabberd.json", Generic: "wire_generic.json",
	Saslauthd: "wire_saslauthd.json", TCPTable: "wire_postfix_tcp.json", Socketmap: "wire_socketmap.json",
}

func loadVectors(tb testing.TB, p Protocol) []vector {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", vectorFiles[p]))
	if err != nil {
		tb.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(text, &vectors); err != nil {
		tb.Fatal(err)
	}
	if len(vectors) < 40 {
		tb.Fatalf("only %d vectors in %s", len(vectors), vectorFiles[p])
	}
	return vectors
}

func mustHex(tb testing.TB, text string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func join(tb testing.TB, whole string, parts []part) []byte {
	tb.Helper()
	b := mustHex(tb, whole)
	for _, p := range parts {
		b = append(b, mustHex(tb, p.Hex)...)
		b = append(b, bytes.Repeat(mustHex(tb, p.RepeatHex), p.Count)...)
	}
	return b
}

func (v *vector) input(tb testing.TB) []byte { return join(tb, v.InputHex, v.InputParts) }

// protocols are those that other programs speak.
var protocols = []Protocol{Ejabberd, Generic, Saslauthd, TCPTable, Socketmap, Dovecot, DovecotUserdb}

// peer plays the server around a codec: it keeps the unread bytes and the output.
type peer struct {
	tb       testing.TB
	codec    Codec
	answer   func(*auth.Request) auth.Answer
	unread   []byte
	output   []byte
	closed   bool
	maxFrame int
}

func newPeer(tb testing.TB, p Protocol, o Options, answer func(*auth.Request) auth.Answer) *peer {
	tb.Helper()
	codec, err := New(p, o)
	if err != nil {
		tb.Fatal(err)
	}
	return &peer{tb: tb, codec: codec, answer: answer, maxFrame: max(o.MaxFrame, 65536)}
}

// poison overwrites a decoded buffer, so that a request which shares its memory is noticed. It is
// copied, since a loop over each byte takes minutes under the race detector.
var poison = bytes.Repeat([]byte{0xa5}, 1<<20)

// send feeds one piece of input. The buffer that Decode saw is overwritten afterwards,
// so that a request which refers to it shows.
func (p *peer) send(piece []byte) {
	p.unread = append(p.unread, piece...)
	for !p.closed {
		buf := slices.Clone(p.unread)
		req := auth.Request{User: "left over", Domain: "left over", Secret: auth.NewSecret("left over"),
			Service: "left over", Client: "left over"}
		n, ev := p.codec.Decode(buf, &req)
		if n < 0 || n > len(buf) {
			p.tb.Fatalf("consumed %d of %d bytes", n, len(buf))
		}
		if !bytes.Equal(buf, p.unread) {
			p.tb.Fatal("Decode changed its input")
		}
		copy(buf, poison)
		p.unread = p.unread[n:]
		if ev == More {
			if len(p.unread) > p.maxFrame+2 {
				p.tb.Fatalf("%d bytes have to be kept for a frame of at most %d", len(p.unread), p.maxFrame)
			}
			return
		}
		if n == 0 {
			p.tb.Fatalf("event %d without progress", ev)
		}
		p.act(ev, &req)
	}
}

func (p *peer) act(ev Event, req *auth.Request) {
	switch ev {
	case Ask:
		p.output = p.codec.AppendAnswer(p.output, req, p.answer(req))
	case Refuse, RefuseBroken:
		if req.Fault == "" || !req.Secret.Empty() {
			p.tb.Errorf("a refused request has no reason, or a secret: %+v", *req)
		}
		refusal := auth.Answer{Verdict: auth.Deny, Source: auth.SourceMalformed}
		p.output = p.codec.AppendAnswer(p.output, req, refusal)
	}
	p.closed = ev == Quit || ev == Broken || ev == RefuseBroken || p.codec.OneShot()
}

// verdicts are the results of the vectors.
var verdicts = map[string]auth.Verdict{
	"yes": auth.Allow, "no": auth.Deny, "unavailable": auth.Unavailable, "body": auth.Allow, "none": auth.Unavailable,
}

// run plays v in pieces of the given size and checks everything it expects.
func (v *vector) run(t *testing.T, proto Protocol, size int) {
	var asked []map[string]string
	p := newPeer(t, proto, Options{}, func(req *auth.Request) auth.Answer {
		if req.Op.Changes() {
			return auth.Answer{Verdict: auth.Unsupported, Source: auth.SourceUnsupported}
		}
		seen := map[string]string{"op": req.Op.String(), "user": req.User, "domain": req.Domain}
		if req.Op == auth.OpAuth {
			seen["password"] = req.Secret.Reveal()
		} else if !req.Secret.Empty() {
			t.Errorf("%v carries a secret", req.Op)
		}
		if proto == Saslauthd {
			seen["service"] = req.Service
		}
		asked = append(asked, seen)
		if len(asked) > len(v.Results) {
			t.Fatalf("request %d was not expected: %v", len(asked), seen)
		}
		return auth.Answer{Verdict: verdicts[v.Results[len(asked)-1]], Source: auth.SourceBackend, Body: []byte(v.RosterBody)}
	})
	for piece := range slices.Chunk(v.input(t), size) {
		p.send(piece)
	}
	if !slices.EqualFunc(asked, v.Requests, maps.Equal) {
		t.Errorf("requests %q\n want %q", asked, v.Requests)
	}
	v.checkOutput(t, p.output)
	if closed := p.closed || v.EOF; closed != (v.Then == "close") {
		t.Errorf("closed %v, want %s", closed, v.Then)
	}
}

func (v *vector) checkOutput(t *testing.T, output []byte) {
	t.Helper()
	got := hex.EncodeToString(output)
	switch {
	case v.Reply == "OK" || v.Reply == "NO":
		if len(output) < 4 || int(output[0])<<8|int(output[1]) != len(output)-2 || string(output[2:4]) != v.Reply {
			t.Errorf("output %q, want one reply %s", output, v.Reply)
		}
	case v.Replies != nil:
		if got := firstWords(t, output); !slices.Equal(got, v.Replies) {
			t.Errorf("replies %q, want %q", got, v.Replies)
		}
	case v.OutputHex != nil:
		if got != *v.OutputHex {
			t.Errorf("output %q, want hex %s", output, *v.OutputHex)
		}
	case len(v.OutputAnyOf) > 0:
		if !slices.Contains(v.OutputAnyOf, got) {
			t.Errorf("output %q, want one of hex %v", output, v.OutputAnyOf)
		}
	case v.OutputRegex != "":
		if !regexp.MustCompile(v.OutputRegex).Match(output) {
			t.Errorf("output %q, want %s", output, v.OutputRegex)
		}
	default:
		t.Error("the case says nothing about the output")
	}
}

// firstWords reads netstrings and returns the first word of each. An OK must have a value.
func firstWords(t *testing.T, output []byte) []string {
	t.Helper()
	words := []string{}
	for len(output) > 0 {
		length, rest, _ := bytes.Cut(output, []byte(":"))
		size, err := strconv.Atoi(string(length))
		if err != nil || len(rest) <= size || rest[size] != ',' {
			t.Fatalf("%q is no netstring", output)
		}
		word, value, spaced := bytes.Cut(rest[:size], []byte(" "))
		if string(word) == "OK" && (!spaced || len(value) == 0) {
			t.Errorf("%q is silently not found", rest[:size])
		}
		words, output = append(words, string(word)), rest[size+1:]
	}
	return words
}

func TestVectors(t *testing.T) {
	for proto := range vectorFiles {
		t.Run(string(proto), func(t *testing.T) {
			for _, v := range loadVectors(t, proto) {
				if v.Kind != "request" {
					continue
				}
				sizes := []int{1, 2, 3, 7, 1 << 20}
				if len(v.input(t)) > 4096 {
					// Each piece decodes again all that came before it: in single bytes, a long
					// line takes half a minute.
					sizes = []int{7, 251, 1 << 20}
				}
				for _, size := range sizes {
					t.Run(fmt.Sprintf("%s/pieces of %d", v.Name, size), func(t *testing.T) { v.run(t, proto, size) })
				}
			}
		})
	}
}

func TestNewRefusesUnknownProtocol(t *testing.T) {
	if _, err := New("smtp", Options{}); err == nil || !strings.Contains(err.Error(), string(TCPTable)) {
		t.Errorf("error %v does not name the protocols", err)
	}
	for _, p := range append(protocols, Relay) {
		if _, err := New(p, Options{}); err != nil {
			t.Error(err)
		}
	}
}
