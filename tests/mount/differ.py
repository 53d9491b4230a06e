# SPDX-License-Identifier: MIT
"""The same operations on two directories, one bare and one behind a mount: what each call
answered, and what the trees look like afterwards, must be equal.

A side is a directory with a few forked workers in it, one per user; a worker keeps its own
open files, umask and current directory. Operations are tuples (user, name, arguments ...)
of plain values, so that a sequence can be printed, replayed and made smaller."""

import atexit
import ctypes
import errno
import fcntl
import functools
import hashlib
import mmap
import os
import pickle
import random
import resource
import select
import shutil
import signal
import stat
import struct
import tempfile
import threading

import util

# Made-up users: (uid, gid, supplementary groups).
USERS = {
    "root": (0, 0, []),
    "ada": (12001, 12001, [12100]),
    "ben": (12002, 12002, [12100, 12200]),
    "cyd": (12003, 12003, []),
}
# Of every Debian: fusermount3 mounts only for those that have a name.
NAMED = {
    "daemon": (1, 1, [12100]),
    "bin": (2, 2, [12100, 12200]),
    "nobody": (65534, 65534, []),
}
PEOPLE = USERS | NAMED
GROUPS = [0, 12001, 12002, 12003, 12100, 12200]
# Explicit times lie long before anything that a clock gives.
OLD = 1_500_000_000 * 10**9
SLOTS = 6
THREADS = 2  # of each user, where they are several
HANGS = 60 * float(os.environ.get("JSONLFS_TEST_SLOWNESS", "1"))  # seconds

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name, *args):
    got = getattr(_libc, name)(*args)
    if got == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return got


def acl(*entries):
    """The bytes of a POSIX ACL: (tag, permissions[, id]) each."""
    out = struct.pack("<I", 2)
    for tag, perm, *who in entries:
        out += struct.pack("<HHI", tag, perm, who[0] if who else 0xFFFFFFFF)
    return out


USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32


# ---- the worker's side ----


def clock_of(ns):
    """Times that were set are exact; those that a clock gave are only "now"."""
    return ns if ns < NOW else "now"


def told(st):
    kind = stat.S_IFMT(st.st_mode)
    return (
        oct(st.st_mode),
        st.st_uid,
        st.st_gid,
        None if kind == stat.S_IFDIR else st.st_size,
        st.st_nlink,
        st.st_rdev,
        # What goes through a pipe is stamped in the kernel's inode alone.
        None if kind == stat.S_IFIFO else clock_of(st.st_mtime_ns),
    )


def is_device(path):
    """The mount is nodev: no device can be opened in it."""
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except OSError:
        return False
    return kind in (stat.S_IFCHR, stat.S_IFBLK)


def clocks_of(st, a):
    """`a`: how the access time was set. A read out of the page cache of the mount leaves it."""
    return None if a == "omit" else clock_of(st.st_atime_ns), clock_of(st.st_mtime_ns)


_libc.opendir.restype = ctypes.c_void_p
_libc.readdir.restype = ctypes.c_void_p
_libc.telldir.restype = ctypes.c_long


class Stream:
    """opendir, readdir, telldir, seekdir: Python has no names for them."""

    def __init__(self, path):
        self.dir = ctypes.c_void_p(_libc.opendir(os.fsencode(path)))
        if not self.dir:
            raise OSError(ctypes.get_errno(), "opendir")

    def read(self):
        entry = _libc.readdir(self.dir)
        return ctypes.string_at(entry + 19) if entry else None

    def tell(self):
        return _libc.telldir(self.dir)

    def seek(self, where):
        _libc.seekdir(self.dir, ctypes.c_long(where))

    def close(self):
        _libc.closedir(self.dir)


class Worker:
    def __init__(self):
        self.fds = {}

    def answer(self, name, args):
        try:
            return getattr(self, name)(*args)
        except OSError as e:
            return errno.errorcode.get(e.errno, e.errno)
        except (ValueError, TypeError, OverflowError, IndexError) as e:
            return f"{type(e).__name__}: {e}"

    def fd(self, slot):
        if slot not in self.fds:
            raise OSError(errno.EBADF, "no such slot")
        return self.fds[slot]

    def put(self, slot, fd):
        if slot in self.fds:
            os.close(self.fds.pop(slot))
        self.fds[slot] = fd
        return "open"

    # by descriptor

    def open(self, slot, path, flags, mode):
        if is_device(path):
            return "device"
        return self.put(slot, os.open(path, flags, mode))

    def close(self, slot):
        os.close(self.fds.pop(slot) if slot in self.fds else 9999)

    def read(self, slot, n):
        return hash_of(os.read(self.fd(slot), n))

    def write(self, slot, seed, n):
        return os.write(self.fd(slot), data_of(seed, n))

    def pread(self, slot, n, off):
        return hash_of(os.pread(self.fd(slot), n, off))

    def pwrite(self, slot, seed, n, off):
        return os.pwrite(self.fd(slot), data_of(seed, n), off)

    def lseek(self, slot, off, whence):
        # Positions of directories are the kernel's own matter but for their beginning.
        if stat.S_ISDIR(os.fstat(self.fd(slot)).st_mode) and (off or whence):
            return "directory"
        return os.lseek(self.fd(slot), off, whence)

    def ftruncate(self, slot, n):
        os.ftruncate(self.fd(slot), n)

    def fallocate(self, slot, mode, off, n):
        _call("fallocate", self.fd(slot), mode, ctypes.c_long(off), ctypes.c_long(n))

    def fstat(self, slot):
        return told(os.fstat(self.fd(slot)))

    def fchmod(self, slot, mode):
        os.fchmod(self.fd(slot), mode)

    def fchown(self, slot, uid, gid):
        os.fchown(self.fd(slot), uid, gid)

    def fsync(self, slot):
        os.fsync(self.fd(slot))

    def fdatasync(self, slot):
        os.fdatasync(self.fd(slot))

    def futimens(self, slot, a, m):
        fd = self.fd(slot)
        _call("futimens", fd, times_of(a, m))
        return clocks_of(os.fstat(fd), a)

    def copy_file_range(self, a, off_a, b, off_b, n):
        return os.copy_file_range(self.fd(a), self.fd(b), n, off_a, off_b)

    def sendfile(self, a, b, off, n):
        # Pages travel by reference: whether what is written over what is yet to be read
        # counts, depends on where the page cache has its copies.
        if os.path.sameopenfile(self.fd(a), self.fd(b)):
            return "same file"
        return os.sendfile(self.fd(b), self.fd(a), off, n)

    def setfl(self, slot, flags):
        # A pipe that nobody else has open must not be waited for.
        fcntl.fcntl(self.fd(slot), fcntl.F_SETFL, flags | os.O_NONBLOCK)

    def flock(self, slot, how):
        fcntl.flock(self.fd(slot), how | fcntl.LOCK_NB)

    def lockf(self, slot, how, start, n):
        fcntl.lockf(self.fd(slot), how | fcntl.LOCK_NB, n, start)

    def mmap_write(self, slot, seed, n, off):
        size = os.fstat(self.fd(slot)).st_size
        if size == 0:
            raise OSError(errno.EINVAL, "empty")
        with mmap.mmap(self.fd(slot), size, mmap.MAP_SHARED) as m:
            end = min(size, off + n)
            if off < end:
                m[off:end] = data_of(seed, end - off)
            m.flush()
        return size

    def mmap_read(self, slot, private):
        size = os.fstat(self.fd(slot)).st_size
        if size == 0:
            raise OSError(errno.EINVAL, "empty")
        how = mmap.MAP_PRIVATE if private else mmap.MAP_SHARED
        with mmap.mmap(self.fd(slot), size, how, mmap.PROT_READ) as m:
            return hash_of(m[:])

    def link_fd(self, slot, path):
        util.link_fd(self.fd(slot), path)

    def getflags(self, slot):
        return util.getflags(self.fd(slot)) & ~0x80000  # extents: ext4's own matter

    def setflags(self, slot, flags):
        util.setflags(self.fd(slot), flags | (util.getflags(self.fd(slot)) & 0x80000))

    def fdopendir(self, slot):
        return sorted(os.listdir(self.fd(slot)))

    # by path

    def stat(self, path):
        return told(os.stat(path))

    def lstat(self, path):
        return told(os.lstat(path))

    def access(self, path, mode):
        _call("access", os.fsencode(path), mode)

    def listdir(self, path):
        return sorted(os.listdir(path))

    def chdir(self, path):
        here = os.open(".", os.O_PATH)
        try:
            os.chdir(path)
            os.fchdir(here)
        finally:
            os.close(here)

    def mkdir(self, path, mode):
        os.mkdir(path, mode)

    def rmdir(self, path):
        os.rmdir(path)

    def unlink(self, path):
        os.unlink(path)

    def rename(self, a, b, flags):
        util.renameat2(a, b, flags)

    def link(self, a, b):
        os.link(a, b, follow_symlinks=False)

    def symlink(self, target, path):
        os.symlink(target, path)

    def readlink(self, path):
        return os.readlink(path)

    def mknod(self, path, mode, device):
        os.mknod(path, mode, device)

    def chmod(self, path, mode):
        os.chmod(path, mode)

    def chown(self, path, uid, gid):
        os.chown(path, uid, gid)

    def lchown(self, path, uid, gid):
        os.lchown(path, uid, gid)

    def truncate(self, path, n):
        os.truncate(path, n)

    def utimens(self, path, a, m, follow):
        _call(
            "utimensat", util.AT_FDCWD, os.fsencode(path), times_of(a, m),
            0 if follow else 0x100,
        )
        return clocks_of(os.stat(path, follow_symlinks=follow), a)

    def direct(self, path, seed, n, off):
        """O_DIRECT, aligned; seed None reads."""
        if is_device(path):
            return "device"
        fd = os.open(path, os.O_DIRECT | os.O_RDWR)
        try:
            with mmap.mmap(-1, max(n, 4096)) as memory:
                part = memoryview(memory)[:n]
                try:
                    if seed is None:
                        return hash_of(bytes(part[: os.preadv(fd, [part], off)]))
                    part[:] = data_of(seed, n)
                    return os.pwritev(fd, [part], off)
                finally:
                    part.release()
        finally:
            os.close(fd)

    def execute(self, path):
        """No content here is a program: what counts is how that is found out."""
        pid = os.posix_spawn(path, [path], {})
        os.waitpid(pid, 0)

    def scan(self, path, k, victim, new):
        """A directory is read while a name goes and another comes: every other name is seen
        exactly once."""
        d = Stream(path)
        try:
            names = [name for name in (d.read() for _ in range(k)) if name is not None]
            where = d.tell()
            for change in (lambda: os.unlink(victim), lambda: os.mkdir(new)):
                util.outcome(change)
            d.seek(where)
            while (name := d.read()) is not None:
                names.append(name)
        finally:
            d.close()
        moved = {os.path.basename(os.fsencode(p).rstrip(b"/")) for p in (victim, new)}
        return sorted(name for name in names if name not in moved)

    def ofd(self, slot, kind, start, n):
        lock = struct.pack("hhqqi", kind, 0, start, n, 0)
        fcntl.fcntl(self.fd(slot), util.F_OFD_SETLK, lock)

    def limit(self, n):
        """RLIMIT_FSIZE; the signal is ignored, so that calls answer EFBIG."""
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n, resource.RLIM_INFINITY))

    def setxattr(self, path, name, value, flags, follow):
        os.setxattr(path, name, value, flags, follow_symlinks=follow)

    def getxattr(self, path, name, follow):
        return os.getxattr(path, name, follow_symlinks=follow)

    def listxattr(self, path, follow):
        return sorted(os.listxattr(path, follow_symlinks=follow))

    def removexattr(self, path, name, follow):
        os.removexattr(path, name, follow_symlinks=follow)

    def umask(self, mask):
        os.umask(mask)

    def statvfs(self, path):
        st = os.statvfs(path)
        return (st.f_bsize, st.f_frsize, st.f_blocks, st.f_files, st.f_namemax)


class Timespec(ctypes.Structure):
    _fields_ = [("sec", ctypes.c_long), ("nsec", ctypes.c_long)]


def times_of(a, m):
    def one(t):
        if t == "now":
            return Timespec(0, 0x3FFFFFFF)
        if t == "omit":
            return Timespec(0, 0x3FFFFFFE)
        return Timespec(t // 10**9, t % 10**9)

    return (Timespec * 2)(one(a), one(m))


def data_of(seed, n):
    return (random.Random(seed).randbytes(64) * (n // 64 + 1))[:n]


def hash_of(data):
    return len(data), hashlib.blake2b(data, digest_size=6).hexdigest()


def _serve(r, w, root, user, worker):
    uid, gid, groups = PEOPLE[user]
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    os.umask(0o022)
    os.setgroups(groups)
    os.setgid(gid)
    os.setuid(uid)
    os.chdir(root)
    workers = [worker() for _ in range(THREADS)]
    source = os.fdopen(r, "rb")
    sink = os.fdopen(w, "wb")
    while True:
        try:
            lists = pickle.load(source)
        except EOFError:
            os._exit(0)
        answers = [[] for _ in lists]
        run = [
            functools.partial(_run, workers[k], lists[k], answers[k])
            for k in range(len(lists))
        ]
        threads = [threading.Thread(target=f) for f in run[1:]]
        for t in threads:
            t.start()
        run[0]()
        for t in threads:
            t.join()
        pickle.dump(answers, sink)
        sink.flush()


def _run(worker, ops, answers):
    answers.extend(worker.answer(name, args) for name, args in ops)


class Side:
    """A directory with one worker per user in it."""

    def __init__(self, root, worker=Worker, users=USERS):
        self.root = os.fspath(root)
        self.workers = {}
        for user in users:
            ask_r, ask_w = os.pipe()
            tell_r, tell_w = os.pipe()
            pid = os.fork()
            if pid == 0:
                try:
                    keep = sorted((ask_r, tell_w))
                    os.closerange(3, keep[0])
                    os.closerange(keep[0] + 1, keep[1])
                    os.closerange(keep[1] + 1, 4096)
                    _serve(ask_r, tell_w, self.root, user, worker)
                finally:
                    os._exit(1)
            os.close(ask_r)
            os.close(tell_w)
            self.workers[user] = (pid, os.fdopen(ask_w, "wb"), os.fdopen(tell_r, "rb"))

    def ask(self, user, *lists):
        """Starts lists of (name, args), each in a thread of its own."""
        ask = self.workers[user][1]
        pickle.dump(lists, ask)
        ask.flush()

    def told(self, user):
        """The answers to what was asked last; None: there are none."""
        pid, _, tell = self.workers[user]
        if not select.select([tell], [], [], HANGS)[0]:
            os.kill(pid, signal.SIGKILL)
            return None
        return pickle.load(tell)

    def close(self):
        for pid, ask, tell in self.workers.values():
            ask.close()
            tell.close()
            os.waitpid(pid, 0)
        self.workers = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


ATTRIBUTES, CONTENT, HOLES, REMEMBER = 1, 2, 4, 8  # of tree.c
NOW = OLD + 10**18 // 10


@functools.cache
def _tree_library():
    place = tempfile.mkdtemp(prefix="jsonlfs-differ.")
    atexit.register(shutil.rmtree, place, True)
    out = os.path.join(place, "tree.so")
    util.run(
        "cc", "-std=gnu17", "-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-shared",
        "-fPIC", "-o", out, util.HERE / "progs" / "tree.c", check=0, timeout=60)
    lib = ctypes.CDLL(out)
    lib.tree_describe.restype = ctypes.c_void_p
    lib.tree_describe.argtypes = [
        ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int64, ctypes.c_int]
    return lib


def describe_tree(root, flags=ATTRIBUTES | CONTENT, clock=NOW):
    """Everything about every file below root that must be equal on both sides, as text."""
    lib = _tree_library()
    text = lib.tree_describe(os.fsencode(root), b".jsonlfs", clock, flags)
    assert text, root
    try:
        return ctypes.string_at(text)
    finally:
        _libc.free(ctypes.c_void_p(text))


def tree(root):
    """name -> what describe_tree says, with all times as they are."""
    lines = describe_tree(root, clock=2**63 - 1).decode().splitlines()
    return dict(line.partition(" ")[::2] for line in lines)


# ---- random operations ----

LONG = "n" * 255
NAMES = ["a", "b", "c", "d", "é\udcff", LONG]
# The two last ones are made by the prologue: sticky, and of a group with a default ACL.
DIRS = ["", "p", "q", "p/r", "q/s", "p/r/t", "st", "sg"]
ELSEWHERE = "/dev/shm/another file system"
O = os  # noqa: E741
MODES = [0o644, 0o600, 0o666, 0o755, 0o777, 0o4755, 0o2755, 0o6711, 0o1777, 0o2775, 0, 0o444]
XATTRS = ["user.one", "user.two", "trusted.t", "security.x", "user." + "x" * 250, "nosuch.x"]
ALL_XATTRS = XATTRS + ["system.posix_acl_access", "system.posix_acl_default"]
ACLS = [
    acl((USER_OBJ, 6), (GROUP_OBJ, 4), (OTHER, 4)),
    acl((USER_OBJ, 7), (USER, 7, 12001), (GROUP_OBJ, 5), (MASK, 7), (OTHER, 0)),
    acl((USER_OBJ, 6), (GROUP_OBJ, 0), (GROUP, 6, 12100), (MASK, 6), (OTHER, 0)),
    acl((USER_OBJ, 6), (USER, 6, 12003), (GROUP_OBJ, 4), (MASK, 4), (OTHER, 4)),
    acl((USER_OBJ, 7), (USER, 7, 12002), (USER, 5, 12003), (GROUP_OBJ, 7), (MASK, 5), (OTHER, 1)),
    b"rubbish",
]
WIDE = [ACLS[1], ACLS[4], ACLS[5]]  # do not take group execution
SIZES = [0, 1, 5, 4095, 4096, 4097, 20000, 70000]
OFFSETS = [0, 1, 100, 4096, 65536, 70000, 200000]
LIMIT = 100000  # of file sizes, for who has one


# What every round begins with, so that most operations find something to work on.
PROLOGUE = [
    *(("root", "umask", 0),),
    *(("root", "mkdir", d, 0o777) for d in DIRS[1:] if d != "p/r/t"),
    ("root", "chmod", "st", 0o1777),
    ("root", "chown", "sg", 12001, 12100),
    ("root", "chmod", "sg", 0o2777),
    ("root", "setxattr", "sg", "system.posix_acl_default", ACLS[4], 0, True),
    ("root", "symlink", "loop", "loop"),
    ("root", "umask", 0o022),
    *(
        (user, "open", slot, os.path.join(folder, NAMES[slot]), os.O_RDWR | os.O_CREAT, 0o666)
        for user, folder in (("root", ""), ("ada", "p"), ("ben", "q"), ("cyd", "p/r"))
        for slot in range(3)
    ),
    ("ada", "open", 3, "st/a", os.O_RDWR | os.O_CREAT, 0o666),
    ("ben", "mkdir", "st/b", 0o777),
    ("ben", "open", 3, "sg/c", os.O_RDWR | os.O_CREAT, 0o666),
    *((user, "write", slot, slot, 5000) for user in USERS for slot in range(2)),
]


class Random:
    """Draws operations; weights favour what leaves something to work on."""

    def __init__(self, r, tmpfile, passthrough, user=None, prefix="", suid=True):
        """Of one user in a directory of its own, beside other threads, if there is a prefix:
        without what is common to the process. `suid`: whether files become suid or sgid."""
        self.r = r
        self.passthrough = passthrough
        self.who = "root"  # whose turn it is
        self.only, self.prefix = user, prefix
        self.open = {user: set() for user in PEOPLE}
        self.exist = set()
        # What few operations would find by chance.
        self.links, self.attributes = set(), set()
        self.folders = {user: set() for user in PEOPLE}
        self.kinds = [
            (k[3:], getattr(self, k), w)
            for k, w in self.WEIGHTS.items()
            if (k != "op_tmpfile" or tmpfile) and (not prefix or k not in self.COMMON)
        ]
        self.odds = [w for _, _, w in self.kinds]
        self.limited = set()
        # What is preallocated is data or a hole, by what the page cache happens to hold: of a
        # bare file on ext4, lseek finds data where something has been read, and a hole again
        # when the cache is dropped. A store to a mapping fills as much of a hole as the cache
        # has in one piece. A round has these, or asks where the data lies.
        self.preallocates = r.random() < 0.5
        # In kernel passthrough all write with one set of credentials, without groups: setgid
        # without group execution goes, if it came to be while the file was open, natively not
        # when a member writes. A round either sets setgid, or takes group execution by an ACL.
        narrow = passthrough and r.random() < 0.5
        self.modes = [
            m for m in MODES if not (narrow and m & 0o2000) and (suid or not m & 0o6000)]
        self.acls = [a for a in ACLS if narrow or not passthrough or a in WIDE]

    def note(self, op, answer):
        """What became of an operation: the next ones shall mostly find something."""
        user, name, *args = op
        if isinstance(answer, str) and answer[0] == "E":
            return
        if name == "limit":
            self.limited.discard(user)
            self.limited |= {user} if args[0] == LIMIT else set()
        if name in ("open", "close"):
            self.folders[user].discard(args[0])
        if name == "open":
            self.open[user].add(args[0])
            self.add(args[1])
            if args[2] & O.O_DIRECTORY and not args[2] & O.O_TMPFILE & ~O.O_DIRECTORY:
                self.folders[user].add(args[0])
        elif name == "close":
            self.open[user].discard(args[0])
        elif name == "setxattr":
            self.attributes.add((args[0], args[1]))
        elif name in ("mkdir", "mknod"):
            self.add(args[0])
        elif name in ("link", "symlink", "link_fd", "rename"):
            self.add(args[1])
        if name == "symlink":
            self.links.add(args[1])
        if name in ("unlink", "rmdir", "rename"):
            self.exist.discard(args[0][len(self.prefix):])

    def add(self, path):
        self.exist.add(path[len(self.prefix):])

    def path(self, new=False):
        return self.prefix + self.name_in(new)

    def name_in(self, new=False):
        r = self.r
        if not new and self.exist and r.random() < 0.65:
            return r.choice(sorted(self.exist))
        if r.random() < 0.3:
            return r.choice(DIRS[1:])
        folder = r.choice(DIRS)
        name = r.choice(NAMES)
        path = os.path.join(folder, name)
        x = r.random()
        if x < 0.02:
            return path + "/"
        if x < 0.03:
            return path + "/x"
        if x < 0.04:
            return os.path.join(folder, "..", name)
        if x < 0.05:
            return os.path.join(folder, LONG + "n")
        if x < 0.06:
            return os.path.join(folder, ".")
        if x < 0.07:  # PATH_MAX, and one more
            return "./" * ((4095 - len(self.prefix + path)) // 2 + r.randrange(2)) + path
        if x < 0.08:
            return r.choice(["loop", "loop/x"])
        return path

    def user(self):
        return self.only or self.r.choice(["root", "ada", "ada", "ben", "ben", "cyd"])

    def slot(self, new=False):
        ours = self.open[self.who]
        if ours and not new and self.r.random() < 0.95:
            return self.r.choice(sorted(ours))
        return self.r.randrange(SLOTS)

    def draw(self):
        name, make, _ = self.r.choices(self.kinds, self.odds)[0]
        self.who = self.user()
        # With kernel passthrough root's writes clear suid and sgid, too, if they were set
        # while the file was open: one set of credentials serves everybody. The safe side.
        if self.passthrough and self.who == "root" and name in (
            "write", "pwrite", "sendfile", "direct",
        ):
            if self.only:
                return (self.who, *self.op_stat())
            self.who = "ada"
        return (self.who, *make())

    def op_open(self):
        r = self.r
        if r.random() < 0.04:
            folder = self.prefix + r.choice([x or "." for x in DIRS])
            return "open", self.slot(True), folder, O.O_RDONLY | O.O_DIRECTORY, 0
        flags = r.choice([O.O_RDONLY, O.O_WRONLY, O.O_RDWR, O.O_RDWR, O.O_RDWR])
        for flag, odds in (
            (O.O_CREAT, 0.6), (O.O_EXCL, 0.15), (O.O_TRUNC, 0.15), (O.O_APPEND, 0.25),
            (O.O_NOFOLLOW, 0.1), (O.O_DIRECTORY, 0.05), (O.O_SYNC, 0.03),
            (O.O_NOATIME, 0.05), (O.O_PATH, 0.02), (O.O_NONBLOCK, 1),
        ):
            if r.random() < odds:
                flags |= flag
        return "open", self.slot(True), self.path(r.random() < 0.5), flags, r.choice(self.modes)

    def op_tmpfile(self):
        flags = self.r.choice([O.O_WRONLY, O.O_RDWR, O.O_RDWR, O.O_RDWR | O.O_EXCL])
        where = self.prefix + self.r.choice([x or "." for x in DIRS])
        return "open", self.slot(True), where, flags | O.O_TMPFILE, self.r.choice(self.modes)

    def op_close(self):
        return "close", self.slot()

    def op_read(self):
        return "read", self.slot(), self.r.choice(SIZES)

    def op_write(self):
        return "write", self.slot(), self.r.randrange(99), self.r.choice(SIZES)

    def op_pread(self):
        return "pread", self.slot(), self.r.choice(SIZES), self.r.choice(OFFSETS)

    def op_pwrite(self):
        return ("pwrite", self.slot(), self.r.randrange(99), self.r.choice(SIZES),
                self.r.choice(OFFSETS))

    def op_lseek(self):
        kinds = [0, 1, 2, 17, os.SEEK_DATA, os.SEEK_HOLE, os.SEEK_DATA]
        return ("lseek", self.slot(), self.r.choice([*OFFSETS, -1]),
                self.r.choice(kinds[:4] if self.preallocates else kinds))

    def op_ftruncate(self):
        return "ftruncate", self.slot(), self.r.choice([*SIZES, 200000, -1])

    def op_fallocate(self):
        # Not COLLAPSE and INSERT: the kernel's FUSE has none.
        modes = [2, 0x80, 3, 3, 0, 1, 0x10, 0x11]
        mode = self.r.choice(modes if self.preallocates else modes[:4])
        off, n = self.r.choice(OFFSETS), self.r.choice(SIZES)
        # Beyond the caller's limit ext4 clears suid before it answers EFBIG; here the kernel
        # answers that itself, and nobody is asked (inode_newsize_ok in fuse_file_fallocate).
        if self.who in self.limited and off + n > LIMIT:
            off = 0
        return "fallocate", self.slot(), mode, off, n

    def op_fstat(self):
        return "fstat", self.slot()

    def op_fchmod(self):
        return "fchmod", self.slot(), self.r.choice(self.modes)

    def op_fchown(self):
        return ("fchown", self.slot(), *self.owner())

    def owner(self):
        uid, gid = self.r.choice([-1, 0, 12001, 12002, 12003]), self.r.choice([-1, *GROUPS])
        if self.passthrough and uid == gid == -1:
            gid = 0  # nothing at all: with HANDLE_KILLPRIV_V2 the kernel lets it pass
        return uid, gid

    def op_fsync(self):
        return self.r.choice(["fsync", "fdatasync"]), self.slot()

    def times(self):
        return self.r.choice(["now", "omit", OLD, OLD + 123_456_789, OLD + 10**15 + 1])

    def op_futimens(self):
        return "futimens", self.slot(), self.times(), self.times()

    def op_copy_file_range(self):
        return ("copy_file_range", self.slot(), self.r.choice(OFFSETS), self.slot(),
                self.r.choice(OFFSETS), self.r.choice(SIZES))

    def op_sendfile(self):
        return "sendfile", self.slot(), self.slot(), self.r.choice(OFFSETS), 5000

    def op_setfl(self):
        # With kernel passthrough O_APPEND can be set later, but not be cleared again: the
        # kernel keeps the flags of the open for the backing file.
        flags = [O.O_APPEND] if self.passthrough else [0, O.O_APPEND, O.O_NOATIME]
        return "setfl", self.slot(), self.r.choice(flags)

    def op_flock(self):
        return "flock", self.slot(), self.r.choice([fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN])

    def op_lockf(self):
        return ("lockf", self.slot(),
                self.r.choice([fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN]),
                self.r.choice([0, 10, 100]), self.r.choice([0, 10, 1000]))

    def op_mmap_write(self):
        if not self.preallocates:
            return self.op_mmap_read()
        return ("mmap_write", self.slot(), self.r.randrange(99), self.r.choice(SIZES),
                self.r.choice(OFFSETS))

    def op_mmap_read(self):
        return "mmap_read", self.slot(), self.r.random() < 0.5

    def op_link_fd(self):
        return "link_fd", self.slot(), self.path(True)

    def op_getflags(self):
        return "getflags", self.slot()

    def op_setflags(self):
        return "setflags", self.slot(), self.r.choice([0, 0x40, 0x80, 0xC0])

    def op_fdopendir(self):
        known = self.folders[self.who]
        if known and self.r.random() < 0.7:
            return "fdopendir", self.r.choice(sorted(known))
        return "fdopendir", self.slot()

    def op_stat(self):
        return self.r.choice(["stat", "lstat", "lstat"]), self.path()

    def op_access(self):
        return "access", self.path(), self.r.randrange(8)

    def op_listdir(self):
        folder = self.prefix + self.r.choice([x or "." for x in DIRS])
        return "listdir", self.r.choice([folder, folder, self.path()])

    def op_chdir(self):
        return "chdir", self.path()

    def op_mkdir(self):
        path = self.path(True)
        if self.r.random() < 0.6:
            path = self.prefix + self.r.choice(DIRS[1:])
        return "mkdir", path, self.r.choice([0o777, 0o755, 0o2775, 0o1777, 0o700])

    def op_rmdir(self):
        return "rmdir", self.path()

    def op_unlink(self):
        return "unlink", self.path()

    def op_rename(self):
        return ("rename", self.path(), self.target(0.6), self.r.choice([0, 0, 0, 1, 2, 3]))

    def target(self, new):
        if self.r.random() < 0.03:
            return ELSEWHERE
        return self.path(self.r.random() < new)

    def op_link(self):
        return "link", self.path(), self.target(0.8)

    def op_symlink(self):
        target = self.r.choice([self.name_in(), "a", "../b", "/proc/nonexistent/x", "x" * 300, "p", "."])
        return "symlink", target, self.path(True)

    def op_readlink(self):
        if self.links and self.r.random() < 0.6:
            return "readlink", self.r.choice(sorted(self.links))
        return "readlink", self.path()

    def op_mknod(self):
        mode, device = self.r.choice([
            (stat.S_IFIFO, 0), (stat.S_IFSOCK, 0), (stat.S_IFREG, 0),
            (stat.S_IFCHR, os.makedev(1, 3)), (stat.S_IFBLK, os.makedev(7, 200)),
        ])
        return "mknod", self.path(True), mode | self.r.choice(self.modes), device

    def op_chmod(self):
        return "chmod", self.path(), self.r.choice(self.modes)

    def op_chown(self):
        return (self.r.choice(["chown", "lchown"]), self.path(), *self.owner())

    def op_truncate(self):
        return "truncate", self.path(), self.r.choice([*SIZES, -1])

    def op_utimens(self):
        return "utimens", self.path(), self.times(), self.times(), self.r.random() < 0.7

    def op_setxattr(self):
        r = self.r
        if r.random() < 0.4:
            name = r.choice(["system.posix_acl_access", "system.posix_acl_default"])
            return "setxattr", self.path(), name, r.choice(self.acls), 0, True
        value = b"v" * r.choice([0, 1, 10, 300, 70000])
        return ("setxattr", *self.attribute(XATTRS), value, r.choice([0, 0, 1, 2]),
                r.random() < 0.8)

    def attribute(self, names):
        """(path, name)"""
        if self.attributes and self.r.random() < 0.4:
            return self.r.choice(sorted(self.attributes))
        return self.path(), self.r.choice(names)

    def op_getxattr(self):
        return "getxattr", *self.attribute(ALL_XATTRS), self.r.random() < 0.8

    def op_listxattr(self):
        return "listxattr", self.path(), self.r.random() < 0.8

    def op_removexattr(self):
        return "removexattr", *self.attribute(ALL_XATTRS), self.r.random() < 0.8

    def op_umask(self):
        return "umask", self.r.choice([0, 0o022, 0o077, 0o027])

    def op_statvfs(self):
        return "statvfs", self.path()

    def op_direct(self):
        r = self.r
        seed, n, off = r.choice([None, r.randrange(99)]), r.choice([0, 4096, 65536]), \
            r.choice([0, 4096, 65536])
        # Cut at the caller's limit it is not aligned any more, which matters bare only.
        if self.who in self.limited:
            off = 0
        return "direct", self.path(), seed, n, off

    def op_execute(self):
        return "execute", self.path()

    def op_scan(self):
        folder = self.prefix + self.r.choice([x or "." for x in DIRS])
        return ("scan", self.r.choice([folder, folder, self.path()]), self.r.randrange(5),
                self.path(), self.path(True))

    def op_ofd(self):
        return ("ofd", self.slot(), self.r.choice([fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK]),
                self.r.choice([0, 10, 100]), self.r.choice([0, 10, 1000]))

    def op_limit(self):
        return "limit", self.r.choice([LIMIT, resource.RLIM_INFINITY])

    # What a process has once, and what knows of the other threads' descriptors.
    COMMON = {"op_umask", "op_limit", "op_chdir", "op_execute"}

    WEIGHTS = {
        "op_open": 18, "op_tmpfile": 2, "op_close": 3, "op_read": 4, "op_write": 8,
        "op_pread": 3, "op_pwrite": 4, "op_lseek": 4, "op_ftruncate": 3,
        "op_fallocate": 3, "op_fstat": 4, "op_fchmod": 2, "op_fchown": 2, "op_fsync": 1,
        "op_futimens": 1, "op_copy_file_range": 3, "op_sendfile": 1, "op_setfl": 1,
        "op_flock": 2, "op_lockf": 2, "op_mmap_write": 3, "op_mmap_read": 3,
        "op_link_fd": 1, "op_getflags": 1, "op_setflags": 1, "op_fdopendir": 1,
        "op_stat": 5, "op_access": 2, "op_listdir": 3, "op_chdir": 1, "op_mkdir": 8,
        "op_rmdir": 2, "op_unlink": 3, "op_rename": 6, "op_link": 3, "op_symlink": 3,
        "op_readlink": 1, "op_mknod": 2, "op_chmod": 6, "op_chown": 5, "op_truncate": 3,
        "op_utimens": 3, "op_setxattr": 5, "op_getxattr": 2, "op_listxattr": 2,
        "op_removexattr": 2, "op_umask": 1, "op_statvfs": 1,
        "op_direct": 2, "op_execute": 1, "op_scan": 2, "op_ofd": 2, "op_limit": 1,
    }


# ---- comparing ----


class Difference(AssertionError):
    def __init__(self, done, what):
        super().__init__(what)
        self.done = done


def describe(op):
    user, name, *args = op
    return f"({', '.join(map(repr, (user, name, *args)))})"


class Pair:
    """The two sides, step by step. `backing` is the mounted side's bare directory; `worker`
    does the work on the mounted side."""

    def __init__(self, bare, mounted, backing, worker=Worker, users=USERS):
        self.bare, self.mounted = Side(bare, users=users), Side(mounted, worker, users)
        self.backing = backing
        self.done = []
        self.seen = {}

    def close(self):
        self.bare.close()
        self.mounted.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def step(self, op):
        """One operation on both sides."""
        return self.together({op[0]: [[op]]})[0]

    def together(self, lists):
        """{user: [operations of one thread, ...]} on both sides, all at once."""
        for ops in [ops for of_user in lists.values() for ops in of_user]:
            self.done.extend(ops)
        for side in (self.bare, self.mounted):
            for user, of_user in lists.items():
                side.ask(user, *([op[1:2] + (op[2:],) for op in ops] for ops in of_user))
        answers = []
        for user, of_user in lists.items():
            wants, gots = self.bare.told(user), self.mounted.told(user)
            if wants is None or gots is None:
                side = "bare" if wants is None else "mounted"
                raise Difference(self.done, f"{user} gets no answer ({side}): {of_user}")
            for ops, want_list, got_list in zip(of_user, wants, gots):
                for op, want, got in zip(ops, want_list, got_list):
                    answers.append(want)
                    self.compare(op, want, got)
        return answers

    def compare(self, op, want, got):
        label = want if isinstance(want, str) and want[0] == "E" else "ok"
        self.seen[(op[1], label)] = self.seen.get((op[1], label), 0) + 1
        if want != got:
            raise Difference(
                self.done, f"{describe(op)}\n  bare:    {want!r}\n  mounted: {got!r}")

    def compare_backing(self, afresh=False):
        """Not afresh: what lies in files with the same change time is known from before."""
        flags = ATTRIBUTES | CONTENT | (0 if afresh else REMEMBER)
        want = describe_tree(self.bare.root, flags)
        self.same("backing", want, describe_tree(self.backing, flags))
        return want

    def compare_trees(self, thorough=True):
        """The bare tree with what lies behind the mount, and with what the mount shows; not
        thorough: of the latter only what lstat tells, which costs few requests."""
        want = self.compare_backing(afresh=thorough)
        if thorough:
            self.same("mounted", want, describe_tree(self.mounted.root))
        else:
            self.same("mounted", describe_tree(self.bare.root, 0),
                      describe_tree(self.mounted.root, 0))

    def compare_holes(self):
        """Of the same files, so that what the file system preallocates is the same."""
        flags = CONTENT | HOLES
        self.same("holes", describe_tree(self.backing, flags),
                  describe_tree(self.mounted.root, flags))

    def same(self, name, want, got):
        if got == want:
            return
        a, b = (dict(x.partition(b" ")[::2] for x in t.splitlines()) for t in (want, got))
        text = "\n".join(
            f"  {k!r}\n    bare: {a.get(k)!r}\n    {name}: {b.get(k)!r}"
            for k in sorted({**a, **b})
            if a.get(k) != b.get(k)
        )
        raise Difference(self.done, f"trees differ ({name}):\n{text[:4000]}")


def replay(make_pair, ops):
    """The text of the difference that these operations show, or None."""
    with make_pair() as pair:
        try:
            for op in ops:
                pair.step(op)
            pair.compare_trees()
        except Difference as e:
            return str(e)
    return None


def shrink(make_pair, ops, seconds=15):
    """A shorter sequence that still shows a difference."""
    import time

    end = time.monotonic() + seconds
    size = max(1, len(ops) // 2)
    while size >= 1 and time.monotonic() < end:
        at, changed = 0, False
        while at < len(ops) and time.monotonic() < end:
            fewer = ops[:at] + ops[at + size:]
            if fewer and replay(make_pair, fewer):
                ops, changed = fewer, True
            else:
                at += size
        if not changed or size > 1:
            size = size // 2 if size > 1 else (1 if changed else 0)
    return ops


