package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"postern/internal/unit"
)

// credentialsDir is where a process of the service finds its credentials; systemd sets it.
const credentialsDir = "CREDENTIALS_DIRECTORY"

// systemdCredentials has the credentials of running units. The user of a unit may read its own.
const systemdCredentials = "/run/credentials"

// fromCredential evaluates credential("NAME"). Inside the service it is what systemd has put there at
// the start. Elsewhere root reads what the next start will put there, from the LoadCredential= line of
// the unit; what only systemd can read comes from the running service, as all does for the service's user.
func (p *parser) fromCredential(e *hclsyntax.FunctionCallExpr, arg value) (value, bool) {
	name := arg.AsString()
	if arg.external || !plainWord(name) || strings.Trim(name, ".") == "" {
		p.complain(e.Args[0].Range(), "credential takes the name of a credential", "write it with letters, digits and . _ -, as in LoadCredential=NAME:/path")
		return value{}, false
	}
	service, err := p.env.service()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.complain(e.Range(), fmt.Sprintf("cannot read the unit %s: %v", unit.Name, cause(err)), "")
		return value{}, false
	}
	line, loaded := service.Credential(name)
	set := slices.Contains(service.Set, name)
	if dir, inside := p.env.lookup(credentialsDir); inside {
		return p.givenCredential(e, filepath.Join(dir, name), line, loaded || set)
	}
	path := filepath.Join(systemdCredentials, unit.Name, name)
	switch {
	case p.env.Root && loaded && !line.Encrypted:
		return p.loadedCredential(e, path, line, set)
	case p.env.Root && loaded:
		return p.closedCredential(e, path, "encrypted (LoadCredentialEncrypted=)")
	case p.env.Root && set:
		return p.closedCredential(e, path, "written in the unit (SetCredential=)")
	case p.env.Root:
		p.complain(e.Range(), fmt.Sprintf("the unit %s has no credential %s", unit.Name, name), addCredential(name))
		return value{}, false
	}
	data, err := p.env.readFile(path)
	if err != nil {
		cure := "run this as root; " + addCredential(name)
		if loaded || set {
			cure = "run this as root; if this is the service, " + restartService
		}
		p.complain(e.Range(), fmt.Sprintf("the credential %s can be read by root and by the running service only", name), cure)
		return value{}, false
	}
	return p.content(e, data, path)
}

// restartService is the cure for credentials that the service does not have yet.
const restartService = "it needs a restart: systemctl daemon-reload && systemctl restart postern"

// addCredential is the cure for a credential that the unit does not list.
func addCredential(name string) string {
	return fmt.Sprintf("add a line LoadCredential=%s:/etc/postern/%[1]s to [Service] (systemctl edit %s), then systemctl restart postern", name, unit.Name)
}

// givenCredential reads a credential inside the service. What systemd put there stays as it is until
// the next start, so a changed source is a warning.
func (p *parser) givenCredential(e *hclsyntax.FunctionCallExpr, path string, line unit.Credential, listed bool) (value, bool) {
	name := filepath.Base(path)
	data, err := p.env.readFile(path)
	switch {
	case err != nil && listed:
		p.complain(e.Range(), fmt.Sprintf("the credential %s came into the unit after the service was started", name), restartService)
		return value{}, false
	case err != nil:
		p.complain(e.Range(), fmt.Sprintf("the service has no credential %s: %v", name, cause(err)), addCredential(name))
		return value{}, false
	}
	if source := p.env.changedSource(path, data, line); listed && source != "" && p.once(path) {
		p.warn(e.Range(), fmt.Sprintf("the credential %s needs a restart: %s has changed since the service was started, which keeps the old text", name, source),
			"systemctl restart postern")
	}
	return p.content(e, data, path)
}

// changedSource returns the file that a credential came from if it has changed since; "" if not, or if
// that is not known. The service may seldom read the file, so its time and size have to do.
func (e Env) changedSource(path string, data []byte, line unit.Credential) string {
	if e.Stat == nil || line.Encrypted {
		return ""
	}
	given, err := e.Stat(path)
	if err != nil {
		return ""
	}
	for _, source := range line.Sources() {
		info, err := e.Stat(source)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		now, err := e.readFile(source)
		if err == nil && bytes.Equal(now, data) || err != nil && !info.ModTime().After(given.ModTime()) && info.Size() == int64(len(data)) {
			return ""
		}
		return source
	}
	return ""
}

// loadedCredential reads, as root, the file that LoadCredential= names. If there is none, set says that the
// unit has a text in its place.
func (p *parser) loadedCredential(e *hclsyntax.FunctionCallExpr, path string, line unit.Credential, set bool) (value, bool) {
	sources := line.Sources()
	for _, source := range sources {
		data, err := p.env.readFile(source)
		if err == nil {
			return p.content(e, data, source)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			p.complain(e.Range(), fmt.Sprintf("cannot read %s, the source of the credential %s: %v", source, line.Name, cause(err)), "correct the path in LoadCredential=, or the file")
			return value{}, false
		}
	}
	if set {
		return p.closedCredential(e, path, "written in the unit (SetCredential=)")
	}
	p.complain(e.Range(), fmt.Sprintf("the source of the credential %s does not exist, so systemd would not start the service", line.Name),
		fmt.Sprintf("create %s, or correct LoadCredential=", sources[0]))
	return value{}, false
}

// closedCredential reads, as root, what the running service has of a credential that only systemd can read; why
// says what keeps others from it.
func (p *parser) closedCredential(e *hclsyntax.FunctionCallExpr, path, why string) (value, bool) {
	data, err := p.env.readFile(path)
	if err == nil {
		return p.content(e, data, path)
	}
	p.complain(e.Range(), fmt.Sprintf("the credential %s is %s, and only systemd can read it, at the start of the service, which does not run", filepath.Base(path), why),
		"start the service, which checks its configuration and logs what is wrong; or put the text into a file, and name that in LoadCredential=")
	return value{}, false
}

// service returns the unit of the daemon; fs.ErrNotExist if there is none.
func (e Env) service() (unit.Service, error) {
	if e.Service == nil {
		return unit.Service{}, fs.ErrNotExist
	}
	return e.Service()
}
