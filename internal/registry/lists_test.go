package registry

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"postern/internal/auth"
)

type form struct {
	name  string
	write func(io.Writer, []Record, bool) error
	read  func(io.Reader) ([]Record, error)
}

var forms = []form{{"tsv", WriteTSV, ReadTSV}, {"json", WriteJSON, ReadJSON}}

func TestLists(t *testing.T) {
	records := []Record{
		Merge(nil, example(), noon),
		Merge(nil, Record{Domain: "b.example", Kind: KindUsers, Contact: `back\slash`}, noon),
		Merge(nil, Record{Domain: "über.example", Kind: KindJSON, URL: "http://127.0.0.1:8000/a&b"}, noon),
	}
	for _, f := range forms {
		var with, without bytes.Buffer
		if err := errors.Join(f.write(&with, records, true), f.write(&without, records, false)); err != nil {
			t.Fatal(err)
		}
		got, err := Read(&with)
		if err != nil || !reflect.DeepEqual(got, records) {
			t.Errorf("%s: got %+v, %v", f.name, got, err)
		}
		if strings.Contains(without.String(), canary) {
			t.Errorf("%s: the list without secrets holds one", f.name)
		}
		bare, err := f.read(&without)
		if err != nil || len(bare) != 3 || !bare[0].Secret.Empty() || bare[1].Contact != `back\slash` {
			t.Errorf("%s without secrets: got %+v, %v", f.name, bare, err)
		}
	}
}

// TestXcauthList reads a list as it comes out of xcauth's table.
func TestXcauthList(t *testing.T) {
	const list = "xmppdomain\tauthsecret\tauthurl\tauthdomain\tregcontact\tregfirst\treglatest\r\n" +
		"EXAMPLE.org\t" + canary + "\thttps://cloud.example.org/a\tcloud.example.org\tme\t2017-10-12 08:09:10\t2018-01-02 03:04:05.678\r\n\r\n"
	got, err := Read(strings.NewReader(list))
	if err != nil || len(got) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	r := got[0]
	if r.Domain != "example.org" || r.Kind != KindJSXC || r.Secret.Reveal() != canary ||
		formatTime(r.First) != "2017-10-12T08:09:10Z" || formatTime(r.Latest) != "2018-01-02T03:04:05Z" || r.Check() != nil {
		t.Errorf("%+v, %v", r, r.Check())
	}
}

func TestListErrors(t *testing.T) {
	const head = "domain\tsecret\turl\n"
	line := func(domain string) string { return domain + "\t" + canary + "\thttps://c.example/\n" }
	for _, c := range []struct{ name, list, want string }{
		{"empty", " \n", "the list is empty"},
		{"no header", line("a.example"), "line 1: "},
		{"header without domain", "secret\turl\n", "does not name the column domain"},
		{"column twice", "domain\txmppdomain\n", "each once"},
		{"too few fields", head + "a.example\t" + canary + "\n", "line 2: invalid domain record: 2 fields where the first line names 3"},
		{"backslash", head + "a.example\t" + canary + "\\x\thttps://c.example/\n", "write it twice"},
		{"backslash at the end", head + "a.example\t" + canary + "\thttps://c.example/\\\n", "write it twice"},
		{"not utf-8", head + line("a.example\xff"), "line 2: invalid domain record: not UTF-8"},
		{"long line", head + strings.Repeat("x", maxLine+1), "is this the right file"},
		{"twice", head + line("a.example") + line("A.example"), "line 3: invalid domain record: a.example is in line 2 already"},
		{"two faults", head + line("") + line("b.example") + line("*"), "line 4: "},
		{"bad time", "domain\tsecret\turl\tfirst\na.example\t" + canary + "\thttps://c.example/\tyesterday\n", "a time cannot be read"},
		{"json object", "[]{", ""},
		{"json without end", `[{"domain":"a.example","backend":"users"}`, "does not end"},
		{"json cut", `[{"domain":"a.example","secret":"` + canary, "record 1: "},
		{"json number", `[{"domain":"a.example","secret":12345}]`, `"secret" must be text`},
		{"json unknown", `[{"domian":"a.example"}]`, `unknown field "domian"`},
		{"json twice", `[{"domain":"a.example","backend":"users"},{"domain":"a.example","backend":"users"}]`, "record 2: "},
		{"json scalar", `["` + canary + `"]`, "within an object"},
	} {
		got, err := Read(strings.NewReader(c.list))
		if c.want == "" {
			if err != nil || len(got) != 0 {
				t.Errorf("%s: %v, %v", c.name, got, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
			continue
		}
		if strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "12345") {
			t.Errorf("%s: the complaint shows a secret: %v", c.name, err)
		}
		if got != nil {
			t.Errorf("%s: records in spite of %v", c.name, err)
		}
	}
}

func seeds(f *testing.F, write func(io.Writer, []Record, bool) error) {
	var list bytes.Buffer
	records := []Record{
		Merge(nil, example(), noon), Merge(nil, Record{Domain: "b.example", Kind: KindUsers, Contact: `\`}, noon),
		Merge(nil, Record{Domain: "c.example", Kind: KindJSON, URL: "http://h/", Secret: auth.Secret{}}, noon),
	}
	if err := write(&list, records, true); err != nil {
		f.Fatal(err)
	}
	f.Add(list.Bytes())
}

// FuzzTSV: whatever is read can be written and read again, and is the same.
func FuzzTSV(f *testing.F) {
	seeds(f, WriteTSV)
	f.Add([]byte("xmppdomain\tauthsecret\tauthurl\nA.example\ts\\\\\\t\thttps://c.example/\r\n\n"))
	f.Add([]byte("domain\n*\n\xff\nb.example\tx"))
	f.Fuzz(func(t *testing.T, list []byte) { again(t, forms[0], list) })
}

// FuzzJSON is FuzzTSV for JSON.
func FuzzJSON(f *testing.F) {
	seeds(f, WriteJSON)
	f.Add([]byte(`[{"domain":"A.example","backend":"users","contact":"\u00e9"}]`))
	f.Add([]byte(`[{"domain":1},[],{"secret":"x`))
	f.Fuzz(func(t *testing.T, list []byte) { again(t, forms[1], list) })
}

func again(t *testing.T, f form, list []byte) {
	records, err := f.read(bytes.NewReader(list))
	if err != nil {
		if records != nil {
			t.Fatalf("records in spite of %v", err)
		}
		return
	}
	var written bytes.Buffer
	if err := f.write(&written, records, true); err != nil {
		t.Fatal(err)
	}
	back, err := f.read(&written)
	if err != nil || len(back) != len(records) {
		t.Fatalf("%d records became %d: %v", len(records), len(back), err)
	}
	for i := range back {
		if !reflect.DeepEqual(back[i], records[i]) {
			t.Fatalf("%+v became %+v", records[i], back[i])
		}
	}
}

// FuzzDecode: no stored bytes panic, and what is read is written in the same way.
func FuzzDecode(f *testing.F) {
	r := Merge(nil, example(), noon)
	f.Add(r.Encode())
	f.Add([]byte{recordVersion, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode("example.org", b)
		if err != nil {
			return
		}
		if back, err := Decode("example.org", r.Encode()); err != nil || !reflect.DeepEqual(back, r) {
			t.Fatalf("%+v became %+v, %v", r, back, err)
		}
	})
}
