package doctor

import (
	"slices"
	"strings"
	"testing"

	"postern/internal/config"
)

// A Postfix that cuts the lines with tokens.
func TestPostfixTokens(t *testing.T) {
	const sasl = "smtpd_sasl_type = dovecot\n"
	for name, c := range map[string]struct {
		main, master string
		status       Status // empty: no finding
		text, cure   string
	}{
		"default":      {sasl, "", Warning, "more than about 1491 bytes", "line_length_limit = 16384"},
		"set":          {"# x\nline_length_limit = 2048\n" + sasl + "line_length_limit =\n  16384\n", "", OK, "any length", ""},
		"a comment":    {sasl + "#line_length_limit = 16384\n", "", Warning, "2048", "postfix reload"},
		"too little":   {sasl + "line_length_limit = 4096\n", "", Warning, "4096", "postfix reload"},
		"of a service": {"x = y\n", "submission inet n - y - - smtpd\n  -o smtpd_sasl_type=dovecot\n  -o line_length_limit=16384\n", Skipped, "of its own", ""},
		"by Cyrus":     {"smtpd_sasl_type = cyrus\n", "", "", "", ""},
		"no Postfix":   {},
	} {
		m := newMachine()
		for file, text := range map[string]string{postfixMain: c.main, postfixMaster: c.master} {
			if text != "" {
				m.texts[file] = text
			}
		}
		switch got := m.postfixTokens(); {
		case len(got) == 0 && c.status == "":
		case len(got) != 1 || got[0].Status != c.status || !strings.Contains(got[0].Text, c.text) || !strings.Contains(got[0].Cure, c.cure):
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, offered := range []bool{true, false} {
		cfg := &config.Config{Listeners: []config.Listener{{Name: "dovecot", Protocol: "dovecot", Network: "tcp", Bearer: config.Bearer{Offered: offered}}}}
		chain := newMachine().listeners(cfg, &Daemon{})[0]
		if examined := slices.ContainsFunc(chain.Steps, func(s Step) bool { return s.Check == "tokens" }); examined != offered {
			t.Errorf("tokens are offered: %v; examined: %v", offered, examined)
		}
	}
}
