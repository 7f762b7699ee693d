package packages

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v2"

	"postern/internal/config"
	"postern/internal/manual"
)

// service is a part of compose.yaml.
type service struct {
	Image   string
	Build   string
	Volumes []string
	Ports   []string
}

// The compose file of the manual fits the image and the configuration beside it: what it mounts is in the
// image, the volumes for its user are that user's, and the servers ask at the sockets of the listeners.
func TestCompose(t *testing.T) {
	page, err := manual.Find("containers")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, b := range page.Blocks {
		if _, name, ok := strings.Cut(b.Info, " "); ok && b.Kind == manual.Code {
			files[name] = strings.Join(b.Lines, "\n") + "\n"
		}
	}
	var compose struct {
		Services map[string]service
		Volumes  map[string]any
	}
	if err := yaml.Unmarshal([]byte(files["compose.yaml"]), &compose); err != nil {
		t.Fatal(err)
	}
	postern := compose.Services["postern"]
	if name, tag, _ := strings.Cut(postern.Image, ":"); name != "postern" || tag == "" {
		t.Errorf("the image is %q", postern.Image)
	}
	root, c := unpack(t)
	mounts := map[string]string{} // by the place in the container
	for _, volume := range postern.Volumes {
		from, to, _ := strings.Cut(volume, ":")
		to, readOnly := strings.CutSuffix(to, ":ro")
		mounts[to] = from
		info, err := os.Stat(root + to)
		if err != nil {
			t.Errorf("%s: %v", volume, err)
			continue
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; !readOnly && (c.User != "65532" || uid != 65532) {
			t.Errorf("%s is user %d's, and the image runs as user %s", to, uid, c.User)
		}
		if _, named := compose.Volumes[from]; !named && !strings.HasPrefix(from, "./") {
			t.Errorf("there is no volume %s", from)
		}
	}
	if mounts[filepath.Dir(config.DefaultPath)] != "./postern" {
		t.Errorf("the configuration is not mounted: %v", mounts)
	}

	all := files["compose.yaml"] + files["prosody/prosody.cfg.lua"] + files["postfix/Dockerfile"]
	for _, l := range composeConfig(t, files["postern/config.hcl"]).Listeners {
		if l.Network != "unix" || mounts[filepath.Dir(l.Address)] != "sockets" || !strings.Contains(all, l.Address) {
			t.Errorf("listener %s is at %s, where no container asks", l.Name, l.Address)
		}
		all = strings.ReplaceAll(all, l.Address, "")
	}
	if strings.Contains(all, ".sock") {
		t.Errorf("a container asks where no listener is:\n%s", all)
	}
	for name, s := range compose.Services {
		if !slices.Contains(s.Volumes, "sockets:/run/postern") || name != "postern" && !strings.HasPrefix(files[filepath.Join(s.Build, "Dockerfile")], "FROM debian:") {
			t.Errorf("service %s: %+v", name, s)
		}
	}
	if len(compose.Services) != 3 || len(postern.Ports) > 0 {
		t.Errorf("services %+v", compose.Services)
	}
}

// composeConfig reads a configuration without complaints.
func composeConfig(t *testing.T, text string) *config.Config {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"config.hcl": text, "nextcloud.secret": "a-secret\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, problems := config.Load(filepath.Join(dir, "config.hcl"))
	if len(problems) > 0 {
		t.Fatalf("%v", problems)
	}
	return cfg
}
