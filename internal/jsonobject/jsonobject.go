// Package jsonobject splits JSON objects into their members.
package jsonobject

import (
	"bytes"
	"encoding/json"
	"errors"
)

// ErrNoObject means that a text is not a JSON object.
var ErrNoObject = errors.New("not a JSON object")

// Split splits a JSON object into its members, which are parts of data. Unlike decoding into a struct it is
// case-sensitive; of several members of a name the last one counts. It reads the text once, in a small part of the time
// that encoding/json takes to check it, and every login reads several objects. The error is ErrNoObject.
func Split(data []byte) (map[string]json.RawMessage, error) {
	i := space(data, 0)
	if at(data, i) != '{' {
		return nil, ErrNoObject
	}
	fields := make(map[string]json.RawMessage, min(bytes.Count(data, []byte(`":`)), 32))
	names := string(data) // of which they are parts: one allocation for all
	end := members(data, i, 1, func(from, to int, value []byte) {
		if plain(data[from+1 : to-1]) {
			fields[names[from+1:to-1]] = value
			return
		}
		var name string
		_ = json.Unmarshal(data[from:to], &name) // it is well formed
		fields[name] = value
	})
	if end < 0 || space(data, end) != len(data) {
		return nil, ErrNoObject
	}
	return fields, nil
}

// maxDepth is how deep values may be nested, as in encoding/json.
const maxDepth = 10000

// The functions below return where what begins at i ends, or -1 if it is malformed.

// members reads an object, and calls found for each member, with where its name is.
func members(data []byte, i, depth int, found func(from, to int, value []byte)) int {
	return list(data, i, '}', func(name int) int {
		nameEnd := quoted(data, name)
		if nameEnd < 0 {
			return -1
		}
		i := space(data, nameEnd)
		if at(data, i) != ':' {
			return -1
		}
		from := space(data, i+1)
		end := value(data, from, depth)
		if end >= 0 && found != nil {
			found(name, nameEnd, data[from:end:end])
		}
		return end
	})
}

// elements reads an array.
func elements(data []byte, i, depth int) int {
	return list(data, i, ']', func(i int) int { return value(data, i, depth) })
}

// list reads what has items with commas between them, from its opening bracket to the closing one.
func list(data []byte, i int, closing byte, item func(i int) int) int {
	if i = space(data, i+1); at(data, i) == closing {
		return i + 1
	}
	for {
		if i = item(i); i < 0 {
			return -1
		}
		i = space(data, i)
		switch at(data, i) {
		case ',':
			i = space(data, i+1)
		case closing:
			return i + 1
		default:
			return -1
		}
	}
}

// value reads a value inside of depth others.
func value(data []byte, i, depth int) int {
	switch c := at(data, i); {
	case c == '"':
		return quoted(data, i)
	case (c == '{' || c == '[') && depth == maxDepth:
		return -1
	case c == '{':
		return members(data, i, depth+1, nil)
	case c == '[':
		return elements(data, i, depth+1)
	case c == '-' || digit(c):
		return number(data, i)
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(data[i:], []byte(word)) {
			return i + len(word)
		}
	}
	return -1
}

// quoted reads a text. Its bytes need not be UTF-8, as in encoding/json.
func quoted(data []byte, i int) int {
	if at(data, i) != '"' {
		return -1
	}
	for i++; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			return i + 1
		case c < ' ':
			return -1
		case c == '\\':
			i++
			switch at(data, i) {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					if i++; !hex(at(data, i)) {
						return -1
					}
				}
			default:
				return -1
			}
		}
	}
	return -1
}

func number(data []byte, i int) int {
	if data[i] == '-' {
		i++
	}
	if at(data, i) == '0' {
		i++
	} else if i = digits(data, i); i < 0 {
		return -1
	}
	if at(data, i) == '.' {
		if i = digits(data, i+1); i < 0 {
			return -1
		}
	}
	if c := at(data, i); c == 'e' || c == 'E' {
		i++
		if c := at(data, i); c == '+' || c == '-' {
			i++
		}
		i = digits(data, i)
	}
	return i
}

// digits reads one digit or more.
func digits(data []byte, i int) int {
	if !digit(at(data, i)) {
		return -1
	}
	for digit(at(data, i)) {
		i++
	}
	return i
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

func hex(c byte) bool { return digit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' }

// space is where the white space from i on ends.
func space(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\t' || data[i] == '\r' || data[i] == '\n') {
		i++
	}
	return i
}

// at returns the byte at i; at the end it is 0, which is no part of JSON outside of texts, nor in them.
func at(data []byte, i int) byte {
	if i < len(data) {
		return data[i]
	}
	return 0
}

// Text returns a JSON text that stands there as it is; ok is false for another one.
func Text(raw []byte) (text string, ok bool) {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' || !plain(raw[1:len(raw)-1]) {
		return "", false
	}
	return string(raw[1 : len(raw)-1]), true
}

// plain reports whether what stands between quotes is its own text.
func plain(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
