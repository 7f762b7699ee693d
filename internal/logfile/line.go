package logfile

import (
	"log/slog"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// A line of the common kind is appended here, to the bytes that slog's handlers would make of it:
// those take ten times as long, which a broker that logs every decision feels. Groups, values other
// than plain ones and years beyond 9999 are left to slog.

// lineStart has the parts of a line's beginning that do not change within a second.
type lineStart struct {
	second int64
	zone   *time.Location
	text   []byte // 2006-01-02T15:04:05
	offset []byte // Z or +02:00
}

// of makes s the beginning of lines of a time with a year of four digits.
func (s *lineStart) of(t time.Time) {
	if second := t.Unix(); second != s.second || t.Location() != s.zone || len(s.text) == 0 {
		s.second, s.zone = second, t.Location()
		all := t.AppendFormat(s.text[:0], time.RFC3339)
		s.text, s.offset = all[:19:19], all[19:]
	}
}

// common are the attributes that the lines of a derived logger share, in both formats.
type common struct {
	text, json []byte
	other      bool // there is more to them: a group, or a value that is not plain
}

// with returns c and further attributes.
func (c common) with(attrs []slog.Attr) common {
	for _, a := range attrs {
		c.other = c.other || !plain(a.Value)
	}
	if c.other {
		return common{other: true}
	}
	// Clipped, since others are derived from the same bytes.
	c.text, c.json = c.text[:len(c.text):len(c.text)], c.json[:len(c.json):len(c.json)]
	for _, a := range attrs {
		c.text = appendText(c.text, a)
		c.json = appendJSON(c.json, a)
	}
	return c
}

// plain reports whether a value is appended here.
func plain(v slog.Value) bool {
	switch v.Kind() {
	case slog.KindString, slog.KindInt64, slog.KindUint64, slog.KindBool, slog.KindDuration:
		return true
	}
	return false
}

// appends reports whether a record with these common attributes is appended here.
func (c *common) appends(r *slog.Record) bool {
	yes := !c.other && !r.Time.IsZero()
	if year := r.Time.Year(); year < 0 || year > 9999 {
		return false
	}
	r.Attrs(func(a slog.Attr) bool {
		yes = yes && plain(a.Value)
		return yes
	})
	return yes
}

// appendTextLine appends a record as slog.TextHandler does, without its time if start is nil.
func (c *common) appendTextLine(to []byte, start *lineStart, r *slog.Record) []byte {
	if start != nil {
		start.of(r.Time)
		to = append(to, "time="...)
		to = append(to, start.text...)
		milli := r.Time.Nanosecond() / int(time.Millisecond)
		to = append(to, '.', byte('0'+milli/100), byte('0'+milli/10%10), byte('0'+milli%10))
		to = append(append(to, start.offset...), ' ')
	}
	to = append(to, "level="...)
	to = append(to, r.Level.String()...)
	to = append(to, " msg="...)
	to = appendTextString(to, r.Message)
	to = append(to, c.text...)
	r.Attrs(func(a slog.Attr) bool {
		to = appendText(to, a)
		return true
	})
	return append(to, '\n')
}

// appendJSONLine appends a record as slog.JSONHandler does, with withUnit, and without its time if start is
// nil.
func (c *common) appendJSONLine(to []byte, start *lineStart, r *slog.Record) []byte {
	to = append(to, '{')
	if start != nil {
		to = append(start.appendJSON(to, r.Time), ',')
	}
	to = append(to, `"level":"`...)
	to = append(to, r.Level.String()...)
	to = append(to, `","msg":`...)
	to = appendJSONString(to, r.Message)
	to = append(to, c.json...)
	r.Attrs(func(a slog.Attr) bool {
		to = appendJSON(to, a)
		return true
	})
	return append(to, '}', '\n')
}

// appendJSON appends a time as slog.JSONHandler does.
func (s *lineStart) appendJSON(to []byte, t time.Time) []byte {
	s.of(t)
	to = append(to, `"time":"`...)
	to = append(to, s.text...)
	if nano := t.Nanosecond(); nano > 0 {
		digits := append(to, '.')
		for unit := int(100 * time.Millisecond); nano > 0; unit /= 10 { // without zeros at the end
			digits = append(digits, byte('0'+nano/unit))
			nano %= unit
		}
		to = digits
	}
	return append(append(to, s.offset...), '"')
}

func appendText(to []byte, a slog.Attr) []byte {
	to = append(to, ' ')
	to = appendTextString(to, a.Key)
	to = append(to, '=')
	if a.Value.Kind() == slog.KindString {
		return appendTextString(to, a.Value.String())
	}
	return appendPlain(to, a.Value)
}

func appendJSON(to []byte, a slog.Attr) []byte {
	to = append(to, ',')
	to = appendJSONString(to, a.Key)
	to = append(to, ':')
	switch a.Value.Kind() {
	case slog.KindString:
		return appendJSONString(to, a.Value.String())
	case slog.KindDuration:
		to = append(to, '"')
		to = append(to, a.Value.Duration().String()...)
		return append(to, '"')
	}
	return appendPlain(to, a.Value)
}

// appendPlain appends a plain value other than a string.
func appendPlain(to []byte, v slog.Value) []byte {
	switch v.Kind() {
	case slog.KindInt64:
		return strconv.AppendInt(to, v.Int64(), 10)
	case slog.KindUint64:
		return strconv.AppendUint(to, v.Uint64(), 10)
	case slog.KindBool:
		return strconv.AppendBool(to, v.Bool())
	default:
		return append(to, v.Duration().String()...)
	}
}

// appendTextString quotes what has spaces, quotes, equals signs or unprintable characters.
func appendTextString(to []byte, s string) []byte {
	if quoted(s) {
		return strconv.AppendQuote(to, s)
	}
	return append(to, s...)
}

func quoted(s string) bool {
	if s == "" {
		return true
	}
	for i := 0; i < len(s); {
		b := s[i]
		if b < utf8.RuneSelf {
			if b <= ' ' || b == '=' || b == '"' {
				return true
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return true
		}
		i += size
	}
	return false
}

const hex = "0123456789abcdef"

// appendJSONString appends a JSON string. As slog does, it leaves <, > and & as they are, and
// writes U+2028 and U+2029 as escapes.
func appendJSONString(to []byte, s string) []byte {
	to = append(to, '"')
	done := 0
	for i := 0; i < len(s); {
		b := s[i]
		if b >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			switch {
			case r == utf8.RuneError && size == 1:
				to = append(append(to, s[done:i]...), `\ufffd`...)
				done = i + size
			case r == '\u2028' || r == '\u2029':
				to = append(append(to, s[done:i]...), `\u202`...)
				to = append(to, hex[r&0xF])
				done = i + size
			}
			i += size
			continue
		}
		if b < ' ' || b == '"' || b == '\\' {
			to = appendEscape(append(to, s[done:i]...), b)
			done = i + 1
		}
		i++
	}
	to = append(to, s[done:]...)
	return append(to, '"')
}

// appendEscape appends the escape of an ASCII character.
func appendEscape(to []byte, b byte) []byte {
	switch b {
	case '\\', '"':
		return append(to, '\\', b)
	case '\n':
		return append(to, '\\', 'n')
	case '\r':
		return append(to, '\\', 'r')
	case '\t':
		return append(to, '\\', 't')
	}
	return append(to, '\\', 'u', '0', '0', hex[b>>4], hex[b&0xF])
}
