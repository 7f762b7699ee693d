// Package pages tests the pages of the web block as they are served: over HTTP, and in a browser.
package pages

import (
	"testing"

	"postern/cmd/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
