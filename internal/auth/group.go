package auth

import "strings"

// HiddenGroup reports whether a group of a backend is kept out of the rosters. A zero-width space
// at the end of its name is how a Nextcloud administrator does that to a large one (PROTOCOLS 6,
// fact 6).
func HiddenGroup(name string) bool { return strings.HasSuffix(name, "\u200b") }
