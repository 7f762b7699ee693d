package commands

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// questionConfig is a daemon with one domain for each kind of answer.
func questionConfig(t *testing.T) string {
	config := harness.ConfigFile(t, t.TempDir(), harness.PipeConfig+`
listen "generic" { address = "127.0.0.1:0" }
backend "json" "away" { url = "`+harness.DeadURL(t)+`" }
backend "jsxc" "cloud" {
  url    = "`+harness.JSXCServer(t).URL+`"
  secret = "api-secret"
}
domain "away.example" { backends = [backend.json.away] }
domain "jsxc.example" { backends = [backend.jsxc.cloud] }
domain "forgetful.example" {
  backends = [backend.jsxc.cloud]
  cache { query_ttl = "0s" }
}
`)
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	harness.OK(t, "secret\n", "user", "add", "bob@dom.example", "--config", config)
	return config
}

// question is one call of `postern test`; the steps are parts of lines that must come in this
// order.
type question struct {
	args, stdin string
	code        int
	steps       []string
	verdict     string // the line after the steps
}

var questions = []question{
	{"auth joe@dom.example", "secret\n", 0, []string{"cache .*not in memory", "backend.users.local .*accepted in ", "cache .*allow"},
		"yes: allow, from backend, in "},
	{"auth joe@DOM.example", "wrong", 1, []string{"cache .*not in memory", "backend.users.local .*refused in "}, "no: deny, from backend, in "},
	{"auth joe@away.example", "secret\n", 75, []string{"cache .*not in memory", "backend.json.away .*outage in .*refused"},
		"temporary failure: unavailable, from backend, in "},
	{"auth joe@other.example", "secret\n", 1, []string{"domain .*not configured"}, "no: deny, from unknown-domain, in "},
	{"isuser bob@dom.example", "", 0, []string{"backend.users.local .*accepted"}, "yes: allow, from backend, in "},
	{"isuser ann@dom.example", "", 1, []string{"backend.users.local .*refused"}, "no: deny, from backend, in "},
	{"isuser joe@away.example", "", 75, []string{"backend.json.away .*outage"}, "temporary failure: unavailable, from backend, in "},
	{"roster joe@jsxc.example", "", 0, []string{"backend.jsxc.cloud .*accepted"}, "yes: allow, from backend, in "},
	{"roster joe@dom.example", "", 1, []string{"backend.users.local .*unsupported"}, "no: unsupported, from unsupported, in "},
}

// The exit status is the answer, and the output is the way to it, with a daemon and without one.
func TestQuestions(t *testing.T) {
	for name, running := range map[string]bool{"daemon": true, "no daemon": false} {
		t.Run(name, func(t *testing.T) {
			config := questionConfig(t)
			note := "no daemon is running: asking directly\n"
			if running {
				harness.Serve(t, "--config", config)
				note = ""
			}
			for _, q := range questions {
				r := harness.Command(t, q.stdin, append(strings.Fields("test "+q.args), "--config", config)...)
				if r.Code != q.code || r.Err != note {
					t.Errorf("test %s: exit status %d, %q", q.args, r.Code, r.Err)
				}
				checkSteps(t, q, r.Out)
			}
		})
	}
}

// checkSteps compares the output of a question with what is expected of it.
func checkSteps(t *testing.T, q question, out string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	at := 0
	for _, want := range append(q.steps, "^"+q.verdict) {
		for ; at < len(lines); at++ {
			if regexp.MustCompile(want).MatchString(lines[at]) {
				break
			}
		}
	}
	if at == len(lines) {
		t.Errorf("test %s: no %q and then %q in\n%s", q.args, q.steps, q.verdict, out)
		return
	}
	step := regexp.MustCompile(`^ *[0-9.]+(ns|µs|ms|s)  \S+ +\S`)
	for _, line := range lines[:at] {
		if !step.MatchString(line) {
			t.Errorf("test %s: a step without time, place or what happened: %q", q.args, line)
		}
	}
	body := strings.Join(lines[at+1:], "\n")
	if strings.HasPrefix(q.args, "roster") && q.code == 0 != strings.Contains(body, `"sharedRoster"`) {
		t.Errorf("test %s: the roster is %q", q.args, body)
	}
	if strings.Contains(out, "secret") {
		t.Errorf("test %s: a secret is in the output\n%s", q.args, out)
	}
}

// Where an answer comes from when it is not the backend.
func TestQuestionSources(t *testing.T) {
	config := questionConfig(t)
	s := harness.Serve(t, "--config", config)
	token := harness.OK(t, "", "token", "issue", "joe@jsxc.example", "--config", config)
	for _, q := range []question{
		{"auth joe@dom.example", "secret\n", 0, nil, "yes: allow, from backend, in "},
		{"auth joe@dom.example", "secret\n", 0, []string{"cache .*allow .hot"}, "yes: allow, from hot, in "},
		{"auth joe@dom.example", "wrong\n", 1, nil, "no: deny, from backend, in "},
		{"auth joe@dom.example", "wrong\n", 1, []string{"cache .*deny"}, "no: deny, from refused-before, in "},
		{"auth joe@jsxc.example", token, 0, []string{"token .*jsxc: valid"}, "yes: allow, from token, in "},
		{"auth joe@jsxc.example", "secret", 0, []string{"token .*not a token", "cache .*not in memory", "jsxc.cloud .*accepted"}, "yes: allow, from backend, in "},
		{"auth joe@forgetful.example", "secret", 0, []string{"cache .*not in memory"}, "yes: allow, from backend, in "},
		{"auth joe@forgetful.example", "secret", 0, []string{"cache .*stale", "jsxc.cloud .*accepted"}, "yes: allow, from backend, in "},
		{"auth ann@jsxc.example", token, 1, []string{"token .*jsxc: invalid", "cache .*not in memory"}, "no: deny, from backend, in "},
	} {
		r := harness.Command(t, q.stdin, append(strings.Fields("test "+q.args), "--config", config)...)
		if r.Code != q.code {
			t.Errorf("test %s: exit status %d, %q", q.args, r.Code, r.Err)
		}
		checkSteps(t, q, r.Out)
	}
	// The daemon logs these questions like any other.
	s.Eventually("decision", func() bool {
		return strings.Contains(s.Log.String(), "front=control op=auth verdict=allow source=token domain=jsxc.example user=joe")
	})
}

// --direct leaves the daemon out: it is not asked, and what it remembers is not seen.
func TestQuestionsDirect(t *testing.T) {
	config := questionConfig(t)
	s := harness.Serve(t, "--config", config)
	harness.OK(t, "secret\n", "test", "auth", "joe@dom.example", "--config", config)
	s.Eventually("decision", func() bool { return strings.Contains(s.Log.String(), "front=control") })
	before := s.Log.String()
	for _, q := range questions {
		r := harness.Command(t, q.stdin, append(strings.Fields("test --direct "+q.args), "--config", config)...)
		if r.Code != q.code || r.Err != "" {
			t.Errorf("test --direct %s: exit status %d, %q", q.args, r.Code, r.Err)
		}
		checkSteps(t, q, r.Out)
	}
	if now := s.Log.String(); now != before {
		t.Errorf("the daemon was asked:\n%s", strings.TrimPrefix(now, before))
	}
}

// A question that could not be put has no answer: its exit status is not that of a no.
func TestQuestionsThatFail(t *testing.T) {
	config := questionConfig(t)
	broken := harness.ConfigFile(t, t.TempDir(), "nonsense = 1\n")
	for _, c := range []struct{ args, stdin, err string }{
		{"test", "", "postern test --help"},
		{"test atuh joe@dom.example", "secret", "postern test auth"},
		{"test auth", "secret", "USER@DOMAIN"},
		{"test auth joe", "secret", "USER@DOMAIN"},
		{"test auth joe@dom.example secret", "", "USER@DOMAIN"},
		{"test auth joe@dom.example --password secret", "", "postern test auth --help"},
		{"test auth joe@dom.example", "", "empty password"},
		{"test auth joe@dom.example", strings.Repeat("x", 9000), "over 8192 bytes"},
		{"test isuser joe@dom.example --config " + broken, "", "postern config check"},
		{"test isuser joe@dom.example --config " + filepath.Join(t.TempDir(), "none"), "", "--config FILE"},
	} {
		args := strings.Fields(c.args)
		if !strings.Contains(c.args, "--config") {
			args = append(args, "--config", config)
		}
		if r := harness.Command(t, c.stdin, args...); r.Code != 75 || r.Out != "" || !strings.Contains(r.Err, c.err) {
			t.Errorf("%s: exit status %d, %q, %q; want 75 and %q", c.args, r.Code, r.Out, r.Err, c.err)
		}
	}
}
