package valkeystore

import (
	"errors"

	"postern/internal/store"
)

// layout is the first byte of every value.
const layout = 1

// headSize is the length of what stands before the content of a value: layout, epoch and version.
const headSize = 1 + len(epochID{}) + len(store.Version{})

// epochID stands for a time in which the server has lost nothing.
type epochID [8]byte

// errLayout means that a newer version of postern has written a value.
var errLayout = errors.New("a newer version of postern has written this, or something else has")

// encode returns the value of a content.
func encode(epoch epochID, v store.Version, content []byte) []byte {
	b := make([]byte, 0, headSize+len(content))
	b = append(b, layout)
	b = append(b, epoch[:]...)
	b = append(b, v[:]...)
	return append(b, content...)
}

// decode is the inverse of encode. The content shares the memory of the value.
func decode(value []byte) (epoch epochID, v store.Version, content []byte, err error) {
	if len(value) < headSize || value[0] != layout {
		return epoch, v, nil, errLayout
	}
	copy(epoch[:], value[1:])
	copy(v[:], value[1+len(epoch):])
	return epoch, v, value[headSize:], nil
}
