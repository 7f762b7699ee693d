package store

import (
	"encoding/binary"
	"testing"
)

func TestValueReader(t *testing.T) {
	value := AppendText([]byte{7}, "text")
	value = binary.AppendVarint(append(value, 0xff), -3)
	value = binary.AppendUvarint(value, 300)
	r := ReadValue(value, 7)
	if text, b, v, u := r.Text(), r.Byte(), r.Varint(), r.Uvarint(); text != "text" || b != 0xff || v != -3 || u != 300 || !r.Complete() {
		t.Errorf("%q, %x, %d, %d, complete %t", text, b, v, u, r.Complete())
	}
	if r.Byte() != 0 || r.Text() != "" || r.Varint() != 0 || r.OK() || r.More() {
		t.Error("a field is read past the end")
	}
	for n := range value {
		if r := ReadValue(value[:n], 7); r.Text() != "" && r.Byte() == 0xff && r.Varint() == -3 && r.Uvarint() == 300 || r.Complete() && n > 0 {
			t.Errorf("the first %d bytes are read as the whole", n)
		}
	}
	if ReadValue(value, 8).OK() || ReadValue(nil, 0).OK() {
		t.Error("a value of another version is read")
	}
}
