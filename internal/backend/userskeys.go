package backend

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"sync"
	"time"

	"postern/internal/auth"
	"postern/internal/scram"
)

// keysMark begins a line with the SCRAM keys of a user.
const keysMark = "#scram "

// taggedKeys are the keys of the password with the tagged hash.
type taggedKeys struct {
	tag  string
	keys *scram.Keys
}

// hashTag stands for a hash beside the keys of the same password.
func hashTag(hash string) string {
	sum := sha256.Sum256([]byte(hash))
	return hex.EncodeToString(sum[:8])
}

// keysLine is the line with the keys of a user; empty for nil.
func keysLine(id auth.Identity, hash string, keys *scram.Keys) string {
	if keys == nil {
		return ""
	}
	return keysMark + id.String() + ":" + hashTag(hash) + ":" + keys.Text() + "\n"
}

// parseKeysLine reads what keysLine wrote. Any other line is a comment.
func parseKeysLine(line string) (id auth.Identity, k taggedKeys, ok bool) {
	line, ok = strings.CutPrefix(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), keysMark)
	if !ok {
		return id, k, false
	}
	user, rest, _ := strings.Cut(line, "@")
	domain, rest, _ := strings.Cut(rest, ":")
	tag, text, _ := strings.Cut(rest, ":")
	id, err := auth.NewIdentity(user, domain)
	if err != nil {
		return auth.Identity{}, k, false
	}
	keys, err := scram.ParseKeys(text)
	return id, taggedKeys{tag, keys}, err == nil
}

// NewKeys makes the SCRAM keys of a user's new password, as the file has the user; nil without a file of the seed.
func NewKeys(seedFile string, id auth.Identity, secret auth.Secret) (*scram.Keys, error) {
	if seedFile == "" {
		return nil, nil
	}
	seed, err := OpenSeed(seedFile)
	if err != nil {
		return nil, err
	}
	return scram.Derive(secret.Reveal(), seed.Salt(id))
}

// keyless identifies a number of users without keys.
type keyless struct {
	seed   scram.Seed
	domain string
}

// KeylessUsers returns how many users of a domain, in canonical form, have no SCRAM keys that fit a seed; of
// all domains if it is empty. Those with a broken line cannot log in, and do not count.
func (f *UsersFile) KeylessUsers(domain string, seed *scram.Seed) (n int, err error) {
	t, err := f.table()
	if err != nil {
		return 0, err
	}
	scope := keyless{*seed, domain}
	if known, ok := t.keyless.Load(scope); ok {
		return known.(int), nil
	}
	for id, e := range t.users {
		if (id.Domain == domain || domain == "") && e.err == nil && !e.keys.Fits(seed.Salt(id)) {
			n++
		}
	}
	if _, served := t.domains[domain]; served || domain == "" { // others may be invented
		t.keyless.Store(scope, n)
	}
	return n, nil
}

// learnt are keys that were made at logins, of passwords that matched a hash.
type learnt map[auth.Identity]learntKeys

type learntKeys struct {
	hash string
	keys *scram.Keys
}

// addKeys writes keys into the file, at once for many users. Users with another
// hash by now keep what there is.
func (f *UsersFile) addKeys(ctx context.Context, all learnt) error {
	return f.rewrite(ctx, func(data []byte) ([]byte, error) {
		t := parseUsers(data)
		lines := make([]byte, 0, len(data)+256*len(all))
		for line := range bytes.Lines(data) {
			if id, _, ok := parseKeysLine(string(line)); ok && all[id].keys != nil && t.users[id].hash == all[id].hash {
				continue
			}
			lines = append(lines, line...)
			id, entry, err := parseUser(string(line))
			if err != nil || t.users[id].err != nil || all[id].keys == nil || entry.hash != all[id].hash {
				continue
			}
			if lines[len(lines)-1] != '\n' {
				lines = append(lines, '\n')
			}
			lines = append(lines, keysLine(id, entry.hash, all[id].keys)...)
		}
		return lines, nil
	})
}

// How keys that were made at logins are written: so long after the first of them, since many users may log in at
// once, with so many in memory. What does not fit is made again at a later login.
const (
	keysDelay   = time.Second
	keysTimeout = 30 * time.Second
	maxLearnt   = 4096
)

// keyWriter makes the keys of users that have none at a login with the right password, and writes them. The
// methods of a nil keyWriter do nothing.
type keyWriter struct {
	file *UsersFile
	seed *scram.Seed
	log  func(error)

	mu      sync.Mutex
	pending learnt
	timer   *time.Timer // runs while there are pending keys
	closed  bool
	writing sync.WaitGroup
}

func newKeyWriter(file *UsersFile, seed *scram.Seed, log func(error)) *keyWriter {
	if log == nil {
		log = func(error) {}
	}
	return &keyWriter{file: file, seed: seed, log: log, pending: make(learnt)}
}

// learn makes the keys of a user's password, unless the entry has them. It takes some milliseconds.
func (w *keyWriter) learn(id auth.Identity, entry usersEntry, secret auth.Secret) *scram.Keys {
	if w == nil || entry.keys.Fits(w.seed.Salt(id)) {
		return nil
	}
	keys, err := scram.Derive(secret.Reveal(), w.seed.Salt(id))
	if err != nil {
		w.log(err)
		return nil
	}
	return keys
}

// put has keys written some time soon.
func (w *keyWriter) put(id auth.Identity, k learntKeys) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, again := w.pending[id]; w.closed || len(w.pending) >= maxLearnt && !again {
		return
	}
	w.pending[id] = k
	if w.timer == nil {
		w.writing.Add(1)
		w.timer = time.AfterFunc(keysDelay, w.write)
	}
}

// write writes the pending keys.
func (w *keyWriter) write() {
	defer w.writing.Done()
	w.mu.Lock()
	all := w.pending
	w.pending, w.timer = make(learnt), nil
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), keysTimeout)
	defer cancel()
	if err := w.file.addKeys(ctx, all); err != nil {
		w.log(err)
	}
}

// close writes what is pending, and returns when it is written.
func (w *keyWriter) close() {
	w.mu.Lock()
	w.closed = true
	now := w.timer != nil && w.timer.Stop()
	w.mu.Unlock()
	if now {
		w.write()
	}
	w.writing.Wait()
}
