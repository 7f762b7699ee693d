package xcauth

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"postern/internal/config"
)

// EjabberdAuth is the settings of kongo2002's auth.py.
type EjabberdAuth struct {
	URL   string
	Log   string // the directory
	Debug bool
	Help  bool
}

// ParseEjabberdAuth reads auth.py's command line: [-h] [-l DIRECTORY] [-d] [URL].
func ParseEjabberdAuth(args []string) (*EjabberdAuth, error) {
	o := &EjabberdAuth{URL: "http://localhost:8000/auth/"}
	fs := pflag.NewFlagSet("ejabberd-auth", pflag.ContinueOnError)
	fs.BoolVarP(&o.Help, "help", "h", false, "")
	fs.BoolVarP(&o.Debug, "debug", "d", false, "")
	fs.StringVarP(&o.Log, "log", "l", "/var/log/ejabberd", "")
	if err := fs.Parse(args); err != nil {
		return nil, usage("%v", err)
	}
	switch fs.NArg() {
	case 0:
	case 1:
		o.URL = fs.Arg(0)
	default:
		return nil, usage("unrecognized arguments: %s", withoutValue(fs.Arg(1)))
	}
	return o, nil
}

// Config returns a configuration of postern that does what auth.py does.
func (o *EjabberdAuth) Config(dataDir, logFile string) string {
	w := Writer{LogFile: logFile}
	w.line("data_dir = %s", config.Quote(dataDir))
	w.line("backend \"json\" \"api\" { url = %s }", config.Quote(o.URL))
	w.line("domain \"*\" {")
	w.line("  backends = [backend.json.api]")
	w.line("  cache { storage = \"none\" }")
	w.line("}")
	w.log(&Options{Debug: o.Debug})
	return w.b.String()
}

// UsageEjabberdAuth returns the output of ejabberd-auth --help.
func UsageEjabberdAuth() string {
	return "usage: ejabberd-auth [-h] [-l DIRECTORY] [-d] [URL]\n"
}

// Usage returns the output of xcauth --help for a program of some name.
func Usage(name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "usage: %s -u URL -s SECRET (-t TYPE | -A USER DOMAIN PASSWORD | -I USER DOMAIN | -R USER DOMAIN)\n\n", name)
	b.WriteString("This is postern in the place of xcauth. Every option but -A, -I, -R and -c may stand in\n/etc/xcauth.conf, without its dashes. Options:\n\n")
	new(Options).flags().VisitAll(func(f *pflag.Flag) {
		short, value := "    ", f.Usage
		if f.Shorthand != "" {
			short = "-" + f.Shorthand + ", "
		}
		if value != "" {
			value = " " + value
		}
		if !f.Hidden {
			fmt.Fprintf(&b, "  %s--%s%s\n", short, f.Name, value)
		}
	})
	b.WriteString("\nA timespan is a whole number with s, m, h, d or w. `postern help` shows postern's own commands.\n")
	return b.String()
}

// GuessType guesses the type in a command line that has errors, so that the peer is answered in the
// right protocol. It returns "" if there is none.
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
