package doctor

import "postern/internal/config"

// Subject is what is examined.
type Subject struct {
	Version  string // of this program
	File     string // the configuration; empty: the built-in one
	Config   *config.Config
	Problems config.Problems // what its reader said; Config is nil if one is an error
	StoreDir string
	Daemon   *Daemon
	Known    KnownUser
	Ejabberd string // its configuration; empty: the usual places
}

// Chains lists all checks in the order of a report. Without a configuration there is nothing to
// look at but that.
func (e *Env) Chains(s Subject) []Chain {
	out := []Chain{e.configuration(s.File, s.Config, s.Problems)}
	if s.Config == nil {
		return out
	}
	out = append(out, e.files(s.Config, s.Daemon), e.storage(s.Config, s.StoreDir, s.Daemon), e.daemon(s.Config, s.Daemon, s.Version, s.File))
	out = append(out, e.listeners(s.Config, s.Daemon)...)
	out = append(out, e.backends(s.Config, s.Known)...)
	out = append(out, e.tokens(s.Config), e.ejabberdAuth(s.Ejabberd))
	return append(out, e.rosters(s.Config)...)
}
