# SPDX-License-Identifier: MIT
"""Attackers of test_storm.py: storm.py KIND MOUNT BACKING CONTROL SECONDS. Each does as much harm
as it can, in its own name, and minds no error."""

import array
import contextlib
import fcntl
import json
import os
import random
import resource
import select
import signal
import socket
import sys
import time

kind, mnt, backing, control, seconds = sys.argv[1:5] + [float(sys.argv[5])]
me = os.getuid()
random.seed(me)
end = time.monotonic() + seconds
here = f"{mnt}/{me}"
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def put(path, data, flags=os.O_WRONLY | os.O_APPEND | os.O_CREAT):
    fd = os.open(path, flags, 0o666)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def descriptors():
    """All that there are, of every kind."""
    fds = []
    try:
        while len(fds) < limit - 20:
            name = random.choice((f"{here}.txt", mnt, f"{here}.{len(fds) % 300}.jsonl"))
            fds.append(os.open(name, os.O_RDONLY if name == mnt else os.O_RDWR | os.O_CREAT))
    finally:
        time.sleep(0.5)
        for fd in fds:
            os.close(fd)


def fragments():
    """Halves of records, large and small, of processes that are killed."""
    pid = os.fork()
    if pid == 0:
        for n in range(20):
            with contextlib.suppress(OSError):
                fd = os.open(f"{mnt}/shared.jsonl", os.O_WRONLY | os.O_APPEND)
                os.write(fd, b'{"half": "' + b"x" * random.choice((1, 5000, 300000)))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def bad_lines():
    """Into the log that everybody may append to."""
    text = b"".join(b"bad %d %d\n" % (me, random.getrandbits(60)) for _ in range(50))
    put(f"{mnt}/shared.jsonl", random.choice((text, b"\0" * 1000, b"\xff\n", b"{" * 70000)))


def renames():
    """Of files that are being written, onto logs, of directories, all at once."""
    d = f"{here}.d{random.randrange(4)}"
    with contextlib.suppress(OSError):
        os.mkdir(d)
    fd = os.open(f"{d}/p", os.O_WRONLY | os.O_CREAT)
    try:
        os.write(fd, b"1\n")
        for new in (f"{d}/p.jsonl", f"{mnt}/ada.jsonl", f"{mnt}/shared.jsonl"):
            with contextlib.suppress(OSError):
                os.rename(f"{d}/p", new)
        os.rename(d, d + "x")
        os.rename(d + "x", d)
    finally:
        os.close(fd)


def removals():
    """The archive fills; and what does not belong to it is cut."""
    put(f"{here}.a.jsonl", b'{"x": "' + b"y" * 20000 + b'"}\n')
    with contextlib.suppress(OSError):
        os.unlink(f"{mnt}/ada.jsonl")
    with contextlib.suppress(OSError):
        with open(f"{mnt}/shared.jsonl", "rb") as f:
            put(f"{mnt}/shared.jsonl.1", f.read(1 << 20), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.truncate(f"{mnt}/shared.jsonl", 0)
    os.unlink(f"{here}.a.jsonl")


def packets():
    """To the control socket: any bytes, any descriptors, and none taken back."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(2)
        s.connect(control)
        verb = random.choice(("replace", "repair", "watch", "reload", "drop", "archive-list", "x"))
        text = json.dumps({"verb": verb, "path": random.choice(("ada.jsonl", "../x", "", "shared.jsonl")),
                           "name": "../" * 9 + "etc/passwd"}).encode()
        if random.random() < 0.3:
            text = os.urandom(random.randrange(1, 60000))
        fds = [os.open(f"{mnt}/shared.jsonl", os.O_RDONLY), *os.pipe(), select.epoll().fileno()]
        with contextlib.suppress(OSError):
            s.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds[:3]))])
        for fd in fds[:3]:
            os.close(fd)
        if random.random() < 0.5:
            s.recv(1 << 16)


def reports():
    fds = [os.open(f"{mnt}/.jsonlfs/{random.choice(('writers', 'status'))}.json", os.O_RDONLY)
           for _ in range(200)]
    for fd in fds:
        os.read(fd, random.choice((1, 100000)))
    for fd in fds:
        os.close(fd)


def leases():
    """On files of its own that it opens by the mount at the same time."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    name = f"{me}.l{random.randrange(6)}.txt"
    fd = os.open(f"{backing}/{name}", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        pid = os.fork()
        if pid == 0:
            os.open(f"{mnt}/{name}", os.O_RDONLY)
            os._exit(0)
        time.sleep(0.2)
    finally:
        os.close(fd)
    os.waitpid(pid, 0)


def locks():
    """The backing file of somebody else's log, for a moment."""
    fd = os.open(f"{backing}/ada.jsonl", os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.05)
    finally:
        os.close(fd)
    time.sleep(0.1)


while time.monotonic() < end:
    try:
        globals()[kind]()
    except OSError:
        time.sleep(0.01)
