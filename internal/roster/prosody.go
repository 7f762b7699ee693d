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

// groupsFile is Prosody with its mod_groups, which reads all groups from one file when the module is
// loaded. So the file is written as a whole, from the known state, and then the module is
// reloaded.
type groupsFile struct {
	path    string
	reload  []string
	timeout time.Duration
	chown   func(file *os.File, uid, gid int) error
}

// NewGroupsFile returns a server that reads its groups from the file at path. The command reload,
// which may run for timeout at most, makes it read a new one.
func NewGroupsFile(path string, reload []string, timeout time.Duration) Server {
	return &groupsFile{path, reload, timeout, (*os.File).Chown}
}

// Close implements Server.
func (*groupsFile) Close() {}

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

// Apply implements Server. The new state is written last, after Prosody has read the file: if
// something fails before, all is done again.
func (f *groupsFile) Apply(ctx context.Context, p *Plan) (steps int, err error) {
	steps, ops := carriedOut(p)
	if steps > 0 {
		text, err := f.render(p.state, ops)
		if err != nil {
			return 0, err
		}
		changed, err := f.write(text)
		if err != nil {
			return 0, err
		}
		// An unchanged file may have been written by a run that then failed to reload.
		if _, err := run(ctx, f.timeout, f.reload[0], f.reload[1:]...); err != nil {
			return 0, fmt.Errorf("the groups file was written (changed: %t), but Prosody could not be made to read it: %w", changed, err)
		}
	}
	return steps, write(p.state.Store, ops, true)
}

// carriedOut returns the number of a plan's steps and what it writes to the store. Only postern writes the
// file, so the members of a group there are the known ones.
func carriedOut(p *Plan) (steps int, ops []store.Op) {
	for {
		_, before, ok := p.Next()
		if !ok {
			return steps, append(ops, p.Finish()...)
		}
		steps++
		ops = append(append(ops, before...), p.Done(nil)...)
	}
}

// Preview implements Server: the groups that change, each with its lines that are removed and added.
func (f *groupsFile) Preview(_ context.Context, p *Plan) (v Preview, err error) {
	v.File = f.path
	steps, ops := carriedOut(p)
	if steps == 0 {
		return v, nil
	}
	text, err := f.render(p.state, ops)
	if err != nil {
		return v, err
	}
	old, err := os.ReadFile(f.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return v, fmt.Errorf("groups file: %w", err)
	}
	was, will := sections(old), sections(text)
	for _, title := range slices.Sorted(maps.Keys(both(was, will))) {
		removed, added := missing(was[title], will[title]), missing(will[title], was[title])
		if len(removed)+len(added) == 0 {
			continue
		}
		mark := " "
		switch {
		case was[title] == nil:
			mark = "+"
		case will[title] == nil:
			mark = "-"
		}
		v.Lines = append(v.Lines, mark+title)
		for _, line := range removed {
			v.Lines = append(v.Lines, "-"+line)
		}
		for _, line := range added {
			v.Lines = append(v.Lines, "+"+line)
		}
	}
	return v, nil
}

// sections are the lines of a groups file, by the heading before them.
func sections(text []byte) map[string][]string {
	found, title := map[string][]string{}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "[") {
			title = line
			continue
		}
		found[title] = append(found[title], line)
	}
	return found
}

// both has the keys of two maps.
func both(a, b map[string][]string) map[string][]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// missing are the lines of a list that another one does not have.
func missing(list, other []string) (lines []string) {
	for _, line := range list {
		if !slices.Contains(other, line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// render returns the file for the state after ops. It is sorted, so that an unchanged state gives an
// unchanged file. The format has no comments.
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

// groupTitle is a group's name as a heading: a leading + would make the group public, and mod_groups
// ignores blanks at the ends.
func groupTitle(name string) string { return strings.TrimSpace(strings.TrimLeft(name, "+ \u00a0")) }

// fileAddress reports whether a line of mod_groups can hold an address: a name follows =, and [
// begins a heading.
func fileAddress(address string) bool {
	return !strings.ContainsAny(address, "= \t") && !strings.HasPrefix(address, "[")
}

// write replaces the file atomically, if its content differs. The owner, group and mode stay.
func (f *groupsFile) write(text []byte) (changed bool, err error) {
	if old, err := os.ReadFile(f.path); err == nil && bytes.Equal(old, text) {
		return false, nil
	}
	if err := atomicfile.Write(f.path, text, f.share); err != nil {
		return false, fmt.Errorf("groups file: %w", err)
	}
	return true, nil
}

// share gives a new file the owner, group and mode of the old one. Prosody reads it by the rights of
// the owner, of the group or of others; it is an error if that might fail with the new file.
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
		switch { // either may be enough for Prosody
		case err != nil && mode&0o040 != 0:
			err = f.chown(temp, -1, int(owner.Gid))
		case err != nil:
			err = f.chown(temp, int(owner.Uid), -1)
		}
		if err != nil && mode&0o004 == 0 {
			return fmt.Errorf("a new one might not be readable for Prosody: add postern to its group, or let others read it: %w", err)
		}
	}
	return temp.Chmod(mode)
}
