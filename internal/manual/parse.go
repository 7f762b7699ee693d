package manual

import (
	"fmt"
	"regexp"
	"strings"
)

// Kind is the kind of a Block.
type Kind int

// The kinds of blocks.
const (
	Heading Kind = iota // Text, Level
	Text                // Text
	Item                // of a list: Text, Marker, which is "-" for a bullet
	Code                // Info, Lines
	Table               // Rows, the first of which is the heading
	Comment             // Text, without the marks
)

// Block is a part of a page. Text is on one line and may have inline marks.
type Block struct {
	Kind   Kind
	Line   int // of the source, from 1
	Level  int // of a heading, from 1
	Marker string
	Text   string
	Info   string
	Lines  []string
	Rows   [][]string
}

var (
	headingLine = regexp.MustCompile(`^(#{1,3}) (.+)$`)
	itemLine    = regexp.MustCompile(`^(- |\d+\. )(.+)$`)
	ruleLine    = regexp.MustCompile(`^\|( *-+ *\|)+$`)
)

// parser reads a page line by line.
type parser struct {
	page  *Page
	lines []string
	at    int // index of the next line
}

// Parse reads the source of a page. It fails on what the printers do not know, with the line.
func Parse(topic, source string) (*Page, error) {
	p := &parser{page: &Page{Topic: topic}, lines: strings.Split(strings.TrimRight(source, "\n"), "\n")}
	for p.at < len(p.lines) {
		if err := p.block(); err != nil {
			return nil, fmt.Errorf("%s.md:%d: %w", topic, p.at+1, err)
		}
	}
	if len(p.page.Blocks) == 0 || p.page.Blocks[0].Kind != Heading || p.page.Blocks[0].Level != 1 {
		return nil, fmt.Errorf("%s.md: the first line must be a heading", topic)
	}
	p.page.Title = p.page.Blocks[0].Text
	return p.page, nil
}

// block reads the block that begins at the next line.
func (p *parser) block() error {
	line := p.lines[p.at]
	switch {
	case line == "":
		p.at++
	case strings.HasPrefix(line, "```"):
		return p.code(line)
	case strings.HasPrefix(line, "<!--"):
		text, closed := strings.CutSuffix(strings.TrimPrefix(line, "<!--"), "-->")
		if !closed {
			return fmt.Errorf("a comment must end on its line")
		}
		p.add(Block{Kind: Comment, Text: strings.TrimSpace(text)})
		p.at++
	case strings.HasPrefix(line, "|"):
		return p.table()
	case headingLine.MatchString(line):
		m := headingLine.FindStringSubmatch(line)
		p.add(Block{Kind: Heading, Level: len(m[1]), Text: m[2]})
		p.at++
	case itemLine.MatchString(line):
		m := itemLine.FindStringSubmatch(line)
		b := Block{Kind: Item, Marker: strings.TrimSpace(m[1]), Text: m[2]}
		p.add(b)
		p.at++
		p.join(func(next string) bool { return strings.HasPrefix(next, "  ") })
	case strings.HasPrefix(line, " "), strings.HasPrefix(line, ">"), strings.HasPrefix(line, "#"):
		return fmt.Errorf("not a kind of block that manual pages have: %q", line)
	default:
		p.add(Block{Kind: Text, Text: line})
		p.at++
		p.join(func(next string) bool {
			return !strings.HasPrefix(next, "```") && !strings.HasPrefix(next, "|") && !strings.HasPrefix(next, "<!--") &&
				!headingLine.MatchString(next) && !itemLine.MatchString(next)
		})
	}
	return nil
}

func (p *parser) add(b Block) {
	b.Line = p.at + 1
	p.page.Blocks = append(p.page.Blocks, b)
}

// join adds the next lines to the text of the last block as long as they belong to it.
func (p *parser) join(belongs func(next string) bool) {
	last := &p.page.Blocks[len(p.page.Blocks)-1]
	for ; p.at < len(p.lines) && p.lines[p.at] != "" && belongs(p.lines[p.at]); p.at++ {
		last.Text += " " + strings.TrimSpace(p.lines[p.at])
	}
}

// code reads a fenced block.
func (p *parser) code(first string) error {
	b := Block{Kind: Code, Info: strings.TrimPrefix(first, "```"), Line: p.at + 1}
	if b.Info == "" {
		return fmt.Errorf("a fenced block must say what it is")
	}
	for i := p.at + 1; i < len(p.lines); i++ {
		if p.lines[i] == "```" {
			p.page.Blocks = append(p.page.Blocks, b)
			p.at = i + 1
			return nil
		}
		b.Lines = append(b.Lines, p.lines[i])
	}
	return fmt.Errorf("the fenced block has no end")
}

// table reads a table, whose second line is a rule.
func (p *parser) table() error {
	b := Block{Kind: Table, Line: p.at + 1}
	for ; p.at < len(p.lines) && strings.HasPrefix(p.lines[p.at], "|"); p.at++ {
		line := p.lines[p.at]
		if len(b.Rows) == 1 && ruleLine.MatchString(line) {
			continue
		}
		row := cells(line)
		if len(b.Rows) > 0 && len(row) != len(b.Rows[0]) {
			return fmt.Errorf("a row of %d cells in a table of %d", len(row), len(b.Rows[0]))
		}
		b.Rows = append(b.Rows, row)
	}
	p.page.Blocks = append(p.page.Blocks, b)
	return nil
}

// cells splits a row of a table; \| is a bar.
func cells(line string) []string {
	line = strings.ReplaceAll(strings.Trim(strings.TrimSpace(line), "|"), `\|`, "\x00")
	var row []string
	for cell := range strings.SplitSeq(line, "|") {
		row = append(row, strings.ReplaceAll(strings.TrimSpace(cell), "\x00", "|"))
	}
	return row
}

// span is a piece of a text with one inline mark.
type span struct {
	mark byte // 0, '`' for code, '*' for bold, '[' for a link
	text string
	url  string // of a link
}

var inline = regexp.MustCompile("`([^`]+)`" + `|\*\*([^*]+)\*\*|\[([^\]]+)\]\(([^)]+)\)`)

// spans splits a text at its inline marks.
func spans(text string) (all []span) {
	for {
		m := inline.FindStringSubmatchIndex(text)
		if m == nil {
			return append(all, span{text: text})
		}
		if m[0] > 0 {
			all = append(all, span{text: text[:m[0]]})
		}
		switch {
		case m[2] >= 0:
			all = append(all, span{mark: '`', text: text[m[2]:m[3]]})
		case m[4] >= 0:
			all = append(all, span{mark: '*', text: text[m[4]:m[5]]})
		default:
			all = append(all, span{mark: '[', text: text[m[6]:m[7]], url: text[m[8]:m[9]]})
		}
		text = text[m[1]:]
	}
}

// topicOf returns the topic that a link leads to, or "" if it leads elsewhere.
func topicOf(url string) string {
	topic, page := strings.CutSuffix(url, ".md")
	if !page || strings.Contains(topic, "/") {
		return ""
	}
	return topic
}
