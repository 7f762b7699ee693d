package xcauth

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// maxConfig is the largest configuration file, in bytes.
const maxConfig = 1 << 20

// entry is one line of a configuration file.
type entry struct {
	line   int
	key    string
	values []string
	list   bool // written as [a, b, c]
}

// parseConfig reads ConfigArgParse's format: "key=value", "key: value", "key value", or "key"
// alone, which means true. The key may have a prefix "--", the value quotes, and the line a
// comment after white space. "[section]" lines and those that begin with #, ; or --- are ignored.
// The last line of a key has priority.
func parseConfig(text string) ([]entry, error) {
	if len(text) > maxConfig {
		return nil, usage("the file is too large for a configuration")
	}
	var entries []entry
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.ContainsRune("#;[", rune(line[0])) || strings.HasPrefix(line, "---") {
			continue
		}
		e, ok := parseLine(line)
		if !ok {
			return nil, usage("line %d is not understood: write key=value, or the name of a flag", number)
		}
		e.line = number
		entries = append(slices.DeleteFunc(entries, func(other entry) bool { return other.key == e.key }), e)
	}
	return entries, nil
}

const blanks = " \t\v\f"

func parseLine(line string) (e entry, ok bool) {
	end := strings.IndexAny(line, ":=;#"+blanks)
	if end == 0 {
		return e, false
	}
	if end < 0 {
		end = len(line)
	}
	e.key = strings.TrimPrefix(line[:end], "--")
	after := line[end:]
	rest := strings.TrimLeft(after, blanks)
	spaced := len(rest) < len(after)
	switch {
	case rest == "", spaced && strings.ContainsRune("#;", rune(rest[0])):
		e.values = []string{"true"}
		return e, e.key != ""
	case rest[0] == '=' || rest[0] == ':':
		rest = strings.TrimLeft(rest[1:], blanks)
	case !spaced:
		return e, false
	}
	value := cutValue(rest)
	if strings.HasPrefix(value, "[") && strings.HasSuffix(value, "]") && len(value) > 1 {
		e.list, e.values = true, parseList(value)
	} else {
		e.values = []string{value}
	}
	return e, e.key != ""
}

// cutValue removes the quotes and the comment from a value.
func cutValue(rest string) string {
	if rest == "" {
		return ""
	}
	if quote := rest[0]; quote == '"' || quote == '\'' {
		for i := 1; i < len(rest); i++ {
			if rest[i] == quote && ended(rest[i+1:]) {
				return rest[1:i]
			}
		}
	}
	for i := range rest {
		if ended(rest[i:]) {
			return rest[:i]
		}
	}
	return rest
}

// ended reports whether only white space and a comment are left. A comment needs white space
// before it.
func ended(rest string) bool {
	text := strings.TrimLeft(rest, blanks)
	return text == "" || len(text) < len(rest) && (text[0] == '#' || text[0] == ';')
}

// parseList reads a JSON list, or one without quotes.
func parseList(text string) (values []string) {
	var list []any
	if json.Unmarshal([]byte(text), &list) == nil {
		for _, v := range list {
			values = append(values, fmt.Sprint(v))
		}
		return values
	}
	for v := range strings.SplitSeq(text[1:len(text)-1], ",") {
		values = append(values, strings.TrimSpace(v))
	}
	return values
}

// settings turns the entries of a file into settings. Unknown keys, which other versions of xcauth
// left behind, cause warnings.
func settings(fs *pflag.FlagSet, entries []entry) (list []setting, warnings []string, err error) {
	for _, e := range entries {
		f, err := findLong(fs, e.key)
		if err != nil || f == nil || f.Name == "help" || f.Name == "version" {
			warnings = append(warnings, fmt.Sprintf("line %d: %q is no option and has no effect", e.line, e.key))
			continue
		}
		switch n := count(f); {
		case n == 0:
			on, known := truth(e.values)
			if !known {
				return nil, nil, usage("line %d: %s is true or false", e.line, e.key)
			}
			if on {
				list = append(list, setting{flag: f})
			}
		case len(e.values) != n:
			return nil, nil, usage("line %d: %s: %s", e.line, e.key, expected(n))
		default:
			list = append(list, setting{f, e.values})
		}
	}
	return list, warnings, nil
}

// truth reads the value of a flag.
func truth(values []string) (on, known bool) {
	if len(values) != 1 {
		return false, false
	}
	switch strings.ToLower(values[0]) {
	case "true", "yes", "1":
		return true, true
	case "false", "no", "0":
		return false, true
	}
	return false, false
}
