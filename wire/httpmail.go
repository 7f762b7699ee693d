package wire

import (
	"net/url"
	"strconv"
	"strings"

	"postern/internal/auth"
)

// Bounds of the replies to nginx's mail proxy: it reads 1024 bytes of headers, and asks the client again
// after Auth-Wait as often as there is one.
const (
	nginxMaxAccount = 512
	nginxAttempts   = 10
	nginxWait       = "1"
)

// nginxMail decodes the requests of nginx's mail proxy (auth_http). It does not look at the status of a
// reply, and takes one without Auth-Status for a yes.
func (h *HTTP) nginxMail(r *HTTPRequest, rest string, req *auth.Request) (Respond, Event) {
	if rest != "" {
		return fixed(404, "no such path\n")
	}
	protocol := r.get("Auth-Protocol")
	attempt, _ := strconv.Atoi(r.get("Auth-Login-Attempt"))
	server, served := h.Mail[protocol]
	failure := func(smtp bool, code, text string) HTTPReply {
		reply := HTTPReply{200, [][2]string{{"Auth-Status", text}}, ""}
		if attempt < nginxAttempts {
			reply.Header = append(reply.Header, [2]string{"Auth-Wait", nginxWait})
		}
		if smtp {
			reply.Header = append(reply.Header, [2]string{"Auth-Error-Code", code})
		}
		return reply
	}
	down := failure(protocol == "smtp", "451 4.3.0", "Temporary authentication failure")
	if !served { // an administrator's fault, and no fault of the user
		return func(auth.Answer) HTTPReply { return down }, Reply
	}
	name, ok := percentDecoded(r.get("Auth-User"))
	password, ok2 := percentDecoded(r.get("Auth-Pass"))
	respond := func(a auth.Answer) HTTPReply {
		switch {
		case a.Verdict == auth.Allow:
			reply := HTTPReply{200, [][2]string{
				{"Auth-Status", "OK"}, {"Auth-Server", server.Addr().String()}, {"Auth-Port", strconv.Itoa(int(server.Port()))},
			}, ""}
			account := accountOf(req, a)
			if len(account) > nginxMaxAccount || !plainText(account) {
				return down
			}
			if user, domain, _ := splitLogin(account); auth.FoldUser(user) != auth.FoldUser(req.User) || req.Domain != "" && !sameDomain(domain, req.Domain) {
				reply.Header = append(reply.Header, [2]string{"Auth-User", account})
			}
			return reply
		case no(a):
			return failure(protocol == "smtp", "535 5.7.8", "Invalid login or password")
		}
		return down
	}
	user, domain, hasDomain := splitLogin(name)
	ask := auth.Request{Op: auth.OpAuth, User: user, Domain: domain, Service: protocol, Client: h.named(r, r.get("Client-Ip")), Named: true}
	switch {
	case r.get("Auth-Method") != "plain":
		return respond, refuse(req, auth.OpAuth, "a method other than plain")
	case !ok || !ok2:
		return respond, refuse(req, auth.OpAuth, faultForm)
	case !hasDomain:
		return respond, refuseNamed(req, ask, faultDomain)
	}
	return respond, fill(req, ask, []byte(password))
}

// percentDecoded decodes %XX, and nothing else: a "+" is one.
func percentDecoded(text string) (string, bool) {
	text, err := url.PathUnescape(text)
	return text, err == nil
}

// dovecot decodes what scripts/dovecot/postern.lua asks: a password at /dovecot/passdb, and whether a
// user exists at /dovecot/userdb.
func (h *HTTP) dovecot(r *HTTPRequest, rest string, req *auth.Request) (Respond, Event) {
	op, respond := auth.OpNone, Respond(nil)
	switch rest {
	case "/passdb":
		op, respond = auth.OpAuth, func(a auth.Answer) HTTPReply { return h.passdbReply(req, a) }
	case "/userdb":
		op, respond = auth.OpIsUser, func(a auth.Answer) HTTPReply { return h.userdbReply(req, a) }
	default:
		return fixed(404, "no such path\n")
	}
	if r.Method != "POST" {
		return fixed(405, "", [2]string{"Allow", "POST"})
	}
	form, ok := httpForm(string(r.Body))
	if !ok {
		return respond, refuse(req, op, faultForm)
	}
	user, domain, ok := splitLogin(form.get("user"))
	ask := auth.Request{Op: op, User: user, Domain: domain, Service: form.get("service"), Client: h.named(r, form.get("rip")), Named: true}
	switch {
	case !ok:
		return respond, refuseNamed(req, ask, faultDomain)
	case !plainText(ask.Service):
		return respond, refuseNamed(req, ask, faultService)
	}
	return respond, fill(req, ask, []byte(form.get("password")))
}

// Lists returns the domain of a request for a list of users, in canonical form; ok is false for any other
// request.
func (h *HTTP) Lists(r *HTTPRequest) (domain string, ok bool) {
	if r.Path != "/dovecot/users" || r.Method != "POST" {
		return "", false
	}
	form, ok := httpForm(string(r.Body))
	if !ok {
		return "", false
	}
	if form.get("domain") == "" {
		return h.DefaultDomain, h.DefaultDomain != ""
	}
	domain, err := auth.FoldDomain(form.get("domain"))
	return domain, err == nil && domain != "*"
}

// UsersReply has a line for each user, with the domain. Names that cannot be asked about are left out.
// Without ok it is a temporary failure.
func UsersReply(names []string, domain string, ok bool) HTTPReply {
	if !ok {
		return unavailable()
	}
	var body strings.Builder
	for _, name := range names {
		if auth.CheckUser(name) == nil {
			body.WriteString(name + "@" + domain + "\n")
		}
	}
	return HTTPReply{Status: 200, Body: body.String()}
}

// passdbReply has the account in the body of a yes.
func (h *HTTP) passdbReply(req *auth.Request, a auth.Answer) HTTPReply {
	account := h.dovecotAccount(req, a)
	switch {
	case a.Verdict == auth.Allow && plainText(account):
		return HTTPReply{Status: 200, Body: "user=" + account + "\n"}
	case no(a):
		return HTTPReply{Status: 401}
	}
	return unavailable()
}

// dovecotAccount is the account with its domain.
func (h *HTTP) dovecotAccount(req *auth.Request, a auth.Answer) string {
	if a.Domain == "" && req.Domain == "" {
		a.Domain = h.DefaultDomain
	}
	return accountOf(req, a)
}

// userdbReply has a line for each field of a user. Mail to one that does not exist is bounced.
func (h *HTTP) userdbReply(req *auth.Request, a auth.Answer) HTTPReply {
	account := h.dovecotAccount(req, a)
	switch {
	case a.Verdict == auth.Deny:
		return HTTPReply{Status: 404}
	case a.Verdict != auth.Allow || !plainText(account):
		return unavailable()
	}
	home, ok := (&dovecotUserdb{userdb: h.Userdb}).home(account)
	if !ok {
		return HTTPReply{Status: 503, Body: "the name cannot be part of a path\n"}
	}
	var body strings.Builder
	for _, field := range [...][2]string{{"user", account}, {"uid", h.Userdb.UID}, {"gid", h.Userdb.GID}, {"home", home}} {
		if field[1] != "" {
			body.WriteString(field[0] + "=" + field[1] + "\n")
		}
	}
	return HTTPReply{Status: 200, Body: body.String()}
}
