package store

import "encoding/binary"

// AppendText appends a text to a value, after its length as a uvarint.
func AppendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// ValueReader reads the fields of a stored value in their order. A field that is not there, or is
// damaged, reads as zero, and the reader then has nothing left and is not OK.
type ValueReader struct {
	rest   []byte
	failed bool
}

// ReadValue returns a reader of a value behind its version byte. A value of another version reads
// as a damaged one.
func ReadValue(value []byte, version byte) *ValueReader {
	if len(value) == 0 || value[0] != version {
		return &ValueReader{failed: true}
	}
	return &ValueReader{rest: value[1:]}
}

// OK reports whether every field so far was there.
func (r *ValueReader) OK() bool { return !r.failed }

// More reports whether something is left.
func (r *ValueReader) More() bool { return len(r.rest) > 0 }

// Complete reports whether every field was there and nothing is left.
func (r *ValueReader) Complete() bool { return r.OK() && !r.More() }

// Bytes returns the next n bytes, which share the value's memory; nil if there are fewer.
func (r *ValueReader) Bytes(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.fail()
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// Byte returns the next byte.
func (r *ValueReader) Byte() byte {
	if b := r.Bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// Varint returns the next signed number.
func (r *ValueReader) Varint() int64 {
	v, n := binary.Varint(r.rest)
	if !r.skip(n) {
		return 0
	}
	return v
}

// Uvarint returns the next unsigned number.
func (r *ValueReader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if !r.skip(n) {
		return 0
	}
	return v
}

// Text returns the next text, as AppendText has written it.
func (r *ValueReader) Text() string { return string(r.Bytes(r.Uvarint())) }

// skip passes over a number of n bytes; n is not positive if there was none.
func (r *ValueReader) skip(n int) bool {
	if n <= 0 {
		r.fail()
		return false
	}
	r.rest = r.rest[n:]
	return true
}

func (r *ValueReader) fail() { r.rest, r.failed = nil, true }
