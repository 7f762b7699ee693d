package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"postern/internal/backend"
)

// expirySoon is how long before its expiry a certificate causes a warning. Automatic renewal
// happens earlier.
const expirySoon = 14 * 24 * time.Hour

// maxAddresses is how many addresses of a name are tried.
const maxAddresses = 8

// route is a server's URL with what the checks find out about it.
type route struct {
	env       *Env
	url       *url.URL
	caFile    string
	addresses []string // with port
}

// newRoute returns the route to a URL that the configuration allows.
func (e *Env) newRoute(target, caFile string) (*route, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	return &route{env: e, url: u, caFile: caFile}, nil
}

// steps are the checks below HTTP.
func (r *route) steps() []Step {
	return []Step{{Check: "dns", Run: r.dns}, {Check: "tcp", Run: r.tcp}, {Check: "tls", Run: r.tls}}
}

func (r *route) port() string {
	if p := r.url.Port(); p != "" {
		return p
	}
	if r.url.Scheme == "http" {
		return "80"
	}
	return "443"
}

func (r *route) dns(ctx context.Context) []Outcome {
	host := r.url.Hostname()
	if _, err := netip.ParseAddr(host); err == nil {
		r.addresses = []string{net.JoinHostPort(host, r.port())}
		return fine("url has the address %s itself", host)
	}
	found, err := r.env.LookupHost(ctx, host)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound, err == nil && len(found) == 0:
		return fail("there is no host "+host, "correct url, the DNS record, or /etc/hosts")
	case err != nil:
		return fail("the name server does not answer the query for "+host, "check /etc/resolv.conf and the name servers in it: getent hosts "+host)
	}
	for _, address := range found[:min(len(found), maxAddresses)] {
		r.addresses = append(r.addresses, net.JoinHostPort(address, r.port()))
	}
	return fine("%s is %s", host, strings.Join(found, ", "))
}

// tcp connects to all addresses concurrently: one that hangs delays logins even if another works.
func (r *route) tcp(ctx context.Context) []Outcome {
	errs := make([]error, len(r.addresses))
	var all sync.WaitGroup
	for i, address := range r.addresses {
		all.Go(func() {
			var c net.Conn
			if c, errs[i] = r.env.Dial(ctx, "tcp", address); errs[i] == nil {
				_ = c.Close()
			}
		})
	}
	all.Wait()
	var good, bad []string
	var first error
	for i, err := range errs {
		if err == nil {
			good = append(good, r.addresses[i])
			continue
		}
		first = err
		bad = append(bad, r.addresses[i]+" ("+why(err)+")")
	}
	switch {
	case len(good) == 0 && errors.Is(first, syscall.ECONNREFUSED):
		return fail("no server listens at "+strings.Join(bad, ", "), "start the web server, or correct the port in url")
	case len(good) == 0:
		return fail("no connection to "+strings.Join(bad, ", "), "check for a firewall, a missing route, or a proxy that this network needs (proxy in the backend's block)")
	case len(bad) > 0:
		return warn("no connection to "+strings.Join(bad, ", ")+", but to "+strings.Join(good, ", "),
			"let the server listen there too (often IPv6), or remove that address from DNS")
	}
	r.addresses = good
	return fine("connected to %s", strings.Join(good, ", "))
}

// why describes a network error in a few words.
func why(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "not allowed"
	}
	return "failed"
}

func (r *route) tls(ctx context.Context) []Outcome {
	host := r.url.Hostname()
	if r.url.Scheme == "http" {
		if a, err := netip.ParseAddr(host); err == nil && a.IsLoopback() || host == "localhost" || strings.HasSuffix(host, ".localhost") {
			return fine("not used on this machine's own address")
		}
		return warn("passwords are sent in clear text: url starts with http", "write https in url")
	}
	roots, err := backend.LoadRoots(r.caFile)
	if err != nil {
		return fail(err.Error(), "correct ca_file")
	}
	raw, err := r.env.Dial(ctx, "tcp", net.JoinHostPort(host, r.port()))
	if err != nil {
		return fail("no second connection: "+why(err), "run doctor again")
	}
	defer raw.Close()
	// The chain is verified below, with Env's clock and more detailed findings; nothing is sent.
	c := tls.Client(raw, &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true})
	var record tls.RecordHeaderError
	if err := c.HandshakeContext(ctx); errors.As(err, &record) {
		return fail("the server does not speak TLS at port "+r.port(), "correct the port in url, or turn TLS on there")
	} else if err != nil {
		return fail("the TLS handshake failed", "the server must support TLS 1.2 or newer, and have a certificate for "+host+": openssl s_client -connect "+net.JoinHostPort(host, r.port()))
	}
	return r.verify(c.ConnectionState(), roots)
}

// verify checks a server's certificate chain.
func (r *route) verify(state tls.ConnectionState, roots *x509.CertPool) []Outcome {
	host, now := r.url.Hostname(), r.env.Now()
	leaf := state.PeerCertificates[0]
	date := func(t time.Time) string { return t.Local().Format(time.DateOnly) }
	switch {
	case now.After(leaf.NotAfter):
		return fail("the certificate expired on "+date(leaf.NotAfter), "renew it on the server, and reload the web server")
	case now.Before(leaf.NotBefore):
		return fail("the certificate is not valid before "+date(leaf.NotBefore), "correct this machine's clock, or the certificate")
	}
	if leaf.VerifyHostname(host) != nil {
		names := slices.Clone(leaf.DNSNames)
		for _, ip := range leaf.IPAddresses {
			names = append(names, ip.String())
		}
		if len(names) == 0 {
			return fail("the certificate has a name in its subject (CN) only, which no client of today accepts",
				"get a certificate with "+host+" as a subject alternative name")
		}
		return fail(fmt.Sprintf("the certificate is not for %s, but for %s", host, strings.Join(names[:min(len(names), 5)], ", ")),
			"write one of these names in url, or get a certificate for "+host)
	}
	intermediates := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: now}); err != nil {
		return r.untrusted(err, state.PeerCertificates)
	}
	if left := leaf.NotAfter.Sub(now); left < expirySoon {
		return warn(fmt.Sprintf("the certificate expires on %s, in %s", date(leaf.NotAfter), plural(int(left/(24*time.Hour)), "day")),
			"renew it on the server, and find out why that does not happen automatically")
	}
	return fine("%s, certificate for %s until %s", tls.VersionName(state.Version), host, date(leaf.NotAfter))
}

// untrusted describes why a chain is not trusted.
func (r *route) untrusted(err error, sent []*x509.Certificate) []Outcome {
	leaf := sent[0]
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fail("an authority's certificate in the chain has expired", "let the server send its authority's current chain")
	case slices.Equal(leaf.RawIssuer, leaf.RawSubject):
		return fail("the certificate is self-signed", "name it in ca_file, or get one from an authority")
	case r.caFile != "":
		return fail("no authority in ca_file has signed the certificate, which is signed by "+leaf.Issuer.CommonName, "put the certificate of that authority into "+r.caFile)
	case len(sent) == 1:
		return fail("the server sends its certificate without the intermediate ones (it is signed by "+leaf.Issuer.CommonName+")",
			"let it send the whole chain (fullchain.pem), or name a private authority in ca_file")
	}
	return fail("the certificate is signed by "+leaf.Issuer.CommonName+", which this machine does not trust", "name that authority's certificate in ca_file, or install ca-certificates")
}
