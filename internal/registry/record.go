package registry

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"postern/internal/auth"
	"postern/internal/store"
)

// The kinds of backends that a registered domain may have.
const (
	KindJSXC      = "jsxc"
	KindJSON      = "json"
	KindNextcloud = "nextcloud"
	KindUsers     = "users"
)

// Bounds of a record's texts, in bytes.
const (
	maxURL     = 4096
	maxContact = 1024
)

var (
	// ErrUnknown is wrapped when a domain is not registered.
	ErrUnknown = errors.New("the domain is not registered")
	// ErrInvalid is wrapped by every error about the content of a record.
	ErrInvalid = errors.New("invalid domain record")
	// ErrRecord means that a stored record cannot be read.
	ErrRecord = errors.New("unreadable domain record")
)

// Record is a registered domain with its one backend.
type Record struct {
	Domain     string      // canonical
	Kind       string      // of the backend
	URL        string      // of the backend; empty for users
	Secret     auth.Secret // jsxc: the API secret
	AuthDomain string      // the domain's name at the backend; empty: its own
	Contact    string      // of the person in charge; one line of free text
	First      time.Time   // registered
	Latest     time.Time   // changed
}

// Check reports why a record is not valid. The error wraps ErrInvalid and never shows URL or secret.
func (r *Record) Check() error {
	if err := r.checkShape(); err != nil {
		return err
	}
	if r.Kind == KindJSXC && r.Secret.Empty() {
		return r.complain("backend jsxc needs the API secret of the server; the JSXC app shows it in its administration page")
	}
	return nil
}

// checkShape is Check, but the secret may be missing.
func (r *Record) checkShape() error {
	folded, err := auth.FoldDomain(r.Domain)
	switch {
	case err != nil || strings.Contains(folded, "*"):
		return fmt.Errorf("%w: %q is not a domain: write one as in \"example.org\"", ErrInvalid, clip(r.Domain))
	case folded != r.Domain:
		return fmt.Errorf("%w: %q is not in canonical form: write %q", ErrInvalid, clip(r.Domain), clip(folded))
	}
	switch r.Kind {
	case KindJSXC, KindJSON, KindNextcloud:
		if why := checkURL(r.URL, r.Kind); why != "" {
			return r.complain(why)
		}
	case KindUsers:
		if r.URL != "" {
			return r.complain("backend users has no url: its file is the one in data_dir")
		}
	default:
		return r.complain(fmt.Sprintf("unknown backend %q: write jsxc, json, nextcloud or users", clip(r.Kind)))
	}
	if r.Kind != KindJSXC && !r.Secret.Empty() {
		return r.complain("backend " + r.Kind + " has no secret: leave it out")
	}
	if !r.Secret.Empty() && auth.CheckSecret(r.Secret.Reveal()) != nil {
		return r.complain("the secret is too long, or is not valid UTF-8 text")
	}
	if r.AuthDomain != "" && auth.CheckDomain(r.AuthDomain) != nil {
		return r.complain("the authentication domain is not a domain: write its name at the backend, as in \"cloud.example.org\"")
	}
	if len(r.Contact) > maxContact || !utf8.ValidString(r.Contact) || strings.ContainsFunc(r.Contact, control) {
		return r.complain(fmt.Sprintf("the contact must be one line of text, up to %d bytes", maxContact))
	}
	return nil
}

func (r *Record) complain(why string) error {
	return fmt.Errorf("%w: %s: %s", ErrInvalid, r.Domain, why)
}

func control(c rune) bool { return c < 0x20 || c >= 0x7f && c <= 0x9f || c == 0x2028 || c == 0x2029 }

// checkURL returns what is wrong with a backend's address, or "". It does not show the address,
// which may contain a password.
func checkURL(text, kind string) string {
	u, err := url.Parse(text)
	switch {
	case text == "":
		return "the backend has no url"
	case len(text) > maxURL:
		return "url is too long"
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.Opaque != "":
		return `url is not an absolute http or https URL: write it as in "https://cloud.example.org/path"`
	case u.User != nil:
		return "url holds a user name or password: remove what stands before the @"
	case strings.Contains(text, "#"):
		return "url holds a fragment: remove the # and what follows"
	case kind != KindJSXC && (u.RawQuery != "" || u.ForceQuery):
		return "url holds a query: remove the ? and what follows"
	}
	return ""
}

// clip shortens a text for a message.
func clip(text string) string {
	if len(text) > 80 {
		return text[:80] + "..."
	}
	return text
}

// Merge returns the record to store when next replaces old, which is nil for a new domain. The time of
// the first registration is kept, and so is the secret if next has none and the same kind of
// backend.
func Merge(old *Record, next Record, now time.Time) Record {
	now = now.UTC().Truncate(time.Second)
	if old == nil {
		if next.First.IsZero() {
			next.First = now
		}
		if next.Latest.IsZero() {
			next.Latest = now
		}
		return next
	}
	if next.Secret.Empty() && next.Kind == old.Kind {
		next.Secret = old.Secret
	}
	next.First, next.Latest = old.First, now
	return next
}

// recordVersion is the first byte of every stored record.
const recordVersion = 1

// Encode returns the stored form: version byte; kind, URL, secret, authentication domain and
// contact, each with its length as a uvarint; first and latest as varints of Unix seconds. The
// domain is the key.
func (r *Record) Encode() []byte {
	b := []byte{recordVersion}
	for _, text := range []string{r.Kind, r.URL, r.Secret.Reveal(), r.AuthDomain, r.Contact} {
		b = store.AppendText(b, text)
	}
	b = binary.AppendVarint(b, r.First.Unix())
	return binary.AppendVarint(b, r.Latest.Unix())
}

// Decode reads what Encode wrote.
func Decode(domain string, b []byte) (Record, error) {
	if len(b) == 0 || b[0] != recordVersion {
		return Record{}, fmt.Errorf("%w of %s: its version is not known: install a newer postern, or register the domain again", ErrRecord, domain)
	}
	v := store.ReadValue(b, recordVersion)
	r := Record{
		Domain: domain, Kind: v.Text(), URL: v.Text(), Secret: auth.NewSecret(v.Text()), AuthDomain: v.Text(), Contact: v.Text(),
		First: time.Unix(v.Varint(), 0).UTC(), Latest: time.Unix(v.Varint(), 0).UTC(),
	}
	if !v.Complete() || r.Check() != nil {
		return Record{}, fmt.Errorf("%w of %s: it is damaged: register the domain again", ErrRecord, domain)
	}
	return r, nil
}
