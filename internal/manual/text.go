package manual

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// textWidth is the width of printed lines; tables and fenced blocks may be wider.
const (
	textWidth  = 80
	tableWidth = 100
	narrow     = 30 // the most characters of the first column of a table of two; with more, it is a list
)

// Plain returns the page as a terminal shows it.
func (p *Page) Plain() string {
	var b strings.Builder
	last := Comment
	for _, block := range p.Blocks {
		if block.Kind == Comment {
			continue
		}
		if b.Len() > 0 && (block.Kind != Item || last != Item) {
			b.WriteString("\n")
		}
		last = block.Kind
		switch block.Kind {
		case Heading:
			text := plain(block.Text)
			if block.Level == 1 {
				text = strings.ToUpper(text)
			}
			b.WriteString(text + "\n")
		case Text:
			wrap(&b, plain(block.Text), "", "", textWidth)
		case Item:
			wrap(&b, plain(block.Text), block.Marker+" ", strings.Repeat(" ", len(block.Marker)+1), textWidth)
		case Code:
			for _, line := range block.Lines {
				b.WriteString(strings.TrimRight("    "+line, " ") + "\n")
			}
		case Table:
			plainTable(&b, block.Rows)
		}
	}
	return b.String()
}

// plain returns a text with its inline marks as plain text has them.
func plain(text string) string {
	var b strings.Builder
	for _, s := range spans(text) {
		switch {
		case s.mark == '`':
			b.WriteString("`" + s.text + "`")
		case s.mark != '[':
			b.WriteString(s.text)
		case topicOf(s.url) != "":
			fmt.Fprintf(&b, "%s (`postern help %s`)", s.text, topicOf(s.url))
		default:
			b.WriteString(s.text + " (" + place(s.url) + ")")
		}
	}
	return b.String()
}

// place is the address of a link: a URL, or a path in the repository.
func place(url string) string { return strings.TrimPrefix(url, "../../../") }

// wrap writes a text in lines of a width, the first and the others after a prefix.
func wrap(b *strings.Builder, text, first, others string, width int) {
	for _, line := range lines(text, width-len(others)) {
		b.WriteString(first + line + "\n")
		first = others
	}
}

// lines breaks a text at blanks, but not within code.
func lines(text string, width int) []string {
	var out []string
	line := ""
	for _, word := range words(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			out = append(out, line)
			line = word
		default:
			line += " " + word
		}
	}
	return append(out, line)
}

// words splits a text at blanks. Code of up to 40 bytes is one word, so that a command stays on a line.
func words(text string) []string {
	var out []string
	for i, part := range strings.Split(text, "`") {
		switch {
		case i%2 == 1 && len(part) <= 40:
			part = "`" + strings.ReplaceAll(part, " ", "\x00") + "`"
		case i%2 == 1:
			part = "`" + part + "`"
		}
		if i > 0 {
			out[len(out)-1] += part
		} else {
			out = append(out, part)
		}
	}
	fields := strings.Fields(out[0])
	for i := range fields {
		fields[i] = strings.ReplaceAll(fields[i], "\x00", " ")
	}
	return fields
}

// asList reports whether a table is printed as a list: it has two columns, and the first is wide.
func asList(rows [][]string) bool {
	return len(rows[0]) == 2 && slices.ContainsFunc(rows, func(row []string) bool {
		return utf8.RuneCountInString(plain(row[0])) > narrow
	})
}

// plainTable writes a table in columns, of which the widest are broken into lines.
func plainTable(b *strings.Builder, rows [][]string) {
	if asList(rows) {
		for _, row := range rows[1:] {
			wrap(b, plain(row[0]), "", "  ", textWidth)
			wrap(b, plain(row[1]), "    ", "    ", textWidth)
		}
		return
	}
	widths, texts := make([]int, len(rows[0])), make([][]string, len(rows))
	total := 2 * len(widths)
	for r, row := range rows {
		for c, cell := range row {
			texts[r] = append(texts[r], plain(cell))
			widths[c] = max(widths[c], utf8.RuneCountInString(texts[r][c]))
		}
	}
	for _, w := range widths {
		total += w
	}
	for ; total > tableWidth; total-- {
		widths[slices.Index(widths, slices.Max(widths))]--
	}
	for r, row := range texts {
		plainRow(b, row, widths)
		if r == 0 {
			rule := make([]string, len(widths))
			for c, w := range widths {
				rule[c] = strings.Repeat("-", w)
			}
			plainRow(b, rule, widths)
		}
	}
}

// plainRow writes a row of a table, in as many lines as its cells need.
func plainRow(b *strings.Builder, row []string, widths []int) {
	cells, height := make([][]string, len(row)), 0
	for c, cell := range row {
		cells[c] = lines(cell, widths[c])
		height = max(height, len(cells[c]))
	}
	for h := range height {
		line := ""
		for c := range cells {
			text := ""
			if h < len(cells[c]) {
				text = cells[c][h]
			}
			line += text + strings.Repeat(" ", max(widths[c]-utf8.RuneCountInString(text), 0)+2)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}
