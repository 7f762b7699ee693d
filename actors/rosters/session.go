package rosters

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/actors/domain"
	"postern/actors/slots"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/roster"
	"postern/internal/store"
)

// outagesInRow failed questions in a row end the questions of a run. The backend is asked again after
// a pause.
const outagesInRow = 2

// errNoGroups means that no backend of the domain has groups of a user.
var errNoGroups = errors.New("no backend of the domain has shared rosters of this user")

// session is exclusive access to the XMPP server of a domain block, with the configuration that was
// in force at its start. It must be released.
type session struct {
	roster *Roster
	domain *domain.Domain // acquired
	config *domain.Roster
	store  store.Store
}

// newSession waits until no other session is open. The error wraps ErrNone, errNoStore or the
// error of ctx.
func (r *Roster) newSession(ctx context.Context) (*session, error) {
	select {
	case r.server <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("another run for the shared rosters of %s is under way: try again: %w", r.Name, ctx.Err())
	}
	s := &session{roster: r}
	for s.domain = r.current(); s.domain != nil && !s.domain.Acquire(); s.domain = r.current() {
		// A reload has just replaced it.
	}
	if s.domain == nil {
		<-r.server
		return nil, fmt.Errorf("%s: %w", r.Name, ErrNone)
	}
	s.config = s.domain.Roster
	disk := r.env.Disk()
	switch {
	case s.config == nil:
		s.release()
		return nil, fmt.Errorf("%s: %w", r.Name, ErrNone)
	case disk == nil:
		s.release()
		return nil, errNoStore
	}
	s.store = disk.Store()
	return s, nil
}

// release lets the next session begin.
func (s *session) release() {
	s.domain.Release()
	<-s.roster.server
}

// state is the stored state of one domain.
func (s *session) state(domain string) roster.State {
	return roster.State{Store: s.store, Domain: domain}
}

// fetched is what the backends answered about the users of a batch.
type fetched struct {
	desired *roster.Desired
	asked   int             // the first asked users of the batch were asked about
	failed  []auth.Identity // those of them without an answer
}

// fetch asks the backends about each user of a batch, until they stop answering. Answers that have
// been carried out already are left out of desired, unless all is set. After an error of the
// store, every user counts as failed.
func (s *session) fetch(ctx context.Context, state roster.State, batch []auth.Identity, all bool) (f fetched, err error) {
	f.desired = roster.NewDesired(state, &s.config.Filter)
	outages, last := 0, roster.Answer{}
	for _, id := range batch {
		if outages >= outagesInRow || ctx.Err() != nil {
			return f, nil
		}
		f.asked++
		document, aliases, err := s.fetchDocument(ctx, id)
		if err != nil {
			s.roster.env.Log.Debug("no shared roster from the backends", "domain", id.Domain, "user", id.User, "err", err)
		}
		if err != nil && !errors.Is(err, errNoGroups) {
			outages++
			f.failed = append(f.failed, id)
			continue
		}
		outages = 0
		if err != nil {
			continue
		}
		known, err := state.User(id)
		if err != nil {
			f.asked, f.failed = len(batch), batch
			return f, err
		}
		hash := roster.HashOf(document, &s.config.Filter)
		if known.Hash == hash && !all {
			continue
		}
		if hash != last.Hash { // members of the same groups often get the same answer
			answer, err := s.parse(document, id.Domain, aliases)
			if err != nil {
				if suppressed, ok := s.roster.answerLog.Due(time.Now()); ok {
					s.roster.env.Log.Warn("shared roster of the backend makes no sense", "domain", id.Domain, "user", id.User, "err", err, "alike", suppressed)
				}
				continue
			}
			answer.Hash = hash
			last = answer
		}
		f.desired.Add(id, last)
	}
	return f, nil
}

// parse reads an answer. Its accounts have the names of the XMPP server.
func (s *session) parse(document []byte, domain string, aliases []string) (roster.Answer, error) {
	if s.domain.Unescape {
		return roster.ParseEscaping(document, domain, aliases...)
	}
	return roster.Parse(document, domain, aliases...)
}

// fetchDocument asks the domain's backends in turn for a user's roster. It returns the document and
// the domain's names at the backend that gave it. If a backend cannot answer, the ones after it are
// not asked: the user may be its own, and the groups of another one would replace the user's.
func (s *session) fetchDocument(ctx context.Context, id auth.Identity) (document []byte, aliases []string, err error) {
	chain := backend.NewChain(auth.OpRoster)
	user := id.User
	if s.domain.Unescape {
		if user, err = auth.UnescapeUser(user); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errNoGroups, err)
		}
	}
	for _, h := range s.domain.Hops {
		q := backend.Query{Op: auth.OpRoster, User: user, Domain: h.AuthDomain}
		aliases = nil
		if q.Domain == "" {
			q.Domain = id.Domain
		} else {
			aliases = []string{q.Domain}
		}
		result := s.ask(ctx, h.Backend, q)
		switch result.Class {
		case backend.Outage, backend.Throttled, backend.Misconfigured:
			return nil, nil, result.Err
		}
		if chain.Add(result) {
			break
		}
	}
	switch result := chain.Result(); {
	case result.Class == backend.Accepted:
		return result.Body, aliases, nil
	case result.Err != nil:
		return nil, nil, fmt.Errorf("%w: %w", errNoGroups, result.Err)
	}
	return nil, nil, errNoGroups
}

// A backend with all its slots taken by logins is asked again after a short pause. After a minute of
// that it counts as one that cannot answer.
const (
	busyPause = 50 * time.Millisecond
	busyTries = int(time.Minute / busyPause)
)

// errBusyBackend means that logins took all slots of the backend.
var errBusyBackend = errors.New("the backend is busy with logins")

// ask puts a question to a backend as soon as one of its slots is free, and waits for the answer.
func (s *session) ask(ctx context.Context, b *slots.Backend, q backend.Query) (result backend.Result) {
	for range busyTries {
		result = s.askOnce(ctx, b, q)
		if result.Class != backend.Outage || result.Err != nil {
			return result
		}
		result.Err = errBusyBackend
		select {
		case <-time.After(busyPause):
		case <-ctx.Done():
			return result
		}
	}
	return result
}

// askOnce puts a question to a backend. The result is an outage without an error if no slot was
// free.
func (s *session) askOnce(ctx context.Context, b *slots.Backend, q backend.Query) backend.Result {
	answer := make(chan backend.Result, 1)
	b.Ref.Send(&slots.Question{
		Query: q, Deadline: time.Now().Add(askTimeout), Background: true,
		Reply: func(reply slots.Reply) {
			select {
			case answer <- reply.Result:
			default:
			}
		},
	})
	select {
	case result := <-answer:
		return result
	case <-ctx.Done():
		return backend.Result{Class: backend.Outage, Err: ctx.Err()}
	}
}
