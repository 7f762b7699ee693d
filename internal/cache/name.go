package cache

import (
	"slices"

	"postern/internal/auth"
)

// Name is the account that a backend has answered about, as the backend spells it. All names of a
// record are equal when folded.
type Name struct {
	Account string
	// Exact says that the answer holds for this spelling only: the backend, or one that is asked before
	// it, does not fold letter case, or has another account with a name that differs by case.
	Exact bool
}

// Covers reports whether an answer about n holds for a login with the spelling as.
func (n Name) Covers(as string) bool { return !n.Exact || n.Account == as }

// authority reports whether the authority of an ID is in force, and whether what it says of one
// spelling holds for all: those that are asked before it must fold, too, since one of them may have
// an account of another spelling.
func (r *Rules) authority(id auth.AuthorityID) (folds, known bool) {
	folds = true
	for i := range r.Authorities {
		folds = folds && r.Authorities[i].Folds
		if r.Authorities[i].ID == id {
			return folds, true
		}
	}
	return false, false
}

// Settle makes the user fit the rules in force, and returns how many verifiers that cost: what an
// authority has answered that is not asked any more is forgotten, and where one does not fold any
// more, an answer holds for its own spelling only.
func (u *User) Settle(r *Rules) (dropped int) {
	kept := u.Verifiers[:0]
	for _, v := range u.Verifiers {
		folds, known := r.authority(v.By)
		if !known {
			continue
		}
		v.Exact = v.Exact || !folds
		kept = append(kept, v)
	}
	dropped = len(u.Verifiers) - len(kept)
	clear(u.Verifiers[len(kept):])
	u.Verifiers = kept
	if folds, _ := r.authority(u.Alias.By); !folds { // an alias is one of every spelling
		u.Alias = Alias{}
	}
	if e := &u.Exists; e.Known && e.Yes {
		if folds, known := r.authority(e.By); !known {
			*e = Existence{}
		} else {
			e.Exact = e.Exact || !folds
		}
	}
	return dropped
}

// Lost reports whether an authority was asked by former rules and is not any more.
func Lost(was, now *Rules) bool {
	return slices.ContainsFunc(was.Authorities, func(a auth.Authority) bool { _, known := now.authority(a.ID); return !known })
}
