package valkeystore

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/internal/store"
	"postern/internal/store/valkeystore/valkeytest"
)

func openWith(t *testing.T, o Options) *Store {
	t.Helper()
	if o.Prefix == "" {
		o.Prefix = "postern:"
	}
	s, err := Open(o, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func up(s *Store) func() bool { return func() bool { _, ok := s.Term(); return ok } }

// TestSlotOf: the values are those of the cluster's specification, and of redis-server's CLUSTER KEYSLOT.
func TestSlotOf(t *testing.T) {
	for prefix, want := range map[string]int{"123456789": 12739, "x{123456789}y:": 12739, "foo{}{bar}": 8363, "foo{{bar}}zap": 4015} {
		if got := slotOf(prefix); got != want {
			t.Errorf("%q is in slot %d, want %d", prefix, got, want)
		}
	}
}

// TestAgreed: the server is where a majority says, as long as enough of them have said so of late.
func TestAgreed(t *testing.T) {
	const now = time.Minute
	fresh, older, stale := now-time.Second/2, now-time.Second, now-staleAfter
	say := func(at string, sent time.Duration) *guide {
		g := new(guide)
		g.said.Store(&saying{at: at, sent: sent})
		return g
	}
	fails := new(guide)
	fails.said.Store(&saying{sent: fresh, err: errors.New("refused")})
	for name, c := range map[string]struct {
		guides []*guide
		at     string
		known  time.Duration
	}{
		"all":       {[]*guide{say("a", fresh), say("a", older), say("a", stale+1)}, "a", older},
		"two":       {[]*guide{say("b", older), say("a", fresh), say("a", older)}, "a", older},
		"one":       {[]*guide{say("a", fresh), new(guide), fails}, "", 0},
		"different": {[]*guide{say("a", fresh), say("b", fresh), fails}, "", 0},
		"stale":     {[]*guide{say("a", fresh), say("a", stale), fails}, "", 0},
		"half":      {[]*guide{say("a", fresh), say("a", fresh), say("b", fresh), fails}, "", 0},
		"only one":  {[]*guide{say("a", fresh)}, "a", fresh},
	} {
		at, known, err := agreed(c.guides, now)
		if at != c.at || known != c.known || (err == nil) != (c.at != "") {
			t.Errorf("%s: %q since %v, %v", name, at, known, err)
		}
	}
}

// TestTLS: the connection is protected by certificates on both sides.
func TestTLS(t *testing.T) {
	valkeytest.Each(t, func(t *testing.T, start starter) {
		t.Parallel()
		c := newCertificates(t)
		port := valkeytest.Port(t)
		start(t, "--bind", "127.0.0.1", "--tls-port", port, "--tls-cert-file", c.file("server.pem"), "--tls-key-file", c.file("server.key"),
			"--tls-ca-cert-file", c.file("ca.pem"), "--tls-auth-clients", "yes")
		client, err := tls.LoadX509KeyPair(c.file("client.pem"), c.file("client.key"))
		if err != nil {
			t.Fatal(err)
		}
		o := Options{Addresses: []string{"127.0.0.1:" + port}, TLS: &tls.Config{RootCAs: c.pool, Certificates: []tls.Certificate{client}, ServerName: "valkey.example"}}
		s := openWith(t, o)
		heard := listen(s)
		if _, ok := s.Term(); !ok {
			t.Fatalf("the watch does not work: %s", s.Failed())
		}
		put(t, openWith(t, o), "cred/joe", "1")
		eventually(t, "it hears of others' writes", func() bool { return heard.has("cred/joe") })
		for name, c := range map[string]struct {
			config *tls.Config
			want   string
		}{
			"another authority": {&tls.Config{Certificates: []tls.Certificate{client}, ServerName: "valkey.example"}, "certificate"},
			"another name":      {&tls.Config{RootCAs: c.pool, Certificates: []tls.Certificate{client}}, "certificate"},
			"no certificate":    {&tls.Config{RootCAs: c.pool, ServerName: "valkey.example"}, ""},
			"no TLS":            {nil, ""},
		} {
			o.TLS = c.config
			s := openWith(t, o)
			if _, ok := s.Term(); ok || !strings.Contains(s.Failed(), c.want) || s.Failed() == "" {
				t.Errorf("%s: works: %t, %q", name, ok, s.Failed())
			}
		}
	})
}

// certificates are files of an authority, a server and a client.
type certificates struct {
	dir  string
	pool *x509.CertPool
}

func (c *certificates) file(name string) string { return filepath.Join(c.dir, name) }

func newCertificates(t *testing.T) *certificates {
	t.Helper()
	c := &certificates{t.TempDir(), x509.NewCertPool()}
	var authority *x509.Certificate
	var authorityKey *ecdsa.PrivateKey
	for i, name := range []string{"ca", "server", "client"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			DNSNames: []string{"valkey.example"}, BasicConstraintsValid: true, IsCA: i == 0, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		if i == 0 {
			authority, authorityKey = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, authority, &key.PublicKey, authorityKey)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		if i == 0 {
			c.pool.AppendCertsFromPEM(certificate)
		}
		for file, data := range map[string][]byte{".pem": certificate, ".key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})} {
			if err := os.WriteFile(c.file(name+file), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return c
}

// watched is what the manual's page has Sentinels watch, with a server of the test, and faster.
func watched(t *testing.T, port string) string {
	t.Helper()
	page, err := os.ReadFile("../../manual/pages/machines.md")
	if err != nil {
		t.Fatal(err)
	}
	_, lines, ok := strings.Cut(string(page), "\nsentinel monitor postern")
	if !ok {
		t.Fatal("the page has no Sentinels")
	}
	lines, _, _ = strings.Cut("sentinel monitor postern"+lines, "```")
	return strings.NewReplacer("10.0.0.5 6379", "127.0.0.1 "+port, " 5000", " 1000", " 30000", " 5000", "sentinel auth-pass postern PASSWORD\n", "").Replace(lines)
}

// TestSentinel: after a failover the replica has the store, as another epoch. What it had not got yet was not
// acknowledged, and is written again. A server that was replaced is believed no more.
func TestSentinel(t *testing.T) {
	valkeytest.Each(t, func(t *testing.T, start starter) {
		t.Parallel()
		port, other := valkeytest.Port(t), valkeytest.Port(t)
		primary := start(t, valkeytest.Local(port)...)
		replica := start(t, append(valkeytest.Local(other), "--replicaof", "127.0.0.1 "+port)...)
		eventually(t, "the replica follows", func() bool { return strings.Contains(primary.Do("INFO", "replication"), "state=online") })
		o := Options{Sentinel: "postern"}
		for _, w := range primary.Sentinels(watched(t, port)) {
			o.Addresses = append(o.Addresses, w.Address)
			eventually(t, "the Sentinel knows the others and the replica", func() bool {
				reply := w.Do("SENTINEL", "MASTER", "postern")
				return strings.Contains(reply, "num-slaves\r\n$1\r\n1\r\n") && strings.Contains(reply, "num-other-sentinels\r\n$1\r\n2\r\n")
			})
		}
		a, b := openWith(t, o), openWith(t, o)
		eventually(t, "A's watch begins", up(a))
		eventually(t, "B's watch begins", up(b))
		heard := listen(b)
		put(t, a, "cred/joe", "1")
		put(t, a, "cred/jim", "1")
		eventually(t, "B hears of A's write", func() bool { return heard.has("cred/jim") })
		if got := valkeytest.Strings(replica.Do("GET", "postern:cred/joe")); len(got) != 1 || !strings.HasSuffix(got[0], "1") {
			t.Errorf("the replica has %q after a write that has ended", got)
		}
		age(primary, claimAfter+time.Second)
		claim := func(key string) (bool, error) {
			return a.Claim(context.Background(), []byte(key), []byte("x"), time.Minute)
		}
		if first, err := claim("nonce/1"); err != nil || !first {
			t.Fatalf("a claim: %t, %v", first, err)
		}
		term, _ := b.Term()

		// The replica lags: what it has not got is not acknowledged.
		if err := replica.Process().Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if err := a.Apply([]store.Op{{Key: []byte("cred/joe")}}, true); !errors.Is(err, store.ErrAway) || !strings.Contains(err.Error(), "no replica") {
			t.Errorf("a removal that no replica has: %v", err)
		}
		if first, err := claim("nonce/2"); !errors.Is(err, store.ErrAway) || first {
			t.Errorf("a claim that no replica has: %t, %v", first, err)
		}

		// A primary that has given it up goes on alone. What it does then is lost with it.
		primary.Want(":1", "CLIENT", "KILL", "TYPE", "replica")
		eventually(t, "A goes on without the replica", func() bool { return a.Apply([]store.Op{{Key: []byte("cred/jim")}}, true) == nil })
		primary.Kill()
		if err := replica.Process().Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the replica has taken over for A", func() bool { _, ok := a.Term(); return ok && a.Counts().Epochs == 1 })
		eventually(t, "the replica has taken over for B", func() bool { now, ok := b.Term(); return ok && now != term && b.Counts().Epochs == 1 })
		if r, err := b.Read([]byte("cred/jim")); err != nil || string(r.Value) != "1" || !r.Former {
			t.Errorf("what was removed and is back: %+v, %v", r, err)
		}
		if first, err := claim("nonce/2"); !errors.Is(err, store.ErrAway) || first {
			t.Errorf("a claim after the failover: %t, %v", first, err)
		}
		eventually(t, "the removal is written again", func() bool { return a.Apply([]store.Op{{Key: []byte("cred/joe")}}, true) == nil })

		// The former primary comes back without knowing, and nothing is written there.
		primary.Start()
		put(t, a, "cred/jane", "2")
		eventually(t, "the former primary is a replica that has the change", func() bool {
			role, _ := primary.Try("INFO", "replication")
			value, _ := primary.Try("GET", "postern:cred/jane")
			return strings.Contains(role, "role:slave") && len(valkeytest.Strings(value)) == 1
		})
		if _, err := b.Read([]byte("cred/jane")); err != nil {
			t.Errorf("what was written after the failover: %v", err)
		}
	})
}

// guided starts a server that Sentinels watch, and returns the options by which they are asked where it is.
func guided(t *testing.T) (sentinels []*valkeytest.Server, o Options) {
	t.Helper()
	port := valkeytest.Port(t)
	primary := valkeytest.Start(t, valkeytest.Local(port)...)
	sentinels, o.Sentinel = primary.Sentinels(watched(t, port)), "postern"
	for _, w := range sentinels {
		o.Addresses = append(o.Addresses, w.Address)
	}
	return sentinels, o
}

// TestCutOff: a process that is cut off from most of the Sentinels does not believe its server any more.
func TestCutOff(t *testing.T) {
	t.Parallel()
	sentinels, o := guided(t)
	s := openWith(t, o)
	eventually(t, "the watch begins", up(s))
	put(t, s, "cred/joe", "1")
	sentinels[0].Kill()
	time.Sleep(staleAfter) // it is to last for longer than an answer counts
	if _, ok := s.Term(); !ok {
		t.Error("two of three Sentinels are no majority")
	}
	if err := sentinels[1].Process().Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the watch ends", func() bool { _, ok := s.Term(); return !ok })
	if err := s.Apply([]store.Op{{Key: []byte("cred/joe"), Value: []byte("2")}}, true); !errors.Is(err, store.ErrAway) {
		t.Errorf("a write to what may have been replaced: %v", err)
	}
	if _, err := s.Claim(context.Background(), []byte("nonce/1"), nil, time.Minute); !errors.Is(err, store.ErrAway) {
		t.Errorf("a claim: %v", err)
	}
	if err := sentinels[1].Process().Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the watch begins again", up(s))
	put(t, s, "cred/joe", "2")
}

// TestCluster: a slot that moves to another node takes the store along. While it moves, the store may be away.
func TestCluster(t *testing.T) {
	valkeytest.Each(t, func(t *testing.T, start starter) {
		t.Parallel()
		nodes := valkeytest.Cluster(t, start)
		o := Options{Cluster: true, Prefix: "{site}:"}
		for _, n := range nodes {
			o.Addresses = append(o.Addresses, n.Address)
		}
		a, b := openWith(t, o), openWith(t, o)
		eventually(t, "A's watch begins", up(a))
		eventually(t, "B's watch begins", up(b))
		heard := listen(b)
		put(t, a, "cred/joe", "1")
		put(t, a, "cred/jane", "1")
		put(t, a, "domain/d", "1")
		eventually(t, "B hears of A's write", func() bool { return heard.has("cred/joe") })
		slot := slotOf(o.Prefix)
		from := nodes[slot*3/slots]
		to := nodes[(slot*3/slots+1)%3]
		term, _ := b.Term()
		valkeytest.MoveSlot(from, to, slot, func() {
			for _, key := range []string{"cred/joe", "cred/jane", "domain/d"} {
				if r, err := b.Read([]byte(key)); err == nil && string(r.Value) != "1" || err != nil && !errors.Is(err, store.ErrAway) {
					t.Errorf("%s while it moves: %+v, %v", key, r, err)
				}
			}
		})
		eventually(t, "B has the store where it is", func() bool { now, ok := b.Term(); return ok && now != term })
		eventually(t, "A can write", func() bool { return a.Apply([]store.Op{{Key: []byte("cred/joe"), Value: []byte("2")}}, true) == nil })
		eventually(t, "B reads it", func() bool { r, err := b.Read([]byte("cred/joe")); return err == nil && string(r.Value) == "2" })
		if r, err := b.Read([]byte("cred/jane")); err != nil || string(r.Value) != "1" {
			t.Errorf("what was moved: %+v, %v", r, err)
		}
		if got := to.Do("EXISTS", "{site}:cred/joe"); !strings.HasPrefix(got, ":1") {
			t.Errorf("the other node: %q", got)
		}
		n := 0
		if err := b.Scan([]byte("cred/"), func(k, v []byte) bool { n++; return true }); err != nil || n != 2 {
			t.Errorf("%d records, %v", n, err)
		}
	})
}
