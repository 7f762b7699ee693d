package wire

import (
	"bytes"

	"postern/internal/auth"
)

// lineStatus is what lineSplitter found at the start of the unread bytes.
type lineStatus uint8

const (
	linePartial lineStatus = iota // no LF yet
	lineWhole                     // a line within the limit
	lineTooLong                   // the end of a line over the limit
)

// lineSplitter cuts a stream into lines that end in LF. Exactly one CR before the LF
// is dropped; a CR elsewhere is data (PROTOCOLS 2). A line over the limit is consumed
// as it arrives and reported once, at its LF.
type lineSplitter struct {
	max      int            // bytes before the LF, the CR included
	skipping bool           // the rest of an over-long line is being dropped
	op       auth.Operation // of the over-long line
}

// next returns the first line of buf, which is part of buf, and how many bytes are
// done with.
func (s *lineSplitter) next(buf []byte) (line []byte, n int, st lineStatus) {
	end := bytes.IndexByte(buf, '\n')
	if !s.skipping && (end > s.max || end < 0 && len(buf) > s.max) {
		s.skipping, s.op = true, leadingOperation(buf)
	}
	switch {
	case end < 0 && s.skipping:
		return nil, len(buf), linePartial
	case end < 0:
		return nil, 0, linePartial
	case s.skipping:
		s.skipping = false
		return nil, end + 1, lineTooLong
	}
	line = buf[:end]
	if end > 0 && line[end-1] == '\r' {
		line = line[:end-1]
	}
	return line, end + 1, lineWhole
}
