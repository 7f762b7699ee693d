package front

import (
	"postern/actors/call"
	"postern/actors/changes"
	"postern/internal/auth"
	"postern/wire"
)

// maxReports bounds, in bytes, the reports that a peer has not taken. One that reads so little is
// disconnected: it asks again for what it missed.
const maxReports = 1 << 20

var _ changes.Watcher = (*conn)(nil)

// watch has changes of a domain reported once the answer, which has been encoded, says so.
func (c *conn) watch(call *call.Call, a auth.Answer) {
	if _, ok := c.codec.(wire.Reporter); !ok || a.Verdict != auth.Allow {
		return
	}
	c.unwatch() // a connection watches one domain
	c.reporting.Lock()
	c.watched = call.ID.Domain
	c.reporting.Unlock()
	c.server.changes.Watch(call.ID.Domain, call.Req.Since, c)
}

func (c *conn) unwatch() {
	c.reporting.Lock()
	domain := c.watched
	c.watched = ""
	c.reporting.Unlock()
	if domain != "" {
		c.server.changes.Unwatch(domain, c)
	}
}

// Changed implements changes.Watcher.
func (c *conn) Changed(change changes.Change) {
	c.reporting.Lock()
	c.reports = c.codec.(wire.Reporter).AppendChange(c.reports, byte(change.Kind), change.At, c.server.router.XMPPUser(change.ID))
	over := len(c.reports) > maxReports
	c.reporting.Unlock()
	if over {
		_ = c.socket.Close()
	}
	c.worker.wake()
}

// encodeReports puts the reports behind the answers that are encoded.
func (c *conn) encodeReports() {
	c.reporting.Lock()
	defer c.reporting.Unlock()
	c.pending = append(c.pending, c.reports...)
	c.reports = nil
}
