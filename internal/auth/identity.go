package auth

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Limits on the parts of a request, in bytes. Names follow RFC 7622 section 3.
const (
	MaxName   = 1023
	MaxSecret = 8192
)

// ErrMalformed is wrapped by every error about a request that must not reach a backend.
var ErrMalformed = errors.New("malformed request")

// FaultOf returns the text of an error about a request without the words that all of them share.
func FaultOf(err error) string {
	return strings.TrimPrefix(err.Error(), ErrMalformed.Error()+": ")
}

// Identity is a user of a domain in canonical form, valid by construction.
type Identity struct {
	User   string // as the XMPP or mail server gave it
	Domain string // lower case, U-labels
}

// String returns user@domain, the bare JID.
func (i Identity) String() string { return i.User + "@" + i.Domain }

// domainProfile maps domains as RFC 5891 lookups do, but leaves the choice of
// letters within a label to the peer: an XMPP domain may hold an underscore.
var domainProfile = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false))

// CheckUser reports why user is not a valid name: empty, too long, invalid UTF-8, a control
// character, or an '@'.
func CheckUser(user string) error {
	return checkName("user", user, "@")
}

// CheckDomain reports why domain is not a valid name. The empty domain is not; see
// Request.Identity for the default.
func CheckDomain(domain string) error {
	return checkName("domain", domain, "@/ ")
}

// CheckSecret reports why a password is not valid: empty, too long, invalid UTF-8, or with a
// NUL, at which C and bcrypt backends stop reading.
func CheckSecret(secret string) error {
	switch {
	case secret == "":
		return fmt.Errorf("%w: empty password", ErrMalformed)
	case len(secret) > MaxSecret:
		return fmt.Errorf("%w: password over %d bytes", ErrMalformed, MaxSecret)
	case strings.IndexByte(secret, 0) >= 0:
		return fmt.Errorf("%w: NUL in password", ErrMalformed)
	case !utf8.ValidString(secret):
		return fmt.Errorf("%w: password is not UTF-8", ErrMalformed)
	}
	return nil
}

// FoldUser is the lower case of a name, rune by rune. Backends that ignore letter case take two
// names with one fold for one account; nothing coarser is folded, since what a backend does not take
// for one account must stay two. So the Turkish İ stays, which by itself would become i, but for
// databases, PHP and XMPP servers has a dot of its own.
func FoldUser(user string) string {
	if !strings.Contains(user, "İ") {
		return strings.ToLower(user)
	}
	return strings.Map(func(r rune) rune {
		if r == 'İ' {
			return r
		}
		return unicode.ToLower(r)
	}, user)
}

// FoldService is the name of a service as the rules of app passwords have it: in lower case, and one
// word for each of those that Dovecot and Cyrus SASL name differently.
func FoldService(service string) string {
	service = strings.ToLower(service)
	switch service {
	case "pop", "pop3s":
		return "pop3"
	case "imaps":
		return "imap"
	case "submission", "submissions", "smtps":
		return "smtp"
	case "managesieve":
		return "sieve"
	case "jabber":
		return "xmpp"
	}
	return service
}

// CheckAccount reports why an account of that name could log in by few fronts or by none: ':' ends the
// user in the line protocols, and no server sends white space at an end. With unescape, XMPP can send
// ':' (see UnescapeUser).
func CheckAccount(user string, unescape bool) error {
	switch {
	case strings.Contains(user, ":") && !unescape:
		return fmt.Errorf("%w: ':' in user", ErrMalformed)
	case strings.TrimSpace(user) != user:
		return fmt.Errorf("%w: white space at an end of the user", ErrMalformed)
	}
	return nil
}

// UnescapeUser resolves the escapes of XEP-0106, by which XMPP has characters in a user that a JID
// cannot have. The error wraps ErrMalformed if the result is no name that a backend may be asked about.
func UnescapeUser(user string) (string, error) {
	if strings.HasPrefix(user, `\20`) || strings.HasSuffix(user, `\20`) {
		return "", fmt.Errorf("%w: \\20 at an end of the user", ErrMalformed)
	}
	user = jidEscapes.Replace(user)
	return user, CheckUser(user)
}

// jidEscapes has the escapes of XEP-0106.
var jidEscapes = strings.NewReplacer(`\20`, " ", `\22`, `"`, `\26`, "&", `\27`, "'", `\2f`, "/", `\2F`, "/", `\3a`, ":", `\3A`, ":",
	`\3c`, "<", `\3C`, "<", `\3e`, ">", `\3E`, ">", `\40`, "@", `\5c`, `\`, `\5C`, `\`)

// EscapeUser writes a user as XMPP servers do where a JID cannot have its characters: UnescapeUser
// brings it back.
func EscapeUser(user string) string {
	if !strings.ContainsAny(user, notInJID+`\`) {
		return user
	}
	var b strings.Builder
	for i := range len(user) {
		escape := strings.IndexByte(notInJID, user[i]) >= 0
		if user[i] == '\\' { // only where it could be read as an escape
			code := user[i:min(i+3, len(user))]
			escape = jidEscapes.Replace(code) != code
		}
		if escape {
			_, _ = fmt.Fprintf(&b, `\%02x`, user[i])
		} else {
			b.WriteByte(user[i])
		}
	}
	return b.String()
}

// notInJID are the ASCII characters that the user of a JID cannot have (RFC 7622 section 3.3.1).
const notInJID = ` "&'/:<>@`

// Fold is the identity with the folded user: all spellings of an account have the same one.
func (i Identity) Fold() Identity { return Identity{User: FoldUser(i.User), Domain: i.Domain} }

// Authority is what vouches for accounts: a backend of a kind, at a place, under the name of a domain
// there. What one has answered says nothing about the accounts of another.
type Authority struct {
	ID    AuthorityID
	Folds bool // it takes spellings that differ by letter case for one account
}

// AuthorityID identifies an authority over restarts. The zero value is none.
type AuthorityID [16]byte

// NewAuthorityID returns the identity of what parts describe.
func NewAuthorityID(parts ...string) (id AuthorityID) {
	text := make([]byte, 0, 256)
	for _, part := range parts {
		text = append(strconv.AppendInt(text, int64(len(part)), 10), ':')
		text = append(text, part...)
	}
	sum := sha256.Sum256(text)
	copy(id[:], sum[:])
	return id
}

func checkName(what, name, forbidden string) error {
	if name == "" {
		return fmt.Errorf("%w: empty %s", ErrMalformed, what)
	}
	if len(name) > MaxName {
		return fmt.Errorf("%w: %s over %d bytes", ErrMalformed, what, MaxName)
	}
	if !utf8.ValidString(name) {
		return fmt.Errorf("%w: %s is not UTF-8", ErrMalformed, what)
	}
	for _, r := range name {
		// C0, DEL and C1 controls. U+2028 and U+2029 are none, but they break lines too and
		// the XMPP name profiles (RFC 8265, RFC 6122) do not have them.
		if r < 0x20 || (r >= 0x7f && r <= 0x9f) || r == 0x2028 || r == 0x2029 {
			return fmt.Errorf("%w: control character in %s", ErrMalformed, what)
		}
		if r < utf8.RuneSelf && strings.IndexByte(forbidden, byte(r)) >= 0 {
			return fmt.Errorf("%w: %q in %s", ErrMalformed, r, what)
		}
	}
	return nil
}

// NewIdentity checks both names and folds the domain to its canonical form: lower
// case and U-labels, so that EXAMPLE.ORG, example.org. and xn--... spellings are
// one domain. The user is kept as given: only the XMPP or mail server knows how
// to fold it.
func NewIdentity(user, domain string) (Identity, error) {
	if err := CheckUser(user); err != nil {
		return Identity{}, err
	}
	folded, err := FoldDomain(domain)
	if err != nil {
		return Identity{}, err
	}
	return Identity{User: user, Domain: folded}, nil
}

// FoldDomain returns the canonical form of a domain: lower case, U-labels, no trailing
// dot. Folding a folded domain changes nothing. The error wraps ErrMalformed: the
// domain fails CheckDomain, before or after folding, is no IDNA name, or has an empty
// label.
func FoldDomain(domain string) (string, error) {
	if err := CheckDomain(domain); err != nil {
		return "", err
	}
	folded, err := foldLabels(domain)
	if err != nil {
		return "", err
	}
	folded = strings.TrimSuffix(folded, ".") // the root's dot, RFC 7622 section 3.2
	if err := CheckDomain(folded); err != nil {
		return "", err
	}
	if folded[0] == '.' || folded[len(folded)-1] == '.' || strings.Contains(folded, "..") {
		return "", fmt.Errorf("%w: empty label in domain", ErrMalformed)
	}
	return folded, nil
}

// foldLabels lowers and decodes the labels. ASCII without an A-label is only lowered:
// the IDNA profile would refuse hyphens in places where hosts in use have them, and
// a name must not depend on its letter case for that.
func foldLabels(domain string) (string, error) {
	if isASCII(domain) {
		domain = strings.ToLower(domain)
		if !strings.Contains(domain, "xn--") {
			return domain, nil
		}
	}
	folded, err := domainProfile.ToUnicode(domain)
	if err != nil {
		return "", fmt.Errorf("%w: domain is not a valid IDNA name", ErrMalformed)
	}
	return folded, nil
}

func isASCII(text string) bool {
	for i := 0; i < len(text); i++ {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// Identity returns the account of the request; defaultDomain replaces an absent domain.
func (r *Request) Identity(defaultDomain string) (Identity, error) {
	domain := r.Domain
	if domain == "" {
		domain = defaultDomain
	}
	return NewIdentity(r.User, domain)
}

// Check reports why the request must be refused without a question: its secret is missing or
// is not a valid password. Names are checked by Identity.
func (r *Request) Check() error {
	if !r.Op.NeedsSecret() || r.Op == OpCertAuth {
		return nil
	}
	return CheckSecret(r.Secret.Reveal())
}

// HiddenGroup reports whether a group of a backend is kept out of the rosters. Nextcloud
// administrators hide a large group by a zero-width space at the end of its name.
func HiddenGroup(name string) bool { return strings.HasSuffix(name, "\u200b") }
