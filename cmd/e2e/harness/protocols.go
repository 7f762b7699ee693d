package harness

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// Frame is a request of ejabberd's protocol.
func Frame(text string) string { return string([]byte{byte(len(text) >> 8), byte(len(text))}) + text }

// Fields is a request of saslauthd's protocol.
func Fields(text ...string) string {
	var b strings.Builder
	for _, f := range text {
		b.WriteString(Frame(f))
	}
	return b.String()
}

// Netstring is a request of the socketmap protocol.
func Netstring(text string) string { return fmt.Sprintf("%d:%s,", len(text), text) }

// Dialect is how one protocol asks and is answered.
type Dialect struct {
	Yes, No     string // questions about joe
	Nonsense    string
	IsYes, IsNo string
	IsNonsense  string
	IsCannot    string // the answer to yes and no without a working backend
	Half        string // the beginning of a request; of one that changes something, if there is one
	Whole       string // that request
	Once        bool   // one question at a time
}

// Dialects has the dialect of each protocol, by its name.
func Dialects() map[string]Dialect {
	return map[string]Dialect{
		"ejabberd": {
			Yes: Frame("auth:joe:dom.example:secret"), No: Frame("auth:joe:dom.example:wrong"), Nonsense: Frame("nonsense"),
			IsYes: "\x00\x02\x00\x01", IsNo: "\x00\x02\x00\x00", IsNonsense: "\x00\x02\x00\x00", IsCannot: "\x00\x02\x00\x02",
			Half: Frame("setpass:joe:dom.example:new!")[:29], Whole: Frame("setpass:joe:dom.example:new"),
		},
		"generic": {
			Yes: "auth:joe:dom.example:secret\n", No: "auth:joe:dom.example:wrong\n", Nonsense: "nonsense\n",
			IsYes: "1\n", IsNo: "0\n", IsNonsense: "0\n", IsCannot: "0\n",
			Half: "setpass:joe:dom.example:new", Whole: "setpass:joe:dom.example:new\n",
		},
		"saslauthd": {
			Yes: Fields("joe", "secret", "imap", "dom.example"), No: Fields("joe", "wrong", "imap", "dom.example"),
			IsYes: Frame("OK success"), IsNo: Frame("NO authentication failed"), IsCannot: "\x00\x00",
			Half: Fields("joe", "secret", "imap") + "\x00", Once: true,
		},
		"tcp_table": {
			Yes: "get joe@dom.example\n", No: "get ann@dom.example\n", Nonsense: "nonsense\n",
			IsYes: "200 OK\n", IsNo: "500 no such user\n", IsNonsense: "500 malformed request\n",
			IsCannot: "400 temporarily unavailable\n", Half: "get joe@dom.example",
		},
		"socketmap": {
			Yes: Netstring("mailbox joe@dom.example"), No: Netstring("mailbox ann@dom.example"), Nonsense: Netstring("nonsense joe"),
			IsYes: Netstring("OK OK"), IsNo: Netstring("NOTFOUND "), IsNonsense: Netstring("PERM not supported"),
			IsCannot: Netstring("TEMP try again later"), Half: "23:mailbox joe@dom.exam",
		},
	}
}

// Base64 encodes a text as SMTP and XMPP do.
func Base64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
