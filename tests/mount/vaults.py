# SPDX-License-Identifier: MIT
"""Mounts as their users make them: by the command, in the background, and from what `meson
install` lays down."""

import json
import socket
import subprocess

from util import BUILD, ENV, binary, mount_table, parse, processes, run, wait_for

GOOD = b'{"n":1}\n'

# Takes a lease on each file, and holds them whatever the kernel says.
LEASE_HOLDER = """
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
fds = [os.open(name, os.O_RDWR) for name in sys.argv[1:]]
for fd in fds:
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
sys.stdin.read()
"""


def daemons(mnt):
    """The pids of the daemons that serve this mount point."""
    return processes(mnt)[1]

def gone(pid):
    """Ended, though its parent may not have noticed."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True

def mounts_on(mnt):
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return [line for line in f if line.split()[4] == str(mnt)]

class Vault:
    """A directory that is mounted over itself by the command, in the background."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        path.chmod(0o777)

    def jsonlfs(self, *options, check=0, letters=(), **kw):
        argv = [binary("jsonlfs"), *letters]
        if options:
            argv += ["-o", ",".join(options)]
        return run(*argv, self.path, self.path, check=check, **kw)

    @property
    def pid(self):
        (pid,) = daemons(self.path)
        return pid

    def table(self):
        return mount_table().get(str(self.path), ("", ""))

    def log(self, name):
        return self.path / name

    def umount(self, *flags, check=0):
        pids = daemons(self.path)
        run("umount", *flags, self.path, check=check)
        for pid in pids:
            wait_for(lambda: gone(pid), "the end of the daemon")  # noqa: B023

class Installed:
    """The build installed, as if to /, in a mount namespace of its own."""

    def __init__(self, root):
        self.root = root
        run(
            "/usr/bin/meson", "install", "-C", BUILD, "--no-rebuild", "--quiet",
            "--destdir", root, check=0, timeout=60, env={"HOME": "/root"},
        )
        assert (root / "usr/local/bin/jsonlfs").exists(), "not built for /usr/local"
        self.enter("/usr/local", "/usr/sbin")  # mount(8) finds helpers in /sbin alone

    def enter(self, *layers):
        self.layers = layers
        script = " && ".join(
            f"mount -t overlay -o lowerdir={self.root}{d}:{d} overlay {d}" for d in layers
        )
        # Private already, like those of the test (util.own_mounts).
        self.holder = subprocess.Popen(
            ["unshare", "-m", "--propagation", "unchanged", "/bin/bash", "-c",
             f"{script} && echo ready && exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENV,
        )
        assert self.holder.stdout.readline() == b"ready\n"

    def run(self, *argv, uid=None, **kw):
        switch = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        return run(
            "nsenter", "-m", "-r", "-t", self.holder.pid, *(switch if uid else []), *argv, **kw
        )

    def sh(self, script, *args, **kw):
        return self.run("/bin/bash", "-c", script, "bash", *args, **kw)

    def end(self):
        self.run("umount", *self.layers)
        self.holder.stdin.close()
        self.holder.wait(10)
        self.holder.stdout.close()

def mounted_in(system, path):
    table = system.run("cat", "/proc/self/mountinfo", check=0).stdout.decode()
    return [line for line in table.splitlines() if line.split()[4] == str(path)]

def connect(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # With a time limit a full queue would be EAGAIN at once: it does not wait.
    s.connect(parse((path / ".jsonlfs/status.json").read_bytes())["control"])
    s.settimeout(20)
    return s

def ask(path, packet, fds=()):
    """One request, as bytes or as a dict, and what comes back."""
    with connect(path) as s:
        if isinstance(packet, dict):
            packet = json.dumps(packet).encode()
        socket.send_fds(s, [packet], list(fds))
        return json.loads(s.recv(1 << 17))
