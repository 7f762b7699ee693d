package xcauth

import (
	"fmt"
	"strings"
)

// EjabberdAuth are the settings of kongo2002's auth.py.
type EjabberdAuth struct {
	URL   string
	Log   string // the directory
	Debug bool
	Help  bool
}

// ParseEjabberdAuth reads auth.py's command line: [-h] [-l DIRECTORY] [-d] [URL].
func ParseEjabberdAuth(args []string) (*EjabberdAuth, error) {
	o := &EjabberdAuth{URL: "http://localhost:8000/auth/", Log: "/var/log/ejabberd"}
	urls := 0
	for i := 0; i < len(args); i++ {
		name, value, hangs := strings.Cut(args[i], "=")
		switch {
		case name == "-h" || name == "--help":
			o.Help = true
		case name == "-d" || name == "--debug":
			o.Debug = true
		case name == "-l" || name == "--log":
			if !hangs {
				if i++; i == len(args) {
					return nil, usage("argument -l/--log: expected one argument")
				}
				value = args[i]
			}
			o.Log = value
		case strings.HasPrefix(args[i], "-l") && !strings.HasPrefix(args[i], "--"):
			o.Log = args[i][2:]
		case strings.HasPrefix(args[i], "-") || urls > 0:
			return nil, usage("unrecognized arguments: %s", shownWord(args[i]))
		default:
			o.URL = args[i]
			urls++
		}
	}
	return o, nil
}

// Config returns a configuration of postern that does what auth.py does.
func (o *EjabberdAuth) Config(dataDir, logFile string) string {
	w := Writer{LogFile: logFile}
	w.line("data_dir = %s", Quote(dataDir))
	w.line("backend \"json\" \"api\" { url = %s }", Quote(o.URL))
	w.line("domain \"*\" {")
	w.line("  backends = [backend.json.api]")
	w.line("  cache { storage = \"none\" }")
	w.line("}")
	w.log(&Options{Debug: o.Debug})
	return w.b.String()
}

// UsageEjabberdAuth is what --help prints.
func UsageEjabberdAuth() string {
	return "usage: ejabberd-auth [-h] [-l DIRECTORY] [-d] [URL]\n"
}

// Usage is what --help prints.
func Usage(name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "usage: %s -u URL -s SECRET (-t TYPE | -A USER DOMAIN PASSWORD | -I USER DOMAIN | -R USER DOMAIN)\n\n", name)
	b.WriteString("This is postern in the place of xcauth. Every option but -A, -I, -R and -c may stand in\n/etc/xcauth.conf, without its dashes. Options:\n\n")
	values := map[string]string{
		"auth-test": " USER DOMAIN PASSWORD", "isuser-test": " USER DOMAIN", "roster-test": " USER DOMAIN",
		"type": " generic|prosody|ejabberd|saslauthd|postfix", "cache-storage": " none|memory|db",
		"timeout": " CONNECT,READ", "cache-bcrypt-rounds": " N",
	}
	for _, o := range listed() {
		short := "    "
		if o.short != 0 {
			short = "-" + string(o.short) + ", "
		}
		value := values[o.long]
		if value == "" && o.args == 1 {
			value = " " + strings.ToUpper(o.long[strings.LastIndexByte(o.long, '-')+1:])
		}
		fmt.Fprintf(&b, "  %s--%s%s\n", short, o.long, value)
	}
	b.WriteString("\nA timespan is a whole number with s, m, h, d or w. `postern help` shows postern's own commands.\n")
	return b.String()
}

// listed are the options of version 2.
func listed() (list []*option) {
	for i := range options {
		if !options[i].exact {
			list = append(list, &options[i])
		}
	}
	return list
}

// GuessType guesses the type of a command line that cannot be read, so that its peer is answered in
// the right protocol; empty if nothing tells.
func GuessType(args []string) string {
	for i, arg := range args {
		value := ""
		switch {
		case (arg == "-t" || arg == "--type") && i+1 < len(args):
			value = args[i+1]
		case strings.HasPrefix(arg, "--type="):
			value = arg[len("--type="):]
		case strings.HasPrefix(arg, "-t"):
			value = strings.TrimPrefix(arg[2:], "=")
		}
		if value != "" {
			return value
		}
	}
	return ""
}
