package backend

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/internal/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// canary is the password and API secret of these tests; no error may hold it.
const canary = "cAnArY4secretsNobodyMayRead"

// ask asks a question and checks what holds for every answer: there is an error if the class
// needs one, and it holds no secret.
func ask(t *testing.T, b Backend, op auth.Operation) Result {
	t.Helper()
	return askAs(t, b, op, "joe", canary)
}

func askAs(t *testing.T, b Backend, op auth.Operation, user, secret string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	q := Query{Op: op, User: user, Domain: "dom.example"}
	if op.NeedsSecret() {
		q.Secret = auth.NewSecret(secret)
	}
	return checked(t, b.Ask(ctx, q))
}

func checked(t *testing.T, r Result) Result {
	t.Helper()
	needed := r.Class == Outage || r.Class == Throttled || r.Class == Misconfigured
	if free := r.Class == Refused || r.Class == Unsure; (r.Err != nil) != needed && !free {
		t.Errorf("%s with error %v", r.Class, r.Err)
	}
	if text := fmt.Sprintf("%v %+v %#v", r.Err, r.Err, r.Err); strings.Contains(text, canary) {
		t.Errorf("an error holds the secret: %v", r.Err)
	}
	if r.Err != nil && (r.Err.Error() == "" || len(r.Err.Error()) > 600) {
		t.Errorf("an error of %d bytes", len(r.Err.Error()))
	}
	return r
}

// kind is a backend over HTTP, for tests that hold for all of them.
type kind struct {
	name string
	make func(o HTTPOptions) (Backend, error)
	yes  string // an answer that lets joe in
	no   string
}

func kinds() []kind {
	return []kind{
		{"jsxc", func(o HTTPOptions) (Backend, error) {
			return NewJSXC(JSXCOptions{HTTPOptions: o, Secret: auth.NewSecret(canary)})
		},
			`{"result":"success","data":{"uid":"joe"}}`, `{"result":"noauth"}`},
		{"json", NewJSON, `{"success":true}`, `{"success":false,"message":"no"}`},
	}
}

// everyHTTP returns all kinds over HTTP, for tests of what they share.
func everyHTTP() []kind {
	return append(kinds(), kind{"nextcloud", func(o HTTPOptions) (Backend, error) {
		return NewNextcloud(NextcloudOptions{HTTPOptions: o})
	}, `{"ocs":{"meta":{"statuscode":200},"data":{"id":"joe"}}}`, `{"ocs":{"meta":{"statuscode":997},"data":[]}}`})
}

// connect makes a backend of a kind and closes it at the end of the test.
func (k kind) connect(t *testing.T, o HTTPOptions) Backend {
	t.Helper()
	b, err := k.make(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// serve starts a server for the length of a test.
func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

// canned answers every request with one status and body, after reading it.
func canned(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// direct is a Hashing without a pool that counts its runs.
type direct struct{ runs int }

func (d *direct) run(_ context.Context, _ auth.Identity, f func()) error { d.runs++; f(); return nil }
