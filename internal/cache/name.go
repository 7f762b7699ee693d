package cache

import (
	"slices"

	"postern/internal/auth"
)

// Name is the account that a backend has answered about, as the backend spells it. All names of a
// record are equal when folded.
type Name struct {
	Account string
	// Exact says that the answer holds for this spelling only: the backend does not fold letter case,
	// or has another account whose name differs by case.
	Exact bool
}

// Covers reports whether an answer about n holds for a login with the spelling as.
func (n Name) Covers(as string) bool { return !n.Exact || n.Account == as }

// authority returns the authority of an ID that is in force, or nil.
func (r *Rules) authority(id auth.AuthorityID) *auth.Authority {
	for i := range r.Authorities {
		if r.Authorities[i].ID == id {
			return &r.Authorities[i]
		}
	}
	return nil
}

// Settle makes the user fit the rules in force, and returns how many verifiers that cost: what an
// authority has answered that is not asked any more is forgotten, and where one does not fold any
// more, an answer holds for its own spelling only.
func (u *User) Settle(r *Rules) (dropped int) {
	kept := u.Verifiers[:0]
	for _, v := range u.Verifiers {
		by := r.authority(v.By)
		if by == nil {
			continue
		}
		v.Exact = v.Exact || !by.Folds
		kept = append(kept, v)
	}
	dropped = len(u.Verifiers) - len(kept)
	clear(u.Verifiers[len(kept):])
	u.Verifiers = kept
	if r.authority(u.Alias.By) == nil {
		u.Alias = Alias{}
	}
	if e := &u.Exists; e.Known && e.Yes {
		if by := r.authority(e.By); by == nil {
			*e = Existence{}
		} else {
			e.Exact = e.Exact || !by.Folds
		}
	}
	return dropped
}

// Lost reports whether an authority was asked by former rules and is not any more.
func Lost(was, now *Rules) bool {
	return slices.ContainsFunc(was.Authorities, func(a auth.Authority) bool { return now.authority(a.ID) == nil })
}
