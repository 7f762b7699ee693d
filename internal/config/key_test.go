package config

import "testing"

// TestCacheKey: a key is the same in every form, and in every block where there may be a cache.
func TestCacheKey(t *testing.T) {
	for _, expr := range []string{`file("cache.key")`, `file("raw.key")`, `env("CACHE_KEY")`, `env("BASE64_KEY")`} {
		line := "cache {\nkey = " + expr + "\n}\n"
		cfg, problems := parse(t, domain(okRefs+line)+"registry {\n"+line+"}\n")
		if len(problems) != 0 {
			t.Errorf("%s:\n%s", expr, render(problems))
		}
		for _, key := range []string{cfg.Domains[0].Cache.Key.Reveal(), cfg.Registry.Cache.Key.Reveal()} {
			if key != rawCacheKey {
				t.Errorf("%s is %x", expr, key)
			}
		}
	}
}

func TestComplaintsAboutCacheKeys(t *testing.T) {
	of := func(expr, more string) string { return domain(okRefs + "cache {\nkey = " + expr + "\n" + more + "}\n") }
	runComplaints(t, []complaint{
		{"short", of(`env("SHORT_KEY")`, ""), Error, 5, "not one of 32 bytes", "openssl rand -hex 32"},
		{"no key", of(`file("cloud.secret")`, ""), Error, 5, "not one of 32 bytes", "openssl"},
		{"empty", of(`file("empty")`, ""), Error, 5, "key is empty", ""},
		{"number", of("5", ""), Error, 5, "key must be a string", "openssl"},
		{"in data_dir", of(`file("/var/lib/postern/cache.key")`, ""), Error, 5, "a copy of the one would be a copy of both", "move it"},
		{"linked to data_dir", of(`file("linked.key")`, ""), Error, 5, "in data_dir", "move it"},
		{"nothing on disk", of(`file("raw.key")`, "storage = \"memory\"\n"), Warning, 5, "no effect", "disk"},
		{"open to all", of(`file("open.key")`, ""), Warning, 5, "every user of this machine can read", "chmod o-rwx /etc/postern/open.key"},
	})
}

func FuzzDecodeKey(f *testing.F) {
	for _, seed := range []string{cacheKeyHex, rawCacheKey, "/wAKMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MAo=", "", "=="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if key, ok := decodeKey(text); ok != (len(key.Reveal()) == KeySize) {
			t.Errorf("%q: a key of %d bytes, %v", text, key.Len(), ok)
		}
	})
}
