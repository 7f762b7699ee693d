package actors

import (
	"fmt"
	"testing"
)

// lineProtocols are those that carry many requests on one connection.
var lineProtocols = []string{"generic", "ejabberd", "tcp_table", "socketmap"}

// TestPipelining sends 100 requests of every kind in one write. Some answers become ready later than
// those behind them. A pipeline of 1 or 2 runs out of credits all the time.
func TestPipelining(t *testing.T) {
	for _, protocol := range lineProtocols {
		for _, via := range transports {
			for _, pipeline := range []int{1, 2, 64} {
				t.Run(fmt.Sprintf("%s/%s/%d", protocol, via.name, pipeline), func(t *testing.T) {
					r := newRig(t, func(s *setup) {
						s.fake.ask = new(relay).ask
						s.cfg.Backends[0].Slots = 128 // questions that wait must leave room for those that end the wait
					})
					cfg := listenerBlock(protocol)
					cfg.Pipeline = pipeline
					in, want := script(protocol, mixture(protocol, 100, pipeline > 1))
					same(t, via.carry(r, cfg, in), want)
				})
			}
		}
	}
}
