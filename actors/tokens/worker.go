// Package tokens verifies time-limited tokens, offline, and keeps what single-use tokens were used.
package tokens

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"postern/actors/call"
	"postern/actors/domain"
	"postern/actors/env"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/store"
	"postern/internal/token"
)

// mailboxLimit bounds the queue of a worker. What one domain may have under way is bounded by its
// router.
const mailboxLimit = 1 << 16

// Workers are the token workers of the process. A user's tokens are always verified by the same one.
type Workers struct {
	env    env.Env
	refs   []*supervise.Ref
	memory []*usedTokens // of each worker: it outlives restarts of its actor
}

// Start starts n workers. A call that brings no token is sent on to next.
func Start(e env.Env, n int, next func(hash uint64) *supervise.Ref) (*Workers, error) {
	w := &Workers{env: e}
	for i := range n {
		used := newUsedTokens()
		ref, err := e.System.Spawn(fmt.Sprintf("token%d", i), mailboxLimit, func(self *supervise.Ref) actor.Actor {
			return &worker{env: e, self: self, used: used, next: next}
		})
		if err != nil {
			return nil, err
		}
		w.refs, w.memory = append(w.refs, ref), append(w.memory, used)
	}
	return w, nil
}

// Ref returns the worker of a user.
func (w *Workers) Ref(hash uint64) *supervise.Ref { return w.refs[hash%uint64(len(w.refs))] }

// Stop ends the workers.
func (w *Workers) Stop() {
	for _, ref := range w.refs {
		ref.Stop()
		<-ref.Stopped()
	}
}

// worker is the actor of a share of the users.
type worker struct {
	env  env.Env
	self *supervise.Ref
	used *usedTokens
	next func(hash uint64) *supervise.Ref
}

// Receive implements actor.Actor.
func (w *worker) Receive(ctx actor.Context) {
	if c, ok := ctx.Message().(*call.Call); ok {
		w.onCall(c)
	}
}

// signed are the identities that an issuer may have signed: with the user as the backend has it, or as
// the XMPP server does.
func signed(c *call.Call) (ids [2]auth.Identity, n int) {
	id := c.Asked()
	ids[0], ids[1] = id, auth.Identity{User: c.Domain.XMPPUser(id.User), Domain: id.Domain}
	if ids[0] == ids[1] {
		return ids, 1
	}
	return ids, 2
}

func (w *worker) onCall(c *call.Call) {
	text, now, d := c.Req.Secret.Reveal(), w.env.Clock(), c.Domain
	refuse := func(reason string) {
		c.Answer(auth.Answer{Verdict: auth.Deny, Source: auth.SourceToken, Reason: reason})
	}
	ids, n := signed(c)
	if d.JSXC != nil && token.LooksJSXC(text) {
		status := token.NotToken
		for _, id := range ids[:n] {
			if status = d.JSXC.Verify(id, text, now); status != token.Invalid {
				break
			}
		}
		c.Trace.Add("token", "jsxc: "+status.String())
		switch status {
		case token.Valid:
			if a, ok := w.vouch(c); ok {
				c.Answer(a)
			}
			return
		case token.Expired:
			refuse("expired token")
			return
		}
	}
	if d.TOTP != nil && token.LooksTOTP(text) {
		var status token.Status
		var nonce token.Nonce
		for _, id := range ids[:n] {
			if status, nonce = d.TOTP.Verify(id, text, now); status != token.Invalid {
				break
			}
		}
		c.Trace.Add("token", "totp: "+status.String())
		switch status {
		case token.Valid:
			if a, ok := w.vouch(c); ok && a.Verdict == auth.Allow {
				w.useOnce(c, nonce, a)
			} else if ok {
				c.Answer(a)
			}
			return
		case token.Expired:
			refuse("expired token, or the issuer has another clock or seed")
			return
		case token.OtherNonce:
			w.otherNonce(d, text)
			refuse("token with a nonce of another length than nonce_digits")
			return
		}
	}
	// It only looked like a token: it is a password like any other.
	w.self.Forward(w.next(c.Hash), c)
}

// vouch returns the answer to a valid token. Where the domain has conditions on groups it is false at first: the call
// goes to the shard that knows the account, and comes again.
func (w *worker) vouch(c *call.Call) (a auth.Answer, ok bool) {
	if c.Domain.Rules.Allow != nil && c.Standing == nil {
		c.Prover = w.self
		w.self.Forward(w.next(c.Hash), c)
		return a, false
	}
	return c.Vouched(auth.SourceToken), true
}

// otherNonce logs what to configure if the issuer writes nonces of another length.
func (w *worker) otherNonce(d *domain.Domain, text string) {
	info, err := token.InspectTOTP(text)
	if err != nil {
		return
	}
	if suppressed, ok := d.NonceLog.Due(w.env.Clock()); ok {
		w.env.Log.Warn(fmt.Sprintf("refused a one-time token whose nonce has %d digits in place of %d; if your issuer writes them so, "+
			"add nonce_digits = %d to the block token \"totp\"", info.NonceDigits, d.TOTP.NonceDigits(), info.NonceDigits),
			"domain", d.Name, "suppressed", suppressed)
	}
}

// useOnce answers a valid single-use token with a yes. The nonce is remembered in memory at once, so
// that the same token is refused from here on, and on disk before the answer, so that a
// restart of the process does not open it again.
//
// Beside a shared store, that alone says whether the token was used: on whichever node.
func (w *worker) useOnce(c *call.Call, nonce token.Nonce, yes auth.Answer) {
	if disk := w.env.Disk(); disk != nil && disk.Shared() != nil {
		w.claim(c, disk.Shared(), nonce, yes)
		return
	}
	fresh, full := w.used.use(nonce, w.env.Clock())
	disk := w.env.Disk()
	switch {
	case full:
		w.env.Log.Error("memory of used tokens is full; refusing single-use tokens for a moment", "domain", c.Domain.Name)
		c.Unavailable(auth.SourceOverload)
	case !fresh:
		usedBefore(c)
	case disk != nil: // also where no password is kept: what is stored contains no name
		log := w.env.Log
		key, value := nonceRecord(nonce)
		disk.PutDurably(key, value, func(err error) {
			if errors.Is(err, store.ErrBusy) {
				c.Unavailable(auth.SourceOverload)
				return
			}
			if err != nil {
				log.Error("used token could not be stored; it could be used again if postern restarts within its window", "err", err)
			}
			c.Answer(yes)
		})
	default:
		c.Answer(yes)
	}
}

func usedBefore(c *call.Call) {
	c.Trace.Add("token", "totp: already used")
	c.Answer(auth.Answer{Verdict: auth.Deny, Source: auth.SourceToken, Reason: "single-use token that was used before"})
}

// claim answers a valid single-use token with a yes if no node has had it before. Where the store cannot say so, that
// is a temporary failure.
func (w *worker) claim(c *call.Call, shared store.Shared, nonce token.Nonce, yes auth.Answer) {
	log, now, domain := w.env.Log, w.env.Clock(), c.Domain.Name
	w.env.System.Go(func() {
		ctx, cancel := context.WithDeadline(w.env.Context, c.Deadline)
		defer cancel()
		key, value := nonceRecord(nonce)
		first, err := shared.Claim(ctx, key, value, time.Unix(nonce.Expires, 0).Sub(now)+claimSpare)
		switch {
		case err != nil:
			log.Warn("a single-use token cannot be told from one that was used", "domain", domain, "err", err)
			c.Trace.Add("token", "totp: "+err.Error())
			c.Answer(auth.Answer{Source: auth.SourceStore, Reason: "the store cannot say whether the token was used"})
		case first:
			c.Answer(yes)
		default:
			usedBefore(c)
		}
	})
}

// claimSpare is how long a used token is known beyond its end: the clocks of the nodes and the store differ.
const claimSpare = 10 * time.Minute
