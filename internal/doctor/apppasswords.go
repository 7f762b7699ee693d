package doctor

import (
	"fmt"
	"slices"
	"strings"

	"postern/internal/config"
)

// appPasswords names the domains with app passwords that end by themselves, since a backend cannot be asked
// whether their accounts still exist.
func appPasswords(cfg *config.Config, b config.Backend) []Outcome {
	var used, unasked []string
	for _, d := range cfg.Domains {
		if d.AppPasswords == nil || d.AppPasswords.Backend != b.BackendRef {
			continue
		}
		used = append(used, d.Name)
		if d.AppPasswordsAlone() || slices.ContainsFunc(d.Backends, func(ref config.BackendRef) bool { return hidesAccounts(cfg, ref) }) {
			unasked = append(unasked, d.Name)
		}
	}
	switch {
	case len(used) == 0:
		return nil
	case len(unasked) > 0:
		return warn(fmt.Sprintf("no backend can be asked whether accounts of %s exist: their app passwords end %v after they were made, or after a login with the account's own password",
			strings.Join(unasked, ", "), b.UnconfirmedTTL), "give the nextcloud backend a service account (admin_user), or the oidc one scim, or set unconfirmed_ttl to what suits the site")
	}
	return fine("app passwords of %s end with their accounts", strings.Join(used, ", "))
}

// keylessApps counts the app passwords that keep SCRAM from being offered. Only a daemon that runs reads them.
func keylessApps(cfg *config.Config, b config.Backend, s *Subject) (out []Outcome) {
	all := true
	for _, d := range cfg.Domains {
		if d.ScramSeed == "" || d.AppPasswords == nil || d.AppPasswords.Backend != b.BackendRef {
			continue
		}
		n, known := s.Keyless[d.Name]
		switch {
		case s.KeylessErr != nil:
			return skip(fmt.Sprintf("app passwords without SCRAM keys cannot be counted: %v", s.KeylessErr), "see the log of the daemon")
		case s.Keyless == nil:
			return skip("app passwords without SCRAM keys are counted by the daemon alone", "run doctor while the daemon runs")
		case !known: // of the domain "*", or not loaded yet
			all = false
		case n > 0:
			out = append(out, warn(plural(n, "app password")+" of "+d.Name+" without SCRAM keys: SCRAM is not offered there",
				"let their users log in by PLAIN once, or make new ones and revoke these: postern password list USER@"+d.Name)...)
		default:
			out = append(out, fine("all app passwords of %s have SCRAM keys", d.Name)...)
		}
	}
	if !all {
		out = append(out, skip("not all domains with app passwords could be looked at for SCRAM keys", "")...)
	}
	return out
}

// hidesAccounts reports whether a backend cannot be asked whether an account exists.
func hidesAccounts(cfg *config.Config, ref config.BackendRef) bool {
	return slices.ContainsFunc(cfg.Backends, func(b config.Backend) bool {
		return b.BackendRef == ref && (b.Kind == config.KindNextcloud && b.AdminUser == "" || b.Kind == config.KindOIDC && b.OIDC.SCIMURL == "")
	})
}

// appKeys compares the key of a block with those under which the store has app passwords.
func appKeys(b config.Backend, d *Daemon) []Outcome {
	if d == nil || d.Info == nil || !d.Info.Store {
		return skip("app passwords are not counted without the daemon and its store", "")
	}
	switch n := d.Info.AppPasswords[b.BackendRef.String()]; {
	case n.Unreadable > 0:
		return fail("the store has "+plural(n.Unreadable, "record")+" of app passwords that cannot be read: logins of these accounts are temporary failures",
			"install the version of postern that has written them, or revoke them: postern password revoke USER@DOMAIN --all")
	case n.OtherKey > 0:
		return fail(fmt.Sprintf("%s in the store, of which %d under another key than that of the block: their logins are temporary failures", plural(n.Alive, "app password"), n.OtherKey),
			"restore the former key; if it is lost, revoke them and make others: postern password list USER@DOMAIN")
	default:
		return fine("%s in the store, under the key of the block", plural(n.Alive, "app password"))
	}
}
