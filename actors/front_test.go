package actors

import (
	"fmt"
	"strings"
	"testing"
)

func TestGenericPipelineKeepsOrder(t *testing.T) {
	r := newRig(t, nil)
	address := r.listen(listenerBlock("generic"))
	var in, want strings.Builder
	for i := range 100 {
		switch i % 5 {
		case 0:
			fmt.Fprintf(&in, "auth:user%d:dom.example:good\n", i)
			want.WriteString("1\n")
		case 1:
			fmt.Fprintf(&in, "auth:user%d:dom.example:bad\n", i)
			want.WriteString("0\n")
		case 2:
			fmt.Fprintf(&in, "isuser:user%d:dom.example\n", i)
			want.WriteString("1\n")
		case 3:
			fmt.Fprintf(&in, "nonsense %d\n", i)
			want.WriteString("0\n")
		case 4:
			fmt.Fprintf(&in, "roster:user%d:dom.example\n", i)
			want.WriteString("{\"result\":\"success\"}\n")
		}
	}
	if got := r.exchange(address, in.String()); got != want.String() {
		t.Errorf("got %q, want %q", got, want.String())
	}
}
