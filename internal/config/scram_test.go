package config

import "testing"

// TestScram: a users file keeps keys if a domain with scram uses it.
func TestScram(t *testing.T) {
	const files = "backend \"users\" \"other\" { path = \"others\" }\n"
	cfg, problems := parse(t, devices+files+domain(both+"scram = true\n")+"domain \"b.example\" {\nbackends = [backend.users.other]\nscram = false\n}\n")
	if cfg == nil {
		t.Fatal(render(problems))
	}
	const seed = "/var/lib/postern/scram.seed"
	for _, b := range cfg.Backends {
		if want := map[string]string{"local": seed}[b.Name]; b.ScramSeed != want {
			t.Errorf("backend %s has the seed %q, want %q", b.Name, b.ScramSeed, want)
		}
	}
	if cfg.Domains[0].ScramSeed != seed || cfg.Domains[1].ScramSeed != "" {
		t.Errorf("the domains have the seeds %q and %q", cfg.Domains[0].ScramSeed, cfg.Domains[1].ScramSeed)
	}
}

func TestComplaintsAboutScram(t *testing.T) {
	const cloud = "backend \"json\" \"cloud\" { url = \"http://localhost/\" }\n"
	const hidden = "backends = [backend.app_passwords.devices, backend.json.cloud]\n"
	runComplaints(t, []complaint{
		{"hidden", cloud + domain("backends = [backend.json.cloud]\nscram = true"), Error, 5, "passwords that postern does not know", "require_app_password"},
		{"hidden behind app passwords", devices + cloud + domain(hidden+"scram = true"), Error, 8, "passwords that postern does not know", "require_app_password"},
		{"required elsewhere", devices + cloud + domain(hidden+"require_app_password = [\"imap\"]\nscram = true"), Error, 9, "passwords that postern does not know", ""},
		{"tokens", domain(okRefs + "token \"totp\" {\nseed = \"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\"\nsecrets = [env(\"TOKEN_SECRET\")]\n}\nscram = true"), Error, 8, "time-limited tokens", ""},
		{"auth domains", domain(okRefs + "auth_domain = [\"a.example\", \"b.example\"]\nscram = true"), Error, 5, "one auth_domain", ""},
		{"a text", domain(okRefs + "scram = \"yes\""), Error, 4, "must be a bool", ""},
	})
	for name, lines := range map[string]string{"all": "require_app_password = true\n", "xmpp": "require_app_password = [\"xmpp\"]\n"} {
		cfg, problems := parse(t, devices+cloud+domain(hidden+lines+"scram = true\n"))
		if cfg == nil || cfg.Domains[0].ScramSeed == "" {
			t.Errorf("%s:\n%s", name, render(problems))
		}
	}
}
