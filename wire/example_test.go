package wire_test

import (
	"fmt"

	"postern/internal/auth"
	"postern/wire"
)

// A request of ejabberd, and the answers to it. The last one is a temporary failure.
func Example() {
	codec, err := wire.New(wire.Ejabberd, wire.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	var req auth.Request
	n, ev := codec.Decode([]byte("\x00\x1bauth:joe:example.org:secret"), &req)
	fmt.Println(n, ev == wire.Ask, req.Op, req.User, req.Domain, req.Secret)
	for _, v := range []auth.Verdict{auth.Allow, auth.Deny, auth.Unavailable} {
		fmt.Printf("%v: % x\n", v, codec.AppendAnswer(nil, &req, auth.Answer{Verdict: v}))
	}
	// Output:
	// 29 true auth joe example.org [redacted]
	// allow: 00 02 00 01
	// deny: 00 02 00 00
	// unavailable: 00 02 00 02
}

// Decode is called again with more input until it has a whole frame.
func ExampleCodec() {
	codec, err := wire.New(wire.Generic, wire.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	var unread []byte
	for _, received := range []string{"isuser:joe:exa", "mple.org\nisuser:joe\nqu", "it\n"} {
		unread = append(unread, received...)
		for more := false; !more; {
			var req auth.Request
			n, ev := codec.Decode(unread, &req)
			unread = unread[n:]
			switch ev {
			case wire.More:
				more = true
			case wire.Ask:
				fmt.Printf("%v %s@%s: %q\n", req.Op, req.User, req.Domain, codec.AppendAnswer(nil, &req, auth.Answer{Verdict: auth.Allow}))
			case wire.Refuse:
				fmt.Printf("malformed: %q\n", codec.AppendAnswer(nil, &req, auth.Answer{Verdict: auth.Deny, Source: auth.SourceMalformed}))
			case wire.Quit:
				fmt.Println("the peer has ended the connection")
				more = true
			}
		}
	}
	// Output:
	// isuser joe@example.org: "1\n"
	// malformed: "0\n"
	// the peer has ended the connection
}
