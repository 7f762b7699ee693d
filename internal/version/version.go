// Package version holds the version of the program, which the build sets and which commands,
// logs, metrics and requests to backends show.
package version

// Version is set by the linker (see the Makefile): a tag with what git describe adds to it, or
// "devel" for a build without one.
var Version = "devel"

// UserAgent is the User-Agent of requests to backends.
func UserAgent() string { return "postern/" + Version }
