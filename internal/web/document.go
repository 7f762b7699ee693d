package web

import (
	"bytes"
	"net/http"
	"strconv"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

// Link leads to a page of the same site.
type Link struct {
	Path string // of this project
	Text string
}

// Document is a page without its content.
type Document struct {
	Lang  string // "en" or "de"; empty: "en"
	Title string // of the page
	Site  string // what the site is for, beside the name of postern; it may be empty
	Path  string // of the page; marks its link
	Links []Link // to the site's other pages, in a session
	// Account is at the right of the header: the account of the session, and how to end that; nil: there is nothing.
	Account g.Node
	Footer  string // a line at the end; it may be empty
	// Live has the script load the content again every few seconds, as long as the page is looked at.
	Live bool
	// Again has the browser load the page again at once. It is then this site that leads there.
	Again bool
	// Narrow is for pages with a form and little else.
	Narrow bool
}

// Write answers with the page.
func (d Document) Write(w http.ResponseWriter, r *http.Request, status int, content ...g.Node) {
	lang := d.Lang
	if lang == "" {
		lang = "en"
	}
	title := d.Title + " - postern"
	page := h.Doctype(h.HTML(h.Lang(lang),
		h.Head(
			h.Meta(h.Charset("utf-8")),
			h.Meta(h.Name("viewport"), h.Content("width=device-width, initial-scale=1")),
			h.Meta(h.Name("color-scheme"), h.Content("light dark")),
			h.Meta(h.Name("robots"), h.Content("noindex")),
			g.If(d.Again, h.Meta(g.Attr("http-equiv", "refresh"), h.Content("0"))),
			h.TitleEl(g.Text(title)),
			h.Link(h.Rel("icon"), h.Href(assetURL("icon.svg")), h.Type("image/svg+xml")),
			h.Link(h.Rel("stylesheet"), h.Href(assetURL("style.css"))),
			h.Script(h.Src(assetURL("script.js")), h.Defer()),
		),
		h.Body(
			h.A(h.Class("skip"), h.Href("#content"), g.Text(skip[lang])),
			h.Header(h.Class("top"), h.Div(h.Class("bar"),
				h.A(h.Class("brand"), h.Href("/"), mark(), h.Span(g.Text("postern")), g.If(d.Site != "", h.Span(h.Class("site"), g.Text(d.Site)))),
				g.If(len(d.Links) > 0, h.Nav(h.Aria("label", "postern"), h.Ul(g.Map(d.Links, func(l Link) g.Node {
					return h.Li(h.A(h.Href(l.Path), g.If(l.Path == d.Path, h.Aria("current", "page")), g.Text(l.Text)))
				})))),
				d.Account,
			)),
			h.Main(h.ID("content"), h.TabIndex("-1"), g.If(d.Narrow, h.Class("narrow")), g.If(d.Live, h.Data("live", "10")), g.Group(content)),
			g.If(d.Footer != "", h.Footer(h.Class("foot"), h.P(g.Text(d.Footer)))),
		),
	))
	Render(w, r, status, page)
}

// skip is the text of the link over the header, by language.
var skip = map[string]string{"en": "Skip to the content", "de": "Zum Inhalt springen"}

// Render answers with a node as HTML.
func Render(w http.ResponseWriter, r *http.Request, status int, page g.Node) {
	var out bytes.Buffer // the length is known, and a fault while it is made is no half page
	if err := page.Render(&out); err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(out.Len()))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(out.Bytes())
	}
}

// Fail answers with an error: what went wrong, and what to do. The text is in the browser's language, or is one of those
// below.
func Fail(w http.ResponseWriter, r *http.Request, status int, text string) {
	title, lang, back := strconv.Itoa(status)+" "+http.StatusText(status), Language(r), "To the start"
	if lang == German {
		title, back = "Fehler "+strconv.Itoa(status), "Zum Anfang"
		if translated := german[text]; translated != "" {
			text = translated
		}
	}
	Document{Lang: lang, Title: title, Narrow: true}.Write(w, r, status,
		h.Section(h.Class("card"), h.H1(g.Text(title)), h.P(g.Text(text)), h.P(h.A(h.Href("/"), g.Text(back)))))
}

// german has the texts of error pages.
var german = map[string]string{
	"A fault in postern; its log has more.": "Ein Fehler in postern; mehr steht in seinem Protokoll.",
	"There is no such page.":                "Diese Seite gibt es nicht.",
	"This page cannot do that.":             "Das kann diese Seite nicht.",
	"This form does not come from a page of this site. Open the page again, and send it from there.": "Dieses Formular kommt nicht von einer Seite hier. Öffnen Sie die Seite neu und senden Sie es von dort.",
	"This form is not of your session. Open the page again, and send it from there.":                 "Dieses Formular gehört nicht zu Ihrer Sitzung. Öffnen Sie die Seite neu und senden Sie es von dort.",
	"This is not a form.":      "Das ist kein Formular.",
	"The form is too large.":   "Das Formular ist zu groß.",
	"The form cannot be read.": "Das Formular ist nicht lesbar.",
}

// mark is the sign of postern: a small door in a wall.
func mark() g.Node {
	return g.Raw(`<svg class="mark" viewBox="0 0 24 24" width="24" height="24" aria-hidden="true" focusable="false">` + door + `</svg>`)
}

// door is what assets/icon.svg shows, too.
const door = `<rect class="wall" x="1" y="1" width="22" height="22" rx="5"/><path class="door" d="M7 20V11a5 5 0 0 1 10 0v9z"/><circle class="knob" cx="14.2" cy="14.6" r="1.1"/>`
