package manual

import (
	"os/exec"
	"path/filepath"
	"runtime"

	"postern/cmd/e2e/harness"
)

// hostAddress is an address of the guest that its containers reach, too.
const hostAddress = "192.0.2.1"

// podmanSettings are for guests without the rights and control groups that Podman's defaults take for granted.
var podmanSettings = map[string]string{
	"/etc/containers/storage.conf": `[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
`,
	"/etc/containers/containers.conf": `[containers]
cgroups = "disabled"
pids_limit = 0
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
[engine]
env = ["BUILDAH_LAYERS=false"]
`,
}

// docker installs Podman under Docker's name, with an image of Debian 13, and puts postern's image into a folder.
func (r *reader) docker(dir string) {
	r.T.Helper()
	for file, text := range podmanSettings {
		r.Write(file, text, 0o644)
	}
	r.Must("apt install --no-install-recommends iproute2 nftables crun aardvark-dns podman-docker podman-compose\n" +
		"touch /etc/containers/nodocker; ip address add " + hostAddress + "/32 dev lo\n" +
		"sed -i 's/^127.0.0.1 cloud/" + hostAddress + " cloud/' /etc/hosts")

	own := r.T.TempDir()
	proxy := "Acquire::http::Proxy \"http://" + hostAddress + ":3142\";\n"
	harness.WriteFile(r.T, own+"/99proxy", proxy)
	r.outside("tar", "-cf", own+"/debian.tar", "-C", harness.Cached("fresh-trixie"), ".")
	r.outside("tar", "-rf", own+"/debian.tar", "-C", own, "--mode=0644", "--transform=s,^,etc/apt/apt.conf.d/,", "99proxy")
	r.Copy(own+"/debian.tar", "/root/debian.tar", 0o644)
	r.Must("podman import -q debian.tar docker.io/library/debian:trixie-slim; rm debian.tar")

	harness.WriteFile(r.T, own+"/ca.pem", r.authority.pem)
	r.outside("make", "-C", repository, "image", "ARCH="+runtime.GOARCH, "OUT="+own, "CERTIFICATES="+own+"/ca.pem")
	images, err := filepath.Glob(own + "/postern-*.oci.tar")
	if err != nil || len(images) != 1 {
		r.T.Fatalf("%q, %v", images, err)
	}
	r.Copy(images[0], filepath.Join(dir, filepath.Base(images[0])), 0o644)
	r.Copy(repository+"/scripts/prosody/mod_auth_postern.lua", "/root/prosody/mod_auth_postern.lua", 0o644)
}

// outside runs a program of the test's own machine.
func (r *reader) outside(args ...string) {
	r.T.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		r.T.Fatalf("%q: %v\n%s", args, err, out)
	}
}
