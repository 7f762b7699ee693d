package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"postern/internal/allow"
	"postern/internal/auth"
)

// Bounds of the conditions of a domain: an account's standing to each group is kept with what the cache has of it.
const (
	maxAllow     = 16
	maxGroups    = 32  // of a domain
	maxGroupName = 128 // bytes
)

// allow decodes the allow blocks of a domain.
func (p *parser) allow(s *section, cfg *Config, out *Domain) {
	names := make(map[string]bool)
	for i, b := range s.children("allow") {
		child := p.section(s.spec.path, b)
		switch {
		case child == nil:
			continue
		case i == maxAllow:
			p.complain(child.header, "the domain has too many allow blocks", fmt.Sprintf("join them: there may be %d", maxAllow))
			return
		}
		block := p.allowBlock(child)
		for _, name := range block.Groups {
			names[name] = true
		}
		if len(names) > maxGroups {
			p.complain(child.at("groups"), "the allow blocks name too many groups", fmt.Sprintf("make a group for those that may log in: there may be %d", maxGroups))
			return
		}
		out.Allow = append(out.Allow, block)
	}
	if len(out.Allow) > 0 {
		p.groupless(s, cfg, out)
	}
}

func (p *parser) allowBlock(s *section) (block allow.Block) {
	s.need("groups", "the allow block names no group, so that it would let no account in", `add groups = ["NAME"]`)
	s.texts("groups", func(v value, at hcl.Range) {
		switch name := v.AsString(); {
		case len(name) > maxGroupName:
			p.complain(at, "the name of the group is too long", fmt.Sprintf("it has up to %d bytes", maxGroupName))
		case slices.Contains(block.Groups, name):
			p.complain(at, "the group is listed twice", "remove one")
		default:
			block.Groups = append(block.Groups, name)
		}
	})
	s.texts("services", func(v value, _ hcl.Range) {
		if service := auth.FoldService(v.AsString()); !slices.Contains(block.Services, service) {
			block.Services = append(block.Services, service)
		}
	})
	return block
}

// KnowsGroups reports whether the backend says in which groups an account is that logs in with its password.
func (b *Backend) KnowsGroups() bool {
	return b.Kind == KindNextcloud || b.Kind == KindUsers || b.OIDC.GroupsClaim != ""
}

// LooksUpGroups reports whether the backend says so without the account's password.
func (b *Backend) LooksUpGroups() bool {
	return b.Kind == KindNextcloud && b.AdminUser != "" || b.Kind == KindUsers || b.OIDC.SCIMURL != ""
}

// groupless complains of conditions that no backend of the domain can answer, and warns of logins that would all be
// temporary failures for want of that.
func (p *parser) groupless(s *section, cfg *Config, out *Domain) {
	var mute []string
	knows, looks := 0, 0
	for _, ref := range out.Backends {
		b := &cfg.Backends[p.blocks[ref]]
		switch {
		case b.KnowsGroups() && b.LooksUpGroups():
			looks++
			fallthrough
		case b.KnowsGroups():
			knows++
		default:
			mute = append(mute, "backend."+ref.String())
		}
	}
	at := s.children("allow")[0].DefRange()
	const cure = "backends of the kinds nextcloud and users do, and oidc ones with groups_claim"
	switch {
	case knows == 0 && len(out.Backends) > 0:
		p.complain(at, "no backend of the domain says in which groups an account is, so that every login would be a temporary failure", cure)
	case len(mute) > 0:
		p.warn(at, "logins of the accounts of "+strings.Join(mute, ", ")+" will be temporary failures, since it does not say in which groups they are", cure)
	}
	if knows > 0 && looks < knows && (out.AppPasswords != nil || out.JSXC != nil || out.TOTP != nil) {
		p.warn(at, "logins with app passwords or tokens will be temporary failures where a backend says only with the account's own password in which groups it is",
			"give a nextcloud backend a service account (admin_user, admin_password), and an oidc one scim")
	}
}
