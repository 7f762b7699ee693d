package cache

import (
	"postern/internal/auth"

	"postern/internal/unixtime"
)

// RequireKnown has the backend asked only if the cache knows the secret, and gives the answer
// otherwise, of which nothing is remembered. It is called before Start.
func (f *Login) RequireKnown(a auth.Answer) { f.bar = &a }

// unasked looks for the verifier of a secret that may be asked about only if it has one.
func (f *Login) unasked(u *User) Step {
	past := u.refusal(f.key)
	hashes := f.unknown(u, func(*Verifier) bool { return true })
	if len(hashes) > 0 && (past == nil || past.standing == suspected) {
		f.phase = phaseKnown
		return Step{Do: Compare, Hashes: hashes}
	}
	f.phase = phaseEnd
	return answered(*f.bar)
}

// doubt is told that a comparison in search of the secret could not be made: it may be known,
// and that is no reason for a "no". It reports whether a record has changed.
func (f *Login) doubt(u *User, hashes []string) (changed bool) {
	f.tried = append(f.tried, hashes...)
	f.bar = &auth.Answer{Verdict: auth.Unavailable, Source: f.bar.Source}
	past := u.refusal(f.key)
	return past != nil && past.standing == suspected && f.suspectMatch(u, "", hashes, false)
}

// withheld asks again if the secret turns out to be a known one. Once it has a bar it was
// looked for already.
func (f *Login) withheld(u *User, source auth.Source, now unixtime.Time) Step {
	if f.bar != nil {
		f.phase = phaseEnd
		return answer(auth.Unavailable, source)
	}
	f.bar = &auth.Answer{Verdict: auth.Unavailable, Source: source}
	return f.ask(u, now)
}
