// Package postern holds files from the root of the source tree that the programs contain.
package postern

import (
	_ "embed"
	"regexp"
)

// Example is config.hcl.example, a configuration that shows and explains every attribute.
//
//go:embed config.hcl.example
var Example string

// FullExample returns Example with nothing commented out. What needs a decision is commented out there,
// by a # without a space after it; inside a block that is commented out as a whole two or more follow.
func FullExample() string {
	text := regexp.MustCompile(`(?m)^#([^ \n]|  |$)`).ReplaceAllString(Example, "$1")
	return regexp.MustCompile(`(?m)^( +)#([a-z])`).ReplaceAllString(text, "$1$2")
}
