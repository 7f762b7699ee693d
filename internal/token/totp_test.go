package token

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
)

const testSeed = "XVGR73KMZH2M4XMY"

func mustTOTP(tb testing.TB, seed string, texts ...string) *TOTP {
	tb.Helper()
	m, err := NewTOTP(auth.NewSecret(seed), secrets(texts...), DefaultNonceDigits)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

type totpVector struct {
	Name  string `json:"name"`
	Steps []struct {
		User   string `json:"user"`
		Domain string `json:"domain"`
		Seed   string `json:"seed_base32"`
		Secret string `json:"secret"`
		Now    int64  `json:"now"`
		Token  string `json:"token"`
		Expect bool   `json:"expect"`
		Reason string `json:"reason"`
	} `json:"steps"`
}

func TestTOTPVectors(t *testing.T) {
	for _, v := range loadVectors[totpVector](t, "token_totp.json") {
		replay := NewReplay(0)
		for i, s := range v.Steps {
			m, now := mustTOTP(t, s.Seed, s.Secret), time.Unix(s.Now, 0)
			status, nonce := m.Verify(auth.Identity{User: s.User, Domain: s.Domain}, s.Token, now)
			fresh := false
			if status == Valid {
				fresh, _ = replay.Use(nonce, now)
			} else if nonce != (Nonce{}) {
				t.Errorf("%s, step %d: a nonce without a valid token", v.Name, i)
			}
			if fresh != s.Expect {
				t.Errorf("%s, step %d: %v, fresh %v; want %v %s", v.Name, i, status, fresh, s.Expect, s.Reason)
			}
			if replayed := status == Valid && !fresh; replayed != (s.Reason == "replay") {
				t.Errorf("%s, step %d: %v, fresh %v; refused for %q", v.Name, i, status, fresh, s.Reason)
			}
			if want := refusedAs(v.Name, s.Reason); !s.Expect && status != want {
				t.Errorf("%s, step %d: %v for %q, want %v", v.Name, i, status, s.Reason, want)
			}
			if looks := LooksTOTP(s.Token); looks != (status != NotToken) {
				t.Errorf("%s, step %d: LooksTOTP is %v, Verify says %v", v.Name, i, looks, status)
			}
		}
	}
}

// refusedAs returns the status of a vector that must be refused.
func refusedAs(name, reason string) Status {
	switch {
	case reason == "replay":
		return Valid
	case reason == "format", reason == "nonce length", name == "signature-hex", name == "signature-31-bytes", name == "signed-by-sha1":
		return NotToken
	case reason == "", name == "six-digit-otp": // signed, but 0, 1, 31, 64 or 30 digits
		return OtherNonce
	case reason == "otp" && name != "otp-digit-changed": // signed, but not of this time or seed
		return Expired
	}
	return Invalid
}

// TestTOTPOfAnotherUser: digits of the nonce cannot become digits of the user, nor the other way
// round, whatever the configured length is.
func TestTOTPOfAnotherUser(t *testing.T) {
	now := time.Unix(1700000000, 0)
	for _, c := range []struct{ issued, used string }{
		{"1bob", "bob"}, {"4711", "711"}, {"4711", "1"}, {"12345678bob", "bob"}, {"00000000000000000000000000000000bob", "bob"},
	} {
		for _, digits := range []int{0, 1, 31, 32, 33, 63, 64} {
			m, err := NewTOTP(auth.NewSecret(testSeed), secrets("s"), digits)
			if err != nil {
				t.Fatal(err)
			}
			token, err := m.Issue(auth.Identity{User: c.issued, Domain: "dom.example"}, now)
			if err != nil {
				t.Fatal(err)
			}
			moved := strings.TrimSuffix(c.issued, c.used)
			text := strings.Replace(token.Reveal(), " ", moved+" ", 1)
			want := OtherNonce
			if digits+len(moved) > MaxNonceDigits {
				want = NotToken
			}
			used := auth.Identity{User: c.used, Domain: "dom.example"}
			if got, _ := m.Verify(used, text, now); got != want {
				t.Errorf("nonces of %d digits: the token of %s is %v for %s, want %v", digits, c.issued, got, c.used, want)
			}
			if got, _ := m.Verify(used, token.Reveal(), now); got != Invalid {
				t.Errorf("nonces of %d digits: the token of %s as it is is %v for %s", digits, c.issued, got, c.used)
			}
		}
	}
}

func TestNewTOTPRefuses(t *testing.T) {
	for _, c := range []struct{ name, seed, secret string }{
		{"no seed", "", "marker"},
		{"padding alone", "====", "marker"},
		{"not base32", "marker!!", "marker"},
		{"digit of no base32", "MARKER18", "marker"},
		{"no secret", testSeed, ""},
	} {
		m, err := NewTOTP(auth.NewSecret(c.seed), secrets(c.secret), DefaultNonceDigits)
		if m != nil || !errors.Is(err, ErrSecret) || strings.Contains(strings.ToLower(err.Error()), "marker") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := NewTOTP(auth.NewSecret(testSeed), nil, DefaultNonceDigits); !errors.Is(err, ErrSecret) {
		t.Errorf("no list of secrets: %v", err)
	}
	for digits, want := range map[int]bool{-1: false, 0: true, MaxNonceDigits: true, MaxNonceDigits + 1: false} {
		if _, err := NewTOTP(auth.NewSecret(testSeed), secrets("s"), digits); (err == nil) != want {
			t.Errorf("nonces of %d digits: %v", digits, err)
		}
	}
}

func TestTOTPSeedForms(t *testing.T) {
	id, now := auth.Identity{User: "joe", Domain: "dom.example"}, time.Unix(1700000000, 0)
	token, err := mustTOTP(t, "MFRGG", "s").Issue(id, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, seed := range []string{"mfrgg", "MFRGG===", "mFrGg==="} {
		if status, _ := mustTOTP(t, seed, "s").Verify(id, token.Reveal(), now); status != Valid {
			t.Errorf("seed %q: %v", seed, status)
		}
	}
}

func TestTOTPRotation(t *testing.T) {
	id, now := auth.Identity{User: "joe", Domain: "dom.example"}, time.Unix(1700000000, 0)
	both := mustTOTP(t, testSeed, "new", "old")
	for _, c := range []struct {
		name         string
		issuer, site *TOTP
		want         Status
	}{
		{"old secret during the rotation", mustTOTP(t, testSeed, "old"), both, Valid},
		{"the first one signs", both, mustTOTP(t, testSeed, "new"), Valid},
		{"not the old one", both, mustTOTP(t, testSeed, "old"), Invalid},
		{"a secret of before", mustTOTP(t, testSeed, "older"), both, Invalid},
	} {
		token, err := c.issuer.Issue(id, now)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := c.site.Verify(id, token.Reveal(), now); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestTOTPWindow: whenever within its window a token is used, its nonce is needed until
// the first second at which it would be refused anyway.
func TestTOTPWindow(t *testing.T) {
	m, id := mustTOTP(t, testSeed, "s"), auth.Identity{User: "joe", Domain: "dom.example"}
	const step = 1700000010 // a multiple of 30
	for _, issued := range []int64{step, step + 15, step + 29} {
		token, err := m.Issue(id, time.Unix(issued, 0))
		if err != nil {
			t.Fatal(err)
		}
		for now := int64(step - 65); now < step+95; now++ {
			status, nonce := m.Verify(id, token.Reveal(), time.Unix(now, 999_999_999))
			if inside := now >= step-30 && now < step+60; status != map[bool]Status{true: Valid, false: Expired}[inside] {
				t.Errorf("issued at %+d, used at %+d: %v", issued-step, now-step, status)
			}
			if status == Valid && nonce.Expires != step+60 {
				t.Errorf("used at %+d, the nonce is kept until %+d", now-step, nonce.Expires-step)
			}
		}
	}
}

// TestTOTPSameInTwoSteps: under testSeed the steps 61945223 and 61945224 have one
// one-time password, 37332187, so a token of the first lives until the second is over.
func TestTOTPSameInTwoSteps(t *testing.T) {
	const first = 61945223
	m, id := mustTOTP(t, testSeed, "s"), auth.Identity{User: "joe", Domain: "dom.example"}
	token, err := m.Issue(id, time.Unix(first*otpStep, 0))
	if err != nil || !strings.HasPrefix(token.Reveal(), "37332187") {
		t.Fatalf("%q, %v", token.Reveal(), err)
	}
	r := NewReplay(0)
	for i, now := range []int64{first * otpStep, (first+2)*otpStep - 1, (first + 2) * otpStep, (first+3)*otpStep - 1} {
		status, nonce := m.Verify(id, token.Reveal(), time.Unix(now, 0))
		if fresh, _ := r.Use(nonce, time.Unix(now, 0)); status != Valid || fresh != (i == 0) {
			t.Errorf("use %d: %v, fresh %v", i, status, fresh)
		}
	}
}

func TestTOTPAroundZero(t *testing.T) {
	m, id := mustTOTP(t, testSeed, "s"), auth.Identity{User: "joe", Domain: "dom.example"}
	token, err := m.Issue(id, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	for now, want := range map[int64]Status{0: Valid, 59: Valid, 60: Expired, -1: Expired, -31: Expired, -1 << 40: Expired} {
		if got, _ := m.Verify(id, token.Reveal(), time.Unix(now, 0)); got != want {
			t.Errorf("at %d: %v, want %v", now, got, want)
		}
	}
}

func TestTOTPIssue(t *testing.T) {
	m, id := mustTOTP(t, testSeed, "s"), auth.Identity{User: "josé", Domain: "dom.example"}
	now := time.Unix(1700000000, 0)
	form := regexp.MustCompile(`^[0-9]{8}([0-9]{32}) [A-Za-z0-9+/]{43}=$`)
	seen, digits := map[string]bool{}, map[byte]int{}
	for range 500 {
		token, err := m.Issue(id, now)
		if err != nil {
			t.Fatal(err)
		}
		parts := form.FindStringSubmatch(token.Reveal())
		if parts == nil || seen[parts[1]] {
			t.Fatalf("%q: wrong form or a nonce used twice", token.Reveal())
		}
		seen[parts[1]] = true
		for i := range len(parts[1]) {
			digits[parts[1][i]]++
		}
	}
	for d := byte('0'); d <= '9'; d++ { // 1600 of each; 200 is five standard deviations
		if n := digits[d]; n < 1400 || n > 1800 {
			t.Errorf("%c is written %d times in 16000", d, n)
		}
	}
	for _, bad := range []auth.Identity{{}, {User: "a@b", Domain: "c"}, {User: "a", Domain: "b@c"}} {
		if token, err := m.Issue(bad, now); !token.Empty() || !errors.Is(err, auth.ErrMalformed) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if token, err := m.Issue(id, time.Unix(-1, 0)); !token.Empty() || err == nil {
		t.Error("a token of before 1970")
	}
}

func TestInspectTOTP(t *testing.T) {
	m := mustTOTP(t, testSeed, "s")
	token, err := m.Issue(auth.Identity{User: "joe", Domain: "dom.example"}, time.Unix(1700000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := InspectTOTP(token.Reveal()); err != nil || info != (Info{NonceDigits: 32}) {
		t.Errorf("%+v, %v", info, err)
	}
	text := token.Reveal()
	spare := text[:len(text)-2] + string(rune(text[len(text)-2]+1)) + "=" // sets a spare bit
	for _, bad := range []string{"", "marker", "marker " + text[41:], spare, text + "=", text[:41] + text[40:]} {
		if _, err := InspectTOTP(bad); !errors.Is(err, ErrFormat) || strings.Contains(err.Error(), "marker") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestNonceNamesOneToken: whatever differs, the nonce differs, even where the joined
// text does not.
func TestNonceNamesOneToken(t *testing.T) {
	a := nonceID(auth.Identity{User: "joe", Domain: "dom1"}, "234567890")
	b := nonceID(auth.Identity{User: "joe", Domain: "dom"}, "1234567890")
	if a == b {
		t.Error("the digits of a domain count as those of the token")
	}
}
