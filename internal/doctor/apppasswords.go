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
			strings.Join(unasked, ", "), b.UnconfirmedTTL), "give the nextcloud backend a service account (admin_user), or set unconfirmed_ttl to what suits the site")
	}
	return fine("app passwords of %s end with their accounts", strings.Join(used, ", "))
}

// hidesAccounts reports whether a backend cannot be asked whether an account exists.
func hidesAccounts(cfg *config.Config, ref config.BackendRef) bool {
	return slices.ContainsFunc(cfg.Backends, func(b config.Backend) bool {
		return b.BackendRef == ref && (b.Kind == config.KindNextcloud && b.AdminUser == "" || b.Kind == config.KindOIDC)
	})
}
