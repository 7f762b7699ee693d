// Package allow has the rule by which the groups of an account are a condition of its login.
//
// A domain has blocks, each with groups and the services for which it is. A login is let in by any of the blocks
// for its service, if the account is in one of the block's groups. A block without services is for all; a service
// for which there is no block has no condition. A login that names no service might be for any of them, so that it
// has to meet all conditions.
//
// The rule has three results. Groups that are not known are no reason to refuse: the login is a temporary failure.
package allow

import (
	"slices"
	"strings"

	"postern/internal/auth"
)

// Block lets the accounts in that are in one of the groups.
type Block struct {
	Groups   []string
	Services []string // as auth.FoldService has them; none: all
}

// Rules are the blocks of a domain. A nil pointer is no condition.
type Rules struct {
	blocks []Block
	names  []string
	named  []string // services
}

// New returns the rules of some blocks; nil if there are none.
func New(blocks []Block) *Rules {
	if len(blocks) == 0 {
		return nil
	}
	r := &Rules{blocks: blocks}
	for _, b := range blocks {
		r.names, r.named = append(r.names, b.Groups...), append(r.named, b.Services...)
	}
	slices.Sort(r.names)
	slices.Sort(r.named)
	r.names, r.named = slices.Compact(r.names), slices.Compact(r.named)
	return r
}

// Groups are the names of the groups that matter.
func (r *Rules) Groups() []string {
	if r == nil {
		return nil
	}
	return r.names
}

// Standing is how an account stands to a condition.
type Standing uint8

const (
	// Unknown: whether the account is in the groups is not known.
	Unknown Standing = iota
	// In: it is in one of them, or there is no condition.
	In
	// Out: it is in none.
	Out
)

// Judge returns how an account stands to the condition of a login for a service; empty is a login that names none.
func (r *Rules) Judge(g auth.Groups, service string) Standing {
	if r == nil {
		return In
	}
	s := r.judge(g, service)
	if service != "" {
		return s
	}
	for _, named := range r.named {
		switch other := r.judge(g, named); {
		case other == Out:
			return Out
		case other == Unknown && s == In:
			s = Unknown
		}
	}
	return s
}

// judge is Judge for one service; the empty one is one for which no block is but those for all.
func (r *Rules) judge(g auth.Groups, service string) Standing {
	s, some := Out, false
	for i := range r.blocks {
		b := &r.blocks[i]
		if len(b.Services) > 0 && !slices.Contains(b.Services, service) {
			continue
		}
		some = true
		for _, name := range b.Groups {
			switch in, known := g.In(name); {
			case in:
				return In
			case !known:
				s = Unknown
			}
		}
	}
	if !some {
		return In
	}
	return s
}

// Decide makes of a yes to a login what the account's groups make of it. Other answers stay as they are.
func (r *Rules) Decide(a auth.Answer, service string) auth.Answer {
	if r == nil || a.Verdict != auth.Allow {
		return a
	}
	switch s := r.Judge(a.Groups, service); s {
	case In:
		return a
	case Out:
		return auth.Answer{Verdict: auth.Deny, Source: auth.SourceGroups, Account: a.Account, Reason: "the account is in none of the groups " + r.wanted(service)}
	}
	return auth.Answer{Source: auth.SourceGroups, Account: a.Account, Reason: "whether the account is in one of these groups is not known now: " + r.wanted(service)}
}

// wanted are the groups that a login for a service needs, for a message.
func (r *Rules) wanted(service string) string {
	var want []string
	for _, b := range r.blocks {
		if service == "" || len(b.Services) == 0 || slices.Contains(b.Services, service) {
			want = append(want, b.Groups...)
		}
	}
	slices.Sort(want)
	list := strings.Join(slices.Compact(want), ", ")
	if service == "" {
		return list + " (the login names no service, so that it has to meet the conditions of all)"
	}
	return list + " (for " + service + ")"
}
