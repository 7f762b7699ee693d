package xcauth

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// realDump makes a Berkeley DB file of records with db_load and dumps it again.
func realDump(t *testing.T, kind string, records map[string]string, flags ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "x.db")
	var in strings.Builder
	fmt.Fprintf(&in, "VERSION=3\nformat=bytevalue\ntype=%s\nHEADER=END\n", kind)
	for k, v := range records {
		fmt.Fprintf(&in, " %x\n %x\n", k, v)
	}
	in.WriteString("DATA=END\n")
	run(t, in.String(), "db_load", file)
	return run(t, "", "db_dump", append(flags, file)...)
}

func run(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: run scripts/setup.sh", name)
	}
	cmd := exec.Command(path, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, errs.String())
	}
	return out.String()
}

// TestRealDumps: every byte survives Debian's db_dump, in both of its forms and both types.
func TestRealDumps(t *testing.T) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	records := map[string]string{
		"example.org":     "secret\thttps://cloud.example.org/x\tcloud.example.org\t",
		"alice:ex.org":    "$2b$12$abc\t1500000000\t1500000001\t1500000002\t",
		"FNC:bö:ex.org":   "Bö \\ \"quoted\"",
		"RGC:Fa mily:x":   "a@x\tb@x",
		"every byte":      string(every),
		string(every[:9]): "odd key",
		"empty":           "",
		`back\slash\\`:    `\41 is no A, \\ is two`,
		"HEADER=END":      "DATA=END",
		"long":            strings.Repeat("x\xff", 50000),
	}
	for _, kind := range []string{"hash", "btree"} {
		for _, flags := range [][]string{nil, {"-p"}} {
			got := map[string]string{}
			if err := ReadDump(strings.NewReader(realDump(t, kind, records, flags...)), func(k, v string) { got[k] = v }); err != nil {
				t.Fatalf("%s %v: %v", kind, flags, err)
			}
			if !maps.Equal(got, records) {
				t.Errorf("%s %v: got %q", kind, flags, got)
			}
		}
	}
}

func TestBrokenDumps(t *testing.T) {
	const header = "VERSION=3\nformat=print\ntype=hash\nHEADER=END\n"
	for name, c := range map[string]struct{ text, want string }{
		"nothing":           {"", "the file is empty"},
		"a database itself": {"\x00\x00\x00\x00\x01\x00", "expected VERSION="},
		"no end":            {header + " a\n b\n", "the end is missing"},
		"no value":          {header + " a\nDATA=END\n", "a key has no value"},
		"no space":          {header + "a\n b\nDATA=END\n", "line 5: a record begins with a space"},
		"no format":         {"VERSION=3\nHEADER=END\n", "no format"},
		"other format":      {"VERSION=3\nformat=xml\nHEADER=END\n", "neither"},
		"other type":        {"VERSION=3\ntype=recno\nformat=print\nHEADER=END\n", "hash and btree"},
		"endless header":    {"VERSION=3\nformat=print\n", "HEADER=END is missing"},
		"record in header":  {"VERSION=3\n a\n", "name=value"},
		"bad hex":           {"VERSION=3\nformat=bytevalue\nHEADER=END\n 6\nDATA=END\n", "hexadecimal"},
		"bad escape":        {header + " \\4\nDATA=END\n", "end of a record"},
		"worse escape":      {header + " \\zz\nDATA=END\n", "two hexadecimal digits"},
		"second is broken":  {header + "DATA=END\nx\n", "line 6"},
	} {
		err := ReadDump(strings.NewReader(c.text), func(string, string) {})
		if !errors.Is(err, ErrDump) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := ReadDump(strings.NewReader(header+" "+strings.Repeat("x", maxDumpLine+1)), func(string, string) {}); err == nil {
		t.Error("a line without end was read")
	}
}

func TestSeveralDatabasesInOneDump(t *testing.T) {
	one := "VERSION=3\nformat=print\ndatabase=a\ntype=btree\ndb_pagesize=4096\nHEADER=END\n k\n v\nDATA=END\n"
	two := "VERSION=3\nformat=bytevalue\ntype=hash\nHEADER=END\n 6b32\n 7632\nDATA=END\n"
	got := map[string]string{}
	if err := ReadDump(strings.NewReader(one+two), func(k, v string) { got[k] = v }); err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"k": "v", "k2": "v2"}; !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
}
