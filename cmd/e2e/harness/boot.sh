# boot.sh BASE DIR: starts systemd in an overlay of the folder BASE, all changes of which are in memory,
# mounted in the empty folder DIR. It is the first process of namespaces of its own: mounts, network,
# processes, cgroups, names. ip is not needed: the test starts the loopback network.
set -eu
base="$1"
dir="$2"
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$dir"
mkdir "$dir/upper" "$dir/work" "$dir/root"
mount -t overlay -o "lowerdir=$base,upperdir=$dir/upper,workdir=$dir/work" overlay "$dir/root"
cd "$dir/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=0755 tmpfs dev
for node in null zero full random urandom tty; do
	touch "dev/$node"
	mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
rm -f usr/sbin/policy-rc.d etc/machine-id
: >etc/machine-id
echo '127.0.0.1 localhost' >etc/hosts
: >etc/resolv.conf
mkdir -p .old
pivot_root . .old
exec env -i container=postern-test PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c \
	'umount -l /.old; rmdir /.old; exec /lib/systemd/systemd --unit=basic.target --log-target=journal --show-status=no' </dev/null
