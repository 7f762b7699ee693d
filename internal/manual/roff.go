package manual

import (
	"fmt"
	"strings"
)

// ManName returns the name and section of the man page.
func (p *Page) ManName() (name string, section int) {
	if p.Topic == referenceTopic {
		return p.Topic, 5
	}
	return "postern-" + p.Topic, 7
}

// manReference returns how a man page refers to the page of a topic.
func manReference(topic string) string {
	name, section := (&Page{Topic: topic}).ManName()
	return fmt.Sprintf(`\fB%s\fP(%d)`, roffCode(name), section)
}

// Roff returns the page as a man page of a name and section. Version is that of the program.
func (p *Page) Roff(name string, section int, version string) string {
	var b strings.Builder
	b.WriteString("'\\\" t\n.\\\" Generated from the program; do not edit.\n") // t: has tables
	fmt.Fprintf(&b, ".TH %q %d \"\" %q \"postern manual\"\n.nh\n.ad l\n", strings.ToUpper(name), section, "postern "+version)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roffCode(name), roffText(p.Title))
	sectioned := false
	for _, block := range p.Blocks[1:] {
		if !sectioned && block.Kind != Comment && block.Kind != Heading {
			b.WriteString(".SH DESCRIPTION\n")
		}
		sectioned = sectioned || block.Kind != Comment
		p.roffBlock(&b, block)
	}
	return b.String()
}

func (p *Page) roffBlock(b *strings.Builder, block Block) {
	switch block.Kind {
	case Comment:
	case Heading:
		macro := ".SH "
		if block.Level > 2 {
			macro = ".SS "
		}
		b.WriteString(macro + roffText(block.Text) + "\n")
	case Text:
		b.WriteString(".PP\n" + roffText(block.Text) + "\n")
	case Item:
		marker := `\(bu`
		if block.Marker != "-" {
			marker = roffText(block.Marker)
		}
		fmt.Fprintf(b, ".IP \"%s\" 4\n%s\n", marker, roffText(block.Text))
	case Code:
		b.WriteString(".PP\n.in +4n\n.nf\n")
		for _, line := range block.Lines {
			b.WriteString(guarded(roffCode(line)) + "\n")
		}
		b.WriteString(".fi\n.in\n")
	case Table:
		roffTable(b, block.Rows)
	}
}

// roffTable writes a table for tbl(1). The widest column takes what the others leave of the line, and
// is broken into lines.
func roffTable(b *strings.Builder, rows [][]string) {
	if asList(rows) {
		for _, row := range rows[1:] {
			fmt.Fprintf(b, ".TP\n%s\n%s\n", roffText(row[0]), roffText(row[1]))
		}
		return
	}
	widths := make([]int, len(rows[0]))
	widest := 0
	for _, row := range rows {
		for c, cell := range row {
			widths[c] = max(widths[c], len(plain(cell)))
		}
	}
	for c := range widths {
		if widths[c] > widths[widest] {
			widest = c
		}
	}
	b.WriteString(".PP\n.TS\n")
	b.WriteString(columns(len(widths), widest, "lb") + "\n" + columns(len(widths), widest, "l") + ".\n")
	for _, row := range rows {
		for c, cell := range row {
			if c > 0 {
				b.WriteString("\t")
			}
			if c == widest {
				b.WriteString("T{\n" + roffText(cell) + "\nT}")
			} else {
				b.WriteString(roffText(cell))
			}
		}
		b.WriteString("\n")
	}
	b.WriteString(".TE\n")
}

// columns is a line of a table's format.
func columns(n, widest int, font string) string {
	all := make([]string, n)
	for c := range all {
		all[c] = font
	}
	all[widest] += "x"
	return strings.Join(all, " ")
}

// roffText returns a text with its inline marks as roff has them.
func roffText(text string) string {
	var b strings.Builder
	for _, s := range spans(text) {
		switch {
		case s.mark == '`' || s.mark == '*':
			b.WriteString(`\fB` + roffCode(s.text) + `\fP`)
		case s.mark != '[':
			b.WriteString(roffPlain.Replace(s.text))
		case topicOf(s.url) != "":
			fmt.Fprintf(&b, "%s (%s)", roffPlain.Replace(s.text), manReference(topicOf(s.url)))
		default:
			b.WriteString(roffPlain.Replace(s.text) + " (" + roffCode(place(s.url)) + ")")
		}
	}
	return guarded(b.String())
}

var (
	roffPlain = strings.NewReplacer(`\`, `\e`)
	// In code the characters are those of ASCII, so that it can be copied.
	roffASCII = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "~", `\(ti`, "^", `\(ha`)
)

func roffCode(text string) string { return roffASCII.Replace(text) }

// guarded keeps a line from being read as a request of roff.
func guarded(line string) string {
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		return `\&` + line
	}
	return line
}
