package doctor

import (
	"context"
	"encoding/base32"
	"fmt"
	"strings"

	"postern/internal/auth"
	"postern/internal/config"
)

// Minimum lengths, in bytes, of a secret that may be made up by hand and of the key of a one-time
// password (RFC 4226, R6).
const (
	minSecret = 16
	minSeed   = 16
)

// tokens returns the chain of the secrets that sign tokens. It has no steps if there are none.
func (e *Env) tokens(cfg *config.Config, registered []Registered) Chain {
	c := Chain{Hop: "tokens"}
	for _, d := range cfg.Domains {
		if d.JSXC != nil {
			c.Steps = append(c.Steps, secrets("jsxc", d.Name, d.JSXC.Secrets))
		}
		if d.TOTP != nil {
			c.Steps = append(c.Steps, secrets("totp", d.Name, d.TOTP.Secrets), seed(d.Name, d.TOTP.Seed))
		}
	}
	if len(registered) > 0 {
		c.Steps = append(c.Steps, registeredSecrets(registered))
	}
	return c
}

// registeredSecrets examines the secrets of registered domains, which may be many.
func registeredSecrets(all []Registered) Step {
	return Step{Check: "registered", Alone: true, Run: func(context.Context) []Outcome {
		n := 0
		var short []string
		for _, r := range all {
			if r.Domain.JSXC == nil {
				continue
			}
			n++
			for _, s := range r.Domain.JSXC.Secrets {
				if s.Len() < minSecret {
					short = append(short, r.Domain.Name)
				}
			}
		}
		switch {
		case n == 0:
			return nil
		case len(short) == 0:
			return fine("registered domains: %s of sufficient length", plural(n, "secret"))
		}
		names := strings.Join(short[:min(len(short), maxNamed)], ", ")
		return warn(fmt.Sprintf("%s with an API secret of fewer than %d bytes, which signs tokens, too: it can be guessed, and then opens every account: %s",
			plural(len(short), "registered domain"), minSecret, names), "set a longer one in the JSXC app and here: postern domain set DOMAIN --ask-secret")
	}}
}

// maxNamed is how many registered domains a finding names.
const maxNamed = 10

func secrets(kind, domain string, all []auth.Secret) Step {
	return Step{Check: kind, Alone: true, Run: func(context.Context) []Outcome {
		for _, s := range all {
			if s.Len() < minSecret {
				return warn(fmt.Sprintf("domain %s: a secret that signs tokens has only %d bytes: it can be guessed, and then opens every account", domain, s.Len()),
					fmt.Sprintf("use one of at least %d random bytes: openssl rand -hex 32", minSecret))
			}
		}
		return fine("domain %s: %s of sufficient length", domain, plural(len(all), "secret"))
	}}
}

func seed(domain string, s auth.Secret) Step {
	return Step{Check: "totp-seed", Alone: true, Run: func(context.Context) []Outcome {
		key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(strings.TrimRight(s.Reveal(), "=")))
		if err != nil || len(key) < minSeed {
			return warn(fmt.Sprintf("domain %s: the seed has only %d bytes", domain, len(key)), "use one of at least 16: head -c 20 /dev/urandom | base32")
		}
		return fine("domain %s: seed of sufficient length", domain)
	}}
}
