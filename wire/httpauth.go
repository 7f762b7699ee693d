package wire

import (
	"cmp"
	"encoding/json"
	"strings"

	"postern/internal/auth"
)

// authHTTPOps are the methods of the auth_http family. get_password is not offered, and neither are
// certificates.
var authHTTPOps = map[string]auth.Operation{
	"/check_password": auth.OpAuth, "/user_exists": auth.OpIsUser, "/set_password": auth.OpSetPass,
	"/register": auth.OpTryRegister, "/remove_user": auth.OpRemoveUser,
}

// authHTTP decodes the API of MongooseIM's auth_http, ejabberd_auth_http and Prosody's mod_auth_http.
func (h *HTTP) authHTTP(r *HTTPRequest, rest string, req *auth.Request) (Respond, Event) {
	op := authHTTPOps[rest]
	text := r.Query
	switch {
	case op == auth.OpNone:
		return fixed(404, "no such method\n")
	case r.Method == "POST": // without a Content-Type
		text = string(r.Body)
	case r.Method != "GET" || op.Changes():
		return fixed(405, "", [2]string{"Allow", "POST"})
	}
	respond := func(a auth.Answer) HTTPReply { return authHTTPReply(op, a) }
	form, ok := httpForm(text)
	if !ok {
		return respond, refuse(req, op, faultForm)
	}
	return respond, fill(req, auth.Request{Op: op, User: form.get("user"), Domain: form.get("server"), Service: "xmpp"}, []byte(form.get("pass")))
}

// authHTTPReply encodes an answer. The peers compare the bodies byte by byte, and take every status
// but the usual ones for a failure, which they log.
func authHTTPReply(op auth.Operation, a auth.Answer) HTTPReply {
	yes := HTTPReply{Status: 200}
	refusal := HTTPReply{Status: 403}
	switch op {
	case auth.OpAuth, auth.OpIsUser:
		yes.Body, refusal = "true", HTTPReply{Status: 200, Body: "false"}
	case auth.OpTryRegister:
		yes.Status = 201
		if a.Verdict == auth.Deny {
			refusal.Status = 409
		}
	}
	switch a.Verdict {
	case auth.Allow:
		return yes
	case auth.Unavailable:
		return unavailable()
	}
	return refusal
}

// basic decodes HTTP Basic, for nginx's auth_request, Caddy's and Traefik's forward_auth, and Prosody's
// mod_auth_http_async: the credentials of the request are those that are asked about. What follows the
// path is the only domain then.
func (h *HTTP) basic(r *HTTPRequest, rest string, req *auth.Request) (Respond, Event) {
	only, ok := httpDomain(rest)
	if !ok {
		return fixed(404, "no such path\n")
	}
	realm := cmp.Or(h.Realm, only, h.DefaultDomain, "login")
	challenge := [2]string{"Www-Authenticate", `Basic realm="` + strings.NewReplacer(`"`, "'", `\`, "/").Replace(realm) + `", charset="UTF-8"`}
	if !plainText(realm) {
		return fixed(404, "no such path\n")
	}
	header := r.get("Authorization")
	if header == "" {
		return fixed(401, "", challenge)
	}
	name, password, whole := basicCredentials(header)
	respond := func(a auth.Answer) HTTPReply {
		account := h.remoteUser(only, req, a)
		switch {
		case a.Verdict == auth.Allow && plainText(account):
			return HTTPReply{200, [][2]string{{"Remote-User", account}, {"Remote-Groups", remoteGroups(a.Groups)}}, ""}
		case no(a):
			return HTTPReply{401, [][2]string{challenge}, ""}
		}
		return unavailable()
	}
	user, domain, ok := splitLogin(name)
	ask := auth.Request{Op: auth.OpAuth, User: user, Domain: cmp.Or(domain, only), Service: "http", Client: h.forwarded(r), Named: true}
	switch {
	case !whole:
		return respond, refuse(req, auth.OpAuth, faultForm)
	case !ok:
		return respond, refuseNamed(req, ask, faultDomain)
	case only != "" && domain != "" && !sameDomain(domain, only):
		return respond, refuseNamed(req, ask, "the name has another domain than the path")
	}
	return respond, fill(req, ask, []byte(password))
}

// sameDomain compares two spellings of domains.
func sameDomain(a, b string) bool {
	one, err := auth.FoldDomain(a)
	other, err2 := auth.FoldDomain(b)
	return err == nil && err2 == nil && one == other
}

// remoteUser is the account for a web application: with its domain, unless that is the path's, or the
// listener's default one.
func (h *HTTP) remoteUser(only string, req *auth.Request, a auth.Answer) string {
	account := accountOf(req, a)
	user, domain, _ := splitLogin(account)
	if domain != "" && sameDomain(domain, cmp.Or(only, h.DefaultDomain)) {
		return user
	}
	return account
}

// maxRemoteGroups bounds the header with the groups of an account, in bytes.
const maxRemoteGroups = 4096

// remoteGroups lists groups for a web application, as Authelia does: with commas between them. The header is there
// without any as well, so that a visitor's own, with groups of the visitor's choice, does not reach the application.
// A name with a comma would be two, and is left out.
func remoteGroups(g auth.Groups) string {
	var list []string
	size := 0
	for _, name := range g.Members() {
		if size += len(name) + 1; size > maxRemoteGroups {
			break
		}
		if plainText(name) && !strings.Contains(name, ",") && strings.TrimSpace(name) == name {
			list = append(list, name)
		}
	}
	return strings.Join(list, ",")
}

// prosodyLogin is the body of mod_auth_custom_http.
type prosodyLogin struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// prosody decodes mod_auth_custom_http. Its Content-Type is not that of the body. It takes a body "true"
// for yes, whatever the status is, and everything else for no.
func (h *HTTP) prosody(r *HTTPRequest, rest string, req *auth.Request) (Respond, Event) {
	domain, ok := httpDomain(rest)
	switch {
	case !ok:
		return fixed(404, "no such path\n")
	case r.Method != "POST":
		return fixed(405, "", [2]string{"Allow", "POST"})
	}
	respond := func(a auth.Answer) HTTPReply {
		switch {
		case a.Verdict == auth.Allow:
			return HTTPReply{Status: 200, Body: "true"}
		case no(a):
			return HTTPReply{Status: 200, Body: "false"}
		}
		return unavailable()
	}
	var login prosodyLogin
	if json.Unmarshal(r.Body, &login) != nil {
		return respond, refuse(req, auth.OpAuth, faultForm)
	}
	return respond, fill(req, auth.Request{Op: auth.OpAuth, User: login.Username, Domain: domain, Service: "xmpp"}, []byte(login.Password))
}
