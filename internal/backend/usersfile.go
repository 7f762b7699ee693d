package backend

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"postern/internal/atomicfile"
	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/filelock"
	"postern/internal/scram"
)

// Errors of a UsersFile. They are wrapped; use errors.Is.
var (
	ErrExists      = errors.New("the user exists already")
	ErrUnknownUser = errors.New("there is no such user")
	ErrName        = errors.New("the users file cannot hold this name")
	ErrBrokenFile  = errors.New("the users file has a broken line")
)

// maxUsersFile bounds the file, in bytes: about a million users.
const maxUsersFile = 128 << 20

// settled is how long ago a file's last change must be before its time stamp identifies the
// content: the clocks of file systems tick in up to 10 ms.
const settled = 100 * time.Millisecond

// UsersFile is a file of lines user@domain:hash, where hash is one of package passhash. Behind it there may be the
// user's groups, as :groups=mail,staff. Empty
// lines and lines that start with '#' are kept and ignored. A file that is not there is empty.
// Changes by other processes are noticed. Changes made here replace the file as a whole while
// PATH.lock is locked, so that readers see no partial file and writers lose no change. It is safe
// for concurrent use.
//
// The SCRAM keys of a user stand in a line of their own, #scram user@domain:TAG:KEYS, a comment to former
// versions. TAG is that of the user's hash: the keys of a password that was changed by other means are none.
//
// A file that folds takes spellings of a name that differ by letter case for one user: a user is
// found by the exact name first, else by the only one with the same fold, and is added in lower case.
type UsersFile struct {
	path    string
	seed    maphash.Seed
	fold    bool
	mu      sync.Mutex // held while the file is read
	current atomic.Pointer[usersTable]
}

// usersTable is the content of the file at one time.
type usersTable struct {
	info    fs.FileInfo // nil if there is no file
	recent  bool        // changed so recently that the next change may have the same time stamp
	users   map[auth.Identity]usersEntry
	domains map[string]struct{}               // that have users
	costs   []string                          // of the usable hashes, as they are written there
	cased   map[auth.Identity][]auth.Identity // names with upper case, by their folds
	unowned error                             // the first broken line that does not say which user it is for
	keyless sync.Map                          // by scope: number of users without keys, see KeylessUsers
}

// usersMatch is the user that a name stands for.
type usersMatch struct {
	id    auth.Identity // as the file has it; of an unknown user, as it would be added
	entry usersEntry
	known bool
	twins bool // another user's name differs by letter case
}

// find returns the user that a name stands for, with fold whatever its letter case.
func (t *usersTable) find(id auth.Identity, fold bool) (m usersMatch) {
	if !fold {
		m.id = id
		m.entry, m.known = t.users[id]
		return m
	}
	alike := t.alike(id.Fold())
	m.id, m.twins = id, len(alike) > 1
	if m.entry, m.known = t.users[id]; m.known {
		return m
	}
	if m.id = id.Fold(); len(alike) == 1 {
		m.id = alike[0]
		m.entry, m.known = t.users[m.id]
	}
	return m
}

// alike lists the users with a fold.
func (t *usersTable) alike(folded auth.Identity) []auth.Identity {
	if _, ok := t.users[folded]; ok {
		return append([]auth.Identity{folded}, t.cased[folded]...)
	}
	return t.cased[folded]
}

// usersEntry is a user's line: a usable hash, or what is wrong with the line.
type usersEntry struct {
	hash   string
	groups string      // with commas between them
	keys   *scram.Keys // nil: there are none of the password
	err    error
}

// groupsField begins the field of a line with the user's groups.
const groupsField = "groups="

// parseEntry reads what a line has behind the user. The hash of a long password has a colon itself.
func parseEntry(text string) (e usersEntry, err error) {
	at := strings.LastIndexByte(text, '$')
	hash, rest := text, ""
	if end := strings.IndexByte(text[at+1:], ':'); at >= 0 && end >= 0 {
		hash, rest = text[:at+1+end], text[at+1+end+1:]
	}
	if err := passhash.Check(hash); err != nil {
		return e, err
	}
	e.hash = hash
	if hash == text {
		return e, nil
	}
	list, ok := strings.CutPrefix(rest, groupsField)
	if !ok {
		return usersEntry{}, errors.New("unknown field behind the hash; write :groups=NAME,NAME or nothing")
	}
	for name := range strings.SplitSeq(list, ",") {
		if err := CheckGroup(name); err != nil {
			return usersEntry{}, err
		}
	}
	e.groups = list
	return e, nil
}

// text is the inverse of parseEntry.
func (e *usersEntry) text() string {
	if e.groups == "" {
		return e.hash
	}
	return e.hash + ":" + groupsField + e.groups
}

// list returns the groups; nil for none.
func (e *usersEntry) list() []string {
	if e.groups == "" {
		return nil
	}
	return strings.Split(e.groups, ",")
}

// CheckGroup reports why a users file cannot hold the name of a group. The error wraps ErrName.
func CheckGroup(name string) error {
	switch {
	case name == "" || strings.TrimSpace(name) != name:
		return fmt.Errorf("%w: a group is empty, or has white space at an end", ErrName)
	case strings.ContainsAny(name, ":,$") || strings.ContainsFunc(name, unicode.IsControl) || !utf8.ValidString(name):
		return fmt.Errorf("%w: a group with ':', ',', '$' or a control character", ErrName)
	}
	return nil
}

// OpenUsersFile reads the file at path. Its errors are those of opening and reading; a broken line
// is an error only for the user it is for.
func OpenUsersFile(path string, fold bool) (*UsersFile, error) {
	f := &UsersFile{path: path, fold: fold, seed: maphash.MakeSeed()}
	if _, err := f.table(); err != nil {
		return nil, err
	}
	return f, nil
}

// Name is the name under which the file has a user, or would have it.
func (f *UsersFile) Name(id auth.Identity) (auth.Identity, error) {
	t, err := f.table()
	if err != nil {
		return id, err
	}
	return t.find(id, f.fold).id, nil
}

// Twins lists the users with names that differ from another's by letter case only, sorted.
func (f *UsersFile) Twins() (list []auth.Identity, err error) {
	t, err := f.table()
	if err != nil {
		return nil, err
	}
	for folded := range t.cased {
		if alike := t.alike(folded); len(alike) > 1 {
			list = append(list, alike...)
		}
	}
	sortIdentities(list)
	return list, nil
}

// List returns the users, sorted by domain and name.
func (f *UsersFile) List() ([]auth.Identity, error) {
	t, err := f.table()
	if err != nil {
		return nil, err
	}
	out := make([]auth.Identity, 0, len(t.users))
	for id := range t.users {
		out = append(out, id)
	}
	sortIdentities(out)
	return out, nil
}

// hasDomain reports whether there is a user of a domain. With an error that is not known.
func (f *UsersFile) hasDomain(domain string) (bool, error) {
	t, err := f.table()
	if err != nil {
		return false, err
	}
	if _, ok := t.domains[domain]; ok {
		return true, nil
	}
	return false, t.unowned
}

func sortIdentities(list []auth.Identity) {
	slices.SortFunc(list, func(a, b auth.Identity) int {
		return cmp.Or(strings.Compare(a.Domain, b.Domain), strings.Compare(a.User, b.User))
	})
}

// lookup finds a user. If there is none and err is set, the user may exist all the same: a broken
// line may be the user's, or the file cannot be read.
func (f *UsersFile) lookup(id auth.Identity) (m usersMatch, err error) {
	t, err := f.table()
	if err != nil {
		return m, err
	}
	if m = t.find(id, f.fold); !m.known {
		err = t.unowned
	}
	return m, err
}

// like returns the cost of a hash that is compared for a user without one: over all names the costs
// are distributed as in the file, and a name keeps its own as long as the file does not change. It
// is empty if there is no hash. served reports whether others have the user's domain.
func (f *UsersFile) like(id auth.Identity) (cost string, served bool) {
	t := f.current.Load()
	if t == nil {
		return "", false
	}
	if n := uint64(len(t.costs)); n > 0 {
		cost = t.costs[maphash.Comparable(f.seed, id)%n]
	}
	_, served = t.domains[id.Domain]
	return cost, served
}

// table returns the current content. It reads the file only if it has changed.
func (f *UsersFile) table() (*usersTable, error) {
	if t := f.current.Load(); t != nil && t.fresh(f.path) {
		return t, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if t := f.current.Load(); t != nil && t.fresh(f.path) {
		return t, nil
	}
	t, err := readUsers(f.path)
	if err != nil {
		// The previous content may have users that were removed since.
		f.current.Store(nil)
		return nil, err
	}
	f.current.Store(t)
	return t, nil
}

// fresh reports whether the file at path is still the one that was read.
func (t *usersTable) fresh(path string) bool {
	if t.recent {
		return false
	}
	info, err := os.Stat(path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) && t.info == nil
	}
	return t.info != nil && os.SameFile(info, t.info) && info.Size() == t.info.Size() && info.ModTime().Equal(t.info.ModTime())
}

// stamp describes the state of the file, whether it can be read or not.
func (f *UsersFile) stamp() string {
	info, err := os.Stat(f.path)
	if err != nil {
		return err.Error()
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Sprint(info.Size(), info.ModTime().UnixNano())
	}
	return fmt.Sprint(stat.Dev, stat.Ino, stat.Size, info.ModTime().UnixNano(), changeTime(stat))
}

// readUsers reads the file at path.
func readUsers(path string) (*usersTable, error) {
	data, info, err := readUsersFile(path)
	if err != nil {
		return nil, err
	}
	t := parseUsers(data)
	t.info = info
	t.recent = info != nil && time.Since(info.ModTime()) < settled
	return t, nil
}

// readUsersFile returns the bytes of the file and its state just before they were read. Both are
// nil if there is no file.
func readUsersFile(path string) ([]byte, fs.FileInfo, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("users file: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("users file: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxUsersFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("users file: %w", err)
	}
	if len(data) > maxUsersFile {
		return nil, nil, fmt.Errorf("users file: %s has over %d bytes; check the path", path, maxUsersFile)
	}
	return data, info, nil
}

// parseUsers reads the lines of a file. A broken line does not affect the others.
func parseUsers(data []byte) *usersTable {
	t := &usersTable{
		users: make(map[auth.Identity]usersEntry), cased: make(map[auth.Identity][]auth.Identity), domains: make(map[string]struct{}),
	}
	number := 0
	keyed := make(map[auth.Identity]taggedKeys)
	for line := range bytes.Lines(data) {
		number++
		id, entry, err := parseUser(string(line))
		if err == nil && id == (auth.Identity{}) {
			if id, keys, ok := parseKeysLine(string(line)); ok {
				keyed[id] = keys
			}
			continue
		}
		if err != nil {
			err = fmt.Errorf("%w: line %d: %v", ErrBrokenFile, number, err)
		}
		if _, twice := t.users[id]; twice && id != (auth.Identity{}) {
			// It is not known which password is right, so neither line is used.
			err = fmt.Errorf("%w: line %d: the user has an earlier line too; remove one", ErrBrokenFile, number)
		}
		if id == (auth.Identity{}) {
			if t.unowned == nil {
				t.unowned = err
			}
			continue
		}
		if _, again := t.users[id]; !again && id != id.Fold() {
			t.cased[id.Fold()] = append(t.cased[id.Fold()], id)
		}
		entry.err = err
		t.users[id] = entry
		t.domains[id.Domain] = struct{}{}
		if err == nil {
			t.costs = append(t.costs, passhash.Cost(entry.hash))
		}
	}
	for id, keys := range keyed {
		if e, ok := t.users[id]; ok && e.err == nil && keys.tag == hashTag(e.hash) {
			e.keys = keys.keys
			t.users[id] = e
		}
	}
	return t
}

// BrokenLines returns an error for each line of a users file that cannot be used: one without a hash of
// bcrypt, without a user, or with a user that another line has. The errors quote no hash.
func BrokenLines(data []byte) (broken []error) {
	number := 0
	seen := make(map[auth.Identity]bool)
	for line := range bytes.Lines(data) {
		number++
		id, _, err := parseUser(string(line))
		named := id != (auth.Identity{})
		switch {
		case err != nil:
			broken = append(broken, fmt.Errorf("line %d: %w", number, err))
		case named && seen[id]:
			broken = append(broken, fmt.Errorf("line %d: the user has an earlier line too", number))
		}
		seen[id] = named
	}
	return broken
}

// parseUser splits one line. A comment or empty line gives no identity and no error. With an error
// the identity is set if the line has a valid one. The user part may contain colons: the hash
// starts after the first colon behind the '@'.
func parseUser(line string) (id auth.Identity, entry usersEntry, err error) {
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	if strings.TrimSpace(line) == "" || line[0] == '#' {
		return auth.Identity{}, entry, nil
	}
	user, rest, ok := strings.Cut(line, "@")
	if !ok {
		return auth.Identity{}, entry, errors.New("no '@'; write user@domain:hash")
	}
	domain, text, ok := strings.Cut(rest, ":")
	if !ok {
		return auth.Identity{}, entry, errors.New("no ':' after the domain; write user@domain:hash")
	}
	if id, err = auth.NewIdentity(user, domain); err != nil {
		return auth.Identity{}, entry, err
	}
	if err := checkFileName(id); err != nil {
		return auth.Identity{}, entry, err
	}
	entry, err = parseEntry(text)
	return id, entry, err
}

// checkFileName reports why a line cannot hold a name.
func checkFileName(id auth.Identity) error {
	switch {
	case strings.HasPrefix(id.User, "#"):
		return fmt.Errorf("%w: a user that starts with '#' would be a comment", ErrName)
	case strings.TrimSpace(id.User) != id.User:
		return fmt.Errorf("%w: white space at an end of the user", ErrName)
	case strings.Contains(id.Domain, ":"):
		return fmt.Errorf("%w: ':' in the domain", ErrName)
	}
	return nil
}

// Add adds a user with a hash of package passhash, and the SCRAM keys of the same password, or nil. It
// returns ErrExists or ErrName.
func (f *UsersFile) Add(ctx context.Context, id auth.Identity, hash string, keys *scram.Keys) error {
	return f.change(ctx, id, func(m usersMatch) (usersEntry, error) {
		if m.known || m.twins {
			return usersEntry{}, fmt.Errorf("%w: %s", ErrExists, m.id)
		}
		return usersEntry{hash: hash, keys: keys}, nil
	})
}

// Set replaces the hash and the keys of a user, and keeps the groups. It returns ErrUnknownUser.
func (f *UsersFile) Set(ctx context.Context, id auth.Identity, hash string, keys *scram.Keys) error {
	return f.change(ctx, id, func(m usersMatch) (usersEntry, error) {
		if !m.known {
			return usersEntry{}, fmt.Errorf("%w: %s", ErrUnknownUser, m.id)
		}
		return usersEntry{hash: hash, keys: keys, groups: m.entry.groups}, nil
	})
}

// SetGroups replaces the groups of a user. It returns ErrUnknownUser, or ErrName for a group that a line cannot hold.
func (f *UsersFile) SetGroups(ctx context.Context, id auth.Identity, groups []string) error {
	for _, name := range groups {
		if err := CheckGroup(name); err != nil {
			return err
		}
	}
	return f.change(ctx, id, func(m usersMatch) (usersEntry, error) {
		switch {
		case !m.known:
			return usersEntry{}, fmt.Errorf("%w: %s", ErrUnknownUser, m.id)
		case m.entry.err != nil:
			return usersEntry{}, m.entry.err
		}
		e := m.entry
		e.groups = strings.Join(groups, ",")
		return e, nil
	})
}

// Groups returns the groups of a user. It returns ErrUnknownUser.
func (f *UsersFile) Groups(id auth.Identity) ([]string, error) {
	m, err := f.lookup(id)
	switch {
	case err != nil:
		return nil, err
	case !m.known:
		return nil, fmt.Errorf("%w: %s", ErrUnknownUser, id)
	}
	return m.entry.list(), m.entry.err
}

// Remove removes a user. It returns ErrUnknownUser.
func (f *UsersFile) Remove(ctx context.Context, id auth.Identity) error {
	return f.change(ctx, id, func(m usersMatch) (usersEntry, error) {
		if !m.known {
			return usersEntry{}, fmt.Errorf("%w: %s", ErrUnknownUser, m.id)
		}
		return usersEntry{}, nil
	})
}

// usersMode is the mode of a new file: only postern may read the hashes.
const usersMode = 0o600

// change replaces the lines of the user that id stands for. decide gets what the file has of it,
// and returns what it is to have, or an entry without a hash to remove the user.
func (f *UsersFile) change(ctx context.Context, id auth.Identity, decide func(m usersMatch) (usersEntry, error)) error {
	if err := checkFileName(id); err != nil {
		return err
	}
	return f.rewrite(ctx, func(data []byte) ([]byte, error) {
		m := parseUsers(data).find(id, f.fold)
		lines, known := withoutUser(data, m.id)
		entry, err := decide(m)
		if err != nil {
			return nil, err
		}
		if known > 1 {
			return nil, fmt.Errorf("%w: %s has %d lines; remove the wrong ones", ErrBrokenFile, m.id, known)
		}
		if entry.hash == "" {
			return lines, nil
		}
		added, err := entry.lines(m.id)
		return append(lines, added...), err
	})
}

// lines are those of a user with an entry.
func (e *usersEntry) lines(id auth.Identity) (string, error) {
	if err := passhash.Check(e.hash); err != nil {
		return "", err
	}
	return id.String() + ":" + e.text() + "\n" + keysLine(id, e.hash, e.keys), nil
}

// rewrite replaces the content of the file, unless edit returns nil. The file is read under the lock, so that
// no change by another process is lost. ctx bounds the wait for the lock.
func (f *UsersFile) rewrite(ctx context.Context, edit func(data []byte) ([]byte, error)) error {
	at, err := openPlace(f.path, os.Geteuid() == 0)
	if err != nil {
		return err
	}
	defer at.close()
	path := at.file
	owner, err := ownerOf(path)
	if err != nil {
		return err
	}
	unlock, err := lockFile(ctx, at.lock, owner)
	if err != nil {
		return err
	}
	defer unlock()
	data, _, err := readUsersFile(path)
	if err != nil {
		return err
	}
	lines, err := edit(data)
	if err != nil || lines == nil {
		return err
	}
	return replaceFile(path, lines, owner)
}

// ownerOf returns the file, or its directory if there is none. Its owner gets what is written, so
// that postern can read what root writes.
func ownerOf(path string) (os.FileInfo, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		info, err = os.Stat(filepath.Dir(path))
	}
	if err != nil {
		return nil, fmt.Errorf("users file: %w", err)
	}
	return info, nil
}

// withoutUser returns all lines but the user's, and how many of these have a hash.
func withoutUser(data []byte, id auth.Identity) (rest []byte, had int) {
	rest = make([]byte, 0, len(data)+128)
	for line := range bytes.Lines(data) {
		if got, _, _ := parseUser(string(line)); got == id {
			had++
			continue
		}
		if got, _, ok := parseKeysLine(string(line)); ok && got == id {
			continue
		}
		rest = append(rest, line...)
	}
	if len(rest) > 0 && rest[len(rest)-1] != '\n' {
		rest = append(rest, '\n')
	}
	return rest, had
}

// lockFile takes the lock at path. It waits until ctx ends.
func lockFile(ctx context.Context, path string, owner os.FileInfo) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, usersMode)
	if err != nil {
		return nil, fmt.Errorf("users file: lock: %w", err)
	}
	_ = giveTo(file, owner) // on failure, this process can still use the file
	if err := filelock.Lock(ctx, file); err != nil {
		file.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("users file: another process keeps %s locked: %w", path, err)
		}
		return nil, fmt.Errorf("users file: lock: %w", err)
	}
	return func() { file.Close() }, nil
}

// replaceFile replaces the file at path. The new file gets the owner of old, which is the old
// file, or its directory if there is none.
func replaceFile(path string, data []byte, old os.FileInfo) error {
	err := atomicfile.Write(path, data, func(temp *os.File) error {
		if err := giveTo(temp, old); err != nil {
			return err
		}
		return temp.Chmod(modeFor(temp, old))
	})
	if err != nil {
		return fmt.Errorf("users file: %w", err)
	}
	return nil
}

// modeFor returns the mode for the replacement of old: its mode, so that the daemon can read a file
// of root's that is open to the daemon's group. If file has another group, that gets no rights.
func modeFor(file *os.File, old os.FileInfo) os.FileMode {
	if !old.Mode().IsRegular() {
		return usersMode
	}
	mode := old.Mode().Perm()
	want, ok := old.Sys().(*syscall.Stat_t)
	var have unix.Stat_t
	if !ok || unix.Fstat(int(file.Fd()), &have) != nil || want.Gid != have.Gid {
		mode &^= 0o070
	}
	return mode
}

// giveTo gives a file the owner and group of another, if it does not have them.
func giveTo(file *os.File, owner os.FileInfo) error {
	want, ok := owner.Sys().(*syscall.Stat_t)
	var have unix.Stat_t
	if !ok || unix.Fstat(int(file.Fd()), &have) != nil {
		return nil
	}
	if want.Uid == have.Uid && want.Gid == have.Gid {
		return nil
	}
	err := file.Chown(int(want.Uid), int(want.Gid))
	if errors.Is(err, unix.EPERM) && want.Uid == have.Uid {
		return nil // the process is not in that group
	}
	return err
}
