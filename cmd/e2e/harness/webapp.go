package harness

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// WebApp is an HTTP backend with behaviour that a test can change.
type WebApp struct {
	*httptest.Server
	Asked atomic.Int64
	Serve atomic.Pointer[http.HandlerFunc]
}

// NewWebApp starts a web application, until the end of the test.
func NewWebApp(t *testing.T, first http.HandlerFunc) *WebApp {
	t.Helper()
	s := &WebApp{}
	s.Serve.Store(&first)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Asked.Add(1)
		(*s.Serve.Load())(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// Becomes changes what the application does from the next request on.
func (s *WebApp) Becomes(next http.HandlerFunc) { s.Serve.Store(&next) }

// Always answers every question alike.
func Always(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// Answers of the json backend's API.
const (
	JSONYes = `{"success": true}`
	JSONNo  = `{"success": false, "message": "no"}`
)

// JSONSecret accepts the password secret of every user.
func JSONSecret(w http.ResponseWriter, r *http.Request) {
	body := make([]byte, 4096)
	n, _ := r.Body.Read(body)
	answer := JSONNo
	if strings.Contains(string(body[:n]), `"secret"`) || r.URL.Path == "/exists" {
		answer = JSONYes
	}
	_, _ = w.Write([]byte(answer))
}

// AppUp is the application while it works: every user except "nobody" exists and has the password
// secret.
func AppUp(w http.ResponseWriter, r *http.Request) {
	asked := make([]byte, 1024)
	n, _ := r.Body.Read(asked)
	question := string(asked[:n])
	if strings.Contains(question, "nobody@") || r.URL.Path == "/login" && !strings.Contains(question, `"secret"`) {
		Always(http.StatusOK, JSONNo)(w, r)
		return
	}
	Always(http.StatusOK, JSONYes)(w, r)
}

// AppDown is the application of AppUp while it does not work.
var AppDown = Always(http.StatusServiceUnavailable, "")

// DeadURL is the address of a server that is not there. Until the test ends no other gets its port, which
// is bound, but not listened on: connections to it are refused.
func DeadURL(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint("http://127.0.0.1:", at.(*syscall.SockaddrInet4).Port)
}

// JSXCServer is Nextcloud's JSXC API for joe, password secret, that takes a signature by
// api-secret.
func JSXCServer(t *testing.T) *httptest.Server { return JSXCServerWithKey(t, "api-secret") }

// JSXCServerWithKey is JSXCServer with another API secret.
func JSXCServerWithKey(t *testing.T, key string) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		q, _ := url.ParseQuery(string(body))
		reply := `{"result":"noauth"}`
		switch q.Get("operation") {
		case "auth":
			if q.Get("username") == "joe" && q.Get("password") == "secret" {
				reply = `{"result":"success","data":{"uid":"joe"}}`
			}
		case "isuser":
			reply = fmt.Sprintf(`{"result":"success","data":{"isUser":%t}}`, q.Get("username") == "joe")
		case "sharedroster":
			reply = `{"result":"success","data":{"sharedRoster":{"joe":{"name":"Joe","groups":["a"]}}}}`
		}
		mac := hmac.New(sha1.New, []byte(key))
		mac.Write(body)
		if r.Header.Get("X-JSXC-SIGNATURE") != "sha1="+hex.EncodeToString(mac.Sum(nil)) {
			w.WriteHeader(http.StatusInternalServerError)
			reply = `{"result":"error","data":{"msg":"HMAC signature does not match."}}`
		}
		_, _ = io.WriteString(w, reply)
	}))
	t.Cleanup(s.Close)
	return s
}
