// Package pipes tests `postern pipe`, the compatibility mode under the names of xcauth and
// ejabberd-auth, and the broker that they share.
package pipes

import (
	"testing"

	"postern/cmd/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
