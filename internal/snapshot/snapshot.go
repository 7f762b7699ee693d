// Package snapshot is the form in which a process hands its memory to its successor, in memory that
// both can read. It is nothing for a disk: it has the key of all that it has.
//
// A snapshot is valid once, and only for the state of the machine in which it was made. Its header
// names the format, the boot of the kernel, and the store's serial, which each start and each change of
// the store by another process replaces. A snapshot that does not fit, or is damaged, is refused as a
// whole.
package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
)

// Format is the version of a snapshot's layout and of all types in it. It must be raised with every
// change of these; a test of package actors notices one.
const Format = 4

// Size limits of a snapshot in bytes.
const (
	MaxSize = 1 << 30
	minSize = len(magic) + 2 + sha256.Size
)

const magic = "postern-memory"

// Why a snapshot is refused.
var (
	ErrDamaged = errors.New("it is damaged")
	ErrFormat  = errors.New("it was made by another version of postern")
	ErrBoot    = errors.New("it was made before the machine was started")
	ErrSerial  = errors.New("since it was made, another process has used the store, or this one is another")
)

// Serial is the state of a store. Serials are random: an older copy of the store has another one.
type Serial [16]byte

// Header says what a snapshot is valid for.
type Header struct {
	Boot   string // of the kernel, see random(4)
	Serial Serial // of the store that the maker had
}

// check returns why a snapshot of h is not valid where now is.
func (h Header) check(now Header) error {
	switch {
	case h.Boot != now.Boot || h.Boot == "":
		return ErrBoot
	case h.Serial != now.Serial || h.Serial == Serial{}:
		return ErrSerial
	}
	return nil
}

// Encode returns a snapshot of state, a struct for package gob.
//
// Layout: magic, Format as two bytes, the gob stream of the header and the state, the SHA-256 of all
// before it.
func Encode(h Header, state any) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(magic)
	b.Write(binary.BigEndian.AppendUint16(nil, Format))
	enc := gob.NewEncoder(&b)
	if err := errors.Join(enc.Encode(h), enc.Encode(state)); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	if b.Len()+sha256.Size > MaxSize {
		return nil, fmt.Errorf("snapshot: %d bytes are too many", b.Len())
	}
	sum := sha256.Sum256(b.Bytes())
	return append(b.Bytes(), sum[:]...), nil
}

// Decode fills in state from a snapshot that is valid where now is. After an error state must not be
// used. The error is one of those above, or wraps it.
func Decode(data []byte, now Header, state any) error {
	switch {
	case len(data) < minSize || !bytes.HasPrefix(data, []byte(magic)):
		return ErrDamaged
	case binary.BigEndian.Uint16(data[len(magic):]) != Format:
		return ErrFormat
	}
	body, sum := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if sha256.Sum256(body) != [sha256.Size]byte(sum) {
		return ErrDamaged
	}
	return decode(body[len(magic)+2:], now, state)
}

// decode reads the gob stream.
func decode(stream []byte, now Header, state any) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, reason)
		}
	}()
	var h Header
	rest := bytes.NewReader(stream)
	dec := gob.NewDecoder(rest)
	if err := dec.Decode(&h); err != nil {
		return fmt.Errorf("%w: header: %w", ErrDamaged, err)
	}
	if err := h.check(now); err != nil {
		return err
	}
	if err := dec.Decode(state); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if rest.Len() > 0 {
		return fmt.Errorf("%w: trailing bytes", ErrDamaged)
	}
	return nil
}
