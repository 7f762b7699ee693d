package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"postern/internal/config"
)

// rosters returns the chains of shared rosters.
func (e *Env) rosters(file string, cfg *config.Config) (out []Chain) {
	for _, d := range cfg.Domains {
		r := d.Roster
		if r == nil {
			continue
		}
		c := Chain{Hop: "roster." + d.Name}
		switch {
		case r.GroupsFile != "":
			c.Steps = []Step{{Check: "groups-file", Run: func(context.Context) []Outcome { return e.groupsFile(r.GroupsFile, cfg.DataDir) }}}
		case r.Ejabberdctl != "":
			c.Steps = []Step{
				{Check: "ejabberdctl", Run: func(context.Context) []Outcome { return e.program(r.Ejabberdctl) }},
				{Check: "status", Run: func(ctx context.Context) []Outcome { return e.ctlStatus(ctx, file, r.Ejabberdctl) }},
			}
		default:
			c.Steps = []Step{{Check: "api", Run: func(ctx context.Context) []Outcome { return e.api(ctx, d.Name, r) }}}
		}
		out = append(out, c)
	}
	return out
}

// groupsFile checks that the file of Prosody's mod_groups can be replaced.
func (e *Env) groupsFile(file, dataDir string) []Outcome {
	dir := filepath.Dir(file)
	d, err := e.Stat(dir)
	if err != nil {
		return fail("the directory of "+file+": "+cause(err).Error(), "create it for the user that postern runs as, and let Prosody read it")
	}
	data, err := e.Stat(dataDir)
	if owner := e.runsAs(data); err == nil && !d.may(owner, mayWrite|mayEnter) {
		name := e.UserName(owner.uid)
		return fail(name+" cannot write in "+dir, "chown "+name+" "+dir+", or put groups_file elsewhere")
	}
	return fine("%s can be replaced", file)
}

func (e *Env) program(path string) []Outcome {
	f, err := e.Stat(path)
	switch {
	case err != nil:
		return fail(path+": "+cause(err).Error(), "correct ejabberdctl in the roster block, or install ejabberd; if it runs on another machine, use api")
	case f.Mode.IsDir() || f.Mode.Perm()&0o111 == 0:
		return fail(path+" cannot be executed", "correct ejabberdctl in the roster block")
	}
	return fine("%s exists", path)
}

// changeable returns the part of a path that another user than root can exchange or write, or "".
func (e *Env) changeable(path string) string {
	for {
		f, err := e.Stat(path)
		sticky := f.Mode.IsDir() && f.Mode&fs.ModeSticky != 0
		if err != nil || f.UID != 0 || f.Mode.Perm()&0o022 != 0 && !sticky {
			return path
		}
		if path == filepath.Dir(path) {
			return ""
		}
		path = filepath.Dir(path)
	}
}

// noNode is ejabberdctl's exit status when it cannot reach the running server.
const noNode = 3

// ctlStatus runs ejabberdctl. Root does so only if no other user can have chosen the program: neither
// by the configuration in file, nor by putting another one in its place.
func (e *Env) ctlStatus(ctx context.Context, file, path string) []Outcome {
	if e.UID == 0 {
		for _, p := range []string{file, path} {
			if other := e.changeable(p); p != "" && other != "" {
				return skip(fmt.Sprintf("%s is not run as root, because another user could have changed %s", path, other),
					e.cure.doctor())
			}
		}
	}
	err := e.Run(ctx, path, "status")
	var exit *exec.ExitError
	switch {
	case err == nil:
		return fine("ejabberd is running, and ejabberdctl reaches it")
	case errors.Is(err, fs.ErrPermission):
		return fail("this user may not execute "+path, "allow it to the user that postern runs as, or use api, which is faster")
	case errors.As(err, &exit) && exit.ExitCode() == noNode:
		return fail("ejabberdctl does not reach ejabberd", "start ejabberd; if it runs, the user that postern runs as lacks its Erlang cookie: use api")
	}
	return fail("ejabberdctl status fails: "+err.Error(), "see the output of ejabberdctl status, or use api, which is faster")
}

// api asks for the members of a group that does not exist. That needs the rights for shared rosters
// and changes nothing.
func (e *Env) api(ctx context.Context, domain string, r *config.Roster) []Outcome {
	status, err := e.command(ctx, r, "srg_get_members", map[string]string{"group": noUser, "host": domain})
	if err == nil && status == http.StatusNotFound { // the group is missing, or the command
		status, err = e.command(ctx, r, "status", map[string]string{})
	}
	text := "HTTP " + strconv.Itoa(status)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fail("no server listens at ejabberd's API, "+r.API, "start ejabberd, add mod_http_api to a listener of it, or correct api")
	case err != nil:
		return fail("ejabberd's API does not answer: "+why(err), "correct api, and see ejabberd's log")
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fail(text+": ejabberd's API does not let postern manage shared rosters", "allow the commands to postern's address in ejabberd's api_permissions, or correct token")
	case status == http.StatusNotFound:
		return fail(text+": ejabberd's API is not at "+r.API, "correct api, or add mod_http_api and mod_admin_extra to ejabberd")
	case status >= 300 && status < 400, status == http.StatusBadGateway, status == http.StatusServiceUnavailable:
		return fail(text+" instead of ejabberd's API", "correct api: it must lead to ejabberd itself")
	}
	return fine("ejabberd's API answers and accepts postern")
}

func (e *Env) command(ctx context.Context, r *config.Roster, name string, arguments map[string]string) (int, error) {
	body, err := json.Marshal(arguments)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(r.API, "/")+"/"+name, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if !r.Token.Empty() {
		req.Header.Set("Authorization", "Bearer "+r.Token.Reveal())
	}
	// RoundTrip follows no redirect, which would send the token elsewhere.
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return e.Dial(ctx, network, address)
	}}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxFile))
	return resp.StatusCode, nil
}
