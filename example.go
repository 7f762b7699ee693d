// Package postern holds files from the root of the source tree that the programs contain.
package postern

import _ "embed"

// Example is config.hcl.example, a configuration that shows and explains every attribute.
//
//go:embed config.hcl.example
var Example string
