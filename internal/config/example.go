package config

import (
	_ "embed"
	"regexp"
)

// Example is a configuration that shows and explains every attribute. It lies here to be embedded; the
// root of the source tree has a link to it.
//
//go:embed config.hcl.example
var Example string

// FullExample returns Example with nothing commented out. What needs a decision is commented out there,
// by a # without a space after it; inside a block that is commented out as a whole two or more follow.
func FullExample() string {
	text := regexp.MustCompile(`(?m)^#([^ \n]|  |$)`).ReplaceAllString(Example, "$1")
	return regexp.MustCompile(`(?m)^( +)#([a-z])`).ReplaceAllString(text, "$1$2")
}
