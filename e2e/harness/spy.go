package harness

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The secrets that go through every path of the program and must come out nowhere. All but
// the seed and the issued tokens hold the word canary.
const (
	CanaryRight  = "canaryRightPassword"
	CanaryWrong  = "canaryWrongPassword"
	CanaryNew    = "canaryNewPassword"
	CanarySecret = "canaryApiSecret"
	CanaryTOTP   = "canaryTotpSecret"
	CanarySeed   = "MNQW4YLSPFJWKZLE"
)

// Spy gathers all that the outside may see, and looks for the canaries in it.
type Spy struct {
	t      *testing.T
	words  []string // in lower case
	Places map[string]string
	Config string
}

// NewSpy returns a spy on what is done with a configuration.
func NewSpy(t *testing.T, config string) *Spy {
	return &Spy{t: t, Config: config, Places: map[string]string{},
		words: []string{"canary", strings.ToLower(CanarySeed), fmt.Sprintf("%x", "canary"), "y2fuyxj5" /* base64 of canary */}}
}

// Saw adds a text that the outside may see.
func (s *Spy) Saw(where, text string) { s.Places[where] += text }

// Command runs a command and looks at its output. The exit status does not matter.
func (s *Spy) Command(stdin string, args ...string) Result {
	s.t.Helper()
	r := Command(s.t, stdin, append(args, "--config", s.Config)...)
	s.Saw("output of postern "+strings.Join(args, " "), r.Out+r.Err)
	return r
}

// Process looks at what every user of the machine may see of a process.
func (s *Spy) Process(what string, pid int) {
	s.t.Helper()
	for _, file := range []string{"cmdline", "environ", "comm"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil || len(text) == 0 && file != "environ" {
			s.t.Errorf("/proc/%d/%s of %s: %q, %v", pid, file, what, text, err)
		}
		s.Saw(file+" of "+what, string(text))
	}
}

// Files looks at the names and contents of a directory's files.
func (s *Spy) Files(dir string) (bytes int) {
	s.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		s.Saw("file "+path, path+"\n"+string(text))
		bytes += len(text)
		return err
	})
	if err != nil {
		s.t.Error(err)
	}
	return bytes
}

// Check complains about every place where a canary is.
func (s *Spy) Check() {
	s.t.Helper()
	for where, text := range s.Places {
		lower := strings.ToLower(text)
		for _, word := range s.words {
			if i := strings.Index(lower, word); i >= 0 {
				s.t.Errorf("%s holds a secret: %q", where, text[max(0, i-100):min(len(text), i+100)])
			}
		}
	}
}

// Token issues a token, which is a secret from then on.
func (s *Spy) Token(args ...string) string {
	s.t.Helper()
	text := strings.TrimSpace(OK(s.t, "", append(append([]string{"token", "issue"}, args...), "--config", s.Config)...))
	s.words = append(s.words, strings.ToLower(text))
	return text
}

// Send writes raw bytes to a listener and reads until it closes; the answers are nothing that
// the outside may not see.
func (s *Spy) Send(address, input string) (answers string) {
	s.t.Helper()
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, address)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(Timeout))
	_, _ = c.Write([]byte(input)) // it may be cut off
	_ = c.(interface{ CloseWrite() error }).CloseWrite()
	var b strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			break
		}
	}
	s.Saw("answers", b.String())
	return b.String()
}

// StartIdle starts a command that waits for its input, for a look at it from outside.
func (s *Spy) StartIdle(args ...string) *Process {
	s.t.Helper()
	p := Start(s.t, append(args, "--config", s.Config)...)
	WaitFor(s.t, "its own arguments", func() bool { // and no longer those of the test, from which it comes
		return strings.Contains(ReadText(fmt.Sprintf("/proc/%d/cmdline", p.Cmd.Process.Pid)), "\x00"+args[0]+"\x00")
	})
	s.Process("postern "+args[0], p.Cmd.Process.Pid)
	return p
}
