package token

import (
	"testing"
	"time"

	"postern/internal/auth"
)

// verifier is a case of a verification: a kind, and what is verified.
type verifier struct {
	name   string
	verify func() Status
	want   Status
}

func verifiers(tb testing.TB) []verifier {
	tb.Helper()
	j, m := mustJSXC(tb, "0123456789ABCDEF"), mustTOTP(tb, testSeed, "JYXEX4IQOEYFYQ2S3MC5P4ZT4SDHYEA7")
	id, now := auth.Identity{User: "somebody", Domain: "chat.dom.example"}, time.Unix(1700000000, 0)
	timed, err := j.Issue(id, now)
	if err != nil {
		tb.Fatal(err)
	}
	once, err := m.Issue(id, now)
	if err != nil {
		tb.Fatal(err)
	}
	jsxc := func(text string, at time.Time) func() Status {
		return func() Status { return j.Verify(id, text, at) }
	}
	totp := func(text string, at time.Time) func() Status {
		return func() Status {
			status, _ := m.Verify(id, text, at)
			return status
		}
	}
	password, late := "correct horse battery staple", now.Add(time.Hour)
	return []verifier{
		{"JSXC/valid", jsxc(timed.Reveal(), now), Valid},
		{"JSXC/expired", jsxc(timed.Reveal(), late), Expired},
		{"JSXC/password", jsxc(password, now), NotToken},
		{"TOTP/valid", totp(once.Reveal(), now), Valid},
		{"TOTP/late", totp(once.Reveal(), late), Expired},
		{"TOTP/password", totp(password, now), NotToken},
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, v := range verifiers(b) {
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v.verify()
			}
		})
	}
}

func BenchmarkIssue(b *testing.B) {
	j, m := mustJSXC(b, "s"), mustTOTP(b, testSeed, "s")
	id, now := auth.Identity{User: "somebody", Domain: "chat.dom.example"}, time.Unix(1700000000, 0)
	for name, issue := range map[string]func(auth.Identity, time.Time) (auth.Secret, error){"JSXC": j.Issue, "TOTP": m.Issue} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := issue(id, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkReplayUse notes a thousand tokens a second.
func BenchmarkReplayUse(b *testing.B) {
	r := NewReplay(0)
	b.ReportAllocs()
	i := int64(0)
	for b.Loop() {
		i++
		now := i / 1000
		n := Nonce{Expires: (now/30 + 2) * 30}
		for k := range 8 {
			n.ID[k] = byte(i >> (8 * k))
		}
		if fresh, full := r.Use(n, time.Unix(now, 0)); !fresh || full {
			b.Fatal(i, fresh, full)
		}
	}
}
