package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestPieces: a file means the same in pieces, whatever a line is in that looks like the beginning of a domain.
func TestPieces(t *testing.T) {
	const (
		backend = "backend \"users\" \"u\" {}\n"
		a       = "domain \"a\" { backends = [backend.users.u] }\n"
		b       = "domain \"b\" {\n  backends = [backend.users.u]\n  cache {\n    query_ttl = \"1m\"\n  }\n}\n"
	)
	for name, c := range map[string]struct {
		text   string
		pieces bool // each begins with a domain and can be parsed by itself
	}{
		"backends first":             {backend + a + b, true},
		"backends last":              {a + b + backend, true},
		"backends in between":        {a + backend + b + "data_dir = \"/d\"\n" + strings.ReplaceAll(a, "a\"", "c\""), true},
		"comments":                   {backend + "# one\n" + a + "// domain two\n" + b + "/* three */\n", true},
		"no line end":                {backend + a + strings.TrimSpace(b), true},
		"no indentation":             {backend + a + strings.ReplaceAll(b, "  ", ""), true},
		"an error":                   {backend + a + strings.ReplaceAll(b, "1m", "m1"), true},
		"an unknown backend":         {backend + a + strings.ReplaceAll(b, "users.u", "users.v"), true},
		"twice":                      {a + b + backend + a, true},
		"an attribute twice":         {"data_dir = \"/d\"\n" + backend + a + b + "data_dir = \"/e\"\n", false},
		"a long comment":             {backend + a + "/*\n" + b + "*/\n", false},
		"a block":                    {backend + a + "log {\n" + b + "}\n", false},
		"a block of a word":          {backend + a + "domain {\n}\n", true},
		"a list":                     {backend + "domain \"c\" { backends = [\ndomain \"x\"\n] }\n" + a, false},
		"a text":                     {backend + "data_dir = <<E\n" + a + "E\n" + b, false},
		"an interpolation":           {backend + "data_dir = \"${\n" + a + "}\"\n" + b, false},
		"a text without end":         {backend + a + "data_dir = \"x\n" + b, false},
		"another block after a word": {backend + a + "  log { level = \"warn\" }\n" + b, false},
		"a word after a block":       {backend + a + "domain \"c\" { backends = [backend.users.u] } domain\n" + b, false},
	} {
		t.Run(name, func(t *testing.T) {
			text := []byte(c.text)
			want, problems := parseFile("/etc/postern/test.hcl", text, testEnv(t), len(text)+1)
			got, others := parseFile("/etc/postern/test.hcl", text, testEnv(t), 1)
			if !reflect.DeepEqual(got, want) || !slices.Equal(others, problems) {
				t.Errorf("in pieces: %+v, %v\nas a whole: %+v, %v", got, others, want, problems)
			}
			_, late, ok := join(text, "test.hcl", 1)
			for i := range late {
				_, parsed := late[i].parse("test.hcl")
				ok = ok && parsed
			}
			if ok != c.pieces {
				t.Errorf("is parsed in pieces: %v", ok)
			}
		})
	}
}

// TestManyDomainsInPieces: a file of thousands of domains is parsed a part at a time.
func TestManyDomainsInPieces(t *testing.T) {
	const domains = 5000
	text := manyDomains(domains)
	_, late, ok := join(text, "test.hcl", pieceSize)
	if want := len(text)/(pieceSize+100) - 1; !ok || len(late) < want {
		t.Errorf("%d pieces have nothing but domains, want %d at least (%v)", len(late), want, ok)
	}
	cfg, problems := Parse("/etc/postern/test.hcl", text, testEnv(t))
	if problems.Failed() || len(cfg.Domains) != domains || cfg.Domains[domains-1].Name != "d4999.example.org" {
		t.Errorf("%d domains, %v", len(cfg.Domains), problems.Err())
	}
}
