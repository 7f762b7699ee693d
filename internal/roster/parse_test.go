package roster

import (
	"errors"
	"strings"
	"testing"
)

func roster(members string) string {
	return `{"result":"success","data":{"sharedRoster":` + members + `}}`
}

func TestParseRefuses(t *testing.T) {
	for _, document := range []string{
		"", "null", "[]", "x", `{"result":"noauth"}`, `{"result":"error","data":{"msg":"x"}}`, `{"result":"success"}`,
		`{"result":"success","data":[]}`, `{"result":"success","data":{}}`, `{"result":"error","data":{"sharedRoster":{}}}`,
		roster("null"), roster("7"), roster(`"x"`), roster(`{"a":null}`), roster(`{"a":7}`), roster(`{"a":[7]}`), roster(`{"a":"x"}`),
		roster(`{"a":{"name":7}}`), roster(`{"a":{"groups":null}}`), roster(`{"a":{"groups":"G"}}`), roster(`{"a":{"groups":[7]}}`),
		roster(`{"a":{"groups":[null]}}`), roster(`{"a":{"groups":{"0":["x"]}}}`), roster("[null]"), roster(`{"a":{}`),
	} {
		if a, err := Parse([]byte(document), "d.example"); !errors.Is(err, ErrNoRoster) {
			t.Errorf("%s: %+v, %v", document, a, err)
		}
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ name, document, want string }{
		{"empty", roster("{}"), ""},
		{"empty list", roster("[]"), ""},
		{"list", roster(`[{"groups":["G"]},[]]`), "0@d.example:G 1@d.example:"},
		{"order", roster(`{"z":{},"a":{},"m":{}}`), "z@d.example: a@d.example: m@d.example:"},
		{"groups with holes", roster(`{"a":{"groups":{"3":"X","1":"Y"}}}`), "a@d.example:X,Y"},
		{"null name", roster(`{"a":{"name":null}}`), "a@d.example:"},
		{"letter case", roster(`{"Alice@D.Example":{}}`), "alice@d.example:"},
		{"alias", roster(`{"a@cloud.example":{},"b@other.example":{}}`), "a@d.example: b@other.example:"},
		{"no XMPP names", roster(`{"a b":{},"a/b":{},"a@b@c":{},"":{},"a@":{},"a\u0007":{},"ok":{}}`), "ok@d.example:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := Parse([]byte(c.document), "d.example", "Cloud.example")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, account := range a.Accounts {
				got = append(got, account.ID.String()+":"+strings.Join(account.Groups, ","))
			}
			if text := strings.Join(got, " "); text != c.want {
				t.Errorf("got %s, want %s", text, c.want)
			}
		})
	}
}

// TestParseEscaping: where the XMPP server has escapes, so have the accounts, and what cannot log in is left out.
func TestParseEscaping(t *testing.T) {
	a, err := ParseEscaping([]byte(roster(`{"Kevin K":{},"o'brien@d.example":{},"joe":{},"a@b@d.example":{}," x":{},"y ":{}}`)), "d.example")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, account := range a.Accounts {
		got = append(got, account.ID.String())
	}
	if text := strings.Join(got, " "); text != `kevin\20k@d.example o\27brien@d.example joe@d.example` {
		t.Errorf("got %s", text)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{roster("{}"), roster("[]"), roster(`{"a@b":{"name":"A","groups":["G","H\u200b"]}}`),
		roster(`[{"groups":{"1":"x"}}]`), `{"result":"noauth"}`, roster(`{"a":{"groups":[null]}}`)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		a, err := Parse(document, "d.example")
		if err != nil && len(a.Accounts) > 0 {
			t.Error("accounts beside an error")
		}
		for _, account := range a.Accounts {
			if id, ok := address(account.ID.String(), "d.example", nil, plain); !ok || id != account.ID {
				t.Errorf("address %q does not stay as it is: %v", account.ID, id)
			}
			for _, raw := range account.Groups {
				if name, ok := CleanGroup(raw); ok {
					if again, ok := CleanGroup(name); !ok || again != name {
						t.Errorf("the name %q does not stay clean: %q", name, again)
					}
				}
			}
		}
	})
}

// What is stored is read again; what is no record is none.
func FuzzRecords(f *testing.F) {
	f.Add([]byte{recordVersion, 0})
	f.Add((&User{Named: true, Name: "Al", Groups: []string{"A", "B"}, Hash: Hash{1}}).encode())
	f.Add((&Group{Members: []string{"a@b", ""}, Dirty: true}).encode())
	f.Fuzz(func(t *testing.T, value []byte) {
		if u, err := decodeUser(value); err == nil {
			if again, err := decodeUser(u.encode()); err != nil || again.Name != u.Name || len(again.Groups) != len(u.Groups) || again.Hash != u.Hash {
				t.Errorf("%+v became %+v, %v", u, again, err)
			}
		}
		if g, err := decodeGroup(value); err == nil {
			if again, err := decodeGroup(g.encode()); err != nil || again.Dirty != g.Dirty || len(again.Members) != len(g.Members) {
				t.Errorf("%+v became %+v, %v", g, again, err)
			}
		}
	})
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "äö", true}, {"Team *", "Team 1", true}, {"Team *", "team 1", false},
		{"?", "ä", true}, {"?", "", false}, {"??", "ä", false}, {"*ß", "Maß", true}, {"*a*b", "xaybzb", true}, {"*a*b", "xayc", false},
		{"a*", "ba", false}, {"**", "x", true}, {"[a]", "[a]", true}, {"[a]", "a", false}, {"*?*?", "x", false}, {"*?*?", "xy", true},
	} {
		if got := Match(c.pattern, c.text); got != c.want {
			t.Errorf("%q, %q: %v", c.pattern, c.text, got)
		}
	}
}

// What a filter leaves out is as if the backend had not given it, and another filter makes
// another answer of the same document.
func TestFilter(t *testing.T) {
	mem, fake := newMemory(), newFake()
	state, server := State{mem, "d.example"}, NewServer(fake)
	doc := document("u1:Team 1,Team 2,Other,Large;u2:Large;u3:Large")
	f := &Filter{Include: []string{"Team *", "Large"}, Exclude: []string{"* 2"}, MaxMembers: 2}
	if err := logsIn(server, state, f, "u1", doc); err != nil {
		t.Fatal(err)
	}
	if len(fake.groups) != 1 || len(fake.groups["Team 1@d.example"]) != 1 {
		t.Errorf("groups %v", fake.groups)
	}
	if err := logsIn(server, state, &Filter{Include: []string{"Other"}}, "u1", doc); err != nil {
		t.Fatal(err)
	}
	if len(fake.groups["Team 1@d.example"]) != 0 || len(fake.groups["Other@d.example"]) != 1 {
		t.Errorf("groups %v", fake.groups)
	}
}
