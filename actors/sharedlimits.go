package actors

import (
	"crypto/sha256"
	"time"

	"postern/internal/config"
	"postern/internal/limit"
	"postern/internal/store"
	"postern/internal/unixtime"
)

// share has refusals counted together with the other processes beside a shared store.
func (b *Broker) share(cfg *config.Config) {
	disk := b.env.Disk()
	if disk == nil || disk.Shared() == nil {
		return
	}
	news := store.NewNews(disk.Shared(), b.env.Log, b.learn)
	b.news.Store(news)
	b.env.SetPeers(&limit.Peers{
		Seed: limit.Seed(sha256.Sum256([]byte("refusals\x00" + cfg.Store.Prefix + "\x00" + cfg.Store.Password.Reveal()))),
		Send: func(e *limit.Event) { news.Send(e.Encode()) },
	})
}

// learn counts what another process has sent some time ago.
func (b *Broker) learn(data []byte, age time.Duration) {
	e, err := limit.DecodeEvent(data)
	if err != nil { // of another version of postern
		return
	}
	switch e.What {
	case limit.RefusedUser, limit.ForgetUser:
		from := b.shards.Addresses.Number(e.From)
		for _, be := range b.table.AllBackends() {
			if be.Identity() == e.Backend {
				be.Learn(e, from, age)
			}
		}
	default:
		if !e.From.IsValid() {
			return
		}
		now := unixtime.At(b.env.Clock())
		if b.shards.Addresses.Learn(e, now.Add(-age), now) {
			b.env.Log.Warn("client address limited: too many wrong passwords came to all machines together", "client", e.Name, "refusals", e.Rules.Refusals, "within", e.Rules.Window)
		}
	}
}

// unshare ends that.
func (b *Broker) unshare() {
	if news := b.news.Swap(nil); news != nil {
		news.Close()
	}
}
