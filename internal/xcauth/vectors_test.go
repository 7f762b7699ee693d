package xcauth

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"

	"postern/internal/auth"
)

func vectors(t *testing.T, file string, into any) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

// noFiles reads from a machine without configuration files.
func noFiles(string) ([]byte, error) { return nil, fs.ErrNotExist }

// TestArgumentsAsArgparse compares command lines with the results of Python's argparse 3.11.
func TestArgumentsAsArgparse(t *testing.T) {
	var cases []struct {
		Name   string
		Args   []string
		Fails  bool
		Expect map[string]any
	}
	vectors(t, "arguments.json", &cases)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			list, err := arguments(new(Options).flags(), c.Args)
			if err == nil {
				_, err = Parse(Defaults(), c.Args, func(string) ([]byte, error) { return nil, nil })
			}
			if (err != nil) != c.Fails {
				t.Fatalf("error %v, want one: %v", err, c.Fails)
			}
			if c.Fails {
				if _, ok := errors.AsType[*UsageError](err); !ok {
					t.Errorf("%T", err)
				}
				return
			}
			got := map[string]any{}
			for _, s := range list {
				name := strings.ReplaceAll(s.flag.Name, "-", "_")
				switch {
				case name == "update_roster":
				case count(s.flag) == 0:
					got[name] = true
				case count(s.flag) == 1:
					got[name] = s.values[0]
				default:
					words := []any{}
					for _, v := range s.values {
						words = append(words, v)
					}
					got[name] = words
				}
			}
			if !reflect.DeepEqual(got, c.Expect) {
				t.Errorf("got %v, want %v", got, c.Expect)
			}
		})
	}
}

// TestLinesAsConfigArgParse compares lines of configuration files with the results of
// ConfigArgParse's grammar.
func TestLinesAsConfigArgParse(t *testing.T) {
	var cases []struct {
		Line           string
		Nothing, Fails bool
		Key            string
		Value          any
	}
	vectors(t, "lines.json", &cases)
	for _, c := range cases {
		entries, err := parseConfig(c.Line)
		switch {
		case c.Fails:
			if err == nil {
				t.Errorf("%q: accepted as %+v", c.Line, entries)
			}
		case err != nil || len(entries) > 1 || (len(entries) == 0) != c.Nothing:
			t.Errorf("%q: %+v, %v", c.Line, entries, err)
		case !c.Nothing:
			var want []string
			switch v := c.Value.(type) {
			case string:
				want = []string{v}
			case []any:
				for _, e := range v {
					want = append(want, e.(string))
				}
			}
			e := entries[0]
			if e.key != c.Key || !reflect.DeepEqual(e.values, want) {
				t.Errorf("%q: %q = %q, want %q = %q", c.Line, e.key, e.values, c.Key, want)
			}
		}
	}
}

func TestConfigFiles(t *testing.T) {
	files := map[string]string{
		"/etc/xcauth.conf":         "url = https://one/\nsecret: first\ndebug\ntype prosody\ncache-query-ttl=2h\n",
		"/etc/external_cloud.conf": "secret = second # newer\ninteractive = no\n",
		"own.conf":                 "[section]\n; a comment\nurl=https://own/\n--log = \"/var/log/own dir\"\ninteractive=true\nauth-test=[\"joe\", \"dom\", \"p\"]\n",
		"broken.conf":              "url=x\n=y\n",
		"badflag.conf":             "debug=maybe\n",
		"badvalue.conf":            "type=xmpp\n",
		"list.conf":                "secret=[cAnArY, b]\n",
		"unknown.conf":             "url=https://u/\nsecret=s\nper-domain-config=/x\ndomains-db=/y\ncache-q=7\n",
	}
	read := func(name string) ([]byte, error) {
		if text, ok := files[name]; ok {
			return []byte(text), nil
		}
		return nil, fs.ErrNotExist
	}
	both := DefaultConfigs()
	t.Run("the later default counts for more", func(t *testing.T) {
		o, err := Parse(Defaults(), nil, read, both...)
		if err != nil || o.URL != "https://one/" || o.Secret.Reveal() != "second" || !o.Debug || o.Interactive ||
			o.Type != "prosody" || o.QueryTTL != 7200e9 || o.VerifyTTL != 24*3600e9 {
			t.Errorf("%+v, %v", o, err)
		}
	})
	t.Run("the named file counts for more, the command line for most", func(t *testing.T) {
		o, err := Parse(Defaults(), []string{"-c", "own.conf", "-t", "ejabberd"}, read, both...)
		if err != nil || o.URL != "https://own/" || o.Secret.Reveal() != "second" || o.Type != "ejabberd" ||
			o.Log != "/var/log/own dir" || !o.Interactive || o.Test != auth.OpAuth || o.User != "joe" || o.Password.Reveal() != "p" {
			t.Errorf("%+v, %v", o, err)
		}
	})
	t.Run("keys of other versions are told", func(t *testing.T) {
		o, err := Parse(Defaults(), []string{"-c", "unknown.conf"}, read)
		if err != nil || o.QueryTTL != 7e9 || len(o.Warnings) != 2 ||
			!strings.Contains(o.Warnings[0]+o.Warnings[1], `unknown.conf: line 4: "domains-db" is no option`) ||
			!strings.Contains(o.Warnings[0]+o.Warnings[1], "--per-domain-config has no effect") {
			t.Errorf("%+v, %v", o, err)
		}
	})
	t.Run("only defaults may be missing", func(t *testing.T) {
		if o, err := Parse(Defaults(), nil, noFiles, both...); err != nil || o.URL != "" {
			t.Errorf("%+v, %v", o, err)
		}
		if _, err := Parse(Defaults(), []string{"-c", "none.conf"}, noFiles, both...); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
	for name, want := range map[string]string{
		"broken.conf": "broken.conf: line 2 is not understood", "badflag.conf": "line 1: debug is true or false",
		"badvalue.conf": `"xmpp" is not one of generic`, "list.conf": "line 1: secret: expected one argument",
	} {
		_, err := Parse(Defaults(), []string{"-c", name}, read)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "cAnArY") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
