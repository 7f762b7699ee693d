package valkeystore

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"postern/internal/store"
	"postern/internal/store/valkeystore/valkeytest"
)

// TestJournal: what one process appends, others hear of and read once, in its order and with its age.
func TestJournal(t *testing.T) {
	valkeytest.Each(t, func(t *testing.T, start starter) {
		server := start(t)
		a, b := open(t, server.Address), open(t, server.Address)
		told := listen(b)
		if list, next, err := b.After(""); err != nil || len(list) != 0 || next != "" {
			t.Fatalf("an empty journal: %v, %q, %v", list, next, err)
		}
		if err := a.Append([][]byte{[]byte("1"), {0, 0xff}}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "b is told", func() bool { told.mu.Lock(); defer told.mu.Unlock(); return slices.Contains(told.keys, store.Refusals) })
		list, next, err := b.After("")
		if err != nil || len(list) != 2 || string(list[0].Data) != "1" || !bytes.Equal(list[1].Data, []byte{0, 0xff}) || list[0].Age > patience {
			t.Fatalf("%v, %v", list, err)
		}
		var many [][]byte
		for i := range 3 * journalPage {
			many = append(many, fmt.Append(nil, i))
		}
		time.Sleep(2 * time.Millisecond)
		if err := a.Append(many); err != nil {
			t.Fatal(err)
		}
		for read := 0; read < len(many); {
			if list, next, err = b.After(next); err != nil || len(list) == 0 {
				t.Fatalf("after %d: %v", read, err)
			}
			for _, e := range list {
				if string(e.Data) != fmt.Sprint(read) {
					t.Fatalf("%q, want %d", e.Data, read)
				}
				read++
			}
		}
		if list, _, err = b.After(next); err != nil || len(list) != 0 {
			t.Errorf("behind the end: %v, %v", list, err)
		}
		eventually(t, "an entry gets old", func() bool { list, _, err := b.After(""); return err == nil && list[0].Age > 0 })
	})
}
