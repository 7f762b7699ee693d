package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"postern/internal/config"
)

// ejabberdFiles are the places where packages install ejabberd's configuration.
var ejabberdFiles = [...]string{"/etc/ejabberd/ejabberd.yml", "/opt/ejabberd/conf/ejabberd.yml"}

// ejabberdAuth returns the chain of an ejabberd on this machine. Without one, or without external
// authentication in it, there is no finding. file is its configuration; empty means the usual
// places. cfg may be nil.
func (e *Env) ejabberdAuth(file string, cfg *config.Config) Chain {
	return Chain{"ejabberd", []Step{
		{Check: "auth", Run: func(context.Context) []Outcome { return e.ejabberd(file) }},
		{Check: "pipe", Alone: true, Run: func(ctx context.Context) []Outcome { return e.beside(ctx, file, cfg) }},
	}}
}

// beside checks that an ejabberd which starts `postern pipe` reaches the daemon, if the service is enabled.
func (e *Env) beside(ctx context.Context, file string, cfg *config.Config) []Outcome {
	const name = "ejabberd" // the user of Debian's package and of the vendor's
	uid, err := e.UserID(name)
	if _, ok := e.service(); !ok || err != nil || !e.startsPipe(file) {
		return nil
	}
	cure := `add listen "relay" {} to the configuration, or ejabberd to users there, then ` + e.cure.reload()
	if cfg == nil {
		return e.tryRelay(ctx, uid, cure)
	}
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		if l.Protocol != "relay" || l.Address != config.RelayPath {
			continue
		}
		switch member := e.inGroup(uid, l.Group); {
		case l.Users != nil && !slices.Contains(l.Users, name),
			l.Mode&0o002 == 0 && !(l.Mode&0o020 != 0 && member) && !(l.Mode&0o200 != 0 && l.Owner == name):
			return fail("listener \""+l.Name+"\" does not admit the user ejabberd, whose `postern pipe` asks there", cure)
		case !l.Changes, l.ChangeUsers != nil && !slices.Contains(l.ChangeUsers, name):
			return fine("ejabberd's `postern pipe` asks the daemon; it may not register accounts or set passwords")
		}
		return fine("ejabberd's `postern pipe` asks the daemon")
	}
	return fail("ejabberd starts `postern pipe` beside the daemon, which has no listener at "+config.RelayPath, cure)
}

// startsPipe reports whether ejabberd starts `postern pipe` without the name of a socket or of another
// configuration.
func (e *Env) startsPipe(file string) bool {
	places := []string{file}
	if file == "" {
		places = ejabberdFiles[:]
	}
	for _, place := range places {
		text, err := e.ReadFile(place)
		if err != nil {
			continue
		}
		options, _ := ejabberdOptions(string(text))
		for _, program := range options["extauth_program"] {
			if strings.Contains(program, "postern pipe") && !strings.Contains(program, "--socket") &&
				!strings.Contains(strings.ReplaceAll(program, "--config "+config.DefaultPath, ""), "--config") {
				return true
			}
		}
	}
	return false
}

// inGroup reports whether a user is in a group.
func (e *Env) inGroup(uid int, group string) bool {
	gid, err := e.GroupID(group)
	return err == nil && slices.Contains(e.Groups(uid), gid)
}

// tryRelay connects to the daemon as ejabberd does, if doctor runs as its user.
func (e *Env) tryRelay(ctx context.Context, uid int, cure string) []Outcome {
	if e.UID != uid {
		return nil
	}
	c, err := e.Dial(ctx, "unix", config.RelayPath)
	if err != nil {
		return fail(config.RelayPath+": "+why(err), "start the daemon: "+e.cure.systemctl("start")+"; if it runs, "+cure)
	}
	defer c.Close()
	if end, ok := ctx.Deadline(); ok {
		_ = c.SetReadDeadline(end)
	}
	switch n, err := c.Read(make([]byte, 1)); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fail("the daemon does not answer at "+config.RelayPath, e.cure.systemctl("restart"))
	case n == 0 || err != nil:
		return fail("the daemon closes the connections of ejabberd's user at "+config.RelayPath, cure)
	}
	return fine("ejabberd's `postern pipe` asks the daemon")
}

func (e *Env) ejabberd(file string) []Outcome {
	places := []string{file}
	if file == "" {
		places = ejabberdFiles[:]
	}
	for _, place := range places {
		data, err := e.ReadFile(place)
		switch {
		case errors.Is(err, fs.ErrNotExist) && file == "":
			continue
		case err != nil && file != "":
			return warn(place+" cannot be read: "+cause(err).Error(), "correct --ejabberd, or run doctor as a user who may read it")
		case err != nil:
			return skip(place+" cannot be read by this user", "")
		}
		return e.ejabberdConfig(place, string(data))
	}
	return nil
}

// ejabberdOptions reads a configuration, of whatever host: the values of each option, and the lines
// without comments. The options examined have a word or a string as value, so a YAML parser is not
// needed.
func ejabberdOptions(text string) (options map[string][]string, keep []string) {
	options = map[string][]string{}
	for line := range strings.Lines(text) {
		if i := strings.Index(line, " #"); i >= 0 {
			line = line[:i]
		}
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			keep = append(keep, line)
		}
		key, value, found := strings.Cut(strings.Trim(line, " \t-\r\n"), ":")
		if found && !strings.HasPrefix(key, "#") {
			key = strings.Trim(key, `"'`)
			options[key] = append(options[key], strings.Trim(strings.TrimSpace(value), `"'`))
		}
	}
	return options, keep
}

// ejabberdConfig checks the lines of a configuration.
func (e *Env) ejabberdConfig(file, text string) (out []Outcome) {
	options, keep := ejabberdOptions(text)
	programs := options["extauth_program"]
	if len(programs) == 0 {
		return nil
	}
	for _, program := range programs {
		out = append(out, e.extauth(file, program)...)
	}
	off := func(option string) bool {
		return slices.ContainsFunc(options[option], func(v string) bool { return v == "false" || v == "no" || v == "off" })
	}
	if !off("auth_use_cache") && !off("use_cache") {
		out = append(out, warn(file+": ejabberd has a cache of its own, which refuses a changed password and reports a new user as missing for an hour",
			"write auth_use_cache: false, then ejabberdctl reload_config")...)
	}
	if !strings.Contains(strings.Join(keep, ""), "X-OAUTH2") {
		out = append(out, warn(file+": ejabberd offers the mechanism X-OAUTH2, with which no password reaches postern",
			`write disable_sasl_mechanisms: ["X-OAUTH2"], then ejabberdctl reload_config`)...)
	}
	if _, bans := options["mod_fail2ban"]; bans {
		out = append(out, warn(file+": mod_fail2ban takes the answers of an outage for wrong passwords, and bans an address, with everybody behind it, after 20 of them",
			"remove it (postern limits wrong passwords itself), or end a ban: ejabberdctl unban_ip ADDRESS")...)
	}
	if len(out) == 0 {
		return fine("%s: external authentication without a cache of ejabberd's", file)
	}
	return out
}

// extauth checks the program that ejabberd starts.
func (e *Env) extauth(file, command string) []Outcome {
	words := strings.Fields(command)
	if len(words) == 0 {
		return fail(file+": extauth_program is empty", `write extauth_program: "/usr/bin/postern pipe --protocol ejabberd"`)
	}
	program := words[0]
	if !filepath.IsAbs(program) {
		return fail(file+": extauth_program is not an absolute path: "+program, `write the whole path, as in "/usr/bin/postern pipe --protocol ejabberd"`)
	}
	f, err := e.Stat(program)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail(file+": extauth_program does not exist: "+program, "install it, or correct the path; a program that cannot start disables external authentication on all of ejabberd's hosts")
	case err == nil && (f.Mode.IsDir() || f.Mode.Perm()&0o111 == 0):
		return fail(file+": extauth_program cannot be executed: "+program, "chmod 755 "+program)
	case filepath.Base(program) == "postern" && subcommand(words[1:]) != "pipe":
		return fail(file+": extauth_program starts postern, but not its pipe", `write "`+program+` pipe --protocol ejabberd"`)
	}
	return nil
}

// subcommand returns the first word of postern's command line that is neither a flag nor the value
// of one. Of the flags allowed before it, only --embedded has no value.
func subcommand(words []string) string {
	for i := 0; i < len(words); i++ {
		switch flag := words[i]; {
		case !strings.HasPrefix(flag, "-"):
			return flag
		case flag != "--embedded" && !strings.Contains(flag, "="):
			i++
		}
	}
	return ""
}
