package memory

import (
	"context"
	"strings"

	"postern/actors/call"
	"postern/actors/domain"
	"postern/internal/apppassword"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/cache"
	"postern/internal/scram"
	"postern/internal/unixtime"
)

// onSASL takes a message of SCRAM. The first is answered by computation alone, whether there is such an account
// or not. The last goes the way of a password, with its proof in place of one: the same limits, rules and
// backends. Only memory has no part in it.
func (s *shard) onSASL(c *call.Call, d *domain.Domain, sp *space) {
	switch {
	case d.Scram == nil:
		s.answer(c, sp, auth.Answer{Verdict: auth.Unsupported, Source: auth.SourceUnsupported, Reason: "the domain does not offer SCRAM"})
	case c.Req.Op == auth.OpScram:
		s.challenge(c, d, sp)
	case c.Proof != nil || s.readProof(c, d, sp):
		s.prove(c, d, sp)
	}
}

// scramClient is what a login by SCRAM is about.
func scramClient(c *call.Call, d *domain.Domain) *scram.Client {
	return &scram.Client{ID: c.ID, Mechanism: c.Req.SASL.Mechanism, Salt: d.Scram.Salt(c.ID)}
}

// challenge answers a client's first message.
func (s *shard) challenge(c *call.Call, d *domain.Domain, sp *space) {
	client := scramClient(c, d)
	if c.Req.SASL.Bindings != "" {
		client.Bindings = strings.Split(c.Req.SASL.Bindings, ",")
	}
	challenge, state, err := s.sealer.Begin(client, c.Req.Secret.Reveal(), unixtime.At(s.env.Clock()))
	if err != nil {
		s.answer(c, sp, auth.Answer{Verdict: auth.Deny, Source: auth.SourceScram, Reason: err.Error()})
		return
	}
	s.answer(c, sp, auth.Answer{Verdict: auth.Allow, Source: auth.SourceScram, Body: []byte(challenge + " " + state)})
}

// readProof reads a client's last message, and ends its exchange. If it is false, the call has its answer: a temporary
// failure if the exchange says nothing of the secret.
func (s *shard) readProof(c *call.Call, d *domain.Domain, sp *space) bool {
	now := unixtime.At(s.env.Clock())
	e, err := s.sealer.Open(scramClient(c, d), c.Req.SASL.State, now)
	if err == nil {
		err = s.spent.Add(e.Nonce(), now)
	}
	if err != nil {
		s.answer(c, sp, auth.Answer{Source: auth.SourceScram, Reason: err.Error()})
		return false
	}
	if c.Proof, err = e.Finish(c.Req.Secret.Reveal(), c.Req.SASL.Binding); err != nil {
		s.answer(c, sp, auth.Answer{Verdict: auth.Deny, Source: auth.SourceScram, Reason: err.Error()})
		return false
	}
	return true
}

// prove compares a proof with the app passwords of the account, and then asks the backends.
func (s *shard) prove(c *call.Call, d *domain.Domain, sp *space) {
	if d.AppPasswords == nil {
		s.beginProof(c, d, sp)
	} else if account, held := s.apps.get(c.ID); held {
		s.appProof(c, d, sp, account, nil)
	} else {
		s.onAppWork(&appLogin{call: c})
	}
}

// appProof is appLogin for a proof. Which secret it is of is not known if it is of no app password.
func (s *shard) appProof(c *call.Call, d *domain.Domain, sp *space, account *apppassword.Account, standing *auth.Answer) {
	now := unixtime.At(s.env.Clock())
	p, signature, status := account.Prove(d.AppPasswords.Key, d.AppAccount(c.Name), c.Proof, c.Service, now)
	switch {
	case status == apppassword.Valid:
		c.Signature = signature
		s.appStanding(c, d, sp, p, standing, now)
	case status == apppassword.Unknown && d.Own(c.Service):
		s.beginProof(c, d, sp)
	case status == apppassword.Unknown:
		s.unknownApp(c, d, sp, now)
	default:
		s.answerApp(c, sp, apppassword.Refused(status, p, c.Service))
	}
}

// beginProof asks the backends about a proof.
func (s *shard) beginProof(c *call.Call, d *domain.Domain, sp *space) {
	if d.Scram.Hidden {
		s.answer(c, sp, auth.Answer{Source: auth.SourceScram, Reason: "a backend has passwords that postern does not know"})
		return
	}
	s.begin(c, d, sp)
}

// concludeProof gives a login by SCRAM the combined result of its backends. Nothing of the proof is remembered.
func (s *shard) concludeProof(o *outcome, d *domain.Domain, sp *space, user *cache.User, result backend.Result, now unixtime.Time) {
	t := o.task
	name, _ := s.noteLogin(t, d, sp, user, result, now)
	a := auth.Answer{Source: o.reply.Source}
	switch result.Class {
	case backend.Accepted:
		a.Verdict, a.Account, a.Body, a.Groups = auth.Allow, name.Account, result.Body, result.Groups
	case backend.Refused:
		a.Verdict = auth.Deny
	case backend.Unsupported:
		a.Verdict, a.Source = auth.Unsupported, auth.SourceUnsupported
	}
	if t.withheld != auth.SourceNone && a.Verdict == auth.Unavailable {
		a.Source = t.withheld
	}
	s.note(t.call, sp, a)
	s.finish(t, sp, a, false)
}

// learnApp has the SCRAM keys of an app password made that was accepted as a password, and stores them.
func (s *shard) learnApp(c *call.Call, d *domain.Domain) {
	salt, owner, secret, shards := d.Scram.Salt(c.Asked()), d.AppAccount(c.Name), c.Req.Secret.Reveal(), s.Shards
	job := hashJob{
		id: auth.Identity{User: c.ID.User, Domain: d.Name}, rounds: keyRounds, patience: hashPatience, failed: func() {},
		run: func() { shards.storeKeys(c.ID, d.AppPasswords.Key, owner, secret, salt, func(error) {}) },
	}
	_ = s.Hashing.submit(job, false) // else at the next login
}

// keyRounds is about the work of making the keys of an app password, as a cost of bcrypt.
const keyRounds = 1 << 8

// storeKeys makes the SCRAM keys of an app password and stores them. done is called once, and must not block.
func (p *Shards) storeKeys(id auth.Identity, key *apppassword.Key, owner, text string, salt scram.Salt, done func(error)) {
	secret, ok := apppassword.Parse(text)
	if !ok {
		done(nil)
		return
	}
	keys, err := secret.Keys(salt)
	if err != nil {
		done(err)
		return
	}
	p.Ref(p.Hash(id)).Send(&appChange{id: id, done: done, run: func(a *apppassword.Account) (bool, error) {
		return a.SetKeys(key, id.Domain, owner, secret, keys), nil
	}})
}

// StoreKeys does the same for an account by a domain's block, and waits.
func (p *Shards) StoreKeys(ctx context.Context, d *domain.Domain, id auth.Identity, secret auth.Secret) error {
	done := make(chan error, 1)
	p.storeKeys(id.Fold(), d.AppPasswords.Key, d.AppAccount(id.User), secret.Reveal(), d.Scram.Salt(id), func(err error) { done <- err })
	return await(ctx, done)
}
