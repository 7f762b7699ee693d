package roster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"postern/internal/atomicfile"
	"postern/internal/store"
)

// groupsFile is Prosody with its mod_groups, which takes all groups from one file and reads it
// when the module is loaded: the file is written as a whole, from all that is known, and then
// the module is reloaded.
type groupsFile struct {
	path    string
	reload  []string
	timeout time.Duration
	chown   func(file *os.File, uid, gid int) error
}

// NewGroupsFile returns a server whose groups stand in the file at path, and which is told of
// a new one by the command reload.
func NewGroupsFile(path string, reload []string, timeout time.Duration) Server {
	return &groupsFile{path, reload, timeout, (*os.File).Chown}
}

// Close implements Server.
func (*groupsFile) Close() {}

// Members implements Server. Nobody but postern writes the file, so it tells nothing that is
// not known.
func (*groupsFile) Members(context.Context, string, string) ([]string, error) { return nil, nil }

// Prepare implements Server: mod_groups does not load without its file.
func (f *groupsFile) Prepare(s State) error {
	if _, err := os.Stat(f.path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, err := f.render(s, nil)
	if err == nil {
		_, err = f.write(text)
	}
	return err
}

// Apply implements Server. What is known is written last, when Prosody has the file: whatever
// fails before is done again.
func (f *groupsFile) Apply(ctx context.Context, p *Plan) (steps int, err error) {
	var ops []store.Op
	for {
		_, before, ok := p.Next()
		if !ok {
			break
		}
		steps++
		ops = append(append(ops, before...), p.Done(nil)...)
	}
	ops = append(ops, p.Finish()...)
	if steps > 0 {
		text, err := f.render(p.state, ops)
		if err != nil {
			return 0, err
		}
		changed, err := f.write(text)
		if err != nil {
			return 0, err
		}
		// A file that is as it should be may be the work of a run that did not get further.
		if _, err := run(ctx, f.timeout, f.reload[0], f.reload[1:]...); err != nil {
			return 0, fmt.Errorf("the groups file was written (changed: %t), but Prosody could not be told: %w", changed, err)
		}
	}
	return steps, write(p.state.Store, ops, true)
}

// render writes the groups as they will be known after ops: sorted, so that an unchanged state
// gives an unchanged file. The format has no comments.
func (f *groupsFile) render(s State, ops []store.Op) ([]byte, error) {
	users, groups, err := s.All()
	if err != nil {
		return nil, err
	}
	prefix := s.Prefix()
	for _, op := range ops {
		key := string(op.Key[len(prefix):])
		if op.Value == nil {
			delete(groups, strings.TrimPrefix(key, "group\x00"))
			continue
		}
		addRecord(users, groups, key, op.Value)
	}
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		title := groupTitle(name)
		members := slices.DeleteFunc(slices.Clone(groups[name].Members), func(m string) bool { return !fileAddress(m) })
		if title == "" || len(members) == 0 {
			continue
		}
		fmt.Fprintf(&b, "[%s]\n", title)
		for _, m := range members {
			b.WriteString(m)
			// A name that closes a bracket could make the line a heading.
			if name := strings.TrimRight(cleanFullName(users[m].Name), "] \u00a0"); name != "" {
				b.WriteString("=" + name)
			}
			b.WriteByte('\n')
		}
	}
	return b.Bytes(), nil
}

// groupTitle is a group's name as a heading: a leading + would show the group to everybody,
// and blanks at its ends are not told from none.
func groupTitle(name string) string { return strings.TrimSpace(strings.TrimLeft(name, "+ \u00a0")) }

// fileAddress reports whether a line of mod_groups can hold an address: what follows = is the
// name, and [ begins a heading.
func fileAddress(address string) bool {
	return !strings.ContainsAny(address, "= \t") && !strings.HasPrefix(address, "[")
}

// write replaces the file if it has another content, so that a reader sees the old one or the
// new one. Who could read the old one can read the new one.
func (f *groupsFile) write(text []byte) (changed bool, err error) {
	if old, err := os.ReadFile(f.path); err == nil && bytes.Equal(old, text) {
		return false, nil
	}
	if err := atomicfile.Write(f.path, text, f.share); err != nil {
		return false, fmt.Errorf("groups file: %w", err)
	}
	return true, nil
}

// share gives a new file the owner, group and mode of the old one. Prosody reads it as the owner,
// as one of the group or as one of the others: it is an error if it might not be able to any more.
func (f *groupsFile) share(temp *os.File) error {
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return temp.Chmod(0o644)
	}
	if err != nil {
		return err
	}
	mode := info.Mode().Perm()
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		err := f.chown(temp, int(owner.Uid), int(owner.Gid))
		switch { // one of the two will do for Prosody
		case err != nil && mode&0o040 != 0:
			err = f.chown(temp, -1, int(owner.Gid))
		case err != nil:
			err = f.chown(temp, int(owner.Uid), -1)
		}
		if err != nil && mode&0o004 == 0 {
			return fmt.Errorf("a new one could not be read by whom the old one can: put postern into its group, or let others read it: %w", err)
		}
	}
	return temp.Chmod(mode)
}
