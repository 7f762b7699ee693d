package chaos

import (
	"fmt"
	"sync"
	"time"
)

// credentials has the current password of every user. Only one client changes a user's password,
// and it sends its bursts of questions one after the other.
type credentials struct {
	mu      sync.Mutex
	current map[string]int // generation of user@domain's password; a user without an entry exists with 0
}

func newCredentials() *credentials { return &credentials{current: make(map[string]int)} }

// chaosPassword is the password of a user in a generation.
func chaosPassword(address string, generation int) string {
	return fmt.Sprintf("pw-%s-%d", address, generation)
}

func (w *credentials) generation(address string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current[address]
}

func (w *credentials) change(address string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.current[address]++
}

// login is what a backend says to a login.
func (w *credentials) login(address, password string) bool {
	return password == chaosPassword(address, w.generation(address))
}

// said is an answer as a peer understands it.
type said int

const (
	saidNo said = iota
	saidYes
	saidCannot
)

func (s said) String() string { return [...]string{"no", "yes", "cannot tell"}[s] }

// chaosQuestion is a question with its right answer.
type chaosQuestion struct {
	exists       bool // isuser
	user, domain string
	password     string
	want         said
	old          *oldPassword // not nil: yes is right until a no was answered
}

func (q chaosQuestion) address() string { return q.user + "@" + q.domain }

// oldPassword is one that was right until it was changed.
type oldPassword struct {
	text    string
	changed time.Time
	refused bool // it was answered so: never yes again
}

// chaosUser is a user that one client owns.
type chaosUser struct {
	user, domain string
	olds         []*oldPassword
}

// people are users of each domain for a client.
func (k *chaosClient) people() (list []*chaosUser) {
	for _, domain := range []string{"app.example", "bare.example"} {
		for i := range k.each {
			list = append(list, &chaosUser{user: fmt.Sprintf("u%d-%d", k.number, i), domain: domain})
		}
	}
	return append(list, &chaosUser{user: "joe", domain: "still.example"})
}

// question makes a question about a user: right, wrong and old passwords, and existence.
func (k *chaosClient) question(u *chaosUser) chaosQuestion {
	q := chaosQuestion{user: u.user, domain: u.domain}
	address := q.address()
	roll := k.random.IntN(20)
	switch {
	case !k.front.logins || k.front.exists && roll < 4:
		q.exists, q.want = true, saidYes
		if roll%2 == 1 {
			q.user, q.want = "nobody", saidNo
		}
	case roll < 9:
		q.password, q.want = fmt.Sprintf("wrong-%d-%d", k.number, k.random.IntN(1e9)), saidNo
	case roll < 12 && len(u.olds) > 0:
		q.old = u.olds[k.random.IntN(len(u.olds))]
		q.password, q.want = q.old.text, saidNo
	default:
		q.password, q.want = chaosPassword(address, k.credentials.generation(address)), saidYes
	}
	return q
}

// change gives a user a new password. It is done between bursts, so that every question has one
// right answer.
func (k *chaosClient) change(u *chaosUser) {
	address := u.user + "@" + u.domain
	old := &oldPassword{text: chaosPassword(address, k.credentials.generation(address)), changed: time.Now()}
	k.credentials.change(address)
	if u.olds = append(u.olds, old); len(u.olds) > 4 {
		u.olds = u.olds[1:]
	}
}
