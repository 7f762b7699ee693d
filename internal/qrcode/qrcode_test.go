package qrcode

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"postern/internal/qrcode/qrcodetest"
)

var alice = Account{User: "alice", Domain: "example.org", Password: "abcd-efgh-jkmn-pqrs-tuvw-xyza-bcde", Server: "mail.example.org"}

// TestDraw: another program reads what was drawn, whatever it is.
func TestDraw(t *testing.T) {
	for _, text := range []string{
		alice.In(Text), alice.In(Thunderbird), alice.In(Conversations), "x", strings.Repeat("0123456789", 40), "josé@exämple.org\npassword: ☃",
	} {
		drawn, err := Draw(text, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := qrcodetest.Read(t, drawn); got != text {
			t.Errorf("drawn %q, read %q", text, got)
		}
		onTerminal, err := Draw(text, true)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(onTerminal) { // so that no colour goes on behind it
			if !strings.HasPrefix(line, "\x1b[38;5;16;48;5;231m") || !strings.HasSuffix(line, "\x1b[0m\n") || strings.Count(line, "\x1b") != 2 {
				t.Fatalf("a line of a terminal: %q", line)
			}
		}
		if got := strings.NewReplacer("\x1b[38;5;16;48;5;231m", "", "\x1b[0m", "").Replace(onTerminal); got != drawn {
			t.Errorf("on a terminal there is another code of %q", text)
		}
	}
	if _, err := Draw(strings.Repeat("x", longest), false); err != nil {
		t.Errorf("the longest text: %v", err)
	}
	if _, err := Draw(strings.Repeat("x", 3000), false); err == nil {
		t.Error("a code with 3,000 bytes")
	}
}

// TestForms: the texts are those that the programs read.
func TestForms(t *testing.T) {
	for form, want := range map[string]string{
		Text: "user: alice@example.org\npassword: abcd-efgh-jkmn-pqrs-tuvw-xyza-bcde\nserver: mail.example.org",
		Thunderbird: `[1,[1,1],[0,"mail.example.org",993,3,1,"alice@example.org","","abcd-efgh-jkmn-pqrs-tuvw-xyza-bcde"],` +
			`[[[0,"mail.example.org",587,2,1,"alice@example.org","abcd-efgh-jkmn-pqrs-tuvw-xyza-bcde"],["alice@example.org","alice"]]]]`,
		Conversations: `{"protocol":"xmpp","address":"alice@example.org","password":"abcd-efgh-jkmn-pqrs-tuvw-xyza-bcde"}`,
	} {
		if got := alice.In(form); got != want {
			t.Errorf("%s:\n got %s\nwant %s", form, got, want)
		}
	}
	odd := alice
	odd.User = `a"<&>\`
	var read struct{ Address string }
	if err := json.Unmarshal([]byte(odd.In(Conversations)), &read); err != nil || read.Address != odd.User+"@example.org" || strings.Contains(odd.In(Conversations), `\u`) {
		t.Errorf("%v, %+v", err, read)
	}
}

func TestCheck(t *testing.T) {
	with := func(change func(*Account)) Account {
		a := alice
		change(&a)
		return a
	}
	bare := with(func(a *Account) { a.Server = "" })
	for _, c := range []struct {
		name string
		Account
		form string
		want error
	}{
		{"text", alice, Text, nil},
		{"text without a server", bare, Text, nil},
		{"Thunderbird", alice, Thunderbird, nil},
		{"Thunderbird without a server", bare, Thunderbird, ErrServer},
		{"Thunderbird with a user that it does not read", with(func(a *Account) { a.User = "josé" }), Thunderbird, ErrASCII},
		{"Thunderbird with a domain that it does not read", with(func(a *Account) { a.Domain = "exämple.org" }), Thunderbird, ErrASCII},
		{"Conversations", bare, Conversations, nil},
		{"Conversations with a mail server", alice, Conversations, ErrNoServer},
		{"a long name", with(func(a *Account) { a.User = strings.Repeat("x", 1000) }), Thunderbird, ErrLong},
		{"no form", alice, "png", ErrForm},
		{"a port", with(func(a *Account) { a.Server = "mail.example.org:993" }), Text, ErrHost},
		{"a line break", with(func(a *Account) { a.Server = "mail\npassword: x" }), Text, ErrHost},
		{"letters of others", with(func(a *Account) { a.Server = "mäil.example.org" }), Thunderbird, ErrHost},
	} {
		if err := c.Check(c.form); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}
