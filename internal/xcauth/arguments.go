package xcauth

import (
	"strings"

	"github.com/spf13/pflag"
)

// xcauth's command lines are read by the rules of Python's argparse, which pflag does not have:
// long options may be abbreviated, an option may take several values, a value may be a negative
// number but otherwise not begin with a dash, and there are no positional arguments.

// setting is an option on a command line or in a file, with its values.
type setting struct {
	flag   *pflag.Flag
	values []string
}

// multiple is the value of a flag that takes n arguments.
type multiple struct {
	n   int
	set func(values []string) error
}

// Set implements pflag.Value.
func (m multiple) Set(text string) error { return m.set([]string{text}) }

// String implements pflag.Value.
func (multiple) String() string { return "" }

// Type implements pflag.Value.
func (multiple) Type() string { return "" }

// count returns how many values a flag takes.
func count(f *pflag.Flag) int {
	if m, ok := f.Value.(multiple); ok {
		return m.n
	}
	if f.NoOptDefVal != "" { // a boolean
		return 0
	}
	return 1
}

// apply sets the flag.
func (s setting) apply() error {
	var err error
	switch m, ok := s.flag.Value.(multiple); {
	case ok:
		err = m.set(s.values)
	case len(s.values) == 0:
		err = s.flag.Value.Set("true")
	default:
		err = s.flag.Value.Set(s.values[0])
	}
	if err != nil {
		return usage("argument %s: %v", title(s.flag), err)
	}
	return nil
}

// word is an argument: a flag, perhaps with an attached value (--name=value, -nvalue), or a value.
type word struct {
	flag     *pflag.Flag
	value    string
	attached bool
}

// arguments splits a command line into settings.
func arguments(fs *pflag.FlagSet, args []string) (list []setting, err error) {
	var words []word
	for _, arg := range args {
		more, err := classify(fs, arg)
		if err != nil {
			return nil, err
		}
		words = append(words, more...)
	}
	for i := 0; i < len(words); {
		w := words[i]
		i++
		if w.flag == nil {
			return nil, usage("unrecognized arguments: %s", withoutValue(w.value))
		}
		s, n := setting{flag: w.flag}, count(w.flag)
		if w.attached {
			s.values = []string{w.value}
		} else {
			for len(s.values) < n && i < len(words) && words[i].flag == nil {
				s.values = append(s.values, words[i].value)
				i++
			}
		}
		if len(s.values) != n || w.attached && n != 1 {
			return nil, usage("argument %s: %s", title(w.flag), expected(n))
		}
		list = append(list, s)
	}
	return list, nil
}

// withoutValue returns an argument for a message. A misplaced value may be a password.
func withoutValue(arg string) string {
	if strings.HasPrefix(arg, "--") {
		name, _, _ := strings.Cut(arg, "=")
		return name
	}
	return "a value that belongs to no option"
}

func expected(n int) string {
	return [...]string{"takes no value", "expected one argument", "expected 2 arguments", "expected 3 arguments"}[n]
}

// title is argparse's name for an option in messages.
func title(f *pflag.Flag) string {
	if f.Shorthand == "" {
		return "--" + f.Name
	}
	return "--" + f.Name + "/-" + f.Shorthand
}

// classify splits one argument into words: several, if it combines short options.
func classify(fs *pflag.FlagSet, arg string) ([]word, error) {
	value := []word{{value: arg}}
	switch {
	case len(arg) < 2 || arg[0] != '-':
		return value, nil
	case arg == "--": // only positional arguments could follow
		return nil, usage("unrecognized arguments: --")
	case arg[1] == '-':
		name, text, attached := strings.Cut(arg[2:], "=")
		f, err := findLong(fs, name)
		if err != nil {
			return nil, err
		}
		if f != nil {
			return []word{{f, text, attached}}, nil
		}
	case fs.ShorthandLookup(arg[1:2]) != nil:
		return shorts(fs, arg[1:])
	}
	if negative(arg) || strings.Contains(arg, " ") {
		return value, nil
	}
	return nil, usage("unrecognized arguments: %s", withoutValue(arg))
}

// shorts splits combined short options, the last of which may have an attached value.
func shorts(fs *pflag.FlagSet, text string) (words []word, err error) {
	for i := range len(text) {
		f := fs.ShorthandLookup(text[i : i+1])
		if f == nil {
			return nil, usage("argument -%c: takes no value", text[max(i-1, 0)])
		}
		if rest := text[i+1:]; count(f) > 0 && rest != "" {
			return append(words, word{f, strings.TrimPrefix(rest, "="), true}), nil
		}
		words = append(words, word{flag: f})
	}
	return words, nil
}

// findLong finds an option by its name or an unambiguous abbreviation. Options that are hidden
// cannot be abbreviated. It returns nil if there is none.
func findLong(fs *pflag.FlagSet, name string) (found *pflag.Flag, err error) {
	if f := fs.Lookup(name); f != nil || name == "" {
		return f, nil
	}
	fs.VisitAll(func(f *pflag.Flag) {
		if !strings.HasPrefix(f.Name, name) || f.Hidden {
			return
		}
		if found != nil && err == nil {
			err = usage("ambiguous option: --%s could match --%s, --%s", name, found.Name, f.Name)
		}
		found = f
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// negative reports whether an argument is a negative number, which argparse takes for a value.
func negative(arg string) bool {
	digits, dots := 0, 0
	for _, c := range arg[1:] {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c == '.' && dots == 0:
			dots++
		default:
			return false
		}
	}
	return digits > 0 && arg[len(arg)-1] != '.'
}
