package valkeystore

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"

	"postern/internal/auth"
	"postern/internal/store"
)

// Times.
const (
	readWait   = 50 * time.Millisecond   // of a login for a record
	writeWait  = 3 * time.Second         // of a batch of changes
	scanWait   = 10 * time.Second        // of one step of a scan
	dialWait   = time.Second             // for a connection
	startWait  = 2 * time.Second         // of Open for the first heartbeat
	beatEvery  = 500 * time.Millisecond  // between heartbeats
	beatWait   = 1500 * time.Millisecond // for the answer to one
	staleAfter = 2500 * time.Millisecond // since the last one that was answered was sent
	claimAfter = 90 * time.Second        // since the epoch began
	copyWait   = time.Second             // for a replica to have a change
	ownFor     = 10 * time.Second        // after a write, for which the server has told of it by then
)

// scanStep is how many keys one step of a scan looks at, and how many are read or deleted at once.
const scanStep = 1000

// maxWaits bounds the changes that wait for a replica at the same time.
const maxWaits = 8

// Options are where the server is, and how to log in there.
type Options struct {
	// Addresses are host:port, or unix: and a path: one of a server, those of all Sentinels if Sentinel is set, or with
	// Cluster those of the cluster's nodes. What a majority of Sentinels or nodes says is where the server is.
	Addresses []string
	Username  string // empty: the default user
	Password  auth.Secret
	TLS       *tls.Config // nil: none
	// Prefix of all keys. With Cluster it has a hash tag, so that one server has all keys.
	Prefix string

	Sentinel         string // the name of the primary among Sentinels; empty: there are none
	SentinelUsername string // of the Sentinels themselves
	SentinelPassword auth.Secret
	Cluster          bool
}

// Where says in words which server it is.
func (o *Options) Where() string {
	list := strings.Join(o.Addresses, ", ")
	switch {
	case o.Sentinel != "":
		return fmt.Sprintf("%q of the Sentinels %s", o.Sentinel, list)
	case o.Cluster:
		return "the cluster of " + list
	}
	return list
}

// guided reports whether others say where the server is.
func (o *Options) guided() bool { return o.Sentinel != "" || o.Cluster }

// Store is safe for concurrent use. See the package comment.
type Store struct {
	options  Options
	log      *slog.Logger
	guides   []*guide      // that say where the server is; without any it is at the only address
	kick     chan struct{} // a guide says something else
	at       string        // where the connections go; of the watch's goroutine
	data     valkey.Client
	tracking atomic.Pointer[valkey.Client]
	versions *store.Versions
	context  context.Context // ends with Close
	cancel   context.CancelFunc
	running  sync.WaitGroup
	begun    time.Time
	counts   counts

	term  atomic.Uint64
	up    atomic.Bool
	proof atomic.Int64            // when the last heartbeat that was answered was sent, since begun
	downs atomic.Uint64           // how often the watch was lost
	reps  atomic.Int64            // replicas of the server
	epoch atomic.Pointer[epochID] // nil: not known yet
	away  atomic.Pointer[string]  // why the server cannot be used; nil: it can

	changed func(keys []string)

	mu    sync.Mutex
	fresh *sync.Cond // told has something, or the store is closed
	told  []string   // keys of which the server has told
	own   map[string]ownWrite
	swept time.Time // when old entries of own were dropped last
}

// ownWrite is a write of this process of which the server is going to tell.
type ownWrite struct {
	version store.Version
	at      time.Time
}

// counts are what Counts returns.
type counts struct{ trips, told, lost, restored, renewed atomic.Uint64 }

// Counts is what has happened since Open.
type Counts struct {
	RoundTrips    uint64        // commands and scripts, heartbeats among them
	Invalidations uint64        // keys of which the server has told
	Losses        uint64        // of the watch
	Restores      uint64        // of the watch, after a loss
	Epochs        uint64        // epochs seen beyond the first
	Lag           time.Duration // since the last heartbeat that was answered was sent
	Up            bool          // the watch misses nothing
}

var (
	_ store.Shared = (*Store)(nil)
	_ store.Disk   = (*Store)(nil)
)

// Open connects to a server. If that is not there, the store is away until it is. The error is about the options.
func Open(o Options, log *slog.Logger) (*Store, error) {
	if len(o.Addresses) == 0 || o.Prefix == "" {
		return nil, errors.New("valkey: no address, or no prefix")
	}
	s := &Store{
		options: o, log: log, versions: store.NewVersions(), begun: time.Now(), own: make(map[string]ownWrite), kick: make(chan struct{}, 1),
	}
	s.context, s.cancel = context.WithCancel(context.Background())
	s.fresh = sync.NewCond(&s.mu)
	started := make(chan struct{})
	s.running.Add(2)
	if o.guided() {
		s.guide()
	}
	go s.check()
	go s.watch(started)
	select {
	case <-started:
	case <-time.After(startWait):
		why := "it does not answer"
		s.away.CompareAndSwap(nil, &why)
		log.Error("the shared store is away: logins are asked about at the backends until it is back", "address", o.Where(), "err", s.Failed())
	}
	return s, nil
}

// clientOptions are those of all connections.
func (s *Store) clientOptions(address string) valkey.ClientOption {
	o := s.options
	return valkey.ClientOption{
		InitAddress: []string{address}, Username: o.Username, Password: o.Password.Reveal(), TLSConfig: o.TLS, DialCtxFn: dial,
		Dialer: net.Dialer{Timeout: dialWait}, ConnWriteTimeout: writeWait, ClientName: "postern", ClientSetInfo: valkey.DisableClientSetInfo,
		ForceSingleClient: true, DisableRetry: true, AlwaysPipelining: true, PipelineMultiplex: -1, BlockingPoolSize: maxWaits,
		RingScaleEachConn: 8, ReadBufferEachConn: 64 << 10, WriteBufferEachConn: 64 << 10,
	}
}

// dial connects to an address of Options.
func dial(ctx context.Context, address string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	if t != nil && network == "tcp" {
		return (&tls.Dialer{NetDialer: d, Config: t}).DialContext(ctx, network, address)
	}
	return d.DialContext(ctx, network, address)
}

// client returns the connection for everything but the watch.
func (s *Store) client() (valkey.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.context.Err() != nil {
		return nil, store.ErrClosed
	}
	if s.data == nil {
		return nil, fmt.Errorf("%w: %s", store.ErrAway, s.Failed())
	}
	s.counts.trips.Add(1)
	return s.data, nil
}

// connect makes the connection for everything but the watch, unless it is there.
func (s *Store) connect() error {
	s.mu.Lock()
	there := s.data != nil
	s.mu.Unlock()
	if there {
		return nil
	}
	o := s.clientOptions(s.at)
	o.DisableCache = true
	c, err := dialClient(o)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.data = c
	s.mu.Unlock()
	return nil
}

// dialClient is valkey.NewClient, which returns a client also when it is not connected.
func dialClient(o valkey.ClientOption) (valkey.Client, error) {
	c, err := valkey.NewClient(o)
	if err != nil && c != nil {
		c.Close()
	}
	return c, err
}

// trip carries out one call, with what bounds its time.
func (s *Store) trip(wait time.Duration, what string, do func(ctx context.Context, c valkey.Client) error) error {
	return s.tripIn(s.context, wait, what, do)
}

func (s *Store) tripIn(ctx context.Context, wait time.Duration, what string, do func(ctx context.Context, c valkey.Client) error) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err = do(ctx, c)
	switch {
	case err == nil, errors.Is(err, store.ErrNotFound), errors.Is(err, errLayout):
		return err
	case s.context.Err() != nil:
		return store.ErrClosed
	case misplaced(err):
		s.lose()
	}
	return fmt.Errorf("%w: %s: %w", store.ErrAway, what, err)
}

// misplaced reports whether the server is no longer the one to ask.
func misplaced(err error) bool {
	e, ok := valkey.IsValkeyErr(err)
	if !ok {
		return false
	}
	_, moved := e.IsMoved()
	return moved || strings.HasPrefix(e.Error(), "READONLY")
}

// write carries out a script that changes something, and waits until a replica has the change where there are replicas
// that may take over. Where others say which server that is, it must be known that they still do: what a server
// takes that was replaced is lost.
func (s *Store) write(ctx context.Context, what string, l *script, keys, args []string) (reply valkey.ValkeyResult, err error) {
	copied := false
	if s.options.guided() {
		if _, ok := s.Term(); !ok {
			return reply, fmt.Errorf("%w: it is not known which server is the primary", store.ErrAway)
		}
		copied = s.reps.Load() > 0
	}
	err = s.tripIn(ctx, writeWait, what, func(ctx context.Context, c valkey.Client) error {
		if !copied {
			reply = l.exec(ctx, c, keys, args)
			return reply.Error()
		}
		var replies []valkey.ValkeyResult
		for _, run := range []valkey.Completed{l.sha(c, keys, args), l.text(c, keys, args)} {
			replies = c.DoMulti(ctx, run, c.B().Wait().Numreplicas(1).Timeout(copyWait.Milliseconds()).Build())
			if e, ok := valkey.IsValkeyErr(replies[0].Error()); !ok || !e.IsNoScript() {
				break
			}
		}
		if reply = replies[0]; reply.Error() != nil {
			return reply.Error()
		}
		if n, err := replies[1].AsInt64(); err != nil || n < 1 {
			return errors.Join(errors.New("no replica has taken it"), err)
		}
		return nil
	})
	return reply, err
}

func (s *Store) name(key []byte) string { return s.options.Prefix + string(key) }

// epochOf is the epoch for what is written now.
func (s *Store) epochOf() epochID {
	if e := s.epoch.Load(); e != nil {
		return *e
	}
	return epochID{}
}

// Get implements store.Store.
func (s *Store) Get(key []byte) ([]byte, error) {
	r, err := s.read(key, writeWait)
	return r.Value, err
}

// Read implements store.Swapper.
func (s *Store) Read(key []byte) (store.Record, error) { return s.read(key, readWait) }

func (s *Store) read(key []byte, wait time.Duration) (r store.Record, err error) {
	err = s.trip(wait, "read", func(ctx context.Context, c valkey.Client) error {
		value, err := c.Do(ctx, c.B().Get().Key(s.name(key)).Build()).AsBytes()
		if valkey.IsValkeyNil(err) {
			return store.ErrNotFound
		}
		if err == nil {
			r, err = s.record(value)
		}
		return err
	})
	return r, err
}

func (s *Store) record(value []byte) (r store.Record, err error) {
	var epoch epochID
	epoch, r.Version, r.Value, err = decode(value)
	r.Former = epoch != s.epochOf()
	return r, err
}

// Scan implements store.Store.
func (s *Store) Scan(prefix []byte, fn func(key, value []byte) bool) error {
	keys, err := s.keys(prefix)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(keys, scanStep) {
		var values []valkey.ValkeyMessage
		if err := s.trip(scanWait, "scan", func(ctx context.Context, c valkey.Client) (err error) {
			values, err = c.Do(ctx, c.B().Mget().Key(part...).Build()).ToArray()
			return err
		}); err != nil {
			return err
		}
		for i := range values {
			value, err := values[i].AsBytes()
			if err != nil { // deleted meanwhile
				continue
			}
			r, err := s.record(value)
			if err == nil && !fn([]byte(part[i][len(s.options.Prefix):]), r.Value) {
				return nil
			}
		}
	}
	return nil
}

// keys lists the names of the keys with a prefix, in their order.
func (s *Store) keys(prefix []byte) (names []string, err error) {
	pattern := glob(s.name(prefix)) + "*"
	for cursor := uint64(0); ; {
		var page valkey.ScanEntry
		if err := s.trip(scanWait, "scan", func(ctx context.Context, c valkey.Client) (err error) {
			page, err = c.Do(ctx, c.B().Scan().Cursor(cursor).Match(pattern).Count(scanStep).Build()).AsScanEntry()
			return err
		}); err != nil {
			return nil, err
		}
		names = append(names, page.Elements...)
		if cursor = page.Cursor; cursor == 0 {
			slices.Sort(names)
			return slices.Compact(names), nil // a key may come twice
		}
	}
}

// glob quotes a text for a pattern.
func glob(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `^`, `\^`, `-`, `\-`).Replace(text)
}

// Apply implements store.Store. What is durable is a matter of the server's configuration.
func (s *Store) Apply(ops []store.Op, _ bool) error {
	changes := make([]store.Change, len(ops))
	for i, op := range ops {
		changes[i] = store.Change{Key: op.Key, Value: op.Value}
	}
	_, err := s.Swap(changes)
	return err
}

// Swap implements store.Swapper.
func (s *Store) Swap(changes []store.Change) (lost []store.Lost, err error) {
	if len(changes) == 0 {
		return nil, nil
	}
	epoch := s.epochOf()
	keys, args := make([]string, len(changes)), make([]string, 0, 4*len(changes))
	now := make([]store.Version, len(changes))
	for i := range changes {
		c := &changes[i]
		keys[i] = s.name(c.Key)
		over, was, value := "0", "", ""
		if now[i] = c.Now; c.Over {
			over = "1"
		} else {
			now[i] = s.versions.Next()
		}
		if c.Was != (store.Version{}) {
			was = string(c.Was[:])
		}
		if c.Value == nil {
			now[i] = store.Version{}
		} else {
			value = string(encode(epoch, now[i], c.Value))
		}
		args = append(args, over, was, value, strconv.FormatInt(c.Keep.Milliseconds(), 10))
	}
	s.expect(keys, now)
	result, err := s.write(s.context, "write", swap, keys, args)
	if err != nil {
		return nil, err
	}
	reply, err := result.ToArray()
	for i := 0; err == nil && i+1 < len(reply); i += 2 {
		var l store.Lost
		if l, err = s.lostOf(reply[i], reply[i+1], len(changes)); err == nil && (!l.Of || l.Record.Version != changes[l.Change].Now || changes[l.Change].Value == nil) {
			lost = append(lost, l) // unless an earlier try has written it
		}
	}
	if err != nil {
		return lost, fmt.Errorf("%w: write: %w", store.ErrAway, err)
	}
	return lost, nil
}

func (s *Store) lostOf(index, value valkey.ValkeyMessage, n int) (l store.Lost, err error) {
	i, err := index.AsInt64()
	if err != nil || i < 0 || int(i) >= n {
		return l, fmt.Errorf("unexpected reply: %w", err)
	}
	l.Change = int(i)
	v, err := value.AsBytes()
	if err != nil {
		return l, err
	}
	if len(v) == 0 {
		l.Of = true
		return l, nil
	}
	r, err := s.record(v)
	l.Of, l.Record = err == nil, r
	return l, nil
}

// DeletePrefix implements store.Store. It is not one step: other processes may see it in parts.
func (s *Store) DeletePrefix(prefix []byte) error {
	keys, err := s.keys(prefix)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(keys, scanStep) {
		if err := s.trip(scanWait, "delete", func(ctx context.Context, c valkey.Client) error {
			return c.Do(ctx, c.B().Unlink().Key(part...).Build()).Error()
		}); err != nil {
			return err
		}
	}
	return nil
}

// Claim implements store.Claimer.
func (s *Store) Claim(ctx context.Context, key, value []byte, keep time.Duration) (first bool, err error) {
	epoch := s.epoch.Load()
	if epoch == nil {
		return false, fmt.Errorf("%w: %s", store.ErrAway, s.Failed())
	}
	args := []string{
		string(epoch[:]), strconv.FormatInt(claimAfter.Milliseconds(), 10),
		string(encode(*epoch, s.versions.Next(), value)), strconv.FormatInt(max(keep.Milliseconds(), 1), 10),
	}
	reply, err := s.write(ctx, "claim", claim, []string{s.name([]byte(epochKey)), s.name(key)}, args)
	if err != nil {
		return false, err
	}
	switch n, err := reply.AsInt64(); {
	case err != nil:
		return false, fmt.Errorf("%w: claim: %w", store.ErrAway, err)
	case n == -1:
		return false, fmt.Errorf("%w: it was emptied, restarted or replaced a moment ago", store.ErrAway)
	case n < 0:
		return false, fmt.Errorf("%w: it was emptied, restarted or replaced less than %v ago", store.ErrAway, claimAfter)
	default:
		return n == 1, nil
	}
}

// Size implements store.Disk. The server has no figure for the keys of one prefix.
func (s *Store) Size() uint64 { return 0 }

// Failed implements store.Disk.
func (s *Store) Failed() string {
	if why := s.away.Load(); why != nil {
		return *why
	}
	return ""
}

// Counts returns what has happened.
func (s *Store) Counts() Counts {
	_, up := s.Term()
	c := &s.counts
	return Counts{
		RoundTrips: c.trips.Load(), Invalidations: c.told.Load(), Losses: c.lost.Load(), Restores: c.restored.Load(), Epochs: c.renewed.Load(),
		Lag: time.Since(s.begun) - time.Duration(s.proof.Load()), Up: up,
	}
}

// Close implements store.Store. A second call does nothing.
func (s *Store) Close() error {
	s.cancel()
	s.mu.Lock()
	data := s.data
	s.fresh.Signal()
	s.mu.Unlock()
	s.running.Wait()
	if data != nil {
		data.Close()
	}
	return nil
}

// newEpoch makes up an epoch.
func newEpoch() (e epochID) {
	_, _ = rand.Read(e[:]) // never fails, see crypto/rand
	return e
}

// epochOfReply reads what beat returns.
func epochOfReply(reply []string) (e epochID, replicas int64, err error) {
	if len(reply) != 2 || len(reply[0]) < 48 || strings.IndexByte(reply[0][8:48], 0) >= 0 {
		return e, 0, errors.New("the record of its epoch makes no sense: does something else use its keys?")
	}
	copy(e[:], reply[0])
	replicas, err = strconv.ParseInt(reply[1], 10, 64)
	return e, replicas, err
}
