package web

import "testing"

func TestPrefers(t *testing.T) {
	for accept, german := range map[string]bool{
		"": false, "de": true, "de-AT,en;q=0.5": true, "en,de;q=0.9": false, "fr,de;q=0.5": true, "fr": false, "*": false, "de;q=0": false, "de;q=x,en": false,
		"en;q=0.4, de;q=0.5": true, "de, en": true, "en, de": false, "de, *": true,
	} {
		if got := prefers(accept); got != german {
			t.Errorf("%q: %v", accept, got)
		}
	}
}
