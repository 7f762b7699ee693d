package cache

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/unixtime"
)

// model drives logins in random order against a backend with known decisions, and checks
// the promise of the package at every answer: never yes for a secret that the backend has
// refused since it last accepted it, never yes past a lifetime, never yes from memory for what
// was asked before the account was changed, and never for another account or another backend's word.
type model struct {
	t     *testing.T
	rng   *rand.Rand
	rules Rules
	now   unixtime.Time
	user  *User
	cases comparison
	by    byte         // the authority in force
	valid map[who]bool // what the backends accept
	mode  Outcome      // Accepted stands for a backend that answers
	seq   int
	yes   map[who]event // when the backend last accepted a secret
	no    map[who]event
	ends  map[who]unixtime.Time // when a bearer token ends, as last said
	open  []*pending
	disk  []Verifier // what was last saved
	epoch int        // changes of the account
	allow map[auth.Source]int
	moved int // questions in place of a comparison
	back  int // those that were compared after all, and answered by that
}

// comparison is how a backend compares names.
type comparison int

const (
	folding comparison = iota
	exact
	twins // folding, but vera and Vera are two accounts
	comparisons
)

var spellings = []string{"vera", "Vera", "VERA"}

// who is a secret of an account at an authority.
type who struct {
	by      byte
	account string
	secret  int
}

// whose is the account that a login means, now.
func (m *model) whose(as string, secret int) who {
	if m.cases == folding {
		as = auth.FoldUser(as)
	}
	return who{m.by, as, secret}
}

// name is what a backend says about a spelling.
func (m *model) name(as string) Name {
	return Name{Account: m.whose(as, 0).account, Exact: m.cases != folding}
}

// move puts another authority in force, or the same with others beside it.
func (m *model) move() {
	m.by = byte(1 + m.rng.IntN(2))
	m.rules.Authorities = []auth.Authority{{ID: authority(m.by), Folds: m.cases != exact}}
	if m.rng.IntN(2) == 0 {
		m.rules.Authorities = append(m.rules.Authorities, auth.Authority{ID: authority(9)})
	}
	m.user.ForgetRefusals()
	m.user.Settle(&m.rules)
}

type event struct {
	seq int
	at  unixtime.Time
}

type pending struct {
	login  *Login
	as     string
	secret int
	who    who // when the backend was asked
	step   Step
	epoch  int  // when the backend was asked
	done   bool // answered
	moved  bool // asked in place of a comparison
	aside  bool // the question is that one

	decided *event // what the backend made of the question, at that time, if its answer is on its way
	outcome Outcome
	suspect bool // one of the backends has refused it
}

// bearer is the secret that is a token, and tokenLife how long one lives at most.
const (
	bearer    = 4
	tokenLife = unixtime.Time(40 * time.Minute / time.Millisecond)
)

func (m *model) key(secret int) Key { return Key{1, byte(secret)} }

func secretText(secret int) auth.Secret { return auth.NewSecret(fmt.Sprintf("secret-%d", secret)) }

// sealers are none, and those of two keys.
var sealers = []*Sealer{nil, NewSealer(auth.NewSecret(strings.Repeat("k", SealKeySize))), NewSealer(auth.NewSecret(strings.Repeat("l", SealKeySize)))}

// begin starts a login.
func (m *model) begin(secret int, as string) {
	p := &pending{login: NewLogin(m.key(secret), as), as: as, secret: secret}
	if m.rng.IntN(8) > 0 { // else as if the key were lost
		p.login.Secret("dom.example", secretText(secret))
	}
	if m.rng.IntN(4) == 0 {
		p.login.RequireKnown(auth.Answer{Verdict: auth.Deny, Source: auth.SourceLimitUser})
	}
	if m.rng.IntN(4) == 0 {
		p.login.AskFirst()
	}
	step := p.login.Start(m.user, &m.rules, m.now)
	if step.Do == Compare && m.rng.IntN(2) == 0 {
		step = m.askInstead(p, step)
	}
	m.take(p, step)
}

// askInstead has a login that waits for a comparison ask, if that is possible.
func (m *model) askInstead(p *pending, step Step) Step {
	if !p.login.MayAsk() {
		return step
	}
	save := step.Save
	step = p.login.AskInstead(m.user)
	step.Save = save
	m.moved++
	p.moved, p.aside = true, true
	return step
}

func secretHash(secret, salt int) string { return fmt.Sprintf("hash-%d-%d", secret, salt) }

func hashMatches(hash string, secret int) bool {
	var s, salt int
	_, err := fmt.Sscanf(hash, "hash-%d-%d", &s, &salt)
	return err == nil && s == secret
}

func (m *model) take(p *pending, step Step) {
	m.t.Helper()
	if step.Answered {
		if p.done {
			m.t.Fatal("a login answered twice")
		}
		p.done = true
		m.check(p, step.Answer)
	}
	if step.Save && m.rules.Hashed {
		m.disk = m.user.stored()
		if slices.ContainsFunc(m.disk, func(v Verifier) bool { return v.Until != 0 || hashMatches(v.Hash, bearer) }) {
			m.t.Fatal("a bearer token is on disk")
		}
		if m.rng.IntN(4) == 0 {
			m.restart()
		}
	}
	if step.Do == Nothing {
		if !p.done {
			m.t.Fatal("a login ended without an answer")
		}
		return
	}
	if step.Do == Ask {
		p.epoch, p.who = m.epoch, m.whose(p.as, p.secret)
	}
	p.step = step
	m.open = append(m.open, p)
}

// change changes the account: no password is good until the backend, asked after that, says so.
func (m *model) change() {
	m.user.Forget()
	m.disk = nil
	m.epoch++
	clear(m.yes)
}

// restart replaces the user by the record on disk, as after an eviction from memory. Logins under
// way end all the same.
func (m *model) restart() {
	m.user = new(User)
	for _, v := range m.disk { // passhash.Check refuses the model's hashes, so Decode is not used here
		v.Key = Key{}
		m.user.Verifiers = append(m.user.Verifiers, v)
	}
	m.user.Settle(&m.rules)
}

// handOver replaces the user as an orderly restart does: every login is answered, but what follows the
// answers is not done.
func (m *model) handOver() {
	for slices.ContainsFunc(m.open, func(p *pending) bool { return !p.done || p.step.Do == Ask }) {
		m.work()
	}
	m.open = nil
	saved := m.user.Save()
	m.user = saved.user() // passhash.Check refuses the model's hashes, so User is not used here
	m.user.Settle(&m.rules)
	if m.rules.Hashed {
		m.disk = m.user.stored()
	}
}

func (m *model) check(p *pending, a auth.Answer) {
	m.t.Helper()
	m.allow[a.Source]++
	if p.moved && a.Source == auth.SourceCache {
		m.back++
	}
	if a.Source == auth.SourceLimitUser || a.Source == auth.SourceLimitBudget {
		m.limited(p, a)
	}
	if a.Verdict != auth.Allow {
		return
	}
	if want := m.whose(p.as, 0).account; a.Account != want {
		m.t.Fatalf("%v: %s logs in as %s", a.Source, p.as, a.Account)
	}
	if a.Source == auth.SourceBackend {
		return
	}
	secret := m.whose(p.as, p.secret)
	yes, ok := m.yes[secret]
	if !ok {
		m.t.Fatalf("%v: yes for a secret the backend never accepted", a.Source)
	}
	if no, refused := m.no[secret]; refused && no.seq > yes.seq {
		m.t.Fatalf("%v: yes for a secret refused since", a.Source)
	}
	age := time.Duration(m.now-yes.at) * time.Millisecond
	limit := m.rules.Verify
	if a.Source == auth.SourceGrace {
		limit = m.rules.Outage
		if p.secret == bearer {
			limit = min(limit, m.rules.Verify)
		}
	}
	if p.secret == bearer && m.now >= m.ends[secret] {
		m.t.Fatalf("%v: yes for a token that has ended", a.Source)
	}
	if age >= limit {
		m.t.Fatalf("%v: yes %v after the verification, past %v", a.Source, age, limit)
	}
}

// limited checks that no limit keeps a secret from the backend that the cache knows, and that
// none says "no" without having looked.
func (m *model) limited(p *pending, a auth.Answer) {
	m.t.Helper()
	secret := p.secret
	switch a.Verdict {
	case auth.Allow:
		m.t.Fatalf("%v says yes", a.Source)
	case auth.Unavailable:
		return
	}
	past := m.user.refusal(m.key(secret))
	for _, v := range m.user.Verifiers {
		if v.Covers(p.as) && (v.Key == m.key(secret) || v.Key == (Key{}) && hashMatches(v.Hash, secret) && (past == nil || past.standing == suspected)) {
			m.t.Fatalf("%v says no to a secret that the cache knows", a.Source)
		}
	}
}

// work does the work of one random login.
func (m *model) work() {
	i := m.rng.IntN(len(m.open))
	p := m.open[i]
	m.open = append(m.open[:i], m.open[i+1:]...)
	step := p.step
	switch step.Do {
	case Compare:
		if p.login.MayAsk() && m.rng.IntN(4) == 0 { // its turn is far away
			m.take(p, m.askInstead(p, Step{}))
			return
		}
		match := ""
		for _, h := range step.Hashes {
			if hashMatches(h, p.secret) {
				match = h
			}
		}
		ran := m.rng.IntN(5) > 0
		if !ran {
			match = ""
		}
		m.take(p, p.login.Compared(m.user, match, step.Hashes, ran, &m.rules, m.now))
	case Hash:
		hash := ""
		if m.rng.IntN(5) > 0 {
			m.seq++
			hash = secretHash(p.secret, m.seq)
		}
		m.take(p, p.login.Hashed(m.user, hash))
	case Ask:
		if p.decided == nil { // answers come in any order
			m.decide(p)
			m.open = append(m.open, p)
			return
		}
		m.deliver(p)
	}
}

// decide has the backend decide, before its answer arrives.
func (m *model) decide(p *pending) {
	m.seq++
	p.decided, p.outcome = &event{m.seq, m.now}, m.mode
	if p.outcome == Withheld && p.step.Known {
		p.outcome = Accepted
	}
	if p.outcome == Accepted && !m.valid[p.who] {
		p.outcome = Refused
	}
	p.suspect = (p.outcome == Misconfigured || p.outcome == Withheld) && m.rng.IntN(2) == 0
}

// deliver brings the backend's answer, and notes what it proves.
func (m *model) deliver(p *pending) {
	m.t.Helper()
	at, source, aside := *p.decided, auth.SourceBackend, p.aside
	p.decided, p.aside = nil, false
	switch p.outcome {
	case Accepted:
		if p.epoch == m.epoch { // else it may have been before the change
			m.yes[p.who] = event{max(at.seq, m.yes[p.who].seq), m.now}
		}
		if p.secret == bearer { // the later it is accepted, the later it ends
			m.ends[p.who] = (m.now/tokenLife + 1) * tokenLife
			p.login.Expires(m.ends[p.who])
		}
	case Withheld:
		source = auth.SourceLimitBudget
	}
	if p.suspect {
		p.login.Suspect()
	}
	if (p.outcome == Refused || p.suspect) && at.seq > m.no[p.who].seq {
		m.no[p.who] = event{at.seq, m.now}
	}
	if p.epoch != m.epoch {
		p.login.Supersede()
	}
	if p.who.by != m.by {
		p.login.Outdate()
	}
	if aside && !p.suspect && p.outcome != Accepted && p.outcome != Refused && m.rng.IntN(2) == 0 { // there are other backends
		m.take(p, p.login.Return(m.user, &m.rules, m.now))
		return
	}
	by := auth.AuthorityID{}
	if p.outcome == Accepted {
		by = authority(p.who.by)
	}
	p.login.Answers(m.name(p.as), by)
	m.take(p, p.login.BackendAnswered(m.user, p.outcome, source, &m.rules, m.now))
}

func TestPromise(t *testing.T) {
	seen := map[auth.Source]int{}
	moved, back := 0, 0
	for seed := range uint64(1600) {
		storm := seed >= 800 // all users log in after restarts, while what is stored is fresh
		m := &model{
			t: t, rng: rand.New(rand.NewPCG(seed, 1)), user: new(User), now: unixtime.At(time.Unix(1_800_000_000, 0)),
			cases: comparison(seed / 4 % uint64(comparisons)), valid: map[who]bool{{1, "vera", 0}: true, {2, "vera", 0}: true},
			yes: map[who]event{}, no: map[who]event{}, ends: map[who]unixtime.Time{}, mode: Accepted, allow: seen,
			rules: Rules{
				Hashed: seed%2 == 0, Query: time.Hour, Verify: 24 * time.Hour, Outage: 168 * time.Hour,
				Refused: []time.Duration{0, 5 * time.Minute}[seed/2%2], Exists: time.Hour, Absent: time.Minute,
				Secrets: 1 + int(seed%4), Refusals: 1 + int(seed%7), Sealer: sealers[seed/12%3],
			},
		}
		secrets := 5
		if storm {
			m.rules.Hashed, m.rules.Sealer, m.cases, secrets = true, sealers[seed/12%4/3], folding, 2
			m.valid[who{1, "vera", 1}], m.valid[who{2, "vera", 1}] = true, true
		}
		m.move()
		for range 400 {
			if storm && m.rng.IntN(12) == 0 {
				m.restart()
			}
			n := m.rng.IntN(100)
			if storm && n >= 63 && n < 66 && m.rng.IntN(16) > 0 { // changes of the account and of its authority
				n = 99
			}
			switch {
			case n < 45:
				m.begin(m.rng.IntN(secrets), spellings[m.rng.IntN(len(spellings))])
			case n < 50:
				m.valid[m.whose(spellings[m.rng.IntN(len(spellings))], m.rng.IntN(5))] = m.rng.IntN(2) == 0
			case n < 56:
				m.mode = []Outcome{Accepted, Accepted, CannotAnswer, Busy, Misconfigured, Withheld}[m.rng.IntN(6)]
			case n < 62 && storm:
				m.now += unixtime.Time(m.rng.Int64N(int64(time.Minute / time.Millisecond)))
			case n < 62:
				m.now += unixtime.Time(m.rng.Int64N(int64(time.Hour/time.Millisecond)) * []int64{1, 30, 100}[m.rng.IntN(3)])
			case n < 63:
				if m.rng.IntN(2) == 0 {
					m.restart()
				} else {
					m.handOver()
				}
			case n < 65:
				m.change()
			case n < 66:
				m.move()
			case n < 67:
				m.rules.Sealer = sealers[m.rng.IntN(len(sealers))]
			default:
				if len(m.open) > 0 {
					m.work()
				}
			}
			for len(m.open) > 8 { // no question takes for ever
				m.work()
			}
		}
		for len(m.open) > 0 {
			m.work()
		}
		moved, back = moved+m.moved, back+m.back
	}
	if moved < 100 || back < 20 {
		t.Errorf("%d questions in place of a comparison, of which %d were compared after all: it proves nothing", moved, back)
	}
	for _, s := range []auth.Source{auth.SourceHot, auth.SourceCache, auth.SourceGrace, auth.SourceBackend, auth.SourceRefusedBefore,
		auth.SourceLimitUser, auth.SourceLimitBudget} {
		if seen[s] < 20 {
			t.Errorf("the model hardly ever answered from %v (%d times): it proves nothing", s, seen[s])
		}
	}
}
