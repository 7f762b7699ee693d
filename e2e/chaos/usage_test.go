package chaos

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/e2e/harness"
)

// usage is what a process holds.
type usage struct {
	files, threads int
	resident       int // KiB
}

func usageOf(t *testing.T, pid int) (u usage) {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	u.files = len(files)
	for line := range strings.Lines(harness.ReadText(fmt.Sprintf("/proc/%d/status", pid))) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &u.resident)
		_, _ = fmt.Sscanf(line, "Threads: %d", &u.threads)
	}
	return u
}

// near reports whether a process holds no more descriptors than before, but for the store's and
// for idle connections to the backend, of which there are at most as many as slots.
func (u usage) near(before usage) bool { return u.files <= before.files+8 }

// chaosCA is a certificate authority of a test.
type chaosCA struct {
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newChaosCA(t *testing.T) *chaosCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &chaosCA{file: filepath.Join(t.TempDir(), "ca.pem"), key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, ca.cert, ca.cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(ca.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return ca
}

// issue makes a certificate for an address that is good for a time from now.
func (ca *chaosCA) issue(t *testing.T, address string, good time.Duration) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: address},
		IPAddresses: []net.IP{net.ParseIP(address)}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(good),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// undecided passes on a daemon's log without its decisions, of which chaos makes too many.
type undecided struct {
	to   io.Writer
	part []byte
}

func (u *undecided) Write(b []byte) (int, error) {
	u.part = append(u.part, b...)
	for {
		line, rest, whole := bytes.Cut(u.part, []byte{'\n'})
		if !whole {
			return len(b), nil
		}
		if !bytes.Contains(line, []byte("msg=decision ")) {
			_, _ = u.to.Write(append(line[:len(line):len(line)], 10))
		}
		u.part = rest
	}
}

// serveChaos is serve without decisions in the log. Words before the program's name run it.
func serveChaos(t *testing.T, config string, before ...string) *harness.Server {
	t.Helper()
	words := append(before, harness.Binary, "serve", "--config", config)
	s := &harness.Server{T: t, Cmd: exec.Command(words[0], words[1:]...)}
	s.Cmd.Stdout, s.Cmd.Stderr = &s.Out, &undecided{to: &s.Log}
	s.Begin()
	return s
}
