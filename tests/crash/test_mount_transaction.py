# SPDX-License-Identifier: MIT
"""commit=close and class text with the daemon killed at every system call that it makes for
them, and every such call failed. As in test_mount_inject.py: one worker, a census first, then a run
for each (call, number).

The invariant: what one handle wrote is in the file whole, in one piece, or not at all; whole if its
close returned 0; and what others have appended is there, also what a program outside appends
between the daemon's death and the next one. "mark": on a disk that keeps metadata in order, where the
intent is an attribute of the log; "file": where it is a file."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections import Counter

import pytest

from disk import disk
from mount_rig import (
    BUILD, LONG, Ledger, Strace, Vault, client, each_call, is_mounted, wait_for)

CALLS = (
    "writev,pwritev2,ftruncate,fdatasync,fsync,flock,unlinkat,fsetxattr,fremovexattr"
    + (",openat,openat2,close" if LONG else "")
)
# Those that a disk can fail; the worker's writev and openat of others answer and ask /proc.
FAILED = "ftruncate,fdatasync,fsync,flock,unlinkat,fsetxattr,fremovexattr,pwritev2"
ERRORS = ["EIO", "ENOSPC"]
RECOVERY = "writev,ftruncate,fdatasync,fsync,flock,unlinkat,fremovexattr"
BASE, OUTSIDE = b'{"id":"base","pad":""}\n', b'{"id":"outside"}\n'
BLOCK = 3
# Name of the file, options, steps of the client.
CASES = {
    "block": ("log.jsonl", "commit=close", ["append:a", f"block:b:{BLOCK}", f"block:c:{BLOCK}"]),
    "synced on the way": ("log.jsonl", "commit=close", [f"fsync:b:{BLOCK}", "append:c"]),
    "text": ("log.jsonl", "class", [f"block:b:{BLOCK}", f"block:c:{BLOCK}"]),
}


@contextlib.contextmanager
def places(kind):
    """Makes vaults, one after the other, that are empty."""
    with contextlib.ExitStack() as stack:
        where = None
        if kind == "mark":
            d = stack.enter_context(disk("ext4"))
            d.mount()
            where = d.at / "src"

        def make():
            if where:
                shutil.rmtree(where, ignore_errors=True)
            return Vault(where)

        yield make


class Run:
    def __init__(self, make, case):
        self.v, self.case = make(), case
        name, option, self.steps = CASES[case]
        self.file = self.v.src / name
        self.ledger = Ledger()
        self.ledger.durable.append("base")
        self.ledger.tried |= {"base", "outside"}
        self.file.write_bytes(BASE)
        self.options = option
        if option == "class":
            config = self.v.top / "config.json"
            config.write_text(json.dumps({"rules": [{"match": name, "class": "text"}]}))
            self.options = f"config={config}"
        self.v.start(self.options)
        self.v.rest()

    def work(self):
        # Only the close says that it is in the file; before, it may go with the daemon.
        said = client(self.v, *self.steps)
        self.ledger.note([("part" if what == "write" else what, *rest)
                          for what, *rest in said if what != "fsync"])

    def outside(self):
        """After the daemon's death, as a program does that does not know of it."""
        with open(self.file, "ab") as f:
            f.write(OUTSIDE)
        self.ledger.durable.append("outside")

    def judge(self):
        """None, or what is wrong."""
        data = self.file.read_bytes()
        names = [json.loads(line)["id"] for line in data.splitlines()]
        for block in "bc":
            at = [n for n, name in enumerate(names) if name.startswith(block + "-")]
            if at and at != list(range(at[0], at[0] + BLOCK)):
                return f"a part of a block: {names}"
        return self.ledger.check(data, b"", power=True)

    def go_on(self):
        self.v.start(self.options)
        said = client(self.v, "append:z")
        self.ledger.note([s for s in said if s[0] != "write"])
        if not any(what == "close" and not code for what, _, code, *_ in said):
            return f"nothing can be appended any more: {said}"
        if status := self.v.stop():
            return f"the next daemon ended with {status}"
        left = self.v.daemon_files()
        return self.judge() or (f"left behind: {left}" if left else None)


def census(make, case, calls, tmp_path, path=None):
    run = Run(make, case)
    try:
        trace = Strace(run.v.daemon.pid, calls, out=tmp_path / "trace", path=path and run.file)
        run.work()
        trace.end()
        assert run.v.stop() == 0 and run.judge() is None
        assert "b-00001" in run.ledger.durable or case == "synced on the way"
    finally:
        run.v.remove()
    text = (tmp_path / "trace").read_text(errors="replace")
    return Counter(re.findall(r"^(?:\d+ +)?(\w+)\(", text, re.M))


def injected(make, case, call, inject, path=False):
    """(what is wrong or None, whether the daemon died)."""
    run = Run(make, case)
    try:
        trace = Strace(run.v.daemon.pid, call, f"{call}:{inject}", path=run.file if path else None)
        run.work()
        # The last answer, to RELEASE, may come when the program has ended.
        try:
            died = run.v.daemon.wait(2 if "signal" in inject else 0) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            died = False
        trace.end(harsh=True)
        if not died and run.v.stop():
            return "the daemon did not end well", died
        run.v.kill()
        if died:
            run.outside()
        return run.go_on(), died
    finally:
        run.v.remove()


# ---- recovery ----


def interrupted(make):
    """A vault whose daemon died before a block was durable, of which a part is there."""
    run = Run(make, "block")
    with contextlib.suppress(AssertionError):
        # The second sync of the log is the block's; the first is that of a record alone.
        trace = Strace(run.v.daemon.pid, "fdatasync", "fdatasync:signal=KILL:when=2",
                       path=run.file)
        run.work()
        trace.end(harsh=True)
    assert run.v.daemon.wait(10) == -signal.SIGKILL
    run.v.kill()
    data = run.file.read_bytes()
    assert data.count(b'"b-') == BLOCK, data
    run.file.write_bytes(data[:-10])
    return run


def recovering(run, *injects, out="/dev/null"):
    """Mounts under strace, and unmounts if that went well."""
    argv = ["strace", "-f", "-q", "-e", f"trace={RECOVERY}", "-o", str(out)]
    for inject in injects:
        argv += ["-e", f"inject={inject}"]
    argv += [str(BUILD / "fs" / "jsonlfs"), "-f", "-s", "-o", run.options, str(run.v.src),
             str(run.v.mnt)]
    with open(run.v.log, "ab") as log:
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    wait_for(lambda: is_mounted(run.v.mnt) or p.poll() is not None, "the mount or its end", 60)
    if p.poll() is None:
        subprocess.run(["umount", run.v.mnt], check=False, timeout=20)
        p.wait(20)
    run.v.kill()


@pytest.mark.parametrize("kind", ["mark", "file"] if LONG else ["mark"])
def test_recovery_killed_and_failed_at_every_call(kind, tmp_path):
    violations, runs = [], 0
    with places(kind) as make:
        run = interrupted(make)
        recovering(run, out=tmp_path / "trace")
        assert run.go_on() is None and run.v.said("transaction-recovered"), run.v.log.read_text()
        text = (tmp_path / "trace").read_text(errors="replace")
        run.v.remove()
        counts = Counter(re.findall(r"^(?:\d+ +)?(\w+)\(", text, re.M))
        for call, when in each_call(counts):
            # Who fails a writev may have failed an answer: nobody would wait for the next.
            for how in ["signal=KILL"] + (["error=EIO"] if LONG and call != "writev" else []):
                run = interrupted(make)
                recovering(run, f"{call}:{how}:when={when}")
                wrong, runs = run.go_on(), runs + 1
                run.v.remove()
                if wrong:
                    violations.append(f"{call} {when} {how}: {wrong}")
    print(f"\n{kind}: {dict(counts)}; {runs} recoveries hindered, {len(violations)} violations")
    assert runs > 5 and not violations, "\n".join(violations)


def test_the_intent_of_a_stage_that_cannot_be_removed_stays():
    """It says that the block is in the log: the next mount does not append it again."""
    with places("file") as make:
        run = Run(make, "block")
        try:
            assert run.v.stop() == 0
            at = run.v.src / ".jsonlfs" / "daemon"
            at.mkdir(0o700, parents=True, exist_ok=True)
            block = b"".join(b'{"id":"b-%05d"}\n' % n for n in range(BLOCK))
            (at / "stage-1-1").write_bytes(b"jsonlfs stage 9\nlog.jsonl\n" + block)
            run.options += ",killed=commit"
            # Third: after those of the intent.
            recovering(run, "unlinkat:error=EIO:when=1", "ftruncate:error=EIO:when=3")
            assert run.v.said("stage-stays"), run.v.log.read_text()
            run.v.start(run.options)
            assert run.v.stop() == 0
            assert run.file.read_bytes() == BASE + block
            assert not run.v.daemon_files()
        finally:
            run.v.remove()


SLICE = [("mark", "block"), ("file", "text")]
ALL = [(kind, case) for kind in ("mark", "file") for case in CASES]


@pytest.mark.parametrize("kind, case", ALL if LONG else SLICE)
def test_killed_at_every_call(kind, case, tmp_path):
    violations, deaths = [], 0
    with places(kind) as make:
        counts = census(make, case, CALLS, tmp_path)
        assert (kind == "mark" and case == "block") == bool(counts["fsetxattr"]), counts
        for call, when in each_call(counts):
            wrong, died = injected(make, case, call, f"signal=KILL:when={when}")
            deaths += died
            if wrong:
                violations.append(f"{call} {when}: {wrong}")
    runs = sum(counts.values())
    print(f"\n{kind}, {case}: {dict(counts)}; killed at {deaths} of {runs} calls, "
          f"{len(violations)} violations")
    assert not violations, "\n".join(violations)
    assert deaths >= runs - counts["close"] - counts["unlinkat"], (deaths, counts)


@pytest.mark.parametrize("kind, case", ALL if LONG else SLICE)
def test_failed_at_every_call(kind, case, tmp_path):
    violations, runs = [], 0
    with places(kind) as make:
        counts = census(make, case, FAILED, tmp_path)
        for call, when in each_call(counts):
            for error in ERRORS if LONG else ERRORS[:1]:
                wrong, _ = injected(make, case, call, f"error={error}:when={when}")
                runs += 1
                if wrong:
                    violations.append(f"{call} {when} {error}: {wrong}")
    print(f"\n{kind}, {case}: {dict(counts)}; {runs} failed calls, {len(violations)} violations")
    assert runs and not violations, "\n".join(violations)


@pytest.mark.parametrize("case", ["block", "text"])
def test_the_rig_sees_an_append_that_is_only_said(case):
    with places("file") as make:
        call = "pwritev2" if case == "text" else "writev"
        length = sum(len(json.dumps({"id": f"b-{n:05d}", "pad": ""})) + 1 for n in range(BLOCK))
        # Of the block case the first append is that of a record alone.
        when = 1 if case == "text" else 2
        wrong, died = injected(make, case, call, f"retval={length}:when={when}", path=True)
    assert not died and wrong and "gone" in wrong, wrong


def test_the_rig_sees_a_part_of_a_block():
    with places("file") as make:
        run = Run(make, "block")
        try:
            run.work()
            run.v.kill()
            run.file.write_bytes(b"".join(run.file.read_bytes().splitlines(True)[:-1]))
            assert "a part" in run.judge()
        finally:
            run.v.remove()
