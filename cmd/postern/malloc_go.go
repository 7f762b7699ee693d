//go:build !cgo

package main

// tuneMalloc does nothing: without C the store's memory is Go's.
func tuneMalloc() {}
