package backend

import (
	"net/http"
	"strings"
	"testing"

	"postern/internal/auth"
	"postern/internal/backend/nextcloudtest"
)

// envelope is an answer of the API.
func envelope(code, message, data string) string {
	return `{"ocs":{"meta":{"status":"x","statuscode":` + code + `,"message":` + message + `},"data":` + data + `}}`
}

// TestNextcloudAnswers checks the class of every answer to a login.
func TestNextcloudAnswers(t *testing.T) {
	page := "<!DOCTYPE html>\n<html><head><title>Login</title></head></html>"
	joe := envelope("200", `"OK"`, `{"id":"joe","enabled":true}`)
	cases := map[string]struct {
		status int
		header string
		body   string
		want   Class
		says   string
	}{
		"yes":                        {200, "", joe, Accepted, ""},
		"yes, in ancient words":      {200, "", envelope("200", "null", `{"id":"joe","display-name":"Joe"}`), Accepted, ""},
		"another account":            {200, "", envelope("200", `"OK"`, `{"id":"eve"}`), Refused, "another name"},
		"a disabled account":         {200, "", envelope("200", `"OK"`, `{"id":"joe","enabled":false}`), Refused, "disabled"},
		"no id":                      {200, "", envelope("200", `"OK"`, `{}`), Outage, "no id"},
		"no account":                 {200, "", envelope("200", `"OK"`, `[]`), Outage, "no account"},
		"an odd enabled":             {200, "", envelope("200", `"OK"`, `{"id":"joe","enabled":"yes"}`), Outage, "enabled"},
		"a failure with 200":         {200, "", envelope("997", `""`, `{"id":"joe"}`), Outage, "HTTP 200"},
		"version 1's yes":            {200, "", envelope("100", `""`, `{"id":"joe"}`), Outage, "HTTP 200"},
		"a page":                     {200, "", page, Outage, "HTML page"},
		"an empty answer":            {200, "", "", Outage, "no page"},
		"a truncated answer":         {200, "", joe[:len(joe)-5], Outage, "HTTP 200"},
		"JSON that is none of its":   {200, "", `{"success":true}`, Outage, "JSON of another form"},
		"an oversize answer":         {200, "", strings.Repeat(" ", 5000) + joe, Outage, "max_response"},
		"no":                         {401, "", envelope("997", `"Unauthorised"`, `[]`), Refused, ""},
		"no, and the code is HTTP's": {401, "", envelope("401", `""`, `[]`), Outage, "code 401"},
		"an app password is wanted":  {401, "", envelope("997", `"Current user is not logged in"`, `[]`), Refused, "app password"},
		"no, says another program":   {401, "", page, Outage, "in front of it"},
		"no, but it breaks off":      {401, "", "cut", Outage, "incomplete"},
		"forbidden":                  {403, "", envelope("403", `""`, `[]`), Outage, "code 403"},
		"forbidden by another":       {403, "", page, Outage, "in front of it"},
		"a strange host name":        {400, "", page, Misconfigured, "trusted_domains"},
		"a bad request":              {400, "", envelope("101", `""`, `[]`), Misconfigured, "HTTP 400"},
		"provisioning off":           {404, "", envelope("998", `"Invalid query"`, `[]`), Misconfigured, "provisioning_api"},
		"no Nextcloud here":          {404, "", page, Misconfigured, "url"},
		"the wrong method":           {405, "", "", Outage, "HTTP 405"},
		"the header is dropped":      {412, "", envelope("412", `"CSRF check failed"`, `[]`), Misconfigured, "OCS-APIRequest"},
		"throttled":                  {429, "", envelope("429", `""`, `[]`), Throttled, "exempt"},
		"throttled by a proxy":       {429, "", page, Throttled, "exempt"},
		"an account's exception":     {500, "", envelope("996", `""`, `[]`), Outage, "for this account"},
		"a fault of the server":      {500, "", page, Outage, "HTTP 500"},
		"a gateway":                  {502, "", page, Outage, "HTTP 502"},
		"maintenance":                {503, "X-Nextcloud-Maintenance-Mode", envelope("503", `""`, `[]`), Outage, "maintenance"},
		"out of service":             {503, "", page, Outage, "HTTP 503"},
		"a redirect":                 {301, "Location", "", Outage, "redirect"},
		"too slow for its proxy":     {408, "", "", Outage, "HTTP 408"},
		"created":                    {201, "", joe, Outage, "HTTP 201"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if c.header != "" {
					w.Header().Set(c.header, "1")
				}
				if c.body == "cut" {
					w.Header().Set("Content-Length", "100")
				}
				canned(c.status, c.body)(w, r)
			})
			n := cloudAt(t, server.URL+"/sub/", nil, NextcloudOptions{HTTPOptions: HTTPOptions{MaxResponse: 4096}})
			if r := put(t, n, auth.OpAuth, "joe", canary); r.Class != c.want || !says(r, c.says) {
				t.Errorf("%v, %v; want %v, %q", r.Class, r.Err, c.want, c.says)
			}
		})
	}
}

// TestNextcloudDisabled: a disabled account ends a chain, unless it is another user's.
func TestNextcloudDisabled(t *testing.T) {
	for name, c := range map[string]struct {
		login, id string // that the server knows, and its account
		attempts  int
		known     bool
		says      string
	}{
		"under the first name":  {"joe", "joe", 1, true, "disabled"},
		"under the second name": {"joe@dom.example", "Joe", 2, true, "disabled"},
		"another's":             {"joe", "eve", 0, false, "another name"},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if login, _, _ := r.BasicAuth(); login == c.login {
					canned(http.StatusOK, envelope("200", `"OK"`, `{"id":"`+c.id+`","enabled":false}`))(w, r)
					return
				}
				canned(http.StatusUnauthorized, envelope("997", `""`, `[]`))(w, r)
			})
			r := put(t, cloudAt(t, server.URL, nil, NextcloudOptions{}), auth.OpAuth, "joe", canary, both...)
			if r.Class != Refused || r.Known != c.known || r.Attempts != c.attempts || !says(r, c.says) {
				t.Errorf("%v known=%t after %d attempts, %v; want known=%t after %d, %q", r.Class, r.Known, r.Attempts, r.Err, c.known, c.attempts, c.says)
			}
			if chain := NewChain(auth.OpAuth); chain.Add(r) != c.known {
				t.Errorf("the next backend is asked: %t", c.known)
			}
		})
	}
}

// TestNextcloudStates checks the answers of a server in several states.
func TestNextcloudStates(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*nextcloudtest.State)
		want   Class
		says   string
	}{
		"maintenance":      {func(s *nextcloudtest.State) { s.Maintenance = true }, Outage, "maintenance"},
		"provisioning off": {func(s *nextcloudtest.State) { s.ProvisioningOff = true }, Misconfigured, "provisioning_api"},
		"app passwords only": {func(s *nextcloudtest.State) { s.TokenOnly = true },
			Refused, "app password"},
	} {
		s, n := cloud(t, NextcloudOptions{})
		s.Change(c.change)
		if r := put(t, n, auth.OpAuth, "joe", canary); r.Class != c.want || !says(r, c.says) {
			t.Errorf("%s: %v, %v", name, r.Class, r.Err)
		}
	}
	if r := put(t, cloudAt(t, serve(t, http.NotFound).URL, nil, NextcloudOptions{}), auth.OpAuth, "joe", canary); r.Class != Misconfigured {
		t.Errorf("another server: %v, %v", r.Class, r.Err)
	}
}

// TestNextcloudOptions checks that invalid options are errors.
func TestNextcloudOptions(t *testing.T) {
	secret := auth.NewSecret(canary)
	for name, o := range map[string]NextcloudOptions{
		"no url":           {},
		"a query":          {HTTPOptions: HTTPOptions{URL: "https://h/?x=1"}},
		"no password":      {HTTPOptions: HTTPOptions{URL: "https://h"}, AdminUser: "boss"},
		"no user":          {HTTPOptions: HTTPOptions{URL: "https://h"}, AdminPassword: secret},
		"a colon":          {HTTPOptions: HTTPOptions{URL: "https://h"}, AdminUser: "a:b", AdminPassword: secret},
		"a secret in it":   {HTTPOptions: HTTPOptions{URL: "https://joe:" + canary + "@h"}},
		"no such CA file":  {HTTPOptions: HTTPOptions{URL: "https://h", CAFile: "/nonexistent"}},
		"no absolute path": {HTTPOptions: HTTPOptions{URL: "cloud.example.org"}},
	} {
		if b, err := NewNextcloud(o); err == nil || b != nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v, %v", name, b, err)
		}
	}
}

// TestNextcloudNotAsked checks questions that are answered without a request.
func TestNextcloudNotAsked(t *testing.T) {
	s, n := cloud(t, NextcloudOptions{})
	for op, want := range map[auth.Operation]Class{
		auth.OpIsUser: Unsure, auth.OpRoster: Unsupported, auth.OpSetPass: Unsupported, auth.OpTryRegister: Unsupported,
		auth.OpRemoveUser: Unsupported, auth.OpRemoveUser3: Unsupported, auth.OpCertAuth: Unsupported, auth.OpNone: Unsupported,
	} {
		if r := put(t, n, op, "joe", canary); r.Class != want {
			t.Errorf("%v: %v, %v; want %v", op, r.Class, r.Err, want)
		}
	}
	if got := s.Requests(); got != nil {
		t.Errorf("asked %q", got)
	}
}

// FuzzNextcloudAnswer: no answer makes the parsers panic, is accepted without the API's word for
// it, or is repeated in an error.
func FuzzNextcloudAnswer(f *testing.F) {
	for _, body := range []string{
		envelope("200", `"OK"`, `{"id":"joe","enabled":true,"groups":["a"]}`),
		envelope("200", `"OK"`, `{"id":7,"users":{"joe":{"displayname":"Joe"},"7":{"id":7}},"groups":[2024,"a"]}`),
		envelope("200", `"OK"`, `{"users":[{"id":"0"}],"groups":{"1":"a"}}`),
		envelope("200", `"OK"`, `{"capabilities":{"bruteforce":{"delay":200,"allow-listed":false}}}`),
		envelope("997", `"Current user is not logged in"`, `[]`), envelope("998", `"`+canary+`"`, `null`),
		`{"ocs":{"meta":null}}`, `{"ocs":[]}`, "<html>" + canary, "",
	} {
		for _, status := range []int{200, 401, 404, 500} {
			f.Add(status, []byte(body), false)
		}
	}
	f.Fuzz(func(t *testing.T, status int, body []byte, odd bool) {
		a := parseOCS(response{status: status, body: body, location: string(body), maintenance: odd, truncated: odd})
		id, r := classifyLogin(a, canary)
		checked(t, r)
		if r.Class == Accepted && (status != 200 || id == "" || !a.ok()) {
			t.Errorf("accepted %q: HTTP %d, %q", id, status, body)
		}
		if r.Class == Refused && !a.refused() && !a.ok() {
			t.Errorf("refused: HTTP %d, %q", status, body)
		}
		if page, ok := parseMembers(a.data); ok {
			for _, m := range page {
				_ = groupPath(m.id)
			}
		}
		if s, err := parseThrottle(a); err == nil && s.Delay < 0 {
			t.Errorf("delay %v of %q", s.Delay, body)
		}
		if list, ok := texts(a.data); ok {
			for _, item := range list {
				if item == "" {
					t.Errorf("an empty name in %q", a.data)
				}
			}
		}
	})
}
