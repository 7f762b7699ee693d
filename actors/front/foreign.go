package front

import (
	"time"

	"postern/actors/call"
	"postern/internal/auth"
	"postern/wire"
)

// suspectTime is how long the rest of a first frame may take that looks like another protocol's.
const suspectTime = time.Second

// maxGarbled is after how many lines in a row without sense a connection is closed.
const maxGarbled = 3

// foreign reports whether the connection's first bytes are another protocol's; that is logged then.
func (r *reader) foreign() bool {
	first := r.buf[r.start:r.end]
	if len(first) == 0 {
		return false
	}
	f, ok := wire.Recognise(wire.Protocol(r.params.Protocol), first)
	if suspect := ok && !f.Sure; suspect != r.suspect {
		r.suspect, r.timed = suspect, false // for another read deadline
	}
	if !ok || r.suspect {
		return false
	}
	r.reportForeign(f)
	return true
}

// giveUp logs that a first frame which looks like another protocol's has not become one of the
// listener's.
func (r *reader) giveUp() {
	if !r.suspect || r.known || r.ending() {
		return
	}
	if f, ok := wire.Recognise(wire.Protocol(r.params.Protocol), r.buf[r.start:r.end]); ok {
		r.reportForeign(f)
	}
}

// reportForeign writes the one line about a peer with another protocol.
func (r *reader) reportForeign(f wire.Foreign) {
	where := "no listener of postern"
	if f.Wants != "" {
		where = r.server.listenersOf(f.Wants)
	}
	r.server.env.Log.Warn("another protocol than the listener's; the connection is closed",
		"listener", r.params.Name, "protocol", r.params.Protocol, "peer", r.Peer(), "looks_like", f.Looks, "belongs_to", where)
}

// listenersOf names the listeners of a protocol, with their addresses.
func (s *Server) listenersOf(p wire.Protocol) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := ""
	for _, l := range s.listeners {
		if cfg := l.params.Load(); cfg.Protocol == string(p) {
			if names != "" {
				names += ", "
			}
			at := l.socket.Addr().String()
			if cfg.Network == "unix" { // its file was made under another name
				at = cfg.Address
			}
			names += cfg.Name + " at " + at
		}
	}
	if names == "" {
		return "a listener with protocol = \"" + string(p) + "\", which is not configured"
	}
	return names
}

// nonsense counts the lines in a row that are no request at all, and reports whether they are too
// many. Requests about names that are not valid do not count: servers pass on what users type.
func (r *reader) nonsense(c *call.Call, event wire.Event) bool {
	req := &c.Req
	line := r.params.Protocol == string(wire.Generic) && req.User == "" && req.Domain == "" ||
		r.params.Protocol == string(wire.TCPTable) && req.Op == auth.OpNone
	if event != wire.Refuse || !line {
		r.garbled = 0
		return false
	}
	if r.garbled++; r.garbled < maxGarbled {
		return false
	}
	r.server.env.Log.Warn("lines that are no requests; the connection is closed",
		"listener", r.params.Name, "protocol", r.params.Protocol, "peer", r.Peer(), "lines", r.garbled)
	return true
}
