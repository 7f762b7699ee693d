package wire

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"postern/internal/auth"
)

// Minor versions. No client compares the announced one with its own.
const (
	dovecotMinor     = 4 // announced
	dovecotCancelled = 4 // clients from here on want an answer to CANCEL
	dovecotProsody   = 1 // of Prosody alone
)

// dovecot is the protocol between Dovecot's login processes and its authentication server, which
// Postfix, Exim and Prosody have too: lines of fields split by TAB, with the mechanisms PLAIN and
// LOGIN, and those of bearer tokens where there are some. Control characters in fields are escaped. Names with one are refused, so no reply needs
// the escapes.
type dovecot struct {
	persistent
	max           int
	defaultDomain string // of names without one
	bearer        Bearer
	state         dovecotState
	now           func() time.Time
	reply         []byte // of the last event Reply
	plain         []byte // decoded base64; wiped after each use
	skipping      bool   // within a line over the limit
	skipped       uint32 // its id

	mu     sync.Mutex // AppendAnswer and ClosesAfterFlush run concurrently with Decode
	minor  uint64     // version of the client
	serial uint32     // of the last login
	open   map[uint32]*dialogue
}

// dovecotState is the next line that the client must send.
type dovecotState uint8

const (
	wantVersion dovecotState = iota
	wantCPID
	wantCommand
)

var _ Unordered = (*dovecot)(nil)

func newDovecot(limit int, o Options) *dovecot {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &dovecot{max: limit, defaultDomain: o.DefaultDomain, bearer: o.Bearer, now: o.Now, open: make(map[uint32]*dialogue)}
}

// Greeting implements Greeter. SPID must come after MECH: otherwise Postfix and Exim take the
// socket for one of another kind, and Postfix's smtpd exits.
func (d *dovecot) Greeting() []byte {
	var random [20]byte
	_, _ = rand.Read(random[:])
	cuid := 1 + binary.BigEndian.Uint32(random[:])>>1
	tokens := ""
	if d.bearer.Offered {
		tokens = "MECH\tOAUTHBEARER\tplaintext\nMECH\tXOAUTH2\tplaintext\n"
	}
	return fmt.Appendf(nil, "VERSION\t1\t%d\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\n%sSPID\t%d\nCUID\t%d\nCOOKIE\t%x\nDONE\n",
		dovecotMinor, tokens, os.Getpid(), cuid, random[4:])
}

// Decode implements Codec. A line that breaks the protocol ends the connection. A login in a line
// over the limit fails alone.
func (d *dovecot) Decode(buf []byte, req *auth.Request) (int, Event) {
	end := bytes.IndexByte(buf, '\n')
	if !d.skipping && (end > d.max || end < 0 && len(buf) > d.max) && !d.skips(buf) {
		return len(buf), Broken
	}
	switch {
	case end < 0 && d.skipping:
		return len(buf), More
	case end < 0:
		return 0, More
	case d.skipping:
		d.skipping = false
		return end + 1, d.say("FAIL\t%d\treason=the request is too long\n", d.skipped)
	}
	ev := d.command(bytes.TrimSuffix(buf[:end], []byte("\r")), req)
	if ev == Broken {
		return len(buf), Broken
	}
	return end + 1, ev
}

// skips begins to skip a line over the limit if it is a part of a login. Prosody has one login at a
// time on a connection, so there the connection ends as with Dovecot.
func (d *dovecot) skips(line []byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state != wantCommand || d.minor == dovecotProsody {
		return false
	}
	id, begins := leadingID(line, "AUTH")
	goesOn := false
	if !begins {
		id, goesOn = leadingID(line, "CONT")
	}
	g := d.open[id]
	if id == 0 || !begins && !goesOn || g != nil && (g.asked || begins && !g.stale(d.now())) {
		return false
	}
	delete(d.open, id)
	d.skipping, d.skipped = true, id
	return true
}

// command decodes one line.
func (d *dovecot) command(line []byte, req *auth.Request) Event {
	word, rest, _ := bytes.Cut(line, []byte("\t"))
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.state == wantVersion && string(word) == "VERSION":
		return d.version(rest)
	case d.state == wantCPID && string(word) == "CPID" && len(rest) > 0:
		// The number is not compared: clients on other machines may have the same.
		d.state = wantCommand
		return Note
	case d.state != wantCommand:
		return Broken
	}
	number, rest, more := bytes.Cut(rest, []byte("\t"))
	id, err := strconv.ParseUint(string(number), 10, 32)
	switch {
	case err != nil || id == 0:
		return Broken
	case string(word) == "AUTH" && more:
		return d.auth(uint32(id), rest, req)
	case string(word) == "CONT" && more:
		return d.cont(uint32(id), rest, req)
	case string(word) == "CANCEL" && !more:
		delete(d.open, uint32(id)) // AppendAnswer then drops the answer
		if d.minor >= dovecotCancelled {
			return d.say("CANCELLED\t%d\n", uint32(id))
		}
		return Note
	}
	return Broken
}

func (d *dovecot) version(rest []byte) Event {
	major, minor, _ := bytes.Cut(rest, []byte("\t"))
	var err error
	if d.minor, err = strconv.ParseUint(string(minor), 10, 32); err != nil || string(major) != "1" {
		return Broken
	}
	d.state = wantCPID
	return Note
}

// auth begins a login. Unknown parameters are skipped, final-resp-ok among them: the mechanisms have
// no data with a success. resp, the first data of the mechanism, must be the last one.
func (d *dovecot) auth(id uint32, rest []byte, req *auth.Request) Event {
	mech, rest, _ := bytes.Cut(rest, []byte("\t"))
	g := &dialogue{since: d.now()}
	var resp []byte
	var served bool
	for len(rest) > 0 {
		if resp != nil {
			return Broken
		}
		var param []byte
		param, rest, _ = bytes.Cut(rest, []byte("\t"))
		name, value, _ := bytes.Cut(param, []byte("="))
		switch string(name) {
		case "service", "protocol": // its name since Dovecot 2.4
			g.service, served = unescaped(value), true
		case "rip":
			g.client = clientAddress(string(value))
		case "resp":
			resp = value
		}
	}
	if old := d.open[id]; len(mech) == 0 || !served || old != nil && !old.stale(g.since) {
		return Broken
	}
	if g.mech = d.mechanismOf(mech); g.mech == mechNone {
		return d.say("FAIL\t%d\treason=mechanism not supported\n", id)
	}
	d.enter(id, g)
	switch {
	case len(resp) == 0 && d.minor < 2, resp == nil:
		return d.prompt(id, g)
	case string(resp) == "=": // empty data; resp= alone is no data
		resp = nil
	}
	return d.data(id, g, resp, req)
}

// cont continues a login, which may have been dropped already. While its answer is pending the
// client must not send more.
func (d *dovecot) cont(id uint32, data []byte, req *auth.Request) Event {
	g := d.open[id]
	switch {
	case g == nil || g.stale(d.now()):
		delete(d.open, id)
		return d.say("FAIL\t%d\treason=the login took too long\n", id)
	case g.asked:
		return Broken
	case g.failure != nil: // whatever the client says to that
		delete(d.open, id)
		d.reply = g.failure
		return Reply
	}
	return d.data(id, g, data, req)
}

// say sets the codec's own reply.
func (d *dovecot) say(format string, args ...any) Event {
	d.reply = fmt.Appendf(nil, format, args...)
	return Reply
}

// Reply implements Unordered.
func (d *dovecot) Reply() []byte { return d.reply }

// take returns the login of req, which ends unless its token is refused. It is nil if the client has cancelled it. d.mu is
// held.
func (d *dovecot) take(req *auth.Request, refused bool) *dialogue {
	id := uint32(req.Tag)
	g := d.open[id]
	if g == nil || g.tag(id) != req.Tag {
		return nil
	}
	if !refused || !g.mech.bearer() {
		delete(d.open, id)
	}
	return g
}

// AppendAnswer implements Codec. A yes has the account's name: in Postfix it becomes the
// sasl_username, by which quotas, bans and sender_login_maps go. Prosody escapes the '@' of a name,
// so a client of its service that gave no domain is answered without one.
func (d *dovecot) AppendAnswer(dst []byte, req *auth.Request, a auth.Answer) []byte {
	if req.Op == auth.OpNone {
		return append(dst, a.Body...)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch g := d.take(req, a.Verdict == auth.Deny); {
	case g == nil:
		return dst
	case a.Verdict == auth.Deny && g.mech.bearer():
		return d.appendRefusal(dst, g, req, a)
	}
	word := "FAIL\t"
	if a.Verdict == auth.Allow {
		word = "OK\t"
	}
	dst = append(dst, word...)
	dst = strconv.AppendUint(dst, uint64(uint32(req.Tag)), 10)
	if req.Fault == "" {
		dst = appendField(dst, "user=", nameOf(req, a))
	}
	if a.Verdict == auth.Unavailable {
		dst = append(dst, "\ttemp\tcode=temp_fail"...) // for Prosody, and for Dovecot
	}
	return append(dst, '\n')
}

// nameOf returns the name for the client of a login. Of a refused one it is the name that came.
func nameOf(req *auth.Request, a auth.Answer) string {
	if a.Verdict != auth.Allow {
		a.Account = ""
	}
	name := accountOf(req, a)
	if req.Domain == "" && (a.Verdict != auth.Allow || req.Service == "xmpp") {
		name = strings.TrimSuffix(name, "@"+a.Domain)
	}
	return name
}

// ClosesAfterFlush implements Unordered. Clients of minor version 0, which are Postfix and Exim,
// take every FAIL for a wrong password, and only a closed connection for a temporary failure.
func (d *dovecot) ClosesAfterFlush(req *auth.Request, a auth.Answer) bool {
	if req.Op == auth.OpNone || a.Verdict != auth.Unavailable {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.open[uint32(req.Tag)]
	return d.minor == 0 && g != nil && g.tag(uint32(req.Tag)) == req.Tag
}

// decode64 decodes strict base64 into d.plain. The decoder would skip a CR.
func (d *dovecot) decode64(data []byte) bool {
	plain, err := base64.StdEncoding.Strict().AppendDecode(d.plain[:0], data)
	d.plain = plain
	return err == nil && bytes.IndexByte(data, '\r') < 0
}
