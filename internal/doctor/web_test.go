package doctor

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern/internal/allow"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/backend/nextcloudtest"
	"postern/internal/backend/oidctest"
	"postern/internal/config"
)

func quietLog() *log.Logger { return log.New(io.Discard, "", 0) }

// jsxcServer is Nextcloud with the JSXC app and a user joe.
func jsxcServer(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	mac := hmac.New(sha1.New, []byte(canary))
	mac.Write(body)
	switch {
	case r.Header.Get("X-JSXC-SIGNATURE") != "sha1="+hex.EncodeToString(mac.Sum(nil)):
		answer(500, `{"result":"error","data":{"msg":"HMAC signature does not match."}}`)(w, r)
	case strings.Contains(string(body), "username=joe&"):
		answer(200, `{"result":"success","data":{"isUser":true}}`)(w, r)
	default:
		answer(200, `{"result":"success","data":{"isUser":false}}`)(w, r)
	}
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// appServer is a web application with a user joe.
func appServer(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if strings.Contains(string(body), `"joe@`) {
		answer(200, `{"success":true}`)(w, r)
		return
	}
	answer(200, `{"success":false}`)(w, r)
}

func header(name, value string, status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(name, value)
		w.WriteHeader(status)
	}
}

// late is a server with a wrong clock.
func late(by time.Duration, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(by).UTC().Format(http.TimeFormat))
		h(w, r)
	}
}

// one is a configuration of one backend and a domain that uses it.
func one(b config.Backend) *config.Config {
	b.Name, b.Timeout, b.MaxDelay = "x", 10*time.Second, 1600*time.Millisecond
	return &config.Config{Backends: []config.Backend{b}, Domains: []config.Domain{
		{Name: "other.example"}, {Name: "dom.example", Backends: []config.BackendRef{b.BackendRef}},
	}}
}

func kind(k, url, secret string) config.Backend {
	return config.Backend{BackendRef: config.BackendRef{Kind: k, Name: "x"}, URL: url, Secret: auth.NewSecret(secret)}
}

const html = "<!DOCTYPE html><html><body>" + canary + "</body></html>"

// Faults of a JSXC app and of a web application.
func TestWeb(t *testing.T) {
	const jsxc, app = config.KindJSXC, config.KindJSON
	const jsxcNo = `{"result":"success","data":{"isUser":false}}`
	for name, c := range map[string]struct {
		kind   string
		server http.HandlerFunc
		known  string
		want   want
	}{
		"jsxc":                {jsxc, jsxcServer, "joe", want{check: "signature", status: OK, text: "accepted"}},
		"jsxc refuses":        {jsxc, jsxcServer, "", want{check: "http", status: OK, text: "refuses a wrong signature"}},
		"jsxc user":           {jsxc, jsxcServer, "joe@dom.example", want{check: "user", status: OK, text: "knows joe@dom.example"}},
		"jsxc no user":        {jsxc, jsxcServer, "ann", want{check: "user", status: Warning, text: "does not know ann@dom.example", cure: "auth_domain"}},
		"other secret":        {jsxc, answer(500, `{"result":"error","data":{"msg":"HMAC signature does not match."}}`), "", want{check: "signature", status: Failure, text: "refuses the signature", cure: "copy the API secret"}},
		"takes every":         {jsxc, answer(200, jsxcNo), "", want{check: "http", status: Failure, text: "took a wrong signature", cure: "keep it off"}},
		"no app":              {jsxc, answer(404, html), "", want{check: "http", status: Failure, text: "no JSXC API", cure: `use backend "nextcloud"`}},
		"no secret there":     {jsxc, answer(500, `{"result":"error","data":{"msg":"Missing secret."}}`), "", want{check: "http", status: Failure, text: "has no API secret", cure: "administration page"}},
		"page":                {jsxc, answer(200, html), "", want{check: "http", status: Failure, text: "an HTML page", cure: "url"}},
		"PHP complains":       {jsxc, answer(200, "<br />\n<b>Warning</b>: x in y.php\n"+jsxcNo), "", want{check: "http", status: Failure, text: "other text before the JSON", cure: "display_errors = Off"}},
		"PHP fails":           {jsxc, answer(500, ""), "", want{check: "http", status: Failure, text: "HTTP 500: the application fails", cure: "log"}},
		"gateway":             {jsxc, answer(502, html), "", want{check: "http", status: Failure, text: "not the application behind it", cure: "php-fpm"}},
		"maintenance":         {jsxc, header("X-Nextcloud-Maintenance-Mode", "1", 503), "", want{check: "http", status: Failure, text: "maintenance", cure: "occ maintenance:mode --off"}},
		"to https":            {app, header("Location", "https://cloud.example/login?u="+canary, 301), "", want{check: "http", status: Failure, text: "HTTP 301: the server redirects postern, to https", cure: "write https"}},
		"elsewhere":           {app, header("Location", "http://www.example/"+canary, 302), "", want{check: "http", status: Failure, text: `"www.example"`, cure: "final address"}},
		"no API":              {app, answer(404, ""), "", want{check: "http", status: Failure, text: "no such API", cure: "url"}},
		"keeps out":           {app, answer(403, html), "", want{check: "http", status: Failure, text: "refuses postern", cure: "exempt"}},
		"limits":              {app, answer(429, ""), "", want{check: "http", status: Failure, text: "limits postern", cure: "exempt the address that postern has there (127.0.0.1, "}},
		"bad request":         {app, answer(400, ""), "", want{check: "http", status: Failure, text: "rejects the request", cure: "url"}},
		"no JSON":             {app, answer(200, "ok"), "", want{check: "http", status: Failure, text: "not JSON", cure: "another program"}},
		"hangs up":            {app, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "", want{check: "http", status: Failure, text: "closed the connection", cure: "log"}},
		"app":                 {app, appServer, "", want{check: "shape", status: OK, text: "as it should"}},
		"app user":            {app, appServer, "joe", want{check: "user", status: OK, text: "knows joe@dom.example"}},
		"app yes to all":      {app, answer(200, `{"success":true}`), "", want{check: "shape", status: Warning, text: "impossible name exists", cure: "/exists"}},
		"app of another form": {app, answer(200, `{"success":"yes"}`), "", want{check: "shape", status: Failure, text: "neither true nor false", cure: "HTTP 200"}},
		"same time":           {app, appServer, "", want{check: "clock", status: OK, text: "less than 30s"}},
		"a minute":            {app, late(time.Minute, appServer), "", want{check: "clock", status: Warning, text: "behind the server's: single-use tokens", cure: "NTP"}},
		"an hour":             {app, late(-time.Hour, appServer), "", want{check: "clock", status: Failure, text: "ahead of the server's: tokens are refused", cure: "NTP"}},
		"no time":             {app, header("Date", "", 404), "", want{check: "clock", status: Skipped, text: "does not send its time"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(c.server)
			s.Config.ErrorLog = quietLog()
			s.Start()
			defer s.Close()
			known := KnownUser{User: c.known}
			known.User, known.Domain, _ = strings.Cut(c.known, "@")
			c.want.hop = "backend." + c.kind + ".x"
			c.want.expect(t, examine(t, network(s.Listener.Addr().String()), one(kind(c.kind, "http://cloud.example/api", canary)), known))
		})
	}
}

// Faults of an OpenID Connect provider.
func TestOIDC(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*oidctest.Provider, *config.Backend)
		want   want
	}{
		"good":       {nil, want{check: "keys", status: OK, text: "2 keys"}},
		"the issuer": {nil, want{check: "discovery", status: OK, text: "is the issuer"}},
		"the clock":  {nil, want{check: "clock", status: OK, text: "less than leeway (30s)"}},
		"the client": {nil, want{check: "client", status: OK, text: "answers the client"}},
		"a slash too many": {func(_ *oidctest.Provider, b *config.Backend) { b.URL += "/" },
			want{check: "discovery", status: Failure, text: "calls itself", cure: "correct issuer"}},
		"no provider": {func(p *oidctest.Provider, _ *config.Backend) { p.Set(oidctest.Discovery, answer(404, html)) },
			want{check: "discovery", status: Failure, text: "HTTP 404", cure: "correct issuer"}},
		"no keys": {func(p *oidctest.Provider, _ *config.Backend) { p.Publish() },
			want{check: "keys", status: Failure, text: "no key", cure: "jwks_uri"}},
		"another secret": {func(_ *oidctest.Provider, b *config.Backend) { b.OIDC.ClientSecret = auth.NewSecret(canary) },
			want{check: "client", status: Failure, text: "client_secret", cure: "at the provider"}},
		"no direct grants": {func(p *oidctest.Provider, _ *config.Backend) {
			p.Set(oidctest.Token, answer(400, `{"error":"unauthorized_client"}`))
		}, want{check: "client", status: Failure, text: "direct access grants", cure: "at the provider"}},
		"an hour": {func(p *oidctest.Provider, _ *config.Backend) {
			p.Set(oidctest.Discovery, late(time.Hour, answer(200, `{"issuer":"`+p.URL+`"}`)))
		}, want{check: "clock", status: Failure, text: "more than leeway", cure: "NTP"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := oidctest.Start(t)
			p.Publish(oidctest.RSA(t, "a"), oidctest.EC(t, "b"))
			b := kind(config.KindOIDC, p.URL, "")
			b.OIDC = config.OIDC{
				Accept: []string{config.AcceptJWT, config.AcceptIntrospection, config.AcceptPasswordGrant}, Audience: "postern", UsernameClaim: "sub",
				ClientID: oidctest.Client, ClientSecret: auth.NewSecret(oidctest.Secret), Leeway: 30 * time.Second,
			}
			if c.change != nil {
				c.change(p, &b)
			}
			e := OSEnv()
			e.Connect = connect
			c.want.hop = "backend.oidc.x"
			c.want.expect(t, examine(t, e, one(b), KnownUser{}))
		})
	}
}

// Faults of a provider's SCIM API.
func TestOIDCSCIM(t *testing.T) {
	const list = `{"schemas":["urn:ietf:params:scim:api:messages:2.0:ListResponse"],"totalResults":%d,"Resources":[%s]}`
	// users answers with what the API says of alice.
	users := func(alice string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Header.Get("Authorization") != "Bearer "+canary:
				w.WriteHeader(http.StatusUnauthorized)
			case alice != "" && r.FormValue("filter") == `userName eq "alice"`:
				_, _ = fmt.Fprintf(w, list, 1, alice)
			default:
				_, _ = fmt.Fprintf(w, list, 0, "")
			}
		}
	}
	all := func(w http.ResponseWriter, r *http.Request) {
		_, name, _ := strings.Cut(r.FormValue("filter"), " eq ")
		_, _ = fmt.Fprintf(w, list, 1, `{"userName":`+name+`}`)
	}
	const alice = `{"userName":"alice","groups":[]}`
	for name, c := range map[string]struct {
		api    http.HandlerFunc
		known  string
		change func(*oidctest.Provider, *config.Backend)
		want   want
	}{
		"good":          {users(alice), "", nil, want{status: OK, text: "--as USER"}},
		"a user":        {users(alice), "alice", nil, want{status: OK, text: "knows alice@dom.example"}},
		"an absent one": {users(""), "alice", nil, want{status: Warning, text: "does not know alice@dom.example", cure: "userName"}},
		"a disabled one": {users(`{"userName":"alice","active":false}`), "alice", nil,
			want{status: Warning, text: "is disabled", cure: "enable"}},
		"no groups":  {users(`{"userName":"alice"}`), "alice", nil, want{status: Warning, text: "does not list the groups", cure: "groups"}},
		"every name": {all, "", nil, want{status: Failure, text: "for every name", cure: "userName"}},
		"no API":     {answer(404, html), "", nil, want{status: Failure, text: "no SCIM API at the url", cure: "rights"}},
		"a page":     {answer(200, html), "", nil, want{status: Failure, text: "not with a list", cure: "log"}},
		"no rights":  {answer(403, "{}"), "", nil, want{status: Failure, text: "may read users", cure: "rights"}},
		"a wrong token": {users(alice), "", func(_ *oidctest.Provider, b *config.Backend) { b.OIDC.SCIMToken = auth.NewSecret("x") },
			want{status: Failure, text: "refuses the token", cure: "rights"}},
		"a token by the client": {users(alice), "", func(p *oidctest.Provider, b *config.Backend) {
			b.OIDC.SCIMToken = auth.Secret{}
			p.ClientToken = func(string) map[string]any { return map[string]any{"access_token": canary} }
		}, want{status: OK, text: "--as USER"}},
		"no such grant": {users(alice), "", func(_ *oidctest.Provider, b *config.Backend) { b.OIDC.SCIMToken = auth.Secret{} },
			want{status: Failure, text: "client credentials grant", cure: "rights"}},
		"no provider": {users(alice), "", func(p *oidctest.Provider, b *config.Backend) {
			b.OIDC.SCIMToken = auth.Secret{}
			p.Fail(oidctest.Discovery, 503)
		}, want{check: "discovery", status: Failure, text: "503", cure: "issuer"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := oidctest.Start(t)
			p.Publish(oidctest.RSA(t, "a"))
			p.Set("/scim/Users", c.api)
			b := kind(config.KindOIDC, p.URL, "")
			b.OIDC = config.OIDC{
				Accept: []string{config.AcceptJWT}, Audience: "postern", UsernameClaim: "sub", ClientID: oidctest.Client, ClientSecret: auth.NewSecret(oidctest.Secret),
				SCIMURL: p.URL + "/scim", SCIMToken: auth.NewSecret(canary),
			}
			if c.change != nil {
				c.change(p, &b)
			}
			cfg := one(b)
			cfg.Domains[1].Allow = []allow.Block{{Groups: []string{"mail"}}}
			e := OSEnv()
			e.Connect = connect
			c.want.hop, c.want.check = "backend.oidc.x", cmp.Or(c.want.check, "scim")
			c.want.expect(t, examine(t, e, cfg, KnownUser{User: c.known}))
		})
	}
}

// Each response is checked, also if the second differs from the first.
func TestSignatureLost(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked == 1 {
			jsxcServer(w, r)
			return
		}
		answer(200, html)(w, r)
	}))
	defer s.Close()
	want{"backend.jsxc.x", "signature", Failure, "an HTML page", "url"}.expect(t,
		examine(t, network(s.Listener.Addr().String()), one(kind(config.KindJSXC, "http://cloud.example/", canary)), KnownUser{}))
}

// Faults of Nextcloud.
func TestNextcloud(t *testing.T) {
	local := func(s *nextcloudtest.State) { s.AllowListed = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }
	failed := func(times int) func(t *testing.T, url string) {
		return func(t *testing.T, url string) {
			b, err := backend.NewNextcloud(backend.NextcloudOptions{HTTPOptions: backend.HTTPOptions{URL: url}, MaxDelay: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			for range times {
				b.Ask(context.Background(), backend.Query{Op: auth.OpAuth, User: "joe", Domain: "dom.example", Secret: auth.NewSecret("wrong")})
			}
		}
	}
	status := func(text string) func(*nextcloudtest.State) {
		return func(s *nextcloudtest.State) {
			s.Instead = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/status.php" {
					answer(200, text)(w, r)
				}
				return r.URL.Path == "/status.php"
			}
		}
	}
	for name, c := range map[string]struct {
		change   func(*nextcloudtest.State)
		before   func(t *testing.T, url string)
		account  string // the service account, with its password
		known    string
		want     want
		attempts int // failed logins that doctor itself makes
	}{
		"good":           {local, nil, "boss:secret", "", want{check: "http", status: OK, text: "Nextcloud 31.0.4.1"}, 0},
		"exempt":         {local, nil, "boss:secret", "", want{check: "throttle", status: OK, text: "exempt"}, 0},
		"not exempt":     {nil, nil, "boss:secret", "", want{check: "throttle", status: Warning, text: "one address", cure: "exempt the address that postern has there (127.0.0.1, unless the network translates it): administration settings, Security, Brute-force IP whitelist"}, 0},
		"slow":           {nil, failed(2), "boss:secret", "", want{check: "throttle", status: Warning, text: "by 400ms", cure: "whitelist"}, 0},
		"very slow":      {nil, failed(8), "boss:secret", "", want{check: "throttle", status: Failure, text: "postern sends no more", cure: "occ security:bruteforce:reset 127.0.0.1"}, 0},
		"does not tell":  {func(s *nextcloudtest.State) { s.Before29 = true }, nil, "boss:secret", "", want{check: "throttle", status: OK, text: "not delayed"}, 0},
		"maintenance":    {func(s *nextcloudtest.State) { s.Maintenance = true }, nil, "boss:secret", "", want{check: "http", status: Failure, text: "maintenance", cure: "occ maintenance:mode --off"}, 0},
		"upgrade":        {status(`{"installed":true,"maintenance":false,"needsDbUpgrade":true,"version":"31.0.0.1"}`), nil, "", "", want{check: "http", status: Failure, text: "upgrade", cure: "occ upgrade"}, 0},
		"not installed":  {status(`{"installed":false,"maintenance":false,"version":"31.0.0.1"}`), nil, "", "", want{check: "http", status: Failure, text: "not installed", cure: "finish"}, 0},
		"no Nextcloud":   {status(`{"hello":"world"}`), nil, "", "", want{check: "http", status: Failure, text: "not a Nextcloud", cure: "without index.php"}, 0},
		"page":           {status(html), nil, "", "", want{check: "http", status: Failure, text: "an HTML page", cure: "url"}, 0},
		"no account":     {local, nil, "", "", want{check: "rights", status: Warning, text: "no service account", cure: "admin_user"}, 0},
		"may look":       {local, nil, "boss:secret", "", want{check: "rights", status: OK, text: "--as USER"}, 0},
		"finds":          {local, nil, "boss:secret", "joe@dom.example", want{check: "rights", status: OK, text: "finds joe"}, 0},
		"does not find":  {local, nil, "boss:secret", "ann", want{check: "rights", status: Failure, text: "asked for ann", cure: "administrator"}, 0},
		"wrong password": {nil, nil, "boss:" + canary, "joe", want{check: "rights", status: Failure, text: "refuses the service account", cure: "administration"}, 1},
		"may not look":   {local, nil, "joe:secret", "joe", want{check: "rights", status: Failure, text: "may not look up users: make admin_user an administrator", cure: "administration"}, 0},
		"no user API":    {func(s *nextcloudtest.State) { local(s); s.ProvisioningOff = true }, nil, "boss:secret", "", want{check: "rights", status: Failure, text: "provisioning_api", cure: "administration"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, stop := nextcloudtest.Start(&nextcloudtest.User{ID: "boss", Password: "secret", Groups: []string{"admin"}}, &nextcloudtest.User{ID: "joe", Password: "secret"})
			defer stop()
			if c.change != nil {
				s.Change(c.change)
			}
			if c.before != nil {
				c.before(t, s.URL)
			}
			before := s.Attempts("127.0.0.1")
			b := kind(config.KindNextcloud, s.URL, "")
			user, password, _ := strings.Cut(c.account, ":")
			b.AdminUser, b.AdminPassword = user, auth.NewSecret(password)
			e := OSEnv()
			e.Connect = connect
			var known KnownUser
			known.User, known.Domain, _ = strings.Cut(c.known, "@")
			c.want.hop = "backend.nextcloud.x"
			c.want.expect(t, examine(t, e, one(b), known))
			if n := s.Attempts("127.0.0.1") - before; n != c.attempts {
				t.Errorf("doctor itself has made %d failed logins, want %d", n, c.attempts)
			}
		})
	}
}
