# SPDX-License-Identifier: MIT
"""What the crash tests on real mounts share: a daemon that can be killed and started again,
strace that kills it or fails its calls, a client that logs what was acknowledged, and the
check of what is left.

The invariant: every record whose close or fsync returned 0 is in the backing file once and
whole, in the order of its writer; every line is a valid record; a record whose write
returned 0 is there, too, as long as only the daemon died.

Environment: JSONLFS_BUILD, the build directory; JSONLFS_TEST_DIR, where the directories
under test lie (a disk); JSONLFS_LONG=1 for the long run."""

import contextlib
import ctypes
import errno
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("JSONLFS_BUILD", REPO / "build")).resolve()
LONG = bool(os.environ.get("JSONLFS_LONG"))
PYTHON = sys.executable
CLIENT = Path(__file__).resolve().parent / "mount_client.py"
IDLE_THREADS = 4  # the worker, signals, the control socket, the list of daemons
TOOLS = BUILD / "tests" / "crash"  # writers, judge and the broken double


CLONE_NEWNS = 0x20000


def own_mounts():
    """A program that makes a mount namespace beside the tests would hold a copy of their
    mounts. In one of their own nobody does, and nothing is left when they are killed. Nor are
    copies kept of what others have mounted at this moment: their daemons could not end."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["umount", "-a", "-i", "-l", "-t", "fuse.jsonlfs"], timeout=60)


own_mounts()


def wait_for(condition, what, seconds=60.0):
    """The limit is for what hangs."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what} did not come within {seconds} s"
        time.sleep(0.005)
    return value


def is_mounted(path):
    """Also when the daemon behind it is dead."""
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return any(line.split()[4] == str(path) for line in f)


def unmount(path):
    if is_mounted(path):
        subprocess.run(["umount", "-l", str(path)], timeout=20, check=True)


def umount(path):
    """In order. Whoever looks through /proc just now may hold it for a moment."""
    wait_for(lambda: not subprocess.run(["umount", path], check=False).returncode,
             f"the unmount of {path}", 30)


def let_go(pid, mnt):
    """What the daemon's parent does, which is not there with -f: a thread of a dead daemon
    may wait in the kernel for a directory that a program has locked whose request nobody
    answers any more. Then the connection is cut."""
    minor = next((line.split()[2].split(":")[1] for line in open("/proc/self/mountinfo")
                  if line.split()[4] == str(mnt)), None)
    if minor is None:
        return
    # Opened now: the next mount anywhere may get the number, and a file of this one is not
    # that one's.
    try:
        abort = os.open(f"/sys/fs/fuse/connections/{minor}/abort", os.O_WRONLY)
    except FileNotFoundError:
        return
    try:
        while True:
            time.sleep(0.2)
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state == "Z" and len(os.listdir(f"/proc/{pid}/task")) > 1:
                os.write(abort, b"1")
    except OSError:
        pass
    finally:
        os.close(abort)


class Vault:
    """A backing directory and a mount point, with or without a daemon."""

    def __init__(self, where=None):
        self.top = Path(tempfile.mkdtemp(prefix="crash-", dir=test_dir()))
        self.src, self.mnt = Path(where or self.top / "src"), self.top / "mnt"
        self.src.mkdir(exist_ok=True)
        self.mnt.mkdir()
        self.log = self.top / "log"
        self.daemon = None

    def start(self, *options, threads=False, broken=None, prepare=None):
        """One worker is what strace needs to count; threads: as usual. broken: a promise that
        this daemon breaks (broken.c). prepare: run in the daemon before it begins."""
        argv = [BUILD / "fs" / "jsonlfs", "-f", *([] if threads else ["-s"])]
        argv += ["-o", ",".join(options)] if options else []
        env = dict(os.environ)
        if broken:
            env |= {"LD_PRELOAD": str(TOOLS / "libbroken.so"), "JSONLFS_BROKEN": broken}
        with open(self.log, "ab") as log:
            self.daemon = subprocess.Popen(
                [*map(str, argv), str(self.src), str(self.mnt)], env=env,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=prepare,
            )

        def there():
            assert self.daemon.poll() is None, self.log.read_text(errors="replace")
            return is_mounted(self.mnt)

        wait_for(there, "the mount")
        threading.Thread(target=let_go, args=(self.daemon.pid, self.mnt), daemon=True).start()

    def rest(self):
        """Once it serves and has looked for programs that go round the mount, a daemon with
        one worker makes no call of its own accord: what strace then counts is a program's."""
        os.stat(self.mnt)
        wait_for(lambda: len(os.listdir(f"/proc/{self.daemon.pid}/task")) <= IDLE_THREADS,
                 "a daemon that does nothing", 60)

    def die(self):
        """SIGKILL. The mount stays, so that programs get errors and not the bare directory
        below it."""
        if self.daemon:
            self.daemon.kill()
            self.daemon.wait(10)
            self.daemon = None

    def kill(self):
        """SIGKILL, and what is left of the mount is cleared away."""
        self.die()
        unmount(self.mnt)

    def stop(self):
        """An orderly end. The exit status."""
        try:
            umount(self.mnt)
        except AssertionError as e:
            # With what the daemon has to say, should it have ended before.
            raise AssertionError(e, self.daemon.poll(), self.log.read_bytes()) from None
        status = self.daemon.wait(20)
        self.daemon = None
        return status

    def file(self):
        return self.src / "log.jsonl"

    def content(self):
        """The log, and before it what was rotated away or, removed, is in the archive. A
        copy that is not needed yet, or not finished, has nothing that the log does not
        have."""
        new = self.file().read_bytes()
        old = [*self.src.glob("log.jsonl.1"), *self.src.glob(".jsonlfs/archive/*")]
        moved = b"".join(name.read_bytes() for name in old)
        return new if new.startswith(moved) else moved + new

    def saved(self):
        """Everything that was set aside."""
        names = sorted((self.src / ".jsonlfs" / "quarantine").glob("*"))
        return b"".join(name.read_bytes() for name in names)

    def daemon_files(self):
        """What the daemon has left for its next mount; an empty state directory is gone."""
        return sorted(p.name for p in (self.src / ".jsonlfs" / "daemon").glob("hosts/*/*-*"))

    def daemon_directory(self):
        """Of the daemon that runs."""
        (found,) = (self.src / ".jsonlfs" / "daemon" / "hosts").glob("[!.]*")
        return found

    def said(self, event):
        """Lines of the daemon's log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if line.startswith(event)]

    def remove(self):
        self.kill()
        shutil.rmtree(self.top, ignore_errors=True)


@contextlib.contextmanager
def vault(where=None):
    v = Vault(where)
    try:
        yield v
    finally:
        v.remove()


def test_dir():
    path = Path(os.environ.get("JSONLFS_TEST_DIR", "/var/tmp"))
    path.mkdir(parents=True, exist_ok=True)
    return path


test_dir.__test__ = False

# ---- strace ----


class Strace:
    """Follows a running daemon; with `inject` it changes calls: "fsync:signal=KILL:when=2";
    with `path` only calls on that file."""

    def __init__(self, pid, calls, inject=None, out=None, path=None):
        argv = ["strace", "-f", "-q", "-p", str(pid), "-e", f"trace={calls}"]
        argv += ["-P", str(path)] if path else []
        argv += ["-e", f"inject={inject}"] if inject else []
        argv += ["-y", "-o", str(out)] if out else ["-o", "/dev/null"]
        self.proc = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        # It says nothing with -q: it is there when the kernel says so.
        wait_for(lambda: traced(pid) or self.proc.poll() is not None, "strace")
        assert self.proc.poll() is None, self.proc.stderr.read()

    def end(self, harsh=False):
        """harsh: the daemon may be dying. Asked to end then, strace and the kernel may wait
        for each other for ever; killed, it lets go of all."""
        self.proc.send_signal(signal.SIGKILL if harsh else signal.SIGTERM)
        self.proc.wait(10)
        self.proc.stderr.close()


def each_call(counts):
    """(call, which of its times) for each that a census has counted."""
    for call, count in sorted(counts.items()):
        for when in range(1, count + 1):
            yield call, when


def traced(pid):
    """All threads of the process."""
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/status", encoding="utf-8") as f:
                if "\nTracerPid:\t0\n" in f.read():
                    return False
    except FileNotFoundError:
        return True
    return True


# ---- clients and what they were told ----


def client(v, *steps, timeout=60, name="log.jsonl"):
    """Runs mount_client.py; [(what, record or None, errno, when), ...]. A request that is never
    answered is an error: the daemon is killed then, which ends the client, too."""
    p = subprocess.Popen(
        [PYTHON, str(CLIENT), str(v.mnt / name), *steps],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )
    try:
        out, _ = p.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        v.die()
        out, _ = p.communicate(timeout=10)
        raise AssertionError(f"no answer within {timeout} s; so far {out!r}") from None
    return parse_answers(out)


def parse_answers(text):
    """What a client has logged; the last line may be cut."""
    answers = []
    for line in text.split(b"\n")[:-1]:
        answers.append(tuple(json.loads(line)))
    return answers


class Ledger:
    """Records by what is known of them. One writer's names grow: "w1-0001" < "w1-0002"."""

    def __init__(self):
        self.durable, self.written, self.refused = [], [], set()
        self.tried = set()
        self.recoveries = 0

    def note(self, answers, until=None):
        """until: the moment of a power cut. What a kernel says while its file system is
        being shut down is worth nothing (fsync on ext4 may then return 0 without having
        written, also without a mount of ours), and nobody sees it after a real cut."""
        open_ones = []
        for what, name, code, *when in answers:
            if until is not None and when and when[0] >= until and what != "try":
                continue
            if what == "try":
                self.tried.add(name)
            elif what == "write" and code == 0:
                open_ones.append(name)
                self.written.append(name)
            elif what == "part" and code == 0:
                open_ones.append(name)
            elif what in ("write", "part"):
                self.refused.add(name)
            elif what in ("close", "fsync"):
                if code == 0:
                    self.durable += open_ones
                open_ones = []

    def check(self, data, saved, power=False):
        """None, or what is wrong with the content of the file."""
        if data and not data.endswith(b"\n"):
            return "the file does not end with a newline"
        names = []
        for line in data.split(b"\n")[:-1]:
            try:
                names.append(json.loads(line.decode())["id"])
            except (ValueError, KeyError, TypeError) as e:
                return f"a line is not a record: {line[:80]!r}: {e}"
        twice = [n for n, count in Counter(names).items() if count > 1]
        if twice:
            return f"twice: {twice[:3]}"
        there = set(names)
        gone = [n for n in self.durable if n not in there]
        if gone:
            return f"durable and gone: {gone[:3]} ({len(gone)})"
        if not power:
            gone = [n for n in self.written
                    if n not in there and f'"{n}"'.encode() not in saved]
            if gone:
                return f"written, gone and not set aside: {gone[:3]} ({len(gone)})"
        unknown = [n for n in names if n not in self.tried]
        if unknown:
            return f"nobody wrote: {unknown[:3]}"
        for writer in {n.split("-")[0] for n in names}:
            own = [n for n in names if n.split("-")[0] == writer]
            if own != sorted(own):
                return f"the records of {writer} are not in order"
        return None


class Writers:
    """writers.c at work. The ledger of what they were told lies where a crash of the disk
    under test does not reach."""

    def __init__(self, directory, *options):
        handle, self.ledger = tempfile.mkstemp(prefix="ledger-", dir=test_dir())
        os.close(handle)
        self.proc = subprocess.Popen(
            [TOOLS / "writers", *map(str, options), self.ledger, str(directory)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )

    def wait(self, timeout=60):
        """To the end of their work: what they say about it."""
        out, _ = self.proc.communicate(timeout=timeout)
        assert self.proc.returncode in (0, -signal.SIGKILL), self.proc.returncode
        return json.loads(out) if out else None

    def end(self, timeout=60):
        """Each finishes what it is doing."""
        with open(self.ledger, "r+b") as f:
            f.seek(16)
            f.write(b"\1")
        return self.wait(timeout)

    def kill(self):
        """They end with the process that started them."""
        self.proc.kill()
        self.wait()

    def heard(self, code):
        """How often they have been told of this error by now."""
        with open(self.ledger, "rb") as f:
            f.seek(20 + 4 * getattr(errno, code))
            return struct.unpack("I", f.read(4))[0]

    def done(self):
        return self.proc.poll() is not None

    def snapshot(self, to):
        """What they have been told by now, later perhaps more."""
        shutil.copyfile(self.ledger, to)
        return to

    def judge(self, v, *options):
        """(counts, what is wrong or None)."""
        p = subprocess.run(
            [TOOLS / "judge", *options, "-q", v.src / ".jsonlfs" / "quarantine",
             self.ledger, v.src],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=300, check=False,
        )
        assert p.returncode in (0, 1), p.returncode
        counts = json.loads(p.stdout)
        assert (counts["violations"] > 0) == bool(p.returncode)
        return counts, counts["first"] or None

    def remove(self):
        if self.proc.poll() is None:
            self.kill()
        self.proc.stdout.close()
        os.unlink(self.ledger)


@contextlib.contextmanager
def writers(directory, *options):
    w = Writers(directory, *options)
    try:
        yield w
    finally:
        w.remove()


def verdict(wrong):
    return f"verdict: {wrong or 'nothing lost'}"


def recover(v, ledger, power=False, judged=True):
    """A new daemon: one more record must go in and be durable; then the file is judged.
    Not `judged`: each of the files under test gets the record, and somebody else judges."""
    v.start()
    names = ["log.jsonl"] if judged else sorted(f.name for f in v.src.glob("log*.jsonl"))
    for name in names:
        ledger.recoveries += 1
        answers = client(v, f"append:z{ledger.recoveries:05d}", name=name)
        ledger.note(answers)
        if not any(what == "close" and code == 0 for what, _, code, *_ in answers):
            return f"nothing can be appended to {name} any more: {answers}"
    status = v.stop()
    if status:
        return f"the daemon ended with {status}"
    return ledger.check(v.content(), v.saved(), power) if judged else None
