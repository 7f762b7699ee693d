// Package config turns an HCL file into a validated Config: what is written,
// over the defaults, checked and typed. Every complaint names the file, line and
// column, shows the line with secrets blanked, and says what to do. The file's
// vocabulary is the table in schema.go; config.hcl.example shows all of it.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// DefaultPath is where the programs look for the configuration.
const DefaultPath = "/etc/postern/config.hcl"

// defaultDataDir is where postern keeps what it writes.
const defaultDataDir = "/var/lib/postern"

// Bounds on what is read, in bytes. They keep a mistyped path (a device, a log)
// from filling the memory.
const (
	maxSource  = 16 << 20 // a configuration
	maxInclude = 1 << 20  // a file named in file() or ca_file
)

// errTooLarge is returned for a file beyond its bound.
var errTooLarge = errors.New("the file is too large for what it should hold")

// Env is what a configuration may learn about the machine. A nil function means
// that nothing is there.
type Env struct {
	ReadFile  func(name string) ([]byte, error)
	LookupEnv func(name string) (string, bool)
	Stat      func(name string) (fs.FileInfo, error)
}

// OSEnv is the Env of the running process.
func OSEnv() Env {
	return Env{
		ReadFile:  func(name string) ([]byte, error) { return readRegular(name, maxInclude) },
		LookupEnv: os.LookupEnv,
		Stat:      os.Stat,
	}
}

// errIrregular is returned for a FIFO, a device or a socket.
var errIrregular = errors.New("it is not a regular file")

// readRegular reads a file that a running daemon may read at any time, so it must neither wait
// for whom a FIFO waits for, nor be told something else at every reading.
func readRegular(name string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() && !info.IsDir() { // of which reading tells
		return nil, errIrregular
	}
	return readAll(f, limit)
}

// readBounded reads a file of any kind, such as a pipe, to its end.
func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, limit)
}

func readAll(f *os.File, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, errTooLarge
	}
	return data, nil
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

// mode returns the permission bits of a file, and 0 where they cannot be told.
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

// Load reads and parses the configuration at path with the environment of the
// process. The Config is nil if a Problem is an error; see Parse. A pipe is read to its end.
func Load(path string) (*Config, Problems) { return load(path, readBounded) }

// Reload is Load for a process that must go on whatever path has become: it reads regular
// files only, and waits for nobody.
func Reload(path string) (*Config, Problems) { return load(path, readRegular) }

func load(path string, read func(name string, limit int64) ([]byte, error)) (*Config, Problems) {
	src, err := read(path, maxSource)
	if err == nil {
		return Parse(path, src, OSEnv())
	}
	cure := "check the path and that the user postern runs as may read it"
	if errors.Is(err, fs.ErrNotExist) {
		cure = "write one after config.hcl.example, or name another with --config"
	}
	return nil, Problems{{
		Severity: Error, File: path, Cure: cure,
		Message: fmt.Sprintf("cannot read the configuration: %v", cause(err)),
	}}
}

// cause strips the path from an error of package os, which the caller prints.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// Parse turns the text of a configuration into a Config with every default filled
// in. filename stands in messages, is what relative paths of file() and ca_file
// start from, and is looked at (env.Stat) for its permissions. The Config is nil if
// any Problem is an error; warnings come with a Config. Parse never panics, since a daemon
// reads its configuration while it serves, and no Problem holds a secret.
func Parse(filename string, src []byte, env Env) (cfg *Config, problems Problems) {
	defer func() {
		if reason := recover(); reason != nil {
			fault := fmt.Sprintf("%T", reason) // it may hold what the file says
			if err, ok := reason.(runtime.Error); ok {
				fault = err.Error()
			}
			cfg, problems = nil, Problems{{
				Severity: Error, File: filename, Cure: "take back the last change, and please report the fault",
				Message: "postern has a fault that this configuration meets: " + fault,
			}}
		}
	}()
	return parseFile(filename, src, env)
}

func parseFile(filename string, src []byte, env Env) (*Config, Problems) {
	p := &parser{file: filename, dir: sourceDir(filename), src: src, env: env}
	if len(src) > maxSource {
		p.complain(hcl.Range{}, "the configuration is too large", "is this the right file?")
		return nil, p.problems
	}
	file, diags := hclsyntax.ParseConfig(src, filename, hcl.InitialPos)
	if diags.HasErrors() {
		p.syntax(diags)
		return nil, p.sorted()
	}
	body, ok := file.Body.(*hclsyntax.Body)
	if !ok {
		p.complain(hcl.Range{}, "the configuration is not HCL", "write it after config.hcl.example")
		return nil, p.problems
	}
	cfg := p.root(body)
	problems := p.sorted()
	if problems.Failed() {
		return nil, problems
	}
	return cfg, problems
}

// sourceDir is where relative paths of a configuration start.
func sourceDir(filename string) string {
	dir := filepath.Dir(filename)
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

// parser carries one run of Parse.
type parser struct {
	file     string
	dir      string
	src      []byte
	env      Env
	problems Problems
	redactor *redactor       // made when the first line is quoted
	warned   map[string]bool // warnings that are given once
}

// once reports whether the warning named key has not been given yet.
func (p *parser) once(key string) bool {
	if p.warned[key] {
		return false
	}
	if p.warned == nil {
		p.warned = make(map[string]bool)
	}
	p.warned[key] = true
	return true
}

// sorted returns the problems in the order of the file.
func (p *parser) sorted() Problems {
	slices.SortStableFunc(p.problems, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return p.problems
}

// root decodes the whole file. Backends come before the domains that name them.
func (p *parser) root(body *hclsyntax.Body) *Config {
	s := p.open("", body, nil)
	cfg := &Config{
		DataDir:      p.resolve(p.dir, s.path("data_dir", defaultDataDir)),
		DrainTimeout: s.duration("drain_timeout", 10*time.Second, 0),
	}
	for _, b := range s.children("listen") {
		if child := p.section("", b); child != nil {
			cfg.Listeners = append(cfg.Listeners, p.listener(child, cfg))
		}
	}
	for _, b := range s.children("backend") {
		if child := p.section("", b); child != nil {
			cfg.Backends = append(cfg.Backends, p.backend(child, cfg))
		}
	}
	limit := p.limit(p.only(s, "limit"), defaultLimit())
	used := make(map[BackendRef]bool)
	for _, b := range s.children("domain") {
		if child := p.section("", b); child != nil {
			cfg.Domains = append(cfg.Domains, p.domain(child, cfg, used, limit))
		}
	}
	cfg.Registry = p.registry(s)
	cfg.Registry.Limit = limit
	cfg.Metrics = p.metrics(p.only(s, "metrics"), cfg)
	cfg.Log = p.log(s, cfg)
	p.afterwards(s, cfg, used)
	return cfg
}

// afterwards checks what can be told only when all blocks are known.
func (p *parser) afterwards(s *section, cfg *Config, used map[BackendRef]bool) {
	if len(s.children("domain")) == 0 && !cfg.Registry.Declared {
		p.complain(hcl.Range{}, "no domain is configured, so every login would be refused",
			`add domain "example.org" { backends = [...] }, or domain "*" for all domains, or registry {} to register them with "postern domain add"`)
	}
	for _, b := range s.children("backend") {
		if len(b.Labels) == 2 {
			ref := BackendRef{b.Labels[0], b.Labels[1]}
			if cfg.backend(ref) != nil && !used[ref] {
				p.warn(b.DefRange(), fmt.Sprintf("no domain uses backend.%s", ref),
					"name it in the backends of a domain, or remove the block")
			}
		}
	}
	for _, b := range s.children("listen") {
		p.checkDefaultDomain(b, cfg)
	}
}

// NeedsStore reports whether something is to be kept on disk. An open store serves registered
// domains too, whoever asked for it.
func (c *Config) NeedsStore() bool {
	return c.Registry.Declared || slices.ContainsFunc(c.Domains, func(d Domain) bool {
		return d.Cache.Storage == StorageDisk || d.Roster != nil
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

// log decodes the log block, which may be absent but not repeated.
func (p *parser) log(s *section, cfg *Config) Log {
	out := Log{Level: "info", Format: "text"}
	if child := p.only(s, "log"); child != nil {
		out.Level = child.word("level", out.Level, "debug", "info", "warn", "error")
		out.Format = child.word("format", out.Format, "text", "json")
		out.File = p.resolve(cfg.DataDir, child.path("file", ""))
	}
	return out
}
