// Command image writes an OCI image of one layer: the programs, certificates, and a user without rights.
// It needs no network and no other program, and equal input yields equal bytes. The archive is an
// OCI image layout, and has Docker's manifest.json, too: podman and docker load it.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// user is the numeric user of the daemon, and its group.
const user = 65532

// options are the flags.
type options struct {
	arch, version, programs, certificates, out string
	made                                       time.Time
}

func main() {
	var o options
	flag.StringVar(&o.arch, "arch", "amd64", "architecture")
	flag.StringVar(&o.version, "version", "devel", "version, which the tag of the image is made of")
	flag.StringVar(&o.programs, "programs", "bin", "folder of postern and postern-relay")
	flag.StringVar(&o.certificates, "certificates", "/etc/ssl/certs/ca-certificates.crt", "file of the certificate authorities to trust")
	flag.StringVar(&o.out, "out", "postern.tar", "file to write")
	flag.Parse()
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64) // when it was made
	if err == nil {
		o.made = time.Unix(seconds, 0).UTC()
		err = write(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
	fmt.Printf("created %s: %s\n", o.out, o.name())
}

// write writes the archive.
func write(o options) error {
	layer, err := o.layer()
	if err != nil {
		return err
	}
	packed, err := pack(layer)
	if err != nil {
		return err
	}
	var a archive
	a.made = o.made
	layerBlob := a.blob("application/vnd.oci.image.layer.v1.tar+gzip", packed)
	configBlob := a.blob("application/vnd.oci.image.config.v1+json", o.config(layer))
	manifest := a.blob("application/vnd.oci.image.manifest.v1+json", marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": configBlob, "layers": []descriptor{layerBlob},
	}))
	name := o.name()
	manifest.Annotations = map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": o.tag()}
	a.file("oci-layout", marshal(map[string]string{"imageLayoutVersion": "1.0.0"}))
	a.file("index.json", marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}}))
	a.file("manifest.json", marshal([]map[string]any{{
		"Config": configBlob.path(), "RepoTags": []string{name}, "Layers": []string{layerBlob.path()},
	}}))
	data, err := a.close()
	if err != nil {
		return err
	}
	return os.WriteFile(o.out, data, 0o644)
}

// tag is the version as a tag, which cannot have all characters of a version.
func (o options) tag() string { return strings.NewReplacer("+", "-", "~", "-").Replace(o.version) }

// name is what container engines call the image.
func (o options) name() string { return "postern:" + o.tag() }

// layer is the file system of the image.
func (o options) layer() ([]byte, error) {
	l := archive{made: o.made}
	for _, d := range []struct {
		path string
		mode int64
		user int
	}{
		{"etc", 0o755, 0}, {"etc/postern", 0o755, 0}, {"etc/ssl", 0o755, 0}, {"etc/ssl/certs", 0o755, 0},
		{"run", 0o755, 0}, {"run/postern", 0o755, user}, {"tmp", 0o1777, 0},
		{"usr", 0o755, 0}, {"usr/bin", 0o755, 0}, {"usr/lib", 0o755, 0}, {"usr/lib/postern", 0o755, 0},
		{"var", 0o755, 0}, {"var/lib", 0o755, 0}, {"var/lib/postern", 0o711, user},
	} {
		l.dir(d.path, d.mode, d.user)
	}
	l.file("etc/passwd", fmt.Appendf(nil, "root:x:0:0:root:/:/\npostern:x:%d:%[1]d:postern:/var/lib/postern:/\n", user))
	l.file("etc/group", fmt.Appendf(nil, "root:x:0:\npostern:x:%d:\n", user))
	for _, f := range []struct{ to, from string }{
		{"etc/ssl/certs/ca-certificates.crt", o.certificates},
		{"usr/bin/postern", filepath.Join(o.programs, "postern")},
		{"usr/lib/postern/postern-relay", filepath.Join(o.programs, "postern-relay")},
	} {
		data, err := os.ReadFile(f.from)
		if err != nil {
			return nil, err
		}
		mode := int64(0o644)
		if f.from != o.certificates {
			mode = 0o755
		}
		l.put(f.to, mode, data)
	}
	return l.close()
}

// config says how the image is run.
func (o options) config(layer []byte) []byte {
	return marshal(map[string]any{
		"architecture": o.arch, "os": "linux", "created": o.made.Format(time.RFC3339),
		"config": map[string]any{
			"User": fmt.Sprint(user), "Entrypoint": []string{"/usr/bin/postern"}, "Cmd": []string{"serve"},
			"WorkingDir": "/var/lib/postern", "StopSignal": "SIGTERM",
			"Volumes": map[string]struct{}{"/var/lib/postern": {}},
			"Labels":  map[string]string{"org.opencontainers.image.title": "postern", "org.opencontainers.image.version": o.version},
		},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{digest(layer)}},
		"history": []map[string]string{{"created": o.made.Format(time.RFC3339), "created_by": "postern's make image"}},
	})
}

// descriptor refers to a blob.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func (d descriptor) path() string { return "blobs/sha256/" + d.Digest[len("sha256:"):] }

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// archive is a tar file in memory. The first error is that of close.
type archive struct {
	made time.Time
	buf  bytes.Buffer
	tar  *tar.Writer
	err  error
}

func (a *archive) add(h tar.Header, data []byte) {
	if a.tar == nil {
		a.tar = tar.NewWriter(&a.buf)
	}
	h.ModTime, h.Size, h.Format = a.made, int64(len(data)), tar.FormatUSTAR
	if a.err == nil {
		a.err = a.tar.WriteHeader(&h)
	}
	if a.err == nil {
		_, a.err = a.tar.Write(data)
	}
}

func (a *archive) dir(path string, mode int64, owner int) {
	a.add(tar.Header{Typeflag: tar.TypeDir, Name: path + "/", Mode: mode, Uid: owner, Gid: owner}, nil)
}

func (a *archive) put(path string, mode int64, data []byte) {
	a.add(tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: mode}, data)
}

func (a *archive) file(path string, data []byte) { a.put(path, 0o644, data) }

// blob adds a file under the name of its digest.
func (a *archive) blob(mediaType string, data []byte) descriptor {
	d := descriptor{MediaType: mediaType, Digest: digest(data), Size: len(data)}
	a.file(d.path(), data)
	return d
}

func (a *archive) close() ([]byte, error) {
	if a.err == nil {
		a.err = a.tar.Close()
	}
	return a.buf.Bytes(), a.err
}

func pack(data []byte) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(data); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// marshal encodes values that always can be.
func marshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}
