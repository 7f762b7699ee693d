package protocol

import "testing"

func TestTable(t *testing.T) {
	seen := map[string]bool{"": true}
	for _, spec := range Table {
		for _, name := range []string{string(spec.Name), spec.Alias} {
			if name != "" && seen[name] {
				t.Errorf("%s stands for two protocols", name)
			}
			seen[name] = true
		}
		if got, ok := Find(spec.Name); !ok || got != spec {
			t.Errorf("Find(%s) = %+v, %v", spec.Name, got, ok)
		}
		if got, ok := FindAlias(spec.Alias); ok != (spec.Alias != "") || ok && got != spec {
			t.Errorf("FindAlias(%q) = %+v, %v", spec.Alias, got, ok)
		}
		if spec.Deadline <= 0 || spec.MaxFrame <= 0 || spec.PeerTimeout > 0 && spec.Deadline >= spec.PeerTimeout {
			t.Errorf("%s: deadline %v, peers wait for %v, frames of %d", spec.Name, spec.Deadline, spec.PeerTimeout, spec.MaxFrame)
		}
	}
	if _, ok := Find(""); ok {
		t.Error("there is a protocol without a name")
	}
}
