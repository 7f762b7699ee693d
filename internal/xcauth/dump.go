package xcauth

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxDumpLine is the longest line of a dump, in bytes. The longest value of xcauth's is the list of a
// group's members.
const maxDumpLine = 16 << 20

// ErrDump is wrapped by every error about the format of a dump.
var ErrDump = errors.New("not the output of db_dump")

// ReadDump reads the output of db_dump (db-util), with or without -p, and calls record for each key
// and value, in their order. A file may hold several databases.
func ReadDump(r io.Reader, record func(key, value string)) error {
	d := dumpReader{lines: bufio.NewScanner(r)}
	d.lines.Buffer(make([]byte, 0, 64<<10), maxDumpLine)
	databases := 0
	for d.next() {
		if err := d.database(record); err != nil {
			return err
		}
		databases++
	}
	if err := d.lines.Err(); err != nil {
		return fmt.Errorf("line %d: %w", d.number+1, err)
	}
	if databases == 0 {
		return fmt.Errorf("%w: the file is empty", ErrDump)
	}
	return nil
}

type dumpReader struct {
	lines  *bufio.Scanner
	line   string
	number int
}

func (d *dumpReader) next() bool {
	if !d.lines.Scan() {
		return false
	}
	d.line = d.lines.Text()
	d.number++
	return true
}

func (d *dumpReader) fault(what string) error {
	return fmt.Errorf("%w: line %d: %s", ErrDump, d.number, what)
}

// database reads a header after its first line, and the records that follow it.
func (d *dumpReader) database(record func(key, value string)) error {
	decode, err := d.header()
	if err != nil {
		return err
	}
	var key string
	for keys := true; d.next(); keys = !keys {
		if d.line == "DATA=END" {
			if !keys {
				return d.fault("a key has no value")
			}
			return nil
		}
		text, ok := strings.CutPrefix(d.line, " ")
		if !ok {
			return d.fault("a record begins with a space")
		}
		item, err := decode(text)
		if err != nil {
			return d.fault(err.Error())
		}
		if keys {
			key = item
		} else {
			record(key, item)
		}
	}
	if err := d.lines.Err(); err != nil {
		return fmt.Errorf("line %d: %w", d.number+1, err)
	}
	return d.fault("the end is missing: the file is incomplete")
}

// header reads a header and returns the decoder of its records.
func (d *dumpReader) header() (decode func(string) (string, error), err error) {
	if !strings.HasPrefix(d.line, "VERSION=") {
		return nil, d.fault("expected VERSION=: run db_dump on the file, or db_dump -p")
	}
	for d.next() {
		name, value, isSetting := strings.Cut(d.line, "=")
		switch {
		case d.line == "HEADER=END":
			if decode == nil {
				return nil, d.fault("the header names no format")
			}
			return decode, nil
		case !isSetting:
			return nil, d.fault("the header holds name=value lines")
		case name == "format" && value == "bytevalue":
			decode = decodeHex
		case name == "format" && value == "print":
			decode = decodePrintable
		case name == "format":
			return nil, d.fault("the format is neither bytevalue nor print")
		case name == "type" && value != "hash" && value != "btree":
			return nil, d.fault("xcauth had databases of the types hash and btree only")
		}
	}
	return nil, d.fault("HEADER=END is missing")
}

func decodeHex(text string) (string, error) {
	b, err := hex.DecodeString(text)
	if err != nil {
		return "", errors.New("a record is not in hexadecimal digits")
	}
	return string(b), nil
}

// decodePrintable decodes a record of db_dump -p: a backslash is doubled, and a byte that is not
// printable is a backslash with two hexadecimal digits.
func decodePrintable(text string) (string, error) {
	var b strings.Builder
	for {
		before, after, escaped := strings.Cut(text, `\`)
		b.WriteString(before)
		if !escaped {
			return b.String(), nil
		}
		if rest, doubled := strings.CutPrefix(after, `\`); doubled {
			b.WriteByte('\\')
			text = rest
			continue
		}
		if len(after) < 2 {
			return "", errors.New("a backslash at the end of a record")
		}
		c, err := hex.DecodeString(after[:2])
		if err != nil {
			return "", errors.New("a backslash is followed by another one or two hexadecimal digits")
		}
		b.Write(c)
		text = after[2:]
	}
}
