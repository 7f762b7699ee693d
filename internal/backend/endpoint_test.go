package backend

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"postern/internal/auth"
)

// TestEndpointAnswers: what is a yes and what a no is configured, and everything else is an outage.
func TestEndpointAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		options   EndpointOptions
		status    int
		challenge string
		body      string
		want      Class
	}{
		"200":                           {EndpointOptions{Realm: "Site"}, 200, "", "", Accepted},
		"204":                           {EndpointOptions{Realm: "Site"}, 204, "", "", Accepted},
		"401 with the realm":            {EndpointOptions{Realm: "Site"}, 401, `Basic realm="Site"`, "", Refused},
		"401 with the realm and more":   {EndpointOptions{Realm: "Site"}, 401, `basic charset="UTF-8", realm="Site", x=y`, "", Refused},
		"401 with the realm, bare":      {EndpointOptions{Realm: "Site"}, 401, "Basic realm=Site", "", Refused},
		"401 with another realm":        {EndpointOptions{Realm: "Site"}, 401, `Basic realm="Proxy"`, "", Outage},
		"401 with a longer realm":       {EndpointOptions{Realm: "Site"}, 401, "Basic realm=Sites", "", Outage},
		"401 with another scheme":       {EndpointOptions{Realm: "Site"}, 401, `Bearer realm="Site"`, "", Outage},
		"401 without a challenge":       {EndpointOptions{Realm: "Site"}, 401, "", "", Outage},
		"401 with the text":             {EndpointOptions{DenyBody: "wrong password"}, 401, "", `{"error":"wrong password"}`, Refused},
		"401 with another text":         {EndpointOptions{DenyBody: "wrong password"}, 401, `Basic realm="Site"`, "log in first", Outage},
		"403":                           {EndpointOptions{Realm: "Site", DenyBody: "no"}, 403, `Basic realm="Site"`, "no", Outage},
		"404":                           {EndpointOptions{Realm: "Site"}, 404, "", "", Outage},
		"302":                           {EndpointOptions{Realm: "Site"}, 302, "", "", Outage},
		"429":                           {EndpointOptions{Realm: "Site"}, 429, "", "", Throttled},
		"500":                           {EndpointOptions{Realm: "Site"}, 500, "", "", Outage},
		"503":                           {EndpointOptions{Realm: "Site"}, 503, "", "", Outage},
		"true":                          {EndpointOptions{TrueAt: "/ok"}, 200, "", `{"ok":true}`, Accepted},
		"false":                         {EndpointOptions{TrueAt: "/ok"}, 200, "", `{"ok":false}`, Refused},
		"true in a list":                {EndpointOptions{TrueAt: "/a~1b/1/~0"}, 200, "", `{"a/b":[0,{"~":true}]}`, Accepted},
		"a text":                        {EndpointOptions{TrueAt: "/ok"}, 200, "", `{"ok":"true"}`, Outage},
		"elsewhere":                     {EndpointOptions{TrueAt: "/ok"}, 200, "", `{"OK":true}`, Outage},
		"beyond a list":                 {EndpointOptions{TrueAt: "/1"}, 200, "", `[true]`, Outage},
		"no JSON":                       {EndpointOptions{TrueAt: "/ok"}, 200, "", `<html>`, Outage},
		"401 where a pointer is wanted": {EndpointOptions{TrueAt: "/ok"}, 401, `Basic realm="x"`, `{"ok":false}`, Outage},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if c.challenge != "" {
					w.Header().Set("WWW-Authenticate", c.challenge)
				}
				w.WriteHeader(c.status)
				if c.status != 204 {
					_, _ = io.WriteString(w, c.body)
				}
			})
			c.options.URL, c.options.Method = server.URL, "GET"
			b, err := NewEndpoint(c.options)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if r := ask(t, b, auth.OpAuth); r.Class != c.want {
				t.Errorf("%s, %v; want %s", r.Class, r.Err, c.want)
			}
			if r := ask(t, b, auth.OpIsUser); r.Class != Unsupported {
				t.Errorf("isuser: %s", r.Class)
			}
		})
	}
}

// TestEndpointOnTheWire: the request, and the login names in their order.
func TestEndpointOnTheWire(t *testing.T) {
	var got []string
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		got = append(got, fmt.Sprintf("%s %s %s %q", r.Method, r.URL, user, password))
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(401)
	})
	b, err := NewEndpoint(EndpointOptions{HTTPOptions: HTTPOptions{URL: server.URL + "/login?a=b"}, Method: "POST", Realm: "x"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	r := b.Ask(t.Context(), Query{Op: auth.OpAuth, User: "joé", Domain: "dom.example", Secret: auth.NewSecret("p:ä\n"), Logins: []string{"{user}@{domain}", "{user}"}})
	want := []string{`POST /login?a=b joé@dom.example "p:ä\n"`, `POST /login?a=b joé "p:ä\n"`}
	if fmt.Sprint(got) != fmt.Sprint(want) || r.Class != Refused || r.Attempts != 2 {
		t.Errorf("%q, %+v", got, r)
	}
	for _, o := range []EndpointOptions{{Method: "GET"}, {Method: "PUT", Realm: "x"}, {Method: "GET", TrueAt: "ok"}} {
		o.URL = server.URL
		if _, err := NewEndpoint(o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

// TestAuthHTTP: the request of each operation, and its answers.
func TestAuthHTTP(t *testing.T) {
	status, body, got := 200, "", ""
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		form, _ := io.ReadAll(r.Body)
		got = fmt.Sprintf("%s %s %s %s:%s", r.Method, r.RequestURI, form, user, password)
		w.WriteHeader(status)
		if status != 204 {
			_, _ = io.WriteString(w, body)
		}
	})
	b, err := NewAuthHTTP(AuthHTTPOptions{HTTPOptions: HTTPOptions{URL: server.URL + "/api/"}, User: "svc", Password: auth.NewSecret("pw")})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, c := range []struct {
		op     auth.Operation
		status int
		body   string
		want   Class
		sent   string
	}{
		{auth.OpAuth, 200, "true", Accepted, "GET /api/check_password?user=a+b&server=dom.example&pass=p%26w  svc:pw"},
		{auth.OpAuth, 200, "false", Refused, ""},
		{auth.OpAuth, 200, "true\n", Accepted, ""},
		{auth.OpAuth, 200, "TRUE", Outage, ""},
		{auth.OpAuth, 201, "true", Outage, ""},
		{auth.OpAuth, 401, "false", Misconfigured, ""},
		{auth.OpAuth, 403, "false", Outage, ""},
		{auth.OpAuth, 404, "", Misconfigured, ""},
		{auth.OpAuth, 503, "false", Outage, ""},
		{auth.OpIsUser, 200, "true", Accepted, "GET /api/user_exists?user=a+b&server=dom.example&pass=  svc:pw"},
		{auth.OpIsUser, 200, "false", Refused, ""},
		{auth.OpSetPass, 204, "", Accepted, "POST /api/set_password user=a+b&server=dom.example&pass=p%26w svc:pw"},
		{auth.OpSetPass, 403, "", Refused, ""},
		{auth.OpSetPass, 404, "", Refused, ""},
		{auth.OpSetPass, 401, "", Misconfigured, ""},
		{auth.OpSetPass, 500, "", Outage, ""},
		{auth.OpTryRegister, 201, "", Accepted, "POST /api/register user=a+b&server=dom.example&pass=p%26w svc:pw"},
		{auth.OpTryRegister, 409, "", Refused, ""},
		{auth.OpRemoveUser, 200, "", Accepted, "POST /api/remove_user user=a+b&server=dom.example&pass= svc:pw"},
		{auth.OpRemoveUser3, 200, "", Unsupported, ""},
		{auth.OpRoster, 200, "", Unsupported, ""},
	} {
		status, body, got = c.status, c.body, ""
		q := Query{Op: c.op, User: "a b", Domain: "dom.example"}
		if c.op.NeedsSecret() {
			q.Secret = auth.NewSecret("p&w")
		}
		if r := b.Ask(t.Context(), q); r.Class != c.want || c.sent != "" && got != c.sent {
			t.Errorf("%s, HTTP %d %q: %s, %v, sent %q; want %s", c.op, c.status, c.body, r.Class, r.Err, got, c.want)
		}
	}
	if _, err := NewAuthHTTP(AuthHTTPOptions{HTTPOptions: HTTPOptions{URL: server.URL + "?x"}}); err == nil {
		t.Error("a query is accepted")
	}
}

// FuzzJSONAt: a pointer leads nowhere, or to a value, in any document.
func FuzzJSONAt(f *testing.F) {
	f.Add(`{"ok":true}`, "/ok")
	f.Add(`{"a/b":[0,{"~":true}]}`, "/a~1b/1/~0")
	f.Add(`[[[[]]]]`, "/0/0/-1")
	f.Fuzz(func(t *testing.T, document, pointer string) {
		if pointer == "" {
			return
		}
		if value, ok := jsonAt([]byte(document), pointer); !ok && value != nil {
			t.Errorf("%v, but nothing was found", value)
		}
	})
}
