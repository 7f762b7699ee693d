package config

import (
	"regexp"
	"strings"
)

// What stands in place of a text that may be a secret.
const (
	hiddenValue = "(value not shown)"
	hiddenLine  = "(line not shown: it may hold a secret)"
)

// redactor decides how much of a line may be quoted. Its rules work on the line's
// text alone, because a line is quoted above all when the file around it is broken:
// they must hold when a quotation mark is missing and everything after it means
// something else. So a line is shown only as far as it is recognised.
type redactor struct {
	// assignment is a name with what gives it a value; also as JSON or YAML would
	// write it, for people do.
	assignment *regexp.Regexp
	// harmless holds no text of its own: references, brackets, and calls that name
	// a file or variable.
	harmless *regexp.Regexp
	// opening is a single name that is about to get a value.
	opening *regexp.Regexp
	// firstWord is what a line starts with.
	firstWord *regexp.Regexp
}

func newRedactor() *redactor {
	return &redactor{
		assignment: regexp.MustCompile(`([A-Za-z_][\w-]*)(?:"?\s*=|"\s*:)|^\s*([A-Za-z_][\w-]*)\s*:`),
		harmless: regexp.MustCompile(
			`^(?:[\s\[\](){},]|backend(?:\.[\w-]+)+|(?:file|env)\(\s*"[^"]*"\s*\))*$`),
		opening:   regexp.MustCompile(`^\s*[A-Za-z_][\w-]*\s*[=:]$`),
		firstWord: regexp.MustCompile(`^\s*([A-Za-z_][\w-]*)`),
	}
}

// line returns a line as it may be shown to anybody.
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

// head returns a text in which no secret gets a value, if its start is recognised.
func (r *redactor) head(text string) string {
	if from := strings.Index(text, "://"); from >= 0 {
		// What stands before the @ of a URL may be a password.
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

// cutComment drops a comment, which may hold anything. Its sign counts when the
// quotation marks before it are paired.
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
