package control

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"postern/actors/router"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/registry"
)

// DomainChange is registry.Change in JSON: absent fields stay as they are.
type DomainChange struct {
	Kind       *string `json:"backend,omitempty"`
	URL        *string `json:"url,omitempty"`
	AuthDomain *string `json:"auth_domain,omitempty"`
	Contact    *string `json:"contact,omitempty"`
	Secret     *string `json:"secret,omitempty"`
}

func (c DomainChange) change() registry.Change {
	out := registry.Change{Kind: c.Kind, URL: c.URL, AuthDomain: c.AuthDomain, Contact: c.Contact}
	if c.Secret != nil {
		s := auth.NewSecret(*c.Secret)
		out.Secret = &s
	}
	return out
}

// DomainReply is the answer to all calls of the registry.
type DomainReply struct {
	Records    []ShownDomain      `json:"records,omitempty"`    // list, show
	Configured []ConfiguredDomain `json:"configured,omitempty"` // in the file, which wins
	New        int                `json:"new,omitempty"`        // put
	Changed    int                `json:"changed,omitempty"`    // put
}

// ShownDomain is a registered domain.
type ShownDomain struct {
	registry.Entry
	HasSecret bool `json:"has_secret"`
}

// ConfiguredDomain is a domain of the configuration file.
type ConfiguredDomain struct {
	Domain   string   `json:"domain"`
	Backends []string `json:"backends"`
}

// ConfiguredDomains lists the domains of a configuration.
func ConfiguredDomains(cfg *config.Config) []ConfiguredDomain {
	list := make([]ConfiguredDomain, len(cfg.Domains))
	for i, d := range cfg.Domains {
		list[i].Domain = d.Name
		for _, ref := range d.Backends {
			list[i].Backends = append(list[i].Backends, ref.String())
		}
	}
	return list
}

// Shadowed reports whether the configuration has a block for a domain.
func (r DomainReply) Shadowed(domain string) bool {
	return slices.ContainsFunc(r.Configured, func(c ConfiguredDomain) bool { return c.Domain == domain })
}

func (r *DomainReply) show(records []registry.Record, secrets bool) {
	for _, record := range records {
		r.Records = append(r.Records, ShownDomain{registry.Show(record, secrets), !record.Secret.Empty()})
	}
}

// edit changes a registry: it returns what it has written and deleted.
type edit = func(*registry.Registry) (put []registry.Record, deleted []string, err error)

// edits are the calls that change the registry.
var edits = map[string]func(Request, *DomainReply) edit{
	"/v1/domain/put": putDomains, "/v1/domain/set": setDomain, "/v1/domain/remove": removeDomain,
}

// views are the calls that read it.
var views = map[string]func(Request, *registry.Registry) ([]registry.Record, error){
	"/v1/domain/list": func(r Request, reg *registry.Registry) ([]registry.Record, error) {
		return reg.List(r.After, DomainPage)
	},
	"/v1/domain/show": func(r Request, reg *registry.Registry) ([]registry.Record, error) {
		record, err := reg.Get(r.Domain)
		return []registry.Record{record}, err
	},
}

// IsView reports whether a call of the registry changes nothing.
func IsView(path string) bool { return views[path] != nil }

// OnRegistry carries out a call on the registry of a store that no broker uses.
func OnRegistry(reg *registry.Registry, path string, r Request, reply *DomainReply) error {
	if view := views[path]; view != nil {
		records, err := view(r, reg)
		reply.show(records, r.Secrets)
		return err
	}
	_, _, err := edits[path](r, reply)(reg)
	return err
}

func putDomains(r Request, reply *DomainReply) edit {
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

func setDomain(r Request, _ *DomainReply) edit {
	return func(reg *registry.Registry) ([]registry.Record, []string, error) {
		record, err := reg.Get(r.Domain)
		if err != nil || r.Change == nil {
			return nil, nil, err
		}
		put, err := reg.Put(time.Now(), r.Change.change().Apply(record))
		return put, nil, err
	}
}

func removeDomain(r Request, _ *DomainReply) edit {
	return func(reg *registry.Registry) ([]registry.Record, []string, error) {
		return nil, []string{r.Domain}, reg.Delete(r.Domain)
	}
}

// handleDomains adds the calls of the registry.
func (s *Server) handleDomains(mux *http.ServeMux) {
	reply := func() *DomainReply { return &DomainReply{Configured: ConfiguredDomains(s.daemon.Broker().InForce())} }
	for path, change := range edits {
		mux.HandleFunc("POST "+path, handle(maxDomainBody, s.noted(path, func(_ context.Context, r Request) (any, error) {
			reply := reply()
			return reply, s.daemon.Broker().Registry(change(r, reply))
		})))
	}
	for path := range views {
		mux.HandleFunc("POST "+path, handle(maxBody, func(_ context.Context, r Request) (any, error) {
			reply, reg := reply(), s.daemon.Broker().Registered()
			if reg != nil {
				return reply, OnRegistry(reg, path, r, reply)
			}
			if path == "/v1/domain/list" && !s.daemon.Broker().RegistryLost() {
				return reply, nil
			}
			return nil, router.ErrNoRegistry
		}))
	}
}
