# SPDX-License-Identifier: MIT
"""Hosts on one machine: each has its own network, mounts, processes, name and /run, and sees
a Debian with the programs of an engine (tests/hosts/chroot) in which it may change everything:
what it changes is gone in the end. The servers run on the host S, at 10.77.0.1; A, B and C are
behind links that can be cut. A host ends with this process, and all that it runs with it.

jsonlfs, the programs of client.py and this one are those of the machine, not of that Debian.

Environment: JSONLFS_BUILD, the build directory; JSONLFS_HOSTS_DIR, where the Debian is kept
(default: /var/tmp/jsonlfs-hosts, 1 GiB)."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from judge import HERE, Load, environment

BUILD = Path(os.environ.get("JSONLFS_BUILD", HERE.parents[1] / "build")).resolve()
TOP = Path(os.environ.get("JSONLFS_HOSTS_DIR", "/var/tmp/jsonlfs-hosts"))
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SERVER = "10.77.0.1"

# The first process of a host.
INIT = r"""
set -eu
name=$1 dir=$2 lower=$3
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t overlay -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" overlay "$dir/root"
mount -t proc proc "$dir/root/proc"
mount --rbind /dev "$dir/root/dev"
mount -t tmpfs tmpfs "$dir/root/run"
# Without a mount nobody writes there.
mount -t tmpfs tmpfs "$dir/mnt"
mkdir "$dir/mnt/vault"
mount -o remount,ro "$dir/mnt"
echo "127.0.0.1 localhost $name" > "$dir/root/etc/hosts"
hostname "$name"
ip link set lo up
echo ready
exec /usr/bin/python3 -c '
import os, time
while True:
    try:
        os.wait()
    except ChildProcessError:
        time.sleep(0.1)'
"""


def wait_for(condition, what, seconds=30.0):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what} did not come within {seconds} s"
        time.sleep(0.05)
    return value


def child_of(pid):
    """nsenter and unshare wait for the program that they start: that is the one to kill."""
    return int(wait_for(
        lambda: Path(f"/proc/{pid}/task/{pid}/children").read_text().split(),
        f"a child of {pid}")[0])


class Host:
    def __init__(self, name, where, debian):
        self.name, self.dir = name, where / name
        for part in ("root", "upper", "work", "mnt"):
            (self.dir / part).mkdir(parents=True)
        self.root, self.mnt = self.dir / "root", self.dir / "mnt" / "vault"
        said = open(self.dir / "init.log", "wb")
        self.holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--uts", "--net", "--pid", "--fork", "--kill-child",
             "--propagation", "private", "/bin/bash", "-c", INIT, "init", name, self.dir,
             debian],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
        said.close()
        assert self.holder.stdout.readline() == b"ready\n", (self.dir / "init.log").read_text()
        self.pid = child_of(self.holder.pid)

    @property
    def enter(self):
        """What runs a command on this host."""
        return ["nsenter", "-t", str(self.pid), "-m", "-u", "-n", "-p", "--"]

    def run(self, *argv, timeout=120, check=True):
        p = subprocess.run([*self.enter, *map(str, argv)], stdin=subprocess.DEVNULL,
                           capture_output=True, timeout=timeout, check=False)
        if check and p.returncode:
            raise RuntimeError(f"{self.name}: {argv}: {p.returncode}: {p.stdout + p.stderr}")
        return p

    def engine(self, *argv, **kw):
        """The same in the Debian of the engine."""
        return self.run("chroot", self.root, "/usr/bin/env", f"PATH={PATH}", *argv, **kw)

    def path(self, path):
        """A path of this host, as it is seen from outside."""
        return Path(f"/proc/{self.pid}/root{path}")

    def is_mounted(self, path):
        with open(f"/proc/{self.pid}/mountinfo", encoding="utf-8") as f:
            return any(line.split()[4] == str(path) for line in f)

    def end(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.holder.wait(30)
        self.holder.stdout.close()


class Side:
    """A jsonlfs mount on a host."""

    def __init__(self, host, source):
        self.host, self.source, self.mnt = host, source, host.mnt
        self.log = host.dir / "jsonlfs.log"
        self.proc = self.pid = None

    def start(self, *options, broken=None):
        argv = [BUILD / "fs" / "jsonlfs", "-f", *(["-o", ",".join(options)] if options else [])]
        env = dict(os.environ) | environment(BUILD, broken)
        # nsenter itself need not be broken.
        preload = [f"{k}={env.pop(k)}" for k in ("LD_PRELOAD",) if k in env]
        with open(self.log, "ab") as log:
            self.proc = subprocess.Popen(
                [*self.host.enter, "/usr/bin/env", *preload, *map(str, argv), str(self.source),
                 str(self.mnt)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        self.pid = child_of(self.proc.pid)

        def there():
            assert self.proc.poll() is None, self.log.read_text(errors="replace")
            return not self.host.run("mountpoint", "-q", self.mnt, check=False).returncode

        # What a dead client had, the servers keep for a minute.
        wait_for(there, f"the mount on {self.host.name}", 120)
        return self

    def load(self, acks, seconds, name="log.jsonl"):
        return Load(self.host.name, self.mnt / name, acks, seconds, enter=self.host.enter)

    def seen(self):
        """The mount, as it is seen from outside."""
        return self.host.path(self.mnt)

    def stop(self):
        wait_for(lambda: not self.host.run("umount", self.mnt, check=False).returncode,
                 f"the unmount on {self.host.name}")
        status = self.proc.wait(60)
        self.proc = None
        assert status == 0, (status, self.log.read_text(errors="replace")[-2000:])

    def die(self):
        """SIGKILL. The dead mount stays."""
        if self.proc:
            os.kill(self.pid, signal.SIGKILL)
            self.proc.wait(30)
            self.proc = None

    def clear(self):
        self.die()
        while self.host.is_mounted(self.mnt):
            self.host.run("umount", "-l", self.mnt)


class Rig:
    """Some hosts on a network, for a `with` block; one rig at a time."""

    def __init__(self, engine, names="AB"):
        self.kind, self.names = engine, names
        self.hosts, self.vaults = {}, 0

    def __enter__(self):
        subprocess.run([HERE / "chroot", TOP, self.kind.name], check=True,
                       stdin=subprocess.DEVNULL)
        self.lock = os.open(TOP / "rig.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        for old in TOP.glob("run.*"):
            shutil.rmtree(old, ignore_errors=True)
        self.dir = Path(tempfile.mkdtemp(prefix="run.", dir=TOP))
        self.dir.chmod(0o755)
        try:
            self.up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def up(self):
        for name in "S" + self.names:
            self.hosts[name] = Host(name, self.dir, TOP / self.kind.name)
        server = self.hosts["S"]
        server.run("ip", "link", "add", "hub", "type", "bridge")
        server.run("ip", "addr", "add", f"{SERVER}/24", "dev", "hub")
        server.run("ip", "link", "set", "hub", "up")
        for number, name in enumerate(self.names, 11):
            host = self.hosts[name]
            # By a process of this machine, which knows the other's number.
            subprocess.run(["nsenter", "-t", str(server.pid), "-n", "ip", "link", "add",
                            f"v{name}", "type", "veth", "peer", "name", "eth0", "netns",
                            str(host.pid)], check=True)
            server.run("ip", "link", "set", f"v{name}", "master", "hub", "up")
            host.run("ip", "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
            host.run("ip", "link", "set", "eth0", "up")
        self.engine = self.kind(self)
        self.engine.up()
        for name in self.names:
            self.engine.mount(self.hosts[name])

    def link(self, name, state):
        """"down" or "up"."""
        self.hosts["S"].run("ip", "link", "set", f"v{name}", state)

    def vault(self):
        """A fresh directory on the engine, and a Side of it for each host."""
        self.vaults += 1
        name = f"vault{self.vaults}"
        first = self.hosts[self.names[0]]
        first.run("mkdir", self.source(first, name))
        return [Side(self.hosts[n], self.source(self.hosts[n], name)) for n in self.names]

    def source(self, host, name):
        return self.engine.point(host) / name

    def __exit__(self, *error):
        for host in reversed(self.hosts.values()):
            host.end()
        shutil.rmtree(self.dir, ignore_errors=True)
        os.close(self.lock)
