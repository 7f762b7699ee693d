//go:build !linux

package memory

// longSlice is for Linux.
func longSlice() {}
