package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"math/big"
	"os/user"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"
)

// canary stands for every secret in these tests; no output may hold it.
const canary = "cAnArY4secretsNobodyMayRead"

// rawCacheKey is a key of a cache that is no text, and cacheKeyHex the same in digits.
const (
	rawCacheKey = "\xff\x00\n3456789012345678901234567890\n"
	cacheKeyHex = "ff000a33343536373839303132333435363738393031323334353637383930" + "0a"
)

// testEnv is a machine with the files and variables of the example.
func testEnv(t testing.TB) Env {
	return fakeEnv(fstest.MapFS{
		"etc/postern/nextcloud.secret":       {Data: []byte(canary + "\n"), Mode: 0o640},
		"etc/postern/cloud.secret":           {Data: []byte(canary + "\n"), Mode: 0o640},
		"etc/ssl/certs/ca-certificates.crt":  {Data: testCA(t), Mode: 0o644},
		"etc/postern/otp.seed":               {Data: []byte("GEZDGNBVGY3TQOJQ\n"), Mode: 0o640},
		"etc/postern/token.secret":           {Data: []byte(canary + "\n"), Mode: 0o640},
		"etc/postern/cache.key":              {Data: []byte(cacheKeyHex + "\n"), Mode: 0o640},
		"etc/postern/app-passwords.key":      {Data: []byte(cacheKeyHex + "\n"), Mode: 0o640},
		"etc/postern/scim.token":             {Data: []byte(canary + "\n"), Mode: 0o640},
		"etc/postern/oidc.secret":            {Data: []byte(canary + "\n"), Mode: 0o640},
		"etc/postern/raw.key":                {Data: []byte(rawCacheKey), Mode: 0o640},
		"etc/postern/open.key":               {Data: []byte(rawCacheKey), Mode: 0o644},
		"etc/postern/linked.key":             {Data: []byte(rawCacheKey), Mode: 0o640},
		"var/lib/postern/cache.key":          {Data: []byte(rawCacheKey), Mode: 0o600},
		"etc/postern/open.secret":            {Data: []byte(canary + "\r\n"), Mode: 0o644},
		"etc/postern/empty":                  {Mode: 0o640},
		"etc/postern/two-lines":              {Data: []byte(canary + "\n" + canary + "\n"), Mode: 0o640},
		"etc/postern/binary":                 {Data: []byte{0xff, 0xfe}, Mode: 0o640},
		"etc/postern/api.secret":             {Data: []byte(canary + "\n"), Mode: 0o640},
		"etc/postern/valkey.password":        {Data: []byte(canary + "\n"), Mode: 0o640},
		"etc/postern/valkey-ca.pem":          {Data: testCA(t), Mode: 0o644},
		"etc/postern/http.secret":            {Data: []byte(canary + "\n"), Mode: 0o640},
		"etc/postern/status.token":           {Data: []byte(canary + "\n"), Mode: 0o640},
		"etc/postern/tls.pem":                {Data: testCA(t), Mode: 0o644},
		"etc/postern/tls.key":                {Data: testKey(t), Mode: 0o640},
		"etc/postern/no-ca.pem":              {Data: []byte("nothing"), Mode: 0o644},
		"etc/postern/test.hcl":               {Mode: 0o600},
		"etc/postern/readable.hcl":           {Mode: 0o640},
		"var/lib/elsewhere/relative.secret":  {Data: []byte(canary), Mode: 0o600},
		"etc/postern/sub/directory/relative": {Data: []byte(canary), Mode: 0o600},
	}, map[string]string{
		"OTP_SEED": "GEZDGNBVGY3TQOJQ", "TOKEN_SECRET": canary, "SECRET_PATH": "/" + canary,
		"CACHE_KEY": cacheKeyHex, "SHORT_KEY": cacheKeyHex[2:], "BASE64_KEY": "/wAKMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MAo=",
		"NOT_A_DURATION": canary, "EMPTY": "",
	})
}

func fakeEnv(files fstest.MapFS, vars map[string]string) Env {
	rel := func(name string) string { return strings.TrimPrefix(name, "/") }
	return Env{
		ReadFile: func(name string) ([]byte, error) {
			if strings.HasSuffix(name, "forbidden") {
				return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
			}
			return files.ReadFile(rel(name))
		},
		LookupEnv: func(name string) (string, bool) { v, ok := vars[name]; return v, ok },
		Stat:      func(name string) (fs.FileInfo, error) { return files.Stat(rel(name)) },
		RealPath: func(name string) (string, error) {
			if strings.HasSuffix(name, "linked.key") {
				return "/var/lib/postern/cache.key", nil
			}
			return name, nil
		},
		LookupUser: func(name string) (string, error) {
			if name != "vmail" {
				return "", user.UnknownUserError(name)
			}
			return "1000", nil
		},
		LookupGroup: func(name string) (string, error) {
			if name != "vmail" {
				return "", user.UnknownGroupError(name)
			}
			return "2000", nil
		},
	}
}

// testCA is a certificate in PEM form, the same at every call.
func testCA(t testing.TB) []byte {
	t.Helper()
	data, err := certificate()
	if err != nil {
		t.Fatal(err)
	}
	return data[0]
}

// testKey is its key.
func testKey(t testing.TB) []byte {
	t.Helper()
	data, err := certificate()
	if err != nil {
		t.Fatal(err)
	}
	return data[1]
}

var certificate = sync.OnceValues(func() (pair [2][]byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return pair, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	return [2][]byte{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})}, err
})

// parse parses a configuration that must have no errors.
func parse(t *testing.T, src string) (*Config, Problems) {
	t.Helper()
	cfg, problems := Parse("/etc/postern/test.hcl", []byte(src), testEnv(t))
	if cfg == nil || problems.Failed() {
		t.Fatalf("Parse failed:\n%s\n%s", render(problems), src)
	}
	return cfg, problems
}

// render is what `postern config check` prints, and the form for logs.
func render(ps Problems) string {
	var b strings.Builder
	_ = ps.Write(&b)
	for _, p := range ps {
		b.WriteString(p.String() + "\n")
	}
	if err := ps.Err(); err != nil {
		b.WriteString(err.Error())
	}
	return b.String()
}
