package wire

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"postern/internal/auth"
	"postern/internal/proxies"
)

// HTTPRequest is a request of HTTP that its carrier has parsed and bounded.
type HTTPRequest struct {
	Method string
	Path   string // as it came, not decoded; it begins with a slash
	Query  string // as it came, without the question mark
	Header map[string][]string
	Body   []byte
	Peer   netip.Addr // of the connection; not valid: a process at the other end of a Unix socket
}

// get returns the first value of a header, by its canonical name.
func (r *HTTPRequest) get(name string) string {
	if values := r.Header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// HTTPReply is what is answered to a request of HTTP.
type HTTPReply struct {
	Status int
	Header [][2]string // names in canonical form
	Body   string
}

// Respond makes the reply of the answer to a request.
type Respond func(auth.Answer) HTTPReply

// HTTPOptions tune the dialects of a listener.
type HTTPOptions struct {
	// Secret is shared with the peers. Empty: none is asked for, since the carrier knows its peers.
	Secret auth.Secret
	// DefaultDomain is the listener's, in canonical form, or empty.
	DefaultDomain string
	// Realm is that of the challenge to a browser. Empty: the domain's name.
	Realm string
	// TrustedProxies are the addresses of the peers that may name the address of a client. A process at
	// the other end of a Unix socket may always.
	TrustedProxies proxies.Trusted
	// Mail has the servers to which nginx is sent after a login, by their protocol.
	Mail map[string]netip.AddrPort
	// Userdb is what /dovecot/userdb says of a user.
	Userdb Userdb
}

// HTTP decodes the requests of HTTP for a listener, and encodes the answers. A path names the dialect. It
// is immutable and safe for concurrent use.
type HTTP struct {
	HTTPOptions
	secret [sha256.Size]byte
}

// NewHTTP returns the codec of a listener.
func NewHTTP(o HTTPOptions) *HTTP {
	return &HTTP{HTTPOptions: o, secret: sha256.Sum256([]byte(o.Secret.Reveal()))}
}

// httpRoutes are the dialects by the beginnings of their paths. decode gets what follows, which is empty
// or begins with a slash.
var httpRoutes = []struct {
	prefix string
	decode func(h *HTTP, r *HTTPRequest, rest string, req *auth.Request) (Respond, Event)
}{
	{"/auth_http", (*HTTP).authHTTP},
	{basicPath, (*HTTP).basic},
	{"/nginx-mail", (*HTTP).nginxMail},
	{"/dovecot", (*HTTP).dovecot},
	{"/prosody", (*HTTP).prosody},
}

// basicPath is that of the dialect in which the Authorization header is the user's.
const basicPath = "/basic"

// Decode reads a request. With Ask and Refuse it has filled req, and respond makes the reply of the
// answer; with Reply there is nothing to ask, and respond does not look at its argument. No reply has an
// answer's reason, or a secret.
func (h *HTTP) Decode(r *HTTPRequest, req *auth.Request) (respond Respond, ev Event) {
	*req = auth.Request{}
	for _, route := range httpRoutes {
		if rest, ok := strings.CutPrefix(r.Path, route.prefix); ok && (rest == "" || rest[0] == '/') {
			return route.decode(h, r, rest, req)
		}
	}
	return fixed(404, "no such path\n")
}

// fixed is the result of Decode for a request that has its reply already.
func fixed(status int, body string, header ...[2]string) (Respond, Event) {
	return func(auth.Answer) HTTPReply { return HTTPReply{status, header, body} }, Reply
}

// secretHeader has the listener's secret where Authorization has something else.
const secretHeader = "X-Postern-Secret"

// Admits reports whether a request has the listener's secret: in X-Postern-Secret, as a bearer token, as
// the password of Basic, which is all that MongooseIM can send, or, where Authorization is the user's, in
// the query, for Prosody's mod_auth_http_async. All are compared in constant time.
func (h *HTTP) Admits(r *HTTPRequest) bool {
	if h.Secret.Empty() {
		return true
	}
	given := r.get(secretHeader)
	if rest, basic := strings.CutPrefix(r.Path, basicPath); basic && (rest == "" || rest[0] == '/') {
		if given == "" {
			form, _ := httpForm(r.Query)
			given = form.get("secret")
		}
	} else if given == "" {
		value := r.get("Authorization")
		scheme, token, _ := strings.Cut(value, " ")
		if given = strings.TrimSpace(token); !strings.EqualFold(scheme, "bearer") {
			_, given, _ = basicCredentials(value)
		}
	}
	sum := sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(sum[:], h.secret[:]) == 1
}

// Browser reports whether a browser has sent the request by itself, because of a page or a link. Peers
// never do, and what a proxy passes on with /basic has the headers of the visitor.
func (h *HTTP) Browser(r *HTTPRequest) bool {
	if rest, basic := strings.CutPrefix(r.Path, basicPath); basic && (rest == "" || rest[0] == '/') {
		return false
	}
	return len(r.Header["Origin"]) > 0 || len(r.Header["Sec-Fetch-Site"]) > 0
}

// named returns the address of a client as the peer names it, if the peer may.
func (h *HTTP) named(r *HTTPRequest, address string) string {
	if !h.TrustedProxies.Trusts(r.Peer) {
		return ""
	}
	return clientAddress(address)
}

// forwarded returns the address of a proxy's visitor; "" if the peer may not name it, or does not.
func (h *HTTP) forwarded(r *HTTPRequest) string {
	if client := h.TrustedProxies.Client(r.Peer, r.Header); client.IsValid() {
		return client.String()
	}
	return ""
}

// maxFormFields bounds the fields of a form.
const maxFormFields = 32

// form is a decoded query, or a body of that form: a few fields, each once.
type form [][2]string

// get returns the value of a field.
func (f form) get(name string) string {
	for _, field := range f {
		if field[0] == name {
			return field[1]
		}
	}
	return ""
}

// httpForm decodes a form as url.ParseQuery does. ok is false if it is malformed, or has a field twice: two readers of
// it might take different ones.
func httpForm(text string) (fields form, ok bool) {
	if strings.Count(text, "&") >= maxFormFields || strings.Contains(text, ";") {
		return nil, false
	}
	fields = make(form, 0, 4)
	for pair := range strings.SplitSeq(text, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		value, err2 := url.QueryUnescape(value)
		if err != nil || err2 != nil || slices.ContainsFunc(fields, func(f [2]string) bool { return f[0] == name }) {
			return nil, false
		}
		fields = append(fields, [2]string{name, value})
	}
	return fields, true
}

// basicCredentials splits an Authorization header of the scheme Basic.
func basicCredentials(header string) (user, password string, ok bool) {
	scheme, code, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "basic") {
		return "", "", false
	}
	text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(code))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(text), ":")
}

// splitLogin splits a login name at its last "@". ok is false if the domain is empty.
func splitLogin(name string) (user, domain string, ok bool) {
	if at := strings.LastIndexByte(name, '@'); at >= 0 {
		return name[:at], name[at+1:], name[at+1:] != ""
	}
	return name, "", true
}

// httpDomain decodes the domain in a path, which follows a slash. ok is false if there is more.
func httpDomain(rest string) (domain string, ok bool) {
	domain, err := url.PathUnescape(strings.TrimPrefix(rest, "/"))
	return domain, err == nil && !strings.Contains(domain, "/")
}

// retryAfter goes with each temporary failure.
var retryAfter = [2]string{"Retry-After", "5"}

// unavailable is the reply of a temporary failure, but for nginx's mail proxy.
func unavailable() HTTPReply { return HTTPReply{503, [][2]string{retryAfter}, "temporary failure\n"} }

// no reports whether an answer to a question, which changes nothing, is a no.
func no(a auth.Answer) bool { return a.Verdict == auth.Deny || a.Verdict == auth.Unsupported }
