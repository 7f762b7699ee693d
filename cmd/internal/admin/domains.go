package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"postern/actors/router"
	"postern/cmd/internal/control"
	"postern/cmd/internal/datadir"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/registry"
	"postern/internal/store"
)

// ErrNotKept means that no daemon would see a domain that was registered now.
var ErrNotKept = errors.New("nothing is kept on disk by this configuration, so a daemon would not see registered domains: add a registry {} block")

// Domains makes a call of the registry (/v1/domain/...) or carries it out on the store.
func Domains(ctx context.Context, cfg *config.Config, path string, r control.Request) (reply control.DomainReply, err error) {
	err = control.Call(ctx, datadir.Control(cfg.DataDir), path, r, &reply)
	if !errors.Is(err, control.ErrNoDaemon) {
		return reply, err
	}
	reply.Configured = control.ConfiguredDomains(cfg)
	switch view := control.IsView(path); {
	case view && absent(datadir.Store(cfg.DataDir)):
		if path == "/v1/domain/show" {
			return reply, fmt.Errorf("%s: %w", r.Domain, registry.ErrUnknown)
		}
		return reply, nil
	case !view && !cfg.NeedsStore():
		return reply, ErrNotKept
	}
	err = withStore(ctx, cfg, path, r, &reply, func(p store.Disk) error {
		return control.OnRegistry(registry.New(p), path, r, &reply)
	})
	return reply, err
}

// DomainFor returns the block that answers for a domain: its own, that of a registered domain, or the one named
// "*"; nil if there is none. registered says which it is.
func DomainFor(ctx context.Context, cfg *config.Config, name string) (block *config.Domain, registered bool, err error) {
	block = cfg.DomainFor(name)
	if block != nil && block.Name == name {
		return block, false, nil
	}
	reply, err := Domains(ctx, cfg, "/v1/domain/show", control.Request{Domain: name, Secrets: true})
	switch {
	case err == nil:
		record, err := reply.Records[0].Record()
		if err != nil {
			return nil, true, err
		}
		_, d := cfg.Registered(record.Domain, record.Kind, record.URL, record.Secret, record.AuthDomain)
		return &d, true, nil
	case IsError(err, registry.ErrUnknown), IsError(err, router.ErrNoRegistry), !cfg.NeedsStore():
		return block, false, nil
	}
	return nil, false, fmt.Errorf("whether %s is registered is not known: %w", name, err)
}

// IsError reports whether an error is, or was in the daemon, another one: it comes as a text from there.
func IsError(err, target error) bool {
	return errors.Is(err, target) || strings.Contains(err.Error(), target.Error())
}

// ListDomains lists the registered domains and those of the configuration.
func ListDomains(ctx context.Context, cfg *config.Config, secrets bool) (list control.DomainReply, err error) {
	r := control.Request{Secrets: secrets}
	for {
		page, err := Domains(ctx, cfg, "/v1/domain/list", r)
		if err != nil {
			return list, err
		}
		list.Configured = page.Configured
		list.Records = append(list.Records, page.Records...)
		n := len(page.Records)
		if n < control.DomainPage {
			return list, nil
		}
		r.After = page.Records[n-1].Domain
	}
}

// ServesAccount reports whether any domain, of the configuration or registered, has the accounts of
// id's domain in a users file.
func ServesAccount(ctx context.Context, cfg *config.Config, path string, id auth.Identity) bool {
	for _, d := range cfg.Domains {
		for _, ref := range d.Backends {
			uses := slices.ContainsFunc(cfg.Backends, func(b config.Backend) bool { return b.BackendRef == ref && b.Path == path })
			if uses && (len(d.AuthDomains) == 0 && (d.Name == "*" || d.Name == id.Domain) || isAmong(d.AuthDomains, id.Domain)) {
				return true
			}
		}
	}
	own, _ := cfg.Registered("", config.KindUsers, "", auth.Secret{}, "")
	if own.Path != path || !cfg.NeedsStore() {
		return false
	}
	all, err := ListDomains(ctx, cfg, false)
	return err != nil || slices.ContainsFunc(all.Records, func(r control.ShownDomain) bool {
		return r.Kind == config.KindUsers && isAmong([]string{cmp.Or(r.AuthDomain, r.Domain)}, id.Domain)
	})
}

// isAmong reports whether one of the names is the domain, in any spelling.
func isAmong(names []string, domain string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		folded, err := auth.FoldDomain(name) // as the backend does
		return err == nil && folded == domain
	})
}

// ForgetAccount removes from the cache what it has of an account of a users file, under all names
// by which domains know it: a password that was changed must not stay valid there. op is control.Removed if the
// account is gone, and control.Added if it is new.
func ForgetAccount(ctx context.Context, cfg *config.Config, path string, id auth.Identity, op string) error {
	uses := func(ref config.BackendRef) bool { // whatever the backend's name is
		return slices.ContainsFunc(cfg.Backends, func(b config.Backend) bool {
			return b.BackendRef == ref && b.Kind == config.KindUsers && b.Path == path
		})
	}
	for _, d := range cfg.Domains {
		if !slices.ContainsFunc(d.Backends, uses) {
			continue
		}
		cached, op := auth.Identity{User: id.User, Domain: d.Name}, op
		switch {
		case len(d.AuthDomains) > 0 && !isAmong(d.AuthDomains, id.Domain):
			continue
		case d.Name == "*" && len(d.AuthDomains) > 0:
			cached, op = auth.Identity{}, "" // any domain may be cached under this account: forget all
		case d.Name == "*":
			cached.Domain = id.Domain
		case len(d.AuthDomains) == 0 && d.Name != id.Domain:
			continue
		}
		if _, err := forgetCached(ctx, cfg, cached, op); err != nil {
			return err
		}
	}
	return forgetRegistered(ctx, cfg, path, id, op)
}

// forgetRegistered is ForgetAccount for registered domains. They use the users file that a users
// backend has by default.
func forgetRegistered(ctx context.Context, cfg *config.Config, path string, id auth.Identity, op string) error {
	own, _ := cfg.Registered("", config.KindUsers, "", auth.Secret{}, "")
	if own.Path != path {
		return nil
	}
	all, err := ListDomains(ctx, cfg, false)
	if err != nil {
		return err
	}
	for _, r := range all.Records {
		name := r.Domain
		if r.AuthDomain != "" {
			name, _ = auth.FoldDomain(r.AuthDomain)
		}
		if r.Kind != config.KindUsers || name != id.Domain || all.Shadowed(r.Domain) {
			continue
		}
		if _, err := forgetCached(ctx, cfg, auth.Identity{User: id.User, Domain: r.Domain}, op); err != nil {
			return err
		}
	}
	return nil
}
