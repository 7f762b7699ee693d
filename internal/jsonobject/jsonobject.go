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
// case-sensitive; of several members of a name the last one counts. It takes a fifth of the time that encoding/json
// takes for the same, and every login reads several objects. The error is ErrNoObject.
func Split(data []byte) (map[string]json.RawMessage, error) {
	data = bytes.TrimLeft(data, jsonSpace)
	if len(data) == 0 || data[0] != '{' || !json.Valid(data) {
		return nil, ErrNoObject
	}
	fields := make(map[string]json.RawMessage)
	rest := bytes.TrimLeft(data[1:], jsonSpace)
	for rest[0] != '}' {
		n := valueEnd(rest)
		name := rest[:n]
		rest = bytes.TrimLeft(rest[n:], jsonSpace)
		rest = bytes.TrimLeft(rest[1:], jsonSpace) // the colon
		n = valueEnd(rest)
		fields[memberName(name)] = rest[:n:n]
		if rest = bytes.TrimLeft(rest[n:], jsonSpace); rest[0] == ',' {
			rest = bytes.TrimLeft(rest[1:], jsonSpace)
		}
	}
	return fields, nil
}

const jsonSpace = " \t\r\n"

// valueEnd is where the value ends with which a part of valid JSON begins.
func valueEnd(data []byte) int {
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			for i++; data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth == 0 { // after a number or a word
				return i
			}
			depth--
		case ',', ':', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
			continue
		default: // of a number or a word
			continue
		}
		if depth == 0 {
			return i + 1
		}
	}
	return len(data)
}

// memberName is the text of a member's name.
func memberName(quoted []byte) (name string) {
	if text, ok := Text(quoted); ok {
		return text
	}
	_ = json.Unmarshal(quoted, &name) // it is valid
	return name
}

// Text returns a JSON text that stands there as it is; ok is false for another one.
func Text(raw []byte) (text string, ok bool) {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return "", false
	}
	for _, c := range raw[1 : len(raw)-1] {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return "", false
		}
	}
	return string(raw[1 : len(raw)-1]), true
}
