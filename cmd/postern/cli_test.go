package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"postern/cmd/internal/pipe"
)

// own lists the commands of postern itself, without those that cobra adds.
func own(root *cobra.Command) (all []*cobra.Command) {
	for _, c := range root.Commands() {
		if c.Name() != "help" && c.Name() != "completion" {
			all = append(append(all, c), own(c)...)
		}
	}
	return all
}

func testRoot() *cobra.Command {
	return newRoot(pipe.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}

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

// The commands that README and the example configuration mention exist.
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

// unusable returns why the program would not accept a command line, or "".
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
