package pipes

import (
	"net/http"
	"path/filepath"
	"testing"

	"postern/e2e/harness"
)

// jsxcYes is the answer of xcauth's server to a login that is right.
const jsxcYes = `{"result":"success","data":{"uid":"joe"}}`

// TestDropInTellsTheBroker: what xcauth's settings say since the broker was started counts from the
// start of the next copy on: no password of a new domain goes to the server of the others.
func TestDropInTellsTheBroker(t *testing.T) {
	others, own := harness.NewWebApp(t, harness.Always(http.StatusOK, jsxcYes)), harness.NewWebApp(t, harness.Always(http.StatusOK, jsxcYes))
	w := harness.NewXcauth(t, others.URL, "S", "type=generic\n")
	t.Cleanup(func() { w.OwnerEnds(t) })
	program := harness.CalledAs(t, "xcauth")
	login := func(p *harness.Process, domain, password string, atOthers, atOwn int64) {
		t.Helper()
		p.Send("auth:joe:" + domain + ":" + password + "\n")
		p.Expect("1\n")
		if n, m := others.Asked.Load(), own.Asked.Load(); n != atOthers || m != atOwn {
			t.Errorf("the servers were asked %d and %d times, want %d and %d", n, m, atOthers, atOwn)
		}
	}
	a := harness.StartProgram(t, program, nil, "-c", w.Conf)
	login(a, "dom.example", "one", 1, 0)
	owner := harness.OwnerOf(t, w.Home(t))
	w.SQL(t, "INSERT INTO domains (xmppdomain, authsecret, authurl) VALUES ('own.example', 'T', '"+own.URL+"');")
	b := harness.StartProgram(t, program, nil, "-c", w.Conf)
	login(b, "own.example", "two", 1, 1)
	login(a, "own.example", "three", 1, 2)
	login(b, "dom.example", "four", 2, 2)
	if now := harness.OwnerOf(t, w.Home(t)); now != owner {
		t.Error("another broker was started")
	}
	// A test by hand has a log of its own, which the broker does not get.
	file := filepath.Join(w.Home(t), "xcauth.hcl")
	text := harness.ReadText(file)
	if r := harness.RunCommand(t, "", program, "-c", w.Conf, "-A", "joe", "own.example", "five"); r.Out != "True\n" || own.Asked.Load() != 3 {
		t.Errorf("%+v, asked %d times", r, own.Asked.Load())
	}
	if text == "" || harness.ReadText(file) != text {
		t.Error("the broker's configuration was rewritten by a test")
	}
	w.SQL(t, "UPDATE domains SET authurl = '"+others.URL+"';") // a test by hand has it reloaded, too
	if r := harness.RunCommand(t, "", program, "-c", w.Conf, "-A", "joe", "own.example", "six"); r.Out != "True\n" || own.Asked.Load() != 3 {
		t.Errorf("%+v, asked %d times", r, own.Asked.Load())
	}
	for _, p := range []*harness.Process{a, b} {
		if rest, code := p.Finish(); rest != "" || code != 0 {
			t.Errorf("ended with %q, status %d", rest, code)
		}
	}
}
