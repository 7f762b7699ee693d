package manual

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"postern/internal/config"
)

// The table of contents has every page, once.
func TestContents(t *testing.T) {
	entries, err := files.ReadDir("pages")
	if err != nil {
		t.Fatal(err)
	}
	var pages []string
	for _, e := range entries {
		pages = append(pages, strings.TrimSuffix(e.Name(), ".md"))
	}
	topics := slices.Sorted(slices.Values(Topics()))
	if !slices.Equal(pages, topics) {
		t.Errorf("pages %q, topics %q", pages, topics)
	}
	list, err := List()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(list) {
		if utf8.RuneCountInString(line) > 81 {
			t.Errorf("a long line: %s", line)
		}
	}
	if _, err := Find("../pages/prosody"); err == nil {
		t.Error("a path is a topic")
	}
}

// Pages parse, their lines fit on a terminal, and what they link exists.
func TestPages(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(readme), "\n"); n > 160 {
		t.Errorf("README has %d lines: what is longer than a few belongs on a page", n)
	}
	for _, topic := range Topics() {
		if topic != referenceTopic && !strings.Contains(string(readme), "| ["+topic+"](internal/manual/pages/"+topic+".md) |") {
			t.Errorf("README does not link %s", topic)
		}
		page, err := Find(topic)
		if err != nil {
			t.Error(err)
			continue
		}
		for line := range strings.Lines(page.Plain()) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > tableWidth && !strings.HasPrefix(line, "    ") {
				t.Errorf("%s: a line of %d characters: %s", topic, n, line)
			}
		}
		source, _ := files.ReadFile("pages/" + topic + ".md")
		for _, m := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(string(source), -1) {
			if _, err := os.Stat(filepath.Join("pages", m[1])); err != nil && !strings.HasPrefix(m[1], "https://") {
				t.Errorf("%s: %v", topic, err)
			}
		}
	}
}

const sample = `# A page

The first *text* has ` + "`code -x`" + `, **bold** and a [link](prosody.md), and goes on
in a [second](../../../actors/doc.go) line.

<!-- test: not printed -->
## A heading

- an item that is long enough to need more than one line on a terminal of the usual width, it is said
  here
- .another

` + "```sh FILE\necho 'a-b' \\n\n\n.end\n```" + `

| a | b |
| --- | --- |
| ` + "`x \\| y`" + ` | z |
`

func TestPlain(t *testing.T) {
	page, err := Parse("sample", sample)
	if err != nil {
		t.Fatal(err)
	}
	want := `A PAGE

The first *text* has ` + "`code -x`" + `, bold and a link (` + "`postern help prosody`" + `), and
goes on in a second (actors/doc.go) line.

A heading

- an item that is long enough to need more than one line on a terminal of the
  usual width, it is said here
- .another

    echo 'a-b' \n

    .end

a        b
-------  -
` + "`x | y`" + `  z
`
	if got := page.Plain(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestRoff(t *testing.T) {
	page, err := Parse("sample", sample)
	if err != nil {
		t.Fatal(err)
	}
	want := `'\" t
.\" Generated from the program; do not edit.
.TH "POSTERN-SAMPLE" 7 "" "postern v1" "postern manual"
.nh
.ad l
.SH NAME
postern\-sample \- A page
.SH DESCRIPTION
.PP
The first *text* has \fBcode \-x\fP, \fBbold\fP and a link (\fBpostern\-prosody\fP(7)), and goes on in a second (actors/doc.go) line.
.SH A heading
.IP "\(bu" 4
an item that is long enough to need more than one line on a terminal of the usual width, it is said here
.IP "\(bu" 4
\&.another
.PP
.in +4n
.nf
echo \(aqa\-b\(aq \en

\&.end
.fi
.in
.PP
.TS
lbx lb
lx l.
T{
a
T}	b
T{
\fBx | y\fP
T}	z
.TE
`
	if got := page.Roff("postern-sample", 7, "v1"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// groff has nothing to complain of, and shows the text.
func TestRoffIsValid(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Fatal("groff is missing: run scripts/setup.sh")
	}
	for _, topic := range Topics() {
		page, err := Find(topic)
		if err != nil {
			t.Fatal(err)
		}
		name, section := page.ManName()
		var complaints strings.Builder
		cmd := exec.Command(groff, "-man", "-t", "-ww", "-Tutf8", "-P-cbou", "-rLL=100n")
		cmd.Stdin, cmd.Stderr = strings.NewReader(page.Roff(name, section, "v1")), &complaints
		out, err := cmd.Output()
		if err != nil || complaints.Len() > 0 {
			t.Errorf("%s: %v\n%s", topic, err, complaints.String())
		}
		if !strings.Contains(string(out), page.Title) {
			t.Errorf("%s: the title is missing", topic)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, source := range []string{
		"", "no heading", "# A\n\n```\nx\n```", "# A\n\n```sh\nx", "# A\n\n> quoted", "# A\n\n    indented", "# A\n\n#### deep",
		"# A\n\n| a | b |\n| --- | --- |\n| c |", "# A\n\n<!-- open\n-->",
	} {
		if page, err := Parse("x", source); err == nil || !strings.HasPrefix(err.Error(), "x.md:") {
			t.Errorf("%q: %v, %v", source, page, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("# A\n\n``` \n```\n|\n||\n- \n1. x\n  y")
	f.Fuzz(func(t *testing.T, source string) {
		if page, err := Parse("x", source); err == nil {
			_, _ = page.Plain(), page.Roff("x", 7, "v1")
		}
	})
}

// Every attribute of the schema is explained by the example, each block by this package, and every
// comment of the example is one of an attribute.
func TestReference(t *testing.T) {
	page, err := Find(referenceTopic)
	if err != nil {
		t.Fatal(err)
	}
	texts, text := comments(config.FullExample()), strings.Join(strings.Fields(page.Plain()), " ")
	for _, block := range config.Reference() {
		if block.Path != "" && purposes[block.Path] == "" {
			t.Errorf("block %q has no purpose", block.Path)
		}
		for _, a := range block.Attributes {
			if len(texts.of(block.Path, a.Name)) < 10 {
				t.Errorf("block %q: the example does not explain %s: %q", block.Path, a.Name, texts.of(block.Path, a.Name))
			}
		}
	}
	for _, want := range []string{
		"- `deadline`: duration; by default depends on the protocol; since 0.1.0. Every request is",
		"backend \"jsxc\" NAME Nextcloud with", "- `url`: text; required; since 0.1.0. The API address in the",
		"- `fold_case`: true or false; default `false`; since 0.2.0. true if the application",
		"cache (in registry) The cache of each",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
}

// Commented lines of an example are read like others.
func TestComments(t *testing.T) {
	const example = `# not of an attribute
# listen "x" {
#   # the first
#   address = "a"
#   deadline = "9s"
#
#   mode = "0660"
# }
# One
# text
data_dir = "x"
backend "jsxc" "y" {
  # As for x.
  url = "u"
  # of two
  # lines
  slots = 1
}
backend "json" "y" {
  slots = 2
}
`
	got := comments(example)
	for key, want := range map[string]string{
		"listen/address": "the first", "listen/deadline": "the first", "listen/mode": "", "/data_dir": "One text",
		"backend jsxc/url": "", "backend jsxc/slots": "of two lines", "backend json/slots": "of two lines",
	} {
		path, name, _ := strings.Cut(key, "/")
		if text := got.of(path, name); text != want {
			t.Errorf("%s: %q, want %q", key, text, want)
		}
	}
}
