// Package supervise is the kernel around protoactor-go: mailboxes that answer, supervision that
// never gives up, and goroutines that are kept.
package supervise
