package wire

import (
	"testing"

	"postern/internal/auth"
)

// decodeCases are a usual request of each kind and the most heap allocations that
// decoding it may cost: names 1, secret 2; dovecot also keeps a login, its service and client.
var decodeCases = []struct {
	name   string
	proto  Protocol
	input  string
	allocs float64
}{
	{"GenericAuth", Generic, "auth:somebody:chat.dom.example:correct horse battery staple\n", 3},
	{"GenericIsUser", Generic, "isuser:somebody:chat.dom.example\n", 1},
	{"EjabberdAuth", Ejabberd, string(frame("auth:somebody:chat.dom.example:correct horse battery staple")), 3},
	{"EjabberdIsUser", Ejabberd, string(frame("isuser:somebody:chat.dom.example")), 1},
	{"Saslauthd", Saslauthd, string(login("somebody", "correct horse battery staple", "smtp", "chat.dom.example", "192.0.2.1;4242")), 3},
	{"Dovecot", Dovecot, authLine(1, "\x00somebody@chat.dom.example\x00correct horse battery staple"), 6},
	{"TCPTable", TCPTable, "get somebody@chat.dom.example\n", 1},
	{"TCPTableCoded", TCPTable, "get \"some%20body\"@ex%C3%A4mple.org\n", 1},
}

// decodeOnce returns a function that decodes input with a codec of its own. saslauthd reads one
// request per connection, and dovecot wants a greeting and fresh ids: they are made ready again.
func decodeOnce(tb testing.TB, p Protocol, input []byte) func() {
	tb.Helper()
	codec, err := New(p, Options{})
	if err != nil {
		tb.Fatal(err)
	}
	req := new(auth.Request)
	return func() {
		if s, ok := codec.(*saslauthd); ok {
			s.done = false
		}
		if d, ok := codec.(*dovecot); ok {
			d.state = wantCommand
			clear(d.open)
		}
		if n, ev := codec.Decode(input, req); n != len(input) || ev != Ask {
			tb.Fatalf("event %d after %d bytes", ev, n)
		}
	}
}

func TestDecodeAllocations(t *testing.T) {
	for _, c := range decodeCases {
		once := decodeOnce(t, c.proto, []byte(c.input))
		if got := testing.AllocsPerRun(200, once); got > c.allocs {
			t.Errorf("%s: %v allocations, want at most %v", c.name, got, c.allocs)
		}
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	dst := make([]byte, 0, 4096)
	for _, p := range protocols {
		codec, _ := New(p, Options{})
		req := &auth.Request{Op: auth.OpAuth}
		got := testing.AllocsPerRun(100, func() {
			for v := auth.Unavailable; v <= auth.Unsupported; v++ {
				codec.AppendAnswer(dst, req, auth.Answer{Verdict: v})
			}
		})
		if got != 0 {
			t.Errorf("%s: %v allocations", p, got)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range decodeCases {
		b.Run(c.name, func(b *testing.B) {
			once := decodeOnce(b, c.proto, []byte(c.input))
			b.ReportAllocs()
			b.SetBytes(int64(len(c.input)))
			for b.Loop() {
				once()
			}
		})
	}
}

// BenchmarkDecodeOversize is the cost of dropping a line over the limit.
func BenchmarkDecodeOversize(b *testing.B) {
	codec, err := New(Generic, Options{})
	if err != nil {
		b.Fatal(err)
	}
	chunk := make([]byte, 64<<10)
	req := new(auth.Request)
	b.ReportAllocs()
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		codec.Decode(chunk, req)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, p := range protocols {
		b.Run(string(p), func(b *testing.B) {
			codec, err := New(p, Options{})
			if err != nil {
				b.Fatal(err)
			}
			dst, req := make([]byte, 0, 64), &auth.Request{Op: auth.OpAuth}
			b.ReportAllocs()
			for b.Loop() {
				dst = codec.AppendAnswer(dst[:0], req, auth.Answer{Verdict: auth.Allow})
			}
		})
	}
}
