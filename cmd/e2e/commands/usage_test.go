package commands

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// The help of a command is printed in each way of asking for it.
func TestHelpOutput(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"help", "user", "add"}, {"user", "add", "--help"}, {"test", "--help"}, {}} {
		if r := harness.Command(t, "", args...); r.Code != 0 || !strings.Contains(r.Out, "Examples:\n  postern ") || r.Err != "" {
			t.Errorf("postern %v: exit status %d, %q, %q", args, r.Code, r.Out, r.Err)
		}
	}
}

// An error says what to do instead, and the exit status is not 0.
func TestMistakes(t *testing.T) {
	for args, want := range map[string]string{
		"bogus":                          "postern --help",
		"serv":                           "did you mean `postern serve`?",
		"--bogus":                        "postern --help",
		"serve --bogus":                  "postern serve --help",
		"serve now":                      "postern serve",
		"serve --config /none/x.hcl":     "--config FILE",
		"serve --data-dir x":             "--embedded",
		"user":                           "postern user --help",
		"user ad joe@dom.example":        "did you mean `postern user add`?",
		"user list joe":                  "postern user list",
		"cache":                          "postern cache --help",
		"cache shw joe@dom.example":      "did you mean `postern cache show`?",
		"limit show joe --embedded":      "USER@DOMAIN or 192.0.2.7",
		"limit forget":                   "postern limit forget",
		"config":                         "postern config --help",
		"config chek":                    "did you mean `postern config check`?",
		"config check one two":           "postern config check [FILE]",
		"version 2":                      "postern version",
		"user add joe@dom.example --p x": "postern user add --help",
		"serve --embedded --data-dir /tmp/" + strings.Repeat("x", 110): "choose another one",
	} {
		if r := harness.Command(t, "", strings.Fields(args)...); r.Code != 1 || r.Out != "" || !strings.Contains(r.Err, want) {
			t.Errorf("postern %s: exit status %d, %q, %q; want 1 and %q", args, r.Code, r.Out, r.Err, want)
		}
	}
}

func TestVersion(t *testing.T) {
	want := "postern devel (" + runtime.Version() + ", " + runtime.GOOS + "/" + runtime.GOARCH + ")\n"
	if r := harness.Command(t, "", "version"); r.Code != 0 || r.Out != want || r.Err != "" {
		t.Errorf("exit status %d, %q, %q; want %q", r.Code, r.Out, r.Err, want)
	}
}

// `config check` prints what is wrong and where, the line without its secrets, and how to correct
// it. Its exit status is 1 for errors, not for warnings.
func TestConfigCheck(t *testing.T) {
	dir := t.TempDir()
	const good = "backend \"users\" \"local\" {}\ndomain \"dom.example\" { backends = [backend.users.local] }\n"
	const listen = "listen \"generic\" { address = \"127.0.0.1:0\" }\n"
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		code       int
		want       []string
	}{
		{"good", listen + good, 0o644, 0, []string{": ok: 1 listeners, 1 backends, 1 domains\n"}},
		{"warned", "listen \"generic\" { address = \"0.0.0.0:0\" }\n" + good, 0o644, 0,
			[]string{"warned.hcl:1:30: warning: ", "    1 | listen", "^^^", "listen on 127.0.0.1", ": ok: 1 listeners"}},
		{"unknown", listen + good + "retries = 3\n", 0o644, 1, []string{"unknown.hcl:4:1: error: ", "    4 | retries"}},
		{"syntax", listen + "domain {\n", 0o644, 1, []string{"syntax.hcl:2:", "error: "}},
		{"secret", listen + good + "backend \"jsxc\" \"cloud\" {\n  url = \"https://cloud.example\"\n  secret = \"hunter2\" + 1\n}\n", 0o644, 1,
			[]string{"secret.hcl:6:", "error: ", "not shown"}},
		{"readable", listen + good + "backend \"jsxc\" \"cloud\" {\n  url    = \"https://cloud.example\"\n  secret = \"hunter2\"\n}\n", 0o644, 0,
			[]string{"warning: a secret stands in a configuration that others can read", "0600", ": ok: "}},
	} {
		file := filepath.Join(dir, c.name+".hcl")
		if err := os.WriteFile(file, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"config", "check", file}, {"config", "check", "--config", file}} {
			r := harness.Command(t, "", args...)
			if r.Code != c.code || r.Err != "" {
				t.Errorf("%s: exit status %d, %q", c.name, r.Code, r.Err)
			}
			for _, want := range c.want {
				if !strings.Contains(r.Out, want) {
					t.Errorf("%s: no %q in\n%s", c.name, want, r.Out)
				}
			}
			if strings.Contains(r.Out, "hunter2") || c.code != 0 && strings.Contains(r.Out, ": ok:") {
				t.Errorf("%s: printed\n%s", c.name, r.Out)
			}
		}
	}
	r := harness.Command(t, "", "config", "check", filepath.Join(dir, "none.hcl"))
	if r.Code != 1 || !strings.Contains(r.Out, "postern config new") {
		t.Errorf("a missing file: exit status %d, %q", r.Code, r.Out)
	}
}
