package roster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"postern/internal/auth"
)

// api posts each step to ejabberd's mod_http_api.
type api struct {
	url    string
	token  auth.Secret
	client *http.Client
	old    bool // the server expects the arguments of srg_create as before 21.07
}

// NewEjabberdAPI returns an executor that posts to url/COMMAND, each time at most for timeout,
// with the OAuth token if there is one.
func NewEjabberdAPI(url string, token auth.Secret, timeout time.Duration) Executor {
	return &api{url: strings.TrimRight(url, "/"), token: token, client: &http.Client{
		Timeout:   timeout,
		Transport: &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: 30 * time.Second},
		// A redirect would send the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close implements Executor.
func (a *api) Close() { a.client.CloseIdleConnections() }

// Do implements Executor.
func (a *api) Do(ctx context.Context, s Step) ([]string, error) {
	status, body, err := a.post(ctx, s)
	if err == nil && status == http.StatusBadRequest && s.Command == Create {
		a.old = !a.old
		status, body, err = a.post(ctx, s)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Command, err)
	}
	if err := judge(status, body); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Command, err)
	}
	if s.Command == GetMembers {
		var members []string
		if err := json.Unmarshal(body, &members); err != nil {
			return nil, fmt.Errorf("%w: %s: the answer is not a list of members", ErrRefused, s.Command)
		}
		return members, nil
	}
	if s.Command == Kick { // the answer is the number of sessions
		return nil, nil
	}
	if code := strings.TrimSpace(string(body)); code != "0" && code != `""` {
		return nil, fmt.Errorf("%w: %s: %s", ErrRefused, s.Command, clip(code))
	}
	return nil, nil
}

// judge distinguishes a refused step from a server that cannot carry out any step now.
func judge(status int, body []byte) error {
	text := clip(strings.TrimSpace(string(body)))
	switch status {
	case http.StatusOK:
		return nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("HTTP %d: %s: allow the command in ejabberd's api_permissions, or correct the token", status, text)
	case http.StatusNotFound:
		return fmt.Errorf("HTTP %d: %s: correct the address, or add mod_http_api and mod_admin_extra to ejabberd", status, text)
	case http.StatusBadRequest, http.StatusConflict, http.StatusInternalServerError:
		return fmt.Errorf("%w: HTTP %d: %s", ErrRefused, status, text)
	}
	return fmt.Errorf("HTTP %d: %s", status, text)
}

func (a *api) post(ctx context.Context, s Step) (status int, body []byte, err error) {
	document, err := json.Marshal(a.arguments(s))
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+"/"+s.Command.String(), bytes.NewReader(document))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if !a.token.Empty() {
		req.Header.Set("Authorization", "Bearer "+a.token.Reveal())
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxListing))
	return resp.StatusCode, body, err
}

// arguments are the command's arguments by their names in ejabberd. Since 21.07, srg_create has label
// in place of name; since 24.02, display is a list, which 23.01 accepts too.
func (a *api) arguments(s Step) map[string]any {
	switch {
	case s.Command == SetVCard:
		return map[string]any{"user": s.User, "host": s.Host, "name": "FN", "content": s.Name}
	case s.Command == Create && a.old:
		return map[string]any{"group": s.Group, "host": s.Home, "name": s.Group, "description": s.Group, "display": s.Group}
	case s.Command == Create:
		return map[string]any{"group": s.Group, "host": s.Home, "label": s.Group, "description": s.Group, "display": []string{s.Group}}
	case s.Command == GetMembers:
		return map[string]any{"group": s.Group, "host": s.Home}
	case s.Command == Kick:
		return map[string]any{"user": s.User, "host": s.Host}
	}
	return map[string]any{"user": s.User, "host": s.Host, "group": s.Group, "grouphost": s.Home}
}
