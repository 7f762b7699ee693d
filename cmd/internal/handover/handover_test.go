package handover

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pair returns the two ends of a connection.
func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(t.TempDir(), "s")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr)); err != nil {
		t.Fatal(err)
	}
	if b, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

func TestSeal(t *testing.T) {
	for _, text := range []string{"", "memory", strings.Repeat("long ", 1<<20)} {
		f, err := Seal("test", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got, err := Unseal(f); err != nil || string(got) != text {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if _, err := f.WriteAt([]byte("x"), 0); err == nil {
			t.Error("it can be written")
		}
		if f.Truncate(0) == nil && text != "" {
			t.Error("it can be truncated")
		}
	}
	plain, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := Unseal(plain); err == nil {
		t.Error("a file on a disk is taken")
	}
}

// Files arrive with their names and contents, however many there are.
func TestSend(t *testing.T) {
	for _, n := range []int{0, 1, atOnce, 2*atOnce + 5} {
		a, b := pair(t)
		var files []*os.File
		for i := range n {
			f, err := Seal(fmt.Sprint("name", i), fmt.Append(nil, i))
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
		sent := make(chan error, 1)
		go func() { sent <- Send(a, files) }()
		got, err := Receive(b)
		if err = errors.Join(err, <-sent); err != nil || len(got) != n {
			t.Fatalf("%d files: %d, %v", n, len(got), err)
		}
		for i, f := range got {
			if data, err := Unseal(f); err != nil || f.Name() != fmt.Sprint("name", i) || string(data) != fmt.Sprint(i) {
				t.Errorf("file %d is %q with %q, %v", i, f.Name(), data, err)
			}
		}
		Close(files)
		Close(got)
	}
}

// What is no handover is an error, and no file stays open.
func TestReceive(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"nothing":           {"", io.ErrUnexpectedEOF},
		"an HTTP server":    {"HTTP/1.1 404 Not Found\r\n\r\n404 page not found\n", ErrAnswer},
		"half":              {`{"names":`, io.ErrUnexpectedEOF},
		"names of no files": {`{"names":["postern-memory"]}` + "\n", ErrAnswer},
		"more, and no more": {`{"more":true}` + "\n", io.ErrUnexpectedEOF},
		"something else":    {"[1, 2]\n", ErrAnswer},
	} {
		a, b := pair(t)
		_, _ = io.WriteString(a, c.text)
		_ = a.CloseWrite()
		if files, err := Receive(b); !errors.Is(err, c.want) || files != nil {
			t.Errorf("%s: %d files, %v", name, len(files), err)
		}
	}
	a, b := pair(t)
	if err := Refuse(a, errors.New("not now")); err != nil {
		t.Fatal(err)
	}
	if _, err := Receive(b); err == nil || err.Error() != "not now" {
		t.Errorf("refused: %v", err)
	}
}

func TestCheckPeer(t *testing.T) {
	a, b := pair(t)
	if err := errors.Join(CheckPeer(a), CheckPeer(b)); err != nil {
		t.Errorf("this process: %v", err)
	}
	for uid, want := range map[int]bool{0: true, 1000: true, 1001: false} {
		if err := checkUser(uid, 1000); (err == nil) != want || err != nil && !errors.Is(err, ErrForeign) {
			t.Errorf("user %d: %v", uid, err)
		}
	}
	if err := checkUser(1000, 0); err == nil {
		t.Error("root takes what another user hands over")
	}
}
