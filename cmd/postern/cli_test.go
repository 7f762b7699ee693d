package main

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// own is every command of postern's own, without those that cobra adds.
func own(root *cobra.Command) (all []*cobra.Command) {
	for _, c := range root.Commands() {
		if c.Name() != "help" && c.Name() != "completion" {
			all = append(append(all, c), own(c)...)
		}
	}
	return all
}

func testRoot() *cobra.Command { return newRoot(stdio{os.Stdin, os.Stdout, os.Stderr}) }

// Every command explains itself with an example that it would take.
func TestHelp(t *testing.T) {
	commands := own(testRoot())
	if len(commands) < 18 {
		t.Fatalf("only %d commands", len(commands))
	}
	for _, c := range append(commands, testRoot()) {
		if c.Short == "" || !strings.Contains(c.Example, "postern ") {
			t.Errorf("`%s` has no summary or no example", c.CommandPath())
		}
		mentions := commandLines(c.Example)
		if len(mentions) == 0 {
			t.Errorf("`%s`: no command in the example %q", c.CommandPath(), c.Example)
		}
		for _, line := range mentions {
			if why := unusable(line); why != "" {
				t.Errorf("`%s --help`: %q: %s", c.CommandPath(), line, why)
			}
		}
		if c.HasParent() && !slices.ContainsFunc(mentions, func(line string) bool { return strings.HasPrefix(line, c.CommandPath()) }) {
			t.Errorf("the example of `%s` is of something else: %q", c.CommandPath(), c.Example)
		}
	}
}

// The help of a command is printed in each way of asking for it.
func TestHelpOutput(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"help", "user", "add"}, {"user", "add", "--help"}, {"test", "--help"}, {}} {
		if r := command(t, "", args...); r.code != 0 || !strings.Contains(r.out, "Examples:\n  postern ") || r.err != "" {
			t.Errorf("postern %v: exit status %d, %q, %q", args, r.code, r.out, r.err)
		}
	}
}

// What README and the example configuration tell people to type exists.
func TestDocumentsNameRealCommands(t *testing.T) {
	for file, least := range map[string]int{"README.md": 15, "config.hcl.example": 3} {
		text, err := os.ReadFile(filepath.Join("..", "..", file))
		if err != nil {
			t.Fatal(err)
		}
		lines := commandLines(string(text))
		if len(lines) < least {
			t.Errorf("%s: found only %q", file, lines)
		}
		for _, line := range lines {
			if why := unusable(line); why != "" {
				t.Errorf("%s: %q: %s", file, line, why)
			}
		}
	}
}

// commandLines finds the calls of postern in a text: between backquotes, and in lines that are
// indented, quoted or begin with exec. Words of prose are left out by where they stand.
func commandLines(text string) (found []string) {
	code := regexp.MustCompile("`(postern [^`]+)`")
	for _, m := range code.FindAllStringSubmatch(text, -1) {
		found = append(found, strings.Join(strings.Fields(m[1]), " "))
	}
	call := regexp.MustCompile(`(?:^ {2,}|\| |/usr/bin/|sudo )(postern (?:--)?[a-z][^|"&<>` + "`" + `]*)`)
	for line := range strings.Lines(text) {
		for _, m := range call.FindAllStringSubmatch(code.ReplaceAllString(line, ""), -1) {
			found = append(found, strings.TrimSpace(m[1]))
		}
	}
	return found
}

// unusable tells why the program would not take a command line, or "".
func unusable(line string) string {
	root := testRoot()
	cmd, rest, err := root.Find(strings.Fields(line)[1:])
	if err != nil {
		return err.Error()
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err.Error()
	}
	args := cmd.Flags().Args()
	if cmd.HasSubCommands() && len(args) > 0 {
		return "there is no command " + args[0]
	}
	if cmd.HasSubCommands() || len(args) == 0 && strings.Contains(cmd.Use, "USER@DOMAIN") {
		return "" // the text speaks of the command as such
	}
	if cmd.ValidateArgs(args) != nil {
		return "the arguments do not fit " + cmd.UseLine()
	}
	return ""
}

// The tests of documents notice what is not there.
func TestUnusableNoticesErrors(t *testing.T) {
	for line, good := range map[string]bool{
		"postern user add alice@example.org": true, "postern user": true, "postern cache show": true,
		"postern serve --config x": true, "postern config check": true,
		"postern usr": false, "postern user ad alice@example.org": false, "postern serve --conf x": false,
		"postern serve now": false, "postern test auth a@b c": false,
	} {
		if why := unusable(line); (why == "") != good {
			t.Errorf("%q: %q", line, why)
		}
	}
}

// What cannot be done is said with what to do instead, and the exit status is not 0.
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
		if r := command(t, "", strings.Fields(args)...); r.code != 1 || r.out != "" || !strings.Contains(r.err, want) {
			t.Errorf("postern %s: exit status %d, %q, %q; want 1 and %q", args, r.code, r.out, r.err, want)
		}
	}
}

func TestVersion(t *testing.T) {
	want := "postern devel (" + runtime.Version() + ", " + runtime.GOOS + "/" + runtime.GOARCH + ")\n"
	if r := command(t, "", "version"); r.code != 0 || r.out != want || r.err != "" {
		t.Errorf("exit status %d, %q, %q; want %q", r.code, r.out, r.err, want)
	}
}

// `config check` says where what is wrong, shows the line without its secrets, and how to mend
// it; its exit status tells errors from warnings.
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
			r := command(t, "", args...)
			if r.code != c.code || r.err != "" {
				t.Errorf("%s: exit status %d, %q", c.name, r.code, r.err)
			}
			for _, want := range c.want {
				if !strings.Contains(r.out, want) {
					t.Errorf("%s: no %q in\n%s", c.name, want, r.out)
				}
			}
			if strings.Contains(r.out, "hunter2") || c.code != 0 && strings.Contains(r.out, ": ok:") {
				t.Errorf("%s: printed\n%s", c.name, r.out)
			}
		}
	}
	r := command(t, "", "config", "check", filepath.Join(dir, "none.hcl"))
	if r.code != 1 || !strings.Contains(r.out, "config.hcl.example") {
		t.Errorf("a missing file: exit status %d, %q", r.code, r.out)
	}
}
