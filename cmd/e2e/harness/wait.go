package harness

import (
	"bytes"
	"sync"
	"testing"
	"time"
)

// Timeout bounds every wait of these tests.
const Timeout = 6 * time.Minute

// OutBuffer is output that is read while it is written.
type OutBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (b *OutBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns what has been written so far.
func (b *OutBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// WaitFor waits until a condition is met, for at most Timeout.
func WaitFor(t *testing.T, what string, met func() bool) {
	t.Helper()
	for end := time.Now().Add(Timeout); !met(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}
