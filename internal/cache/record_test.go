package cache

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"postern/internal/auth"
)

const (
	hashA = "$2b$04$4FsGWsFT3KZ1vUD5MCgiwuvbuNuR02DA7buna.Abfaa9s6ZcmWmsC"
	hashB = "sha256:$2a$04$TJ7KQwbQ1xyNXrzuE80v4uEoWJm2xtNyrS0gTdkPW8knhQJTGR0se"
)

func authority(n byte) auth.AuthorityID { return auth.AuthorityID{n} }

func TestRecordRoundTrip(t *testing.T) {
	cases := map[string]User{
		"one verifier": {Verifiers: []Verifier{{Hash: hashA, First: 1000, Verified: 2000, Used: 3000}}},
		"two, one stale, and existence": {
			Verifiers: []Verifier{
				{Name: Name{"Joe", true}, By: authority(1), Hash: hashA, First: 5, Verified: 4, Used: 3, Stale: true},
				{Name: Name{Account: "joe"}, By: authority(2), Hash: hashB, Suspect: true, First: 1_800_000_000_000, Verified: 1_800_000_000_001, Used: 1_900_000_000_000},
			},
			Exists: Existence{Name: Name{"joe", true}, By: authority(1), Known: true, Yes: true, At: 77},
		},
		"groups": {
			Verifiers: []Verifier{{Hash: hashA, First: 1, Verified: 2, Used: 3, Groups: auth.GroupsOf([]string{"mail", "staff"}, []string{"mail"})}},
			Exists:    Existence{Known: true, Yes: true, At: 7, Groups: auth.GroupsOf([]string{"mail"}, nil)},
		},
		"existence only": {Exists: Existence{Known: true, Yes: true, At: -1}},
		"an alias":       {Alias: Alias{"joe.smith", authority(3)}},
	}
	for name, u := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := Decode(u.Encode())
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(*got, u) {
				t.Errorf("got %+v, want %+v", *got, u)
			}
		})
	}
}

// TestRecordOfBefore: a record of postern 0.1.0 is read for Upgrade only.
func TestRecordOfBefore(t *testing.T) {
	record := append([]byte{1, 1, 0x9a, 0x01, 2, 1, byte(len(hashA))}, hashA...)
	record = append(record, 10, 1, 3)
	record = append(append(record, 0, byte(len(hashB))), hashB...)
	record = append(record, 2, 4, 6)
	want := User{
		Verifiers: []Verifier{{Hash: hashA, Stale: true, First: 5, Verified: 4, Used: 3}, {Hash: hashB, First: 1, Verified: 3, Used: 4}},
		Exists:    Existence{Known: true, Yes: true, At: 77},
	}
	got, err := decode(record, formerVersion)
	if err != nil || !reflect.DeepEqual(*got, want) {
		t.Fatalf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := Decode(record); !errors.Is(err, ErrRecord) {
		t.Errorf("it is read as one of today: %v", err)
	}
}

// TestRecordWithoutGroups: a record of version 2 is read, and says nothing of groups.
func TestRecordWithoutGroups(t *testing.T) {
	record := append([]byte{2, 1, 0x9a, 0x01}, make([]byte, 16)...)
	record = append(record, 3, 'j', 'o', 'e', 1, 0, byte(len(hashA)))
	record = append(append(record, hashA...), 2, 4, 6)
	record = append(append(record, make([]byte, 16)...), 3, 'j', 'o', 'e')
	want := User{
		Verifiers: []Verifier{{Name: Name{Account: "joe"}, Hash: hashA, First: 1, Verified: 3, Used: 4}},
		Exists:    Existence{Name: Name{Account: "joe"}, Known: true, Yes: true, At: 77},
	}
	if got, err := Decode(record); err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestRecordHoldsNoKeys(t *testing.T) {
	u := User{
		Verifiers: []Verifier{
			{Hash: hashA, Key: Key{1, 2, 3, 4, 5, 6, 7, 8}, First: 1, Verified: 1, Used: 1},
			{Key: Key{9, 9, 9, 9, 9, 9, 9, 9}, First: 1, Verified: 1, Used: 1}, // not hashed yet
		},
		Refusals: []Refusal{{Key: Key{7, 7, 7, 7, 7, 7, 7, 7}, At: 1}},
		Exists:   Existence{Known: true, At: 5}, // "no" is not for the disk
	}
	record := u.Encode()
	for _, key := range [][]byte{{1, 2, 3, 4, 5, 6, 7, 8}, bytes.Repeat([]byte{9}, 8), bytes.Repeat([]byte{7}, 8)} {
		if bytes.Contains(record, key) {
			t.Errorf("record holds the key %x", key)
		}
	}
	got, err := Decode(record)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Verifiers) != 1 || got.Exists.Known {
		t.Errorf("record gave back %+v", got)
	}
	if (&User{Refusals: u.Refusals, Exists: u.Exists}).Encode() != nil {
		t.Error("a user without verifiers or existence has a record")
	}
}

func TestRecordRefused(t *testing.T) {
	good := (&User{Verifiers: []Verifier{{Hash: hashA, First: 1000, Verified: 2000, Used: 3000}}}).Encode()
	cases := map[string][]byte{
		"empty":             {},
		"unknown version":   append([]byte{recordVersion + 1}, good[1:]...),
		"trailing byte":     append(bytes.Clone(good), 0),
		"bad hash":          bytes.Replace(good, []byte("$2b$"), []byte("$2x$"), 1),
		"too many":          {recordVersion, 0, 0xff, 0x01},
		"hash over the end": {recordVersion, 0, 1, 0, 60, 'x'},
	}
	for n := 1; n < len(good); n++ {
		cases["cut at "+string(rune('a'+n%26))+string(rune('a'+n/26))] = good[:n]
	}
	for name, record := range cases {
		if _, err := Decode(record); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: err = %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add((&User{Verifiers: []Verifier{{Hash: hashA, First: 1, Verified: 2, Used: 3}}}).Encode())
	f.Add((&User{Verifiers: []Verifier{{Hash: hashB, Stale: true, Suspect: true}}, Exists: Existence{Known: true, Yes: true, At: 9}}).Encode())
	f.Add([]byte{recordVersion, 1, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, record []byte) {
		u, err := Decode(record)
		if err != nil {
			return
		}
		again, err := Decode(u.Encode())
		if u.Encode() == nil {
			return // a record of nothing
		}
		if err != nil || !reflect.DeepEqual(u, again) {
			t.Fatalf("%+v was read back as %+v, %v", u, again, err)
		}
	})
}
