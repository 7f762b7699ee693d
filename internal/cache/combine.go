package cache

import (
	"cmp"
	"slices"

	"postern/internal/unixtime"
)

// Combine returns what two stores know of one user, each by itself. Of a, what was verified before missedByA does not
// count: a change then is known to the other store only. So it is with b. dropped counts the verifiers that do not
// count.
func Combine(a, b *User, missedByA, missedByB unixtime.Time) (u *User, dropped int) {
	u = new(User)
	take := func(from *User, missed unixtime.Time) {
		for _, v := range from.Verifiers {
			if v.Verified <= missed {
				dropped++
				continue
			}
			i := slices.IndexFunc(u.Verifiers, func(o Verifier) bool { return o.Hash == v.Hash && o.By == v.By && o.Name == v.Name })
			switch {
			case i < 0:
				u.Verifiers = append(u.Verifiers, v)
			case v.Verified > u.Verifiers[i].Verified:
				v.Used = max(v.Used, u.Verifiers[i].Used)
				u.Verifiers[i] = v
			case v.Verified == u.Verifiers[i].Verified: // what one of them doubts is doubtful
				o := &u.Verifiers[i]
				o.Used, o.Stale, o.Suspect = max(o.Used, v.Used), o.Stale || v.Stale, o.Suspect || v.Suspect
			}
		}
		if from.Exists.At > max(missed, u.Exists.At) {
			u.Exists = from.Exists
		}
		if missed == 0 && u.Alias == (Alias{}) {
			u.Alias = from.Alias
		}
	}
	take(a, missedByA)
	take(b, missedByB)
	if len(u.Verifiers) > maxMerged {
		slices.SortStableFunc(u.Verifiers, func(v, o Verifier) int { return cmp.Compare(o.Used, v.Used) })
		u.Verifiers = u.Verifiers[:maxMerged]
	}
	return u, dropped
}
