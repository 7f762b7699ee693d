package passhash

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

type vector struct {
	Name        string `json:"name"`
	PasswordHex string `json:"password_hex"`
	Hash        string `json:"hash"`
	Expect      bool   `json:"expect"`
}

func loadVectors(t *testing.T) []vector {
	t.Helper()
	text, err := os.ReadFile("testdata/bcrypt.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 40 {
		t.Fatalf("only %d vectors", len(vectors))
	}
	return vectors
}

func TestVectors(t *testing.T) {
	for _, v := range loadVectors(t) {
		password, err := hex.DecodeString(v.PasswordHex)
		if err != nil {
			t.Fatal(err)
		}
		// The vectors leave the refusal of empty passwords to the caller; here it is part
		// of Match.
		want := v.Expect && len(password) > 0
		start := time.Now()
		if got := Match(v.Hash, string(password)); got != want {
			t.Errorf("%s: %v", v.Name, got)
		}
		if took := time.Since(start); v.Name == "hash-cost-31" && took > 100*time.Millisecond {
			t.Errorf("%s was computed: %v", v.Name, took)
		}
	}
}

func TestNewAndMatch(t *testing.T) {
	long := strings.Repeat("x", 72)
	for _, c := range []struct {
		name, password string
		others         []string
		marked         bool
	}{
		{"short", "secret", []string{"Secret", "secre", "secret ", "", "secret\x00"}, false},
		{"not ASCII", "päss€🔑", []string{"pass€🔑"}, false},
		{"not UTF-8", "\xff\xfe", []string{"\xff"}, false},
		{"72 bytes", long, []string{long + "y", long[:71]}, false},
		{"73 bytes", long + "y", []string{long + "z", long, long + "yy", shorten(long + "y")}, true},
		{"8192 bytes", strings.Repeat("p", 8192), []string{strings.Repeat("p", 8191), strings.Repeat("p", 72)}, true},
	} {
		hash, err := New(c.password, MinCost)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if strings.HasPrefix(hash, longPrefix) != c.marked || Check(hash) != nil {
			t.Errorf("%s: hash %q, %v", c.name, hash, Check(hash))
		}
		if !Match(hash, c.password) {
			t.Errorf("%s: the password does not match its hash", c.name)
		}
		for _, other := range c.others {
			if Match(hash, other) {
				t.Errorf("%s: another password of %d bytes matches", c.name, len(other))
			}
		}
		if again, _ := New(c.password, MinCost); again == hash {
			t.Errorf("%s: no salt", c.name)
		}
		stripped, marked := strings.CutPrefix(hash, longPrefix)
		if !marked {
			stripped = longPrefix + hash
		}
		if Match(stripped, c.password) || marked && !Match(stripped, shorten(c.password)) {
			t.Errorf("%s: the mark of a pre-hash is not looked at", c.name)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		name, password string
		cost           int
	}{
		{"empty", "", MinCost}, {"NUL", "marker\x00", MinCost}, {"cost 3", "marker", 3}, {"cost 17", "marker", 17},
		{"cost 31", "marker", 31}, {"negative cost", "marker", -1},
	} {
		hash, err := New(c.password, c.cost)
		if err == nil || hash != "" {
			t.Fatalf("%s: %q", c.name, hash)
		}
		if strings.Contains(err.Error(), "marker") {
			t.Errorf("%s: the error contains the password: %v", c.name, err)
		}
	}
}

func TestNewUsesCost(t *testing.T) {
	for _, cost := range []int{4, 5} {
		hash, err := New("secret", cost)
		if want := []string{4: "$2a$04$", 5: "$2a$05$"}[cost]; err != nil || !strings.HasPrefix(hash, want) {
			t.Errorf("cost %d: %q, %v", cost, hash, err)
		}
	}
}

func TestCheck(t *testing.T) {
	const good = "$2b$04$4FsGWsFT3KZ1vUD5MCgiwuvbuNuR02DA7buna.Abfaa9s6ZcmWmsC" // of "secret"
	replace := func(at int, with string) string { return good[:at] + with + good[at+len(with):] }
	for _, c := range []struct {
		name, hash string
		ok         bool
	}{
		{"2b", good, true},
		{"2a", replace(0, "$2a$"), true},
		{"2y", replace(0, "$2y$"), true},
		{"pre-hashed", longPrefix + good, true},
		{"highest cost", replace(4, "16"), true},
		{"cost too high", replace(4, "17"), false},
		{"cost 3", replace(4, "03"), false},
		{"cost with a sign", replace(4, "+4"), false},
		{"cost with a space", replace(4, " 4"), false},
		{"no dollar after the cost", replace(6, "X"), false},
		{"2x", replace(0, "$2x$"), false},
		{"2", replace(0, "$2$0"), false},
		{"unknown pre-hash", "sha512:" + good, false},
		{"two pre-hashes", longPrefix + longPrefix + good, false},
		{"foreign character in the salt", replace(20, "!"), false},
		{"foreign character in the digest", replace(50, "="), false},
		{"59 characters", good[:59], false},
		{"61 characters", good + "C", false},
		{"empty", "", false},
		{"pre-hash alone", longPrefix, false},
	} {
		err := Check(c.hash)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrHash) {
			t.Errorf("%s: %v", c.name, err)
		}
		if !c.ok && Match(c.hash, "secret") {
			t.Errorf("%s: matches", c.name)
		}
	}
	if !Match(good, "secret") {
		t.Error("the good hash does not match, so the cases say nothing")
	}
}

// TestSameLength: Match computes with every hash from SameLength, which leaves a hash of the right
// form unchanged.
func TestSameLength(t *testing.T) {
	short, long := strings.Repeat("x", 72), strings.Repeat("x", 73)
	of := func(password string) string {
		hash, err := New(password, MinCost)
		if err != nil {
			t.Fatal(err)
		}
		return hash
	}
	for _, password := range []string{"secret", short, long} {
		if hash := of(password); SameLength(hash, password) != hash {
			t.Errorf("%d bytes: %q became %q", len(password), hash, SameLength(hash, password))
		}
	}
	// The outcome means nothing here, but true shows that Match has computed.
	if hash := of(long); !Match(SameLength(hash, shorten(long)), shorten(long)) {
		t.Error("nothing was computed for a short password and the hash of a long one")
	}
	if hash := of(shorten(long)); !Match(SameLength(hash, long), long) {
		t.Error("nothing was computed for a long password and the hash of a short one")
	}
}
