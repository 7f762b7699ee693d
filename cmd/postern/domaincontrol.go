package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"time"

	"postern/actors"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/registry"
	"postern/internal/store"
)

// Bounds of the registry's commands.
const (
	domainBody = 256 << 20 // bytes of an import
	domainPage = 1000      // records of a list at a time
)

// domainRequest is what the commands of the registry ask for, besides the domain.
type domainRequest struct {
	Records []registry.Entry `json:"records,omitempty"` // put
	New     bool             `json:"new,omitempty"`     // put: none of them may be registered
	Change  *domainChange    `json:"change,omitempty"`  // set
	After   string           `json:"after,omitempty"`   // list
	Secrets bool             `json:"secrets,omitempty"` // list, show
}

// domainChange is registry.Change as it travels: fields that are absent stay as they are.
type domainChange struct {
	Kind       *string `json:"backend,omitempty"`
	URL        *string `json:"url,omitempty"`
	AuthDomain *string `json:"auth_domain,omitempty"`
	Contact    *string `json:"contact,omitempty"`
	Secret     *string `json:"secret,omitempty"`
}

func (c domainChange) change() registry.Change {
	out := registry.Change{Kind: c.Kind, URL: c.URL, AuthDomain: c.AuthDomain, Contact: c.Contact}
	if c.Secret != nil {
		s := auth.NewSecret(*c.Secret)
		out.Secret = &s
	}
	return out
}

// domainReply is the answer to all of them.
type domainReply struct {
	Records    []shownDomain      `json:"records,omitempty"`    // list, show
	Configured []configuredDomain `json:"configured,omitempty"` // in the file, which wins
	New        int                `json:"new,omitempty"`        // put
	Changed    int                `json:"changed,omitempty"`
}

// shownDomain is a registered domain as it is shown.
type shownDomain struct {
	registry.Entry
	HasSecret bool `json:"has_secret"`
}

// configuredDomain is a domain of the configuration file.
type configuredDomain struct {
	Domain   string   `json:"domain"`
	Backends []string `json:"backends"`
}

// edit is a change of the registry: what it has written and deleted.
type edit = func(*registry.Registry) (put []registry.Record, deleted []string, err error)

// edits are the commands that change the registry, by path.
var edits = map[string]func(controlRequest, *domainReply) edit{
	"/v1/domain/put": putDomains, "/v1/domain/set": setDomain, "/v1/domain/remove": removeDomain,
}

// views are those that only look, by path.
var views = map[string]func(controlRequest, *registry.Registry) ([]registry.Record, error){
	"/v1/domain/list": func(r controlRequest, reg *registry.Registry) ([]registry.Record, error) {
		return reg.List(r.After, domainPage)
	},
	"/v1/domain/show": func(r controlRequest, reg *registry.Registry) ([]registry.Record, error) {
		record, err := reg.Get(r.Domain)
		return []registry.Record{record}, err
	},
}

func putDomains(r controlRequest, reply *domainReply) edit {
	return func(reg *registry.Registry) ([]registry.Record, []string, error) {
		records := make([]registry.Record, len(r.Records))
		for i, e := range r.Records {
			var err error
			if records[i], err = e.Record(); err != nil {
				return nil, nil, err
			}
			if _, err := reg.Get(records[i].Domain); errors.Is(err, registry.ErrUnknown) {
				reply.New++
			} else {
				reply.Changed++
			}
		}
		if r.New && len(records) == 1 {
			record, err := reg.Add(time.Now(), records[0])
			return []registry.Record{record}, nil, err
		}
		put, err := reg.Put(time.Now(), records...)
		return put, nil, err
	}
}

func setDomain(r controlRequest, _ *domainReply) edit {
	return func(reg *registry.Registry) ([]registry.Record, []string, error) {
		record, err := reg.Get(r.Domain)
		if err != nil || r.Change == nil {
			return nil, nil, err
		}
		put, err := reg.Put(time.Now(), r.Change.change().Apply(record))
		return put, nil, err
	}
}

func removeDomain(r controlRequest, _ *domainReply) edit {
	return func(reg *registry.Registry) ([]registry.Record, []string, error) {
		return nil, []string{r.Domain}, reg.Delete(r.Domain)
	}
}

// handleDomains adds the registry's commands to the control socket.
func (c *controlServer) handleDomains(mux *http.ServeMux) {
	for path, change := range edits {
		mux.HandleFunc("POST "+path, handleUpTo(domainBody, func(_ context.Context, r controlRequest) (any, error) {
			reply := domainReply{Configured: c.daemon.configured()}
			return &reply, c.daemon.broker.Registry(change(r, &reply))
		}))
	}
	for path, look := range views {
		mux.HandleFunc("POST "+path, handle(func(_ context.Context, r controlRequest) (any, error) {
			reply := domainReply{Configured: c.daemon.configured()}
			reg := c.daemon.broker.Registered()
			if reg == nil {
				if path == "/v1/domain/list" && !c.daemon.broker.RegistryLost() {
					return &reply, nil
				}
				return nil, actors.ErrNoRegistry
			}
			records, err := look(r, reg)
			reply.show(records, r.Secrets)
			return &reply, err
		}))
	}
}

func (r *domainReply) show(records []registry.Record, secrets bool) {
	for _, record := range records {
		r.Records = append(r.Records, shownDomain{registry.Show(record, secrets), !record.Secret.Empty()})
	}
}

// configured lists the domains of the configuration in force.
func (d *daemon) configured() []configuredDomain { return configuredDomains(d.broker.InForce()) }

func configuredDomains(cfg *config.Config) []configuredDomain {
	list := make([]configuredDomain, len(cfg.Domains))
	for i, d := range cfg.Domains {
		list[i].Domain = d.Name
		for _, ref := range d.Backends {
			list[i].Backends = append(list[i].Backends, ref.String())
		}
	}
	return list
}

// errNotKept is returned without a daemon, also to imports, when none would look for what is
// registered.
var errNotKept = errors.New("nothing is kept on disk by this configuration, so a daemon would not see registered domains: add a registry {} block")

// registryCall carries out a command of the registry by the running daemon, or on the store when
// none runs, which then must not start.
func registryCall(ctx context.Context, cfg *config.Config, path string, r controlRequest) (reply domainReply, err error) {
	err = callControl(ctx, controlPath(cfg), path, r, &reply)
	if !errors.Is(err, errNoDaemon) {
		return reply, err
	}
	reply.Configured = configuredDomains(cfg)
	_, absent := os.Stat(storeDir(cfg))
	switch {
	case views[path] != nil && errors.Is(absent, fs.ErrNotExist):
		if path == "/v1/domain/show" {
			err = fmt.Errorf("%s: %w", r.Domain, registry.ErrUnknown)
			return reply, err
		}
		return reply, nil
	case views[path] == nil && !cfg.NeedsStore():
		return reply, errNotKept
	}
	err = withStore(ctx, cfg, path, r, &reply, func(p *store.Pebble) error {
		reg := registry.New(p)
		if look := views[path]; look != nil {
			records, err := look(r, reg)
			reply.show(records, r.Secrets)
			return err
		}
		_, _, err := edits[path](r, &reply)(reg)
		return err
	})
	return reply, err
}

// listRegistered lists the registered domains, and those of the configuration.
func listRegistered(ctx context.Context, cfg *config.Config, secrets bool) (list domainReply, err error) {
	for {
		var r controlRequest
		r.Secrets = secrets
		if n := len(list.Records); n > 0 {
			r.After = list.Records[n-1].Domain
		}
		page, err := registryCall(ctx, cfg, "/v1/domain/list", r)
		if err != nil {
			return list, err
		}
		list.Configured = page.Configured
		list.Records = append(list.Records, page.Records...)
		if len(page.Records) < domainPage {
			return list, nil
		}
	}
}

// shadowed reports whether the configuration has a block for a domain.
func (r domainReply) shadowed(domain string) bool {
	return slices.ContainsFunc(r.Configured, func(c configuredDomain) bool { return c.Domain == domain })
}
