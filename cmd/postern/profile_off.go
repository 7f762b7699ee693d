//go:build !profile

package main

// profile does nothing: only a program built with -tags profile writes profiles.
func profile() (stop func()) { return func() {} }
