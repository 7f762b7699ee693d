package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/auth"
	"postern/internal/auth/passhash"
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

// settled is how old a file's last change must be before its time stamp tells the next
// change apart: the clocks of file systems tick in up to 10 ms.
const settled = 100 * time.Millisecond

// UsersFile is a file of lines user@domain:hash, where hash is one of package passhash.
// Empty lines and lines that start with '#' are kept and ignored. A file that is not
// there is empty. Changes by other processes are noticed, and changes made here replace
// the file as a whole while its side file PATH.lock is locked, so neither readers nor
// other writers ever meet half a file or lose a change. It is safe for concurrent use.
type UsersFile struct {
	path    string
	mu      sync.Mutex // one reader of the file at a time
	current atomic.Pointer[usersTable]
}

// usersTable is the file as it was read once.
type usersTable struct {
	info   fs.FileInfo // nil: there is no file
	young  bool        // it may have changed again without its time stamp showing it
	users  map[auth.Identity]usersEntry
	broken []error // lines that are not understood, in their order
	whose  error   // the first of them that does not even tell whose it is
}

// usersEntry is what the file says about a user: a usable hash, or what is wrong.
type usersEntry struct {
	hash string
	err  error
}

// OpenUsersFile reads the file at path. Errors are those of opening and reading it;
// broken lines are no error here, see Broken.
func OpenUsersFile(path string) (*UsersFile, error) {
	f := &UsersFile{path: path}
	if _, err := f.table(); err != nil {
		return nil, err
	}
	return f, nil
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
	slices.SortFunc(out, func(a, b auth.Identity) int {
		if c := strings.Compare(a.Domain, b.Domain); c != 0 {
			return c
		}
		return strings.Compare(a.User, b.User)
	})
	return out, nil
}

// Broken returns an error for each line that is not understood, in the order of the
// file. Their users cannot log in until they are mended. The errors wrap ErrBrokenFile
// and quote nothing of the line.
func (f *UsersFile) Broken() ([]error, error) {
	t, err := f.table()
	if err != nil {
		return nil, err
	}
	return t.broken, nil
}

// lookup returns a user's entry. Without one, err tells when that proves nothing: a
// line does not tell whose it is, or the file cannot be read.
func (f *UsersFile) lookup(id auth.Identity) (entry usersEntry, known bool, err error) {
	t, err := f.table()
	if err != nil {
		return usersEntry{}, false, err
	}
	if entry, known = t.users[id]; !known {
		err = t.whose
	}
	return entry, known, err
}

// table returns the file's present content, read anew only if it has changed.
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
		// What was read before may hold users who were removed since.
		f.current.Store(nil)
		return nil, err
	}
	f.current.Store(t)
	return t, nil
}

// fresh reports whether the file at path is still the one that was read.
func (t *usersTable) fresh(path string) bool {
	if t.young {
		return false
	}
	info, err := os.Stat(path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) && t.info == nil
	}
	return t.info != nil && os.SameFile(info, t.info) && info.Size() == t.info.Size() && info.ModTime().Equal(t.info.ModTime())
}

// readUsers reads the file at path.
func readUsers(path string) (*usersTable, error) {
	data, info, err := readUsersFile(path)
	if err != nil {
		return nil, err
	}
	t := parseUsers(data)
	t.info = info
	t.young = info != nil && time.Since(info.ModTime()) < settled
	return t, nil
}

// readUsersFile returns the bytes of the file and its state just before they were read;
// both are nil when there is no file.
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

// parseUsers reads the lines of a file. Good lines count whatever the others hold.
func parseUsers(data []byte) *usersTable {
	t := &usersTable{users: make(map[auth.Identity]usersEntry)}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		id, hash, err := parseUser(string(line))
		if err == nil && id == (auth.Identity{}) {
			continue
		}
		if err != nil {
			err = fmt.Errorf("%w: line %d: %v", ErrBrokenFile, number, err)
		}
		if _, twice := t.users[id]; twice && id != (auth.Identity{}) {
			// Which password is right? Neither line may be taken.
			err = fmt.Errorf("%w: line %d: the user stands in an earlier line too; remove one", ErrBrokenFile, number)
		}
		if err != nil {
			t.broken = append(t.broken, err)
		}
		if id != (auth.Identity{}) {
			t.users[id] = usersEntry{hash: hash, err: err}
		} else if t.whose == nil {
			t.whose = err
		}
	}
	return t
}

// parseUser splits one line. Without an error and without an identity it holds no user.
// With an error the identity is set where the line tells it. The user part may hold
// colons: the hash starts after the first one that follows the '@'.
func parseUser(line string) (id auth.Identity, hash string, err error) {
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	if strings.TrimSpace(line) == "" || line[0] == '#' {
		return auth.Identity{}, "", nil
	}
	user, rest, ok := strings.Cut(line, "@")
	if !ok {
		return auth.Identity{}, "", errors.New("no '@'; write user@domain:hash")
	}
	domain, hash, ok := strings.Cut(rest, ":")
	if !ok {
		return auth.Identity{}, "", errors.New("no ':' after the domain; write user@domain:hash")
	}
	if id, err = auth.NewIdentity(user, domain); err != nil {
		return auth.Identity{}, "", err
	}
	if err := checkFileName(id); err != nil {
		return auth.Identity{}, "", err
	}
	if err := passhash.Check(hash); err != nil {
		return id, "", err
	}
	return id, hash, nil
}

// checkFileName reports why a name cannot stand in a line.
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

// Add writes a new user with a hash of package passhash; ErrExists, ErrName.
func (f *UsersFile) Add(ctx context.Context, id auth.Identity, hash string) error {
	return f.change(ctx, id, func(known bool) (string, error) {
		if known {
			return "", fmt.Errorf("%w: %s", ErrExists, id)
		}
		return hash, nil
	})
}

// Set gives a user another hash; ErrUnknownUser.
func (f *UsersFile) Set(ctx context.Context, id auth.Identity, hash string) error {
	return f.change(ctx, id, func(known bool) (string, error) {
		if !known {
			return "", fmt.Errorf("%w: %s", ErrUnknownUser, id)
		}
		return hash, nil
	})
}

// Remove takes a user out; ErrUnknownUser.
func (f *UsersFile) Remove(ctx context.Context, id auth.Identity) error {
	return f.change(ctx, id, func(known bool) (string, error) {
		if !known {
			return "", fmt.Errorf("%w: %s", ErrUnknownUser, id)
		}
		return "", nil
	})
}
