package actors

import (
	"fmt"
	"testing"
	"time"

	"postern/internal/auth"
)

// Refusals of another server count for the limit of an address as ours do, a password once; a domain that is not served
// has none.
func TestRefusedElsewhere(t *testing.T) {
	r := newRig(t, withLimits)
	d := dispatcher{r.Broker}
	joe := auth.Identity{User: "joe", Domain: "dom.example"}
	for range 20 {
		d.Refused("http", joe, "192.0.2.1", "the same")
		d.Refused("http", auth.Identity{User: "joe", Domain: "other.example"}, "192.0.2.2", fmt.Sprint(time.Now()))
	}
	for i := range 5 {
		if d.Limited(joe, "192.0.2.1") {
			t.Fatalf("limited after %d", i+1)
		}
		d.Refused("http", auth.Identity{User: fmt.Sprint("user", i), Domain: "dom.example"}, "192.0.2.1", "x")
	}
	if !d.Limited(joe, "192.0.2.1") || d.Limited(joe, "192.0.2.2") || d.Limited(joe, "no address") ||
		d.Limited(auth.Identity{User: "joe", Domain: "other.example"}, "192.0.2.1") {
		t.Error("not the address that has guessed is limited")
	}
	r.want(r.ask(from("192.0.2.1", guess("ann", 1))), auth.Unavailable, byAddress)
	r.clock.advance(3 * time.Second)
	if d.Limited(joe, "192.0.2.1") {
		t.Error("limited after the pause")
	}
	if got := r.events(); len(got) != 1 || got[0].Client != "192.0.2.1" || got[0].Front != "http" || got[0].Action != "address" {
		t.Errorf("%+v", got)
	}
}
