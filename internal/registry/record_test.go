package registry

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/store"
)

func TestCheck(t *testing.T) {
	r := example()
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*Record)
		want   string // "" where the record is good
	}{
		{"no domain", func(r *Record) { r.Domain = "" }, "is not a domain"},
		{"everybody", func(r *Record) { r.Domain = "*" }, "is not a domain"},
		{"not folded", func(r *Record) { r.Domain = "Example.ORG" }, `write "example.org"`},
		{"unknown backend", func(r *Record) { r.Kind = "ldap" }, "write jsxc, json, nextcloud or users"},
		{"no url", func(r *Record) { r.URL = "" }, "no url"},
		{"relative url", func(r *Record) { r.URL = "/" + canary }, "not an absolute"},
		{"ftp", func(r *Record) { r.URL = "ftp://cloud.example.org/" + canary }, "not an absolute"},
		{"login in url", func(r *Record) { r.URL = "https://joe:" + canary + "@cloud.example.org/" }, "remove what stands before the @"},
		{"fragment", func(r *Record) { r.URL = "https://cloud.example.org/#" + canary }, "remove the #"},
		{"long url", func(r *Record) { r.URL = "https://cloud.example.org/" + strings.Repeat("x", maxURL) }, "too long"},
		{"no secret", func(r *Record) { r.Secret = auth.Secret{} }, "needs the API secret"},
		{"binary secret", func(r *Record) { r.Secret = auth.NewSecret(canary + "\xff") }, "not valid UTF-8"},
		{"json", func(r *Record) { r.Kind, r.Secret, r.URL = KindJSON, auth.Secret{}, "http://127.0.0.1:1/auth" }, ""},
		{"json with query", func(r *Record) { r.Kind, r.Secret = KindJSON, auth.Secret{} }, "remove the ?"},
		{"json with secret", func(r *Record) { r.Kind, r.URL = KindJSON, "http://127.0.0.1:1/auth" }, "has no secret"},
		{"users", func(r *Record) { r.Kind, r.Secret, r.URL = KindUsers, auth.Secret{}, "" }, ""},
		{"users with url", func(r *Record) { r.Kind, r.Secret = KindUsers, auth.Secret{} }, "has no url"},
		{"nextcloud", func(r *Record) { r.Kind, r.Secret, r.URL = KindNextcloud, auth.Secret{}, "https://cloud.example.org" }, ""},
		{"auth domain", func(r *Record) { r.AuthDomain = "a b" }, "authentication domain"},
		{"contact of two lines", func(r *Record) { r.Contact = "a\nb" }, "one line"},
		{"long contact", func(r *Record) { r.Contact = strings.Repeat("x", maxContact+1) }, "one line"},
	} {
		r := example()
		c.change(&r)
		err := r.Check()
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), canary) {
			t.Errorf("%s: the complaint shows a secret: %v", c.name, err)
		}
	}
}

func TestMerge(t *testing.T) {
	later := noon.Add(90 * time.Minute)
	first := Merge(nil, example(), noon.Add(time.Millisecond))
	if first.First != noon || first.Latest != noon {
		t.Errorf("new: %v %v", first.First, first.Latest)
	}
	imported := example()
	imported.First, imported.Latest = noon.Add(-48*time.Hour), noon.Add(-24*time.Hour)
	if r := Merge(nil, imported, noon); r.First != imported.First || r.Latest != imported.Latest {
		t.Errorf("imported: %v %v", r.First, r.Latest)
	}
	next := example()
	next.Secret, next.Contact = auth.Secret{}, "other"
	r := Merge(&first, next, later)
	if r.First != noon || r.Latest != later || r.Contact != "other" || r.Secret.Reveal() != canary {
		t.Errorf("again: %+v", r)
	}
	next.Kind = KindJSON
	if r := Merge(&first, next, later); !r.Secret.Empty() {
		t.Error("a secret went to another kind of backend")
	}
}

func TestChange(t *testing.T) {
	text := func(s string) *string { return &s }
	secret := auth.NewSecret("another")
	r := Change{URL: text("https://b.example/"), Contact: text(""), Secret: &secret}.Apply(example())
	if r.URL != "https://b.example/" || r.Contact != "" || r.Secret.Reveal() != "another" || r.AuthDomain != "cloud.example.org" {
		t.Errorf("%+v", r)
	}
	if r := (Change{Kind: text(KindUsers)}).Apply(example()); !r.Secret.Empty() || r.URL != "" || r.Check() != nil {
		t.Errorf("to users: %+v, %v", r, r.Check())
	}
	if r := (Change{}).Apply(example()); !reflect.DeepEqual(r, example()) {
		t.Errorf("no change: %+v", r)
	}
}

func TestEncoding(t *testing.T) {
	r := Merge(nil, example(), noon)
	b := r.Encode()
	got, err := Decode(r.Domain, b)
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Fatalf("got %+v, %v", got, err)
	}
	for n := range b {
		if _, err := Decode(r.Domain, b[:n]); !errors.Is(err, ErrRecord) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	if _, err := Decode(r.Domain, append(b, 0)); !errors.Is(err, ErrRecord) {
		t.Errorf("with something behind it: %v", err)
	}
	if _, err := Decode(r.Domain, append([]byte{9}, b[1:]...)); !errors.Is(err, ErrRecord) || !strings.Contains(err.Error(), "version") {
		t.Errorf("version 9: %v", err)
	}
}

func TestRegistry(t *testing.T) {
	r, s := newRegistry(t)
	if _, err := r.Get("example.org"); !errors.Is(err, ErrUnknown) {
		t.Errorf("nothing there: %v", err)
	}
	if err := r.Delete("example.org"); !errors.Is(err, ErrUnknown) {
		t.Errorf("delete: %v", err)
	}
	if _, err := r.Add(noon, example()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Add(noon, example()); err == nil || !strings.Contains(err.Error(), "domain set") {
		t.Errorf("added twice: %v", err)
	}
	batch := make([]Record, 25)
	for i := range batch {
		batch[i] = example()
		batch[i].Domain = fmt.Sprintf("d%02d.example", i)
	}
	bad := example()
	bad.Domain, bad.Secret = "z.example", auth.Secret{}
	if _, err := r.Put(noon, append(batch, bad)...); !errors.Is(err, ErrInvalid) {
		t.Errorf("a bad record among good ones: %v", err)
	}
	if list, _ := r.List("", 100); len(list) != 1 {
		t.Errorf("%d records after a put that failed", len(list))
	}
	if _, err := r.Put(noon, batch...); err != nil {
		t.Fatal(err)
	}
	var names []string
	for after := ""; ; {
		page, err := r.List(after, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, p := range page {
			names = append(names, p.Domain)
		}
		after = page[len(page)-1].Domain
	}
	n := 0
	if err := r.Names(func(name string) {
		if n < len(names) && names[n] != name {
			t.Errorf("name %d is %s, listed as %s", n, name, names[n])
		}
		n++
	}); err != nil || n != 26 || len(names) != 26 {
		t.Errorf("%d names, %d listed, %v", n, len(names), err)
	}
	if err := s.Apply([]store.Op{{Key: key("example.org"), Value: []byte{99}}}, false); err != nil {
		t.Fatal(err)
	}
	if list, err := r.List("d24.example", 10); err != nil || len(list) != 1 || list[0].Kind != "" {
		t.Errorf("unreadable: %v, %v", list, err)
	}
	if err := r.Delete("example.org"); err != nil {
		t.Errorf("delete unreadable: %v", err)
	}
	_ = s.Close()
	if _, err := r.Put(noon, example()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("closed store: %v", err)
	}
}
