package doctor

// daemonUser is the user of the daemon that systemd starts.
type daemonUser struct {
	name string
	uid  int
}

// service returns the user of postern.service, if that is enabled or running, or one of its socket units is:
// then the data directory is that user's. ok is false otherwise.
func (e *Env) service() (s daemonUser, ok bool) {
	name, found := e.unit.runsAs()
	if !found || len(e.Glob("/etc/systemd/system/*.wants/postern*"))+len(e.Glob("/run/systemd/units/invocation:postern.service")) == 0 {
		return s, false
	}
	uid, err := e.UserID(name)
	return daemonUser{name, uid}, err == nil
}

// runsAs returns the account that the daemon runs as: the user of its service or, without one, the owner of the
// data directory.
func (e *Env) runsAs(data File) account {
	if s, ok := e.service(); ok {
		return account{s.uid, e.Groups(s.uid)}
	}
	return account{data.UID, append(e.Groups(data.UID), data.GID)}
}

// misowned reports that the data directory belongs to another user than that of the service. It is the one
// finding about that, for any user that runs doctor: what follows from it needs no cure of its own.
func (e *Env) misowned(dir string) (out []Outcome, yes bool) {
	f, err := e.Stat(dir)
	s, ok := e.service()
	if err != nil || !ok || f.UID == s.uid {
		return nil, false
	}
	owner := e.UserName(f.UID)
	cure := "sudo chown -R " + s.name + ": " + dir + " && sudo systemctl restart postern"
	if f.UID != 0 {
		cure += `; ` + owner + ` needs no directory: with listen "relay" {} in the configuration its ` + "`postern pipe` asks the daemon"
	}
	return fail(dir+" belongs to "+owner+", but postern.service runs as "+s.name, cure), true
}
