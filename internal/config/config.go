package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"postern/internal/protocol"
	"postern/internal/unit"
)

// DefaultPath is the path of the configuration unless --config names another.
const DefaultPath = "/etc/postern/config.hcl"

// defaultDataDir is the default of data_dir.
const defaultDataDir = "/var/lib/postern"

// Bounds on the files that are read, in bytes, in case a path names a device or a log.
const (
	maxSource  = 16 << 20 // a configuration
	maxInclude = 1 << 20  // a file named in file() or ca_file
)

// Errors of reading files.
var (
	errTooLarge  = errors.New("the file is too large for its purpose")
	errIrregular = errors.New("it is not a regular file") // a FIFO, a device or a socket
)

// Env is a configuration's access to the machine. Without a function there are no files, no
// variables, or no permissions to look at.
type Env struct {
	ReadFile  func(name string) ([]byte, error)
	LookupEnv func(name string) (string, bool)
	Stat      func(name string) (fs.FileInfo, error)
	RealPath  func(name string) (string, error) // without symbolic links
	// LookupUser and LookupGroup return the number of a user or group.
	LookupUser, LookupGroup func(name string) (string, error)
	// Service returns the daemon's unit, for credentials; the error is fs.ErrNotExist if there is none.
	Service func() (unit.Service, error)
	Root    bool // the process runs as root
}

// OSEnv is the Env of the running process.
func OSEnv() Env {
	return Env{
		ReadFile:  func(name string) ([]byte, error) { return readFile(name, maxInclude, true) },
		LookupEnv: os.LookupEnv,
		Stat:      os.Stat,
		RealPath:  filepath.EvalSymlinks,
		LookupUser: func(name string) (string, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		},
		LookupGroup: func(name string) (string, error) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		},
		Service: sync.OnceValues(func() (unit.Service, error) {
			return unit.Load(os.DirFS("/"), unit.Dirs(os.LookupEnv), unit.Name)
		}),
		Root: os.Geteuid() == 0,
	}
}

// readFile reads a file up to a limit. A running daemon reads regular files only: opening or
// reading a FIFO or device could block, and each reload would read something else.
func readFile(name string, limit int64, regular bool) ([]byte, error) {
	flags := os.O_RDONLY
	if regular {
		flags |= syscall.O_NONBLOCK
	}
	f, err := os.OpenFile(name, flags, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case regular && !info.Mode().IsRegular() && !info.IsDir(): // a directory gives a better error below
		return nil, errIrregular
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, errTooLarge
	}
	return data, err
}

func (e Env) readFile(name string) ([]byte, error) {
	if e.ReadFile == nil {
		return nil, fs.ErrNotExist
	}
	return e.ReadFile(name)
}

func (e Env) lookup(name string) (string, bool) {
	if e.LookupEnv == nil {
		return "", false
	}
	return e.LookupEnv(name)
}

// realPath returns a path without symbolic links, as far as that can be found out.
func (e Env) realPath(name string) string {
	if e.RealPath != nil {
		if path, err := e.RealPath(name); err == nil {
			return path
		}
	}
	return filepath.Clean(name)
}

// mode returns the permission bits of a file, or 0 if they are unknown.
func (e Env) mode(name string) fs.FileMode {
	if e.Stat == nil {
		return 0
	}
	info, err := e.Stat(name)
	if err != nil {
		return 0
	}
	return info.Mode().Perm()
}

// Load reads and parses the configuration at path, which may be a pipe, with the environment of
// the process. The Config is nil if a Problem is an error; see Parse.
func Load(path string) (*Config, Problems) { return load(path, false) }

// Reload is Load for a running daemon: it only reads regular files, since others could block it.
func Reload(path string) (*Config, Problems) { return load(path, true) }

func load(path string, regular bool) (*Config, Problems) {
	src, err := readFile(path, maxSource, regular)
	if err == nil {
		return Parse(path, src, OSEnv())
	}
	cure := "check the path and that the user postern runs as may read it"
	if errors.Is(err, fs.ErrNotExist) {
		cure = "write one with `postern config new`, or name another with --config"
	}
	return nil, Problems{{
		Severity: Error, File: path, Cure: cure, Denied: errors.Is(err, fs.ErrPermission),
		Message: fmt.Sprintf("cannot read the configuration: %v", cause(err)),
	}}
}

// cause strips the path from an error of package os, for messages that name the path already.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// Parse turns the text of a configuration into a Config with every default filled in. filename
// is used in messages, for relative paths in file() and ca_file, which start at its directory,
// and for its permissions (env.Stat). The Config is nil if any Problem is an error; warnings
// come with a Config. No Problem holds a secret. Parse does not panic: a daemon reloads its
// configuration while it serves.
func Parse(filename string, src []byte, env Env) (cfg *Config, problems Problems) {
	defer func() {
		if reason := recover(); reason != nil {
			fault := fmt.Sprintf("%T", reason) // its text may hold a secret
			if err, ok := reason.(runtime.Error); ok {
				fault = err.Error()
			}
			cfg, problems = nil, Problems{{
				Severity: Error, File: filename, Cure: "undo the last change, and please report the bug",
				Message: "postern has a bug that this configuration triggers: " + fault,
			}}
		}
	}()
	return parseFile(filename, src, env, pieceSize)
}

// parseFile is Parse, with pieces of at least size bytes.
func parseFile(filename string, src []byte, env Env, size int) (*Config, Problems) {
	p := newParser(filename, src, env)
	if len(src) > maxSource {
		p.complain(hcl.Range{}, "the configuration is too large", "is this the right file?")
		return nil, p.problems
	}
	text := mask(src)
	body, late, ok := join(text, filename, size)
	var cfg *Config
	if ok {
		cfg, ok = p.root(body, late)
	}
	if !ok {
		p = newParser(filename, src, env)
		file, diags := hclsyntax.ParseConfig(text, filename, hcl.InitialPos)
		if diags.HasErrors() {
			p.syntax(diags)
			return nil, p.sorted()
		}
		cfg, _ = p.root(file.Body.(*hclsyntax.Body), nil)
	}
	slices.Sort(p.files)
	cfg.Files = slices.Compact(p.files)
	if p.sorted().Failed() {
		return nil, p.problems
	}
	return cfg, p.problems
}

// parser is the state of one call of Parse.
type parser struct {
	file     string
	dir      string // where relative paths start
	src      []byte
	env      Env
	problems Problems
	redactor *redactor          // created when the first line is quoted
	warned   map[string]bool    // see once
	blocks   map[BackendRef]int // places in Config.Backends, once all are known
	domains  map[string]bool    // names of the domain blocks
	keySize  int                // while a key is evaluated: a file of this size is taken as it is
	files    []string           // that file() and ca_file have read
}

func newParser(filename string, src []byte, env Env) *parser {
	p := &parser{file: filename, dir: filepath.Dir(filename), src: src, env: env, warned: make(map[string]bool), domains: make(map[string]bool)}
	if abs, err := filepath.Abs(p.dir); err == nil {
		p.dir = abs
	}
	return p
}

// once returns true at the first call for a key, for warnings that are given once.
func (p *parser) once(key string) bool {
	known := p.warned[key]
	p.warned[key] = true
	return !known
}

// sorted sorts the problems by their place in the file and returns them.
func (p *parser) sorted() Problems {
	slices.SortStableFunc(p.problems, func(a, b Problem) int {
		return cmp.Or(a.Line-b.Line, a.Column-b.Column)
	})
	return p.problems
}

// root decodes the whole file: its body and, in their places, the pieces that are still to be parsed. ok is false
// if one of these cannot be. Backends come before the domains that name them, and domains before the listeners,
// to check their default_domain.
func (p *parser) root(body *hclsyntax.Body, late []piece) (cfg *Config, ok bool) {
	s := p.open("", body, nil)
	cfg = &Config{
		DataDir:      p.resolve(p.dir, s.textOr("data_dir", defaultDataDir)),
		DrainTimeout: s.duration("drain_timeout", 10*time.Second, 0),
	}
	backends := s.sections("backend")
	for _, child := range backends {
		cfg.Backends = append(cfg.Backends, p.backend(child, cfg))
	}
	p.blocks = make(map[BackendRef]int, len(cfg.Backends))
	for i := range cfg.Backends {
		p.blocks[cfg.Backends[i].BackendRef] = i
	}
	cfg.Registry = p.registry(s, cfg)
	if !p.allDomains(s, late, cfg) {
		return nil, false
	}
	for _, child := range s.sections("listen") {
		cfg.Listeners = append(cfg.Listeners, p.listener(child, cfg))
	}
	p.localDomains(s, cfg)
	cfg.Store = p.store(s, cfg)
	cfg.Metrics = p.metrics(p.only(s, "metrics"), cfg)
	cfg.Web = p.webPages(p.only(s, "web"), cfg)
	cfg.Log = p.log(s, cfg)
	cfg.Audit = p.audit(p.only(s, "audit"), cfg)
	if len(s.children("domain"))+len(late) == 0 && !cfg.Registry.Declared {
		p.complain(hcl.Range{}, "no domain is configured, so every login would be refused",
			`add domain "example.org" { backends = [...] }, or domain "*" for all domains, or registry {} to register them with "postern domain add"`)
	}
	used := make(map[BackendRef]bool, len(cfg.Backends))
	for i := range cfg.Domains {
		for _, ref := range cfg.Domains[i].Backends {
			used[ref] = true
		}
		if apps := cfg.Domains[i].AppPasswords; apps != nil {
			used[apps.Backend] = true
		}
	}
	for _, child := range backends {
		if ref := (BackendRef{child.labels[0], child.labels[1]}); !used[ref] {
			p.warn(child.header, fmt.Sprintf("no domain uses backend.%s", ref),
				"name it in the backends of a domain, or remove the block")
		}
	}
	return cfg, true
}

// allDomains decodes the domain blocks of the body and of the late pieces, in the order of the file. It is false if
// a piece cannot be parsed.
func (p *parser) allDomains(s *section, late []piece, cfg *Config) bool {
	blocks := s.children("domain")
	decode := func(blocks []*hclsyntax.Block) {
		for _, b := range blocks {
			if child := p.section(s.spec.path, b); child != nil {
				cfg.Domains = append(cfg.Domains, p.domain(child, cfg))
			}
		}
	}
	for i := range late {
		n := 0
		for n < len(blocks) && blocks[n].TypeRange.Start.Byte < late[i].at.Byte {
			n++
		}
		decode(blocks[:n])
		blocks = blocks[n:]
		body, ok := late[i].parse(p.file)
		if !ok {
			return false
		}
		decode(body.Blocks)
	}
	decode(blocks)
	return true
}

// localDomains warns if the map domain of socketmap may lack domains: postern 0.1 took every domain
// for local where there is a block "*".
func (p *parser) localDomains(s *section, cfg *Config) {
	for _, child := range s.children("listen") {
		if len(child.Labels) == 0 || !slices.ContainsFunc(cfg.Listeners, func(l Listener) bool {
			return l.Name == child.Labels[0] && l.Protocol == string(protocol.Socketmap)
		}) {
			continue
		}
		if all := cfg.DomainFor("*"); all != nil && all.Name == "*" && all.Local == nil {
			p.warn(child.DefRange(), `the map "domain" does not have the domains for which only domain "*" answers`,
				`write local = ["example.org"] into that block, with the domains that this machine receives mail for beside those of the users file, or local = []`)
		}
	}
}

// NeedsStore reports whether the store must be opened, for a cache, a roster, app passwords or
// registered domains, or since other machines share it.
func (c *Config) NeedsStore() bool {
	return c.Store.Kind != "" || c.Registry.Declared || slices.ContainsFunc(c.Domains, func(d Domain) bool {
		return d.Cache.Storage == StorageDisk || d.Roster != nil || d.AppPasswords != nil
	})
}

// DomainFor returns the block that answers for a domain: its own, or else the one named "*"; nil
// if there is neither.
func (c *Config) DomainFor(name string) (found *Domain) {
	for i := range c.Domains {
		switch c.Domains[i].Name {
		case name:
			return &c.Domains[i]
		case "*":
			found = &c.Domains[i]
		}
	}
	return found
}

// backend returns the backend of that name, or nil.
func (c *Config) backend(ref BackendRef) *Backend {
	for i := range c.Backends {
		if c.Backends[i].BackendRef == ref {
			return &c.Backends[i]
		}
	}
	return nil
}

// resolve makes path absolute, starting from dir.
func (p *parser) resolve(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// log decodes the log block, or returns the defaults.
func (p *parser) log(s *section, cfg *Config) Log {
	child := p.only(s, "log")
	return Log{
		Level:  child.word("level", "info", "debug", "info", "warn", "error"),
		Format: child.word("format", "text", "text", "json"),
		File:   p.resolve(cfg.DataDir, child.textOr("file", "")),
	}
}

// audit decodes the audit block, which may be absent.
func (p *parser) audit(s *section, cfg *Config) Audit {
	if s.absent {
		return Audit{}
	}
	out := Audit{File: p.resolve(cfg.DataDir, s.textOr("file", "")), Syslog: s.textOr("syslog", "")}
	switch {
	case out.File == "" && out.Syslog == "":
		p.complain(s.header, "the block does not say where the audit log is", `add file = "/var/log/postern/audit.log", or syslog = "/dev/log"`)
	case out.File != "" && out.File == cfg.Log.File:
		p.complain(s.at("file"), "the log is in this file", "give each its own")
	case out.Syslog != "" && !filepath.IsAbs(out.Syslog):
		p.complain(s.at("syslog"), "syslog is not an absolute path", `write it as in "/dev/log"`)
	}
	return out
}
