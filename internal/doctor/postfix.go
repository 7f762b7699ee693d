package doctor

import (
	"fmt"
	"strconv"
	"strings"
)

// Postfix's configuration, and its limit of a line in bytes: what it is by default, and what the longest token needs.
const (
	postfixMain   = "/etc/postfix/main.cf"
	postfixMaster = "/etc/postfix/master.cf"
	postfixLine   = 2048
	tokenLine     = 12288
)

// postfixTokens checks that a Postfix on this machine which asks by the dovecot protocol does not cut the lines with
// tokens. Without one there is no finding.
func (e *Env) postfixTokens() []Outcome {
	text, err := e.ReadFile(postfixMain)
	if err != nil {
		return nil
	}
	main := postfixParameters(string(text))
	services, _ := e.ReadFile(postfixMaster) // a service may have parameters of its own
	if main["smtpd_sasl_type"] != "dovecot" && !strings.Contains(string(services), "smtpd_sasl_type=dovecot") {
		return nil
	}
	limit, err := strconv.Atoi(main["line_length_limit"])
	if err != nil {
		limit = postfixLine
	}
	switch {
	case limit >= tokenLine:
		return fine("Postfix takes lines with tokens of any length")
	case strings.Contains(string(services), "line_length_limit="):
		return skip("a service of Postfix has a line_length_limit of its own: it should be 16384 for those with logins", "")
	}
	const more = 60 // of a line: the command and what stands beside the token, which is in base64
	return warn(fmt.Sprintf("Postfix cuts lines at %d bytes, so tokens of more than about %d bytes are refused as malformed; those of Keycloak often have more", limit, max(limit-more, 0)*3/4),
		"postconf -e 'line_length_limit = 16384' && postfix reload")
}

// postfixParameters reads the parameters of a main.cf. The last line of one counts, and a line that begins with white
// space goes on with the one before.
func postfixParameters(text string) map[string]string {
	values, name := map[string]string{}, ""
	for line := range strings.Lines(text) {
		switch word := strings.TrimSpace(line); {
		case word == "" || word[0] == '#':
		case strings.TrimLeft(line, " \t") != line:
			values[name] = strings.TrimSpace(values[name] + " " + word)
		default:
			key, value, _ := strings.Cut(word, "=")
			name = strings.TrimSpace(key)
			values[name] = strings.TrimSpace(value)
		}
	}
	return values
}
