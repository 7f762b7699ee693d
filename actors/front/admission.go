package front

import (
	"os"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"time"

	"postern/internal/config"
)

// lookAgain is how often users are looked for that the machine did not have: a package that is installed
// later brings its own.
const lookAgain = 10 * time.Second

// admission says which users' processes may connect to a listener, and which of them may change
// accounts. The processes of root and of the daemon's own user may connect to every listener: they
// could read the store as well. It is safe for concurrent use.
type admission struct {
	cfg    config.Listener
	uid    func(user string) (int, error)
	absent func(user string, err error) // called for a user that the machine does not have

	mu     sync.Mutex
	users  map[int]string // by uid, as far as they exist
	looked time.Time      // when they were looked for
}

func (s *Server) newAdmission(cfg config.Listener) *admission {
	a := &admission{cfg: cfg, uid: s.uid, absent: func(user string, err error) {
		s.env.Log.Debug("a user that may connect does not exist on this machine", "listener", cfg.Name, "user", user, "err", err)
	}}
	a.look(time.Now())
	return a
}

// uidOf looks a user up.
func uidOf(name string) (int, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return anyUser, err
	}
	return strconv.Atoi(u.Uid)
}

// look looks for the users. mu is held, or a is new.
func (a *admission) look(now time.Time) {
	a.looked = now
	a.users = make(map[int]string, len(a.cfg.Users))
	for _, name := range a.cfg.Users {
		uid, err := a.uid(name)
		if err != nil {
			a.absent(name, err)
			continue
		}
		a.users[uid] = name
	}
}

// user returns the name of a uid among the users that may connect; ok is false if it is not among them.
func (a *admission) user(uid int, now time.Time) (name string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	name, ok = a.users[uid]
	if !ok && len(a.users) < len(a.cfg.Users) && now.Sub(a.looked).Abs() >= lookAgain {
		a.look(now)
		name, ok = a.users[uid]
	}
	return name, ok
}

// own reports whether a uid is root's or that of this process.
func own(uid int) bool { return uid == 0 || uid == os.Geteuid() }

// admits reports whether processes of a user may connect.
func (a *admission) admits(uid int, now time.Time) bool {
	if a.cfg.Users == nil || own(uid) {
		return true
	}
	_, ok := a.user(uid, now)
	return ok
}

// changes reports whether processes of a user that may connect may change accounts.
func (a *admission) changes(uid int) bool {
	if !a.cfg.Changes || a.cfg.ChangeUsers == nil || own(uid) {
		return a.cfg.Changes
	}
	name, ok := a.user(uid, time.Now())
	return ok && slices.Contains(a.cfg.ChangeUsers, name)
}

// admits reports whether a peer may connect, and logs it if it may not.
func (l *listener) admits(from peer) bool {
	p, now := l.params.Load(), time.Now()
	if p.admission.admits(from.uid, now) {
		return true
	}
	if held, ok := l.strangers.Due(now); ok {
		name := strconv.Itoa(from.uid)
		if u, err := user.LookupId(name); err == nil {
			name = u.Username
		}
		l.server.env.Log.Warn("a process of a user that users in the listen block does not name; its connection is closed",
			"listener", p.Name, "user", name, "pid", from.pid, "users", p.Users, "alike", held)
	}
	return false
}
