package front

import (
	"errors"
	"os"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"time"

	"postern/internal/config"
)

// lookAgain is how often users are looked up: a package that is installed later brings its own, and one
// that is installed again may give it another uid.
const lookAgain = 10 * time.Second

// admission says which users' processes may connect to a listener, and which of them may change
// accounts. The processes of root and of the daemon's own user may connect to every listener: they
// could read the store as well. It is safe for concurrent use.
type admission struct {
	cfg    config.Listener
	uid    func(user string) (int, error)
	own    func(uid int) bool
	absent func(user string, err error) // called for a user that is not found

	mu     sync.Mutex
	users  map[int]string // by uid, as far as they exist
	looked time.Time      // when they were looked for
}

func (s *Server) newAdmission(cfg config.Listener) *admission {
	a := &admission{cfg: cfg, uid: s.uid, own: s.own, absent: func(user string, err error) {
		s.env.Log.Debug("a user that may connect cannot be found on this machine", "listener", cfg.Name, "user", user, "err", err)
	}}
	a.look(time.Now())
	return a
}

// uidOf looks up a user, by name or number.
func uidOf(name string) (int, error) {
	if uid, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(uid), nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return anyUser, err
	}
	return strconv.Atoi(u.Uid)
}

// look looks up the users. One that cannot be looked up now stays what it was. mu is held, or a is new.
func (a *admission) look(now time.Time) {
	was := a.users
	a.looked = now
	a.users = make(map[int]string, len(a.cfg.Users))
	for _, name := range a.cfg.Users {
		uid, err := a.uid(name)
		switch unknown := user.UnknownUserError(""); {
		case err == nil:
			a.users[uid] = name
		case errors.As(err, &unknown):
			a.absent(name, err)
		default:
			a.absent(name, err)
			for uid, known := range was {
				if known == name {
					a.users[uid] = name
				}
			}
		}
	}
}

// user returns the name of a uid among the users that may connect; ok is false if it is not among them.
func (a *admission) user(uid int, now time.Time) (name string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.looked).Abs() >= lookAgain {
		a.look(now)
	}
	name, ok = a.users[uid]
	return name, ok
}

// own reports whether a uid is root's or that of this process.
func own(uid int) bool { return uid == 0 || uid == os.Geteuid() }

// admits reports whether processes of a user may connect.
func (a *admission) admits(uid int, now time.Time) bool {
	if a.cfg.Users == nil || a.own(uid) {
		return true
	}
	_, ok := a.user(uid, now)
	return ok
}

// changes reports whether processes of a user may change accounts.
func (a *admission) changes(uid int, now time.Time) bool {
	switch {
	case !a.cfg.Changes || !a.admits(uid, now):
		return false
	case a.cfg.ChangeUsers == nil || a.own(uid):
		return true
	}
	name, ok := a.user(uid, now)
	return ok && slices.Contains(a.cfg.ChangeUsers, name)
}

// admits reports whether a peer may connect, and logs it if it may not.
func (l *listener) admits(from peer) bool {
	p, now := l.params.Load(), time.Now()
	if p.admission.admits(from.uid, now) {
		return true
	}
	held, ok := l.strangers.Due(now)
	switch {
	case !ok:
	case from.uid == anyUser:
		l.server.env.Log.Warn("the user of a peer is not known, and the listen block has users; its connection is closed",
			"listener", p.Name, "users", p.Users, "alike", held)
	default:
		name := strconv.Itoa(from.uid)
		if u, err := user.LookupId(name); err == nil {
			name = u.Username
		}
		l.server.env.Log.Warn("a process of a user that users in the listen block does not name; its connection is closed",
			"listener", p.Name, "user", name, "pid", from.pid, "users", p.Users, "alike", held)
	}
	return false
}
