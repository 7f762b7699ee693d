package nextcloudtest

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Codes of the API that are not HTTP statuses.
const (
	serverError  = 996
	unauthorised = 997
	notFound     = 998
)

// object is a PHP array with keys.
type object map[string]any

// php gives an array the form of PHP's json_encode: a list if it is empty or the keys are 0, 1, 2 and
// so on.
func php(entries object) any {
	list := make([]any, len(entries))
	for i := range list {
		entry, ok := entries[strconv.Itoa(i)]
		if !ok {
			return entries
		}
		list[i] = entry
	}
	return list
}

// reply writes a response of the API.
func reply(w http.ResponseWriter, code int, message string, data any) {
	status := code
	switch {
	case code == unauthorised:
		status = http.StatusUnauthorized
	case code == notFound:
		status = http.StatusNotFound
	case code == serverError:
		status = http.StatusInternalServerError
	case code < 200 || code > 600:
		status = http.StatusBadRequest
	}
	word := "failure"
	if status < 300 {
		word = "ok"
	}
	if data == nil {
		data = []any{}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(object{"ocs": object{
		"meta": object{"status": word, "statuscode": code, "message": message}, "data": data,
	}})
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path, api := strings.CutPrefix(r.URL.EscapedPath(), "/ocs/v2.php/")
	name, _, _ := r.BasicAuth()
	s.requests = append(s.requests, strings.TrimSpace(r.Method+" "+path+" "+name))
	switch {
	case s.state.Instead != nil && s.state.Instead(w, r):
	case path == "/status.php":
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(object{
			"installed": true, "maintenance": s.state.Maintenance, "needsDbUpgrade": false, "version": "31.0.4.1",
			"versionstring": "31.0.4", "edition": "", "productname": "Nextcloud", "extendedSupport": false,
		})
	case !api:
		w.Header().Set("Content-Type", "text/html; charset=UTF-8")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "<!DOCTYPE html>\n<html><head><title>Nextcloud</title></head><body>Page not found</body></html>\n")
	case r.URL.Query().Get("format") != "json":
		w.Header().Set("Content-Type", "application/xml; charset=utf-8")
		_, _ = io.WriteString(w, "<?xml version=\"1.0\"?>\n<ocs/>\n")
	case s.state.Maintenance:
		w.Header().Set("X-Nextcloud-Maintenance-Mode", "1")
		reply(w, http.StatusServiceUnavailable, "Service unavailable", nil)
	default:
		s.call(w, r, path)
	}
}

// call handles the login, if there is one, and finds the route.
func (s *Server) call(w http.ResponseWriter, r *http.Request, path string) {
	user, came := s.login(r)
	switch {
	case came == tooMany && s.state.Before29:
		reply(w, serverError, "Internal Server Error\n", nil)
	case came == tooMany:
		reply(w, http.StatusTooManyRequests, "Reached maximum delay", nil)
	case came == wrong:
		reply(w, unauthorised, "Unauthorised", nil)
	case path == "cloud/capabilities":
		s.capabilities(w, r)
	case s.state.ProvisioningOff:
		reply(w, notFound, "Invalid query, please check the syntax. API specifications are here:", nil)
	case user == nil:
		reply(w, unauthorised, "Current user is not logged in", nil)
	case r.Header.Get("OCS-APIRequest") != "true":
		reply(w, http.StatusPreconditionFailed, "CSRF check failed", nil)
	case path == "cloud/user" && r.Method == http.MethodGet:
		reply(w, http.StatusOK, "OK", account(user, user))
	default:
		s.provision(w, r, user, path)
	}
}

func (s *Server) capabilities(w http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.RemoteAddr) // the server's own
	from := subnet(host)
	bruteforce, major := object{"delay": s.delay(from).Milliseconds()}, 28
	if !s.state.Before29 {
		bruteforce["allow-listed"], major = s.exempt(from), 31
	}
	reply(w, http.StatusOK, "OK", object{
		"version": object{"major": major}, "capabilities": object{"bruteforce": bruteforce},
	})
}

func admin(u *User) bool { return slices.Contains(u.Groups, "admin") }

// sees reports whether one account may see another.
func sees(by, u *User) bool {
	return admin(by) || slices.ContainsFunc(u.Groups, func(g string) bool { return slices.Contains(by.Administers, g) })
}

// account describes an account, as far as another one may see it.
func account(by, u *User) object {
	out := object{"id": u.ID, "displayname": u.Name, "display-name": u.Name, "email": u.Mail,
		"groups": append([]string{}, u.Groups...), "subadmin": append([]string{}, u.Administers...)}
	if sees(by, u) {
		out["enabled"] = !u.Disabled
	}
	return out
}

// provision serves the app provisioning_api.
func (s *Server) provision(w http.ResponseWriter, r *http.Request, by *User, path string) {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		parts[i], _ = url.PathUnescape(part) // net/http has checked it
	}
	switch {
	case len(parts) == 2 && parts[1] == "users" && r.Method == http.MethodGet:
		if !admin(by) && len(by.Administers) == 0 {
			reply(w, http.StatusForbidden, "Logged in account must be at least a sub admin", nil)
			return
		}
		var ids []string
		for _, u := range s.state.Users {
			if !u.Gone && sees(by, u) {
				ids = append(ids, u.ID)
			}
		}
		reply(w, http.StatusOK, "OK", object{"users": page(r, ids)})
	case len(parts) == 3 && parts[1] == "users", len(parts) == 4 && parts[1] == "users" && parts[3] == "groups":
		s.user(w, r, by, parts)
	case len(parts) >= 4 && parts[1] == "groups" && parts[3] == "users":
		group, _ := url.QueryUnescape(parts[2]) // the server decodes once more
		s.group(w, r, by, group, len(parts) == 5 && parts[4] == "details")
	default:
		reply(w, notFound, "Invalid query, please check the syntax. API specifications are here:", nil)
	}
}

func page(r *http.Request, ids []string) []string {
	from, _ := strconv.Atoi(r.URL.Query().Get("offset"))
	if limit, err := strconv.Atoi(r.URL.Query().Get("limit")); err == nil {
		return ids[min(from, len(ids)):min(from+limit, len(ids))]
	}
	return append([]string{}, ids...)
}

func (s *Server) user(w http.ResponseWriter, r *http.Request, by *User, parts []string) {
	u := s.byID(parts[2])
	switch {
	case u == nil && len(parts) == 3 && r.Method == http.MethodGet:
		reply(w, http.StatusNotFound, "User does not exist", nil)
	case u == nil, u != by && !sees(by, u):
		reply(w, notFound, "", nil)
	case len(parts) == 4:
		reply(w, http.StatusOK, "OK", object{"groups": append([]string{}, u.Groups...)})
	case r.Method == http.MethodPut:
		s.edit(w, r, u)
	default:
		reply(w, http.StatusOK, "OK", account(by, u))
	}
}

// edit sets a password. An account that may see a user may edit it.
func (s *Server) edit(w http.ResponseWriter, r *http.Request, u *User) {
	body, _ := io.ReadAll(r.Body)
	form, err := url.ParseQuery(string(body))
	_, password, _ := r.BasicAuth()
	_, token := s.appPassword(password)
	switch {
	case s.state.StrictConfirm && token != nil:
		reply(w, http.StatusForbidden, "Password confirmation is required", nil)
	case err != nil || form.Get("key") != "password":
		reply(w, 103, "", nil)
	case s.state.FixedPasswords:
		reply(w, 112, "Setting the password is not supported by the users backend", nil)
	case len(form.Get("value")) < s.state.MinPassword:
		reply(w, 107, "Password needs to be longer", nil)
	default:
		u.Password = form.Get("value")
		reply(w, http.StatusOK, "OK", nil)
	}
}

func (s *Server) group(w http.ResponseWriter, r *http.Request, by *User, group string, details bool) {
	var ids []string
	for _, u := range s.state.Users {
		if slices.Contains(u.Groups, group) {
			ids = append(ids, u.ID)
		}
	}
	switch {
	case len(ids) == 0:
		reply(w, notFound, "The requested group could not be found", nil)
	case !admin(by) && !slices.Contains(by.Administers, group):
		reply(w, unauthorised, "User does not have access to specified group", nil)
	case details && s.state.NoDetails && !admin(by):
		reply(w, http.StatusForbidden, "Logged in account must be an admin", nil)
	case !details:
		reply(w, http.StatusOK, "OK", object{"users": ids})
	default:
		users := make(object)
		for _, id := range page(r, ids) {
			if u := s.byID(id); u != nil { // deleted accounts are left out
				users[id] = account(by, u)
			}
		}
		reply(w, http.StatusOK, "OK", object{"users": php(users)})
	}
}
