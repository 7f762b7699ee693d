package backend

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"postern/internal/auth"
	"postern/internal/jsonobject"
)

// signatureHeader carries the signature of a JSXC request.
const signatureHeader = "X-JSXC-SIGNATURE"

// JSXCOptions configure a backend that asks Nextcloud's JSXC app.
type JSXCOptions struct {
	HTTPOptions
	Secret auth.Secret // the API secret
	// AcceptOtherID allows logins that lead to an account of another name, as mail addresses do.
	AcceptOtherID bool
}

// jsxc asks Nextcloud's JSXC app through its signed form API.
type jsxc struct {
	client  *httpClient
	options JSXCOptions
	signer  *signer
}

// NewJSXC returns a backend that asks the external API of the JSXC app at o.URL, signed with the
// API secret. It answers auth, isuser and roster. Its errors say what to correct in the options.
func NewJSXC(o JSXCOptions) (Backend, error) {
	if o.Secret.Empty() {
		return nil, errors.New("the API secret is empty; take it from the administration page of the JSXC app")
	}
	client, err := newHTTPClient(o.HTTPOptions)
	if err != nil {
		return nil, err
	}
	return &jsxc{client, o, newSigner(o.Secret)}, nil
}

// Close implements Backend.
func (j *jsxc) Close() error { j.client.close(); return nil }

// Ask implements Backend. The body of a roster is the server's whole document.
func (j *jsxc) Ask(ctx context.Context, q Query) Result {
	operation := ""
	switch q.Op {
	case auth.OpAuth:
		operation = "auth"
	case auth.OpIsUser:
		operation = "isuser"
	case auth.OpRoster:
		operation = "sharedroster"
	default:
		return Result{Class: Unsupported}
	}
	// PHP takes "0" for empty: the server would report a missing parameter.
	if q.User == "" || q.User == "0" {
		return Result{Class: Refused}
	}
	params := []param{{"operation", operation}, {"username", q.User}, {"domain", q.Domain}}
	if q.Op == auth.OpAuth {
		password := q.Secret.Reveal()
		if password == "" || password == "0" {
			return Result{Class: Refused}
		}
		params = append(params, param{"password", password})
	}
	body := encodeForm(params)
	request := request{method: http.MethodPost, target: j.client.target, header: []headerField{
		{"Content-Type", "application/x-www-form-urlencoded"},
		{"Accept", "application/json"},
		{signatureHeader, j.signer.sign(body)},
	}, body: body}
	r, err := j.client.do(ctx, request)
	if err != nil {
		return unanswered(err)
	}
	answer := classifyJSXC(q, r)
	if r.kept && j.elsewhere(q, answer) { // it may be late
		request.fresh = true
		if r, err = j.client.do(ctx, request); err != nil {
			return unanswered(err)
		}
		late := answer.Account
		if answer = classifyJSXC(q, r); answer.Account != late {
			j.client.pool.distrust(time.Now())
		}
	}
	if j.elsewhere(q, answer) {
		return Result{Class: Refused, Err: errOtherID}
	}
	return answer
}

// elsewhere reports whether a login leads to another account than that asked about, and must not.
func (j *jsxc) elsewhere(q Query, r Result) bool {
	return r.Class == Accepted && r.Account != "" && !j.options.AcceptOtherID && auth.FoldUser(r.Account) != auth.FoldUser(q.User)
}

// param is one field of a form.
type param struct{ name, value string }

// encodeForm encodes fields as application/x-www-form-urlencoded, in their order.
func encodeForm(params []param) []byte {
	b := make([]byte, 0, 256)
	for i, p := range params {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(append(b, url.QueryEscape(p.name)...), '=')
		b = append(b, url.QueryEscape(p.value)...)
	}
	return b
}

// signer signs with one secret. Keying an HMAC costs more than a signature, hence the pool. It is
// safe for concurrent use.
type signer struct{ macs sync.Pool }

func newSigner(secret auth.Secret) *signer {
	key := []byte(secret.Reveal())
	return &signer{sync.Pool{New: func() any { return hmac.New(sha1.New, key) }}}
}

// sign returns the value of signatureHeader for a body. The server accepts lower-case hexadecimal
// only.
func (s *signer) sign(body []byte) string {
	mac := s.macs.Get().(hash.Hash)
	defer s.macs.Put(mac)
	mac.Reset()
	mac.Write(body)
	return "sha1=" + hex.EncodeToString(mac.Sum(nil))
}

// classifyJSXC classifies a response of the JSXC app, which reports its own errors with HTTP 500.
func classifyJSXC(q Query, r response) Result {
	answer, err := jsonobject.Split(r.body)
	if err != nil || r.status != http.StatusOK && r.status != http.StatusInternalServerError {
		return foreign(q, r)
	}
	var result string
	if json.Unmarshal(answer["result"], &result) != nil || result == "" {
		return outage("HTTP %d, but the answer has no result", r.status)
	}
	switch {
	case result == "error":
		return classifyError(q, answer["data"])
	case r.status != http.StatusOK:
		return outage("HTTP %d with a result that is not an error", r.status)
	case q.Op == auth.OpAuth && result == "success":
		return Result{Class: Accepted, Known: true, Account: jsxcAccount(q, answer["data"])}
	case q.Op == auth.OpAuth: // "noauth", and any other word
		return Result{Class: Refused}
	case result != "success":
		return outage("the result is neither success nor error")
	case q.Op == auth.OpIsUser:
		return classifyIsUser(answer["data"])
	}
	return classifyRoster(answer["data"], r.body)
}

// jsxcAccount returns the account of a login. The app tries the account user@domain first, and then
// the account user: both are the user asked about.
func jsxcAccount(q Query, data json.RawMessage) string {
	fields, _ := jsonobject.Split(data)
	uid, ok := text(fields["uid"])
	if !ok { // an old version of the app
		return ""
	}
	if user, same := strings.CutSuffix(auth.FoldUser(uid), "@"+auth.FoldUser(q.Domain)); same && user == auth.FoldUser(q.User) {
		return uid[:strings.LastIndexByte(uid, '@')]
	}
	return uid
}

// ErrSignature means that the server has another API secret.
var ErrSignature = errors.New("the server says that the signature is wrong: secret is not the API secret of its JSXC app")

// classifyError reads the text of an error. There are no codes: a wrong signature and an unknown
// user differ in the text only.
func classifyError(q Query, data json.RawMessage) Result {
	var msg string
	if fields, err := jsonobject.Split(data); err == nil {
		_ = json.Unmarshal(fields["msg"], &msg) // without a text, the result below is an outage
	}
	msg = strings.ToLower(msg)
	switch {
	case strings.Contains(msg, "signature does not match"):
		return Result{Class: Misconfigured, Err: ErrSignature}
	case strings.Contains(msg, "x-jsxc-signature"):
		return misconfigured("the server says that the signature is missing: a proxy in between drops the header " + signatureHeader)
	case strings.Contains(msg, "hash algorithm"):
		return misconfigured("the server does not know the hash algorithm sha1")
	case strings.Contains(msg, "missing secret"):
		return misconfigured("the server has no API secret: create one on the administration page of its JSXC app")
	case strings.Contains(msg, "unsupported operation"):
		return misconfigured("the server does not know the operation " + q.Op.String() + ": update its JSXC app")
	case strings.Contains(msg, "find user") && q.Op != auth.OpRoster:
		return Result{Class: Refused}
	case strings.Contains(msg, "find user"): // another backend may have the user
		return Result{Class: Unsure, Err: errors.New("the server does not find the user")}
	}
	return outage("the server reports an internal error; see its log")
}

// classifyIsUser reads data.isUser by PHP's idea of truth: old versions send "1" and "0".
func classifyIsUser(data json.RawMessage) Result {
	fields, _ := jsonobject.Split(data)
	var value any
	err := json.Unmarshal(fields["isUser"], &value)
	switch value {
	case nil, false, 0.0, "", "0":
		if err == nil {
			return Result{Class: Refused}
		}
	}
	switch value.(type) {
	case bool, float64, string:
		return Result{Class: Accepted, Known: true}
	}
	return outage("the answer has no isUser")
}

// classifyRoster accepts a document with an object as roster, or a list where PHP made one of an
// array that is empty or has the keys 0, 1, 2 and so on.
func classifyRoster(data json.RawMessage, document []byte) Result {
	fields, _ := jsonobject.Split(data)
	if roster := fields["sharedRoster"]; len(roster) > 0 && (roster[0] == '{' || roster[0] == '[') {
		return Result{Class: Accepted, Known: true, Body: document}
	}
	return outage("the answer has no sharedRoster")
}

// Forged implements Signed.
func (j *jsxc) Forged(ctx context.Context, q Query) Result {
	secret := auth.NewSecret("not " + j.options.Secret.Reveal())
	return (&jsxc{j.client, j.options, newSigner(secret)}).Ask(ctx, q)
}
