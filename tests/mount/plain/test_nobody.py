# SPDX-License-Identifier: MIT
"""Nobody gets in: not into the daemon's memory, not by names that change under it; and what a
program may ask of a plain file that the other tests do not ask."""

import ctypes
import errno
import fcntl
import os
import stat
import struct
import subprocess
import threading
import time

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


def test_who_makes_a_file_that_he_may_not_open_again_writes_to_it(users_daemon, workdir):
    """`install -m 444`, cp of a read-only file, tar: the mode is for those who come later."""
    mnt, uid = workdir / "mnt", differ.PEOPLE[OWNER][0]

    def work():
        os.umask(0)
        for name in ("a.txt", "a.jsonl"):
            for mode in (0o444, 0o040, 0o000):
                path = mnt / f"{mode:o}-{name}"
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
                os.write(fd, b"1\n")
                os.write(fd, b"2\n")
                os.close(fd)
                assert os.stat(path).st_mode & 0o7777 == mode
                assert outcome(lambda: os.open(path, os.O_WRONLY)) == errno.EACCES  # noqa: B023

    as_user(uid, work)
    for name in ("a.txt", "a.jsonl"):
        for mode in (0o444, 0o040, 0o000):
            assert (workdir / "src" / f"{mode:o}-{name}").read_bytes() == b"1\n2\n"
            assert os.stat(workdir / "src" / f"{mode:o}-{name}").st_mode & 0o7777 == mode


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


# ---- names that change behind the mount ----


class Opened:
    """Says which files somebody opens; O_PATH does not count."""

    IN_OPEN = 0x20

    def __init__(self, *paths):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_NONBLOCK)
        self.watches = {
            self.libc.inotify_add_watch(self.fd, os.fsencode(p), self.IN_OPEN): p for p in paths}
        assert -1 not in self.watches

    def now(self):
        found, data = set(), b""
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            pass
        while data:
            watch, _, _, more = struct.unpack_from("iIII", data)
            found.add(self.watches[watch])
            data = data[16 + more:]
        return found


FRESH = ("attr_timeout=0", "entry_timeout=0")
LONG = ("attr_timeout=600", "entry_timeout=600")


def everything(path):
    """What a program may do with a name; each in a process of its own, as it may hang."""
    ways = {
        "read": lambda: os.read(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 100),
        "write": lambda: os.write(os.open(path, os.O_WRONLY | os.O_NONBLOCK), b"{}\n"),
        "append": lambda: os.write(
            os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK), b"{}\n"),
        "both": lambda: os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK)),
        "empty": lambda: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK)),
        "create": lambda: os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK)),
        "truncate": lambda: os.truncate(path, 0),
        "chmod": lambda: os.chmod(path, 0o644),
        "chown": lambda: os.chown(path, 0, 0),
        "utime": lambda: os.utime(path),
        "attributes": lambda: os.setxattr(path, "user.x", b"x"),
        "list": lambda: os.listxattr(path),
        "link": lambda: os.link(path, f"{path}.link"),
        "rename": lambda: os.rename(f"{path}.link", f"{path}.other"),
        "stat": lambda: os.stat(path),
    }
    for name, way in ways.items():
        try:
            yield name, as_user(None, lambda way=way: outcome(way))
        except AssertionError as e:
            raise AssertionError(f"{name}: {e}") from e


# A kernel that asks for names which are none: "ask:" and hexadecimal digits become the name.
NAMES = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
ssize_t read(int fd, void *buf, size_t size)
{
	ssize_t (*real)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");
	ssize_t n = real(fd, buf, size);
	struct fuse_in_header *h = buf;
	char *name = (char *)(h + 1), *to = name;
	unsigned byte;

	if (n <= (ssize_t)sizeof(*h) || h->len != n || h->opcode != FUSE_LOOKUP ||
	    strncmp(name, "ask:", 4) != 0)
		return n;
	for (const char *from = name + 4; sscanf(from, "%2x", &byte) == 1; from += 2)
		*to++ = byte;
	*to++ = 0;
	return h->len = to - (char *)buf;
}
"""


def test_what_is_no_name_is_not_looked_up(base, mount):
    """Nobody else than a kernel with a fault asks for such; root's daemon goes nowhere by it."""
    (base / "names.c").write_text(NAMES)
    util.run("cc", "-shared", "-fPIC", "-o", base / "names.so", base / "names.c", check=0)
    m = mount(env={"LD_PRELOAD": str(base / "names.so")})
    m.p("d").mkdir()
    m.p("d/f").touch()
    (m.source.parent / "outside").touch()

    def ask(name, where="d"):
        return outcome(lambda: os.lstat(m.p(where) / f"ask:{name.encode().hex()}"))

    assert (ask("f"), ask("g"), ask("d", where=".")) == (0, errno.ENOENT, 0)
    for name in ("", ".", "..", "/", "/etc", "../d", "d/f", "../../outside", "f/"):
        for where in (".", "d"):
            assert ask(name, where) == errno.EINVAL, (name, where)


def test_a_mount_inside_its_source_does_not_ask_itself(mount, workdir):
    """A daemon of one thread would wait for its own answer for ever."""
    (workdir / "f").write_bytes(b"abc")
    m = mount("max_threads=1", *FRESH, source=workdir)
    assert m.mnt == workdir / "mnt0"  # the daemon finds it by the name mnt0

    def ask():
        me = m.p("mnt0")
        names = sorted(os.listdir(m.mnt))
        ways = {
            "stat": lambda: os.stat(me), "open": lambda: os.open(me, os.O_RDONLY),
            "list": lambda: os.listdir(me), "file": lambda: os.stat(me / "f"),
            "create": lambda: os.mkdir(me / "new"), "chmod": lambda: os.chmod(me, 0o700),
            "rename": lambda: os.rename(m.p("f"), me / "f"), "rmdir": lambda: os.rmdir(me),
            "away": lambda: os.rename(me, m.p("away")), "xattr": lambda: os.listxattr(me),
            "statfs": lambda: os.statvfs(me), "walk": lambda: util.run(
                "find", m.mnt, "-printf", "", timeout=20),
        }
        return names, {name: outcome(way) for name, way in ways.items()}

    names, answers = as_user(None, ask, timeout=30)
    assert {"f", "mnt0"} <= set(names)
    assert answers.pop("walk") == 0
    assert set(answers.values()) <= {errno.ELOOP, errno.EBUSY}, answers
    assert m.p("f").read_bytes() == b"abc"


@pytest.mark.parametrize("kind", ["fifo", "device"])
@pytest.mark.parametrize("options", [FRESH, LONG], ids=["fresh", "stale"])
@pytest.mark.parametrize("name", ["plain", "log.jsonl", "notes.md"])
def test_no_pipe_or_device_of_the_backing_directory_is_opened(mount, name, options, kind):
    """Also when it has taken the place of a file that the kernel still believes in."""
    m = mount(*options)
    m.p(name).write_bytes(b"{}\n" * 2000)
    m.p(name).read_bytes()
    if kind == "fifo":
        os.mkfifo(m.b("new"))
    else:
        os.mknod(m.b("new"), 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.rename(m.b("new"), m.b(name))
    watch = Opened(m.b(name))
    for way, _ in everything(m.p(name)):
        assert not watch.now(), way
    os.close(os.open(m.b(name), os.O_RDWR | os.O_NONBLOCK))
    assert watch.now()  # it would have been seen


@pytest.mark.parametrize("options", [FRESH, LONG], ids=["fresh", "stale"])
def test_links_that_take_a_names_place_lead_nowhere(mount, workdir, options):
    """The daemon is root and follows nothing: what is a link out of the vault by now is a link
    for the caller's kernel; and what the kernel still takes for a directory or a file is not
    gone through."""
    outside = workdir / "outside"
    outside.mkdir(mode=0o700)  # the caller's own way along the link ends here, and only here
    (outside / "d").mkdir()
    (outside / "d").chmod(0o777)
    secret = outside / "d/secret"
    secret.write_bytes(b"a secret of somebody else")
    secret.chmod(0o666)
    m = mount(*options)
    m.p("d").mkdir()
    m.p("d").chmod(0o777)
    for name in ("d/secret", "f", "log.jsonl"):
        m.p(name).write_bytes(b"{}\n")
        m.p(name).chmod(0o666)
        m.p(name).read_bytes()
    os.listdir(m.p("d"))
    before = differ.tree(outside)
    os.rename(m.b("d"), m.b("away"))
    os.symlink(outside / "d", m.b("d"))
    for name in ("f", "log.jsonl"):
        os.unlink(m.b(name))
        os.symlink(secret, m.b(name))
    watch = Opened(secret)

    def attack():
        read = set()
        for name in ("d/secret", "f", "log.jsonl"):
            path = m.p(name)
            for flags in (os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND,
                          os.O_WRONLY | os.O_TRUNC):
                try:
                    with opened(path, flags) as fd:
                        if flags in (os.O_RDONLY, os.O_RDWR):
                            read.add(os.pread(fd, 100, 0))
                        if flags != os.O_RDONLY:
                            os.write(fd, b"{}\n")
                except OSError:
                    pass
            for way in (lambda: os.chmod(path, 0o777), lambda: os.truncate(path, 0),
                        lambda: os.setxattr(path, "user.x", b"x"), lambda: os.unlink(path)):
                outcome(way)
        for way in (lambda: m.p("d/new").write_bytes(b"x"), lambda: m.p("d/sub").mkdir(),
                    lambda: os.symlink("x", m.p("d/l")), lambda: os.mkfifo(m.p("d/p")),
                    lambda: os.rename(m.p("d/secret"), m.p("d/moved"))):
            outcome(way)
        return read

    read = as_user(util.NOBODY, attack)
    assert not watch.now()
    assert b"secret" not in b"".join(read), read
    assert bool(read) == (options == LONG)  # what there was before
    assert differ.tree(outside) == before
    assert watch.now() == {secret}  # it would have been seen


# ---- whose rights ----


def test_no_thread_keeps_the_ids_of_a_caller(m):
    """Requests are served with the caller's ids; then the thread is the daemon's again."""
    m.mnt.chmod(0o777)
    m.p("shut").mkdir(mode=0o700)

    def work():
        uid = os.getuid()
        for n in range(60):
            for way in (
                lambda: m.p(f"{uid}.{n}").write_bytes(b"x" * 100),
                lambda: os.mkdir(m.p(f"{uid}.{n}")),
                lambda: os.mkdir(m.p(f"{uid}.{n}.d")),
                lambda: os.symlink("x", m.p(f"{uid}.{n}.l")),
                lambda: m.p("shut/x").write_bytes(b"x"),
                lambda: os.truncate(m.p(f"{uid}.{n}"), 10),
                lambda: os.setxattr(m.p(f"{uid}.{n}"), "user.x", b"x"),
                lambda: util.append(m.p(f"{uid}.jsonl"), b'{"n":1}\n'),
                lambda: util.append(m.p(f"{uid}.jsonl"), b"oops\n"),
                lambda: os.mknod(m.p(f"{uid}.{n}.n"), 0o666 | stat.S_IFCHR, os.makedev(1, 3)),
            ):
                outcome(way)

    threads = [
        threading.Thread(target=as_user, args=(uid, work, 60)) for uid in (12001, 12002, 12003)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    tasks = os.listdir(f"/proc/{m.proc.pid}/task")
    assert len(tasks) > 3
    for task in tasks:
        with open(f"/proc/{m.proc.pid}/task/{task}/status", encoding="utf-8") as f:
            status = dict(line.rstrip("\n").split(":", 1) for line in f)
        assert status["Uid"].split() == status["Gid"].split() == ["0"] * 4, status
        assert not status["Groups"].split()
    for uid in (12001, 12002, 12003):
        assert os.stat(m.b(f"{uid}.59.d")).st_uid == uid
        assert util.records(m.b(f"{uid}.jsonl")) == [{"n": 1}] * 60


QUOTA = 8 << 20


@pytest.fixture
def limited(workdir):
    """btrfs with two subvolumes of QUOTA bytes each; (bare, to be mounted)."""
    image, top = workdir / "image", workdir / "disk"
    with open(image, "wb") as f:
        f.truncate(256 << 20)
    util.run("mkfs.btrfs", "-q", image, check=0)
    top.mkdir()
    util.run("mount", "-o", "loop", image, top, check=0)
    try:
        util.run("btrfs", "quota", "enable", top, check=0)
        for name in ("bare", "vault"):
            util.run("btrfs", "subvolume", "create", top / name, check=0)
            util.run("btrfs", "qgroup", "limit", str(QUOTA), top / name, check=0)
            (top / name).chmod(0o777)
        yield top / "bare", top / "vault"
    finally:
        util.run("umount", "-l", top)


@pytest.mark.parametrize("option", ["allow_other", "nopassthrough"])
@pytest.mark.parametrize("who", [12001, 0])
def test_a_quota_counts_as_natively(limited, mount, who, option):
    bare, vault = limited
    m = mount(option, source=vault)

    def fill(path):
        done = 0
        with opened(path, os.O_RDWR | os.O_CREAT) as fd:
            try:
                while done < 4 * QUOTA:
                    done += os.write(fd, os.urandom(65536))
                    os.fsync(fd)
            except OSError as e:
                said = e.errno
            else:
                said = 0
            more = outcome(lambda: util.fallocate(fd, 0, done, QUOTA))
            return said, more, done, os.fstat(fd).st_size

    answers = []
    for top in (bare, m.mnt):
        answers.append(as_user(who, lambda top=top: fill(top / "f"), 60))
    native, mounted = answers
    assert native[:2] == mounted[:2] == (errno.EDQUOT, errno.EDQUOT), answers
    for _, _, done, size in answers:
        assert abs(done - native[2]) <= 1 << 20, answers
        assert size - done < 65536
    os.unlink(m.p("f"))
    os.sync()
    as_user(who, lambda: m.p("g").write_bytes(b"x" * 100000))


# ---- what others change behind the mount ----


def test_changes_behind_the_mount_appear_within_the_timeout(mount):
    """A second by default; content of files that nobody has open at once."""
    m = mount()
    for name in ("f", "gone"):
        m.p(name).write_text("one")
    with opened(m.p("f"), os.O_RDONLY):
        os.listdir(m.p())
        m.b("f").write_text("two, longer")
        os.chmod(m.b("f"), 0o600)
        os.unlink(m.b("gone"))
        m.b("new").write_text("x")
        assert not m.b("gone").exists()
        time.sleep(1.1)
        st = m.p("f").stat()
        assert (st.st_size, stat.S_IMODE(st.st_mode)) == (11, 0o600)
        assert m.p("new").exists() and not m.p("gone").exists()
        assert set(os.listdir(m.p())) == {"f", "new"}


def test_the_timeout_is_an_option(mount):
    m = mount(*LONG)
    m.p("f").write_text("one")
    m.p("f").stat()
    m.b("f").chmod(0o640)
    time.sleep(1.1)
    assert stat.S_IMODE(m.p("f").stat().st_mode) == 0o644
    with opened(m.p("f"), os.O_RDONLY) as fd:  # asks anew
        assert os.read(fd, 10) == b"one"
