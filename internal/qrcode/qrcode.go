// Package qrcode has the texts by which mail and chat programs set up an account that they read from a QR code, and
// draws such codes on a terminal.
//
// There is no standard for accounts with passwords: the URIs of XMPP and of mail have none, and each program reads its
// own form. Three are made here:
//
//   - Text, for people: lines that the camera of any phone shows, to copy from.
//   - Thunderbird, for Thunderbird for Android and K-9 Mail: the form in which Thunderbird exports accounts for mobile
//     devices, version 1 of 2025-02-06 (feature/migration/qrcode/qr-code-format.md in thunderbird/thunderbird-android).
//   - Conversations, for Conversations and its kin: a JSON object (issue 3796 of iNPUTmice/Conversations).
package qrcode

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/boombuler/barcode/qr"
)

// Account is what a device needs to know.
type Account struct {
	User, Domain string
	Password     string
	Server       string // name of the mail server; empty: it is not known
}

// The forms of an account.
const (
	Text          = "text"
	Thunderbird   = "thunderbird"
	Conversations = "conversations"
)

// Forms are the names of all forms.
var Forms = []string{Text, Thunderbird, Conversations}

// How Thunderbird calls protocols, security and logins, with the ports that they have.
const (
	imap, imapPort = 0, 993 // with TLS from the first byte on
	smtp, smtpPort = 0, 587 // submission, with STARTTLS
	always, tls    = 2, 3
	password       = 1
)

// Why there is no code.
var (
	ErrForm     = errors.New("there is no such form of QR codes: " + strings.Join(Forms, ", "))
	ErrServer   = errors.New("for Thunderbird the mail server has to be named")
	ErrASCII    = errors.New("for Thunderbird addresses have to be in ASCII")
	ErrNoServer = errors.New("for Conversations no server is named: it finds that by the domain")
	ErrHost     = errors.New("not the name of a server")
	ErrLong     = errors.New("the name is too long for a QR code")
)

// Check reports why there can be no code of a form, whatever the password is.
func (a Account) Check(form string) error {
	if err := a.fits(form); err != nil {
		return err
	}
	a.Password = strings.Repeat("x", 64) // longer than any
	if len(a.In(form)) > longest {
		return ErrLong
	}
	return nil
}

func (a Account) fits(form string) error {
	for i := range len(a.Server) {
		if c := a.Server[i]; (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return ErrHost
		}
	}
	switch form {
	case Text:
		return nil
	case Thunderbird:
		switch {
		case a.Server == "":
			return ErrServer
		case strings.ContainsFunc(a.address(), func(r rune) bool { return r >= 0x7f }):
			return ErrASCII
		}
		return nil
	case Conversations:
		if a.Server != "" {
			return ErrNoServer
		}
		return nil
	}
	return ErrForm
}

func (a Account) address() string { return a.User + "@" + a.Domain }

// In returns the text of a form for which Check finds nothing.
func (a Account) In(form string) string {
	switch form {
	case Thunderbird:
		return encode([]any{
			1, []int{1, 1}, // the first code of one
			[]any{imap, a.Server, imapPort, tls, password, a.address(), "", a.Password},
			[]any{[]any{
				[]any{smtp, a.Server, smtpPort, always, password, a.address(), a.Password},
				[]any{a.address(), a.User},
			}},
		})
	case Conversations:
		return encode(struct {
			Protocol string `json:"protocol"`
			Address  string `json:"address"`
			Password string `json:"password"`
		}{"xmpp", a.address(), a.Password})
	}
	text := fmt.Sprintf("user: %s\npassword: %s", a.address(), a.Password)
	if a.Server != "" {
		text += "\nserver: " + a.Server
	}
	return text
}

// encode returns the JSON of texts and numbers.
func encode(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
	return strings.TrimSuffix(b.String(), "\n")
}

// longest is how much text a code is known to hold, in bytes.
const longest = 2900

// quiet is the width of the light frame, in modules: readers want 4.
const quiet = 4

// modules returns the modules of a text's code, by line: true is dark. The error says that the text is too long.
func modules(text string) ([][]bool, error) {
	code, err := qr.Encode(text, qr.L, qr.Unicode)
	if err != nil {
		return nil, fmt.Errorf("no QR code can hold this: %w", err)
	}
	lines := make([][]bool, code.Bounds().Dy())
	for y := range lines {
		lines[y] = make([]bool, code.Bounds().Dx())
		for x := range lines[y] {
			r, _, _, _ := code.At(x, y).RGBA()
			lines[y][x] = r == 0
		}
	}
	return lines, nil
}

// Path returns a text as a QR code for an SVG of size by size units, with its light frame: the data of a path that fills
// what is dark. The error says that the text is too long.
func Path(text string) (data string, size int, err error) {
	lines, err := modules(text)
	if err != nil {
		return "", 0, err
	}
	var b strings.Builder
	for y, line := range lines {
		for x := 0; x < len(line); x++ {
			from := x
			for x < len(line) && line[x] {
				x++
			}
			if x > from {
				fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", from+quiet, y+quiet, x-from, x-from)
			}
		}
	}
	return b.String(), len(lines) + 2*quiet, nil
}

// Draw returns a text as a QR code of half blocks, two modules high each. On a terminal the colours are set, which may
// be light on dark there. Elsewhere the blocks are dark: for a light ground. The error says that the text is too long.
func Draw(text string, terminal bool) (string, error) {
	lines, err := modules(text)
	if err != nil {
		return "", err
	}
	size := len(lines)
	dark := func(x, y int) bool { return x >= 0 && y >= 0 && x < size && y < size && lines[y][x] }
	begin, end := "", ""
	if terminal {
		begin, end = "\x1b[38;5;16;48;5;231m", "\x1b[0m"
	}
	var b strings.Builder
	for y := -quiet; y < size+quiet; y += 2 {
		b.WriteString(begin)
		for x := -quiet; x < size+quiet; x++ {
			switch upper, lower := dark(x, y), dark(x, y+1); {
			case upper && lower:
				b.WriteString("█")
			case upper:
				b.WriteString("▀")
			case lower:
				b.WriteString("▄")
			default:
				b.WriteString(" ")
			}
		}
		b.WriteString(end + "\n")
	}
	return b.String(), nil
}
