# SPDX-License-Identifier: MIT
"""The mount comes back by itself: the parent that stays, what programs see meanwhile, what of
theirs is kept, and how the parent ends. Everything runs in a mount namespace with a /dev/log
of its own, so that what the background processes say can be read."""

import contextlib
import ctypes
import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
from util import (
    BAD,
    ENV,
    NOBODY,
    PYTHON,
    append,
    binary,
    check_lines,
    processes,
    records,
    run,
    sanitized,
    wait_for,
)
from vaults import GOOD, Installed, Vault, mounted_in

# A mount can be put beneath another from here on; before, the dead ones stay below.
BENEATH = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 5)
# What a program may get in between. The second: its request was under way.
GAP = {errno.ENOTCONN, errno.ECONNABORTED}
SECONDS = 30  # for what comes within one on a machine that has nothing else to do
PR_SET_CHILD_SUBREAPER = 36


class Host(Installed):
    """The installed programs, and a syslog that keeps what it is told."""

    def __init__(self, root, dev):
        super().__init__(root)
        dev.mkdir()
        for name in ("null", "zero", "urandom", "fuse"):
            (dev / name).touch()
        (dev / "fd").symlink_to("/proc/self/fd")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(dev / "log"))
        os.chmod(dev / "log", 0o666)
        self.lines = []
        # A full socket would lose lines.
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.sh(
            'for f in null zero urandom fuse; do mount --bind /dev/$f "$1/$f" || exit 1; done\n'
            'mount --rbind "$1" /dev', dev, check=0,
        )

    def read(self):
        while line := self.socket.recv(8192):
            self.lines.append(line.decode("utf-8", "replace"))

    def log(self, *words):
        return [x for x in self.lines if all(w in x for w in words)]

    def expect(self, *words, seconds=SECONDS):
        return wait_for(lambda: self.log(*words), f"log line with {words}", seconds)[-1]

    def inside(self, path):
        """The path as programs in there see it."""
        return type(path)(f"/proc/{self.holder.pid}/root{path}")

    def end(self):
        self.run("umount", "-l", "/dev")
        super().end()
        self.socket.shutdown(socket.SHUT_RD)
        self.reader.join(5)
        self.socket.close()


@pytest.fixture(scope="module")
def host(base):
    root = base / f"host{os.getpid()}"
    root.mkdir()
    system = Host(root / "root", root / "dev")
    yield system
    system.end()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def v(host, workdir):
    vault = Vault(workdir / "vault")
    host.lines.clear()
    yield vault
    for pid in sum(processes(vault.path), []):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    while mounted_in(host, vault.path):
        host.run("umount", "-l", vault.path)


@pytest.fixture
def children():
    """Whoever loses its parent becomes a child of this process, as of a service manager."""
    libc = ctypes.CDLL(None)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0


def status_of(pid, seconds=SECONDS):
    """Exit status of an adopted child."""
    return os.waitstatus_to_exitcode(
        wait_for(lambda: reaped(pid), f"the end of {pid}", seconds)[1]
    )


def reaped(pid):
    got = os.waitpid(pid, os.WNOHANG)
    return got if got[0] == pid else None


def field(pid, name, file="status"):
    with open(f"/proc/{pid}/{file}", encoding="ascii") as f:
        return next(x.split(":", 1)[1].split()[0] for x in f if x.startswith(name + ":"))


def the_two(v):
    """(parent, daemon), when there is one of each."""
    def both():
        parents, daemons = processes(v.path)
        assert len(parents) == 1 and len(daemons) == 1, (parents, daemons)
        return parents[0], daemons[0]

    return wait_for(both, "a parent and a daemon", SECONDS)


def works(host, v):
    """The mount answers: nobody is dead, and it is our file system."""
    def check():
        path = host.inside(v.path)
        with contextlib.suppress(OSError):
            os.stat(path / ".jsonlfs" / "status.json")
            return True
        return False

    return wait_for(check, "a mount that works", SECONDS)


def start(host, v, *options, uid=None):
    argv = [binary("jsonlfs"), "-o", ",".join(options or ("rw",)), v.path, v.path]
    p = host.run(*argv, uid=uid)
    assert (p.returncode, p.stderr) == (0, b"")
    return the_two(v)


def kill_daemon(host, v):
    """SIGKILL, and the next one that serves."""
    parent, daemon = the_two(v)
    os.kill(daemon, signal.SIGKILL)
    wait_for(lambda: the_two(v)[1] != daemon, "another daemon", SECONDS)
    works(host, v)
    assert the_two(v)[0] == parent
    return the_two(v)[1]


def all_gone(v):
    wait_for(lambda: not sum(processes(v.path), []), "the end of both", SECONDS)


# ---- under load ----

WRITER = r"""
import errno, json, os, sys, time
path, bare, ledger, stop, me = sys.argv[1:6]
out = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
since = uncovered = 0
errors, n, naked, last, longest = {}, 0, 0, time.monotonic(), 0.0
# What a program gets that only reads and lists meanwhile must be an error, too.
while not os.path.exists(stop):
    n += 1
    record = json.dumps({"w": me, "n": n, "pad": "x" * (n * 37 % 700)}).encode() + b"\n"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        # What stands in the bare directory is promised by nobody: a record goes behind what
        # a killed daemon has left of another.
        naked_now = os.fstat(fd).st_dev == int(bare)
        if naked_now:
            naked += 1
            since = since or time.monotonic()
            uncovered = max(uncovered, time.monotonic() - since)
        else:
            since = 0
        try:
            if not naked_now:
                os.write(fd, record)
        finally:
            os.close(fd)
        if naked_now:
            continue
    except OSError as e:
        errors[e.errno] = errors.get(e.errno, 0) + 1
        time.sleep(0.0005)
        continue
    os.write(out, b"%d\n" % n)
    now = time.monotonic()
    longest, last = max(longest, now - last), now
print(json.dumps({"errors": errors, "naked": naked, "longest": longest, "bare": uncovered, "tries": n}))
"""


@contextlib.contextmanager
def load(host, v, workdir, uid=None, writers=3):
    """Appenders that note what was acknowledged; yields where their findings will be."""
    outside = workdir / "acknowledged"
    outside.mkdir()
    outside.chmod(0o777)
    stop, said = outside / "stop", []
    bare = os.stat(v.path).st_dev
    switch = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
    started = [
        subprocess.Popen(
            ["nsenter", "-m", "-r", "-t", str(host.holder.pid), *switch, PYTHON, "-c", WRITER,
             str(v.path / "a.jsonl"), str(bare), str(outside / f"{w}"), str(stop), f"{w}"],
            env=ENV, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )
        for w in range(writers)
    ]
    try:
        wait_for(lambda: all((outside / f"{w}").exists() and (outside / f"{w}").stat().st_size
                             for w in range(writers)), "the first records", SECONDS)
        yield said
    finally:
        stop.touch()
        for p in started:
            try:
                out, _ = p.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                p.kill()
                out, _ = p.communicate()
            with contextlib.suppress(ValueError):
                said.append(json.loads(out))
    assert len(said) == writers
    # Every record that was acknowledged is in the file, whole, once, and in order.
    data = (v.path / "a.jsonl").read_bytes()  # the backing file: out here nothing is mounted
    check_lines(data, "a.jsonl")
    stored = {}
    for line in data.splitlines():
        entry = json.loads(line)
        stored.setdefault(entry["w"], []).append(entry["n"])
    for w in range(writers):
        noted = [int(x) for x in (outside / f"{w}").read_text().split()]
        mine = stored[f"{w}"]
        assert mine == sorted(set(mine)), "twice, or out of order"
        assert set(noted) <= set(mine), sorted(set(noted) - set(mine))[:20]
    for finding in said:
        assert set(map(int, finding["errors"])) <= GAP, finding
        assert finding["longest"] < 10, finding
    print(f"{sum(x['tries'] for x in said)} appends, errors in between "
          f"{[x['errors'] for x in said]}, longest without success "
          f"{max(x['longest'] for x in said):.3f} s, into the bare directory "
          f"{sum(x['naked'] for x in said)} in {max(x['bare'] for x in said):.4f} s")


@pytest.mark.parametrize("kind", ["jsonlfs", "fuse.jsonlfs"])
def test_killed_under_load_from_fstab(host, v, workdir, kind):
    table = workdir / "fstab"
    table.write_text(f"{v.path} {v.path} {kind} defaults,nofail 0 0\n")
    host.run("mount", "-a", "-T", table, check=0)
    works(host, v)
    with load(host, v, workdir) as said:
        for _ in range(3):
            kill_daemon(host, v)
            time.sleep(0.2)
        # mount -a again changes nothing.
        host.run("mount", "-a", "-T", table, check=0)
    assert len(mounted_in(host, v.path)) == (1 if BENEATH else 4)
    assert sum(x["naked"] for x in said) == 0
    assert any(x["errors"] for x in said)
    wait_for(lambda: len(host.log("died", "signal=9", f'mountpoint="{v.path}"')) == 3,
             "three lines in the log")
    host.run("umount", v.path, check=0)
    all_gone(v)
    assert not mounted_in(host, v.path)
    records(v.path / "a.jsonl")


def as_nobody(host, v):
    return host.run("cat", v.path / ".jsonlfs" / "status.json", uid=NOBODY).returncode


def test_killed_under_load_as_a_users_mount(host, v, workdir, fuse_for_all):  # noqa: F811
    os.chown(v.path, NOBODY, NOBODY)
    start(host, v, uid=NOBODY)
    parent, daemon = the_two(v)
    with load(host, v, workdir, uid=NOBODY) as said:
        for _ in range(3):
            os.kill(the_two(v)[1], signal.SIGKILL)
            before, daemon = daemon, wait_for(
                lambda: next((x for x in processes(v.path)[1] if x != daemon), 0),  # noqa: B023
                "another daemon", SECONDS)
            assert before != daemon
            wait_for(lambda: as_nobody(host, v) == 0, "a mount that works", SECONDS)
    assert the_two(v)[0] == parent
    (line,) = mounted_in(host, v.path)
    assert f"user_id={NOBODY}" in line
    # fusermount3 can only unmount and mount: for so long the directory is bare.
    assert max(x["bare"] for x in said) < 5
    host.run("fusermount3", "-u", v.path, uid=NOBODY, check=0)
    all_gone(v)
    assert not mounted_in(host, v.path)
    wait_for(lambda: len(host.log("died", "signal=9")) == 3, "three lines in the log")


def test_killed_under_load_as_a_service(host, v, workdir, children):
    """What systemd does with the unit, step by step: nothing of it needs to run as PID 1."""
    unit = (host.root / "usr/local/lib/systemd/system/jsonlfs@.service").read_text()
    settings = dict(re.findall(r"^(\w+)=(.*)$", unit, re.M))
    assert settings["Type"] == "forking" and settings["Restart"] == "on-failure"
    assert settings["OOMPolicy"] == "continue"  # else the death of one ends all
    assert "KillMode" not in settings and "PIDFile" not in settings
    options = settings["Environment"].split("=", 1)[1]
    command = [x.replace("%f", str(v.path)).replace("${JSONLFS_OPTIONS}", options)
               for x in settings["ExecStart"].split()]
    assert "-f" not in command

    host.run(*command, check=0)
    parent, daemon = the_two(v)
    # The main process is the only child that is left.
    assert field(parent, "PPid") == str(os.getpid())
    assert field(daemon, "PPid") == str(parent)
    with load(host, v, workdir):
        kill_daemon(host, v)
        kill_daemon(host, v)
        # The parent dies, as for a lack of memory: the daemon serves on until it is ended
        # with the rest of the control group, and the start command follows.
        daemon = the_two(v)[1]
        os.kill(parent, signal.SIGKILL)
        assert status_of(parent) == -signal.SIGKILL
        works(host, v)
    os.kill(daemon, signal.SIGTERM)
    assert status_of(daemon) == 0
    # Without its parent nobody clears what may lie below: the start command does.
    assert not mounted_in(host, v.path) or not BENEATH
    host.run(*command, check=0)
    works(host, v)
    # systemctl stop: to all of the group at once.
    parent, daemon = the_two(v)
    os.kill(daemon, signal.SIGTERM)
    os.kill(parent, signal.SIGTERM)
    assert status_of(parent) == 0
    assert not mounted_in(host, v.path)
    wait_for(lambda: len(host.log("died", "signal=9")) == 2, "two lines in the log")


# ---- what comes back ----


def test_the_mount_is_the_same_again(host, v):
    options = ("noexec", "sync", "dirsync", "fsname=a b\\,c", "value=object")
    start(host, v, *options)
    before = mounted_in(host, v.path)[0].split()
    kill_daemon(host, v)
    after = mounted_in(host, v.path)
    assert len(after) == (1 if BENEATH else 2)
    after = after[-1].split()
    # All but the mount's and the file system's number.
    assert [*before[1:2], *before[3:]] == [*after[1:2], *after[3:]]
    with pytest.raises(OSError) as info:
        append(host.inside(v.path / "a.jsonl"), b"1\n")
    assert info.value.errno == errno.EBADMSG


def test_read_only_and_for_root_alone_come_back_so(host, v):
    (v.path / ".jsonlfs").mkdir()
    start(host, v, "ro", "noallow_other")
    before = mounted_in(host, v.path)[0].split(" - ")[1]
    daemon = the_two(v)[1]
    os.kill(daemon, signal.SIGKILL)
    wait_for(lambda: the_two(v)[1] != daemon and mounted_in(host, v.path)[0]
             .split(" - ")[1] == before, "the same", SECONDS)
    works(host, v)
    assert outcome_of(lambda: append(host.inside(v.path / "a.jsonl"), GOOD)) == errno.EROFS
    p = host.run("ls", v.path, uid=NOBODY)
    assert p.returncode != 0


def outcome_of(function):
    try:
        function()
    except OSError as e:
        return e.errno
    return 0


def test_a_state_directory_below_the_mount_is_found_again(host, v):
    start(host, v, f"state={v.path}/kept/")
    append(host.inside(v.path / "a.jsonl"), GOOD)
    kill_daemon_of(host, v, "kept")
    assert outcome_of(lambda: append(host.inside(v.path / "a.jsonl"), b"oops\n")) == \
        errno.EBADMSG
    host.run("umount", v.path, check=0)
    all_gone(v)
    assert (v.path / "kept" / "quarantine.jsonl").exists()


def kill_daemon_of(host, v, state):
    daemon = the_two(v)[1]
    os.kill(daemon, signal.SIGKILL)
    wait_for(lambda: the_two(v)[1] != daemon and
             outcome_of(lambda: os.stat(host.inside(v.path / state / "status.json"))) == 0,
             "a mount that works", SECONDS)


def test_descriptors_that_were_open_are_dead_and_paths_are_not(host, v):
    start(host, v)
    fd = os.open(host.inside(v.path / "a.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, GOOD + b'{"half":')
    kill_daemon(host, v)
    assert outcome_of(lambda: os.write(fd, b"1}\n")) in GAP
    assert outcome_of(lambda: os.close(fd)) in GAP | {0}
    append(host.inside(v.path / "a.jsonl"), b'{"n":2}\n')
    assert records(host.inside(v.path / "a.jsonl")) == [{"n": 1}, {"n": 2}]


def test_a_crash_is_a_death_too(host, v):
    parent, daemon = start(host, v)
    for n, number in enumerate((signal.SIGSEGV, signal.SIGABRT), 1):
        os.kill(daemon, number)
        wait_for(lambda: the_two(v)[1] != daemon, "another daemon", SECONDS)  # noqa: B023
        works(host, v)
        line = host.expect("died", f"deaths={n}")
        # A sanitizer makes an exit of it: that is a death as well.
        assert f"signal={int(number)} " in line or "signal=0 status=" in line
        daemon = the_two(v)[1]
    assert the_two(v)[0] == parent


def of_threads(pid, field):
    """The field of each thread's /proc/PID/task/TID/status."""
    lines = run("sh", "-c", f"cat /proc/{pid}/task/*/status").stdout.decode().splitlines()
    return [line.split()[1] for line in lines if line.startswith(f"{field}:")]


def held_by_the_kernel(pid):
    """Does a thread wait where no signal reaches it, and not just for a moment?"""
    for _ in range(3):
        if "D" not in of_threads(pid, "State"):
            return False
        time.sleep(0.05)
    return True


def rename_and_mkdir(host, v, n):
    """The second waits for the directory before the first has its answer, three seconds later."""
    programs = []
    for call in f"os.rename(p + '/a{n}.jsonl', p + '/a{n}.jsonl.1')", f"os.mkdir(p + '/new{n}')":
        programs.append(subprocess.Popen(
            [PYTHON, "-c", "import os, sys; p = sys.argv[1]; print('ready', flush=True);"
             f"sys.stdin.readline(); {call}", host.inside(v.path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        assert programs[-1].stdout.readline() == b"ready\n"
    for p in programs:
        p.stdin.write(b"\n")
        p.stdin.flush()
        time.sleep(0.2)
    return programs


@pytest.mark.limit(150)
def test_a_thread_that_the_kernel_holds_does_not_keep_a_dead_daemon(host, v):
    """A name is to be forgotten in a directory that a program has locked whose request is
    under way: the thread waits for that lock, killed or not."""
    parent, daemon = start(host, v)
    tries = range(3)
    for n in tries:
        append(host.inside(v.path / f"a{n}.jsonl"), GOOD)
    trace = subprocess.Popen(
        ["strace", "-f", "-q", "-p", f"{daemon}", "-o", "/dev/null", "-e", "trace=writev,mkdirat",
         "-e", "inject=writev:delay_enter=3000000", "-e", "inject=mkdirat:delay_enter=20000000"],
        stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: "0" not in of_threads(daemon, "TracerPid"), "strace")
        for n in tries:
            programs = rename_and_mkdir(host, v, n)
            end = time.monotonic() + 15
            while not (held := held_by_the_kernel(daemon)) and time.monotonic() < end:
                time.sleep(0.05)
            if held:
                break
            # The thread had the lock before the second program: once more.
            for p in programs:
                p.communicate(timeout=SECONDS)
        assert held, "no thread waits for the directory"
        os.kill(daemon, signal.SIGKILL)
        said = [p.communicate(timeout=SECONDS)[1] for p in programs]
    finally:
        trace.kill()
        trace.wait()
    # Killed before that was answered, the one who renames is the one who has locked it.
    cut = [any(os.strerror(e).encode() in text for e in GAP) for text in said]
    assert cut[1] and (cut[0] or not said[0]), said
    wait_for(lambda: the_two(v)[1] not in (0, daemon), "another daemon", SECONDS)
    works(host, v)
    assert the_two(v)[0] == parent


@pytest.mark.limit(150)
def test_what_keeps_it_from_coming_back_is_said(host, v):
    start(host, v)
    # Behind the mount: out here there is none.
    os.rename(v.path / ".jsonlfs", v.path / "moved")
    (v.path / ".jsonlfs").write_text("in the way")
    os.kill(the_two(v)[1], signal.SIGKILL)
    line = host.expect("mount-failed", f'mountpoint="{v.path}"')
    assert "is not a directory" in line and "status=32" in line
    # Meanwhile an error, not the bare directory.
    assert outcome_of(lambda: append(host.inside(v.path / "a.jsonl"), GOOD)) in GAP
    (v.path / ".jsonlfs").unlink()
    os.rename(v.path / "moved", v.path / ".jsonlfs")
    # At once, or after the minute if five attempts were over before.
    wait_for(lambda: outcome_of(lambda: os.stat(host.inside(v.path / ".jsonlfs/status.json")))
             == 0, "the mount", 90)


# ---- after five deaths ----


def die_five_times(host, v):
    for n in range(5):
        daemon = the_two(v)[1]
        works(host, v)
        os.kill(daemon, signal.SIGKILL)
        host.expect("died", f"deaths={n + 1}")
    waits = [int(re.search(r"again_in_ms=(\d+)", x).group(1)) for x in host.log("died")]
    assert waits[:4] == [0] * 4 and 0 < waits[4] <= 60000, waits
    time.sleep(1.5)
    (parent,), daemons = processes(v.path)
    assert not daemons
    assert outcome_of(lambda: append(host.inside(v.path / "a.jsonl"), GOOD)) in GAP
    return parent


def test_five_deaths_a_minute_make_it_wait_and_a_signal_ends_the_wait(host, v, children):
    start(host, v)
    parent = die_five_times(host, v)
    os.kill(parent, signal.SIGTERM)
    assert status_of(parent) == 0
    # As SIGTERM does: nothing is left mounted.
    assert not mounted_in(host, v.path)
    host.expect("supervision-ended", "signal")


def test_who_takes_the_dead_mount_away_ends_the_wait(host, v):
    start(host, v)
    die_five_times(host, v)
    host.run("umount", v.path, check=0)
    all_gone(v)
    host.expect("supervision-ended", "no longer there")
    assert not mounted_in(host, v.path)


def test_the_command_mounts_over_a_wait(host, v):
    start(host, v)
    die_five_times(host, v)
    p = host.run(binary("jsonlfs"), v.path, v.path, check=0)
    assert b"dead mount" in p.stderr
    works(host, v)
    # The old parent sees that it is not needed.
    wait_for(lambda: len(processes(v.path)[0]) == 1, "the end of the old parent", SECONDS)
    assert len(mounted_in(host, v.path)) == 1
    append(host.inside(v.path / "a.jsonl"), GOOD)


# ---- the end in order ----


def test_every_orderly_end_ends_the_parent(host, v, children):
    def umount():
        host.run("umount", v.path, check=0)

    def lazily():
        host.run("umount", "-l", v.path, check=0)

    def by_force():
        host.run("umount", "-f", v.path, check=0)

    def to_the_daemon():
        os.kill(the_two(v)[1], signal.SIGTERM)

    def to_the_parent():
        os.kill(the_two(v)[0], signal.SIGHUP)

    def twice():
        parent = the_two(v)[0]
        os.kill(parent, signal.SIGTERM)
        os.kill(parent, signal.SIGINT)

    for end in (umount, lazily, by_force, to_the_daemon, to_the_parent, twice):
        parent, _ = start(host, v)
        append(host.inside(v.path / "a.jsonl"), GOOD)
        end()
        assert status_of(parent) == 0, end
        all_gone(v)
        assert not mounted_in(host, v.path), end
    assert len(records(v.path / "a.jsonl")) == 6
    assert not host.log("died")


def test_the_configuration_is_read_again_by_this_daemon_and_by_the_next(
        host, v, children, workdir):
    """SIGHUP to the parent ends nothing then."""
    rules = workdir / "rules.json"
    rules.write_text('{"rules": []}')
    parent, daemon = start(host, v, f"config={rules}")
    path = host.inside(v.path / "a.jsonl")

    def takes(data):
        try:
            append(path, data)
        except OSError as e:
            assert e.errno in (BAD, errno.ENOTCONN, errno.ECONNABORTED), e
            return False
        return True

    assert not takes(b"no JSON\n")
    rules.write_text('{"onbad": "quarantine"}')
    os.kill(parent, signal.SIGHUP)
    wait_for(lambda: takes(b"no JSON\n"), "the new rules")
    assert takes(GOOD) and the_two(v) == (parent, daemon)
    rules.write_text('{"onbad": "quarantine", "value": "object"}')
    os.kill(daemon, signal.SIGKILL)
    wait_for(lambda: takes(GOOD), "another daemon")
    assert the_two(v)[0] == parent
    assert takes(b"[1]\n")
    assert [r for r in records(v.path / "a.jsonl") if r != {"n": 1}] == []
    os.kill(parent, signal.SIGTERM)
    assert status_of(parent) == 0
    all_gone(v)


def test_a_signal_to_the_parent_lets_nothing_pending_be_lost(host, v, children):
    parent, _ = start(host, v)
    fd = os.open(host.inside(v.path / "a.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, GOOD)
    os.write(fd, b'{"half":')
    os.kill(parent, signal.SIGTERM)
    assert status_of(parent) == 0
    with contextlib.suppress(OSError):
        os.close(fd)
    assert records(v.path / "a.jsonl") == [{"n": 1}]
    kept = list((v.path / ".jsonlfs" / "quarantine").iterdir())
    assert [x.read_bytes() for x in kept] == [b'{"half":']


def test_a_daemon_that_dies_after_its_lazy_unmount_stays_dead(host, v, children):
    parent, daemon = start(host, v)
    fd = os.open(host.inside(v.path / "a.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    host.run("umount", "-l", v.path, check=0)
    os.kill(daemon, signal.SIGKILL)
    assert status_of(parent) == 2
    with contextlib.suppress(OSError):
        os.close(fd)
    assert not mounted_in(host, v.path)
    host.expect("supervision-ended", "no longer there")


def test_somebody_elses_mount_on_top_is_left_alone(host, v, children):
    parent, daemon = start(host, v)
    host.run("mount", "-t", "tmpfs", "none", v.path, check=0)
    os.kill(daemon, signal.SIGKILL)
    assert status_of(parent) == 2
    kinds = [x.split(" - ")[1].split()[0] for x in mounted_in(host, v.path)]
    assert kinds == ["fuse.jsonlfs", "tmpfs"]
    host.expect("supervision-ended")


def test_a_first_mount_that_fails_is_the_commands_failure(host, v):
    (v.path / ".jsonlfs").write_text("in the way")
    p = host.run(binary("jsonlfs"), v.path, v.path, check=32)
    assert b"is not a directory" in p.stderr
    all_gone(v)


@pytest.mark.parametrize("how", ["-f", "nosupervise", "auto_unmount"])
def test_no_parent_stays_where_none_is_wanted(host, v, how):
    letters = ["-f"] if how == "-f" else ["-o", how]
    p = subprocess.Popen(
        ["nsenter", "-m", "-r", "-t", str(host.holder.pid), binary("jsonlfs"), *letters,
         str(v.path), str(v.path)],
        env=ENV, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    works(host, v)

    def alone():
        parents, daemons = processes(v.path)
        return not parents and len(daemons) == 1

    wait_for(alone)  # fusermount3, too, begins as a child of the daemon's name
    host.run("umount", v.path, check=0)
    p.wait(SECONDS)
    all_gone(v)


# ---- what the parent is ----


def test_the_parent_is_small_and_holds_nothing(host, v):
    parent, daemon = start(host, v)
    kill_daemon(host, v)
    if not sanitized():  # which brings a thread and memory of its own
        own = int(field(parent, "Private_Dirty", "smaps_rollup"))
        assert own < 1024, f"{own} KiB"
        assert len(os.listdir(f"/proc/{parent}/task")) == 1
    held = [os.readlink(f"/proc/{parent}/fd/{fd}") for fd in os.listdir(f"/proc/{parent}/fd")]
    # In a chroot the links may show the paths of the system around it.
    others = [x for x in held if not x.endswith("/dev/null") and not x.startswith("/memfd:")]
    # The source, and the log.
    assert len(others) == 2 and any(x.startswith("socket:") for x in others), held
    assert any(x.endswith(str(v.path)) for x in others), held
    assert os.path.samefile(f"/proc/{parent}/cwd", "/")
    # As low as it may be; not every root may lower it.
    expected = run("sh", "-c", "echo -900 >/proc/self/oom_score_adj; cat /proc/self/"
                   "oom_score_adj").stdout.decode()
    for pid in (parent, the_two(v)[1]):
        assert field(pid, "NoNewPrivs") == "1"
        with open(f"/proc/{pid}/oom_score_adj", encoding="ascii") as f:
            assert f.read() == expected
    # The daemon is a session of its own each time.
    with open(f"/proc/{the_two(v)[1]}/stat", encoding="ascii") as f:
        assert int(f.read().rsplit(")", 1)[1].split()[3]) == the_two(v)[1]
