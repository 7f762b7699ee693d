package web

import (
	"net/http"
	"strconv"
	"strings"
)

// Languages of pages.
const (
	English = "en"
	German  = "de"
)

// Language returns the language of a page for a browser, by what it prefers (RFC 9110 section 12.5.4).
func Language(r *http.Request) string {
	if prefers(r.Header.Get("Accept-Language")) {
		return German
	}
	return English
}

// prefers reports whether a list of languages ranks German before English. Of equal ones the first counts.
func prefers(accept string) bool {
	best, german := 0.0, false
	for part := range strings.SplitSeq(accept, ",") {
		tag, rest, _ := strings.Cut(part, ";")
		weight := 1.0
		if q, ok := strings.CutPrefix(strings.TrimSpace(rest), "q="); ok {
			weight, _ = strconv.ParseFloat(q, 64) // 0: not at all
		}
		language, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(tag)), "-")
		if (language == "de" || language == "en" || language == "*") && weight > best {
			best, german = weight, language == "de"
		}
	}
	return german
}

// In returns the text for a browser.
func In(r *http.Request, english, german string) string {
	if Language(r) == German {
		return german
	}
	return english
}
