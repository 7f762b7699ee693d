//go:build !cgo || !linux

package main

// tuneMalloc does nothing: without C the store's memory is Go's, and other systems have other allocators.
func tuneMalloc() {}
