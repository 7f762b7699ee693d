package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/wire"
)

// agedInput is an input that arrived some time ago.
type agedInput struct {
	io.Reader
	since time.Time
}

func (i agedInput) Since() time.Time { return i.since }

// With LateAfter an answer that is too late is not written, and Run ends.
func TestRunIsNotLate(t *testing.T) {
	const late = time.Hour
	for name, c := range map[string]struct {
		age, late time.Duration
		want      string
		err       error
	}{
		"in time":                  {0, late, "0\n0\n", nil},
		"almost late":              {late - time.Minute, late, "0\n0\n", nil},
		"late":                     {late, late, "", errLate},
		"late, where it may be so": {2 * late, 0, "0\n0\n", nil},
	} {
		var out bytes.Buffer
		in := agedInput{strings.NewReader("auth:joe:dom.example:secret\nnonsense\n"), time.Now().Add(-c.age)}
		err := Run(context.Background(), in, &out, Options{
			Protocol: wire.Generic, Deadline: time.Millisecond, LateAfter: c.late, Pipeline: 2,
			Socket: filepath.Join(t.TempDir(), "none.sock"), Log: slog.New(slog.DiscardHandler),
		})
		if !errors.Is(err, c.err) || out.String() != c.want {
			t.Errorf("%s: answered %q, %v; want %q, %v", name, out.String(), err, c.want, c.err)
		}
	}
}

// A configuration may allow more time than a terminal does, or less.
func TestStrictDeadline(t *testing.T) {
	for deadline, want := range map[time.Duration]time.Duration{time.Minute: 4 * time.Second, time.Second: time.Second} {
		if o := (Options{Deadline: deadline}).strictDeadline(); o.Deadline != want || o.LateAfter <= 4*time.Second || o.LateAfter >= 5*time.Second {
			t.Errorf("%v became %v, late after %v", deadline, o.Deadline, o.LateAfter)
		}
	}
}

// Unread input may have arrived at any time since the last poll that found none.
func TestArrivals(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	a := NewArrivals(r)
	first := time.Now()
	if a.Since().After(first) {
		t.Error("input may have come since it is watched")
	}
	wait := func(want bool) {
		t.Helper()
		if ready, err := a.Wait(0); ready != want || err != nil {
			t.Errorf("ready %v, %v", ready, err)
		}
	}
	wait(false)
	empty := a.Since()
	if empty.Before(first) || empty.After(time.Now()) {
		t.Errorf("nothing was there at %v", empty)
	}
	if _, err := io.WriteString(w, "x\n"); err != nil {
		t.Fatal(err)
	}
	wait(true)
	wait(true)
	if a.Since() != empty {
		t.Error("what has not been read is younger than it was")
	}
	if n, err := (ptyInput{a}).Read(make([]byte, 10)); n != 2 || err != nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
	wait(false)
	if !a.Since().After(empty) {
		t.Error("what was read counts still")
	}
	_ = w.Close()
	if _, err := (ptyInput{a}).Read(make([]byte, 10)); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if OnTerminal(r, r) {
		t.Error("a pipe was taken for a terminal")
	}
}

// What an earlier program of this process passed on is taken, and nothing else.
func TestPassedOn(t *testing.T) {
	t.Setenv(startVariable, "")
	now := time.Now()
	a := &Arrivals{since: now.Add(-time.Minute)}
	a.PassOn()
	if got := NewArrivals(nil); got.Since().Sub(a.since).Abs() > 5*time.Second || !got.resumed {
		t.Errorf("handed on %v, taken %v", a.since, got.Since())
	}
	for _, text := range []string{fmt.Sprintf("%d:1", os.Getpid()+1), fmt.Sprintf("%d:x", os.Getpid()), "", "x"} { // a child inherits it
		t.Setenv(startVariable, text)
		if got := NewArrivals(nil); got.Since().Before(now) || got.resumed {
			t.Errorf("%q: since %v, want after %v", text, got.Since(), now)
		}
	}
}
