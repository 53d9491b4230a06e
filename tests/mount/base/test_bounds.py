# SPDX-License-Identifier: MIT
"""What one user can take of the daemon's memory: thousands of handles, half records, refused
requests and unsynced bytes. Who takes too much gets an error; nobody else notices. And what
the daemon inherits does not end it."""

import contextlib
import errno
import fcntl
import json
import os
import resource
import signal
import subprocess
import time

import pytest
from util import (
    DAEMON,
    ENV,
    NOBODY,
    PYTHON,
    append,
    as_user,
    binary,
    mount_table,
    outcome,
    processes,
    records,
    running,
    run,
    sanitized,
    wait_for,
)
from vaults import Vault

GOOD = b'{"n":1}\n'
MIB = 1 << 20


def memory(m):
    """Resident bytes of the daemon."""
    with open(f"/proc/{m.proc.pid}/status", encoding="ascii") as f:
        return next(int(x.split()[1]) * 1024 for x in f if x.startswith("VmRSS:"))


def bounded(grown, limit):
    """Freed memory that a sanitizer keeps aside tells nothing."""
    assert grown < limit or sanitized(), f"{grown / MIB:.1f} MiB more"


# Opens `count` handles, sends `size` bytes without a newline on each, says what it got, and
# keeps all of them open until it is told to go.
GREEDY = r"""
import json, os, resource, sys
top, files, count, size, what = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
got, fds = {}, []
data = b'{"x":"' + b"y" * (size - 6)
if what == "whole":
    data += b'"}\n'
def note(name, e):
    key = f"{name} {0 if e is None else e.errno}"
    got[key] = got.get(key, 0) + 1
for n in range(count):
    try:
        fds.append(os.open(f"{top}/g{n % files}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666))
        note("open", None)
    except OSError as e:
        note("open", e)
        continue
    try:
        # The same bad line is told to a program once a file.
        sent = b"oops %d\n" % n + data if what == "bad" else data
        done = os.write(fds[-1], sent)
        note("write" if done == len(sent) else "short", None)
    except OSError as e:
        note("write", e)
print(json.dumps(got), flush=True)
sys.stdin.read()
os._exit(0)
"""


@contextlib.contextmanager
def greedy(m, uid, files, count, size, what="half", seconds=100):
    p = subprocess.Popen(
        [PYTHON, "-c", GREEDY, str(m.mnt), str(files), str(count), str(size), what],
        env=ENV, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000)),
        user=uid, group=uid, extra_groups=[],
    )
    try:
        yield json.loads(p.stdout.readline())
    finally:
        p.stdin.close()
        p.stdout.close()
        try:
            p.wait(seconds)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait(10)


def others_do_not_notice(m, name="other.jsonl"):
    """Another user's records, whole and in halves, large and small."""
    def work():
        append(m.p(name), GOOD)
        fd = os.open(m.p(name), os.O_WRONLY | os.O_APPEND)
        for piece in (b'{"n":', b"1", b"}\n", b'{"long":"' + b"z" * 3 * MIB, b'"}\n'):
            assert os.write(fd, piece) == len(piece)
        os.close(fd)

    as_user(DAEMON, work)


@pytest.mark.limit(240)
def test_ten_thousand_handles_with_half_records(mount):
    """64 MiB for all, a quarter for a user: 10,000 x 64 KiB would be 640 MiB."""
    m = mount("pending_max=64M")
    others_do_not_notice(m)
    before = memory(m)
    with greedy(m, NOBODY, files=10, count=10000, size=65536) as got:
        after = memory(m)
        print(got, f"{(after - before) / MIB:.1f} MiB more")
        assert got["open 0"] == 10000
        assert set(got) == {"open 0", "write 0", f"write {errno.ENOBUFS}"}, got
        assert 200 < got["write 0"] <= 256
        assert m.status()["pending_bytes"] <= 16 * MIB
        # The share, 6 KiB for each handle, and the workers' own.
        bounded(after - before, (16 + 60 + 40) * MIB)
        others_do_not_notice(m)
        assert m.log_lines("pending-full", f"uid={NOBODY}")
        # So does whoever takes too much, with records that are whole.
        as_user(NOBODY, lambda: append(m.p("g0.jsonl"), GOOD))
    wait_for(lambda: m.status()["pending_bytes"] == 0, "all of it given back", 60)
    assert len(records(m.b("other.jsonl"))) == 6
    # Nothing of a user lasts: the next one has the whole share.
    with greedy(m, NOBODY, files=1, count=200, size=65536) as got:
        assert got == {"open 0": 200, "write 0": 200}


@pytest.mark.limit(240)
def test_refused_requests_that_are_remembered_count_too(mount):
    # Only with onbad=refuse is a request refused whole, and remembered for its retry.
    m = mount("onbad=refuse", "pending_max=64M", "quarantine_max=64M")
    others_do_not_notice(m)
    before = memory(m)
    with greedy(m, NOBODY, files=4, count=2000, size=65536, what="bad") as got:
        after = memory(m)
        print(got, f"{(after - before) / MIB:.1f} MiB more")
        # Refused for what they are, remembered or not.
        assert got == {"open 0": 2000, f"write {errno.EBADMSG}": 2000}
        assert m.status()["pending_bytes"] <= 16 * MIB
        bounded(after - before, (16 + 12 + 40) * MIB)
        others_do_not_notice(m)
    wait_for(lambda: m.status()["pending_bytes"] == 0, "all of it given back", 60)


@pytest.mark.limit(240)
def test_a_request_that_is_too_much_leaves_no_memory_behind(mount):
    """Each handle asks for 900 KiB, and is refused: what was made ready goes, too."""
    m = mount("pending_max=16M", "maxrecord=1M")
    others = memory(m)
    with greedy(m, NOBODY, files=1, count=1000, size=900 * 1024) as got:
        print(got, f"{(memory(m) - others) / MIB:.1f} MiB more")
        assert got["write 0"] <= 4 and got[f"write {errno.ENOBUFS}"] >= 990
        bounded(memory(m) - others, (4 + 6 + 40) * MIB)
        # What is whole takes no memory that lasts, and goes on.
        as_user(NOBODY, lambda: append(m.p("g0.jsonl"), GOOD))


@pytest.mark.limit(240)
def test_unsynced_bytes_of_many_files_are_bounded(mount):
    """Whole records on 1,500 files that nobody closes: 300 MiB that could be kept until a
    sync; a sync that nobody asked for comes instead."""
    m = mount()
    before = memory(m)
    with greedy(m, NOBODY, files=1500, count=1500, size=200 * 1024, what="whole") as got:
        print(got, f"{(memory(m) - before) / MIB:.1f} MiB more")
        assert got == {"open 0": 1500, "write 0": 1500}
        bounded(memory(m) - before, (64 + 64) * MIB)
        others_do_not_notice(m)


def test_many_processes_that_share_a_handle(m):
    """Each leaves half a record: more slots than a handle has for nothing."""
    before = memory(m)
    fd = os.open(m.p("a.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for _ in range(300):
        pid = os.fork()
        if pid == 0:
            code = outcome(lambda: os.write(fd, b'{"half":"' + b"x" * 100))
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    bounded(memory(m) - before, 20 * MIB)
    with contextlib.suppress(OSError):
        os.close(fd)
    wait_for(lambda: m.status()["pending_bytes"] == 0, "all of it given back")


def test_a_single_record_may_take_the_whole_share(mount):
    """A share is never less than one record."""
    m = mount("pending_max=1M", "maxrecord=1M")

    def work():
        fd = os.open(m.p("a.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        left = MIB - 10
        os.write(fd, b'{"x":"')
        while left:
            left -= os.write(fd, b"y" * min(left, 70000))
        os.write(fd, b'"}\n')
        os.close(fd)

    as_user(NOBODY, work)
    assert len(records(m.b("a.jsonl"))) == 1


def test_roots_programs_have_no_share_but_the_mounts_bound(mount):
    m = mount("pending_max=1M", "maxrecord=64K")
    fds, code = [], 0
    while not code:
        fds.append(os.open(m.p("a.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT))
        code = outcome(lambda: os.write(fds[-1], b'"' + b"x" * 32000))  # noqa: B023
    assert code == errno.ENOBUFS
    # 1 MiB in pieces of 32 KiB: well above a quarter of it.
    assert 20 < len(fds) < 34
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
    wait_for(lambda: m.status()["pending_bytes"] == 0, "all of it given back")


@pytest.mark.limit(240)
@pytest.mark.parametrize("files", [1, 100000])
def test_open_handles_and_files_are_bounded(mount, files):
    """A user who opens thousands of files leaves memory and descriptors for the others."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, limit[1]))
    try:
        m = mount()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    with open(f"/proc/{m.proc.pid}/limits", encoding="ascii") as f:
        soft = next(int(x[26:].split()[0]) for x in f if x.startswith("Max open files"))
    allowed = 16384 if files == 1 else soft // 8

    def work():
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        wanted = min(hard, allowed + 200)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        fds = []
        try:
            while len(fds) < wanted - 50:
                name = m.p(f"a{len(fds) % files}.jsonl")
                fds.append(os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666))
        except OSError as e:
            return len(fds), e.errno
        return len(fds), 0

    count, code = as_user(NOBODY, work, timeout=50)
    if code:
        assert (count, code) == (allowed, errno.ENOMEM)
        m.expect_log("handles-full" if files == 1 else "files-full", f"uid={NOBODY}")
    else:
        assert count < allowed  # the machine's own limit is below ours
    others_do_not_notice(m)


# ---- what is inherited ----


def hostile():
    """Everything that a caller can leave behind that could hurt a daemon."""
    os.umask(0o777)
    for name, soft in ((resource.RLIMIT_NOFILE, 24), (resource.RLIMIT_FSIZE, 50)):
        resource.setrlimit(name, (soft, resource.getrlimit(name)[1]))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
    os.closerange(0, 3)


@pytest.fixture
def vault(workdir):
    v = Vault(workdir / "vault")
    yield v
    for pid in sum(processes(v.path), []):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    run("umount", "-l", v.path)


def start(v, prepare=None, env=None, letters=(), **kw):
    subprocess.run([binary("jsonlfs"), *letters, str(v.path), str(v.path)],
                   preexec_fn=prepare, env=ENV | (env or {}), timeout=30, check=True, **kw)


def both(v):
    def found():
        parents, daemons = processes(v.path)
        assert len(parents) == len(daemons) == 1
        return parents[0], daemons[0]

    return wait_for(found, "a parent and a daemon", 30)


def works(v, n):
    before = os.umask(0o022)
    try:
        append(v.log(f"w{n}.jsonl"), GOOD * 100)
    finally:
        os.umask(before)
    assert outcome(lambda: append(v.log(f"w{n}.jsonl"), b"oops\n")) == errno.EBADMSG
    assert records(v.log(f"w{n}.jsonl")) == [{"n": 1}] * 100
    assert v.log(f"w{n}.jsonl").stat().st_mode & 0o777 == 0o644
    for k in range(60):  # more files than the caller's limit of descriptors
        append(v.log(f"many{n}-{k}.jsonl"), GOOD)


def test_a_hostile_caller_hurts_neither_daemon_nor_parent_nor_the_next_daemon(vault):
    """Limits, mask, signals, closed descriptors: also for a daemon that is started again."""
    start(vault, hostile)
    works(vault, 0)
    parent, daemon = both(vault)
    os.kill(daemon, signal.SIGKILL)
    wait_for(lambda: both(vault)[1] != daemon, "another daemon", 30)
    wait_for(lambda: outcome(lambda: os.stat(vault.path / ".jsonlfs/status.json")) == 0,
             "the mount", 30)
    assert both(vault)[0] == parent
    works(vault, 1)
    for pid in both(vault):
        for fd in range(3):
            assert os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null"
    os.kill(parent, signal.SIGTERM)
    wait_for(lambda: not sum(processes(vault.path), []), "the end of both", 30)
    assert not os.path.ismount(vault.path)


def test_a_low_hard_limit_of_descriptors(vault):
    """Who may not raise it, as an ordinary user may not, works within it."""
    os.chown(vault.path, NOBODY, NOBODY)

    def prepare():
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))

    mode = os.stat("/dev/fuse").st_mode & 0o777
    os.chmod("/dev/fuse", 0o666)
    try:
        start(vault, prepare, user=NOBODY, group=NOBODY, extra_groups=[])
    finally:
        if mode != 0o666 and "PYTEST_XDIST_WORKER" not in os.environ:
            os.chmod("/dev/fuse", mode)

    def work():
        for n in range(300):
            append(vault.log(f"f{n}.jsonl"), GOOD)
        return len([x for x in os.listdir(vault.path) if x.endswith(".jsonl")])

    assert as_user(NOBODY, work, timeout=50) == 300
    held, code = as_user(NOBODY, lambda: exhaust(vault))
    assert held > 20 and code in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
    # When they are closed all is as before.
    assert as_user(NOBODY, work, timeout=50) == 300
    run("fusermount3", "-u", vault.path, uid=NOBODY, check=0)


def exhaust(v):
    fds = []
    try:
        for n in range(300):
            fds.append(os.open(v.log(f"f{n}.jsonl"), os.O_WRONLY | os.O_APPEND))
    except OSError as e:
        return len(fds), e.errno
    return len(fds), 0


def test_standard_error_that_nobody_reads_holds_nobody_up(vault):
    """-f with a full pipe behind it: lines are left out, records are not."""
    r, w = os.pipe()
    p = subprocess.Popen([binary("jsonlfs"), "-f", str(vault.path), str(vault.path)],
                         env=ENV, stdin=subprocess.DEVNULL, stdout=w, stderr=w)
    os.close(w)
    try:
        wait_for(lambda: os.path.ismount(vault.path), "the mount", 30)
        began = time.monotonic()
        for n in range(400):
            assert outcome(lambda: append(vault.log("a.jsonl"), b"x" * n + b"\n")) in (  # noqa: B023
                errno.EBADMSG, 0)
            append(vault.log("a.jsonl"), GOOD)
        assert time.monotonic() - began < 40
        # The reader goes: no SIGPIPE either.
        os.close(r)
        r = -1
        assert outcome(lambda: append(vault.log("a.jsonl"), b"oops\n")) == errno.EBADMSG
        append(vault.log("a.jsonl"), GOOD)
        assert p.poll() is None
    finally:
        run("umount", vault.path)
        if r >= 0:
            os.close(r)
    assert p.wait(30) == 0
    assert len(records(vault.log("a.jsonl"))) == 401


CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
/* A wall clock that jumps a year forward or back at every look; the others are right. */
static void jump(time_t *t)
{
	static _Atomic unsigned looks;

	*t += (looks++ % 2 ? -1 : 1) * 365 * 86400L;
}
int clock_gettime(clockid_t id, struct timespec *ts)
{
	static int (*real)(clockid_t, struct timespec *);
	int r;

	if (!real)
		real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	r = real(id, ts);
	if (!r && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		jump(&ts->tv_sec);
	return r;
}
time_t time(time_t *t)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (t)
		*t = ts.tv_sec;
	return ts.tv_sec;
}
int gettimeofday(struct timeval *tv, void *zone)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	*tv = (struct timeval){ts.tv_sec, ts.tv_nsec / 1000};
	return 0;
}
"""


def test_a_clock_that_jumps(base, mount):
    """The wall clock names things and is printed; no wait and no bound goes by it."""
    env = {}
    if not sanitized():  # whose own library must be the first
        (base / "clock.c").write_text(CLOCK)
        run("cc", "-shared", "-fPIC", "-O1", "-o", base / "clock.so", base / "clock.c", check=0)
        env = {"LD_PRELOAD": str(base / "clock.so")}
    m = mount("locktimeout=0.5", env=env)
    for n in range(20):
        append(m.p("a.jsonl"), GOOD)
        assert outcome(lambda: append(m.p("a.jsonl"), b"bad %d\n" % n)) == errno.EBADMSG  # noqa: B023
    assert len(m.wait_quarantine(20)) == 20  # under names that do not collide
    # A wait for a lock ends in time, neither at once nor never.
    with open(m.b("a.jsonl"), "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        began = time.monotonic()
        assert outcome(lambda: append(m.p("a.jsonl"), GOOD)) == errno.EAGAIN
        assert 0.3 < time.monotonic() - began < 20
    append(m.p("a.jsonl"), GOOD)
    # A torn tail rests for two seconds by a clock that can be trusted, or is repaired at once.
    with open(m.b("b.jsonl"), "wb") as f:
        f.write(GOOD + b'{"torn')
    began = time.monotonic()
    while outcome(lambda: append(m.p("b.jsonl"), GOOD)):
        assert time.monotonic() - began < 20
        time.sleep(0.1)
    assert records(m.b("b.jsonl")) == [{"n": 1}] * 2
    # Nor does a drain wait for a year.
    began = time.monotonic()
    fd = os.open(m.p("a.jsonl"), os.O_WRONLY | os.O_APPEND)
    os.write(fd, b'{"half')
    m.proc.terminate()
    assert m.proc.wait(30) == 0
    with contextlib.suppress(OSError):
        os.close(fd)
    assert len(records(m.source / "a.jsonl")) == 21


def test_an_end_with_no_descriptor_free(workdir):
    """What is pending is saved all the same: nothing has to be loaded first."""
    source, mnt = workdir / "src", workdir / "mnt"
    for d in (source, mnt):
        d.mkdir()
    daemon = subprocess.Popen(
        ["/bin/bash", "-c", 'ulimit -n 64 && exec "$@"', "bash", binary("jsonlfs"), "-f",
         source, mnt], cwd="/", stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENV)
    held = []
    try:
        wait_for(lambda: str(mnt) in mount_table(), "the mount")
        with pytest.raises(OSError, match="Too many open files"):
            for n in range(200):
                held.append(os.open(mnt / f"{n}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT))
                os.write(held[-1], b'{"half')
        logs = len(held)
        with pytest.raises(OSError, match="Too many open files"):  # the last one free, too
            for n in range(200):
                held.append(os.open(mnt / f"{n}.md", os.O_WRONLY | os.O_CREAT))
        daemon.terminate()
        said = daemon.communicate(timeout=30)[1]
        assert daemon.returncode == 0, said.decode()
    finally:
        run("umount", "-l", mnt)
        daemon.kill()
    for fd in held:
        with contextlib.suppress(OSError):
            os.close(fd)
    kept = [e for e in source.glob(".jsonlfs/quarantine/*-*") if e.read_bytes() == b'{"half']
    assert len(kept) == logs > 5


# ---- handles that are closed ----


CLOSING = """
import os, sys, time
path, flags, end = sys.argv[1], int(sys.argv[2]), time.monotonic() + 2
while time.monotonic() < end:
    os.close(os.open(path, flags))
"""


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY])
def test_closed_handles_do_not_pile_up(mount, flags):
    """Nobody waits for RELEASE, and more programs than the daemon has workers open and close
    as fast as they can: each handle is a descriptor of the daemon."""
    m = mount()
    resource.prlimit(m.proc.pid, resource.RLIMIT_NOFILE, (1024, 1024))
    m.p("f").write_text("x")
    with contextlib.ExitStack() as stack:
        programs = [
            stack.enter_context(running(PYTHON, "-c", CLOSING, m.p("f"), flags))
            for _ in range(64)
        ]
        for p in programs:
            assert p.wait(50) == 0, p.stderr.read()


def test_directories_that_cannot_be_removed_cost_no_descriptor(vault):
    """`rmdir *` of full ones; what stays reachable is one that is gone while a program is in it."""
    start(vault, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)))
    for n in range(300):
        os.makedirs(vault.path / f"d{n}" / "sub")
    for n in range(300):
        assert outcome(lambda: os.rmdir(vault.path / f"d{n}")) == errno.ENOTEMPTY
    assert os.listdir(vault.path / "d0") == ["sub"]
    append(vault.log("x.jsonl"), GOOD)
    with running("/bin/sh", "-c", "echo; read x; stat -c %h .", cwd=vault.path / "d0" / "sub",
                 stdin=subprocess.PIPE) as p:
        p.stdout.readline()
        os.rmdir(vault.path / "d0" / "sub")
        for n in range(1, 300):
            os.rmdir(vault.path / f"d{n}" / "sub")
        assert p.communicate(b"\n", timeout=20) == (b"0\n", b"")
    # Nor is one lost that was replaced by another.
    with running("/bin/sh", "-c", "echo; read x; stat -c %h .", cwd=vault.path / "d1",
                 stdin=subprocess.PIPE) as p:
        p.stdout.readline()
        os.rename(vault.path / "d2", vault.path / "d1")
        for n in range(3, 200):
            append(vault.path / f"d{n}" / "file", b"")
        time.sleep(1.5)  # what the kernel knows of it has expired
        assert p.communicate(b"\n", timeout=20) == (b"0\n", b"")


@contextlib.contextmanager
def users_daemon(v):
    """One that keeps few descriptors, and cannot open file handles."""
    os.chown(v.path, NOBODY, NOBODY)
    mode = os.stat("/dev/fuse").st_mode & 0o777
    os.chmod("/dev/fuse", 0o666)
    try:
        start(v, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)),
              user=NOBODY, group=NOBODY, extra_groups=[])
    finally:
        if mode != 0o666 and "PYTEST_XDIST_WORKER" not in os.environ:
            os.chmod("/dev/fuse", mode)
    yield
    run("fusermount3", "-u", v.path, uid=NOBODY, check=0)


def test_an_open_file_is_reached_though_its_path_is_not(vault):
    """Without file handles: by the descriptor of who has it open, a log that is gone, too."""
    with users_daemon(vault):
        def work():
            (vault.path / "d").mkdir()
            plain = os.open(vault.path / "d" / "f", os.O_RDWR | os.O_CREAT)
            log = os.open(vault.log("x.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(log, GOOD)
            os.unlink(vault.log("x.jsonl"))
            os.chmod(vault.path / "d", 0)
            for n in range(200):  # more than the daemon keeps descriptors of
                (vault.path / f"f{n}").write_bytes(b"")
            time.sleep(1.5)  # what the kernel knows has expired
            for fd in (plain, log):
                os.fstat(fd)
                os.fchmod(fd, 0o600)
                assert os.fstat(fd).st_mode & 0o777 == 0o600
            os.write(log, GOOD)
            assert os.fstat(log).st_size == 2 * len(GOOD)
            os.close(log)
            os.close(plain)
            os.chmod(vault.path / "d", 0o700)

        as_user(NOBODY, work, timeout=50)


def test_a_number_that_is_used_again_for_another_type(vault):
    """Without file handles, which an ordinary user cannot open, the number tells what a file is."""
    back = os.open(vault.path, os.O_RDONLY | os.O_DIRECTORY)

    def behind():
        """The number of a symbolic link, and then of a file."""
        number = os.lstat("l", dir_fd=back).st_ino
        os.unlink("l", dir_fd=back)
        for n in range(100):
            fd = os.open(f"n{n}", os.O_WRONLY | os.O_CREAT, dir_fd=back)
            os.write(fd, b"new")
            again = os.fstat(fd).st_ino == number
            os.close(fd)
            if again:
                return f"n{n}"
        return None

    def work():
        os.symlink("nowhere", vault.path / "l")
        for n in range(100):  # more than the daemon keeps descriptors of
            (vault.path / f"f{n}").write_bytes(b"")
            os.lstat(vault.path / f"f{n}")
        name = behind()
        # Not every file system gives the number to the next file.
        return name is None or (vault.path / name).read_bytes() == b"new"

    with users_daemon(vault):
        assert as_user(NOBODY, work, timeout=50)
    os.close(back)


@pytest.mark.limit(40)
def test_a_log_that_was_removed_behind_the_mount_hangs_nobody(vault):
    """The kernel knows it still, the daemon has no descriptor of it any more, and no handle."""
    back = os.open(vault.path, os.O_RDONLY | os.O_DIRECTORY)
    start(vault, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)),
          letters=("-o", "entry_timeout=600,attr_timeout=600"))
    append(vault.log("x.jsonl"), GOOD)
    time.sleep(3.5)  # until it is closed
    os.stat(vault.log("x.jsonl"))
    for n in range(200):  # more than the daemon keeps descriptors of
        os.mkdir(vault.path / f"d{n}")
    os.unlink("x.jsonl", dir_fd=back)
    os.close(back)
    assert as_user(None, lambda: outcome(lambda: vault.log("x.jsonl").read_bytes()), 15) \
        in (errno.ENOENT, errno.ESTALE)
    append(vault.log("x.jsonl"), GOOD)
    assert records(vault.log("x.jsonl")) == [{"n": 1}]
