package token

// SavedReplay is the value in which a Replay goes to a successor of the process.
type SavedReplay struct {
	Nonces []Nonce
	Closed int64 // tokens that expire up to this Unix time are refused
}

// Save returns what r remembers.
func (r *Replay) Save() SavedReplay {
	s := SavedReplay{Closed: r.closed}
	for expires, ids := range r.steps {
		for id := range ids {
			s.Nonces = append(s.Nonces, Nonce{ID: id, Expires: expires})
		}
	}
	return s
}

// RestoreAll adds what Save has returned.
func (r *Replay) RestoreAll(s SavedReplay) {
	r.closed = max(r.closed, s.Closed)
	for _, n := range s.Nonces {
		r.Restore(n)
	}
}
