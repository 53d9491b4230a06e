# SPDX-License-Identifier: MIT
"""The daemon killed at every system call that it makes for a write path, and every such call
failed: one worker, strace counts from the moment the mount stands. First a census without
injection says which calls there are; then each (call, number) has a run of its own, and the
number of runs must be that of the census."""

import contextlib
import errno
import fcntl
import os
import re
import signal
import subprocess
import time
from collections import Counter

import pytest

from mount_rig import (
    LONG, PYTHON, TOOLS, Ledger, Strace, client, each_call, recover, umount, unmount, vault,
)

# Calls that touch files; what the kernel's queue of requests needs is not among them.
CALLS = (
    "openat,openat2,open_by_handle_at,close,writev,pwritev,write,ftruncate,fallocate,"
    "fdatasync,fsync,flock,lseek,pread64,fadvise64,unlinkat,renameat,renameat2,linkat,mkdirat"
)
BASE = b'{"id":"base","pad":""}\n'
PATHS = {
    "append": (BASE, ["append:a"]),
    "new file": (None, ["append:a"]),
    "several records": (BASE, ["many:a:3", "append:b"]),
    "pieces and no newline": (BASE, ["pieces:a", "nonl:b"]),
    "fsync": (BASE, ["fsync:a:2"]),
    "torn tail": (BASE + b'{"id":"to', ["append:a"]),
    "NULs at the end": (BASE + b"\0" * 37, ["append:a"]),
    "refused": (BASE, ["bad:a", "append:b"]),
    "renamed onto": (BASE, ["replace:a", "append:b"]),
    "rotation": (BASE, ["rotate:x", "append:a"]),
    "copied and cut": (BASE, ["copytruncate:x", "append:a"]),
    "newline missing": (BASE + b'{"id":"whole","pad":""}', ["append:a"]),
    "half a record": (BASE, ["half:h"]),
    "removed": (BASE, ["remove:x", "append:a"]),
}
# Those with calls on the quarantine, its index, the archive and their directory.
BESIDE = ["torn tail", "NULs at the end", "refused", "half a record", "removed"]
ERRORS = ["EIO", "ENOSPC", "EINTR"] + (["EDQUOT", "EFBIG", "EAGAIN"] if LONG else [])
FAILED = "writev,ftruncate,fdatasync,fsync,flock,fallocate,pread64,lseek"


def prepared(v, content, broken=None):
    ledger = Ledger()
    if content is not None:
        v.file().write_bytes(content)
        ledger.durable.append("base")
        ledger.tried |= {"base", "whole"}
        if b"whole" in content:
            ledger.durable.append("whole")
    v.start(broken=broken)
    v.rest()
    return ledger


def census(content, steps, tmp_path, calls=CALLS, governed=False):
    """How often each call is made, in one run without injection; `governed`: on the file
    itself alone."""
    with vault() as v:
        ledger = prepared(v, content)
        trace = Strace(v.daemon.pid, calls, out=tmp_path / "trace",
                       path=v.file() if governed else None)
        answers = client(v, *steps)
        ledger.note(answers)
        if any(a[0] == "half" for a in answers):
            set_aside(v)
            time.sleep(0.1)
        trace.end()
        v.kill()
        assert recover(v, ledger) is None
    counts = Counter()
    for line in (tmp_path / "trace").read_text(errors="replace").splitlines():
        m = re.match(r"(?:\d+ +)?(\w+)\(", line)
        if m:
            counts[m.group(1)] += 1
    assert counts["writev"] and counts["fdatasync"], counts
    return counts


def is_dead(daemon):
    """Soon after the last answer: what it does behind that is part of the run."""
    try:
        return daemon.wait(0.1) == -signal.SIGKILL
    except subprocess.TimeoutExpired:
        return False


def set_aside(v):
    """Waits until the index tells of it: that is behind the close, which nobody waits for."""
    index = v.src / ".jsonlfs" / "quarantine.jsonl"
    end = time.monotonic() + 3
    while (time.monotonic() < end and v.daemon.poll() is None and not v.said("LOST")
           and not (index.exists() and index.stat().st_size)):
        time.sleep(0.01)


def injected(content, steps, inject, call, governed=False, broken=None, out=None):
    """One run. (what is wrong or None, whether the daemon died). out: where strace says what
    it has done."""
    with vault() as v:
        ledger = prepared(v, content, broken)
        trace = Strace(v.daemon.pid, call, inject, path=v.file() if governed else None, out=out)
        answers = client(v, *steps)
        ledger.note(answers)
        if any(a[0] == "half" for a in answers):
            set_aside(v)
        died = is_dead(v.daemon)
        trace.end(harsh=True)
        v.kill()
        wrong = recover(v, ledger)
        if wrong is None and any(step.startswith("bad") for step in steps):
            # Either the program heard of it and a copy was kept, or the log says why not.
            reported = v.said("LOST") + [x for x in v.said("refused") if 'quarantine=""' in x]
            if not died and b'{"id":a' not in v.saved() and not reported:
                wrong = "the refused line was neither kept nor reported"
        if wrong is None and not died and any(a[0] == "half" and not a[2] for a in answers):
            if b'{"id":' not in v.saved() and not v.said("LOST"):
                wrong = "the half record was neither kept nor reported"
        if wrong is None and content and not content.endswith(b"}\n"):
            tail = content[len(BASE):]
            if b"whole" not in tail and tail not in v.saved():
                wrong = f"the torn tail was not saved: {v.saved()[-80:]!r}"
        return wrong, died


@pytest.mark.parametrize("path", PATHS)
def test_killed_at_every_call(path, tmp_path):
    content, steps = PATHS[path]
    counts = census(content, steps, tmp_path)
    violations, deaths = [], 0
    for call, when in each_call(counts):
        wrong, died = injected(content, steps, f"{call}:signal=KILL:when={when}", call)
        deaths += died
        if wrong:
            violations.append(f"{call} {when}: {wrong}")
    runs = sum(counts.values())
    print(f"\n{path}: {dict(counts)}; killed at {deaths} of {runs} calls, "
          f"{len(violations)} violations")
    assert not violations, "\n".join(violations)
    # close() happens behind the last answer, too, where nobody looks at the daemon any more.
    assert deaths >= runs - counts["close"], f"{deaths} deaths for {runs} calls"


@pytest.mark.parametrize("path", PATHS if LONG else
                         ["several records", "torn tail", "renamed onto", "copied and cut"])
def test_failed_at_every_call(path, tmp_path):
    content, steps = PATHS[path]
    # On the file itself: a failed answer to the kernel would leave the caller waiting.
    counts = census(content, steps, tmp_path, FAILED, governed=True)
    violations, runs = [], 0
    for call, when in each_call(counts):
        for error in ERRORS:
            if not LONG and error == "EINTR" and call not in ("writev", "flock"):
                continue
            # A call that is answered by strace is not made at all.
            wrong, _ = injected(content, steps, f"{call}:error={error}:when={when}",
                                call, governed=True)
            runs += 1
            if wrong:
                violations.append(f"{call} {when} {error}: {wrong}")
    print(f"\n{path}: {dict(counts)}; {runs} failed calls, {len(violations)} violations")
    assert runs and not violations, "\n".join(violations)


def beside(text):
    """Of what strace has said: (call, which one of its kind, whether it was changed) of the
    calls on what lies beside the log, in the state directory."""
    counts, found = Counter(), []
    for line in text.splitlines():
        m = re.match(r"(?:\d+ +)?(\w+)\((.*)", line)
        if m:
            counts[m.group(1)] += 1
            if "/.jsonlfs" in m.group(2):
                found.append((m.group(1), counts[m.group(1)], "(INJECTED)" in line))
    return found


def failed_beside(content, steps, call, when, error, tmp_path):
    """What is wrong, or None. Which call it is differs by a request or two of the kernel's:
    the answer to such a one must not be what fails."""
    for _ in range(5):
        out = tmp_path / "trace"
        wrong, _ = injected(content, steps, f"{call}:error={error}:when={when}", call, out=out)
        if any(changed for _, _, changed in beside(out.read_text(errors="replace"))):
            return wrong
    return "never met"


@pytest.mark.parametrize("path", BESIDE if LONG else [b for b in BESIDE if "NUL" not in b])
def test_failed_at_every_call_beside_the_log(path, tmp_path):
    """The quarantine, its index, the archive, their directory. But for close, which tells
    nothing there."""
    content, steps = PATHS[path]
    census(content, steps, tmp_path)
    calls = [c for c in beside((tmp_path / "trace").read_text(errors="replace"))
             if c[0] != "close"]
    assert calls
    violations, runs = [], 0
    for call, when, _ in calls:
        for error in ["EIO", "ENOSPC"] + (["EROFS", "EDQUOT", "EINTR"] if LONG else []):
            wrong = failed_beside(content, steps, call, when, error, tmp_path)
            runs += 1
            if wrong:
                violations.append(f"{call} {when} {error}: {wrong}")
    print(f"\n{path}: {dict(Counter(c for c, _, _ in calls))}; {runs} failed calls beside the "
          f"log, {len(violations)} violations")
    assert not violations, "\n".join(violations)


@pytest.mark.parametrize("path", ["torn tail", "refused", "half a record"])
@pytest.mark.parametrize("inject", ["signal=KILL", "error=EIO"])
def test_what_is_not_kept_is_seen(path, inject):
    """A daemon that sets nothing aside; the call that is changed comes behind that."""
    content, steps = PATHS[path]
    wrong, _ = injected(content, steps, f"fdatasync:{inject}:when=9", "fdatasync",
                        broken="unsaved")
    assert wrong and ("not saved" in wrong or "neither kept" in wrong), wrong


HALF = b'{"id":"half","pad":'


def ended(tmp_path, how=None):
    """SIGTERM with a whole record that nobody synced and half a record pending; `how`: what
    is done to a call of the way out. (calls made, what is wrong or None, killed)."""
    with vault() as v:
        ledger = prepared(v, BASE)
        call = how.split(":")[0] if how else CALLS
        fd = os.open(v.mnt / "log.jsonl", os.O_WRONLY | os.O_APPEND)
        os.write(fd, b'{"id":"whole","pad":""}\n' + HALF)
        trace = Strace(v.daemon.pid, call, how, out=tmp_path / "trace")
        v.daemon.terminate()
        status = v.daemon.wait(20)
        trace.end(harsh=True)
        with contextlib.suppress(OSError):
            os.close(fd)
        v.daemon = None
        unmount(v.mnt)
        ledger.written.append("whole")
        killed = status == -signal.SIGKILL
        wrong = None if killed or not status else f"the daemon ended with {status}"
        if not killed and HALF not in v.saved():
            wrong = "the half record was not kept"
        wrong = wrong or recover(v, ledger)
        text = (tmp_path / "trace").read_text(errors="replace")
    return re.findall(r"^(?:\d+ +)?(\w+)\(", text, re.M), wrong, killed


def test_killed_at_every_call_of_the_way_out(tmp_path):
    calls, wrong, killed = ended(tmp_path)
    assert wrong is None and not killed and "fdatasync" in calls
    violations, deaths = [], 0
    counts = Counter(calls)
    for call, when in each_call(counts):
        _, wrong, killed = ended(tmp_path, f"{call}:signal=KILL:when={when}")
        deaths += killed
        if wrong:
            violations.append(f"{call} {when}: {wrong}")
    print(f"\nway out: {dict(counts)}; killed at {deaths} of {len(calls)} calls, "
          f"{len(violations)} violations")
    assert not violations, "\n".join(violations)
    assert deaths >= len(calls) - counts["close"], (deaths, counts)


def test_unsure_and_closed_at_the_end():
    """A sync fails, everybody closes, the mount ends: memory still holds what the disk may
    not have, and it is looked at, or saved, then."""
    for how in ("when=1", "when=1+"):
        with vault() as v:
            prepared(v, BASE)
            trace = Strace(v.daemon.pid, "fdatasync", f"fdatasync:error=EIO:{how}", path=v.file())
            fd = os.open(v.mnt / "log.jsonl", os.O_WRONLY | os.O_APPEND)
            os.write(fd, b'{"id":"unsure"}\n')
            with pytest.raises(OSError) as e:
                os.close(fd)
            assert e.value.errno == errno.EIO
            umount(v.mnt)
            assert v.daemon.wait(20) == 0
            v.daemon = None
            trace.end()
            if how == "when=1":
                assert v.said("sync-verified"), v.log.read_text()
            else:
                assert b'{"id":"unsure"}\n' in v.saved(), v.log.read_text()


def test_failed_sync_behind_another_error():
    """An fsync that has to say of two errors tells that of the sync: the other one comes
    again, this one does not."""
    with vault() as v:
        prepared(v, BASE)
        v.stop()
        v.start("locktimeout=0.2")
        # The first fsync of a log syncs the attributes, too.
        trace = Strace(v.daemon.pid, "fsync", "fsync:error=EIO:when=1", path=v.file())
        fd = os.open(v.mnt / "log.jsonl", os.O_WRONLY | os.O_APPEND)
        os.write(fd, b'{"id":"unsure"}\n{"id":"whole"}')
        outside = os.open(v.file(), os.O_RDONLY)
        fcntl.flock(outside, fcntl.LOCK_EX)
        with pytest.raises(OSError) as e:
            os.fsync(fd)
        os.close(outside)
        trace.end()
        assert e.value.errno == errno.EIO
        os.fsync(fd)
        os.close(fd)
        assert v.file().read_bytes() == BASE + b'{"id":"unsure"}\n{"id":"whole"}\n'
        v.stop()


def test_new_name_after_a_failed_open(tmp_path):
    """The open that creates a log fails behind that and leaves nothing; the next one makes it
    anew, and its name durable."""
    with vault() as v:
        prepared(v, None)
        trace = Strace(v.daemon.pid, "openat,fsync", "openat:error=EIO:when=4",
                       out=tmp_path / "trace")
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        with pytest.raises(OSError) as e:
            os.open(v.mnt / "log.jsonl", flags)
        assert e.value.errno == errno.EIO and not v.file().exists()
        fd = os.open(v.mnt / "log.jsonl", flags)
        os.write(fd, BASE)
        os.close(fd)
        trace.end()
        said = (tmp_path / "trace").read_text(errors="replace")
        assert "O_DIRECTORY) = -1 EIO" in said, said
        assert re.search(rf"fsync\(\d+<{v.src}>\) += 0", said), said
        assert v.file().read_bytes() == BASE


def test_name_of_a_log_without_a_record(tmp_path):
    """Who has made it may not have synced it: a daemon that died, or a program outside."""
    with vault() as v:
        prepared(v, b"")
        trace = Strace(v.daemon.pid, "fsync", out=tmp_path / "trace")
        fd = os.open(v.mnt / "log.jsonl", os.O_WRONLY | os.O_APPEND)
        os.write(fd, BASE)
        os.close(fd)
        trace.end()
        assert re.search(rf"fsync\(\d+<{v.src}>\) += 0", (tmp_path / "trace").read_text())


def test_new_name_that_could_not_be_synced():
    """The close tells it, once: the next open of the log, still without a record, does not
    inherit it."""
    with vault() as v:
        prepared(v, None)
        trace = Strace(v.daemon.pid, "fsync", "fsync:error=EIO:when=1", path=v.src)
        fd = os.open(v.mnt / "log.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        with pytest.raises(OSError) as e:
            os.close(fd)
        assert e.value.errno == errno.EIO
        fd = os.open(v.mnt / "log.jsonl", os.O_WRONLY | os.O_APPEND)
        os.write(fd, BASE)
        os.close(fd)
        trace.end()
        assert v.said("sync-verified") and v.file().read_bytes() == BASE


@pytest.fixture
def no_memory(monkeypatch, tmp_path):
    """While this file is there, daemons that are started have no memory for small things."""
    monkeypatch.setenv("JSONLFS_NO_MEMORY", str(tmp_path / "none"))
    monkeypatch.setenv("LD_PRELOAD", str(TOOLS / "libnomem.so"))
    return tmp_path / "none"


def test_fsync_without_memory(no_memory):
    """One that cannot wait for the disk does not say that the disk is well."""
    with vault() as v:
        prepared(v, BASE)
        trace = Strace(v.daemon.pid, "fsync", "fsync:error=EIO:when=1", path=v.file())
        fd = os.open(v.mnt / "log.jsonl", os.O_WRONLY | os.O_APPEND)
        os.write(fd, b'{"id":"unsure"}\n')
        with pytest.raises(OSError) as e:
            os.fsync(fd)
        assert e.value.errno == errno.EIO
        no_memory.touch()
        try:
            with pytest.raises(OSError) as e:
                os.fsync(fd)
        finally:
            no_memory.unlink()
            trace.end()
        assert e.value.errno == errno.ENOMEM and not v.said("sync-verified")
        os.fsync(fd)
        assert v.said("sync-verified")
        os.close(fd)


def test_synced_write_without_memory(no_memory):
    """So long that a sync is begun for it in any case; it is answered all the same."""
    with vault() as v:
        prepared(v, BASE)
        v.stop()
        v.start("sync=write")
        fd = os.open(v.mnt / "log.jsonl", os.O_WRONLY | os.O_APPEND)
        line = b'{"id":"long","pad":"' + b"x" * 300000 + b'"}\n'
        # The first write of a program makes what is kept of it.
        script = ("import os, sys; fd = int(sys.argv[1]); line = sys.stdin.buffer.read();"
                  "os.write(fd, b'{}\\n'); open(sys.argv[2], 'w').close(); os.write(fd, line)")
        with subprocess.Popen([PYTHON, "-c", script, str(fd), no_memory],
                              stdin=subprocess.PIPE, env={}, pass_fds=[fd]) as p:
            try:
                p.communicate(line, timeout=10)
            except subprocess.TimeoutExpired:
                v.die()  # which answers everybody
                raise
            finally:
                no_memory.unlink()
                os.close(fd)
        assert p.returncode == 0
        assert v.file().read_bytes() == BASE + b"{}\n" + line
