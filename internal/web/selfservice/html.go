package selfservice

import (
	"net/http"
	"strconv"

	gom "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"postern/internal/apppassword"
	"postern/internal/qrcode"
	"postern/internal/unixtime"
	"postern/internal/web"
	"postern/internal/web/signin"
)

type node = gom.Node

func text(t string) node { return gom.Text(t) }

// write answers with a page.
func (v *visit) write(status int, path string, content ...node) {
	links := []web.Link{{Path: homePath, Text: v.words.home}}
	if v.Source.Changes(v.id) {
		links = append(links, web.Link{Path: passwordPath, Text: v.passwordPage})
	}
	title := v.words.home
	if path == passwordPath {
		title = v.passwordPage
	}
	web.Document{
		Lang: v.lang, Title: title, Site: v.site, Path: path, Links: links, Account: signin.Who(v.session, v.signOut), Narrow: path == passwordPath,
	}.Write(v.w, v.r, status, content...)
}

// said shows a notice; empty for none.
func said(n notice) node {
	if n.text == "" {
		return gom.Group(nil)
	}
	class, role := "alert ok", "status"
	if n.bad {
		class, role = "alert bad", "alert"
	}
	return h.Div(h.Class(class), h.Role(role), h.P(text(n.text)))
}

// homeContent shows the app passwords; can: the account can have some.
func (v *visit) homeContent(list []apppassword.Password, can bool, n notice) node {
	parts := gom.Group{h.Div(h.Class("heading"), h.H1(text(v.heading))), said(n)}
	if !can {
		return parts
	}
	return append(parts, h.P(text(v.intro)), v.list(list), v.form())
}

// list is the table of the app passwords.
func (v *visit) list(list []apppassword.Password) node {
	if len(list) == 0 {
		return h.Section(h.Class("card"), h.P(h.Class("empty"), text(v.none)))
	}
	head := func(names ...string) node {
		return h.THead(h.Tr(gom.Map(names, func(name string) node { return h.Th(h.Scope("col"), text(name)) }),
			h.Td()))
	}
	now := unixtime.At(v.Clock())
	rows := gom.Group{}
	for i := range list {
		rows = append(rows, v.row(&list[i], now))
	}
	return h.Section(h.Class("card"), h.Aria("label", v.heading), h.Div(h.Class("scroll"),
		h.Table(h.Class("stack"), head(v.name, v.use, v.last, v.ends, v.state), h.TBody(rows))))
}

// row is an app password in the table.
func (v *visit) row(p *apppassword.Password, now unixtime.Time) node {
	used := gom.Group{text(v.unused)}
	if p.Last.At != 0 {
		used = gom.Group{text(p.Last.At.Go().Format(v.time))}
		for _, part := range []string{p.Last.Service, p.Last.Client} {
			if part != "" {
				used = append(used, h.Br(), h.Span(h.Class("muted"), text(part)))
			}
		}
	}
	ends := v.never
	if p.Expires != 0 {
		ends = v.day(p.Expires.Go())
	}
	state, class := v.alive, "badge ok"
	switch {
	case p.Revoked != 0:
		state, class = v.revoked, "badge"
	case p.Expired(now):
		state, class = v.expired, "badge warn"
	}
	cell := func(label string, content ...node) node { return h.Td(h.Data("label", label), gom.Group(content)) }
	return h.Tr(
		h.Th(h.Scope("row"), text(p.Name)),
		cell(v.use, text(v.services(p.Services))), cell(v.last, used), cell(v.ends, text(ends)),
		cell(v.state, h.Span(h.Class(class), text(state))),
		h.Td(gom.If(p.Revoked == 0, h.Form(h.Method("post"), h.Action(revokePath), signin.TokenField(v.session),
			h.Input(h.Type("hidden"), h.Name("id"), h.Value(p.ID)),
			h.Button(h.Type("submit"), h.Class("danger small"), h.Aria("label", v.revokeOf+" "+p.Name), text(v.words.revoke))))),
	)
}

// choice is a field with a few values.
func choice(id, label string, options ...[2]string) node {
	return h.Div(h.Class("field"), h.Label(h.For(id), text(label)),
		h.Select(h.ID(id), h.Name(id), gom.Map(options, func(o [2]string) node { return h.Option(h.Value(o[0]), text(o[1])) })))
}

// form is the form for a new app password.
func (v *visit) form() node {
	return h.Section(h.Class("card"), h.H2(text(v.newOne)),
		h.Form(h.Method("post"), h.Action(addPath), signin.TokenField(v.session),
			h.Div(h.Class("field"), h.Label(h.For("name"), text(v.name)),
				h.Input(h.ID("name"), h.Name("name"), h.Type("text"), h.Required(), h.MaxLength("100"), h.AutoComplete("off"), h.Aria("describedby", "name-hint")),
				h.P(h.ID("name-hint"), h.Class("hint"), text(v.nameHint))),
			choice("use", v.useLabel, [2]string{"all", v.everything}, [2]string{"mail", v.mail}, [2]string{"chat", v.chat}),
			choice("ends", v.endLabel, [2]string{"never", v.never}, [2]string{"30", v.days30}, [2]string{"90", v.days90}, [2]string{"365", v.year}),
			h.Button(h.Type("submit"), h.Class("primary"), text(v.make)),
		))
}

// madeContent shows a new app password, and what the device needs beside it.
func (v *visit) madeContent(p apppassword.Password, secret string) node {
	forMail := v.Servers.IMAP != "" && p.For("imap")
	facts := [][2]string{{v.account, v.id.String()}, {v.appPassword, secret}}
	if forMail {
		facts = append(facts, [2]string{v.incoming, v.Servers.IMAP + ", 993, SSL/TLS"}, [2]string{v.outgoing, v.Servers.SMTP + ", 587, STARTTLS"})
	}
	if p.For("xmpp") {
		facts = append(facts, [2]string{v.jabber, v.id.String()})
	}
	rows := gom.Group{}
	for _, f := range facts {
		rows = append(rows, h.Dt(text(f[0])), h.Dd(h.Class("mono"), text(f[1])))
	}
	parts := gom.Group{
		h.Div(h.Class("heading"), h.H1(text(v.made)), h.Span(h.Class("badge"), text(p.Name))),
		h.Section(h.Class("card"),
			h.P(h.ID("secret"), h.Class("secret mono"), text(secret)),
			h.Button(h.Type("button"), h.Data("copy", "secret"), h.Data("copied", v.copied), gom.Attr("hidden"), text(v.copy)),
			h.P(text(v.madeHint))),
		h.Section(h.Class("card"), h.H2(text(v.settings)), h.Dl(h.Class("facts"), rows)),
		v.drawn(p, secret, forMail),
	}
	if forMail {
		parts = append(parts, h.Section(h.Class("card"), h.H2(text(v.apple)),
			h.Form(h.Method("post"), h.Action(profilePath), signin.TokenField(v.session), h.Input(h.Type("hidden"), h.Name("secret"), h.Value(secret)),
				h.Button(h.Type("submit"), text("mail.mobileconfig"))),
			h.P(h.Class("hint"), text(v.appleHint))))
	}
	return append(parts, h.P(h.A(h.Class("button primary"), h.Href(homePath), text(v.done))))
}

// drawn shows the codes by which programs read an account from a screen.
func (v *visit) drawn(p apppassword.Password, secret string, forMail bool) node {
	account := qrcode.Account{User: v.id.User, Domain: v.id.Domain, Password: secret}
	mail := account
	mail.Server = v.Servers.IMAP
	codes := gom.Group{v.code(v.codeText, account, qrcode.Text)}
	if forMail && v.Servers.IMAP == v.Servers.SMTP { // the form has one server
		codes = append(codes, v.code(v.codeThunderbird, mail, qrcode.Thunderbird))
	}
	if p.For("xmpp") {
		codes = append(codes, v.code(v.codeChat, account, qrcode.Conversations))
	}
	return h.Section(h.Class("card"), h.H2(text(v.codes)), h.Div(h.Class("codes"), codes))
}

// code shows an account as a QR code; nothing if there is none of it.
func (v *visit) code(label string, a qrcode.Account, form string) node {
	if a.Check(form) != nil {
		return gom.Group(nil)
	}
	path, size, err := qrcode.Path(a.In(form))
	if err != nil {
		return gom.Group(nil)
	}
	side := strconv.Itoa(size)
	return h.Figure(
		gom.El("svg", h.Class("code"), gom.Attr("viewBox", "0 0 "+side+" "+side), h.Role("img"), h.Aria("label", "QR: "+label),
			gom.El("rect", gom.Attr("width", side), gom.Attr("height", side), gom.Attr("fill", "#fff")),
			gom.El("path", gom.Attr("d", path), gom.Attr("fill", "#000"))),
		h.FigCaption(text(label)))
}

// passwordContent is the form in which the password is changed.
func (v *visit) passwordContent(n notice) node {
	field := func(name, label, complete string) node {
		return h.Div(h.Class("field"), h.Label(h.For(name), text(label)),
			h.Input(h.ID(name), h.Name(name), h.Type("password"), h.AutoComplete(complete), h.Required()))
	}
	return h.Section(h.Class("card"), h.H1(text(v.words.change)), said(n), h.P(text(v.changeHint)),
		h.Form(h.Method(http.MethodPost), h.Action(passwordPath), signin.TokenField(v.session),
			h.Input(h.Type("text"), h.Name("username"), h.Value(v.id.String()), h.AutoComplete("username"), h.ReadOnly(), gom.Attr("hidden")),
			field("old", v.old, "current-password"), field("new", v.fresh, "new-password"), field("again", v.again, "new-password"),
			h.Button(h.Type("submit"), h.Class("primary"), text(v.changeIt))))
}
