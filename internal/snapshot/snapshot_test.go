package snapshot

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
)

type content struct {
	Names []string
	Sub   map[string][16]byte
}

var (
	here  = Header{Boot: "boot", Serial: Serial{1}}
	state = content{Names: []string{"joe", "bob"}, Sub: map[string][16]byte{"a": {1}}}
)

func encoded(t testing.TB, h Header) []byte {
	t.Helper()
	data, err := Encode(h, state)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// resealed is data with a change and the checksum of the result.
func resealed(data []byte, change func([]byte)) []byte {
	body := append([]byte(nil), data[:len(data)-sha256.Size]...)
	change(body)
	sum := sha256.Sum256(body)
	return append(body, sum[:]...)
}

func TestDecode(t *testing.T) {
	var got content
	if err := Decode(encoded(t, here), here, &got); err != nil || fmt.Sprint(got) != fmt.Sprint(state) {
		t.Errorf("%v, %v", got, err)
	}
}

// A snapshot that does not fit is refused, with a reason.
func TestRefused(t *testing.T) {
	good := encoded(t, here)
	flipped := append([]byte(nil), good...)
	flipped[len(magic)+10] ^= 1
	for name, c := range map[string]struct {
		data []byte
		now  Header
		want error
	}{
		"empty":           {nil, here, ErrDamaged},
		"foreign":         {[]byte("#!/bin/sh\n" + string(good)), here, ErrDamaged},
		"a bit flipped":   {flipped, here, ErrDamaged},
		"trailing bytes":  {append(append([]byte(nil), good...), 0), here, ErrDamaged},
		"other format":    {resealed(good, func(b []byte) { b[len(magic)+1]++ }), here, ErrFormat},
		"other boot":      {good, Header{Boot: "another", Serial: here.Serial}, ErrBoot},
		"stale":           {good, Header{Boot: here.Boot, Serial: Serial{2}}, ErrSerial},
		"no boot":         {encoded(t, Header{Serial: Serial{1}}), Header{Serial: Serial{1}}, ErrBoot},
		"no serial":       {encoded(t, Header{Boot: "boot"}), Header{Boot: "boot"}, ErrSerial},
		"another's state": {resealed(good, func(b []byte) { b[len(b)-1] ^= 0x7f }), here, nil},
	} {
		var got content
		if err := Decode(c.data, c.now, &got); c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for n := range good {
		var got content
		if err := Decode(good[:n], here, &got); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFormat) {
			t.Fatalf("truncated to %d bytes: %v", n, err)
		}
	}
}

// Whatever a snapshot holds, it is read in whole or refused, also with a right checksum.
func FuzzDecode(f *testing.F) {
	good := encoded(f, here)
	stream := good[len(magic)+2 : len(good)-sha256.Size]
	f.Add(stream)
	f.Add(stream[:len(stream)/2])
	f.Add(append(append([]byte(nil), stream...), stream...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, stream []byte) {
		var got content
		data := append([]byte(magic), 0, Format)
		data = append(data, stream...)
		sum := sha256.Sum256(data)
		err := Decode(append(data, sum[:]...), here, &got)
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrBoot) && !errors.Is(err, ErrSerial) {
			t.Errorf("%v", err)
		}
	})
}
