package daemon

import (
	"fmt"

	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/version"
)

// newBackend makes the backend of a configuration block.
func (d *Daemon) newBackend(b config.Backend, hashing backend.Hashing) (backend.Backend, error) {
	return makeBackend(b, HTTPOptions(b), hashing, func(err error) {
		d.log.Error("SCRAM keys cannot be made or stored; logins by PLAIN go on", "backend", b.String(), "err", err)
	})
}

// NewBackend makes the backend of a configuration block to look at: it changes nothing by itself. o is used by
// backends that speak HTTP.
func NewBackend(b config.Backend, o backend.HTTPOptions, hashing backend.Hashing) (backend.Backend, error) {
	b.ScramSeed = ""
	return makeBackend(b, o, hashing, nil)
}

func makeBackend(b config.Backend, o backend.HTTPOptions, hashing backend.Hashing, keysFault func(error)) (backend.Backend, error) {
	switch b.Kind {
	case config.KindNextcloud:
		return backend.NewNextcloud(backend.NextcloudOptions{
			HTTPOptions: o, AdminUser: b.AdminUser, AdminPassword: b.AdminPassword,
			AcceptOtherID: b.AcceptOtherID, MaxDelay: b.MaxDelay, MaxMembers: b.MaxMembers,
		})
	case "jsxc":
		return backend.NewJSXC(backend.JSXCOptions{HTTPOptions: o, Secret: b.Secret, AcceptOtherID: b.AcceptOtherID})
	case "json":
		return backend.NewJSON(o)
	case config.KindHTTP:
		return backend.NewEndpoint(backend.EndpointOptions{HTTPOptions: o, Method: b.Method, Realm: b.Realm, DenyBody: b.DenyBody, TrueAt: b.TrueAt})
	case config.KindAuthHTTP:
		return backend.NewAuthHTTP(backend.AuthHTTPOptions{HTTPOptions: o, User: b.ServiceUser, Password: b.ServicePassword})
	case config.KindAppPasswords:
		return backend.NewAppPasswords(), nil
	case config.KindOIDC:
		var scim *backend.SCIMOptions
		if b.OIDC.SCIMURL != "" {
			scim = &backend.SCIMOptions{URL: b.OIDC.SCIMURL, Token: b.OIDC.SCIMToken, Scopes: b.OIDC.SCIMScopes}
		}
		return backend.NewOIDC(backend.OIDCOptions{
			HTTPOptions: o, JWT: b.Accepts(config.AcceptJWT), Introspection: b.Accepts(config.AcceptIntrospection),
			PasswordGrant: b.Accepts(config.AcceptPasswordGrant), Audience: b.OIDC.Audience, Clients: b.OIDC.Clients,
			ClientID: b.OIDC.ClientID, ClientSecret: b.OIDC.ClientSecret, UsernameClaim: b.OIDC.UsernameClaim, UsernameDomain: b.OIDC.UsernameDomain,
			GroupsClaim: b.OIDC.GroupsClaim, SCIM: scim, Scopes: b.OIDC.Scopes, Algorithms: b.OIDC.Algorithms, Leeway: b.OIDC.Leeway, Fold: b.FoldCase,
		})
	case "users":
		return backend.NewUsers(backend.UsersOptions{Path: b.Path, Cost: b.BcryptCost, Fold: b.FoldCase, SeedFile: b.ScramSeed, Log: keysFault}, hashing)
	}
	return nil, fmt.Errorf("unknown kind of backend %q", b.Kind)
}

// unusedProxy returns the variable of the environment that names a proxy for backends that use none,
// and these backends; "" if there are none.
func unusedProxy(cfg *config.Config) (name string, backends []string) {
	for _, b := range cfg.Backends {
		if b.URL == "" || !b.Proxy.Empty() {
			continue
		}
		if found := backend.UnusedProxy(b.URL); found != "" {
			name, backends = found, append(backends, b.String())
		}
	}
	return name, backends
}

// HTTPOptions returns the options of a backend block that speaks HTTP.
func HTTPOptions(b config.Backend) backend.HTTPOptions {
	o := backend.HTTPOptions{
		URL: b.URL, CAFile: b.CAFile, UserAgent: b.UserAgent, ConnectTimeout: b.ConnectTimeout,
		Timeout: b.Timeout, MaxResponse: b.MaxResponse, Connections: b.Slots, Proxy: b.Proxy,
	}
	if o.UserAgent == "" {
		o.UserAgent = version.UserAgent()
	}
	return o
}
