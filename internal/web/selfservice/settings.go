package selfservice

import (
	"crypto/rand"
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"postern/internal/auth"
)

// Servers are what the devices of an account need to know beside its address and password. Mail is read from IMAP
// with TLS on port 993, and sent to SMTP with STARTTLS on port 587 (RFC 8314, RFC 6409). Chat programs find their server by
// the domain.
type Servers struct {
	IMAP, SMTP string // names; empty: there is no mail
}

// Ports of mail servers.
const (
	imapPort = 993
	smtpPort = 587
)

// autoconfig is the answer to Thunderbird and its kin, which ask for a domain's servers by HTTP: the format of
// https://wiki.mozilla.org/Thunderbird:Autoconfiguration:ConfigFileFormat, version 1.1.
type autoconfig struct {
	XMLName  xml.Name `xml:"clientConfig"`
	Version  string   `xml:"version,attr"`
	Provider struct {
		ID       string         `xml:"id,attr"`
		Domain   string         `xml:"domain"`
		Name     string         `xml:"displayName"`
		Incoming autoconfigHost `xml:"incomingServer"`
		Outgoing autoconfigHost `xml:"outgoingServer"`
	} `xml:"emailProvider"`
}

type autoconfigHost struct {
	Type           string `xml:"type,attr"`
	Hostname       string `xml:"hostname"`
	Port           int    `xml:"port"`
	SocketType     string `xml:"socketType"`
	Authentication string `xml:"authentication"`
	Username       string `xml:"username"`
}

// writeAutoconfig writes the settings of a domain's mail.
func (s Servers) writeAutoconfig(w io.Writer, domain string) error {
	c := autoconfig{Version: "1.1"}
	c.Provider.ID, c.Provider.Domain, c.Provider.Name = domain, domain, domain
	c.Provider.Incoming = autoconfigHost{"imap", s.IMAP, imapPort, "SSL", "password-cleartext", "%EMAILADDRESS%"}
	c.Provider.Outgoing = autoconfigHost{"smtp", s.SMTP, smtpPort, "STARTTLS", "password-cleartext", "%EMAILADDRESS%"}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	return e.Encode(c)
}

// profile writes a configuration profile for Apple's devices with the account's mail: Apple's "Configuration Profile
// Reference", payload com.apple.mail.managed. It is not signed, and says so when it is installed.
func (s Servers) profile(w io.Writer, id auth.Identity, secret string) error {
	address := id.String()
	p := &plist{w: w}
	p.raw(xml.Header + `<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">` + "\n<plist version=\"1.0\">\n")
	outer, inner := uuid(), uuid()
	p.raw("<dict>\n<key>PayloadContent</key>\n<array>\n<dict>\n")
	p.text("PayloadType", "com.apple.mail.managed")
	p.number("PayloadVersion", 1)
	p.text("PayloadIdentifier", "postern."+inner)
	p.text("PayloadUUID", inner)
	p.text("PayloadDisplayName", address)
	p.text("EmailAccountType", "EmailTypeIMAP")
	p.text("EmailAccountDescription", address)
	p.text("EmailAddress", address)
	for _, side := range []struct {
		name, host string
		port       int
	}{{"Incoming", s.IMAP, imapPort}, {"Outgoing", s.SMTP, smtpPort}} {
		p.text(side.name+"MailServerAuthentication", "EmailAuthPassword")
		p.text(side.name+"MailServerHostName", side.host)
		p.number(side.name+"MailServerPortNumber", side.port)
		p.yes(side.name + "MailServerUseSSL")
		p.text(side.name+"MailServerUsername", address)
		p.text(side.name+"Password", secret)
	}
	p.raw("</dict>\n</array>\n")
	p.text("PayloadType", "Configuration")
	p.number("PayloadVersion", 1)
	p.text("PayloadIdentifier", "postern."+outer)
	p.text("PayloadUUID", outer)
	p.text("PayloadDisplayName", address)
	p.raw("</dict>\n</plist>\n")
	return p.err
}

// plist writes a property list. Its first error ends it.
type plist struct {
	w   io.Writer
	err error
}

func (p *plist) raw(text string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, text)
	}
}

func (p *plist) value(key, kind, text string) {
	var escaped strings.Builder
	_ = xml.EscapeText(&escaped, []byte(text)) // a Builder has no errors
	p.raw("<key>" + key + "</key><" + kind + ">" + escaped.String() + "</" + kind + ">\n")
}

func (p *plist) text(key, text string)    { p.value(key, "string", text) }
func (p *plist) number(key string, n int) { p.value(key, "integer", fmt.Sprint(n)) }
func (p *plist) yes(key string)           { p.raw("<key>" + key + "</key><true/>\n") }

// uuid returns a random UUID (RFC 9562 section 5.4).
func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
}
