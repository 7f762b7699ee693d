//go:build !linux

package memory

// yieldToOthers does nothing where threads have no priority of their own.
func yieldToOthers() {}
