package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const diffBase = `
data_dir = "/srv/postern"
listen "ejabberd" { address = "127.0.0.1:23662" }
listen "mux" {
  protocol = "saslauthd"
  address  = "unix:mux"
}
listen "any" {
  protocol = "generic"
  address  = "127.0.0.1:0"
}
backend "jsxc" "cloud" {
  url    = "https://cloud.example/api"
  secret = env("SECRET")
}
backend "users" "local" {}
domain "one.example" { backends = [backend.jsxc.cloud] }
domain "two.example" {
  backends = [backend.users.local]
  token "totp" {
    seed    = env("SEED")
    secrets = [env("SECRET")]
  }
}
`

// summary lists a delta by name.
func summary[T any](kind string, d Delta[T], name func(T) string) (list []string) {
	for _, t := range d.Added {
		list = append(list, "+"+kind+" "+name(t))
	}
	for _, t := range d.Removed {
		list = append(list, "-"+kind+" "+name(t))
	}
	for _, c := range d.Changed {
		text := "~" + kind + " " + name(c.New)
		if was := name(c.Old); was != name(c.New) {
			text += " from " + was
		}
		list = append(list, text)
	}
	return list
}

func toldAll(c Changes) string {
	list := summary("listener", c.Listeners, func(l Listener) string { return l.Name })
	list = append(list, summary("backend", c.Backends, func(b Backend) string { return b.String() })...)
	list = append(list, summary("domain", c.Domains, func(d Domain) string { return d.Name })...)
	for name, is := range map[string]bool{"data_dir": c.DataDir, "drain_timeout": c.DrainTimeout, "log": c.Log, "metrics": c.Metrics, "web": c.Web, "registry": c.Registry} {
		if is {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

func TestDiff(t *testing.T) {
	swap := func(pairs ...string) string {
		for i := 0; i < len(pairs); i += 2 {
			if !strings.Contains(diffBase, pairs[i]) {
				t.Fatalf("%q is not in the base", pairs[i])
			}
		}
		return strings.NewReplacer(pairs...).Replace(diffBase)
	}
	cases := map[string]struct{ src, secret, want string }{
		"same text, secrets of their own": {src: diffBase},
		"order of blocks":                 {src: swap(`domain "one.example" { backends = [backend.jsxc.cloud] }`, "") + `domain "one.example" { backends = [backend.jsxc.cloud] }`},
		"secret":                          {src: diffBase, secret: "another", want: "~backend jsxc.cloud, ~domain one.example, ~domain two.example"},
		"default written out":             {src: swap(`backend "users" "local" {}`, `backend "users" "local" { path = "users" }`)},
		"backend":                         {src: swap(`backend "users" "local" {}`, `backend "users" "local" { slots = 7 }`), want: "~backend users.local"},
		"domain":                          {src: swap(`[backend.jsxc.cloud]`, `[backend.jsxc.cloud, backend.users.local]`), want: "~domain one.example"},
		"domain renamed":                  {src: swap(`"one.example"`, `"*"`), want: "+domain *, -domain one.example"},
		"listener moved":                  {src: swap("127.0.0.1:23662", "127.0.0.1:23664"), want: "+listener ejabberd, -listener ejabberd"},
		"listener renamed":                {src: swap(`listen "ejabberd" {`, `listen "jabber" { `+"\n"+` protocol = "ejabberd"`+"\n", "23662\" }", "23662\"\n}"), want: "~listener jabber from ejabberd"},
		"listener limits":                 {src: swap(`address  = "unix:mux"`, "address = \"unix:mux\"\nmode = \"0600\""), want: "~listener mux"},
		"any port renamed":                {src: swap(`listen "any"`, `listen "other"`), want: "+listener other, -listener any"},
		"names exchanged": {src: swap(`listen "mux"`, `listen "any"`, `listen "any"`, `listen "mux"`),
			want: "+listener mux, -listener any, ~listener any from mux"},
		"registry": {src: diffBase + "registry { idle = \"1h\" }\n", want: "registry"},
		"metrics":  {src: diffBase + "metrics { address = \"127.0.0.1:23669\" }\n", want: "metrics"},
		"web":      {src: diffBase + "web {\nurl = \"https://x.example\"\nself_service { address = \"127.0.0.1:23671\" }\n}\n", want: "web"},
		"the rest": {src: swap("/srv/postern", "/srv/other") + "drain_timeout = \"3s\"\nlog { level = \"debug\" }\n", want: "data_dir, drain_timeout, log, -listener mux, +listener mux, ~backend users.local"},
	}
	parseWith := func(src, secret string) *Config {
		env := Env{LookupEnv: func(name string) (string, bool) {
			if name == "SEED" {
				return "JBSWY3DPEHPK3PXP", true
			}
			return strings.Clone(secret), true
		}}
		cfg, problems := Parse("/etc/postern/config.hcl", []byte(src), env)
		if cfg == nil {
			t.Fatal(problems.Err())
		}
		return cfg
	}
	for name, c := range cases {
		secret := "secret"
		if c.secret != "" {
			secret = c.secret
		}
		changes := Diff(parseWith(diffBase, "secret"), parseWith(c.src, secret))
		want := strings.Split(c.want, ", ")
		slices.Sort(want)
		if got := toldAll(changes); got != strings.Join(want, ", ") {
			t.Errorf("%s: %s; want %s", name, got, c.want)
		}
		if changes.Empty() != (c.want == "") {
			t.Errorf("%s: Empty is %v", name, changes.Empty())
		}
		if text := fmt.Sprintf("%+v %#v", changes, changes); strings.Contains(text, "\"another\"") || strings.Contains(text, "another ") {
			t.Errorf("%s: the secret stands in %s", name, text)
		}
	}
}

// TestDiffCertificate: a file of another content is a change, though its name is the same.
func TestDiffCertificate(t *testing.T) {
	src := `
backend "json" "app" {
  url     = "https://app.example"
  ca_file = "ca.pem"
}
domain "*" { backends = [backend.json.app] }
`
	with := func(more string) *Config {
		cfg, problems := Parse("/etc/postern/config.hcl", []byte(src), Env{ReadFile: func(string) ([]byte, error) {
			return append([]byte(more), testCA(t)...), nil
		}})
		if cfg == nil {
			t.Fatal(problems.Err())
		}
		return cfg
	}
	if got := toldAll(Diff(with(""), with(""))); got != "" {
		t.Errorf("the same file: %s", got)
	}
	if got := toldAll(Diff(with(""), with("# new\n"))); got != "~backend json.app" {
		t.Errorf("another file: %s", got)
	}
}

// TestDataDir is found whatever is wrong with the rest.
func TestDataDir(t *testing.T) {
	dir := t.TempDir()
	for src, want := range map[string]string{
		"data_dir = \"/srv/x\"\n": "/srv/x",
		"data_dir = \"rel\"\n":    filepath.Join(dir, "rel"),
		"":                        "/var/lib/postern",
		"data_dir = \"/srv/x\"\nnonsense = 3\nlisten {}\n":             "/srv/x",
		"data_dir = \"/srv/x\"\ndomain \"one.example\" { backends = [": "/srv/x",
		"data_dir = 17\n": "?",
	} {
		file := filepath.Join(dir, "config.hcl")
		if err := os.WriteFile(file, []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
		got, ok := DataDir(file)
		if !ok {
			got = "?"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", src, got, want)
		}
	}
	if _, ok := DataDir(filepath.Join(dir, "missing")); ok {
		t.Error("a file that is not there has a data directory")
	}
}
