package backend

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http/httpproxy"
)

// ProxyEnvironment as the proxy of HTTPOptions means the proxy that HTTPS_PROXY, HTTP_PROXY and
// NO_PROXY name for the URL, if any.
const ProxyEnvironment = "environment"

// errProxyURL does not quote the URL, which may hold a password.
var errProxyURL = errors.New(`proxy must be "environment" or a URL as in "http://proxy.example.org:3128"`)

// ParseProxy returns the proxy that a setting means for a URL, or nil for none. Its errors do not
// quote the setting.
func ParseProxy(setting string, target *url.URL) (*url.URL, error) {
	var proxy *url.URL
	var err error
	switch setting {
	case "":
		return nil, nil
	case ProxyEnvironment:
		proxy, err = httpproxy.FromEnvironment().ProxyFunc()(target)
		if proxy == nil && err == nil {
			return nil, nil
		}
	default:
		proxy, err = url.Parse(setting)
	}
	if err != nil || proxy.Scheme != "http" || proxy.Hostname() == "" || proxy.Path != "" && proxy.Path != "/" || proxy.RawQuery != "" || proxy.Fragment != "" {
		return nil, errProxyURL
	}
	return proxy, nil
}

// UnusedProxy returns the name of the variable of the environment that names a proxy for a URL; "" if
// there is none. Backends do not use it unless their proxy is ProxyEnvironment.
func UnusedProxy(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return ""
	}
	if proxy, err := httpproxy.FromEnvironment().ProxyFunc()(u); proxy == nil || err != nil {
		return ""
	}
	names := []string{"HTTPS_PROXY", "https_proxy"}
	if u.Scheme == "http" {
		names = []string{"HTTP_PROXY", "http_proxy"}
	}
	if os.Getenv(names[0]) != "" {
		return names[0]
	}
	return names[1]
}

// useProxy has the client send its requests through a proxy: over https by CONNECT, so that the proxy
// sees only the server's name, and over http with the whole URL in the request.
func (c *httpClient) useProxy(proxy, target *url.URL) {
	server := c.address
	port := proxy.Port()
	if port == "" {
		port = "80"
	}
	c.address = net.JoinHostPort(proxy.Hostname(), port)
	authorization := ""
	if proxy.User != nil {
		password, _ := proxy.User.Password()
		pair := base64.StdEncoding.EncodeToString([]byte(proxy.User.Username() + ":" + password))
		authorization = "Proxy-Authorization: Basic " + pair + "\r\n"
	}
	if target.Scheme == "https" {
		c.tunnel = []byte("CONNECT " + server + " HTTP/1.1\r\nHost: " + server + "\r\n" + authorization + "\r\n")
		return
	}
	host, _ := httpguts.PunycodeHostPort(target.Host) // newHTTPClient has checked it
	c.origin = "http://" + host
	c.head = append(c.head, authorization...)
}

// proxyError is an error of the proxy, or of the way to it.
type proxyError struct{ error }

// Unwrap returns the cause.
func (e proxyError) Unwrap() error { return e.error }

// openTunnel has the proxy connect to the server. It reads no byte of the server's.
func (c *httpClient) openTunnel(ctx context.Context, conn net.Conn) error {
	deadline := time.Now().Add(c.options.ConnectTimeout)
	if limit, ok := ctx.Deadline(); ok && limit.Before(deadline) {
		deadline = limit
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(past) })()
	if _, err := conn.Write(c.tunnel); err != nil {
		return err
	}
	br := bufio.NewReader(io.LimitReader(conn, maxHeader))
	resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusProxyAuthRequired:
		return proxyError{errors.New("the proxy wants a user name and password: write them into proxy, as in http://USER:PASSWORD@HOST:PORT")}
	case resp.StatusCode != http.StatusOK:
		return proxyError{fmt.Errorf("the proxy does not connect to the server: HTTP %d", resp.StatusCode)}
	case br.Buffered() > 0:
		return proxyError{errors.New("the proxy sent bytes before the server could")}
	}
	return conn.SetDeadline(time.Time{})
}
