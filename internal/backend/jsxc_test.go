package backend

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"postern/internal/auth"
)

// jsxcVector is one case of signature_jsxc.json; see the README of the vectors.
type jsxcVector struct {
	Name, Kind, Secret, Body, Expect string
	Params                           [][2]string
	HeaderName                       string `json:"header_name"`
	HeaderValue                      string `json:"header_value"`
	HTTPStatus                       int    `json:"http_status"`
	ResponseBody                     string `json:"response_body"`
	Auth, IsUser, SharedRoster       string
	Note                             string
}

func jsxcVectors(t *testing.T, kind string) []jsxcVector {
	t.Helper()
	data, err := os.ReadFile("testdata/signature_jsxc.json")
	if err != nil {
		t.Fatal(err)
	}
	var all, out []jsxcVector
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		if v.Kind == kind {
			out = append(out, v)
		}
	}
	if len(out) == 0 {
		t.Fatalf("no vectors of kind %s", kind)
	}
	return out
}

// verifies checks a signature as a JSXC server does: any algorithm that PHP knows, by its exact
// name, and an exact comparison.
func verifies(secret, body, header string) bool {
	algorithm, want, _ := strings.Cut(header, "=")
	maker := map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New}[algorithm]
	if maker == nil || secret == "" {
		return false
	}
	mac := hmac.New(maker, []byte(secret))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil)) == want
}

func TestJSXCRequests(t *testing.T) {
	for _, v := range jsxcVectors(t, "request") {
		t.Run(v.Name, func(t *testing.T) {
			var params []param
			for _, p := range v.Params {
				params = append(params, param{p[0], p[1]})
			}
			body := encodeForm(params)
			if string(body) != v.Body {
				t.Errorf("body\n got %s\nwant %s", body, v.Body)
			}
			if got := newSigner(auth.NewSecret(v.Secret)).sign(body); got != v.HeaderValue || v.HeaderName != signatureHeader {
				t.Errorf("%s: %s, want %s", signatureHeader, got, v.HeaderValue)
			}
			if !verifies(v.Secret, string(body), v.HeaderValue) {
				t.Error("the server would not take it")
			}
		})
	}
}

// TestJSXCVerify checks the server of these tests against the vectors.
func TestJSXCVerify(t *testing.T) {
	for _, v := range jsxcVectors(t, "verify") {
		if got := verifies(v.Secret, v.Body, v.HeaderValue); got != (v.Expect == "accepted") {
			t.Errorf("%s: verified: %v", v.Name, got)
		}
	}
}

// TestJSXCOnTheWire checks what Ask sends for the vectors in Ask's order.
func TestJSXCOnTheWire(t *testing.T) {
	type seen struct{ method, body, signature, contentType, agent, encoding string }
	var got seen
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = seen{r.Method, string(body), r.Header.Get(signatureHeader), r.Header.Get("Content-Type"),
			r.Header.Get("User-Agent"), r.Header.Get("Accept-Encoding")}
		_, _ = io.WriteString(w, `{"result":"noauth"}`)
	})
	operations := map[string]auth.Operation{"auth": auth.OpAuth, "isuser": auth.OpIsUser, "sharedroster": auth.OpRoster}
	sent := 0
	for _, v := range jsxcVectors(t, "request") {
		q := Query{}
		for _, p := range v.Params {
			switch p[0] {
			case "operation":
				q.Op = operations[p[1]]
			case "username":
				q.User = p[1]
			case "domain":
				q.Domain = p[1]
			case "password":
				q.Secret = auth.NewSecret(p[1])
			}
		}
		if v.Params[0][0] != "operation" || q.Op == auth.OpAuth && q.Secret.Empty() {
			continue // another order, and what a broker does not send
		}
		b, err := NewJSXC(JSXCOptions{HTTPOptions: HTTPOptions{URL: server.URL + "/api.php?x=y", UserAgent: "postern/test"}, Secret: auth.NewSecret(v.Secret)})
		if err != nil {
			t.Fatal(err)
		}
		checked(t, b.Ask(t.Context(), q))
		b.Close()
		want := seen{"POST", v.Body, v.HeaderValue, "application/x-www-form-urlencoded", "postern/test", ""}
		if got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", v.Name, got, want)
		}
		sent++
	}
	if sent < 10 {
		t.Errorf("only %d vectors were sent", sent)
	}
}

func TestJSXCResponses(t *testing.T) {
	var v jsxcVector
	server := serve(t, func(w http.ResponseWriter, r *http.Request) { canned(v.HTTPStatus, v.ResponseBody)(w, r) })
	b := kinds()[0].connect(t, HTTPOptions{URL: server.URL})
	for _, v = range jsxcVectors(t, "response") {
		for op, want := range map[auth.Operation]string{auth.OpAuth: v.Auth, auth.OpIsUser: v.IsUser, auth.OpRoster: v.SharedRoster} {
			if want == "" {
				continue
			}
			user := "joe"
			if v.Name == "auth-success-uid-with-domain" {
				user = "jo"
			}
			r := askAs(t, b, op, user, canary)
			if got := verdict(t, r); got != want {
				t.Errorf("%s, %s: %s (%s, %v), want %s", v.Name, op, got, r.Class, r.Err, want)
			}
			if op == auth.OpRoster && r.Class == Accepted && string(r.Body) != v.ResponseBody {
				t.Errorf("%s: the body was changed: %s", v.Name, r.Body)
			}
		}
	}
}

// verdict is a Result in the words of the vectors.
func verdict(t *testing.T, r Result) string {
	switch r.Class {
	case Outage, Throttled, Misconfigured, Unsure:
		return "unavailable"
	case Refused:
		return "no"
	case Accepted:
		if r.Body == nil {
			return "yes"
		}
		var doc struct {
			Data struct{ SharedRoster json.RawMessage }
		}
		if err := json.Unmarshal(r.Body, &doc); err != nil {
			t.Fatal(err)
		}
		var byName map[string]any
		var list []any
		if json.Unmarshal(doc.Data.SharedRoster, &byName) != nil && json.Unmarshal(doc.Data.SharedRoster, &list) != nil {
			t.Fatalf("no roster in %s", r.Body)
		}
		return fmt.Sprintf("%d users", len(byName)+len(list))
	}
	return r.Class.String()
}

// TestJSXCComplaints reads the texts of the server's errors, with the status it gives
// them and with 200.
func TestJSXCComplaints(t *testing.T) {
	cases := []struct {
		op   auth.Operation
		msg  string
		want Class
		cure string
	}{
		{auth.OpAuth, "Signature does not match.", Misconfigured, "secret"},
		{auth.OpIsUser, "Hash algorithm 'SHA1' is not supported.", Misconfigured, "algorithm"},
		{auth.OpAuth, `HTTP header "X-JSXC-Signature" is missing.`, Misconfigured, "proxy"},
		{auth.OpRoster, "Missing secret.", Misconfigured, "administration page"},
		{auth.OpRoster, "Unsupported operation", Misconfigured, "update"},
		{auth.OpAuth, "Can't find user", Refused, ""},
		{auth.OpIsUser, "Can't find user", Refused, ""},
		{auth.OpRoster, "Can't find user", Unsure, "does not find the user"},
		{auth.OpAuth, "SQLSTATE near " + canary, Outage, "its log"},
		{auth.OpAuth, "", Outage, "its log"},
	}
	for _, c := range cases {
		for _, status := range []int{200, 500} {
			text, _ := json.Marshal(c.msg)
			server := serve(t, canned(status, `{"result":"error","data":{"msg":`+string(text)+`}}`))
			r := ask(t, kinds()[0].connect(t, HTTPOptions{URL: server.URL}), c.op)
			if r.Class != c.want || c.cure != "" && !strings.Contains(r.Err.Error(), c.cure) {
				t.Errorf("%s, HTTP %d, %q: %s, %v", c.op, status, c.msg, r.Class, r.Err)
			}
		}
	}
}

// TestJSXCOddAnswers checks answers beyond the vectors.
func TestJSXCOddAnswers(t *testing.T) {
	cases := []struct {
		op     auth.Operation
		status int
		body   string
		want   Class
	}{
		{auth.OpAuth, 200, `{"RESULT":"success"}`, Outage},
		{auth.OpAuth, 200, `{"result":"Success"}`, Refused},
		{auth.OpAuth, 200, `{"result":true}`, Outage},
		{auth.OpAuth, 200, `{"result":["success"]}`, Outage},
		{auth.OpAuth, 200, `{"result":"success"} trailing`, Outage},
		{auth.OpAuth, 200, `{"result":"success"`, Outage},
		{auth.OpAuth, 200, `{"result":"success","result":"noauth"}`, Refused},
		{auth.OpAuth, 500, `{"result":"success"}`, Outage},
		{auth.OpAuth, 500, `{"result":"noauth"}`, Outage},
		{auth.OpAuth, 500, `<h1>Internal Server Error</h1>`, Outage},
		{auth.OpAuth, 200, strings.Repeat("[", 100000), Outage},
		{auth.OpIsUser, 200, `{"result":"success","data":{"isUser":"yes"}}`, Accepted},
		{auth.OpIsUser, 200, `{"result":"success","data":{"isUser":{}}}`, Outage},
		{auth.OpIsUser, 200, `{"result":"success","data":{"isUser":[]}}`, Outage},
		{auth.OpIsUser, 200, `{"result":"success","data":{"isuser":true}}`, Outage},
		{auth.OpIsUser, 200, `{"result":"success","data":{"isUser":1e999}}`, Outage},
		{auth.OpRoster, 200, `{"result":"success","data":{"sharedRoster":"x"}}`, Outage},
		{auth.OpRoster, 200, `{"result":"success","data":{}}`, Outage},
	}
	var now int
	server := serve(t, func(w http.ResponseWriter, r *http.Request) { canned(cases[now].status, cases[now].body)(w, r) })
	b := kinds()[0].connect(t, HTTPOptions{URL: server.URL})
	for i, c := range cases {
		now = i
		if r := ask(t, b, c.op); r.Class != c.want {
			t.Errorf("%s, HTTP %d, %.60q: %s, %v", c.op, c.status, c.body, r.Class, r.Err)
		}
	}
}

// TestJSXCNotAsked checks questions that are answered without a request.
func TestJSXCNotAsked(t *testing.T) {
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("the server was asked: %s", r.URL) })
	b := kinds()[0].connect(t, HTTPOptions{URL: server.URL})
	for _, c := range []struct {
		op           auth.Operation
		user, secret string
		want         Class
	}{
		{auth.OpAuth, "0", canary, Refused}, {auth.OpIsUser, "0", "", Refused}, {auth.OpRoster, "0", "", Refused},
		{auth.OpAuth, "joe", "0", Refused}, {auth.OpAuth, "joe", "", Refused}, {auth.OpAuth, "", canary, Refused},
		{auth.OpSetPass, "joe", canary, Unsupported}, {auth.OpTryRegister, "joe", canary, Unsupported},
		{auth.OpRemoveUser, "joe", "", Unsupported}, {auth.OpRemoveUser3, "joe", canary, Unsupported},
		{auth.OpCertAuth, "joe", canary, Unsupported}, {auth.OpNone, "joe", "", Unsupported},
	} {
		if r := askAs(t, b, c.op, c.user, c.secret); r.Class != c.want {
			t.Errorf("%s of %q: %s", c.op, c.user, r.Class)
		}
	}
}

// FuzzJSXCAnswer: no answer makes the classification panic, is accepted without the word for it,
// or is repeated in an error.
func FuzzJSXCAnswer(f *testing.F) {
	f.Add(200, []byte(`{"result":"success","data":{"isUser":true,"sharedRoster":[]}}`))
	f.Add(500, []byte(`{"result":"error","data":{"msg":"`+canary+`"}}`))
	f.Add(302, []byte(canary))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		for _, op := range []auth.Operation{auth.OpAuth, auth.OpIsUser, auth.OpRoster} {
			q := Query{Op: op, User: "joe", Domain: "d", Secret: auth.NewSecret(canary)}
			location := (&url.URL{Scheme: "https", Host: "h", Path: string(body)}).String()
			r := checked(t, classifyJSXC(q, response{status: status, location: location, body: body}))
			if r.Class == Accepted && (status != 200 || !strings.Contains(string(body), "s")) {
				t.Errorf("accepted: HTTP %d, %q", status, body)
			}
			checked(t, classifyJSON(q, response{status: status, location: location, body: body}))
		}
	})
}

// TestJSXCAccount: data.uid is the account. user@domain and user are the user asked about, letter case
// aside; any other is refused, unless the options allow it.
func TestJSXCAccount(t *testing.T) {
	var uid string
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		canned(200, `{"result":"success","data":{"uid":`+uid+`}}`)(w, r)
	})
	for _, accept := range []bool{false, true} {
		b, err := NewJSXC(JSXCOptions{HTTPOptions: HTTPOptions{URL: server.URL}, Secret: auth.NewSecret(canary), AcceptOtherID: accept})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		for _, c := range []struct {
			uid, account string
			other        bool
		}{
			{`"joe"`, "joe", false}, {`"Joe"`, "Joe", false}, {`"JOE@Dom.example"`, "JOE", false}, {`null`, "", false}, {`""`, "", false},
			{`"eve"`, "eve", true}, {`"joe@other.example"`, "joe@other.example", true}, {`7`, "7", true},
		} {
			uid = c.uid
			r := ask(t, b, auth.OpAuth)
			if c.other && !accept {
				if r.Class != Refused || !errors.Is(r.Err, errOtherID) || r.Account != "" {
					t.Errorf("uid %s: %+v, want refused", c.uid, r)
				}
			} else if r.Class != Accepted || r.Account != c.account {
				t.Errorf("uid %s: %+v, want the account %q", c.uid, r, c.account)
			}
		}
	}
}

// TestLateAccount: a server whose kept connections bring the response to the request before: another
// account is asked about once more, over a new connection.
func TestLateAccount(t *testing.T) {
	for _, k := range []kind{everyHTTP()[0], everyHTTP()[2]} {
		before := sync.Map{} // the response held back, by connection
		server := serve(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			user, _, _ := r.BasicAuth()
			if k.name == "jsxc" {
				form, _ := url.ParseQuery(string(body))
				user = form.Get("username")
			}
			own := strings.ReplaceAll(k.yes, `"joe"`, fmt.Sprintf("%q", user))
			if late, ok := before.Swap(r.RemoteAddr, own); ok {
				own = late.(string)
			}
			_, _ = io.WriteString(w, own)
		})
		b := k.connect(t, HTTPOptions{URL: server.URL})
		for _, user := range []string{"joe", "ann", "eve", "max"} {
			if r := askAs(t, b, auth.OpAuth, user, canary); r.Class != Accepted || r.Account != user {
				t.Errorf("%s: %s is answered %s for %q, %v", k.name, user, r.Class, r.Account, r.Err)
			}
		}
	}
}
