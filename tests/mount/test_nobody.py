"""Nobody gets in: not into the daemon's memory; and what a program may ask of a plain file
that the other tests do not ask."""

import ctypes
import errno
import fcntl
import os
import struct
import subprocess

import pytest

import differ
import util
from util import as_user, opened, outcome

ATTACH = 16  # PTRACE_ATTACH
OWNER = "nobody"


def look_inside(pid):
    """What each way into another process answers."""
    libc = ctypes.CDLL(None, use_errno=True)
    answers = {}
    for name in ("mem", "maps", "environ", "exe", "fd", "root", "cwd"):
        path = f"/proc/{pid}/{name}"
        if name == "fd":
            answers[name] = outcome(lambda path=path: os.listdir(path))
        elif name in ("exe", "root", "cwd"):
            answers[name] = outcome(lambda path=path: os.readlink(path))
        else:
            answers[name] = outcome(lambda path=path: os.close(os.open(path, os.O_RDONLY)))
    answers["ptrace"] = 0 if libc.ptrace(ATTACH, pid, None, None) == 0 else ctypes.get_errno()
    return answers


@pytest.fixture
def users_daemon(workdir):
    uid, gid, _ = differ.PEOPLE[OWNER]
    top, mnt = workdir / "src", workdir / "mnt"
    for folder in (top, mnt):
        folder.mkdir()
        os.chown(folder, uid, gid)
    with open(workdir / "log", "wb") as log:
        p = subprocess.Popen(
            [util.binary("jsonlfs"), "-f", top, mnt], user=uid, group=gid, extra_groups=[],
            cwd="/", env=util.ENV, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        util.wait_for(lambda: str(mnt) in util.mount_table(), "the mount", 20)
        yield p.pid
    finally:
        util.run("umount", "-l", mnt)
        p.wait(40)


def test_daemon_is_closed_to_its_own_user(users_daemon):
    """Records of all users may pass through it (allow_other), and it holds descriptors."""
    if util.sanitized():
        return  # leak checkers attach to it
    uid = differ.PEOPLE[OWNER][0]
    answers = as_user(uid, lambda: look_inside(users_daemon))
    assert all(code in (errno.EACCES, errno.EPERM) for code in answers.values()), answers
    # The test's own eyes: an ordinary process of the same user is open.
    with util.running("sleep", "30", user=uid, group=uid, extra_groups=[]) as p:
        answers = as_user(uid, lambda: look_inside(p.pid))
        assert answers["fd"] == answers["maps"] == answers["exe"] == 0, answers


def test_roots_daemon_is_closed_to_users(m):
    answers = as_user(util.NOBODY, lambda: look_inside(m.proc.pid))
    assert all(code in (errno.EACCES, errno.EPERM) for code in answers.values()), answers


def test_ofd_locks_between_programs(m):
    """They belong to the open file, not to the process."""
    path = m.p("f")
    path.write_bytes(b"x" * 100)

    def lock(fd, kind, start, n):
        fcntl.fcntl(fd, util.F_OFD_SETLK, struct.pack("hhqqi", kind, 0, start, n, 0))

    def other():
        with opened(path, os.O_RDWR) as fd:
            return [outcome(lambda: lock(fd, fcntl.F_WRLCK, 5, 1)),
                    outcome(lambda: lock(fd, fcntl.F_WRLCK, 20, 1)),
                    outcome(lambda: lock(fd, fcntl.F_RDLCK, 5, 1))]

    with opened(path, os.O_RDWR) as a, opened(path, os.O_RDWR) as b:
        lock(a, fcntl.F_WRLCK, 0, 10)
        assert outcome(lambda: lock(b, fcntl.F_WRLCK, 5, 1)) == errno.EAGAIN
        assert as_user(None, other) == [errno.EAGAIN, 0, errno.EAGAIN]
        os.close(os.open(path, os.O_RDONLY))  # which would end a POSIX lock
        assert as_user(None, other) == [errno.EAGAIN, 0, errno.EAGAIN]
    assert as_user(None, other) == [0, 0, 0]


def test_file_flags(m):
    """lsattr and chattr: the flags of the backing file, and append-only holds."""
    path = m.p("f")
    path.write_text("x")
    with opened(path, os.O_RDONLY) as fd, opened(m.b("f"), os.O_RDONLY) as behind:
        assert util.getflags(fd) == util.getflags(behind)
        util.setflags(fd, util.getflags(fd) | util.FS_APPEND_FL)
        try:
            assert util.getflags(behind) & util.FS_APPEND_FL
            assert outcome(lambda: os.close(os.open(path, os.O_WRONLY))) == errno.EPERM
            assert outcome(lambda: path.unlink()) == errno.EPERM
            with opened(path, os.O_WRONLY | os.O_APPEND) as more:
                os.write(more, b"y")
        finally:
            util.setflags(fd, util.getflags(fd) & ~util.FS_APPEND_FL)
        assert m.both("f") == b"xy"


@pytest.mark.parametrize("name", ["security.x", "security.selinux.not", "security.SMACK.not"])
def test_security_attributes(m, name):
    """The kernel lets root alone set them, and shows them to everybody."""
    path = m.p("f")
    path.write_text("x")
    path.chmod(0o666)
    bare = m.b("g")
    bare.write_text("x")
    bare.chmod(0o666)
    for side in (path, bare):
        os.setxattr(side, name, b"value")
        assert os.getxattr(side, name) == b"value"

    def user(side):
        return (outcome(lambda: os.setxattr(side, name, b"other")),
                outcome(lambda: os.removexattr(side, name)),
                outcome(lambda: os.getxattr(side, name)))

    assert as_user(util.NOBODY, lambda: user(path)) == as_user(
        util.NOBODY, lambda: user(m.mnt.parent / m.source.name / "g"))
    assert os.getxattr(m.b("f"), name) == b"value"


class Statx(ctypes.Structure):
    _fields_ = [("mask", ctypes.c_uint32), ("rest", ctypes.c_uint32 * 63)]


def test_birth_time_is_not_claimed(m):
    """libfuse has no statx: the mount must say that it does not know, not invent a time."""
    m.p("f").write_text("x")
    buf = Statx()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.statx(util.AT_FDCWD, os.fsencode(m.p("f")), 0, 0xFFF, ctypes.byref(buf)) == 0
    assert buf.mask & 0x7FF == 0x7FF
    assert not buf.mask & 0x800
