// Package nodes tests several brokers beside one shared store: what one of them learns of an account, the others
// know.
package nodes

import (
	"testing"

	"postern/cmd/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
