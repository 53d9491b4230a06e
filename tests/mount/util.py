# SPDX-License-Identifier: MIT
"""What the tests of real mounts share: a mount as an object with both of its sides (what
programs see, what lies in the backing directory), a strict reader of JSON Lines, children
that run as another user, and the system calls that Python has no name for."""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import pickle
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
# How many times as long everything may take (tests/run with sanitizers).
SLOW = int(os.environ.get("JSONLFS_TEST_SLOWNESS", "1"))
BUILD = Path(os.environ.get("JSONLFS_BUILD", REPO / "build")).resolve()
PYTHON = sys.executable
# Programs find their helpers as a bare Debian has them, whatever the caller's PATH.
ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    # Not even root can make it: vim would.
    "HOME": "/proc/nonexistent",
    "CCACHE_DISABLE": "1",  # it would end without a word, for want of a home
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONDONTWRITEBYTECODE": "1",
    # How a sanitizer ends a program in which it finds something.
    **{name: value for name, value in os.environ.items() if name.endswith("SAN_OPTIONS")},
}
NOBODY = 65534
DAEMON = 1
BAD, BIG, NO, UNCLEAN = errno.EBADMSG, errno.EMSGSIZE, errno.EPERM, errno.EUCLEAN


def binary(name):
    """A program of the build directory that is under test."""
    for place in (BUILD / "fs", BUILD / "fs" / "ctl", BUILD, BUILD / "bin"):
        if (place / name).is_file():
            return str(place / name)
    raise FileNotFoundError(f"{name} is not built in {BUILD}: set JSONLFS_BUILD")


def sanitized():
    """Is the daemon under test built with a sanitizer?"""
    with open(binary("jsonlfs"), "rb") as f:
        return re.search(rb"__[at]san_init", f.read()) is not None


# ---- JSON Lines, strictly ----


def _refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


def parse(line):
    """One line of bytes as RFC 8259 reads it (Python alone would take NaN)."""
    return json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)


def check_lines(data, what, copies=False):
    """Every line is one valid value and the last one ends with its newline, which only copies
    may lack, together with blank lines and a byte order mark."""
    if copies:
        data = data.removeprefix(b"\xef\xbb\xbf")
        data = b"".join(line + b"\n" for line in data.split(b"\n") if line.strip())
    if data and not data.endswith(b"\n"):
        raise AssertionError(f"{what}: the last line has no newline: {data[-80:]!r}")
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        try:
            parse(line)
        except (ValueError, UnicodeDecodeError) as e:
            raise AssertionError(f"{what}:{number}: {e}: {line[:120]!r}") from None


def records(path):
    data = Path(path).read_bytes()
    check_lines(data, str(path))
    return [parse(line) for line in data.split(b"\n")[:-1]]


# ---- waiting and running ----


def wait_for(condition, what="the condition", seconds=20.0):
    """Polls until condition() is true and returns its value. A failing assert counts as
    false, so that the last failure is what is shown. Where syncs are slow all are: they wait
    for what others write to the disk, half a minute and more."""
    seconds *= SLOW
    end = time.monotonic() + seconds
    while True:
        failure = None
        try:
            value = condition()
            if value:
                return value
        except (AssertionError, FileNotFoundError, IndexError, KeyError) as e:
            failure = e
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come within {seconds} s") from failure
        time.sleep(0.02)


def environment(argv, env=None):
    """Of a program; LeakSanitizer cannot look at one that strace follows."""
    env = ENV | (env or {})
    if argv[0] == "strace":
        env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    return env


def run(*argv, cwd=None, stdin=b"", timeout=30, check=None, env=None, uid=None):
    """Runs a program to its end. check: the exit status it must have; timeout: for one that
    hangs, SLOW times as long."""
    feed = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    p = subprocess.run(
        [str(a) for a in argv],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=timeout * SLOW,
        env=environment(argv, env),
        user=uid,
        group=uid,
        extra_groups=[] if uid else None,
        **feed,
    )
    if check is not None and p.returncode != check:
        raise AssertionError(
            f"{argv} ended with {p.returncode}, not {check}\n"
            f"stdout: {p.stdout[-2000:]!r}\nstderr: {p.stderr[-2000:]!r}"
        )
    return p


def sh(script, cwd, *args, check=0, timeout=30, stdin=None, uid=None, env=None):
    """A bash script in directory cwd; $1... are args."""
    return run(
        "/bin/bash", "-c", script, "bash", *args,
        cwd=cwd, check=check, timeout=timeout, stdin=stdin, uid=uid, env=env,
    )


def py(script, cwd, *args, check=0, timeout=30, uid=None):
    return run(
        PYTHON, "-c", script, *args, cwd=cwd, check=check, timeout=timeout, uid=uid
    )


OK, REPAIRED, DAMAGE, FAILED, USAGE = 0, 1, 4, 8, 16


def ctl(*argv, code=OK, **kw):
    """jsonlfsctl. code: the exit status it must have, one of these."""
    return run(binary("jsonlfsctl"), *argv, check=code, **kw)


IN_EXEC = """
import os, sys
for path in sys.argv[1:]:
    os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
print("ready", flush=True)
sys.stdin.readline()
os.execv("/bin/true", ["true"])
"""


@contextlib.contextmanager
def process_in_exec(m, *others):
    """A process that hangs there: it waits for the answer to its close of a log, from the
    daemon of `m`, which is stopped. It has others open for appending, too."""
    with running(PYTHON, "-c", IN_EXEC, m.p("x.jsonl"), *others, stdin=subprocess.PIPE) as p:
        try:
            assert p.stdout.readline() == b"ready\n", p.stderr.read()
            m.proc.send_signal(signal.SIGSTOP)
            # Each thread stops by itself; one that has not yet would answer.
            tasks = Path(f"/proc/{m.proc.pid}/task")
            wait_for(lambda: all(") T " in (t / "stat").read_text() for t in tasks.iterdir()),
                     "a daemon that is stopped", 30)
            p.stdin.write(b"\n")
            p.stdin.flush()
            look = ["timeout", "-k", "1", "1", "ls", "-l", f"/proc/{p.pid}/fd"]
            wait_for(lambda: run(*look).returncode in (124, 137), "a process in an exec", 30)
            yield p
        finally:
            m.proc.send_signal(signal.SIGCONT)
        assert p.wait(20) == 0


def start(*argv, cwd=None, **kw):
    """A program that runs beside the test; the caller ends it."""
    kw.setdefault("stdin", subprocess.DEVNULL)
    kw.setdefault("stdout", subprocess.PIPE)
    kw.setdefault("stderr", subprocess.PIPE)
    return subprocess.Popen([str(a) for a in argv], cwd=cwd, env=environment(argv), **kw)


@contextlib.contextmanager
def running(*argv, **kw):
    p = start(*argv, **kw)
    try:
        yield p
    finally:
        if p.poll() is None:
            p.kill()
        p.wait(10)
        for stream in (p.stdin, p.stdout, p.stderr):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()


@contextlib.contextmanager
def traced(m, *options):
    """strace with these options follows the daemon of the mount."""
    pid = m.proc.pid

    def attached():
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return all("TracerPid:\t0\n" not in (t / "status").read_text() for t in tasks)

    with running("strace", "-f", *options, "-p", pid) as tracer:
        wait_for(attached, "strace")
        try:
            yield
        finally:
            tracer.terminate()
            tracer.wait(20)


def as_user(uid, function, timeout=20):
    """function() in a forked child that has given up root for uid (None: keeps it). Its
    value comes back, its exception is raised here."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(r)
            signal.alarm(timeout)
            if uid is not None:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            try:
                answer = (True, function())
            except BaseException as e:  # noqa: B902: it is handed to the parent
                answer = (False, e)
            with os.fdopen(w, "wb") as f:
                f.write(pickle.dumps(answer))
        finally:
            os._exit(0)
    os.close(w)
    data = b""
    end = time.monotonic() + timeout
    with os.fdopen(r, "rb", buffering=0) as f:
        while time.monotonic() < end:
            if select.select([f], [], [], 0.5)[0]:
                piece = f.read(65536)
                if not piece:
                    break
                data += piece
        else:
            os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert data, "the child died or hung"
    good, value = pickle.loads(data)
    if not good:
        raise value
    return value


def in_thread(function):
    """function() in another thread: another task id, the same file table."""
    box = []

    def body():
        try:
            box.append((True, function()))
        except BaseException as e:  # noqa: B902: it is handed on
            box.append((False, e))

    t = threading.Thread(target=body)
    t.start()
    t.join(30)
    assert box, "the thread did not end"
    good, value = box[0]
    if not good:
        raise value
    return value


@contextlib.contextmanager
def refused(code):
    """What is inside must fail with exactly this errno."""
    with pytest.raises(OSError) as info:
        yield
    assert info.value.errno == code, (
        f"expected {errno.errorcode[code]}, got {info.value!r}"
    )


def outcome(function):
    """0, or the errno with which function() failed."""
    try:
        function()
    except OSError as e:
        return e.errno
    return 0


@contextlib.contextmanager
def opened(path, flags, mode=0o666):
    """A bare descriptor. Closing it may fail by design, so tests that care close it
    themselves with os.close."""
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)


def append(path, data):
    """open(O_APPEND), one write, close: what `echo >>` does, errors raised."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        done = os.write(fd, data)
    except OSError:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise
    os.close(fd)
    assert done == len(data)


# ---- system calls without a name in Python ----

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name, *args):
    got = getattr(_libc, name)(*args)
    if got == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return got


KEEP_SIZE, PUNCH, COLLAPSE, ZERO, INSERT, UNSHARE = 1, 2, 8, 16, 32, 64
NOREPLACE, EXCHANGE = 1, 2
RWF_NOAPPEND = 0x20
CLONE_NEWNS = 0x20000
AT_FDCWD, AT_EMPTY_PATH, AT_SYMLINK_FOLLOW = -100, 0x1000, 0x400
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_APPEND_FL = 0x80086601, 0x40086602, 0x20
F_OFD_SETLK = 37


def fallocate(fd, mode, offset, length):
    return _call("fallocate", fd, mode, ctypes.c_long(offset), ctypes.c_long(length))


def renameat2(old, new, flags):
    return _call(
        "renameat2", AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags
    )


def link_fd(fd, new):
    """linkat of an unnamed file, by its descriptor."""
    return _call(
        "linkat", AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, os.fsencode(new),
        AT_SYMLINK_FOLLOW,
    )


class _iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("len", ctypes.c_size_t)]


def pwritev2(fd, data, offset, flags):
    vec = _iovec(data, len(data))
    return _call(
        "pwritev2", fd, ctypes.byref(vec), 1, ctypes.c_long(offset), flags
    )


def getflags(fd):
    buf = bytearray(8)
    fcntl.ioctl(fd, FS_IOC_GETFLAGS, buf)
    return int.from_bytes(buf[:4], sys.byteorder)


def setflags(fd, flags):
    fcntl.ioctl(fd, FS_IOC_SETFLAGS, flags.to_bytes(8, sys.byteorder))


# ---- a mount ----

# A word that only a broken daemon says. Log lines name files of tests: none may match.
SUSPICIOUS = re.compile(
    r"Sanitizer|runtime error:|[Aa]ssertion .*failed|double free|stack smashing"
    r"|malloc\(\)|free\(\)|munmap_chunk|Segmentation|\bleaked\b|\bLEAK\b"
    r"|WARNING: Thread|terminated by signal|fuse: (?!mount|fusermount)"
)


def mount_table():
    """Mount point -> (type, device number) of everything that is mounted."""
    table = {}
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        for line in f:
            left, right = line.split(" - ", 1)
            fields = left.split()
            where = re.sub(
                r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), fields[4]
            )
            table[where] = (right.split()[0], fields[2])
    return table


def own_mounts():
    """From here on nobody else sees what this process mounts: in the mount namespace that some
    program beside it makes, a copy would keep it when it is unmounted. Nor does this process
    keep other people's."""
    _call("unshare", CLONE_NEWNS)
    if "/" in mount_table():  # in a chroot it need not be a mount
        run("mount", "--make-rprivate", "/", check=0)
    run("umount", "-a", "-i", "-l", "-t", "fuse.jsonlfs", timeout=60)


KEEPER = "jsonlfs-keeper"  # what the parent of a daemon is called


def processes(mnt):
    """The pids that belong to this mount point: ([parents that stay], [daemons])."""
    found = ([], [])
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().split(b"\0")[:-1]
            with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
                parent = f.read().strip() == KEEPER
            name = os.path.basename(words[0]) if words else b""
            # mount(8) puts the options behind the directories.
            if name in (b"jsonlfs", b"mount.jsonlfs") and os.fsencode(mnt) in words[1:]:
                found[0 if parent else 1].append(int(pid))
    return found


class Mount:
    """One running mount. `p` is a path as programs see it, `b` the same file in the
    backing directory: by a descriptor from before the mount when it covers itself."""

    def __init__(self, source, mnt, options, log, env=None):
        self.source, self.mnt = Path(source), Path(mnt)
        self.options, self.log_path = list(options), Path(log)
        self.check_after = True
        self.allowed_output = []
        self.clean = True  # the exit status must be 0
        self.state_dir = ".jsonlfs"
        self.env = env or {}
        self._dirfd = os.open(self.source, os.O_RDONLY | os.O_DIRECTORY)
        self.proc = None

    # Both sides of a file.

    def p(self, name=""):
        return self.mnt / name

    @property
    def backing(self):
        if self.source == self.mnt:
            return Path(f"/proc/{os.getpid()}/fd/{self._dirfd}")
        return self.source

    def b(self, name=""):
        return self.backing / name

    def both(self, name):
        """The bytes of a file; the mount and the backing directory must agree."""
        through, behind = self.p(name).read_bytes(), self.b(name).read_bytes()
        assert through == behind, f"{name}: {through[-200:]!r} != {behind[-200:]!r}"
        return behind

    def records(self, name):
        data = self.both(name)
        check_lines(data, name)
        return [parse(line) for line in data.split(b"\n")[:-1]]

    # Life.

    def start(self, seconds=15):
        argv = [binary("jsonlfs"), "-f"]
        if self.options:
            argv += ["-o", ",".join(self.options)]
        argv += [str(self.source), str(self.mnt)]
        with open(self.log_path, "ab") as log:
            self.proc = subprocess.Popen(
                argv,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=ENV | self.env,
                start_new_session=True,
            )
        end = time.monotonic() + seconds
        while not self.answers():
            if self.proc.poll() is not None:
                raise AssertionError(
                    f"jsonlfs ended with {self.proc.returncode}:\n{self.log()}"
                )
            if time.monotonic() > end:
                self.kill()
                raise AssertionError(f"not mounted in {seconds} s:\n{self.log()}")
            time.sleep(0.01)
        return self

    def answers(self):
        """Waits for INIT. While a dead mount is replaced, the directory below may show."""
        try:
            os.statvfs(self.mnt)  # nothing of this is kept in the kernel
            below = os.stat(self.mnt.parent).st_dev, os.fstat(self._dirfd).st_dev
            return self.mounted() and os.stat(self.mnt).st_dev not in below
        except OSError as e:
            if e.errno not in (errno.ENOTCONN, errno.ECONNABORTED):
                raise
            return False

    def mounted(self):
        kind, _ = mount_table().get(str(self.mnt), ("", ""))
        return kind.startswith("fuse")

    def umount(self, *flags, seconds=10):
        end = time.monotonic() + seconds
        while True:
            p = run("umount", *flags, self.mnt, timeout=30)
            if p.returncode == 0:
                break
            if time.monotonic() > end:
                raise AssertionError(f"umount: {p.stderr.decode()}")
            time.sleep(0.05)
        return self.wait(40)

    def wait(self, seconds):
        """The daemon's exit status; where its threads are when it does not come."""
        try:
            return self.proc.wait(seconds)
        except subprocess.TimeoutExpired:
            where = self.threads()
        raise AssertionError(f"jsonlfs does not end within {seconds} s:\n{where}")

    def threads(self):
        """What each thread of the daemon waits for, in the kernel and (with gdb) above."""
        top, lines = Path(f"/proc/{self.proc.pid}/task"), []
        for task in sorted(top.glob("*")):
            for name in ("comm", "wchan", "syscall", "stack"):
                with contextlib.suppress(OSError):
                    text = (task / name).read_text().strip().replace("\n", " ")
                    lines.append(f"{task.name} {name}: {text}")
        if have("gdb"):
            p = run("gdb", "-p", self.proc.pid, "-batch", "-ex", "thread apply all bt")
            lines.append(p.stdout.decode("utf-8", "replace"))
        return "\n".join(lines)

    def stop(self):
        """Unmounts and holds the daemon to a clean end."""
        if self.proc is None:
            return
        if self.proc.poll() is None and self.mounted():
            self.umount()
        status = self.wait(40)
        if self.clean:
            assert status == 0, f"jsonlfs ended with {status}"
        self.proc = None

    def restart(self):
        self.stop()
        return self.start()

    def abort(self):
        """For a mount that hangs: every request fails at once."""
        _, device = mount_table().get(str(self.mnt), ("", "0:0"))
        with contextlib.suppress(OSError):
            path = f"/sys/fs/fuse/connections/{device.split(':')[1]}/abort"
            with open(path, "w", encoding="ascii") as f:
                f.write("1")
        with contextlib.suppress(subprocess.SubprocessError):
            run("umount", "-f", "-l", self.mnt, timeout=10)

    def kill(self):
        if self.proc is not None and self.proc.poll() is None:
            self.proc.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.proc.wait(5)
        while str(self.mnt) in mount_table():
            self.abort()

    def forget(self):
        if self._dirfd >= 0:
            os.close(self._dirfd)
            self._dirfd = -1

    # What it tells.

    def log(self):
        return self.log_path.read_text("utf-8", "replace")

    def log_lines(self, *words):
        return [x for x in self.log().splitlines() if all(w in x for w in words)]

    def expect_log(self, *words):
        return wait_for(lambda: self.log_lines(*words), f"log line with {words}")[-1]

    def suspicious(self):
        bad = []
        for line in self.log().splitlines():
            if SUSPICIOUS.search(line) and not any(
                re.search(p, line) for p in self.allowed_output
            ):
                bad.append(line)
        return bad

    def status(self):
        return parse(self.p(".jsonlfs/status.json").read_bytes())

    def counter(self, name):
        """A counter of status.json, wherever in the document it stands."""
        found = []

        def walk(value):
            if isinstance(value, dict):
                for key, item in value.items():
                    if key == name and isinstance(item, int):
                        found.append(item)
                    walk(item)

        walk(self.status())
        assert found, f"no counter {name} in status.json"
        return found[0]

    def writers(self, path=None):
        """The entries of writers.json, of one file when asked."""
        document = parse(self.p(".jsonlfs/writers.json").read_bytes())
        entries = document if isinstance(document, list) else document["writers"]
        return [w for w in entries if path is None or w["path"] == path]

    def writer(self, path, program=""):
        found = [w for w in self.writers(path) if program in w["program"]]
        assert len(found) == 1, f"{len(found)} entries of {path} by {program!r}: {found}"
        return found[0]

    # What it set aside.

    def state(self, name=""):
        return self.b(self.state_dir) / name

    def quarantine(self, path=None):
        """[(index entry, bytes)] in the order of events."""
        index = self.state("quarantine.jsonl")
        if not index.exists():
            return []
        out = []
        entries = records(index)
        # Several lines of one program are in one file; to one alone more may be joined.
        shared = {e["file"] for e in entries if "from" in e}
        for entry in entries:
            if entry["event"] == "joined":  # more bytes for an entry from before
                continue
            if path is None or entry["path"] == path:
                stored = (self.state("quarantine") / entry["file"]).read_bytes()
                at = entry.get("from", 0)
                end = at + entry["bytes"] if entry["file"] in shared else len(stored)
                out.append((entry, stored[at:end]))
        return out

    def set_aside(self, path=None):
        """All bytes in the quarantine, joined."""
        return b"".join(data for _, data in self.quarantine(path))

    def wait_quarantine(self, count=1, path=None):
        wait_for(
            lambda: len(self.quarantine(path)) >= count, f"{count} quarantine entries"
        )
        got = self.quarantine(path)
        assert len(got) == count, got
        return got

    def staged(self):
        """What the daemons act on: names in their directories."""
        return sorted(p.name for p in self.state("daemon").glob("hosts/*/*-*"))

    def archive(self):
        """name -> bytes of what unlink set aside."""
        top = self.state("archive")
        if not top.is_dir():
            return {}
        return {
            str(f.relative_to(top)): f.read_bytes()
            for f in sorted(top.rglob("*"))
            if f.is_file()
        }

    def governed_backing_files(self):
        for folder, dirs, names in os.walk(self.backing):
            dirs[:] = [d for d in dirs if d not in (".git", self.state_dir)]
            for name in names:
                path = Path(folder) / name
                if name.endswith(".jsonl") and not path.is_symlink() and path.is_file():
                    yield path


def tree(root):
    """name -> bytes of everything below root but the state directory: to compare."""
    out = {}
    for folder, dirs, names in os.walk(root):
        dirs[:] = sorted(d for d in dirs if d != ".jsonlfs")
        rel = os.path.relpath(folder, root)
        for name in sorted(names):
            path = os.path.join(folder, name)
            if os.path.islink(path):
                out[os.path.join(rel, name)] = os.readlink(path)
            else:
                with open(path, "rb") as f:
                    out[os.path.join(rel, name)] = f.read()
    return out


def unnamed_files(m):
    """Does the mount have O_TMPFILE? libfuse before 3.17 does not: then there is no way
    round the rules there either."""
    return outcome(
        lambda: os.close(os.open(m.mnt, os.O_TMPFILE | os.O_RDWR))
    ) != errno.EOPNOTSUPP


def have(program):
    return shutil.which(program, path=ENV["PATH"])


def links_stay_below(root):
    """Of an unpacked package: a link to /etc/java means the one in there."""
    for path in root.rglob("*"):
        if path.is_symlink() and os.path.isabs(target := os.readlink(path)):
            inside = root / target.lstrip("/")
            if os.path.lexists(inside):
                path.unlink()
                path.symlink_to(inside)


class Unpacked:
    """A Debian package that is unpacked in a directory, or (None) installed."""

    def __init__(self, root):
        self.root = root
        self.env = {}
        if root:
            libraries = sorted({str(p.parent) for p in root.rglob("*.so*")})
            self.env["LD_LIBRARY_PATH"] = ":".join(libraries)

    def command(self, program):
        places = self.root.rglob(program) if self.root else ()
        return [next((p for p in places if p.parent.name in ("bin", "sbin")), None)
                or Path(have(program))]

    def all(self, pattern):
        for place in (self.root, "/usr/lib", "/usr/share"):
            if place and (found := list(Path(place).rglob(pattern))):
                return found
        raise FileNotFoundError(pattern)

    def find(self, name):
        return self.all(name)[0]


# ---- requests ----


def requests_of(workdir, script, *options):
    """Which requests the daemon got while the script ran in a fresh mount."""
    source, mnt, log = workdir / "dsrc", workdir / "dmnt", workdir / "debug.log"
    for d in (source, mnt):
        d.mkdir(exist_ok=True)
    with open(log, "wb") as out:
        daemon = subprocess.Popen(
            [binary("jsonlfs"), "-d", *options, source, mnt], cwd="/", env=ENV,
            stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        wait_for(lambda: str(mnt) in mount_table(), "the mount")
        sh(script, mnt)
    finally:
        run("umount", "-l", mnt)
        assert daemon.wait(20) == 0
    return re.findall(r"opcode: ([A-Z_]+)", log.read_text("utf-8", "replace")), log.read_text(
        "utf-8", "replace")
