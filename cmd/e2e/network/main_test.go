// Package network tests brokers on machines of their own, with a network between them and their shared store that can be
// cut: each is in a network namespace, with a cable to a bridge. The namespaces are those of the test program, and end
// with it.
package network

import (
	"testing"

	"postern/cmd/e2e/harness"
)

func TestMain(m *testing.M) { harness.ServersMain(m) }
