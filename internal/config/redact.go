package config

import (
	"regexp"
	"strings"
)

// Replacements for text that may be a secret.
const (
	hiddenValue = "(value not shown)"
	hiddenLine  = "(line not shown: it may hold a secret)"
)

// redactor decides how much of a line may be quoted. Its rules work on the text of the line
// alone, without the values and marks of an evaluated file, because lines are quoted above all
// when the file does not parse: a missing quotation mark changes the meaning of all that follows.
// So a line is shown only as far as it is recognised.
type redactor struct {
	// assignment is a name with the sign after it, also in the form of JSON or YAML, which
	// are frequent mistakes.
	assignment *regexp.Regexp
	// harmless has no text of its own: references, brackets, and calls that name a file or
	// a variable.
	harmless *regexp.Regexp
	// opening is a single name with the sign after it.
	opening *regexp.Regexp
	// firstWord is the word that a line begins with.
	firstWord *regexp.Regexp
}

func newRedactor() *redactor {
	return &redactor{
		assignment: regexp.MustCompile(`([A-Za-z_][\w-]*)(?:"?\s*=|"\s*:)|^\s*([A-Za-z_][\w-]*)\s*:`),
		harmless: regexp.MustCompile(
			`^(?:[\s\[\](){},]|backend(?:\.[\w-]+)+|(?:file|env|credential)\(\s*"[^"]*"\s*\))*$`),
		opening:   regexp.MustCompile(`^\s*[A-Za-z_][\w-]*\s*[=:]$`),
		firstWord: regexp.MustCompile(`^\s*([A-Za-z_][\w-]*)`),
	}
}

// line returns a line without the text that may be a secret.
func (r *redactor) line(line string) string {
	line = cutComment(line)
	for _, m := range r.assignment.FindAllStringSubmatchIndex(line, -1) {
		from, to := m[2], m[3]
		if from < 0 {
			from, to = m[4], m[5]
		}
		if publicWord(line[from:to]) {
			continue
		}
		if r.harmless.MatchString(line[m[1]:]) {
			break
		}
		if line = r.head(line[:m[1]]); !strings.HasSuffix(line, hiddenLine) {
			line += " " + hiddenValue
		}
		return line
	}
	return r.head(line)
}

// head returns a text that assigns no secret, if its start is recognised.
func (r *redactor) head(text string) string {
	if from := strings.Index(text, "://"); from >= 0 {
		// The text before the @ of a URL may be a password.
		if at := strings.LastIndexByte(text, '@'); at > from {
			text = text[:from] + "://(not shown)" + text[at:]
		}
	}
	if r.harmless.MatchString(text) || r.opening.MatchString(text) {
		return text
	}
	if m := r.firstWord.FindStringSubmatch(text); m != nil && (blockWord(m[1]) || publicWord(m[1])) {
		return text
	}
	if i := r.assignment.FindStringIndex(text); i != nil && r.opening.MatchString(text[:i[1]]) {
		return text // a secret's name with a harmless value
	}
	return text[:len(text)-len(strings.TrimLeft(text, " \t"))] + hiddenLine
}

// cutComment drops a comment, which may hold anything. It begins at a comment sign with paired
// quotation marks before it.
func cutComment(line string) string {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '"':
			quoted = !quoted
		case line[i] == '\\' && quoted:
			i++
		case quoted:
		case line[i] == '#', strings.HasPrefix(line[i:], "//"), strings.HasPrefix(line[i:], "/*"):
			return strings.TrimRight(line[:i], " \t")
		}
	}
	return line
}
