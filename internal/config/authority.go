package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"postern/internal/auth"
)

// Authority is what vouches for the accounts of a backend under the name authDomain; empty is the
// login's own domain. It stays the same while kind, place and name do, or the block's authority; and for tokens, while
// the same ones are taken in the same way: what was let in by a rule must not stay after it.
func (b *Backend) Authority(authDomain string) auth.Authority {
	kind, place := b.Kind, cmp.Or(b.Path, strings.TrimRight(b.URL, "/"))
	if b.AuthorityName != "" {
		kind, place = "", b.AuthorityName
	}
	parts := []string{kind, place, authDomain}
	if b.Kind == KindOIDC {
		parts = append(parts, b.OIDC.taken()...)
	}
	id := auth.NewAuthorityID(parts...)
	return auth.Authority{ID: id, Folds: b.FoldCase}
}

// taken is which tokens and passwords the backend takes, and for which account. The order of a list says nothing.
func (o *OIDC) taken() []string {
	parts := []string{o.Audience, o.UsernameClaim, strconv.FormatBool(o.UsernameDomain), o.GroupsClaim}
	for _, list := range [][]string{o.Accept, o.Clients, o.Scopes, o.Algorithms} {
		list = slices.Sorted(slices.Values(list))
		parts = append(parts, strconv.Itoa(len(list)))
		parts = append(parts, list...)
	}
	return parts
}

// Authorities are those that a domain asks, in their order, and after them, if there are several, one
// that stands for all of them in any order. blocks are the domain's backends.
func (d *Domain) Authorities(blocks []Backend) (list []auth.Authority) {
	for i := range blocks {
		for _, name := range d.authNames() {
			list = append(list, blocks[i].Authority(name))
		}
	}
	if len(list) < 2 {
		return list
	}
	all := auth.Authority{Folds: true}
	ids := make([]string, 0, len(list))
	for _, a := range list {
		all.Folds = all.Folds && a.Folds
		ids = append(ids, string(a.ID[:]))
	}
	slices.Sort(ids)
	all.ID = auth.NewAuthorityID(ids...)
	return append(list, all)
}

// Whole returns the authority of all backends of a domain together; false if it has none.
func (c *Config) Whole(d *Domain) (auth.Authority, bool) {
	var blocks []Backend
	for _, ref := range d.Backends {
		if b := c.backend(ref); b != nil {
			blocks = append(blocks, *b)
		}
	}
	list := d.Authorities(blocks)
	if len(list) == 0 {
		return auth.Authority{}, false
	}
	return list[len(list)-1], true
}

// authNames are the names of the domain at its backends; empty stands for the login's own domain.
func (d *Domain) authNames() []string {
	if len(d.AuthDomains) == 0 {
		return []string{""}
	}
	names := slices.Clone(d.AuthDomains)
	for i, name := range names {
		if folded, err := auth.FoldDomain(name); err == nil && folded == d.Name {
			names[i] = ""
		}
	}
	return names
}
