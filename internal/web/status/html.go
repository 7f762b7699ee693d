package status

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"postern/internal/recent"
	"postern/internal/web"
	"postern/internal/web/session"
	"postern/internal/web/signin"
)

// Paths of the page.
const (
	overviewPath  = "/"
	decisionsPath = "/decisions"
	limitsPath    = "/limits"
	forgetPath    = "/limits/forget"
	systemPath    = "/system"
	doctorPath    = "/system/doctor"
	jsonPath      = "/status.json"
)

var links = []web.Link{{Path: overviewPath, Text: "Overview"}, {Path: decisionsPath, Text: "Decisions"}, {Path: limitsPath, Text: "Limits"}, {Path: systemPath, Text: "System"}}

// site is beside the name of postern in the header, and on the page of the sign-in.
const site = "status"

// document is the page around a content.
func document(v *View, s *session.Session, path, title string) web.Document {
	return web.Document{
		Title: title, Site: site, Path: path, Links: links, Account: signin.Who(s, "Sign out"),
		Footer: "postern " + v.Version + " on " + v.Node + ". All times are UTC.",
	}
}

// heading is a page's title, with when it was made.
func heading(v *View, title string, live bool) g.Node {
	return h.Div(h.Class("heading"), h.H1(g.Text(title)),
		h.Div(h.Class("right"),
			part("clock", h.Span(g.Text("As of "+v.At.Format(time.TimeOnly)))),
			g.If(live, h.Button(h.Type("button"), h.Class("small"), h.Data("live-control", ""), h.Aria("pressed", "true"), h.Hidden("hidden"), g.Text("Live: on")))))
}

// part is what the script loads again.
func part(name string, content ...g.Node) g.Node {
	return h.Div(h.Data("part", name), g.Group(content))
}

func card(title string, content ...g.Node) g.Node {
	return h.Section(h.Class("card"), h.H2(g.Text(title)), g.Group(content))
}

func badge(class, text string) g.Node { return h.Span(h.Class("badge "+class), g.Text(text)) }

// overview is the first page.
func overview(v *View) []g.Node {
	return []g.Node{
		heading(v, "Overview", true),
		part("notes", notes(v)),
		part("tiles", tiles(v)),
		part("graph", total(v)),
		part("fronts", fronts(v)),
		part("backends", backends(v)),
		part("parts", h.Div(h.Class("grid"), cacheCard(v), storeCard(v))),
	}
}

// notes is the line that says whether all is well, or what is not.
func notes(v *View) g.Node {
	if len(v.Notes) == 0 {
		return h.Div(h.Class("alert ok"), h.P(h.Strong(g.Text("All is well.")), g.Text(" Up for "+ago(v.At.Sub(v.Started))+".")))
	}
	class := "alert warn"
	if v.Health == "failure" {
		class = "alert bad"
	}
	return h.Div(h.Class(class), g.Map(v.Notes, func(n Note) g.Node { return h.P(g.Text(n.Text)) }))
}

func tile(name, value, unit, more string) g.Node {
	return h.Div(h.Class("tile"), h.Dt(g.Text(name)),
		h.Dd(g.Text(value), g.If(unit != "", h.Span(h.Class("unit"), g.Text(" "+unit))), g.If(more != "", h.Span(h.Class("more"), g.Text(more)))))
}

func tiles(v *View) g.Node {
	hour := v.Hour
	share := func(n uint64) string {
		if hour.Total() == 0 {
			return ""
		}
		return fmt.Sprintf("%.1f %% of the hour", 100*float64(n)/float64(hour.Total()))
	}
	p50, p50Unit := took(time.Duration(hour.P50))
	p99, p99Unit := took(time.Duration(hour.P99))
	hit, hitUnit := "–", ""
	if percent, ok := hour.HitRate(); ok {
		hit, hitUnit = strconv.FormatFloat(percent, 'f', 1, 64), "%"
	}
	return h.Dl(h.Class("tiles"),
		tile("Last minute", number(v.Minute.Total()), "", number(hour.Total())+" in the hour"),
		tile("Yes", number(hour.Yes), "", share(hour.Yes)),
		tile("No", number(hour.No), "", share(hour.No)),
		tile("Temporary failure", number(hour.Temporary), "", share(hour.Temporary)),
		tile("Median time", p50, p50Unit, "of the hour"),
		tile("99th percentile", p99, p99Unit, "of the hour"),
		tile("From the cache", hit, hitUnit, "of the hour's answers"),
		tile("In flight", number(uint64(max(v.InFlight, 0))), "", plural(uint64(v.Connections), "connection", "connections")),
	)
}

// total is the graph of all listeners.
func total(v *View) g.Node {
	var minutes [recent.Minutes]Figures
	for _, f := range v.Fronts {
		for i, m := range f.Minutes {
			at := &minutes[i]
			at.Yes, at.No, at.Temporary, at.Unsupported = at.Yes+m.Yes, at.No+m.No, at.Temporary+m.Temporary, at.Unsupported+m.Unsupported
		}
	}
	return h.Section(h.Class("card"), h.Div(h.Class("title"), h.H2(g.Text("Decisions a minute")), h.Span(h.Class("muted small"), g.Text("counted since "+stamp(v.Since, v.At)))),
		graph(minutes[:], "Decisions of the last hour, by minute: "+describe(v.Hour), v.At),
		legend())
}

// describe says in words what a graph shows.
func describe(f Figures) string {
	return fmt.Sprintf("%s yes, %s no, %s", number(f.Yes), number(f.No), plural(f.Temporary, "temporary failure", "temporary failures"))
}

func legend() g.Node {
	entry := func(class, name string) g.Node {
		return h.Li(h.SVG(h.Aria("hidden", "true"), g.Attr("viewBox", "0 0 12 12"), g.El("rect", h.Class(class), g.Attr("width", "12"), g.Attr("height", "12"), g.Attr("rx", "3"))), g.Text(name))
	}
	return h.Ul(h.Class("legend"), entry("yes", "Yes"), entry("no", "No"), entry("temporary", "Temporary failure"), entry("other", "Not supported"))
}

// head is the first row of a table. Columns that begin with # have numbers.
func head(columns ...string) g.Node {
	return h.THead(h.Tr(g.Map(columns, func(name string) g.Node {
		if name != "" && name[0] == '#' {
			return h.Th(h.Scope("col"), h.Class("number"), g.Text(name[1:]))
		}
		return h.Th(h.Scope("col"), g.Text(name))
	})))
}

// cell is a field of a table, with the name of its column for narrow screens.
func cell(column string, content ...g.Node) g.Node {
	class := ""
	if column[0] == '#' {
		class, column = "number", column[1:]
	}
	return h.Td(h.Data("label", column), g.If(class != "", h.Class(class)), g.Group(content))
}

// table is a table that scrolls by itself where it is too wide.
func table(name string, head g.Node, rows ...g.Node) g.Node {
	return h.Div(h.Class("scroll"), h.Role("region"), h.Aria("label", name), h.TabIndex("0"), h.Table(h.Class("stack"), head, h.TBody(rows...)))
}

func fronts(v *View) g.Node {
	if len(v.Fronts) == 0 {
		return card("Listeners", h.P(h.Class("empty"), g.Text("No decision within the last hour.")))
	}
	shown := slices.Clone(v.Fronts)
	slices.SortStableFunc(shown, func(a, b Front) int { return cmp.Compare(b.Hour.Total(), a.Hour.Total()) })
	rows := g.Map(shown, func(f Front) g.Node {
		return h.Tr(
			h.Th(h.Scope("row"), h.A(h.Href(address(decisionsPath, "front", f.Name)), g.Text(f.Name))),
			cell("Last hour", spark(f.Minutes[:], "Decisions of "+f.Name+": "+describe(f.Hour))),
			cell("#Last minute", g.Text(number(f.Minute.Total()))),
			cell("#Yes", g.Text(number(f.Hour.Yes))),
			cell("#No", g.Text(number(f.Hour.No))),
			cell("#Temporary", g.Text(number(f.Hour.Temporary))),
			cell("#Median", g.Text(tookText(f.Hour.P50))),
			cell("#99 %", g.Text(tookText(f.Hour.P99))),
		)
	})
	return card("Listeners", table("Listeners", head("Listener", "Last hour", "#Last minute", "#Yes", "#No", "#Temporary", "#Median", "#99 %"), rows...))
}

// soon is how long a failure is a reason to call a backend unsteady.
const soon = 5 * time.Minute

func backends(v *View) g.Node {
	if len(v.Backends) == 0 {
		return card("Backends", h.P(h.Class("empty"), g.Text("The configuration has no backends; those of registered domains are not shown.")))
	}
	rows := g.Map(v.Backends, func(b Backend) g.Node {
		state := badge("ok", "up")
		said := "since " + stamp(b.Since, v.At)
		switch {
		case b.Open:
			state = badge("bad", "down")
		case b.Cause != "" && v.At.Sub(b.Failed) < soon:
			state = badge("warn", "unsteady")
		}
		return h.Tr(
			h.Th(h.Scope("row"), g.Text(b.Name)),
			cell("State", h.Span(h.Class("nowrap"), state, g.Text(" "), h.Span(h.Class("muted"), g.Text(said)))),
			cell("Slots", gauge(b.Busy, b.Limit, b.Slots)),
			cell("#Queue", g.Text(number(uint64(b.Queued)))),
			cell("Breaker", g.Text(map[bool]string{false: "closed", true: "open: not asked"}[b.Open])),
			cell("Last failure", failure(b, v.At)...),
		)
	})
	return card("Backends", table("Backends", head("Backend", "State", "Slots", "#Queue", "Breaker", "Last failure"), rows...))
}

func failure(b Backend, now time.Time) []g.Node {
	var out []g.Node
	if b.Cause != "" {
		out = append(out, h.Span(h.Class("muted"), g.Text(stamp(b.Failed, now)+" ")), g.Text(b.Cause))
	}
	if b.Withheld > 0 {
		out = append(out, h.P(h.Class("small"), g.Text(number(uint64(b.Withheld))+" logins not checked, so that it does not lock out postern")))
	}
	if b.Slowed > 0 {
		out = append(out, h.P(h.Class("small"), g.Text("It delays logins from here by "+tookText(b.Slowed))))
	}
	if out == nil {
		out = append(out, h.Span(h.Class("muted"), g.Text("none")))
	}
	return out
}

func cacheCard(v *View) g.Node {
	var users, strangers int
	for _, d := range v.Domains {
		users, strangers = users+d.Users, strangers+d.Strangers
	}
	facts := []g.Node{
		fact("Users in memory", number(uint64(users))), fact("With refusals only", number(uint64(strangers))),
		fact("From the cache", fmt.Sprintf("%s of the hour's answers, %s by backends", number(v.Hour.Remembered), number(v.Hour.Asked))),
	}
	if v.Registered > 0 {
		facts = append(facts, fact("Registered domains", fmt.Sprintf("%s, of which %s in use", number(uint64(v.Registered)), number(uint64(v.Live)))))
	}
	content := []g.Node{h.Dl(h.Class("facts"), g.Group(facts))}
	if len(v.Domains) > 0 {
		rows := g.Map(v.Domains[:min(len(v.Domains), maxDomains)], func(d Domain) g.Node {
			return h.Tr(h.Th(h.Scope("row"), g.Text(d.Name)), cell("#Users", g.Text(number(uint64(d.Users)))),
				cell("#Hashes made", g.Text(number(d.Hashes))), cell("#Compared", g.Text(number(d.Compares))))
		})
		content = append(content, table("Cache by domain", head("Domain", "#Users", "#Hashes made", "#Compared"), rows...))
		if more := len(v.Domains) - maxDomains; more > 0 {
			content = append(content, h.P(h.Class("muted small"), g.Text("and "+plural(uint64(more), "domain", "domains")+" more")))
		}
	}
	return card("Cache", content...)
}

// maxDomains bounds the table of domains: a file may have thousands.
const maxDomains = 25

func fact(name, value string) g.Node {
	return g.Group([]g.Node{h.Dt(g.Text(name)), h.Dd(g.Text(value))})
}

func storeCard(v *View) g.Node {
	s := v.Store
	state, kind := badge("ok", "works"), map[string]string{"disk": "On the disk of this machine", "shared": "Shared by several machines", "none": "None: the cache is in memory"}[s.Kind]
	switch {
	case s.Failed != "":
		state = badge("bad", "failed")
	case s.Shared != nil && !s.Shared.Connected:
		state = badge("bad", "away")
	case s.Kind == "none":
		state = badge("", "not used")
	}
	facts := []g.Node{fact("Kind", kind)}
	if s.Failed != "" {
		facts = append(facts, fact("Why", s.Failed))
	}
	if s.Bytes > 0 {
		facts = append(facts, fact("Size", size(s.Bytes)))
	}
	if s.Shared != nil {
		facts = append(facts, fact("Lag", tookText(s.Shared.Lag)), fact("Round trips", number(s.Shared.RoundTrips)),
			fact("Changes by other nodes", number(s.Shared.Invalidations)), fact("Times lost", number(s.Shared.Losses)))
	}
	facts = append(facts, fact("This node", v.Node))
	return h.Section(h.Class("card"), h.Div(h.Class("title"), h.H2(g.Text("Store")), state), h.Dl(h.Class("facts"), g.Group(facts)))
}

// decisionsPage lists the last decisions that the filter selects.
func decisionsPage(v *View, f recent.Filter) []g.Node {
	field := func(id, name, value, list string) g.Node {
		return h.Div(h.Class("field"), h.Label(h.For(id), g.Text(name)), h.Input(h.ID(id), h.Name(id), h.Type("search"), h.Value(value), h.MaxLength("256")))
	}
	option := func(value, name string) g.Node {
		return h.Option(h.Value(value), g.If(value == f.Verdict, h.Selected()), g.Text(name))
	}
	userName := "User"
	if v.Privacy {
		userName = "User (whole name)"
	}
	filter := h.Form(h.Class("filter"), h.Method("get"), h.Action(decisionsPath), h.Role("search"),
		field("user", userName, f.User, ""), field("domain", "Domain", f.Domain, ""), field("front", "Listener", f.Front, ""),
		h.Div(h.Class("field"), h.Label(h.For("verdict"), g.Text("Verdict")), h.Select(h.ID("verdict"), h.Name("verdict"),
			option("", "All"), option("allow", "Yes"), option("deny", "No"), option("unavailable", "Temporary failure"), option("unsupported", "Not supported"))),
		h.Div(h.Button(h.Type("submit"), h.Class("primary"), g.Text("Filter")), g.Text(" "), h.A(h.Class("button"), h.Href(decisionsPath), g.Text("Clear"))),
	)
	return []g.Node{
		heading(v, "Decisions", true),
		h.Section(h.Class("card"), h.H2(h.Class("hidden"), g.Text("Filter")), filter),
		part("decisions", h.Section(h.Class("card"), h.Div(h.Class("title"), h.H2(g.Text("The last decisions")),
			h.Span(h.Class("muted small"), g.Text(fmt.Sprintf("%d shown; at most %d", len(v.Decisions), maxShown)))), decisionsTable(v))),
	}
}

func decisionsTable(v *View) g.Node {
	if len(v.Decisions) == 0 {
		return h.P(h.Class("empty"), g.Text("No decision is remembered that fits."))
	}
	rows := g.Map(v.Decisions, func(d Decision) g.Node {
		who := d.User
		if d.Domain != "" {
			who += "@" + d.Domain
		}
		how := d.Op
		if d.Service != "" {
			how += ", " + d.Service
		}
		return h.Tr(
			cell("Time", h.Time(h.DateTime(d.At.Format(time.RFC3339)), g.Text(stamp(d.At, v.At)))),
			cell("Account", g.Text(who)),
			cell("Verdict", verdict(d.Verdict)),
			cell("Listener", g.Text(d.Front), g.Text(" "), h.Span(h.Class("muted nowrap"), g.Text(how))),
			cell("Decided by", g.Text(d.Source)),
			cell("#Took", g.Text(tookText(d.Took))),
			cell("Client", g.If(d.Client != "", h.Span(h.Class("mono"), g.Text(d.Client)))),
			h.Td(h.Class("wide"), g.If(d.Reason != "", h.Data("label", "Reason")), g.Text(d.Reason)),
		)
	})
	return table("The last decisions", head("Time", "Account", "Verdict", "Listener", "Decided by", "#Took", "Client", "Reason"), rows...)
}

func verdict(v string) g.Node {
	switch v {
	case "allow":
		return badge("ok", "yes")
	case "deny":
		return badge("warn", "no")
	case "unavailable":
		return badge("bad", "temporary")
	}
	return badge("", "not supported")
}

// limitsPage lists the limited users and addresses. done says what a form before has done.
func limitsPage(v *View, s *session.Session, refs []string, done string) []g.Node {
	out := []g.Node{heading(v, "Limits", true)}
	if done != "" {
		out = append(out, h.Div(h.Class("alert ok"), h.Role("status"), h.P(g.Text(done))))
	}
	if v.Limits.Failed != "" {
		out = append(out, h.Div(h.Class("alert bad"), h.P(g.Text("Some limits are not known now: "+v.Limits.Failed))))
	}
	watched := h.P(h.Class("muted small"), g.Text(plural(uint64(v.Limits.Watched), "account or address", "accounts or addresses")+" with refused passwords, but without a limit."))
	if len(v.Limits.Limited) == 0 {
		return append(out, part("limits", card("Limited", h.P(h.Class("empty"), g.Text("No account and no address is limited.")), watched)))
	}
	i := -1
	rows := g.Map(v.Limits.Limited, func(l Limited) g.Node {
		i++
		kind, until := "Account", "unknown passwords: one a minute"
		if l.Kind == Address {
			kind = "Address"
		}
		if l.Until.After(v.At) {
			until = "until " + stamp(l.Until, v.At)
		}
		return h.Tr(
			h.Th(h.Scope("row"), g.Text(l.Name)), cell("Kind", g.Text(kind)), cell("Backend", g.Text(strings.TrimPrefix(l.Backend, "backend."))),
			cell("#Refused", g.Text(number(uint64(l.Refusals)))), cell("Limited", g.Text(until)),
			h.Td(h.Form(h.Method("post"), h.Action(forgetPath), signin.TokenField(s), h.Input(h.Type("hidden"), h.Name("limit"), h.Value(refs[i])),
				h.Button(h.Type("submit"), h.Class("small danger"), g.Text("Forget"), h.Span(h.Class("hidden"), g.Text(" the limit of "+l.Name))))),
		)
	})
	return append(out, part("limits", card("Limited", table("Limited", head("Name", "Kind", "Backend", "#Refused", "Limited", "Action"), rows...), watched)))
}

// systemPage has the configuration, and what doctor finds. findings is nil until it was asked for.
func systemPage(v *View, s *session.Session, findings []Finding, asked, can bool) []g.Node {
	out := []g.Node{heading(v, "System", false)}
	file := v.Config.File
	if file == "" {
		file = "the built-in one"
	}
	state := badge("ok", "in force")
	if v.Config.Refused != "" {
		state = badge("bad", "last reload refused")
	}
	config := []g.Node{h.Div(h.Class("title"), h.H2(g.Text("Configuration")), state),
		h.Dl(h.Class("facts"), fact("File", file), fact("Read", stamp(v.Config.Loaded, v.At)), fact("Backends", number(uint64(len(v.Backends)))), fact("Domains", number(uint64(len(v.Domains)))))}
	if v.Config.Refused != "" {
		config = append(config, h.Div(h.Class("alert bad"), h.P(h.Strong(g.Text("Refused at "+stamp(v.Config.Rejected, v.At)+": ")), g.Text(v.Config.Refused))))
	}
	rows := g.Map(v.Listeners, func(l Listener) g.Node {
		return h.Tr(h.Th(h.Scope("row"), g.Text(l.Name)), cell("Protocol", g.Text(l.Protocol)), cell("Address", h.Span(h.Class("mono"), g.Text(l.Address))))
	})
	if len(rows) > 0 {
		config = append(config, table("Listeners", head("Listener", "Protocol", "Address"), rows...))
	}
	process := h.Dl(h.Class("facts"), fact("Version", v.Version), fact("Machine", v.Node), fact("Started", stamp(v.Started, v.At)+" ("+ago(v.At.Sub(v.Started))+")"),
		fact("Connections", number(uint64(v.Connections))), fact("In flight", number(uint64(max(v.InFlight, 0)))), fact("Restarts after faults", number(uint64(v.Restarts))))
	return append(out,
		h.Div(h.Class("grid"), h.Section(h.Class("card"), g.Group(config)), card("Process", process)),
		doctorCard(s, findings, asked, can))
}

func doctorCard(s *session.Session, findings []Finding, asked, can bool) g.Node {
	content := []g.Node{h.P(h.Class("muted"), g.Text("The checks of postern doctor: every step between a login and its answer. They ask the backends, and take some seconds."))}
	if can {
		content = append(content, h.Form(h.Method("post"), h.Action(doctorPath), signin.TokenField(s), h.Button(h.Type("submit"), h.Class("primary"), g.Text("Run the checks"))))
	} else {
		content = append(content, h.P(g.Text("They cannot be run from here.")))
	}
	if !asked {
		return card("Doctor", content...)
	}
	counts := map[string]uint64{}
	for _, f := range findings {
		counts[f.Status]++
	}
	class, text := "alert ok", "Nothing is wrong."
	switch {
	case counts["failure"] > 0:
		class, text = "alert bad", plural(counts["failure"], "failure", "failures")+", "+plural(counts["warning"], "warning", "warnings")+"."
	case counts["warning"] > 0:
		class, text = "alert warn", plural(counts["warning"], "warning", "warnings")+"."
	}
	order := []string{"failure", "warning", "skipped", "ok"}
	shown := slices.Clone(findings)
	slices.SortStableFunc(shown, func(a, b Finding) int {
		return slices.Index(order, a.Status) - slices.Index(order, b.Status)
	})
	rows := g.Map(shown, func(f Finding) g.Node {
		return h.Tr(
			cell("Status", badge(map[string]string{"ok": "ok", "warning": "warn", "failure": "bad"}[f.Status], f.Status)),
			h.Th(h.Scope("row"), g.Text(f.Hop+" "+f.Check)),
			h.Td(h.Class("wide"), g.Text(f.Text), g.If(f.Cure != "", h.P(h.Class("small"), h.Strong(g.Text("Remedy: ")), g.Text(f.Cure)))),
		)
	})
	return card("Doctor", append(content, h.Div(h.Class(class), h.Role("status"), h.P(g.Text(text))), table("Findings", head("Status", "Check", "Finding"), rows...))...)
}
