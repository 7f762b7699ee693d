package doctor

import (
	"errors"
	"io/fs"
	"testing"

	"postern/internal/unit"
)

// asRoot makes the machine's doctor root, and gives it the unit.
func asRoot(m *machine) {
	m.UID = rootUID
	m.subject.Service.Unit = unit.Service{File: "/lib/postern.service", User: "postern", Group: "postern", StateDirs: []string{dataDir}}
	m.GroupID = func(name string) (int, error) {
		if gid, known := map[string]int{"postern": posternUID, "sasl": saslGID}[name]; known {
			return gid, nil
		}
		return 0, errors.New("no such group")
	}
}

// Run by root, it lists what the user of the service cannot read, file by file, with the command that mends it.
func TestServiceUser(t *testing.T) {
	const check = "service-user"
	users := dataDir + "/users"
	for name, c := range map[string]struct {
		breaks func(m *machine)
		want   want
	}{
		"nothing": {func(*machine) {}, want{"configuration", check, OK, "postern, the user of postern.service, can read", ""}},
		"the configuration": {func(m *machine) { m.files[conf] = file(0o600, 0, 0) },
			want{"configuration", check, Failure, "cannot read " + conf, "chgrp postern " + conf + " && chmod g+r " + conf}},
		"its folder": {func(m *machine) { m.files["/etc/postern"] = dir(0o700, 0, 0) },
			want{"configuration", check, Failure, "cannot enter /etc/postern", "chmod o+x /etc/postern"}},
		"a secret": {func(m *machine) { m.files["/etc/postern/secret"] = file(0o600, 0, 0) },
			want{"configuration", check, Failure, "cannot read /etc/postern/secret", "chgrp postern /etc/postern/secret && chmod g+r"}},
		"a secret of another group": {func(m *machine) { m.files["/etc/postern/secret"] = file(0o640, 0, saslGID) },
			want{"configuration", check, Failure, "cannot read /etc/postern/secret", "chgrp postern"}},
		"a secret of a further group": {func(m *machine) {
			m.files["/etc/postern/secret"] = file(0o640, 0, saslGID)
			m.subject.Service.Unit.Groups = []string{"sasl"}
		}, want{"configuration", check, OK, "can read", ""}},
		"the users file": {func(m *machine) { m.files[users] = file(0o600, 0, 0) },
			want{"configuration", check, Failure, "cannot read " + users, "chown postern " + users}},
		"the data directory": {func(m *machine) {
			m.files[dataDir] = dir(0o700, 0, 0)
			m.subject.Service.Unit.StateDirs = nil
		}, want{"configuration", check, Failure, "cannot write " + dataDir, "chown -R postern: " + dataDir}},
		"its data directory, without permissions": {func(m *machine) { m.files[dataDir] = dir(0o500, posternUID, posternUID) },
			want{"configuration", check, Failure, "cannot write " + dataDir, "chown"}},
		"a data directory that systemd gives it": {func(m *machine) {
			m.files[dataDir], m.files[users] = dir(0o700, 0, 0), file(0o600, 0, 0)
		}, want{"configuration", check, OK, "can read", ""}},
		"a data directory that it cannot make": {func(m *machine) {
			delete(m.files, dataDir)
			m.subject.Service.Unit.StateDirs = nil
		}, want{"configuration", check, Failure, "cannot create " + dataDir, "install -d -m 0711 -o postern -g postern " + dataDir}},
		"no such user": {func(m *machine) { m.subject.Service.Unit.User = "gone" },
			want{"configuration", check, Failure, "runs as gone, and there is no such user", "systemd-sysusers"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine()
			asRoot(m)
			c.breaks(m)
			c.want.expect(t, m.report(t))
		})
	}
	for name, change := range map[string]func(*machine){
		"not root": func(m *machine) { m.UID = posternUID }, "no unit": func(m *machine) { m.subject.Service = Service{Err: fs.ErrNotExist} },
		"a service of root": func(m *machine) { m.subject.Service.Unit.User = "" },
	} {
		m := newMachine()
		asRoot(m)
		change(m)
		m.files["/etc/postern/secret"] = file(0o600, 0, 0)
		for _, f := range m.report(t).Findings {
			if f.Check == check {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}

// An enabled socket unit is a way in before the daemon runs.
func TestSocketUnitIsAWayIn(t *testing.T) {
	m := newMachine()
	m.texts[conf] = "backend \"users\" \"local\" {}\ndomain \"example.org\" { backends = [backend.users.local] }"
	m.replace(yml, "postern pipe", "postern serve")
	m.Sockets = func() []string { return []string{"postern-generic.socket"} }
	alone(m)
	want{"listener", "any", OK, "postern-generic.socket is enabled", ""}.expect(t, m.report(t))
}
