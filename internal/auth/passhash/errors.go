package passhash

import "errors"

// Why password work was not done. Neither says anything of the backend that wanted it.
var (
	ErrBusy   = errors.New("too many password hashes wait for a processor")
	ErrBroken = errors.New("the password could not be hashed; the log says why")
)

// NotDone reports whether an error is this machine's, and not that of the backend which wanted a
// password hashed or compared.
func NotDone(err error) bool { return errors.Is(err, ErrBusy) || errors.Is(err, ErrBroken) }
