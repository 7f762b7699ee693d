package xcauth

import "strings"

// word is an argument as argparse sees it: an option with the value that hangs on it, or a
// value. The rules are those of Python's argparse.
type word struct {
	option *option
	value  string
	hangs  bool // value belongs to the option: --name=value, -nvalue
}

// setting is an option that was given, with its values.
type setting struct {
	option *option
	values []string
}

// arguments splits a command line into settings.
func arguments(args []string) ([]setting, error) {
	var words []word
	for _, arg := range args {
		more, err := classify(arg)
		if err != nil {
			return nil, err
		}
		words = append(words, more...)
	}
	return gather(words)
}

// gather gives each option the values that follow it.
func gather(words []word) (list []setting, err error) {
	for i := 0; i < len(words); {
		w := words[i]
		i++
		if w.option == nil {
			return nil, usage("unrecognized arguments: %s", shownWord(w.value))
		}
		s := setting{option: w.option}
		if w.hangs {
			if w.option.args != 1 {
				return nil, usage("argument %s: %s", w.option.title(), expected(w.option.args))
			}
			list = append(list, setting{w.option, []string{w.value}})
			continue
		}
		for len(s.values) < w.option.args && i < len(words) && words[i].option == nil {
			s.values = append(s.values, words[i].value)
			i++
		}
		if len(s.values) < w.option.args {
			return nil, usage("argument %s: %s", w.option.title(), expected(w.option.args))
		}
		list = append(list, s)
	}
	return list, nil
}

// shownWord is an argument in a message. A value that stands where none is awaited may be a
// password.
func shownWord(value string) string {
	if strings.HasPrefix(value, "--") {
		name, _, _ := strings.Cut(value, "=")
		return name
	}
	return "a value that belongs to no option"
}

func expected(n int) string {
	switch n {
	case 0:
		return "takes no value"
	case 1:
		return "expected one argument"
	case 2:
		return "expected 2 arguments"
	}
	return "expected 3 arguments"
}

// title is how argparse names an option.
func (o *option) title() string {
	if o.short == 0 {
		return "--" + o.long
	}
	return "--" + o.long + "/-" + string(o.short)
}

// classify tells what one argument is. Several short options in one are several words.
func classify(arg string) ([]word, error) {
	value := []word{{value: arg}}
	switch {
	case len(arg) < 2 || arg[0] != '-':
		return value, nil
	case arg == "--": // what follows it would belong to no option
		return nil, usage("unrecognized arguments: --")
	case arg[1] == '-':
		name, text, hangs := strings.Cut(arg[2:], "=")
		o, err := findLong(name)
		if err != nil {
			return nil, err
		}
		if o != nil {
			return []word{{option: o, value: text, hangs: hangs}}, nil
		}
	default:
		if o := findShort(arg[1]); o != nil {
			return shorts(arg[1:])
		}
	}
	if negative(arg) || strings.Contains(arg, " ") {
		return value, nil
	}
	return nil, usage("unrecognized arguments: %s", shownWord(arg))
}

// shorts reads what follows one dash: flags, and at the end an option with its value.
func shorts(text string) (words []word, err error) {
	for i := 0; i < len(text); i++ {
		o := findShort(text[i])
		if o == nil {
			return nil, usage("argument -%c: takes no value", text[max(i-1, 0)])
		}
		if rest := text[i+1:]; o.args > 0 && rest != "" {
			return append(words, word{option: o, value: strings.TrimPrefix(rest, "="), hangs: true}), nil
		}
		words = append(words, word{option: o})
	}
	return words, nil
}

func findShort(c byte) *option {
	for i := range options {
		if options[i].short == c && c != 0 {
			return &options[i]
		}
	}
	return nil
}

// findLong finds an option by its name, or by the beginning of only one.
func findLong(name string) (found *option, err error) {
	for i := range options {
		o := &options[i]
		if o.long == name {
			return o, nil
		}
		if strings.HasPrefix(o.long, name) && name != "" && !o.exact {
			if found != nil && err == nil {
				err = usage("ambiguous option: --%s could match --%s, --%s", name, found.long, o.long)
			}
			found = o
		}
	}
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
