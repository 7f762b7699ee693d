package doctor

import (
	"strings"

	"postern/internal/unit"
)

// cures makes the commands that findings advise: with the flags that name the configuration, for the user that
// may run them.
type cures struct {
	uid       int    // of doctor's user
	owner     string // the user that postern runs as
	ownerUID  int    // of it; -1 if that is not known
	flags     string // that name the configuration, with a space before them; empty for the usual one
	service   bool   // systemd may start the daemon with this configuration
	installed bool   // there is a unit
}

// newCures returns the cures for a subject.
func (e *Env) newCures(s Subject) cures {
	c := cures{uid: e.UID, owner: "postern", ownerUID: -1, flags: s.Flags, service: s.Flags == "", installed: s.Service.Unit.File != ""}
	if s.File != "" && s.File == s.Service.Unit.Option("--config") {
		c.service = true
	}
	dir := s.DataDir
	if s.Config != nil {
		dir = s.Config.DataDir
	}
	if !c.service { // the directory may not exist yet
		c.owner, c.ownerUID = e.UserName(e.UID), e.UID
	}
	if f, err := e.Stat(dir); err == nil {
		c.owner, c.ownerUID = e.UserName(f.UID), f.UID
	}
	if user, ok := e.service(); ok && c.service {
		c.owner, c.ownerUID = user.name, user.uid
	}
	return c
}

// asOwner is a command of postern's for the user that postern runs as.
func (c cures) asOwner(command string) string {
	command = "postern " + command + c.flags
	switch c.ownerUID {
	case c.uid:
		return command
	case 0:
		return "sudo " + command
	}
	return "sudo -u " + c.owner + " " + command
}

// run is a command of postern's that root may run, too.
func (c cures) run(command string) string {
	if c.uid == 0 {
		return "postern " + command + c.flags
	}
	return c.asOwner(command)
}

// doctor runs doctor again, as the user that sees what the daemon sees.
func (c cures) doctor() string {
	return "run doctor as the user that postern runs as: " + c.asOwner("doctor")
}

// reload reads the configuration again.
func (c cures) reload() string { return c.run("reload") }

// start starts the daemon.
func (c cures) start() string {
	switch {
	case !c.service:
		return c.asOwner("serve")
	case !c.installed:
		return c.systemctl("enable --now") + ", or postern serve"
	}
	return c.systemctl("enable --now")
}

// restart says how to start the daemon again.
func (c cures) restart() string {
	if c.service {
		return "restart it: " + c.systemctl("restart")
	}
	return "restart it: stop it, then " + c.asOwner("serve")
}

// systemctl is a command about the unit.
func (c cures) systemctl(verb string) string {
	command := "systemctl " + verb + " " + strings.TrimSuffix(unit.Name, ".service")
	if c.uid != 0 {
		command = "sudo " + command
	}
	return command
}
