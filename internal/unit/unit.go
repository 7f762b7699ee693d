// Package unit reads the unit of a service as systemd does: its file, and the drop-ins that change it.
// It knows the settings of [Service] that matter to commands outside the service: which user it runs
// as, with which command, and which credentials it gets. systemctl is not asked: it is missing in
// containers and chroots, and for a unit that is not loaded yet.
package unit

import (
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// Name is the unit of the daemon.
const Name = "postern.service"

// CredentialStores are where systemd looks for a credential that LoadCredential= names without a path.
var CredentialStores = []string{"/etc/credstore", "/run/credstore", "/usr/local/lib/credstore", "/usr/lib/credstore"}

// Service has settings of a unit.
type Service struct {
	File        string   // of the unit, without its drop-ins
	User, Group string   // empty: root, and the user's own group
	Groups      []string // SupplementaryGroups=
	StateDirs   []string // StateDirectory=: absolute, created for the user and given to it
	Command     []string // the words of the first ExecStart=
	Credentials []Credential
	Set         []string // names of the credentials that SetCredential= and SetCredentialEncrypted= write into the unit
}

// Credential is a line LoadCredential=NAME:SOURCE. Source may be relative to CredentialStores; empty
// means the name.
type Credential struct {
	Name, Source string
	Encrypted    bool // LoadCredentialEncrypted=
}

// Dirs returns the directories of units, the first with the highest precedence. lookup has the
// environment; $SYSTEMD_UNIT_PATH replaces the list, or goes before it if it ends with a colon.
func Dirs(lookup func(string) (string, bool)) []string {
	dirs := []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
	own, given := lookup("SYSTEMD_UNIT_PATH")
	if !given || own == "" {
		return dirs
	}
	list := strings.Split(own, ":")
	if last := len(list) - 1; list[last] == "" {
		return append(list[:last], dirs...)
	}
	return list
}

// Load reads a unit with its drop-ins from dirs, absolute paths in a file system whose root is "/". The
// error is fs.ErrNotExist if there is no such unit, or it is masked.
func Load(fsys fs.FS, dirs []string, name string) (Service, error) {
	var s Service
	found := fs.ErrNotExist
	for _, dir := range dirs {
		if text, err := fs.ReadFile(fsys, inside(dir, name)); err == nil {
			if len(text) == 0 { // /dev/null
				return s, fs.ErrNotExist
			}
			s.File, found = path.Join(dir, name), nil
			s.read(string(text))
			break
		}
	}
	if found != nil {
		return s, found
	}
	dropIns := map[string]string{} // their names to their paths
	for _, dir := range slices.Backward(dirs) {
		names, _ := fs.Glob(fsys, inside(dir, name+".d/*.conf"))
		for _, file := range names {
			dropIns[path.Base(file)] = file
		}
	}
	for _, base := range slices.Sorted(maps.Keys(dropIns)) {
		if text, err := fs.ReadFile(fsys, dropIns[base]); err == nil {
			s.read(string(text))
		}
	}
	return s, nil
}

// inside returns the name of a file of a directory in a file system whose root is "/".
func inside(dir, name string) string { return strings.TrimPrefix(path.Join(dir, name), "/") }

// read applies the settings of a file to what was read before.
func (s *Service) read(text string) {
	section := ""
	for _, line := range logical(text) {
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if ok && section == "[Service]" {
			s.set(strings.TrimSpace(key), strings.TrimSpace(value))
		}
	}
}

// logical returns the lines of a unit file without comments, with continued lines joined.
func logical(text string) (lines []string) {
	open := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") || line == "" && !open {
			continue
		}
		more, continued := strings.CutSuffix(line, `\`)
		if open {
			lines[len(lines)-1] += " " + more
		} else {
			lines = append(lines, more)
		}
		open = continued
	}
	return lines
}

// set applies a setting. An empty one resets a list.
func (s *Service) set(key, value string) {
	words := strings.Fields(value)
	switch key {
	case "User":
		s.User = value
	case "Group":
		s.Group = value
	case "SupplementaryGroups":
		s.Groups = appendOrReset(s.Groups, words)
	case "StateDirectory":
		for i := range words {
			dir, _, _ := strings.Cut(words[i], ":")
			words[i] = path.Join("/var/lib", dir)
		}
		s.StateDirs = appendOrReset(s.StateDirs, words)
	case "ExecStart":
		if s.Command == nil || value == "" {
			s.Command = appendOrReset(nil, words)
		}
	case "SetCredential", "SetCredentialEncrypted":
		name, _, _ := strings.Cut(value, ":")
		s.Set = appendOrReset(s.Set, strings.Fields(name))
	case "LoadCredential", "LoadCredentialEncrypted":
		if value == "" {
			s.Credentials = nil
			return
		}
		name, source, _ := strings.Cut(value, ":")
		s.Credentials = append(s.Credentials, Credential{name, strings.ReplaceAll(source, "%%", "%"), key != "LoadCredential"})
	}
}

func appendOrReset(list, more []string) []string {
	if len(more) == 0 {
		return nil
	}
	return append(list, more...)
}

// Credential returns the credential of a name. The last line for a name counts.
func (s *Service) Credential(name string) (Credential, bool) {
	for _, c := range slices.Backward(s.Credentials) {
		if c.Name == name {
			return c, true
		}
	}
	return Credential{}, false
}

// Sources returns the files that a credential may be in; the first that exists has it.
func (c Credential) Sources() (files []string) {
	source := c.Source
	if source == "" {
		source = c.Name
	}
	if path.IsAbs(source) {
		return []string{source}
	}
	for _, dir := range CredentialStores {
		files = append(files, path.Join(dir, source))
	}
	return files
}

// Option returns the value of an option of the service's command, written as "--name value" or
// "--name=value"; "" if it is not given.
func (s *Service) Option(name string) string {
	for i, word := range s.Command {
		if value, ok := strings.CutPrefix(word, name+"="); ok {
			return value
		}
		if word == name && i+1 < len(s.Command) {
			return s.Command[i+1]
		}
	}
	return ""
}

// EnabledSockets returns the names of the socket units of postern that are started at boot.
func EnabledSockets(fsys fs.FS, dirs []string) (names []string) {
	for _, dir := range dirs {
		links, _ := fs.Glob(fsys, inside(dir, "sockets.target.wants/postern-*.socket"))
		for _, link := range links {
			names = append(names, path.Base(link))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
