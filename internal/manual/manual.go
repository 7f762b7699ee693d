// Package manual is postern's manual: a Markdown page for each task, which `postern help` prints and
// which becomes a man page of section 7.
//
// The pages use a small part of Markdown, which Parse reads: headings, paragraphs, lists of one
// level, tables, fenced blocks, `code`, **bold** and [links](page.md). The tests execute them, so
// each fenced block says in its info string what it is:
//
//	sh                commands, carried out in order by a user with sudo
//	LANGUAGE          a part of a file, or what a command prints; hcl is checked as configuration
//	LANGUAGE FILE     the whole of a file
//	LANGUAGE +FILE    lines to be added at the end of a file
//
// Comments are not printed. Those that begin with "test:" are instructions for the test, such as the
// text that a command reads or the imitation that stands for a server; package cmd/e2e/manual lists
// them.
package manual

import (
	"embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed pages/*.md
var files embed.FS

// Chapter is a part of the table of contents.
type Chapter struct {
	Title  string
	Topics []string
}

// Contents lists the topics in the order of the table of contents. A test compares it with the pages.
var Contents = []Chapter{
	{"Recipes, from apt to the first login", []string{"prosody", "ejabberd", "mail", "exim", "cyrus", "xcauth", "x-token"}},
	{"Subjects", []string{"nextcloud", "accounts", "app-passwords", "oidc", "webmail", "groups", "domains", "http", "tokens", "rosters", "limits", "caching", "machines"}},
	{"Operation", []string{"install", "containers", "trouble", "daily", "upgrade", "files", "ports", "metrics", "pages", "audit", "promises", "terms"}},
	{"Reference", []string{referenceTopic}},
}

// Page is a page of the manual.
type Page struct {
	Topic  string // what `postern help` calls it
	Title  string // the page's heading
	Blocks []Block
}

// Topics lists the topics of all pages in the order of Contents.
func Topics() []string {
	var all []string
	for _, c := range Contents {
		all = append(all, c.Topics...)
	}
	return all
}

// Find returns the page of a topic. It fails if there is none.
func Find(topic string) (*Page, error) {
	if !slices.Contains(Topics(), topic) {
		return nil, fmt.Errorf("there is no page %q", topic)
	}
	source, err := files.ReadFile("pages/" + topic + ".md")
	if err != nil {
		return nil, err
	}
	page, err := Parse(topic, string(source))
	if err == nil && topic == referenceTopic {
		page.Blocks = append(page.Blocks, reference()...)
	}
	return page, err
}

// List prints the table of contents, a line for each topic.
func List() (string, error) {
	var b strings.Builder
	for _, chapter := range Contents {
		fmt.Fprintf(&b, "%s:\n", chapter.Title)
		for _, topic := range chapter.Topics {
			page, err := Find(topic)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&b, "  %-14s %s\n", topic, page.Title)
		}
		b.WriteString("\n")
	}
	return b.String(), nil
}
