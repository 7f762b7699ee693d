package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"

	"github.com/hashicorp/hcl/v2"

	"postern/internal/auth"
	"postern/internal/protocol"
)

// minHTTPSecret is the least length of a listener's secret: it cannot be guessed, however often.
const minHTTPSecret = 16

// localProxies are the trusted proxies of a listener that names none.
func localProxies() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

// web decodes what only listeners of the protocol http have.
func (p *parser) web(s *section, out *Listener) {
	if out.ProxyProtocol = s.flag("proxy_protocol", false); out.ProxyProtocol && out.TrustedProxies == nil {
		out.TrustedProxies = localProxies()
	}
	mail, secure := p.only(s, "nginx_mail"), p.only(s, "tls")
	if out.Protocol != string(protocol.HTTP) {
		for _, name := range []string{"secret", "realm"} {
			if s.has(name) {
				p.complain(s.at(name), name+" is for the http protocol only", "remove the line")
			}
		}
		for _, block := range []*section{mail, secure} {
			if !block.absent {
				p.complain(block.header, "this block is for the http protocol only", "remove it")
			}
		}
		if out.ProxyProtocol {
			out.TrustedProxies = p.trustedProxies(s, out.TrustedProxies)
		} else if s.has("trusted_proxies") {
			p.complain(s.at("trusted_proxies"), "trusted_proxies is for the http protocol, or for proxy_protocol", "remove the line, or add proxy_protocol = true")
		}
		return
	}
	if secret, ok := s.secret("secret"); ok {
		if out.Secret = secret; secret.Len() < minHTTPSecret {
			p.complain(s.at("secret"), "the secret is short enough to be guessed", fmt.Sprintf("write at least %d random letters: openssl rand -hex 24", minHTTPSecret))
		}
	}
	out.Realm = s.textOr("realm", "")
	out.TrustedProxies = p.trustedProxies(s, out.TrustedProxies)
	for _, name := range mail.spec.attrs {
		if v, ok := mail.text(name); ok {
			if at, err := netip.ParseAddrPort(v.AsString()); err != nil || at.Port() == 0 || at.Addr().Zone() != "" {
				p.complain(mail.at(name), name+" is not an IP address with a port", `write it as in "127.0.0.1:143": nginx takes no names`)
			} else if out.NginxMail == nil {
				out.NginxMail = map[string]string{name: at.String()}
			} else {
				out.NginxMail[name] = at.String()
			}
		}
	}
	if !mail.absent && out.NginxMail == nil {
		p.complain(mail.header, "nginx_mail names no server", `add imap = "127.0.0.1:143", or remove the block`)
	}
	if !secure.absent {
		out.TLS = p.tls(secure)
	}
}

// trustedProxies decodes the addresses of the peers that may name a client's; absent if there is no such line.
func (p *parser) trustedProxies(s *section, absent []netip.Prefix) (proxies []netip.Prefix) {
	if !s.has("trusted_proxies") {
		return absent
	}
	s.texts("trusted_proxies", func(v value, at hcl.Range) {
		prefix, err := netip.ParsePrefix(v.AsString())
		if address, bad := netip.ParseAddr(v.AsString()); bad == nil && address.Zone() == "" {
			prefix, err = netip.PrefixFrom(address, address.BitLen()), nil
		}
		if err != nil {
			p.complain(at, "trusted_proxies has a text that is no address", `write them as in ["127.0.0.1", "10.0.0.0/8"]`)
			return
		}
		proxies = append(proxies, prefix.Masked())
	})
	return proxies
}

// tls decodes the tls block. The contents of the files are part of the configuration, so that a reload
// takes those of a renewed certificate.
func (p *parser) tls(s *section) TLS {
	s.need("certificate", "tls has no certificate", `add certificate = "/path", a PEM file with its chain`)
	s.need("key", "tls has no key", `add key = "/path", a PEM file`)
	out := TLS{Certificate: p.pem(s, "certificate"), ClientCA: p.pem(s, "client_ca")}
	out.Key = auth.NewSecret(p.pem(s, "key"))
	if out.Certificate != "" && !out.Key.Empty() {
		if _, err := tls.X509KeyPair([]byte(out.Certificate), []byte(out.Key.Reveal())); err != nil {
			p.complain(s.at("key"), "certificate and key do not make a pair", "name a PEM file with the certificate and its chain, and one with its key")
		}
	}
	if s.has("client_ca") && out.ClientCA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(out.ClientCA)) {
		p.complain(s.at("client_ca"), "the file holds no certificate", "it must hold CA certificates in PEM form")
		out.ClientCA = "-" // there was one
	}
	return out
}

// Server returns what a server of TLS needs; nil if there is none. protocols are those that it speaks, for ALPN.
func (t TLS) Server(protocols ...string) (*tls.Config, error) {
	if t.Certificate == "" {
		return nil, nil
	}
	pair, err := tls.X509KeyPair([]byte(t.Certificate), []byte(t.Key.Reveal()))
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	out := &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: protocols, MinVersion: tls.VersionTLS12}
	if t.ClientCA != "" {
		out.ClientCAs, out.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !out.ClientCAs.AppendCertsFromPEM([]byte(t.ClientCA)) {
			return nil, errors.New("tls: client_ca holds no certificate")
		}
	}
	return out, nil
}

// pem reads the PEM file that an attribute names; "" if it is absent.
func (p *parser) pem(s *section, name string) string {
	v, ok := s.text(name)
	if !ok {
		return ""
	}
	path := p.resolve(p.dir, v.AsString())
	p.files = append(p.files, path)
	data, err := p.env.readFile(path)
	if err != nil {
		p.complain(s.at(name), fmt.Sprintf("cannot read the file: %v", cause(err)), "correct the path or its permissions; a relative path starts at the configuration's directory")
	}
	if name == "key" && p.env.mode(path)&0o004 != 0 && p.once(path) {
		p.warn(s.at(name), "every user of this machine can read the key in "+path, "chmod o-rwx "+path)
	}
	return string(data)
}
