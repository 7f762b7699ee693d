package wire

import (
	"fmt"
	"time"

	"postern/internal/auth"
	"postern/internal/protocol"
)

// Protocol names a front-end protocol as the configuration does.
type Protocol = protocol.Name

// The protocols, as in package protocol.
const (
	Ejabberd  = protocol.Ejabberd
	Generic   = protocol.Generic
	Saslauthd = protocol.Saslauthd
	TCPTable  = protocol.TCPTable
	Socketmap = protocol.Socketmap
	Dovecot   = protocol.Dovecot
	Relay     = protocol.Relay

	DovecotUserdb = protocol.DovecotUserdb
	HTTPProtocol  = protocol.HTTP
)

// Event is what Decode found at the start of the unread bytes.
type Event uint8

const (
	// More: the frame is not complete. Bytes may have been consumed all the same
	// (the rest of an over-long line is skipped as it arrives).
	More Event = iota
	// Ask: a request was decoded; it must be answered with AppendAnswer.
	Ask
	// Refuse: a complete frame that must not reach a backend. req.Fault says why; req.Op and the
	// names are set if they could be read. The answer, in its turn, is a Deny of SourceMalformed.
	Refuse
	// Quit: the peer asked to end. Close without an answer once earlier requests are
	// answered.
	Quit
	// Broken: the framing is lost. Close as for Quit.
	Broken
	// RefuseBroken: as Broken, but the frame is answered like Refuse before the close.
	RefuseBroken
	// Note: a complete frame that calls for no answer.
	Note
	// Reply: the codec has the answer itself. req.Op is OpNone, and Unordered.Reply returns
	// the Body of the answer.
	Reply
)

// Codec decodes and encodes for one connection. It may keep state between calls and is not
// safe for concurrent use, except that AppendAnswer may run concurrently with Decode.
type Codec interface {
	// Decode reads the first frame of buf and consumes n bytes. It does not change or keep
	// buf. With Ask it has filled req; the strings in it do not share memory with buf. The
	// sequence of events other than More does not depend on how the input is cut.
	Decode(buf []byte, req *auth.Request) (n int, ev Event)
	// AppendAnswer appends to dst the reply to a request that Decode has filled. It does not
	// need req.Secret.
	AppendAnswer(dst []byte, req *auth.Request, a auth.Answer) []byte
	// OneShot reports whether a connection has one request. What comes before its answer is
	// dropped. Then the connection ends, or goes on with another Codec if a request follows.
	OneShot() bool
}

// persistent is embedded in codecs that accept any number of requests per connection.
type persistent struct{}

// OneShot implements Codec.
func (persistent) OneShot() bool { return false }

// Greeter is a Codec of a protocol in which the server speaks first.
type Greeter interface {
	// Greeting returns what is sent before anything is read.
	Greeting() []byte
}

// Unordered is a Codec with replies that name their requests, so that each may be written as
// soon as it is there.
type Unordered interface {
	Codec
	// Reply returns the text of the last event Reply. The caller may keep it.
	Reply() []byte
	// ClosesAfterFlush reports whether the reply to req is to close the connection, after the
	// replies that are ready are written. AppendAnswer need not be called then. It may run
	// concurrently with Decode.
	ClosesAfterFlush(req *auth.Request, a auth.Answer) bool
}

// Reporter is a Codec of a protocol in which the server reports changes of accounts after OpWatch,
// between answers.
type Reporter interface {
	// AppendChange appends the report that an account was changed at a time; see package changes for
	// the kinds. An empty user stands for all of the domain that is watched.
	AppendChange(dst []byte, kind byte, at time.Time, user string) []byte
}

// Postponer is a Codec with a reply that says that a request was not begun since the process ends
// (auth.SourceDraining): the peer asks the next one.
type Postponer interface {
	Postpones()
}

// Options tune a codec.
type Options struct {
	// MaxFrame bounds a frame or line in bytes, without the length prefix or the LF
	// (saslauthd: all four fields with their lengths). 0 means the protocol's
	// default; other values below 64 count as 64. A codec never needs more than MaxFrame+2 unread bytes.
	MaxFrame int
	// BinaryAnswers makes the ejabberd codec write 0 where it would write 2, for peers that
	// know only 0 and 1 (MongooseIM).
	BinaryAnswers bool
	// RecipientDelimiter has the characters that separate a user from an address extension
	// (postconf(5), recipient_delimiter), for tcp_table and socketmap. Empty: addresses have
	// no extensions.
	RecipientDelimiter string
	// Table is what tcp_table serves: Mailbox, which is the default, or Login.
	Table string
	// FixedDomain replaces every realm of saslauthd, whatever it is. Empty: a realm is a domain.
	FixedDomain string
	// DefaultDomain is the listener's, in canonical form: dovecot compares the names of a PLAIN
	// message by it, and dovecot_userdb fills a template.
	DefaultDomain string
	// Bearer is what dovecot says of bearer tokens.
	Bearer Bearer
	// Userdb is what dovecot_userdb says of a user.
	Userdb Userdb
	// Now is the clock for the age of unfinished logins (dovecot); nil means time.Now.
	Now func() time.Time
}

// minFrame is the least MaxFrame: room for every operation word, so that even an
// oversize frame is refused under its own operation.
const minFrame = 64

// New returns a codec for one connection, or an error for a protocol that is not in the table, and for
// HTTPProtocol: its requests do not come as bytes (see NewHTTP).
func New(p Protocol, o Options) (Codec, error) {
	spec, ok := protocol.Find(p)
	if !ok || p == HTTPProtocol {
		return nil, fmt.Errorf("unknown protocol %q: use one of %v", p, protocol.Names())
	}
	limit := spec.MaxFrame
	if o.MaxFrame > 0 {
		limit = max(o.MaxFrame, minFrame)
	}
	address := addressKey{o.RecipientDelimiter}
	switch p {
	case Ejabberd:
		return &ejabberd{max: limit, binary: o.BinaryAnswers}, nil
	case Generic:
		return &generic{lines: lineSplitter{max: limit}}, nil
	case Saslauthd:
		return &saslauthd{max: limit, fixed: o.FixedDomain}, nil
	case TCPTable:
		return &tcpTable{lines: lineSplitter{max: limit}, address: address, login: o.Table == Login}, nil
	case Socketmap:
		return &socketmap{max: limit, address: address}, nil
	case Dovecot:
		return newDovecot(limit, o), nil
	case DovecotUserdb:
		return &dovecotUserdb{max: limit, userdb: o.Userdb, defaultDomain: o.DefaultDomain}, nil
	}
	return relayCodec{}, nil
}
