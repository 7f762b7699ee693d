package passhash

import "errors"

// Why password work was not done. None says anything of the backend that wanted it.
var (
	ErrBusy    = errors.New("too many password hashes wait for a processor")
	ErrSlow    = errors.New("the password's hash was not computed in the time for an answer: see bcrypt_cost, and what else uses the processors")
	ErrStopped = errors.New("postern stops, and computes no more password hashes")
	ErrBroken  = errors.New("the password could not be hashed; the log says why")
)

// NotDone reports whether an error is this machine's, and not that of the backend which wanted a
// password hashed or compared.
func NotDone(err error) bool {
	return errors.Is(err, ErrBusy) || errors.Is(err, ErrSlow) || errors.Is(err, ErrStopped) || errors.Is(err, ErrBroken)
}
