# SPDX-License-Identifier: MIT
"""A log or a state file that is written anew, with the daemon killed at every system call
that it makes for that, and every such call failed. As in test_mount_inject.py: one worker, a
census first, then a run for each (call, number).

The invariant: the file is what it was or what it was to become, whole; what it was to become
if the program was told so; with rewrite=archive what it was is in the archive then, byte for
byte. Records that another program has appended and synced meanwhile are there. In the user's
directory is nothing else, but for the one temporary file of a daemon that died, whose name says
what it is. The next daemon takes a record, or another content."""

import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from mount_rig import BUILD, LONG, PYTHON, Strace, each_call, vault, wait_for

CLIENT = Path(__file__).resolve().parent / "rewrite_client.py"
# What changes files, also the answers to the kernel; and what is opened.
CALLS = (
    "openat,openat2,pwrite64,writev,ftruncate,fallocate,fdatasync,fsync,flock,unlinkat,"
    "renameat,renameat2,mkdirat,fchmod,fchown,utimensat,fsetxattr,fremovexattr,dup3"
)
# Those that a disk can fail. Of writev those to the new file: others answer the kernel.
FAILED = (
    "openat,pwrite64,writev,ftruncate,fallocate,fdatasync,fsync,pread64,unlinkat,renameat,"
    "renameat2,fchmod,fchown,utimensat,fsetxattr"
)
ERRORS = ["EIO", "ENOSPC", "EROFS", "EDQUOT"] if LONG else ["EIO"]
OLD = b'{"id":1}\n{"id":2}\n'
MORE, NEW = OLD + b'{"id":3}\n{"id":4}\n', b'{"id":2}\n{"id":5}\n'
STATE, NEXT = b'{"n": 1}\n', b'{"n": 2, "pad": "' + b"x" * 5000 + b'"}\n'
BESIDE, LAST = b'{"id":90}\n', b'{"id":91}\n'


# Name: file, what is in it, what is to be, how, rule, whether the old goes to the archive.
CASES = {
    "extend": ("log.jsonl", OLD, MORE, "written", {"rewrite": "extend"}, False),
    "archive": ("log.jsonl", OLD, NEW, "written", {"rewrite": "archive"}, True),
    "archive, fsync": ("log.jsonl", OLD, NEW, "edited", {"rewrite": "archive"}, True),
    "archive, rename": ("log.jsonl", OLD, NEW, "renamed", {"rewrite": "archive"}, True),
    "state": ("a.json", STATE, NEXT, "written", {"class": "replace"}, False),
    "state, fsync": ("a.json", STATE, NEXT, "edited", {"class": "replace"}, False),
    "state, rename": ("a.json", STATE, NEXT, "renamed", {"class": "replace"}, False),
    "state, last good": ("a.json", STATE, NEXT, "written",
                         {"class": "replace", "onbroken": "last-good"}, False),
}


class Run:
    """One daemon, one rewrite. Of a log also a program beside, which has it open before and
    appends to it afterwards."""

    def __init__(self, v, case):
        self.v, self.told = v, set()
        self.name, self.old, self.new, self.how, rule, self.archived = CASES[case]
        self.log = self.name == "log.jsonl"
        config = v.top / "config.json"
        config.write_text(json.dumps({"rules": [{"match": self.name, **rule}]}))
        self.options = f"config={config}"
        (v.src / self.name).write_bytes(self.old)
        v.start(self.options)
        os.stat(v.mnt)  # what the kernel asks first is over
        wait_for(lambda: self.threads_rest(), "the end of the look for other writers", 60)

    def threads_rest(self):
        """All but the worker sleep, and have not run for a while."""
        before = self.switches()
        time.sleep(0.03)
        return before is not None and before == self.switches()

    def switches(self):
        pid, found = self.v.daemon.pid, []
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/task/{task}/status").read_text()
                if int(task) != pid and "\nState:\tS" not in text:
                    return None
                found.append(re.findall(r"ctxt_switches:\t(\d+)", text))
        return found

    def temporary(self):
        return self.v.src / f".{self.name}.jsonl-new-0"

    def work(self):
        """None, or what is wrong. What is not answered within 60 s is by the daemon's death."""
        argv = [PYTHON, "-IS", CLIENT, self.v.mnt / self.name, self.how, self.new.decode()]
        p = subprocess.Popen(argv + [BESIDE.decode()] * self.log, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        wrong = None
        try:
            out, _ = p.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.v.die()
            out, _ = p.communicate(timeout=10)
            wrong = "no answer within 60 s"
        self.told = set(out.decode().split())
        return wrong

    def judge(self, died):
        """What is wrong, or None."""
        data = (self.v.src / self.name).read_bytes()
        there = data.removesuffix(BESIDE) if data not in (self.old, self.new) else data
        if there not in (self.old, self.new):
            return f"neither the old nor the new: {data[:200]!r}"
        # Whom close cannot tell has the log: the last close was not seen as such in time.
        logged = "rewrite-failed" in self.v.log.read_text()
        if "committed" in self.told and there != self.new and not logged:
            return "told that it is the new one, and it is not"
        if "appended" in self.told and not data.endswith(BESIDE):
            return "a record of the program beside is gone"
        archive = [f.read_bytes() for f in (self.v.src / ".jsonlfs/archive").glob("*")]
        if there == self.new and self.archived and self.old not in archive:
            return f"the old one is not in the archive: {archive}"
        if "wrote" in self.told and there == self.old and not died:
            if self.new not in self.v.saved():
                return "refused, and not in the quarantine"
        return self.judge_names(there, died)

    def judge_names(self, there, died):
        temporary = self.temporary().name[:-1]
        names = {f.name for f in self.v.src.iterdir()} - {".jsonlfs", self.name}
        if self.how == "renamed" and "committed" not in self.told:
            names.discard(f"{self.name}-new")
        left = {n for n in names if n.startswith(temporary)}
        if names - left or len(left) > died:
            return f"left behind: {names}"
        return None

    def go_on(self):
        """The next daemon."""
        path = self.v.mnt / self.name
        self.v.start(self.options)
        before = (self.v.src / self.name).read_bytes()
        try:
            if self.log:
                with open(path, "ab") as f:
                    f.write(LAST)
            else:
                path.write_bytes(b"[]")
        except OSError as e:
            return f"nothing can be written any more: {e}"
        status = self.v.stop()
        after = before + LAST if self.log else b"[]"
        if status or (self.v.src / self.name).read_bytes() != after:
            return f"the next daemon ended with {status} and left something else"
        return None


def census(case, calls, tmp_path):
    """How often each call is made, at most, by one thread: so strace counts."""
    with vault() as v:
        run = Run(v, case)
        trace = Strace(v.daemon.pid, calls, out=tmp_path / "trace")
        wrong = run.work()
        trace.end()
        told = run.told
        assert not wrong and "committed" in told, (wrong, told)
        assert v.stop() == 0 and not run.judge(False) and not run.go_on()
    counts = Counter()
    for line in (tmp_path / "trace").read_text(errors="replace").splitlines():
        m = re.match(r"(\d+ +)?(\w+)\(", line)
        if m:
            counts[m.group(1), m.group(2)] += 1
    most = Counter()
    for (_, call), count in counts.items():
        most[call] = max(most[call], count)
    return most


def injected(case, call, inject):
    """(what is wrong or None, whether the daemon died)."""
    with vault() as v:
        run = Run(v, case)
        on = run.temporary() if call == "writev" and "error" in inject else None
        trace = Strace(v.daemon.pid, call, f"{call}:{inject}", path=on)
        wrong = run.work()
        trace.end(harsh=True)
        # Soon after the last answer, if the call was made at all.
        try:
            died = v.daemon.wait(2 if "signal" in inject else 0) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            died = False
        if not died and not wrong and v.stop():
            wrong = "the daemon did not end well"
        v.kill()
        return wrong or run.judge(died) or run.go_on(), died


def failing(case, calls, tmp_path):
    counts = census(case, calls, tmp_path)
    if counts.pop("writev", 0):
        counts["writev"] = 0 if case == "extend" else 1
    return counts


@pytest.mark.parametrize("case", CASES if LONG else ["archive"])
def test_killed_at_every_call(case, tmp_path):
    counts, violations, deaths = census(case, CALLS, tmp_path), [], Counter()
    for call, when in each_call(counts):
        wrong, died = injected(case, call, f"signal=KILL:when={when}")
        deaths[call] += died
        if wrong:
            violations.append(f"{call} {when}: {wrong}")
    runs = sum(counts.values())
    print(f"\n{case}: {dict(counts)}; killed at {deaths.total()} of {runs} calls, "
          f"{len(violations)} violations")
    assert not violations, "\n".join(violations)
    # How often it looks into /proc for the last close, and answers, differs from run to run.
    for call in ("renameat", "fsync", "pwrite64", "fchmod"):
        assert deaths[call] == counts[call], f"{call}: {deaths} deaths, {counts} calls"


@pytest.mark.parametrize("case", CASES if LONG else ["state"])
def test_failed_at_every_call(case, tmp_path):
    counts, violations, runs = failing(case, FAILED, tmp_path), [], 0
    for call, when in each_call(counts):
        for error in ERRORS:
            wrong, _ = injected(case, call, f"error={error}:when={when}")
            runs += 1
            if wrong:
                violations.append(f"{call} {when} {error}: {wrong}")
    print(f"\n{case}: {dict(counts)}; {runs} failed calls, {len(violations)} violations")
    assert runs and not violations, "\n".join(violations)


@pytest.mark.parametrize("case", ["archive", "state"])
def test_the_rig_sees_what_is_only_said(case):
    """A rename that says that it was done, and was not."""
    wrong, died = injected(case, "renameat", "retval=0:when=1")
    assert wrong == "told that it is the new one, and it is not" and not died


@pytest.mark.parametrize("case", ["extend", "archive", "archive, fsync", "state, fsync"])
def test_a_content_whose_write_failed_does_not_replace_the_old(case):
    """The program goes on to close it, half as it is."""
    for call in ("pwrite64", "ftruncate") if case.endswith("fsync") else ("pwrite64",):
        assert injected(case, call, "error=ENOSPC:when=1") == (None, False)


def test_a_replacement_whose_directory_was_not_synced_is_not_made_twice():
    """fsync tells of it, and the content is in place all the same: what the close finds there
    is its own, not the log that its program has read."""
    new = b'{"id":"x","what":"longer than all before"}\n{"id":"y"}\n'
    with vault() as v:
        v.file().write_bytes(OLD)
        config = v.top / "config.json"
        config.write_text(json.dumps({"rules": [{"match": "log.jsonl", "rewrite": "archive"}]}))
        v.start(f"config={config}")
        v.rest()
        fd = os.open(v.mnt / "log.jsonl", os.O_RDWR)
        os.read(fd, 100)
        os.ftruncate(fd, 0)
        os.pwrite(fd, new, 0)
        trace = Strace(v.daemon.pid, "fsync", "fsync:error=EIO:when=1", path=v.src)
        with pytest.raises(OSError, match="Input/output"):
            os.fsync(fd)
        trace.end()
        with open(v.mnt / "log.jsonl", "ab") as f:
            f.write(LAST)
        os.close(fd)
        assert v.stop() == 0 and v.file().read_bytes() == new + LAST


@pytest.mark.parametrize("rewrite", ["archive", "deny"])
@pytest.mark.parametrize("call", ["fchmod", "unlinkat", "utimensat"])
def test_what_a_rename_has_appended_it_does_not_put_there_again(call, rewrite):
    """The source extends the log, and what is not content cannot be done. That is no reason to
    take its content for one that does not begin with what is recorded."""
    with vault() as v:
        v.file().write_bytes(OLD)
        config = v.top / "config.json"
        config.write_text(json.dumps({"rules": [{"match": "log.jsonl", "rewrite": rewrite}]}))
        v.start(f"config={config}")
        v.rest()
        new, log = v.mnt / "new", v.mnt / "log.jsonl"
        new.write_bytes(log.read_bytes() + LAST)
        new.chmod(0o600)
        trace = Strace(v.daemon.pid, call, f"{call}:error=EPERM:when=1",
                       path=v.src if call == "unlinkat" else v.file())
        told = None
        try:
            os.rename(new, log)
        except OSError as e:
            told = e.errno
        trace.end()
        assert told in (None, errno.EPERM)
        # Of an ordinary user's mount the log of another user has a mode that cannot be changed.
        in_it = told is None or call == "unlinkat"
        assert v.file().read_bytes() == (OLD + LAST if in_it else OLD)
        assert told is None or call != "utimensat"
        if told:
            os.rename(new, log)
        assert v.stop() == 0 and v.file().read_bytes() == OLD + LAST and not new.exists()


@pytest.mark.parametrize("onbroken", ["error", "empty", "last-good"])
@pytest.mark.parametrize("call", ["fsync", "openat", "writev", "renameat2", "fchmod"])
def test_a_broken_state_file_does_not_vanish(call, onbroken):
    """What fails while it is moved aside, and something is put in its place, is made good at
    the next open."""
    with vault() as v:
        config = v.top / "config.json"
        config.write_text(json.dumps({"rules": [
            {"match": "a.json", "class": "replace", "onbroken": onbroken}]}))
        v.start(f"config={config}")
        (v.mnt / "a.json").write_bytes(STATE)
        assert v.stop() == 0
        (v.src / "a.json").write_bytes(b'{"broken":')
        v.start(f"config={config}")
        v.rest()
        on = v.src / ".a.json.jsonl-new-0" if call in ("openat", "writev", "fchmod") else v.src
        trace = Strace(v.daemon.pid, call, f"{call}:error=EIO:when=1", path=on)
        with contextlib.suppress(OSError):
            (v.mnt / "a.json").read_bytes()
        trace.end()
        found = []
        for _ in range(3):
            try:
                found.append((v.mnt / "a.json").read_bytes())
            except OSError as e:
                found.append(e.errno)
        (v.mnt / "a.json").write_bytes(NEXT)
        assert v.stop() == 0 and (v.src / "a.json").read_bytes() == NEXT
        aside = [f.read_bytes() for f in v.src.iterdir() if ".bak-" in f.name]
        assert aside == [b'{"broken":'] and not [*v.src.glob(".a.json.*")]
        last = {"error": errno.ENOENT, "empty": b"", "last-good": STATE}[onbroken]
        assert found[-1] == last, found


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("call", ["renameat", "fchmod", "fsync"])
def test_a_state_file_that_a_sync_could_not_replace(call, lasting):
    """What fails once is done by the next sync, or the close; what goes on failing each of them
    tells."""
    with vault() as v:
        (v.src / "a.json").write_bytes(STATE)
        config = v.top / "config.json"
        config.write_text(json.dumps({"rules": [{"match": "a.json", "class": "replace"}]}))
        v.start(f"config={config}")
        v.rest()
        for step in (os.fsync, os.close):
            fd = os.open(v.mnt / "a.json", os.O_WRONLY | os.O_TRUNC)
            os.write(fd, NEXT)
            on = v.src if call == "fsync" else None
            trace = Strace(v.daemon.pid, call, f"{call}:error=EIO:when=1" + "+" * lasting, path=on)
            with pytest.raises(OSError, match="Input/output"):
                os.fsync(fd)
            told = []
            for what in dict.fromkeys((step, os.close)):
                try:
                    what(fd)
                except OSError as e:
                    told.append(e.errno)
            trace.end()
            saved = v.saved()
            if lasting:
                assert told == [errno.EIO] * (1 + (step == os.fsync)) and NEXT in saved
            else:
                assert not told and NEXT not in saved
                assert (v.src / "a.json").read_bytes() == NEXT
                (v.mnt / "a.json").write_bytes(STATE)
        assert v.stop() == 0
        if call != "fsync" and lasting:
            assert (v.src / "a.json").read_bytes() == STATE


@contextlib.contextmanager
def written_anew(name, content):
    """A vault in which the log or state file of that name may be."""
    rule = {"rewrite": "archive"} if name == "log.jsonl" else {"class": "replace"}
    with vault() as v:
        (v.src / name).write_bytes(content)
        config = v.top / "config.json"
        config.write_text(json.dumps({"rules": [{"match": name, **rule}]}))
        v.start(f"config={config}")
        v.rest()
        yield v


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("name", ["log.jsonl", "a.json"])
def test_a_truncation_that_failed_is_not_made_good_by_a_write(name, begun):
    """By a program that does not look. begun: it has written something before."""
    old, new = (OLD, b'{"id":8}\n') if name == "log.jsonl" else (STATE + b" " * 8, b'{"n":2}\n')
    with written_anew(name, old) as v:
        for again in (False, True):
            fd = os.open(v.mnt / name, os.O_RDWR)
            os.read(fd, 100)
            if begun:
                os.pwrite(fd, old[:1], 0)
            call, on = ("ftruncate", None) if begun else ("openat", v.daemon_directory())
            trace = Strace(v.daemon.pid, call, f"{call}:error=EMFILE:when=1", path=on)
            with pytest.raises(OSError, match="Too many open files"):
                os.ftruncate(fd, 0)
            trace.end()
            if again:
                os.ftruncate(fd, 0)
            os.pwrite(fd, new, 0)
            if again:
                os.close(fd)
                continue
            with pytest.raises(OSError, match="Too many open files"):
                os.close(fd)
            assert (v.src / name).read_bytes() == old and new in v.saved()
        assert v.stop() == 0 and (v.src / name).read_bytes() == new


@pytest.mark.parametrize("name", ["log.jsonl", "a.json"])
def test_a_write_for_which_nothing_could_be_begun_is_missing(name):
    """The next one, elsewhere, is not all that was to be changed."""
    old, new = (OLD, b'{"id":8}\n{"id":9}\n') if name == "log.jsonl" else (b"[1,2]", b"[3,4]")
    at = len(old) // 2
    with written_anew(name, old) as v:
        for again in (False, True):
            fd = os.open(v.mnt / name, os.O_RDWR)
            os.read(fd, 100)
            trace = Strace(v.daemon.pid, "openat", "openat:error=EMFILE:when=1",
                           path=v.daemon_directory())
            with pytest.raises(OSError, match="Too many open files"):
                os.pwrite(fd, new[:at], 0)
            trace.end()
            os.pwrite(fd, new[at:], at)
            if again:
                os.pwrite(fd, new[:at], 0)
                os.close(fd)
                continue
            with pytest.raises(OSError, match="Too many open files"):
                os.close(fd)
            assert (v.src / name).read_bytes() == old
        assert v.stop() == 0 and (v.src / name).read_bytes() == new


def test_a_log_that_could_not_be_opened_again_for_appending():
    """After the question for writers outside, which cannot be asked with it open."""
    ctl = BUILD / "fs" / "ctl" / "jsonlfsctl"
    with vault() as v:
        v.file().write_bytes(OLD + b"oops\n")
        v.start()
        v.rest()
        with open(v.mnt / "log.jsonl", "ab") as f:
            f.write(BESIDE)
        for fd in os.listdir(f"/proc/{v.daemon.pid}/fd"):
            proc = Path(f"/proc/{v.daemon.pid}")
            text = (proc / "fdinfo" / fd).read_text()
            flags = int(re.search(r"flags:\t(\d+)", text)[1], 8) & (os.O_ACCMODE | os.O_PATH)
            if (proc / "fd" / fd).readlink() == v.file() and flags == os.O_RDONLY:
                break
        trace = Strace(v.daemon.pid, "openat", "openat:error=EACCES:when=1",
                       path=f"/proc/self/fd/{fd}")
        p = subprocess.run([ctl, "repair", "--apply", v.mnt / "log.jsonl"], timeout=30,
                           capture_output=True, check=False)
        trace.end()
        assert b"permission denied" in p.stderr
        with open(v.mnt / "log.jsonl", "ab") as f:
            f.write(LAST)
        assert v.stop() == 0 and v.file().read_bytes() == OLD + b"oops\n" + BESIDE + LAST


def test_an_edit_of_what_is_replaced_meanwhile_is_refused():
    """Between the look at what it was made from and the moment when it takes its place."""
    ctl = BUILD / "fs" / "ctl" / "jsonlfsctl"
    with vault() as v:
        v.file().write_bytes(OLD)
        config = v.top / "config.json"
        config.write_text(json.dumps({"rules": [{"match": "log.jsonl", "rewrite": "archive"}]}))
        v.start(f"config={config}")
        v.rest()
        # The first of each thread: that of the worker is over when a program has been answered.
        trace = Strace(v.daemon.pid, "writev", "writev:delay_enter=1000000:when=1")
        assert not (v.mnt / "nothing").exists()
        p = subprocess.Popen([ctl, "delete-record", "--line=1", v.mnt / "log.jsonl"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(0.5)
        (v.mnt / "log.jsonl").write_bytes(NEW)
        out, err = p.communicate(timeout=20)
        trace.end()
        assert p.returncode and b"changed by somebody else" in err, (out, err)
        assert v.stop() == 0 and v.file().read_bytes() == NEW
