package xcauth

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

const someHash = "$2b$04$4FsGWsFT3KZ1vUD5MCgiwuvbuNuR02DA7buna.Abfaa9s6ZcmWmsC"

func texts(values ...string) []Text {
	row := make([]Text, len(values))
	for i, v := range values {
		row[i] = Text{v, v != "NULL"}
		if v == "NULL" {
			row[i].Value = ""
		}
	}
	return row
}

func moment(text string) time.Time {
	t, _ := ParseTime(text)
	return t
}

func TestDomainRows(t *testing.T) {
	for _, c := range []struct {
		row  []string
		want Domain
		why  string
	}{
		{[]string{"Example.ORG", "s", "https://c/x", "cloud.example", "me@x", "2020-01-02 03:04:05", "2021-01-02 03:04:05"},
			Domain{Name: "example.org", URL: "https://c/x", AuthDomain: "cloud.example", Contact: "me@x",
				First: moment("2020-01-02 03:04:05"), Latest: moment("2021-01-02 03:04:05")}, ""},
		{[]string{"a.example", "s", "http://c/x", "a.example", "NULL", "NULL", "rubbish"}, Domain{Name: "a.example", URL: "http://c/x"}, ""},
		{[]string{"a.example", "s", "http://c/x", "", "", "", ""}, Domain{Name: "a.example", URL: "http://c/x"}, ""},
		{[]string{"", "s", "http://c/x", "", "", "", ""}, Domain{}, "empty domain"},
		{[]string{"*", "s", "http://c/x", "", "", "", ""}, Domain{}, "no domain is called so"},
		{[]string{"a b", "s", "http://c/x", "", "", "", ""}, Domain{}, "in domain"},
		{[]string{"a.example", "NULL", "http://c/x", "", "", "", ""}, Domain{}, "no secret"},
		{[]string{"a.example", "\xff", "http://c/x", "", "", "", ""}, Domain{}, "no line of text"},
		{[]string{"a.example", "s\nt", "http://c/x", "", "", "", ""}, Domain{}, "no line of text"},
		{[]string{"a.example", "s", "http://c/\xff", "", "", "", ""}, Domain{}, "URL is not"},
		{[]string{"a.example", "s", "NULL", "", "", "", ""}, Domain{}, "URL is not"},
		{[]string{"a.example", "s", "ftp://c/x", "", "", "", ""}, Domain{}, "URL is not"},
		{[]string{"a.example", "s", "https://u:cAnArY@c/x", "", "", "", ""}, Domain{}, "user name or password"},
		{[]string{"a.example", "s", "https://c/x#f", "", "", "", ""}, Domain{}, "fragment"},
		{[]string{"a.example", "s", "https://c/x", "b c", "", "", ""}, Domain{}, "authdomain"},
	} {
		var d Data
		d.AddRow(TableDomains, texts(c.row...))
		if c.why != "" {
			if len(d.Domains) != 0 || len(d.Skipped) != 1 || !strings.Contains(d.Skipped[0].Why, c.why) || strings.Contains(d.Skipped[0].Why, "cAnArY") {
				t.Errorf("%v: %+v", c.row, d)
			}
			continue
		}
		if len(d.Domains) != 1 || d.Domains[0].Secret.Reveal() != "s" {
			t.Errorf("%v: %+v", c.row, d)
			continue
		}
		c.want.Secret = d.Domains[0].Secret
		if d.Domains[0] != c.want {
			t.Errorf("%v: %+v", c.row, d.Domains[0])
		}
	}
	var d Data
	d.AddRow(TableDomains, texts("a.example", "s", "https://c/x", "", "", "", ""))
	d.AddRow(TableDomains, texts("A.EXAMPLE", "t", "https://c/y", "", "", "", ""))
	if len(d.Domains) != 1 || d.Domains[0].URL != "https://c/x" || len(d.Skipped) != 1 {
		t.Errorf("two spellings: %+v", d)
	}
}

func TestAccountRows(t *testing.T) {
	const early, middle, late = "2026-01-01 00:00:00", "2026-01-02 00:00:00", "2026-01-03 00:00:00"
	for _, c := range []struct {
		row               []string
		first, last, used string
		why               string
	}{
		{[]string{"joe@Dom.example", someHash, early, middle, late}, early, middle, late, ""},
		{[]string{"joe@dom.example", someHash, "NULL", middle, "NULL"}, middle, middle, middle, ""},
		{[]string{"joe@dom.example", someHash, late, middle, early}, middle, middle, middle, ""},
		{[]string{"joe@dom.example", someHash, "rubbish", middle, "rubbish"}, middle, middle, middle, ""},
		{[]string{"joe@dom.example", someHash, early, "rubbish", late}, "", "", "", "last verified"},
		{[]string{"joe@dom.example", someHash, early, "NULL", late}, "", "", "", "last verified"},
		{[]string{"joe@dom.example", "NULL", early, middle, late}, "", "", "", "bcrypt"},
		{[]string{"joe@dom.example", "$2b$31" + someHash[6:], early, middle, late}, "", "", "", "bcrypt"},
		{[]string{"joe@dom.example", "sha256:" + someHash, early, middle, late}, "", "", "", "bcrypt"},
		{[]string{"joe", someHash, early, middle, late}, "", "", "", "user@domain"},
		{[]string{"a@b@dom.example", someHash, early, middle, late}, "", "", "", "in user"},
		{[]string{"\xff@dom.example", someHash, early, middle, late}, "", "", "", "UTF-8"},
	} {
		var d Data
		d.AddRow(TableAccounts, texts(c.row...))
		if c.why != "" {
			if len(d.Accounts) != 0 || len(d.Skipped) != 1 || !strings.Contains(d.Skipped[0].Why, c.why) {
				t.Errorf("%v: %+v", c.row, d)
			}
			continue
		}
		if len(d.Accounts) != 1 {
			t.Errorf("%v: %+v", c.row, d)
			continue
		}
		a := d.Accounts[0]
		if a.ID.String() != "joe@dom.example" || a.First != moment(c.first) || a.Last != moment(c.last) || a.Used != moment(c.used) {
			t.Errorf("%v: %+v", c.row, a)
		}
	}
}

func TestRosterRows(t *testing.T) {
	var d Data
	d.AddRow(TableRosterUsers, texts("joe@dom.example", "Joe Dö", "Work\tFamily\t\tWork"))
	d.AddRow(TableRosterUsers, texts("ann@dom.example", "NULL", "NULL"))
	d.AddRow(TableRosterUsers, texts("nobody", "N", ""))
	d.AddRow(TableGroups, texts("Work@Dom.example", "joe@dom.example\tann@DOM.example\tjoe@dom.example\trubbish"))
	d.AddRow(TableGroups, texts("@dom.example", "x@y"))
	d.AddRow(TableGroups, texts("Work", "x@y"))
	joe := d.RosterUsers["joe@dom.example"]
	if joe == nil || !joe.Named || joe.Name != "Joe Dö" || !reflect.DeepEqual(joe.Groups, []string{"Family", "Work"}) {
		t.Errorf("%+v", joe)
	}
	if ann := d.RosterUsers["ann@dom.example"]; ann == nil || ann.Named || ann.Groups != nil {
		t.Errorf("%+v", ann)
	}
	want := []Group{{"Work", "dom.example", []string{"ann@dom.example", "joe@dom.example"}}}
	if !reflect.DeepEqual(d.Groups, want) {
		t.Errorf("%+v", d.Groups)
	}
	if len(d.Skipped) != 4 {
		t.Errorf("%+v", d.Skipped)
	}
}

// TestLegacyRecords: the records of all three Berkeley DB files, told apart by themselves.
func TestLegacyRecords(t *testing.T) {
	var d Data
	for _, r := range [][2]string{
		{"dom.example", "s\thttps://c/x\tauth.example\textra"},
		{"short.example", "s\thttps://c/y"},
		{"joe:dom.example", someHash + "\t1500000000\t1500000100\t1500000200\t"},
		{"FNC:joe:dom.example", "Joe"},
		{"LIG:joe:dom.example", "Work\tFamily"},
		{"RGC:Work: x:dom.example", "joe@dom.example\tann:dom.example"},
		{"RH:joe:dom.example", "0123"},
		{"CACHE:joe:dom.example", "0123"},
		{"", ""},
		{"what", "ever"},
		{"FNC:", "N"},
		{"FNC:broken", "N"},
	} {
		d.AddRecord(r[0], r[1])
	}
	if len(d.Domains) != 2 || d.Domains[0].AuthDomain != "auth.example" || d.Domains[1].Secret.Reveal() != "s" {
		t.Errorf("%+v", d.Domains)
	}
	if len(d.Accounts) != 1 || d.Accounts[0].ID.String() != "joe@dom.example" || d.Accounts[0].First.Unix() != 1500000000 ||
		d.Accounts[0].Last.Unix() != 1500000100 || d.Accounts[0].Used.Unix() != 1500000200 {
		t.Errorf("%+v", d.Accounts)
	}
	joe := d.RosterUsers["joe@dom.example"]
	if len(d.RosterUsers) != 1 || joe.Name != "Joe" || !reflect.DeepEqual(joe.Groups, []string{"Family", "Work"}) {
		t.Errorf("%+v", d.RosterUsers)
	}
	if want := []Group{{"Work: x", "dom.example", []string{"ann@dom.example", "joe@dom.example"}}}; !reflect.DeepEqual(d.Groups, want) {
		t.Errorf("%+v", d.Groups)
	}
	if len(d.Skipped) != 3 {
		t.Errorf("%+v", d.Skipped)
	}
}
