package registry

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// WriteTSV writes records as tab-separated text: a line with the names of the columns, then one line
// for each record. Within a field a tab, a line feed, a carriage return and a backslash are written
// as \t, \n, \r and \\.
func WriteTSV(w io.Writer, records []Record, secrets bool) error {
	out := bufio.NewWriter(w)
	fields := make([]string, len(columns))
	for i, c := range columns {
		fields[i] = c.name
	}
	fmt.Fprintln(out, strings.Join(fields, "\t"))
	for i := range records {
		e := Show(records[i], secrets)
		for i, c := range columns {
			fields[i] = escaper.Replace(*c.field(&e))
		}
		fmt.Fprintln(out, strings.Join(fields, "\t"))
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	return nil
}

// ReadTSV reads the format of WriteTSV. Columns may be in any order and have xcauth's names, and
// those that are not needed may be missing. Empty lines are skipped. It returns all records
// or, with an error about every line that is wrong, none.
func ReadTSV(r io.Reader) ([]Record, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	c := newCollector("line")
	var order []func(*Entry) *string
	n := 0
	for lines.Scan() && !c.full() {
		n++
		line := strings.TrimSuffix(lines.Text(), "\r")
		switch {
		case line == "":
		case !utf8.ValidString(line):
			c.complain(n, fmt.Errorf("%w: not UTF-8", ErrInvalid))
		case order == nil:
			var err error
			if order, err = header(line); err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
		default:
			e, err := parseLine(line, order)
			if err != nil {
				c.complain(n, err)
				continue
			}
			c.add(n, e)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		c.complain(n+1, fmt.Errorf("%w: the line is longer than %d bytes: is this the right file?", ErrInvalid, maxLine))
	} else if err != nil {
		return nil, fmt.Errorf("read the list: %w", err)
	}
	return c.end()
}

// header parses the line with the names of the columns.
func header(line string) ([]func(*Entry) *string, error) {
	var order []func(*Entry) *string
	seen := make(map[string]bool)
	for name := range strings.SplitSeq(strings.TrimPrefix(line, "\ufeff"), "\t") {
		found := false
		for _, c := range columns {
			if name != "" && (name == c.name || name == c.xcauth) && !seen[c.name] {
				seen[c.name], found = true, true
				order = append(order, c.field)
			}
		}
		if !found { // not shown: without a header this is a record, with its secret
			return nil, fmt.Errorf("%w: the first line must name the columns, each once, separated by tabs: %s", ErrInvalid, columnNames())
		}
	}
	if !seen["domain"] {
		return nil, fmt.Errorf("%w: the first line does not name the column domain", ErrInvalid)
	}
	return order, nil
}

func parseLine(line string, order []func(*Entry) *string) (e Entry, err error) {
	fields := strings.Split(line, "\t")
	if len(fields) != len(order) {
		return e, fmt.Errorf("%w: %d fields where the first line names %d: a tab within a field is written \\t", ErrInvalid, len(fields), len(order))
	}
	for i, field := range order {
		text, ok := unescape(fields[i])
		if !ok {
			return e, fmt.Errorf("%w: a backslash is followed by something other than t, n, r or a backslash: write it twice", ErrInvalid)
		}
		*field(&e) = text
	}
	return e, nil
}

// The escapes of a field, both ways, and what removes them.
var (
	escaper   = strings.NewReplacer("\\", `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`)
	unescaper = strings.NewReplacer(`\\`, "\\", `\t`, "\t", `\n`, "\n", `\r`, "\r")
	stripper  = strings.NewReplacer(`\\`, "", `\t`, "", `\n`, "", `\r`, "")
)

// unescape is false for a text with a backslash that is not part of an escape.
func unescape(text string) (string, bool) {
	return unescaper.Replace(text), !strings.Contains(stripper.Replace(text), `\`)
}

// WriteJSON writes records as an array of objects.
func WriteJSON(w io.Writer, records []Record, secrets bool) error {
	entries := make([]Entry, len(records))
	for i := range records {
		entries[i] = Show(records[i], secrets)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(entries); err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	return nil
}

// ReadJSON reads the format of WriteJSON. It returns all records or, with an error about every
// one that is wrong, none.
func ReadJSON(r io.Reader) ([]Record, error) {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return nil, fmt.Errorf("%w: the list is not a JSON array of objects", ErrInvalid)
	}
	c := newCollector("record")
	for n := 1; d.More() && !c.full(); n++ {
		var e Entry
		if err := d.Decode(&e); err != nil {
			c.complain(n, jsonError(err))
			break
		}
		c.add(n, e)
	}
	if len(c.errs) == 0 {
		if _, err := d.Token(); err != nil {
			return nil, fmt.Errorf("%w: the list does not end with a ]", ErrInvalid)
		}
	}
	return c.end()
}

// jsonError describes an error of the decoder without showing the content.
func jsonError(err error) error {
	if typed, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%w: %q must be text in quotes, within an object", ErrInvalid, typed.Field)
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return fmt.Errorf("%w: unknown field %s: known are %s", ErrInvalid, clip(name), columnNames())
	}
	return fmt.Errorf("%w: malformed JSON: write an object with %s", ErrInvalid, columnNames())
}

// Read reads a list in either format: JSON begins with a bracket.
func Read(r io.Reader) ([]Record, error) {
	in := bufio.NewReader(r)
	for {
		b, err := in.ReadByte()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: the list is empty", ErrInvalid)
		}
		if err != nil {
			return nil, fmt.Errorf("read the list: %w", err)
		}
		if bytes.IndexByte([]byte(" \t\r\n"), b) >= 0 {
			continue
		}
		_ = in.UnreadByte()
		if b == '[' {
			return ReadJSON(in)
		}
		return ReadTSV(in)
	}
}
