package actors

import (
	"errors"

	"github.com/asynkron/protoactor-go/actor"

	"postern/internal/auth"
	"postern/internal/store"
	"postern/internal/token"
)

// maxNonces bounds the memory of used single-use tokens of one share of the users, over all
// domains. When it is full of live ones, further tokens are answered "cannot tell": forgetting
// one would let it be used twice.
const maxNonces = 1 << 18

// tokenRef is a token worker as the rest of the broker sees it. It outlives restarts of its
// actor. The memory of used nonces outlives even the domain: neither a restart nor a reload may
// open a token again.
type tokenRef struct {
	*domain
	pid    *actor.PID
	replay *replay
}

func (t *tokenRef) send(c *Call) { t.broker.sys.Root.Send(t.pid, c) }

// tokenWorker verifies time-limited tokens, offline.
type tokenWorker struct{ *tokenRef }

// Receive implements actor.Actor.
func (t *tokenWorker) Receive(ctx actor.Context) {
	if c, ok := ctx.Message().(*Call); ok {
		t.onCall(c)
	}
}

func (t *tokenWorker) onCall(c *Call) {
	text, now := c.Req.Secret.Reveal(), t.broker.clock()
	p := t.params.Load()
	if p.jsxc != nil && token.LooksJSXC(text) {
		status := p.jsxc.Verify(c.ID, text, now)
		c.Trace.Add("token", "jsxc: "+status.String())
		if status == token.Valid {
			c.Answer(auth.Answer{Verdict: auth.Allow, Source: auth.SourceToken})
			return
		}
	}
	if p.totp != nil && token.LooksTOTP(text) {
		status, nonce := p.totp.Verify(c.ID, text, now)
		c.Trace.Add("token", "totp: "+status.String())
		if status == token.Valid {
			t.useOnce(c, nonce)
			return
		}
	}
	// It only looked like a token: it is a password like any other.
	c.stage = stageHot
	t.shardOf(c.hash).send(c)
}

// useOnce answers a valid single-use token. The nonce is remembered in memory at once, so
// that the same token is refused from here on, and on disk before the answer, so that a
// restart of the process does not open it again.
func (t *tokenWorker) useOnce(c *Call, nonce token.Nonce) {
	fresh, full := t.replay.use(nonce, t.broker.clock())
	disk := t.broker.disk.Load()
	switch {
	case full:
		t.log.Error("memory of used tokens is full; refusing single-use tokens for a moment", "domain", t.name)
		c.Fail(auth.SourceOverload)
	case !fresh:
		c.Trace.Add("token", "totp: already used")
		c.Answer(auth.Answer{Verdict: auth.Deny, Source: auth.SourceToken})
	case t.params.Load().disk && disk != nil:
		log := t.log
		disk.journal.Apply(nonceOps(nonce), func(err error) {
			if errors.Is(err, store.ErrBusy) {
				c.Fail(auth.SourceOverload)
				return
			}
			if err != nil {
				log.Error("used token could not be stored; it could be used again if postern restarts within its window", "err", err)
			}
			c.Answer(auth.Answer{Verdict: auth.Allow, Source: auth.SourceToken})
		})
	default:
		c.Answer(auth.Answer{Verdict: auth.Allow, Source: auth.SourceToken})
	}
}
