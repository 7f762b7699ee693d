package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"postern/cmd/internal/pipe"
	"postern/internal/manual"
)

// own lists the commands of postern itself, without those that cobra adds.
func own(root *cobra.Command) (all []*cobra.Command) {
	for _, c := range root.Commands() {
		if c.Name() != "help" { // which is not about itself
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

// TestHelpPages: each page says in a line what the command does, has two examples at least, its own flags but
// not those of all commands, and no long line.
func TestHelpPages(t *testing.T) {
	root := testRoot()
	root.InitDefaultHelpCmd()
	for _, c := range append(every(root), root) {
		c.InitDefaultHelpFlag()
		page := helpPage(c)
		if n := len(strings.Split(strings.TrimSpace(c.Example), "\n")); n < 2 {
			t.Errorf("`%s` has %d examples", c.CommandPath(), n)
		}
		if first, _, _ := strings.Cut(page, "\n"); first != c.Short || first == "" || strings.HasSuffix(first, ".") {
			t.Errorf("`%s` begins with %q", c.CommandPath(), first)
		}
		at := 0 // its own flags come before the examples, and those before the rest
		for _, part := range []string{"\nUsage:\n", "\nFlags:\n", "\nExamples:\n"} {
			if next := strings.Index(page, part); next < at {
				t.Errorf("`%s`: %q is missing, or too late", c.CommandPath(), part)
			} else {
				at = next
			}
		}
		for line := range strings.Lines(page) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > pageWidth {
				t.Errorf("`%s`: a line of %d characters: %q", c.CommandPath(), n, line)
			}
		}
		if global := strings.Contains(page, "  --embedded "); global == c.HasParent() {
			t.Errorf("`%s`: the flags of all commands are on its page: %t", c.CommandPath(), global)
		}
		ownFlags(c).VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !strings.Contains(page, "--"+f.Name) {
				t.Errorf("`%s`: its page has no --%s", c.CommandPath(), f.Name)
			}
		})
	}
}

// every lists all commands that have a page.
func every(root *cobra.Command) (all []*cobra.Command) {
	for _, c := range root.Commands() {
		all = append(append(all, c), every(c)...)
	}
	return all
}

// The commands that the README, the manual and the example configuration mention exist.
func TestDocumentsNameRealCommands(t *testing.T) {
	check := func(name, text string, least int) {
		lines := commandLines(text)
		if len(lines) < least {
			t.Errorf("%s: found only %q", name, lines)
		}
		for _, line := range lines {
			if why := unusable(line); why != "" {
				t.Errorf("%s: %q: %s", name, line, why)
			}
		}
	}
	for file, least := range map[string]int{"README.md": 3, "config.hcl.example": 3} {
		text, err := os.ReadFile(filepath.Join("..", "..", file))
		if err != nil {
			t.Fatal(err)
		}
		check(file, string(text), least)
	}
	for topic, least := range map[string]int{"prosody": 4, "mail": 4, "daily": 12, "trouble": 6, "domains": 5, "xcauth": 5} {
		if n := len(commandLines(plainPage(t, topic))); n < least {
			t.Errorf("%s: found only %d commands", topic, n)
		}
	}
	for _, topic := range manual.Topics() {
		check(topic, plainPage(t, topic), 0)
	}
}

func plainPage(t *testing.T, topic string) string {
	t.Helper()
	page, err := manual.Find(topic)
	if err != nil {
		t.Fatal(err)
	}
	return page.Plain()
}

// `postern help` lists commands and topics, and prints each.
func TestHelpTopics(t *testing.T) {
	run := func(args ...string) (string, error) {
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		root := newRoot(pipe.Stdio{In: os.Stdin, Out: out, Err: out})
		root.SetArgs(append([]string{"help"}, args...))
		err = root.Execute()
		text, _ := os.ReadFile(out.Name())
		return string(text), err
	}
	list, err := run()
	if err != nil || !strings.Contains(list, "\n  prosody        Nextcloud and Prosody\n") || !strings.Contains(list, "\n  serve ") {
		t.Errorf("%v: %s", err, list)
	}
	for _, topic := range manual.Topics() {
		if text, err := run(topic); err != nil || text != plainPage(t, topic) {
			t.Errorf("%s: %v: %s", topic, err, text)
		}
		if cmd, _, err := testRoot().Find([]string{topic}); err == nil && cmd.HasParent() {
			t.Errorf("%s is a topic and a command", topic)
		}
	}
	if text, err := run("cache", "forget"); err != nil || !strings.Contains(text, "postern cache forget USER@DOMAIN") {
		t.Errorf("%v: %s", err, text)
	}
	for _, args := range [][]string{{"prosodi"}, {"cache", "forge"}, {"prosody", "x"}} {
		if text, err := run(args...); err == nil {
			t.Errorf("%q: %s", args, text)
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
	call := regexp.MustCompile(`(?:^ {2,}|\| |/usr/bin/|sudo |-u postern )(postern (?:--)?[a-z][^|"&<>` + "`" + `]*)`)
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
	if cmd.Name() == "help" && len(args) == 1 && args[0] != "TOPIC" && !slices.Contains(manual.Topics(), args[0]) {
		return "there is no page " + args[0]
	}
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

// TestJSON: each command that prints data has --json, and its page lists the fields. Scripts rely on them: a
// field that is renamed or removed is a breaking change, and belongs into CHANGELOG.md.
func TestJSON(t *testing.T) {
	const forgotten = "an object with name, users, passwords, refusals, exists, tokens, counted, roster (users, groups)"
	const answer = "an object with verdict, exit, source, reason, took_ns, body, steps (at_ns, stage, note)"
	const passwords = "an object with secret, passwords (id, name, services, state, created, expires, revoked, last_used, last_service, " +
		"last_front, last_client)"
	want := map[string]string{
		"cache flush":         forgotten,
		"cache forget":        forgotten,
		"store copy":          "an object with users, dropped, newer, changes, tokens, others, others_left_out",
		"config check":        "an object with file, ok, listeners, backends, domains, problems (severity, file, line, column, message, cure), notes",
		"password add":        passwords,
		"password expire":     passwords,
		"password list":       passwords,
		"password revoke":     passwords,
		"domain import":       "an object with imported, new",
		"domain list":         "a list of objects with domain, source, shadowed, backend, url, auth_domain, contact, first, latest",
		"forget":              forgotten,
		"limit forget":        "an object with name, refusals, pauses, until",
		"reload":              "an object with note, changes, warnings",
		"roster forget-group": "an object with group, commands",
		"roster plan":         "an object with steps, file, users, unasked",
		"roster refresh":      "an object with count, later",
		"token inspect":       "an object with kind, nonce_digits, version, key_id, expires, expired",
		"user list":           "a list of strings",
		"user groups":         "a list of strings",
		"version":             "an object with version, go, os, arch",
		"cache show": "an object with user, verifiers (first_verified, last_verified, last_used, stale, suspect, on_disk, in_memory), " +
			"refused_passwords_remembered, exists, exists_asked",
		"cache stats": "an object with daemon_running, memory (of each name: users, strangers, hot, missed, compares, hashes, backend_asked, graces, " +
			"refusals, refused_before, limit_user, limit_address, limit_budget, store_failing), disk_users, disk_bytes, store_failed",
		"doctor":      "an object with version, at, status, exit, failures, warnings, findings (hop, check, status, text, cure, took_ns)",
		"domain show": "an object with domain, secret, url, auth_domain, contact, first, latest, backend, has_secret",
		"limit show": "an object with addresses (watched, limited (name, refusals, pauses, until)), backends (of each name: refusals, budget, exempt, " +
			"delay_ns, withheld, users (watched, limited (name, refusals, pauses, until)))",
		"roster show": "an object with user, full_name, groups, groups_at_login, last_answer_carried_out, groups_being_changed",
		"test auth":   answer,
		"test isuser": answer,
		"test roster": answer,
	}
	without := map[string]string{
		"checkpassword": "speaks a protocol", "pipe": "speaks a protocol", "serve": "runs until it is stopped",
		"config new": "writes files", "gen-docs": "writes files", "import xcauth": "writes files", "domain export": "has --format",
		"completion": "prints a script", "token issue": "prints one word", "domain add": "has an exit status", "domain set": "has an exit status", "domain remove": "has an exit status",
		"user add": "has an exit status", "user passwd": "has an exit status", "user remove": "has an exit status",
	}
	for _, c := range own(testRoot()) {
		if c.HasSubCommands() {
			continue
		}
		path := strings.TrimPrefix(c.CommandPath(), "postern ")
		has := c.Flags().Lookup("json") != nil || c.InheritedFlags().Lookup("json") != nil
		_, lacks := without[path]
		fields, listed := want[path]
		if has == lacks || has != listed {
			t.Errorf("%s: --json is there: %t; the lists of this test say: with %t, without %t", path, has, listed, lacks)
			continue
		}
		_, said, found := strings.Cut(strings.Join(strings.Fields(c.Long), " "), "With --json: ")
		if has && (!found || said != fields+".") {
			t.Errorf("%s: fields %q, want %q", path, said, fields)
		}
	}
}
