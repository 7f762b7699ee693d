package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// serveCloud runs the web server behind the backends. It answers as JSXC, as a JSON API or as
// Nextcloud, at once for paths below /0 and after 20 ms for those below /20, and accepts every
// password but "wrong".
func serveCloud() {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	fmt.Println(l.Addr())
	go func() { _ = http.Serve(l, http.HandlerFunc(answerCloud)) }()
	untilTerminated()
}

func answerCloud(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, idpPath) {
		answerProvider(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	wrong := bytes.Contains(body, []byte("password=wrong"))
	if strings.HasPrefix(r.URL.Path, "/20") {
		time.Sleep(20 * time.Millisecond)
	}
	answer := ""
	name, _, basic := r.BasicAuth()
	switch {
	case basic:
		answer = fmt.Sprintf(`{"ocs":{"meta":{"status":"ok","statuscode":200,"message":"OK"},"data":{"enabled":true,"id":%q}}}`, name)
	case strings.HasSuffix(r.URL.Path, "/login"), strings.HasSuffix(r.URL.Path, "/exists"):
		answer = `{"success":true}`
	case wrong:
		answer = `{"result":"noauth"}`
	default:
		form, _ := url.ParseQuery(string(body))
		answer = fmt.Sprintf(`{"result":"success","data":{"uid":%q,"isUser":true}}`, form.Get("username"))
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, answer)
}

// httpAsker asks the web server by http.Client, as a program without a broker would.
type httpAsker struct {
	client *http.Client
	url    string
}

func newHTTPAsker(url string) *httpAsker {
	return &httpAsker{&http.Client{Transport: &http.Transport{MaxIdleConns: 0, MaxIdleConnsPerHost: 2000}}, url}
}

func (a *httpAsker) close() {}

func (a *httpAsker) ask(_, depth int, begun time.Time, to *record) error {
	for range depth {
		if err := a.login(); err != nil {
			return err
		}
		to.taken = append(to.taken, time.Since(begun))
	}
	return nil
}

func (a *httpAsker) login() error {
	resp, err := a.client.Post(a.url, "application/x-www-form-urlencoded",
		strings.NewReader("operation=auth&username=joe&domain=example.org&password=password"))
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP %d: %w", resp.StatusCode, err)
	}
	return nil
}
