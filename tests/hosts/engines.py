# SPDX-License-Identifier: MIT
"""Distributed file systems on the hosts of namespaces.py, from Debian packages and without systemd:
how each comes up, is mounted by a host, and where it keeps its bytes."""

import contextlib
import json

from namespaces import SERVER, wait_for


class Engine:
    trusts_names = 0  # seconds that a client by default believes what a name led to
    in_a_rename = ()  # what it may answer to who opens a file in the middle of a rename

    def __init__(self, rig):
        self.rig, self.server = rig, rig.hosts["S"]

    def point(self, host):
        """Where a host has it mounted."""
        return host.root / "shared"

    def disk(self, name):
        """A directory of the machine's disk on the host S (an overlay has not every xattr)."""
        where = self.rig.dir / "disks" / name
        where.mkdir(parents=True)
        inside = self.server.root / "disks" / name
        self.server.run("mkdir", "-p", inside)
        self.server.run("mount", "--bind", where, inside)
        return where

    def mount(self, host):
        host.run("mkdir", "-p", self.point(host))
        self.client(host)
        wait_for(lambda: host.is_mounted(self.point(host)), f"{self.name} on {host.name}")
        wait_for(lambda: not host.run("stat", self.point(host), check=False).returncode,
                 f"{self.name} on {host.name}")

    def kill_client(self, host):
        """The process that serves the mount, the only one of its name on this host."""
        host.run("pkill", "-KILL", "-x", self.process)
        host.run("umount", "-l", self.point(host))

    def backing(self, name):
        """The vault in the backing store, {where: directory}, where it has files."""
        return {}


class Gluster(Engine):
    """GlusterFS: one volume of three bricks that have the same."""

    name, process = "gluster", "glusterfs"
    trusts_names = 1
    in_a_rename = ("ENOENT",)
    options = ()

    def up(self):
        bricks = [f"b{n}" for n in (1, 2, 3)]
        self.bricks = {b: self.disk(b) for b in bricks}
        s = self.server
        s.engine("mkdir", "-p", "/var/log/glusterfs", "/run/gluster")
        s.engine("glusterd", "-p", "/run/glusterd.pid")
        wait_for(lambda: not self.gluster("volume", "list", check=False).returncode, "glusterd")
        self.gluster("volume", "create", "v", "replica", "3",
                     *(f"{SERVER}:/disks/{b}/v" for b in bricks), "force")
        self.gluster("volume", "start", "v")
        wait_for(lambda: self.gluster("volume", "status", "v").stdout.count(b" Y ") >= 3,
                 "the bricks")

    def gluster(self, *argv, **kw):
        return self.server.engine("gluster", "--mode=script", *argv, **kw)

    def client(self, host):
        host.engine("mkdir", "-p", "/var/log/glusterfs")
        host.engine("glusterfs", f"--volfile-server={SERVER}", "--volfile-id=v",
                    *self.options, "/shared")

    @contextlib.contextmanager
    def remembering(self):
        """Clients that believe for ten minutes what they know of sizes."""
        self.mount_again("--attribute-timeout=600")
        yield
        self.mount_again()

    def mount_again(self, *options):
        self.options = options
        for name in self.rig.names:
            self.kill_client(self.rig.hosts[name])
            self.mount(self.rig.hosts[name])

    def kill_brick(self, number):
        pid = self.server.engine("sh", "-c", "cat /run/gluster/vols/v/*"
                                 f"-disks-b{number}-v.pid").stdout
        self.server.engine("kill", "-9", pid.decode().strip())

    def heal(self):
        """The killed brick comes back, and is made equal to the others."""
        self.gluster("volume", "start", "v", "force")

        def equal():
            self.gluster("volume", "heal", "v", check=False)  # an error while it comes up
            said = self.gluster("volume", "heal", "v", "info").stdout
            return said.count(b"Number of entries: 0") == 3

        wait_for(equal, "the healed brick", 60)

    def backing(self, name):
        return {f"brick {b}": where / "v" / name for b, where in self.bricks.items()}


CEPH = """[global]
fsid = 6a736f6e-6c66-7300-8000-000000000001
mon host = {server}
public network = 10.77.0.0/24
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
osd objectstore = bluestore
bluestore block size = 1073741824
bluestore block db create = false
osd memory target = 939524096
mds session blocklist on timeout = true
setuser match path = /nonexistent
"""


class Ceph(Engine):
    """CephFS: a monitor, a metadata server and one store, without copies."""

    name, process = "ceph", "ceph-fuse"

    def up(self):
        s = self.server
        self.configure(s)
        self.disk("osd")
        s.engine("sh", "-ec", "mkdir -p /var/lib/ceph/mon/ceph-a /var/lib/ceph/osd/ceph-0"
                 " /var/lib/ceph/mds/ceph-a /var/log/ceph /run/ceph;"
                 " mount --bind /disks/osd /var/lib/ceph/osd/ceph-0;"
                 f" monmaptool --create --clobber --add a {SERVER} --fsid"
                 " $(sed -n 's/^fsid = //p' /etc/ceph/ceph.conf) /tmp/monmap;"
                 " ceph-mon --mkfs -i a --monmap /tmp/monmap; ceph-mon -i a")
        wait_for(lambda: not self.ceph("-s", check=False).returncode, "the monitor", 60)
        self.ceph("mon", "enable-msgr2", check=False)
        uuid = "6a736f6e-6c66-7300-8000-000000000002"
        self.ceph("osd", "new", uuid)
        s.engine("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", uuid)
        s.engine("ceph-osd", "-i", "0")
        for pool in ("meta", "data"):
            self.ceph("osd", "pool", "create", pool, "8")
        self.ceph("fs", "new", "cfs", "meta", "data")
        s.engine("ceph-mds", "-i", "a")
        wait_for(lambda: b"up:active" in self.ceph("mds", "stat").stdout, "CephFS", 60)

    def configure(self, host):
        host.engine("mkdir", "-p", "/etc/ceph", "/run/ceph", "/var/log/ceph")
        host.path(host.root / "etc/ceph/ceph.conf").write_text(CEPH.format(server=SERVER))

    def ceph(self, *argv, **kw):
        return self.server.engine("ceph", "--connect-timeout", "20", *argv, **kw)

    def client(self, host):
        self.configure(host)
        host.engine("ceph-fuse", "--client_mountpoint=/", "/shared")

    def evict(self, host):
        """The servers refuse all that this client still sends."""
        said = json.loads(self.ceph("tell", "mds.a", "client", "ls", "--format=json").stdout)
        for client in said:
            if client["client_metadata"]["hostname"] == host.name:
                self.ceph("tell", "mds.a", "client", "evict", f"id={client['id']}")


MOOSE = """
mkdir -p /etc/mfs /var/lib/mfs /run/mfs
zcat -f "$(find /usr /var/lib/mfs -name 'metadata.mfs.empty*' | head -n 1)" \
	> /var/lib/mfs/metadata.mfs
id mfs >/dev/null 2>&1 || useradd -r mfs
echo '* / rw,maproot=0' > /etc/mfs/mfsexports.cfg
: > /etc/mfs/mfstopology.cfg
printf '%s\n' 'DATA_PATH = /var/lib/mfs' 'EXPORTS_FILENAME = /etc/mfs/mfsexports.cfg' 	"MATOCL_LISTEN_HOST = $1" "MATOCS_LISTEN_HOST = $1" "MATOML_LISTEN_HOST = $1" 	> /etc/mfs/mfsmaster.cfg
for i in 1 2; do
	mkdir -p "/var/lib/mfs$i"
	echo "/disks/c$i" > "/etc/mfs/hdd$i.cfg"
	printf '%s\n' "DATA_PATH = /var/lib/mfs$i" "HDD_CONF_FILENAME = /etc/mfs/hdd$i.cfg" 		"MASTER_HOST = $1" "BIND_HOST = $1" "CSSERV_LISTEN_HOST = $1" 		"CSSERV_LISTEN_PORT = 943$i" > "/etc/mfs/cs$i.cfg"
	chown -R mfs: "/var/lib/mfs$i" "/disks/c$i"
done
chown -R mfs: /var/lib/mfs /run/mfs
mfsmaster -c /etc/mfs/mfsmaster.cfg start
mfschunkserver -c /etc/mfs/cs1.cfg start
mfschunkserver -c /etc/mfs/cs2.cfg start
"""


class Moose(Engine):
    """MooseFS: a master and two chunk servers."""

    name, process = "moose", "mfsmount"

    def up(self):
        for name in ("c1", "c2"):
            self.disk(name)
        self.server.engine("bash", "-ec", MOOSE, "moose", SERVER, timeout=120)

    def client(self, host):
        host.engine("mfsmount", "/shared", "-H", SERVER)
