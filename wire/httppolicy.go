package wire

import (
	"encoding/json"
	"net/url"

	"postern/internal/auth"
)

// Policy is a question of Dovecot's auth-policy client, or a report.
type Policy struct {
	Report  bool   // of a login that has ended; else: may one begin?
	Refused bool   // Report: the password was wrong
	User    string // as Dovecot was given it, without its domain
	Domain  string // in canonical form; empty: that is not known
	Client  string // an address; empty: it is not known
	Hash    string // of account and password
}

// policyPath is where Dovecot's auth_policy_server_url leads.
const policyPath = "/dovecot/policy"

// policyBody is what Dovecot sends.
type policyBody struct {
	Login    string `json:"login"`
	Remote   string `json:"remote"`
	Hash     string `json:"pwhash"`
	Success  bool   `json:"success"`
	Rejected bool   `json:"policy_reject"`
	Why      string `json:"fail_type"` // not of every version
}

// Policy decodes a request of Dovecot's auth-policy client; ok is false for any other. What it makes no sense of is
// a question about nobody.
func (h *HTTP) Policy(r *HTTPRequest) (p Policy, ok bool) {
	if r.Path != policyPath || r.Method != "POST" {
		return p, false
	}
	query, err := url.ParseQuery(r.Query)
	var body policyBody
	if err != nil || json.Unmarshal(r.Body, &body) != nil {
		return p, true
	}
	p.Report = query.Get("command") == "report"
	p.Client, p.Hash = h.named(r, body.Remote), body.Hash
	user, domain, ok := splitLogin(body.Login)
	if domain == "" {
		domain = h.DefaultDomain
	}
	if folded, err := auth.FoldDomain(domain); ok && err == nil && auth.CheckUser(user) == nil {
		p.User, p.Domain = user, folded
	}
	// A refusal by policy is one of ours, and a failure of the passdb says nothing of the password.
	p.Refused = p.Report && !body.Success && !body.Rejected && (body.Why == "" || body.Why == "credentials")
	return p, true
}

// PolicyReply answers an auth-policy client: -1 refuses the login, 0 lets it go on.
func PolicyReply(limited bool) HTTPReply {
	reply := HTTPReply{200, [][2]string{{"Content-Type", "application/json"}}, `{"status":0,"msg":""}`}
	if limited {
		reply.Body = `{"status":-1,"msg":"too many wrong passwords came from this address"}`
	}
	return reply
}
