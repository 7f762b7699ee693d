package wire

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"postern/internal/auth"
)

// Userdb is what dovecot_userdb says of every user that exists. Home may have the templates %{user}
// and %{domain}; UID and GID are numbers. An empty text leaves its field out.
type Userdb struct {
	UID, GID, Home string
}

// userdbMinor is the announced minor version.
const userdbMinor = 2

// Marks in the Tag of a request of dovecot_userdb, which has the id in its low half.
const (
	tagList = 1 << 32 // a listing of users, refused in words of its own
	tagFail = 1 << 33 // no lookup at all: to be refused, but not as a user that does not exist
)

// dovecotUserdb is what Dovecot's authentication server speaks on its userdb and master sockets:
// lines of fields split by TAB. Dovecot's LMTP and chasquid ask there whether a recipient exists.
type dovecotUserdb struct {
	persistent
	max           int
	userdb        Userdb
	defaultDomain string
	begun         bool   // VERSION has come
	skipping      bool   // within a line over the limit
	id            uint32 // of the line over the limit
}

var _ Greeter = (*dovecotUserdb)(nil)

// Greeting implements Greeter. chasquid reads it before it writes.
func (*dovecotUserdb) Greeting() []byte {
	return fmt.Appendf(nil, "VERSION\t1\t%d\nSPID\t%d\n", userdbMinor, os.Getpid())
}

// Decode implements Codec. A line that breaks the protocol ends the connection. A lookup in a line
// over the limit is refused by its id.
func (d *dovecotUserdb) Decode(buf []byte, req *auth.Request) (int, Event) {
	end := bytes.IndexByte(buf, '\n')
	if !d.skipping && (end > d.max || end < 0 && len(buf) > d.max) {
		if d.id, d.skipping = leadingID(buf, "USER"); !d.skipping || !d.begun {
			return len(buf), Broken
		}
	}
	switch {
	case end < 0 && d.skipping:
		return len(buf), More
	case end < 0:
		return 0, More
	case d.skipping:
		d.skipping = false
		return end + 1, refuseTagged(req, uint64(d.id)|tagFail, faultLong)
	}
	ev := d.command(bytes.TrimSuffix(buf[:end], []byte("\r")), req)
	if ev == Broken {
		return len(buf), Broken
	}
	return end + 1, ev
}

// leadingID reads the id of a line that begins with a word and an id.
func leadingID(line []byte, word string) (id uint32, ok bool) {
	first, rest, _ := bytes.Cut(line[:min(len(line), minFrame)], []byte{'\t'})
	number, _, whole := bytes.Cut(rest, []byte{'\t'})
	n, err := strconv.ParseUint(string(number), 10, 32)
	return uint32(n), whole && err == nil && string(first) == word
}

// refuseTagged refuses a lookup that has no name.
func refuseTagged(req *auth.Request, tag uint64, fault string) Event {
	refuse(req, auth.OpIsUser, fault)
	req.Tag = tag
	return Refuse
}

// command decodes one line.
func (d *dovecotUserdb) command(line []byte, req *auth.Request) Event {
	word, rest, _ := bytes.Cut(line, []byte{'\t'})
	if !d.begun {
		major, _, more := bytes.Cut(rest, []byte{'\t'})
		if d.begun = string(word) == "VERSION" && string(major) == "1" && more; !d.begun {
			return Broken
		}
		return Note
	}
	number, rest, more := bytes.Cut(rest, []byte{'\t'})
	id, err := strconv.ParseUint(string(number), 10, 32)
	switch {
	case err != nil:
		return Broken
	case string(word) == "USER" && more:
		ev := d.user(rest, req)
		req.Tag = id
		return ev
	case string(word) == "PASS" && more:
		return refuseTagged(req, id|tagFail, "passwords are not looked up")
	case string(word) == "LIST":
		return refuseTagged(req, id|tagList, "users are not listed")
	}
	return Broken
}

// user makes a request of a lookup's name and parameters. Unknown parameters are skipped.
func (d *dovecotUserdb) user(fields []byte, req *auth.Request) Event {
	name, params, _ := bytes.Cut(fields, []byte{'\t'})
	r := auth.Request{Op: auth.OpIsUser, User: unescaped(name), Named: true}
	for len(params) > 0 {
		var param []byte
		param, params, _ = bytes.Cut(params, []byte{'\t'})
		key, value, _ := bytes.Cut(param, []byte{'='})
		switch string(key) {
		case "service", "protocol":
			r.Service = unescaped(value)
		case "rip":
			r.Client = clientAddress(string(value))
		}
	}
	if at := strings.LastIndexByte(r.User, '@'); at >= 0 {
		if r.User, r.Domain = r.User[:at], r.User[at+1:]; r.Domain == "" {
			return refuseNamed(req, r, faultDomain)
		}
	}
	if !plainText(r.Service) {
		return refuseNamed(req, r, faultService)
	}
	return fill(req, r, nil)
}

// AppendAnswer implements Codec. A name that no user can have is not found, as in Dovecot.
func (d *dovecotUserdb) AppendAnswer(dst []byte, req *auth.Request, a auth.Answer) []byte {
	id := uint64(uint32(req.Tag))
	switch {
	case req.Tag&tagList != 0:
		return append(strconv.AppendUint(append(dst, "DONE\t"...), id, 10), "\tfail\n"...)
	case a.Verdict == auth.Deny && req.Tag&tagFail == 0:
		return append(strconv.AppendUint(append(dst, "NOTFOUND\t"...), id, 10), '\n')
	case a.Verdict != auth.Allow:
		return append(strconv.AppendUint(append(dst, "FAIL\t"...), id, 10), '\n')
	}
	if a.Domain == "" && req.Domain == "" {
		a.Domain = d.defaultDomain
	}
	account := accountOf(req, a)
	home, ok := d.home(account)
	if !ok {
		return fmt.Appendf(dst, "FAIL\t%d\treason=the name cannot be part of a path\n", id)
	}
	dst = appendEscaped(fmt.Appendf(dst, "USER\t%d\t", id), account)
	dst = appendField(dst, "uid=", d.userdb.UID)
	dst = appendField(dst, "gid=", d.userdb.GID)
	return append(appendField(dst, "home=", home), '\n')
}

// home fills the template. A user such as ".." would be at home in another user's directory, or
// above all of them, and Dovecot may fill in what follows a '%' once more: ok is false.
func (d *dovecotUserdb) home(account string) (home string, ok bool) {
	if !strings.Contains(d.userdb.Home, "%{") {
		return d.userdb.Home, true
	}
	at := strings.LastIndexByte(account, '@')
	user, domain := account[:max(at, 0)], account[at+1:]
	for _, name := range [...]string{user, domain} {
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/%\x00") {
			return "", false
		}
	}
	return strings.NewReplacer("%{user}", user, "%{domain}", domain).Replace(d.userdb.Home), true
}

func appendField(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return appendEscaped(append(append(dst, '\t'), name...), value)
}

// escapes are Dovecot's codes of the bytes that have a meaning in a line, after a byte 1.
var escapes = [...]struct{ plain, code byte }{{0, '0'}, {1, '1'}, {'\t', 't'}, {'\r', 'r'}, {'\n', 'n'}}

// appendEscaped appends the text of a field.
func appendEscaped(dst []byte, text string) []byte {
next:
	for i := range len(text) {
		for _, e := range escapes {
			if text[i] == e.plain {
				dst = append(dst, 1, e.code)
				continue next
			}
		}
		dst = append(dst, text[i])
	}
	return dst
}

// unescaped is the text of a field. Old documents have l for LF, and an unknown code stands for
// itself.
func unescaped(field []byte) string {
	if bytes.IndexByte(field, 1) < 0 {
		return string(field)
	}
	out := make([]byte, 0, len(field))
	for i := 0; i < len(field); i++ {
		c := field[i]
		if c == 1 && i+1 < len(field) {
			i++
			if c = field[i]; c == 'l' {
				c = '\n'
			}
			for _, e := range escapes {
				if field[i] == e.code {
					c = e.plain
				}
			}
		}
		out = append(out, c)
	}
	return string(out)
}
