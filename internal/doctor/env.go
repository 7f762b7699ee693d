package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/backend"
	"postern/internal/childenv"
	"postern/internal/config"
	"postern/internal/unit"
)

// Env is the machine that is examined. Tests replace its functions.
type Env struct {
	Now      func() time.Time
	UID      int
	Stat     func(path string) (File, error) // follows links
	ReadFile func(path string) ([]byte, error)
	Probe    func(dir string) error           // writes a file there and removes it
	Free     func(dir string) (uint64, error) // bytes
	MaxFiles func(pid int) (uint64, error)    // limit of a process's open files; pid 0 means this process
	UserName func(uid int) string             // or its number
	Groups   func(uid int) []int
	UserID   func(name string) (int, error) // of a name or a number
	GroupID  func(name string) (int, error) // of a name or a number
	Sockets  func() []string                // names of postern's socket units that are enabled
	Glob     func(pattern string) []string  // paths that match, broken links among them
	OpenDisk func(dir string) error         // opens a store without changing it

	// LookAtStore connects to the server of a store block.
	LookAtStore func(*config.Store) (SharedStore, error)

	Run  func(context.Context, string, ...string) error // runs a program to its end
	unit Service                                        // of the Subject
	cure cures                                          // for the Subject

	LookupHost func(ctx context.Context, host string) ([]string, error)
	Dial       func(ctx context.Context, network, address string) (net.Conn, error)
	Listen     func(network, address string) (net.Listener, error)
	// UnusedProxy returns the variable of the environment that names a proxy for a URL; empty: none.
	UnusedProxy func(url string) string
	// Connect makes a backend. It calls adjust last with the backend's options.
	Connect func(b config.Backend, adjust func(*backend.HTTPOptions)) (backend.Backend, error)
}

// File is the metadata of a file.
type File struct {
	Mode     fs.FileMode
	UID, GID int
	Size     int64
}

// maxFile is the largest file that is read, in bytes.
const maxFile = 4 << 20

// OSEnv returns the machine that the process runs on, without OpenDisk, LookAtStore and Connect.
func OSEnv() *Env {
	return &Env{
		Now: time.Now, UID: os.Geteuid(), Stat: stat, ReadFile: readFile, Probe: probe, Free: free, MaxFiles: maxFiles,
		UserName: userName, Groups: groups, UserID: userID, GroupID: groupID, Glob: glob, Run: run,
		Sockets:    func() []string { return unit.EnabledSockets(os.DirFS("/"), unit.Dirs(os.LookupEnv)) },
		LookupHost: net.DefaultResolver.LookupHost, Dial: new(net.Dialer).DialContext, Listen: net.Listen,
		UnusedProxy: backend.UnusedProxy,
	}
}

func stat(path string) (File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return File{}, err
	}
	f := File{Mode: info.Mode(), UID: -1, GID: -1, Size: info.Size()}
	if own, ok := info.Sys().(*syscall.Stat_t); ok {
		f.UID, f.GID = int(own.Uid), int(own.Gid)
	}
	return f, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, errors.New("this is not a text file of reasonable size")
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

func probe(dir string) error {
	f, err := os.CreateTemp(dir, ".doctor-")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4096))
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

func free(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return uint64(s.Bavail) * uint64(s.Bsize), nil // of other types on other systems
}

// maxFiles returns the hard limit: a Go program raises its soft limit to it when it starts.
func maxFiles(pid int) (uint64, error) {
	name := "self"
	if pid != 0 {
		name = strconv.Itoa(pid)
	}
	data, err := os.ReadFile(filepath.Join("/proc", name, "limits"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		rest, found := strings.CutPrefix(line, "Max open files")
		if words := strings.Fields(rest); found && len(words) > 1 {
			if words[1] == "unlimited" {
				return 1 << 62, nil
			}
			return strconv.ParseUint(words[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("the limits of process %s do not have it", name)
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

// groups lists the groups of a user, or none if they are not known.
func groups(uid int) (out []int) {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return nil
	}
	ids, _ := u.GroupIds()
	for _, id := range ids {
		if gid, err := strconv.Atoi(id); err == nil {
			out = append(out, gid)
		}
	}
	return out
}

func userID(name string) (int, error) {
	if uid, err := strconv.Atoi(name); err == nil {
		return uid, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(u.Uid)
}

func groupID(name string) (int, error) {
	if gid, err := strconv.Atoi(name); err == nil {
		return gid, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(g.Gid)
}

func glob(pattern string) []string {
	found, _ := filepath.Glob(pattern) // the patterns are valid
	return found
}

func run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = childenv.New()
	cmd.WaitDelay = time.Second
	return cmd.Run()
}
