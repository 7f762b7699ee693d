package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

type entry struct {
	tar.Header
	data []byte
}

// untar reads an archive, and fails the test if it has a name twice.
func untar(t *testing.T, r io.Reader) map[string]entry {
	t.Helper()
	all := make(map[string]entry)
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := all[h.Name]; twice {
			t.Errorf("%s is there twice", h.Name)
		}
		all[h.Name] = entry{*h, data}
	}
}

// decode reads the JSON of a file of the image.
func decode(t *testing.T, files map[string]entry, name string, to any) {
	t.Helper()
	if err := json.Unmarshal(files[name].data, to); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// The image is one that can be loaded: each descriptor has the digest and the size of its blob, from
// the index to the layer, and the layer has the programs, for the user of the configuration.
func TestImage(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"postern": "the broker", "postern-relay": "the relay", "ca.crt": "an authority"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := options{arch: "arm64", version: "1.2.3~rc1+5.g01", programs: dir, certificates: filepath.Join(dir, "ca.crt"),
		out: filepath.Join(dir, "image.tar"), made: time.Unix(1e9, 0).UTC()}
	build := func() []byte {
		if err := write(o); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(o.out)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	data := build()
	if !bytes.Equal(data, build()) {
		t.Error("equal input yields other bytes")
	}
	files := untar(t, bytes.NewReader(data))

	blob := func(d descriptor) []byte {
		t.Helper()
		data := files[d.path()].data
		if digest(data) != d.Digest || len(data) != d.Size {
			t.Errorf("the blob of %+v has digest %s and %d bytes", d, digest(data), len(data))
		}
		return data
	}
	var layout struct{ ImageLayoutVersion string }
	decode(t, files, "oci-layout", &layout)
	var index struct{ Manifests []descriptor }
	decode(t, files, "index.json", &index)
	if layout.ImageLayoutVersion != "1.0.0" || len(index.Manifests) != 1 {
		t.Fatalf("layout %+v, index %+v", layout, index)
	}
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	if err := json.Unmarshal(blob(index.Manifests[0]), &manifest); err != nil || len(manifest.Layers) != 1 {
		t.Fatalf("manifest %+v, %v", manifest, err)
	}
	var config struct {
		Architecture, OS string
		Config           struct {
			User            string
			Entrypoint, Cmd []string
		}
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(blob(manifest.Config), &config); err != nil {
		t.Fatal(err)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(blob(manifest.Layers[0])))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	if got := config.RootFS.DiffIDs; config.Architecture != "arm64" || config.OS != "linux" || len(got) != 1 || got[0] != digest(plain) {
		t.Errorf("configuration %+v, and the layer is %s", config, digest(plain))
	}
	layer := untar(t, bytes.NewReader(plain))
	for name, want := range map[string]struct {
		mode int64
		user int
		text string
	}{
		"usr/bin/postern":                   {0o755, 0, "the broker"},
		"usr/lib/postern/postern-relay":     {0o755, 0, "the relay"},
		"etc/ssl/certs/ca-certificates.crt": {0o644, 0, "an authority"},
		"var/lib/postern/":                  {0o711, user, ""},
		"run/postern/":                      {0o755, user, ""},
		"tmp/":                              {0o1777, 0, ""},
	} {
		if got, ok := layer[name]; !ok || got.Mode != want.mode || got.Uid != want.user || string(got.data) != want.text {
			t.Errorf("%s: mode %o, user %d, %q; want %+v", name, got.Mode, got.Uid, got.data, want)
		}
	}
	if config.Config.User != "65532" || config.Config.Entrypoint[0] != "/usr/bin/postern" || config.Config.Cmd[0] != "serve" {
		t.Errorf("it runs %+v", config.Config)
	}
	// Docker's own list names the same blobs.
	var docker []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	decode(t, files, "manifest.json", &docker)
	if len(docker) != 1 || docker[0].Config != manifest.Config.path() || docker[0].Layers[0] != manifest.Layers[0].path() || docker[0].RepoTags[0] != "postern:1.2.3-rc1-5.g01" {
		t.Errorf("manifest.json is %+v", docker)
	}
	if err := os.Remove(filepath.Join(dir, "postern")); err != nil {
		t.Fatal(err)
	}
	if write(o) == nil {
		t.Error("an image without the program was written")
	}
}
