package pipe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"postern/cmd/internal/pipe/relay"
	"postern/internal/auth"
	"postern/wire"
)

// Exit statuses of checkpassword. Dovecot takes 1 for a wrong password, and everything else for an
// internal failure.
const (
	CheckDenied  = 1
	CheckMisused = 2
	CheckUnknown = 111
)

// checkpasswordLimit bounds what is read, in bytes: DJB's interface has up to 512, and tokens are
// longer.
const checkpasswordLimit = auth.MaxSecret + 3*auth.MaxName

// errCheckpassword means that the program was not started as checkpassword is.
var errCheckpassword = errors.New("descriptor 3 has no name and password: a server such as Dovecot starts this program")

// Checkpassword carries out DJB's interface: it reads a name and a password from descriptor 3, and
// when they are right becomes the program, with the account in USER. It returns only if they are not,
// with the exit status, and why if that is not the password.
func Checkpassword(std Stdio, o Options, program []string) (status int, why error) {
	in := os.NewFile(3, "descriptor 3")
	name, secret, err := readCheckpassword(in)
	_ = in.Close()
	switch {
	case err != nil:
		return CheckMisused, err
	case os.Getenv("AUTHORIZED") != "":
		return CheckUnknown, errors.New("no lookup without a password: use the userdb of dovecot_userdb, or a static one")
	}
	req := auth.Request{Op: auth.OpAuth, User: name, Named: true, Secret: secret, Client: os.Getenv("TCPREMOTEIP"), Service: os.Getenv("SERVICE")}
	if at := strings.LastIndexByte(name, '@'); at >= 0 {
		req.User, req.Domain = name[:at], name[at+1:]
	}
	if auth.CheckUser(req.User) != nil || req.Domain == "" && req.User != name || auth.CheckSecret(secret.Reveal()) != nil {
		return CheckDenied, nil
	}
	o.Protocol = string(wire.Saslauthd) // for its deadline
	s, err := Settings(std, o)
	if err != nil {
		return CheckUnknown, err
	}
	answer, err := relay.Ask(s, req)
	switch {
	case err != nil:
		return CheckUnknown, err
	case answer.Verdict == auth.Deny:
		return CheckDenied, nil
	case answer.Verdict != auth.Allow:
		return CheckUnknown, nil
	case answer.Account != "":
		name = answer.Account + "@" + answer.Domain
	}
	return CheckUnknown, become(program, name)
}

// readCheckpassword reads name, password and time stamp, each ended by a NUL, until the end.
func readCheckpassword(in io.Reader) (name string, secret auth.Secret, err error) {
	text, err := io.ReadAll(io.LimitReader(in, checkpasswordLimit+1))
	defer clear(text)
	user, rest, named := bytes.Cut(text, []byte{0})
	password, _, whole := bytes.Cut(rest, []byte{0})
	if err != nil || len(text) > checkpasswordLimit || !named || !whole {
		return "", auth.Secret{}, errCheckpassword
	}
	return string(user), auth.NewSecret(string(password)), nil
}

// become executes the program. HOME would be taken for the user's, and is not known.
func become(program []string, user string) error {
	path, err := exec.LookPath(program[0])
	if err != nil {
		return err
	}
	env := []string{"USER=" + user}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "USER=") && !strings.HasPrefix(v, "HOME=") {
			env = append(env, v)
		}
	}
	return fmt.Errorf("start %s: %w", path, syscall.Exec(path, program, env))
}
