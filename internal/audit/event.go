package audit

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind is the kind of an event.
type Kind string

// The kinds of events. The manual's page audit describes each.
const (
	Daemon  Kind = "daemon"  // the process starts or stops
	Reload  Kind = "reload"  // the configuration is read again
	Limit   Kind = "limit"   // a limit on guessing begins
	Refusal Kind = "refusal" // a password that was accepted before is refused
	Change  Kind = "change"  // a server asks to change an account
	Revoke  Kind = "revoke"  // app passwords end
	SignIn  Kind = "signin"  // a person signs in to a page
	Admin   Kind = "admin"   // any other command of an administrator that changes something
	lost    Kind = "lost"    // events before this one were not written
)

// Outcomes of an event.
const (
	Done   = "done"
	Failed = "failed"
)

// Event is a line of the log. Empty fields are left out. The order is part of the format: fail2ban's filter
// relies on the address coming before all that a client can choose.
type Event struct {
	Time    time.Time `json:"-"` // the line begins with it; zero: when Note is called
	Kind    Kind      `json:"event"`
	Action  string    `json:"action,omitempty"`
	Client  string    `json:"client,omitempty"`  // address of the client
	Network string    `json:"network,omitempty"` // to which the limit applies
	Outcome string    `json:"outcome,omitempty"`

	Domain  string `json:"domain,omitempty"`
	User    string `json:"user,omitempty"`
	Backend string `json:"backend,omitempty"`
	Front   string `json:"front,omitempty"` // name of the listener
	Peer    string `json:"peer,omitempty"`  // what is at the other end of the connection
	By      string `json:"by,omitempty"`    // the user of the machine that gave the command
	Reason  string `json:"reason,omitempty"`

	Refusals int      `json:"refusals,omitempty"` // within Window
	Window   string   `json:"window,omitempty"`
	IDs      []string `json:"ids,omitempty"`     // of app passwords
	Changes  []string `json:"changes,omitempty"` // of the configuration
	Count    uint64   `json:"count,omitempty"`   // of records, or of lost events
}

// Bounds of a line.
const (
	maxText = 512 // bytes of a field
	maxList = 64  // entries of a list
)

// stamp is how a line has its time, as the log in JSON does.
const stamp = "2006-01-02T15:04:05.000Z07:00"

// appendLine appends an event as a line of JSON.
func appendLine(to []byte, e *Event) []byte {
	e.bound()
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(e) // texts and numbers
	to = append(to, `{"time":"`...)
	to = e.Time.AppendFormat(to, stamp)
	to = append(to, `",`...)
	return append(to, text.Bytes()[1:]...)
}

// bound cuts what is too long.
func (e *Event) bound() {
	for _, text := range []*string{
		&e.Action, &e.Client, &e.Network, &e.Domain, &e.User, &e.Backend, &e.Front, &e.Peer, &e.By, &e.Reason,
	} {
		*text = clip(*text)
	}
	e.IDs, e.Changes = clipAll(e.IDs), clipAll(e.Changes)
}

func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	end := maxText
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return strings.ToValidUTF8(s[:end], "\ufffd") + "..."
}

func clipAll(list []string) []string {
	more := len(list) > maxList
	out := make([]string, 0, min(len(list), maxList)+1)
	for _, s := range list[:min(len(list), maxList)] {
		out = append(out, clip(s))
	}
	if more {
		out = append(out, "...")
	}
	return out
}
