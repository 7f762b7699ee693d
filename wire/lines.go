package wire

import (
	"bytes"

	"postern/internal/auth"
)

// lineStatus is what lineSplitter found at the start of its input.
type lineStatus uint8

const (
	linePartial lineStatus = iota // no LF yet
	lineWhole                     // a line within the limit
	lineTooLong                   // the end of a line over the limit
)

// lineSplitter cuts a stream into lines that end in LF. One CR before the LF is dropped; a CR
// elsewhere is data. A line over the limit is consumed as it arrives and reported once, at its
// LF.
type lineSplitter struct {
	max      int            // bytes before the LF, including a CR
	skipping bool           // within a line over the limit
	op       auth.Operation // of the line over the limit
}

// next returns the first line of buf, which shares its memory, and the bytes consumed.
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
