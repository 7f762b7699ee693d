package status

import (
	"fmt"
	"net/url"
	"strconv"
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

// Graphs are drawn in units of which a bar has ten.
const (
	barWidth  = 10
	barGap    = 2
	barHeight = 100
)

// bars draws the minutes as columns, a piece for each verdict. The highest fills the height.
func bars(minutes []Figures, height int) (nodes []g.Node, highest uint64) {
	for _, m := range minutes {
		highest = max(highest, m.Total())
	}
	if highest == 0 {
		return nil, 0
	}
	for i, m := range minutes {
		y := float64(height)
		for _, piece := range []struct {
			class string
			n     uint64
		}{{"yes", m.Yes}, {"no", m.No}, {"temporary", m.Temporary}, {"other", m.Unsupported}} {
			if piece.n == 0 {
				continue
			}
			tall := max(float64(height)*float64(piece.n)/float64(highest), 1) // the least is seen, too
			y -= tall
			nodes = append(nodes, g.El("rect", h.Class(piece.class), g.Attr("x", strconv.Itoa(i*barWidth)), g.Attr("y", decimal(y)),
				g.Attr("width", strconv.Itoa(barWidth-barGap)), g.Attr("height", decimal(tall))))
		}
	}
	return nodes, highest
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }

// graph is a large graph with its scale. label says in words what it shows.
func graph(minutes []Figures, label string, now time.Time) g.Node {
	columns, highest := bars(minutes, barHeight)
	width := len(minutes) * barWidth
	plot := h.SVG(h.Class("graph"), h.Role("img"), h.Aria("label", label), g.Attr("viewBox", fmt.Sprintf("0 0 %d %d", width, barHeight)), g.Attr("preserveAspectRatio", "none"),
		g.El("line", h.Class("axis"), g.Attr("x1", "0"), g.Attr("x2", strconv.Itoa(width)), g.Attr("y1", "0.5"), g.Attr("y2", "0.5")),
		g.El("line", h.Class("axis"), g.Attr("x1", "0"), g.Attr("x2", strconv.Itoa(width)), g.Attr("y1", "50"), g.Attr("y2", "50")),
		g.El("line", h.Class("axis"), g.Attr("x1", "0"), g.Attr("x2", strconv.Itoa(width)), g.Attr("y1", "99.5"), g.Attr("y2", "99.5")),
		g.Group(columns))
	begin := now.Add(-time.Duration(len(minutes)-1) * time.Minute)
	return h.Figure(h.Class("plot"), h.Aria("hidden", "false"),
		h.Div(h.Class("scale"), h.Span(g.Text(number(highest))), h.Span(g.Text("0"))),
		plot,
		h.Div(h.Class("times"), h.Span(g.Text(begin.UTC().Format("15:04"))), h.Span(g.Text(begin.Add(time.Duration(len(minutes)/2)*time.Minute).UTC().Format("15:04"))), h.Span(g.Text("now"))))
}

// spark is a small graph.
func spark(minutes []Figures, label string) g.Node {
	columns, _ := bars(minutes, barHeight)
	return h.SVG(h.Class("graph small"), h.Role("img"), h.Aria("label", label), g.Attr("viewBox", fmt.Sprintf("0 0 %d %d", len(minutes)*barWidth, barHeight)), g.Attr("preserveAspectRatio", "none"),
		g.El("line", h.Class("axis"), g.Attr("x1", "0"), g.Attr("x2", strconv.Itoa(len(minutes)*barWidth)), g.Attr("y1", "99"), g.Attr("y2", "99")), g.Group(columns))
}

// gauge shows how many of the slots are in use.
func gauge(busy, limit, slots int) g.Node {
	text := fmt.Sprintf("%d of %d", busy, slots)
	if limit < slots {
		text = fmt.Sprintf("%d of %d, now at most %d", busy, slots, limit)
	}
	filled := 0.0
	if slots > 0 {
		filled = min(100*float64(busy)/float64(slots), 100)
	}
	return h.Span(h.Class("gauge"), g.Text(text), h.SVG(h.Class("meter"), h.Aria("hidden", "true"), g.Attr("viewBox", "0 0 100 6"), g.Attr("preserveAspectRatio", "none"),
		g.El("rect", h.Class("track"), g.Attr("width", "100"), g.Attr("height", "6")), g.El("rect", h.Class("fill"), g.Attr("width", decimal(filled)), g.Attr("height", "6"))))
}

// address is a path of the page with a query.
func address(path, name, value string) string {
	to := url.URL{Path: path, RawQuery: url.Values{name: {value}}.Encode()}
	return to.String()
}
