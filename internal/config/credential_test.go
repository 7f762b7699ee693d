package config

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"postern/internal/unit"
)

// TestCredential: where a credential is found, inside the service and outside it.
func TestCredential(t *testing.T) {
	begun := time.Unix(1000, 0)
	file := func(text string, at time.Time) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(text), Mode: 0o600, ModTime: at}
	}
	files := fstest.MapFS{
		"run/given/api":                        file(canary+"\n", begun),
		"run/given/stored":                     file(canary, begun),
		"run/given/sealed":                     file(canary, begun),
		"run/given/key":                        file(rawCacheKey, begun),
		"etc/api":                              file(canary+"\n", begun.Add(-time.Hour)),
		"etc/credstore/late":                   file(canary, begun),
		"etc/key":                              file(rawCacheKey, begun),
		"run/credentials/postern.service/api":  file(canary, begun),
		"run/credentials/postern.service/runs": file(canary, begun),
		"run/credentials/postern.service/text": file(canary, begun),
		"run/given/text":                       file(canary, begun),
	}
	service := unit.Service{Credentials: []unit.Credential{
		{Name: "api", Source: "/etc/api"}, {Name: "late"}, {Name: "sealed", Encrypted: true}, {Name: "gone", Source: "/etc/gone"}, {Name: "key", Source: "/etc/key"},
		{Name: "hidden", Source: "/etc/forbidden"}, {Name: "runs", Encrypted: true}, {Name: "either", Source: "/etc/gone"},
	}, Set: []string{"text", "written", "either", "api"}}
	edited := func(name string, f *fstest.MapFile) fstest.MapFS {
		out := fstest.MapFS{name: f}
		for other, f := range files {
			if other != name {
				out[other] = f
			}
		}
		return out
	}
	const inside, root, other = "inside", "root", "other"
	for name, c := range map[string]struct {
		as, credential string
		files          fstest.MapFS // nil: as above
		problem        string       // part of the only problem; empty: there is none
		cure           string
		warning        bool
	}{
		"inside":                        {as: inside, credential: "api"},
		"inside, not of the unit":       {as: inside, credential: "stored"},
		"inside, encrypted":             {as: inside, credential: "sealed"},
		"inside, later than the start":  {as: inside, credential: "late", problem: "came into the unit after", cure: "it needs a restart"},
		"inside, unknown":               {as: inside, credential: "none", problem: "has no credential none", cure: "LoadCredential=none:/etc/postern/none"},
		"inside, changed":               {as: inside, credential: "api", files: edited("etc/api", file("other", begun.Add(time.Hour))), problem: "needs a restart: /etc/api has changed", cure: "systemctl restart postern", warning: true},
		"inside, written again":         {as: inside, credential: "api", files: edited("etc/api", file(canary+"\n", begun.Add(time.Hour)))},
		"root":                          {as: root, credential: "api"},
		"root, in a store":              {as: root, credential: "late"},
		"root, unknown":                 {as: root, credential: "none", problem: "has no credential none", cure: "LoadCredential=none:"},
		"root, encrypted":               {as: root, credential: "sealed", problem: "sealed is encrypted (LoadCredentialEncrypted=), and only systemd can read it", cure: "start the service"},
		"root, encrypted, running":      {as: root, credential: "runs"},
		"root, in the unit":             {as: root, credential: "written", problem: "written in the unit (SetCredential=), and only systemd can read it", cure: "LoadCredential="},
		"root, in the unit, running":    {as: root, credential: "text"},
		"root, file or unit":            {as: root, credential: "either", problem: "written in the unit (SetCredential=)", cure: "start the service"},
		"inside, in the unit":           {as: inside, credential: "text"},
		"inside, in the unit since":     {as: inside, credential: "written", problem: "came into the unit after", cure: "it needs a restart"},
		"root, without the source":      {as: root, credential: "gone", problem: "systemd would not start the service", cure: "create /etc/gone"},
		"root, with an unreadable one":  {as: root, credential: "hidden", problem: "cannot read /etc/forbidden", cure: "correct the path"},
		"the service's user":            {as: other, credential: "api"},
		"another user":                  {as: other, credential: "late", problem: "by root and by the running service only", cure: "run this as root"},
		"another user, not of the unit": {as: other, credential: "none", problem: "by root and by the running service only", cure: "LoadCredential=none:"},
		"no name":                       {as: root, credential: "../api", problem: "takes the name of a credential", cure: "LoadCredential=NAME:/path"},
		"a directory":                   {as: inside, credential: "..", problem: "takes the name of a credential", cure: "LoadCredential=NAME:/path"},
	} {
		t.Run(name, func(t *testing.T) {
			machine := c.files
			if machine == nil {
				machine = files
			}
			vars := map[string]string{}
			if c.as == inside {
				vars[credentialsDir] = "/run/given"
			}
			env := fakeEnv(machine, vars)
			env.Root = c.as == root
			env.Service = func() (unit.Service, error) { return service, nil }
			src := "backend \"jsxc\" \"c\" {\n  url = \"https://cloud.example.org/\"\n  secret = credential(\"" + c.credential + "\")\n}\n" +
				"domain \"example.org\" { backends = [backend.jsxc.c] }\n"
			cfg, problems := Parse("/etc/postern/test.hcl", []byte(src), env)
			if c.problem == "" || c.warning {
				if cfg == nil || cfg.Backends[0].Secret.Reveal() != canary || len(cfg.Files) > 0 {
					t.Fatalf("%s", render(problems))
				}
			}
			switch {
			case c.problem == "" && len(problems) > 0:
				t.Errorf("%s", render(problems))
			case c.problem == "":
			case len(problems) == 0 || problems[0].Line != 3 || (problems[0].Severity == Warning) != c.warning ||
				!strings.Contains(problems[0].Message, c.problem) || !strings.Contains(problems[0].Cure, c.cure):
				t.Errorf("%s\nwant %q, %q", render(problems), c.problem, c.cure)
			}
			if strings.Contains(render(problems), canary) {
				t.Error("the secret is shown")
			}
		})
	}
}

// The source of a credential is mostly root's alone: then its time and its size say whether it has changed.
func TestChangedSourceThatCannotBeRead(t *testing.T) {
	begun := time.Unix(1000, 0)
	line := unit.Credential{Name: "api", Source: "/etc/forbidden"}
	for name, c := range map[string]struct {
		text    string
		at      time.Time
		changed bool
	}{
		"as it was": {canary, begun.Add(-time.Second), false}, "newer": {canary, begun.Add(time.Second), true}, "of another size": {"x", begun.Add(-time.Second), true},
	} {
		env := fakeEnv(fstest.MapFS{
			"run/given/api": {Data: []byte(canary), ModTime: begun}, "etc/forbidden": {Data: []byte(c.text), ModTime: c.at},
		}, nil)
		if source := env.changedSource("/run/given/api", []byte(canary), line); (source != "") != c.changed {
			t.Errorf("%s: %q", name, source)
		}
	}
}

// A credential may stand wherever file() may: as a key, which may be raw bytes, in a text and in a list.
func TestCredentialsEverywhere(t *testing.T) {
	env := fakeEnv(fstest.MapFS{"etc/key": {Data: []byte(rawCacheKey)}, "etc/api": {Data: []byte(canary)}}, nil)
	env.Root = true
	env.Service = func() (unit.Service, error) {
		return unit.Service{Credentials: []unit.Credential{{Name: "key", Source: "/etc/key"}, {Name: "api", Source: "/etc/api"}}}, nil
	}
	src := domain(okRefs + "cache {\nkey = credential(\"key\")\n}\ntoken \"jsxc\" {\nsecrets = [\"a${credential(\"api\")}\", credential(\"api\")]\n}\n")
	cfg, problems := Parse("/etc/postern/test.hcl", []byte(src), env)
	if cfg == nil || len(problems) > 0 {
		t.Fatalf("%s", render(problems))
	}
	d := cfg.Domains[0]
	if d.Cache.Key.Reveal() != rawCacheKey || d.JSXC.Secrets[0].Reveal() != "a"+canary || d.JSXC.Secrets[1].Reveal() != canary {
		t.Error("a secret is another one")
	}
	env.Service = func() (unit.Service, error) { return unit.Service{}, fs.ErrNotExist }
	if cfg, problems := Parse("/etc/postern/test.hcl", []byte(src), env); cfg != nil || !strings.Contains(render(problems), "has no credential key") {
		t.Errorf("without a unit: %s", render(problems))
	}
}
