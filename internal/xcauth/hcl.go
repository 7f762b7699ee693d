package xcauth

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"postern/internal/auth"
	"postern/internal/config"
)

// Writer writes a configuration of postern equivalent to xcauth's options and domains.
type Writer struct {
	DataDir string
	LogFile string // empty for standard error
	Listen  bool   // on xcauth's ports
	// Secret returns an expression for a secret, such as file("..."). name is unique among the
	// secrets.
	Secret func(name string, secret auth.Secret) string
	Banner string // comment at the top

	b     strings.Builder
	names map[server]string
}

// server identifies a backend block.
type server struct{ url, secret string }

// Config returns the text of the configuration.
func (w *Writer) Config(o *Options, domains []Domain) string {
	w.b.Reset()
	w.names = map[server]string{}
	for line := range strings.Lines(w.Banner) {
		w.line("# %s", strings.TrimSpace(line))
	}
	w.line("")
	w.line("data_dir = %s", config.Quote(w.DataDir))
	if w.Listen {
		w.listeners(o)
	}
	w.line("")
	w.line("# The server for every domain without one of its own: xcauth's url and secret.")
	w.backend("default", o, server{o.URL, o.Secret.Reveal()})
	for i := range domains {
		d := &domains[i]
		if s := (server{d.URL, d.Secret.Reveal()}); w.names[s] == "" {
			w.line("")
			w.backend(w.unused(d), o, s)
		}
	}
	for _, d := range slices.SortedFunc(slices.Values(domains), func(a, b Domain) int { return strings.Compare(a.Name, b.Name) }) {
		w.domain(o, &d)
	}
	w.line("")
	w.line("# Every other domain. If you know the domains that you serve, name them instead: clients")
	w.line("# cannot ask about any other then.")
	w.domain(o, &Domain{Name: "*", URL: o.URL, Secret: o.Secret})
	w.log(o)
	return w.b.String()
}

func (w *Writer) line(format string, args ...any) {
	fmt.Fprintf(&w.b, format, args...)
	w.b.WriteByte('\n')
}

func (w *Writer) listeners(o *Options) {
	w.line("")
	w.line("# The ports of xcauth's socket units. They listened on [::1], too: for that, repeat a block")
	w.line(`# with another label, its protocol and address = "[::1]:PORT".`)
	w.line(`listen "ejabberd" { address = "127.0.0.1:23662" }`)
	w.line(`listen "generic" { address = "127.0.0.1:23663" }`)
	w.line(`listen "tcp_table" { address = "127.0.0.1:23665" }`)
	w.line(`listen "saslauthd" { address = "127.0.0.1:23666" }`)
	protocol := Protocol(o.Type)
	if protocol == "" {
		protocol = "ejabberd"
	}
	w.line("")
	w.line("# A server that started xcauth by itself, such as ejabberd in extauth_program, starts now")
	w.line("#     /usr/bin/postern pipe --protocol %s", protocol)
	w.line("# which finds the daemon here. Only these users may connect, and make changes as with xcauth.")
	w.line(`listen "relay" {`)
	w.line(`  users   = ["ejabberd", "prosody"]`)
	w.line(`  changes = true`)
	w.line(`}`)
}

func (w *Writer) backend(name string, o *Options, s server) {
	w.names[s] = name
	w.line("backend \"jsxc\" %s {", config.Quote(name))
	w.line("  url             = %s", config.Quote(s.url))
	w.line("  secret          = %s", w.Secret(name, auth.NewSecret(s.secret)))
	w.line("  connect_timeout = %s", duration(o.ConnectTimeout))
	w.line("  timeout         = %s", duration(max(o.ReadTimeout, o.ConnectTimeout)))
	w.line("}")
}

// unused returns a name for a domain's backend: that of the server, with a number if it is taken.
func (w *Writer) unused(d *Domain) string {
	host := d.Name
	if u, err := url.Parse(d.URL); err == nil {
		host = u.Hostname()
	}
	base := "s_" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, strings.ToLower(host))
	base = base[:min(len(base), 50)]
	taken := slices.Collect(maps.Values(w.names))
	name := base
	for n := 2; slices.Contains(taken, name); n++ {
		name = fmt.Sprintf("%s_%d", base, n)
	}
	return name
}

func (w *Writer) domain(o *Options, d *Domain) {
	w.line("")
	w.line("domain %s {", config.Quote(d.Name))
	w.line("  backends = [backend.jsxc.%s]", w.names[server{d.URL, d.Secret.Reveal()}])
	if d.AuthDomain != "" {
		w.line("  auth_domain = %s", config.Quote(d.AuthDomain))
	}
	w.line("  cache {")
	w.line("    storage     = %s", config.Quote(storage(o.Storage)))
	w.line("    query_ttl   = %s", duration(o.QueryTTL))
	w.line("    verify_ttl  = %s", duration(o.VerifyTTL))
	w.line("    outage_ttl  = %s", duration(o.OutageTTL))
	w.line("    bcrypt_cost = %d", o.BcryptCost)
	w.line("  }")
	if o.Ejabberdctl != "" {
		w.line("  roster \"ejabberd\" {")
		w.line("    ejabberdctl  = %s", config.Quote(o.Ejabberdctl))
		w.line("    min_interval = %s", duration(o.RosterInterval))
		if len(o.RosterForeign) > 0 {
			quoted := make([]string, len(o.RosterForeign))
			for i, name := range o.RosterForeign {
				quoted[i] = config.Quote(name)
			}
			w.line("    foreign      = [%s]", strings.Join(quoted, ", "))
		}
		w.line("  }")
	}
	w.line("}")
}

func storage(word string) string {
	if word == "db" {
		return "disk"
	}
	return word
}

func (w *Writer) log(o *Options) {
	w.line("")
	w.line("log {")
	if o.Debug {
		w.line(`  level = "debug"`)
	} else {
		w.line(`  level = "info"`)
	}
	if w.LogFile != "" {
		w.line("  file  = %s", config.Quote(w.LogFile))
	}
	w.line("}")
}

// duration writes a duration in its largest unit without a remainder.
func duration(d time.Duration) string {
	for _, u := range units {
		if d >= u.unit && d%u.unit == 0 {
			return fmt.Sprintf(`"%d%s"`, d/u.unit, u.name)
		}
	}
	return fmt.Sprintf(`"%dms"`, d.Milliseconds())
}

// SocketNames rewrites LISTEN_FDNAMES, with xcauth's names, for count sockets. Sockets that are not
// named after a protocol get that of --type.
func SocketNames(names string, count int, kind string) string {
	given := strings.Split(names, ":")
	list := make([]string, 0, max(count, 0))
	for i := range count {
		name := ""
		if i < len(given) {
			name = given[i]
		}
		switch name {
		case "generic", "prosody", "ejabberd", "saslauthd", "postfix":
		default:
			if name = Protocol(kind); name == "" {
				name = "generic"
			}
		}
		list = append(list, Protocol(name))
	}
	return strings.Join(list, ":")
}
