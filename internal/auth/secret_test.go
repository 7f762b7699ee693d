package auth

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const marker = "hunter2"

// holder has secrets wherever a careless type may put them.
type holder struct {
	Exported   Secret
	unexported Secret
	Pointer    *Secret
	hidden     *Secret
	List       []Secret
	Map        map[string]Secret
	Any        any
	inner      struct{ deep Secret }
	Request    Request
	request    *Request
}

func newHolder() holder {
	s := NewSecret(marker)
	h := holder{
		Exported: s, unexported: s, Pointer: &s, hidden: &s, List: []Secret{s}, Map: map[string]Secret{"k": s}, Any: s,
		Request: Request{User: "joe", Secret: s}, request: &Request{Secret: s},
	}
	h.inner.deep = s
	return h
}

// leaks reports whether text shows the secret as text, in hex or as bytes.
func leaks(text string) bool {
	lower := strings.ToLower(text)
	for _, form := range []string{marker, fmt.Sprintf("%x", marker), fmt.Sprintf("% x", marker), fmt.Sprint([]byte(marker))} {
		if strings.Contains(lower, strings.Trim(form, "[]")) {
			return true
		}
	}
	return false
}

func TestSecretPrintsNothing(t *testing.T) {
	s, h := NewSecret(marker), newHolder()
	if !leaks(fmt.Sprintf("%v", marker)) || !leaks(fmt.Sprintf("%X", marker)) || !leaks(fmt.Sprintf("%d", []byte(marker))) {
		t.Fatal("the test does not see a leak")
	}
	values := map[string]any{"Secret": s, "*Secret": &s, "holder": h, "*holder": &h, "Request": h.Request, "*Request": h.request,
		"slice": h.List, "map": h.Map, "array": [1]Secret{s}, "inner": h.inner, "**": &h.Pointer}
	for name, value := range values {
		for verb := '!'; verb <= '~'; verb++ {
			for _, flags := range []string{"", "+", "#", " ", "-", "0", "12", ".3", "#+ -"} {
				if got := fmt.Sprintf("%"+flags+string(verb), value); verb != '%' && leaks(got) {
					t.Errorf("%%%s%c of %s: %s", flags, verb, name, got)
				}
			}
		}
		if got := fmt.Sprint(value) + fmt.Sprintln(value) + fmt.Errorf("x: %w", errors.New(fmt.Sprint(value))).Error(); leaks(got) {
			t.Errorf("%s: %s", name, got)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, s); got != "[redacted]" {
			t.Errorf("%s of a Secret: %q", verb, got)
		}
		if got := fmt.Sprintf(verb, Secret{}); got != "[redacted]" {
			t.Errorf("%s shows that a secret is empty: %q", verb, got)
		}
	}
	if s.String() != "[redacted]" {
		t.Errorf("String() = %q", s.String())
	}
}

func TestSecretInLogs(t *testing.T) {
	h := newHolder()
	var buf bytes.Buffer
	for name, handler := range map[string]slog.Handler{
		"text": slog.NewTextHandler(&buf, nil), "json": slog.NewJSONHandler(&buf, nil),
	} {
		buf.Reset()
		log := slog.New(handler).With("with", h.Exported).WithGroup("g")
		log.Info("m", "secret", h.Exported, "pointer", h.Pointer, "holder", h, "hp", &h, "list", h.List, "map", h.Map,
			"request", h.Request, "rp", h.request, slog.Group("group", "s", h.Exported), "inner", h.inner)
		if got := buf.String(); leaks(got) || strings.Count(got, "[redacted]") < 4 {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := h.Exported.LogValue(); got.Kind() != slog.KindString || got.String() != "[redacted]" {
		t.Errorf("LogValue() = %v", got)
	}
}

func TestSecretMarshalled(t *testing.T) {
	h := newHolder()
	text, err := json.Marshal(h)
	if err != nil || leaks(string(text)) || !strings.Contains(string(text), `"Exported":"[redacted]"`) {
		t.Errorf("json: %s, %v", text, err)
	}
	if text, err = json.Marshal(map[Secret]int{h.Exported: 1}); err != nil || leaks(string(text)) {
		t.Errorf("json key: %s, %v", text, err)
	}
	if text, err = xml.Marshal(h.Exported); err != nil || leaks(string(text)) {
		t.Errorf("xml: %s, %v", text, err)
	}
	if text, err = h.Exported.MarshalText(); err != nil || string(text) != "[redacted]" {
		t.Errorf("text: %s, %v", text, err)
	}
}

func TestSecretValue(t *testing.T) {
	s := NewSecret(marker)
	if s.Reveal() != marker || s.Len() != len(marker) || s.Empty() {
		t.Errorf("%q, %d bytes, empty %v", s.Reveal(), s.Len(), s.Empty())
	}
	for _, empty := range []Secret{{}, NewSecret("")} {
		if empty.Reveal() != "" || empty.Len() != 0 || !empty.Empty() {
			t.Error("an empty secret is taken for one")
		}
	}
}
