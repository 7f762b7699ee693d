package config

import (
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// defaultLimit returns the limits without a limit block.
func defaultLimit() Limit {
	return Limit{
		UserRefusals: 10, AddressRefusals: 30, Window: 10 * time.Minute,
		FirstPause: 2 * time.Second, LongestPause: 15 * time.Minute,
		Exempt: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8), netip.PrefixFrom(netip.IPv6Loopback(), 128)},
	}
}

// limit decodes a limit block, which may be absent. out has the values of attributes that it lacks.
func (p *parser) limit(s *section, out Limit) Limit {
	if s.absent {
		return out
	}
	on := s.flag("enabled", out.Window > 0)
	if out.Window == 0 { // the block of the file turns limits off, and this one may turn them on
		out = defaultLimit()
	}
	out.UserRefusals = s.number("user_refusals", out.UserRefusals, 0, 100)
	out.AddressRefusals = s.number("address_refusals", out.AddressRefusals, 0, 100)
	out.Window = s.duration("window", out.Window, time.Second)
	out.FirstPause = s.duration("first_pause", out.FirstPause, 100*time.Millisecond)
	out.LongestPause = s.duration("longest_pause", out.LongestPause, time.Second)
	if s.has("exempt") {
		out.Exempt = s.networks("exempt")
	}
	if out.FirstPause > out.LongestPause {
		p.complain(s.header, "first_pause is longer than longest_pause", "make longest_pause the longer one")
	}
	if !on {
		return Limit{}
	}
	return out
}

// networks returns a list of addresses and networks, which may be empty.
func (s *section) networks(name string) (list []netip.Prefix) {
	if tuple, ok := s.body.Attributes[name].Expr.(*hclsyntax.TupleConsExpr); ok && len(tuple.Exprs) == 0 {
		return nil
	}
	s.texts(name, func(v value, at hcl.Range) {
		text := v.AsString()
		network, err := netip.ParsePrefix(text)
		if addr, e := netip.ParseAddr(text); e == nil {
			network, err = netip.PrefixFrom(addr.WithZone(""), addr.BitLen()), nil
		}
		switch {
		case err != nil:
			s.p.complain(at, name+" takes addresses and networks", `write them as in "192.0.2.7" or "2001:db8::/32"`)
		case network.Addr().Is4In6():
			s.p.complain(at, name+" takes IPv4 addresses in their own form", `write them as in "192.0.2.7" or "192.0.2.0/24"`)
		default:
			list = append(list, network.Masked())
		}
	})
	return list
}

// domainLimit decodes the limit block of a domain. The API of the JSXC app has no limits of its
// own, so a domain with such a backend needs these.
func (p *parser) domainLimit(parent *section, refs []BackendRef, out Limit) Limit {
	out = p.limit(p.only(parent, "limit"), out)
	if out.UserRefusals == 0 && slices.ContainsFunc(refs, func(r BackendRef) bool { return r.Kind == KindJSXC }) {
		p.warn(parent.header, "nothing limits how often a password may be guessed: the API of the JSXC app does not",
			"leave the limits on")
	}
	return out
}
