package pages

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// certificate makes a certificate in a folder, and returns the tls block that has it.
func certificate(t *testing.T, dir string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, filepath.Join(dir, "tls.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	harness.WriteFile(t, filepath.Join(dir, "tls.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	return fmt.Sprintf("  tls {\n    certificate = %q\n    key         = %q\n  }\n", filepath.Join(dir, "tls.pem"), filepath.Join(dir, "tls.key"))
}

// browse carries out a program of testdata in a browser, at a port of this machine. POSTERN_SHOTS names a folder for
// pictures of what is seen.
func browse(t *testing.T, program string, port int, env ...string) {
	t.Helper()
	modules := harness.Cached("browser/node_modules")
	if _, err := os.Stat(modules); err != nil {
		t.Fatalf("%v: run scripts/setup.sh", err)
	}
	dir := t.TempDir() // Node.js looks for modules beside a program
	harness.Symlink(t, modules, filepath.Join(dir, "node_modules"))
	for _, file := range []string{"../../../scripts/browser/browser.mjs", "testdata/" + program} {
		harness.WriteFile(t, filepath.Join(dir, filepath.Base(file)), harness.ReadText(file))
	}
	cmd := exec.Command("node", filepath.Join(dir, program))
	cmd.Env = append(os.Environ(), append(env, "POSTERN_HOST="+host, fmt.Sprint("POSTERN_PORT=", port), "HOME="+dir)...)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "wrong: ") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestWebStatusInBrowser: the status page in Chromium, wide and narrow, light and dark, with script and without.
func TestWebStatusInBrowser(t *testing.T) {
	t.Parallel()
	port := harness.FreePort(t)
	block := strings.NewReplacer("https://"+host, fmt.Sprintf("https://%s:%d", host, port), "127.0.0.1:0", fmt.Sprintf("127.0.0.1:%d", port)).Replace(statusBlock(certificate(t, t.TempDir())))
	s := newSite(t, listener+harness.UsersBase+block+"limit { user_refusals = 3 }\n"+
		"backend \"json\" \"shop\" {\n  url = \""+harness.DeadURL(t)+"\"\n  breaker_failures = 2\n}\ndomain \"shop.example\" { backends = [backend.json.shop] }\n")
	c := harness.Connect(t, s.Address("generic"))
	harness.Say(t, c, harness.JoeLine, "1\n")
	harness.Say(t, c, harness.JoeLine, "1\n")
	harness.Say(t, c, "isuser:ann:dom.example\n", "0\n")
	for i := range 6 {
		for j := range 4 { // one is forgotten by each of the windows
			harness.Say(t, c, fmt.Sprintf("auth:joe%d:dom.example:guess%d\n", i, j), "0\n")
		}
	}
	for i := range 3 {
		_, _ = fmt.Fprintf(c, "auth:bob%d:shop.example:secret\n", i)
	}
	s.Eventually("an outage", func() bool { return strings.Contains(s.Log.String(), "open=true") })
	browse(t, "status.mjs", port)
}
