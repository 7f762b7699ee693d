// Package wire holds the codecs of the front-end protocols: bytes in, auth.Request
// out; auth.Answer in, bytes out. It knows no sockets, no actors and no log.
package wire

import (
	"fmt"
	"time"

	"postern/internal/auth"
)

// Protocol names a front-end protocol as the configuration does.
type Protocol string

// The protocols that have a codec.
const (
	Generic   Protocol = "generic"
	Ejabberd  Protocol = "ejabberd"
	Saslauthd Protocol = "saslauthd"
	TCPTable  Protocol = "tcp_table"
	Socketmap Protocol = "socketmap"
	Dovecot   Protocol = "dovecot"
)

// Protocols lists every protocol that New accepts.
var Protocols = []Protocol{Ejabberd, Generic, Saslauthd, TCPTable, Socketmap, Dovecot}

// Event is what Decode found at the start of the unread bytes.
type Event uint8

const (
	// More: the frame is not complete. Bytes may have been consumed all the same
	// (the rest of an over-long line is skipped as it arrives).
	More Event = iota
	// Ask: a request was decoded; it must be answered with AppendAnswer.
	Ask
	// Refuse: a complete frame that nobody may be asked about. req.Op is set as far
	// as it could be read. It is answered in its turn with a Deny of SourceMalformed.
	Refuse
	// Quit: the peer asked to end; close without an answer once earlier requests
	// are answered.
	Quit
	// Broken: the framing is lost; close without an answer once earlier requests are
	// answered.
	Broken
	// RefuseBroken: as Broken, but the frame is answered like Refuse before the close.
	RefuseBroken
	// Note: a complete frame that calls for no answer.
	Note
	// Reply: the codec answers by itself, and nobody is asked. req.Op is OpNone, and what
	// Unordered.Reply returns is the Body of the answer.
	Reply
)

// Codec decodes and encodes for one connection. It may keep state between calls and
// is not safe for concurrent use, except that AppendAnswer may run beside Decode.
type Codec interface {
	// Decode reads the first frame of buf. It consumes n bytes and never keeps
	// or changes buf. With Ask, req has been filled; its strings do not share
	// memory with buf. However the input is cut into pieces, the sequence of events
	// other than More is the same.
	Decode(buf []byte, req *auth.Request) (n int, ev Event)
	// AppendAnswer appends to dst the reply to a request as Decode left it; req.Secret may
	// be gone.
	AppendAnswer(dst []byte, req *auth.Request, a auth.Answer) []byte
	// OneShot reports whether the connection ends after its first answer: the
	// server then shuts down writing, drops what follows and closes.
	OneShot() bool
}

// Greeter is a Codec whose protocol has the server speak first.
type Greeter interface {
	// Greeting returns what is sent before anything is read.
	Greeting() []byte
}

// Unordered is a Codec whose replies name their requests, so that they may be written in any
// order, as soon as there are answers.
type Unordered interface {
	Codec
	// Reply returns the text of the last event Reply. It belongs to the caller.
	Reply() []byte
	// ClosesAfterFlush reports whether a is said to req by closing the connection, behind the replies
	// that are ready. AppendAnswer need not be called then. It may run beside Decode.
	ClosesAfterFlush(req *auth.Request, a auth.Answer) bool
}

// Options tune a codec.
type Options struct {
	// MaxFrame bounds a frame or line in bytes, without the length prefix or the LF
	// (saslauthd: all four fields with their lengths). 0 means the protocol's
	// default, which every request that may be asked fits into; other values below
	// 64 count as 64. A codec never needs more than MaxFrame+2 unread bytes.
	MaxFrame int
	// BinaryAnswers makes the ejabberd codec say 0 where it would say 2, for peers
	// that know 0 and 1 only (MongooseIM).
	BinaryAnswers bool
	// RecipientDelimiter has the characters of which the first one in a local part ends the
	// user and begins an address extension (postconf(5), recipient_delimiter), for tcp_table
	// and socketmap. Empty: there are no extensions.
	RecipientDelimiter string
	// Now tells the time to a codec that lets go of what its peer does not finish; nil means
	// time.Now.
	Now func() time.Time
}

// minFrame is the least MaxFrame: room for every operation word, so that even an
// oversize frame is refused under its own operation.
const minFrame = 64

// maxFrame returns the bound to use where standard is the protocol's default.
func (o Options) maxFrame(standard int) int {
	if o.MaxFrame <= 0 {
		return standard
	}
	return max(o.MaxFrame, minFrame)
}

// New returns a codec for one connection. The error, for a protocol without a codec,
// names those that have one.
func New(p Protocol, o Options) (Codec, error) {
	switch p {
	case Generic:
		return newGeneric(o), nil
	case Ejabberd:
		return newEjabberd(o), nil
	case Saslauthd:
		return newSaslauthd(o), nil
	case TCPTable:
		return newTCPTable(o), nil
	case Socketmap:
		return newSocketmap(o), nil
	case Dovecot:
		return newDovecot(o), nil
	case Relay:
		return relayCodec{}, nil
	}
	return nil, fmt.Errorf("unknown protocol %q: use one of %v", p, Protocols)
}
