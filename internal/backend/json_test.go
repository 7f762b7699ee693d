package backend

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"postern/internal/auth"
)

// TestJSONOnTheWire checks the request byte for byte.
func TestJSONOnTheWire(t *testing.T) {
	var got string
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var fields map[string]string
		if err := json.Unmarshal(body, &fields); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		got = fmt.Sprintf("%s %s %s %s %s %q", r.Method, r.URL.Path, r.Header.Get("Content-Type"), r.Header.Get("Accept"),
			r.Header.Get("User-Agent"), fields)
		_, _ = io.WriteString(w, `{"success":true}`)
	})
	for _, base := range []string{"/auth", "/auth/"} {
		b, err := NewJSON(HTTPOptions{URL: server.URL + base, UserAgent: "postern/test"})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		askAs(t, b, auth.OpAuth, "jos\u00e9\"", "p\"\\<&\u20ac")
		want := `POST /auth/login application/json application/json postern/test ` +
			fmt.Sprintf("%q", map[string]string{"username": "jos\u00e9\"@dom.example", "password": "p\"\\<&\u20ac"})
		if got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
		askAs(t, b, auth.OpIsUser, "joe", "")
		want = `POST /auth/exists application/json application/json postern/test map["username":"joe@dom.example"]`
		if got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
}

func TestJSONAnswers(t *testing.T) {
	var body string
	server := serve(t, func(w http.ResponseWriter, r *http.Request) { canned(200, body)(w, r) })
	b := kinds()[1].connect(t, HTTPOptions{URL: server.URL})
	for _, c := range []struct {
		body string
		want Class
	}{
		{`{"success":true}`, Accepted}, {` {"success" : true, "message":"x"} `, Accepted}, {`{"success":false}`, Refused},
		{`{"success":"true"}`, Outage}, {`{"success":1}`, Outage}, {`{"success":null}`, Outage}, {`{"Success":true}`, Outage},
		{`{}`, Outage}, {`[]`, Outage}, {`true`, Outage}, {`null`, Outage}, {``, Outage}, {`<html>`, Outage},
		{`{"success":true`, Outage}, {`{"success":true}{"success":true}`, Outage},
	} {
		body = c.body
		if r := ask(t, b, auth.OpAuth); r.Class != c.want {
			t.Errorf("%s: %s, %v", c.body, r.Class, r.Err)
		}
		if r := ask(t, b, auth.OpIsUser); r.Class != c.want {
			t.Errorf("exists, %s: %s, %v", c.body, r.Class, r.Err)
		}
	}
	body = `{"success":true}`
	for _, op := range []auth.Operation{auth.OpSetPass, auth.OpTryRegister, auth.OpRemoveUser, auth.OpRemoveUser3, auth.OpCertAuth, auth.OpRoster} {
		if r := ask(t, b, op); r.Class != Unsupported {
			t.Errorf("%s: %s", op, r.Class)
		}
	}
	for _, password := range []string{"", "p\xff"} {
		if r := askAs(t, b, auth.OpAuth, "joe", password); r.Class != Refused {
			t.Errorf("password %q: %s, want refused without asking", password, r.Class)
		}
	}
}

// BenchmarkAccount reads an answer of Nextcloud to a login.
func BenchmarkAccount(b *testing.B) {
	r := response{status: 200, body: []byte(`{"ocs":{"meta":{"status":"ok","statuscode":200,"message":"OK"},"data":{"enabled":true,"id":"joe","groups":["a","b"]}}}`)}
	b.ReportAllocs()
	for b.Loop() {
		if id, got := classifyLogin(parseOCS(r), "secret"); id != "joe" || got.Class != Accepted {
			b.Fatal(id, got)
		}
	}
}
