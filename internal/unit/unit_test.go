package unit

import (
	"errors"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

// machine is a file system with files, by their absolute paths.
func machine(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range files {
		out[strings.TrimPrefix(name, "/")] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

func none(string) (string, bool) { return "", false }

const shipped = "[Unit]\nUser=other\n[Service]\nExecStart=/usr/bin/postern serve\nUser=postern\nGroup=postern\nStateDirectory=postern\n"

func TestLoad(t *testing.T) {
	base := Service{
		File: "/usr/lib/systemd/system/postern.service", User: "postern", Group: "postern", StateDirs: []string{"/var/lib/postern"},
		Command: []string{"/usr/bin/postern", "serve"},
	}
	with := func(change func(*Service)) Service {
		s := base
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  Service
		err   error
	}{
		"none":    {nil, Service{}, fs.ErrNotExist},
		"shipped": {map[string]string{"/usr/lib/systemd/system/postern.service": shipped}, base, nil},
		"masked": {map[string]string{"/usr/lib/systemd/system/postern.service": shipped, "/etc/systemd/system/postern.service": ""},
			Service{}, fs.ErrNotExist},
		"a copy in /etc": {map[string]string{"/usr/lib/systemd/system/postern.service": shipped, "/etc/systemd/system/postern.service": "[Service]\nUser=mail\n"},
			Service{File: "/etc/systemd/system/postern.service", User: "mail"}, nil},
		"drop-ins in the order of their names, of all directories": {map[string]string{
			"/usr/lib/systemd/system/postern.service":              shipped,
			"/run/systemd/system/postern.service.d/20-b.conf":      "[Service]\nUser=b\n",
			"/etc/systemd/system/postern.service.d/10-a.conf":      "[Service]\nUser=a\nSupplementaryGroups=ejabberd\n",
			"/etc/systemd/system/postern.service.d/30-groups.conf": "[Service]\nSupplementaryGroups=prosody sasl\n",
			"/etc/systemd/system/postern.service.d/40-none":        "[Service]\nUser=c\n",
		}, with(func(s *Service) { s.User, s.Groups = "b", []string{"ejabberd", "prosody", "sasl"} }), nil},
		"a drop-in of the same name hides that of a lower directory": {map[string]string{
			"/usr/lib/systemd/system/postern.service":        shipped,
			"/lib/systemd/system/postern.service.d/x.conf":   "[Service]\nUser=low\n",
			"/etc/systemd/system/postern.service.d/x.conf":   "[Service]\nGroup=high\n",
			"/etc/systemd/system/postern.service.d/y.conf":   "[Service]\nExecStart=\nExecStart=/usr/bin/postern \\\n# why\n  serve --config /etc/p.hcl\n",
			"/etc/systemd/system/postern.service.d/z.conf":   "[Install]\nUser=no\n",
			"/etc/systemd/system/postern.service.d/st.conf":  "[Service]\nStateDirectory=\nStateDirectory=one/two three:link\n",
			"/etc/systemd/system/other.service.d/other.conf": "[Service]\nUser=no\n",
		}, with(func(s *Service) {
			s.Group, s.Command = "high", []string{"/usr/bin/postern", "serve", "--config", "/etc/p.hcl"}
			s.StateDirs = []string{"/var/lib/one/two", "/var/lib/three"}
		}), nil},
		"credentials": {map[string]string{
			"/usr/lib/systemd/system/postern.service": shipped + "LoadCredential=gone:/none\n",
			"/etc/systemd/system/postern.service.d/a.conf": "[Service]\nLoadCredential=\nLoadCredential=a:/etc/100%%\nLoadCredential=b\nLoadCredentialEncrypted=c:c.cred\n; LoadCredential=d\n" +
				"SetCredential=gone:x\nSetCredential=\nSetCredential=e:a text: of words\nSetCredentialEncrypted=f: \\\n  abc \\\n  def\n",
		}, with(func(s *Service) {
			s.Credentials = []Credential{{"a", "/etc/100%", false}, {"b", "", false}, {"c", "c.cred", true}}
			s.Set = []string{"e", "f"}
		}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Load(machine(c.files), Dirs(none), Name)
			if !errors.Is(err, c.err) || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v, %v\nwant %+v, %v", got, err, c.want, c.err)
			}
		})
	}
}

// The unit that is installed says what the rest of the program relies on.
func TestShippedUnit(t *testing.T) {
	s, err := Load(os.DirFS("../../scripts"), []string{"/systemd"}, Name)
	if err != nil || s.User != "postern" || s.Group != "postern" || !reflect.DeepEqual(s.StateDirs, []string{"/var/lib/postern"}) || len(s.Command) < 2 || s.Command[1] != "serve" || s.Credentials != nil {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestDirs(t *testing.T) {
	for path, want := range map[string]string{"": "/etc/systemd/system", "/a:/b": "/a", "/a:": "/a"} {
		dirs := Dirs(func(string) (string, bool) { return path, path != "" })
		if dirs[0] != want || (path == "/a:/b") != (len(dirs) == 2) {
			t.Errorf("%q: %q", path, dirs)
		}
	}
}

func TestCredential(t *testing.T) {
	s := Service{Credentials: []Credential{{"a", "/etc/a", false}, {"a", "/etc/b", false}, {"b", "", false}, {"c", "x", true}}}
	for name, want := range map[string]string{"a": "/etc/b", "b": "/etc/credstore/b", "c": "/etc/credstore/x", "d": ""} {
		c, ok := s.Credential(name)
		if ok != (want != "") || ok && c.Sources()[0] != want {
			t.Errorf("%s: %+v, %t", name, c, ok)
		}
	}
}

func TestOption(t *testing.T) {
	for command, want := range map[string]string{"postern serve": "", "postern serve --config /a": "/a", "postern --config=/b serve": "/b", "postern --config": ""} {
		s := Service{Command: strings.Fields(command)}
		if got := s.Option("--config"); got != want {
			t.Errorf("%s: %q", command, got)
		}
	}
}

func TestEnabledSockets(t *testing.T) {
	got := EnabledSockets(machine(map[string]string{
		"/etc/systemd/system/sockets.target.wants/postern-generic.socket":      "",
		"/etc/systemd/system/sockets.target.wants/ssh.socket":                  "",
		"/usr/lib/systemd/system/postern-dovecot.socket":                       "",
		"/run/systemd/system/sockets.target.wants/postern-generic.socket":      "",
		"/usr/lib/systemd/system/sockets.target.wants/postern-ejabberd.socket": "",
	}), Dirs(none))
	if want := []string{"postern-ejabberd.socket", "postern-generic.socket"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(shipped)
	f.Add("[Service]\nUser=a\\\n#x\n\\\n=b\nLoadCredential=:\nExecStart=\\")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Load(machine(map[string]string{"/etc/systemd/system/postern.service": text}), Dirs(none), Name)
		if (err == nil) != (text != "") {
			t.Errorf("%v", err)
		}
		for _, c := range s.Credentials {
			if len(c.Sources()) == 0 || strings.ContainsAny(c.Name, "\n:") {
				t.Errorf("%+v", c)
			}
		}
	})
}
