# SPDX-License-Identifier: MIT
"""Requests that wait hold no others up: the thread that reads requests gives that role away
before it waits, and where nobody could foresee a wait the role is taken from it."""

import contextlib
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from util import BUILD, PYTHON, append, opened, running, traced, wait_for

RECORD = b'{"n":1}\n'


# Its attribute is asked for where nothing of it is kept, and no lock of the kernel is in the
# way of others.
ASKS = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
print("open", flush=True)
sys.stdin.readline()
try:
    os.getxattr(fd, "user.x")
except OSError:
    pass
"""


@pytest.fixture
def stopped(workdir, mount):
    """stopped(count, *options) -> (mount, programs, go on). Part of the vault is the file
    system of a process that is stopped; a request of each program waits for it."""
    with contextlib.ExitStack() as stack:

        def make(count, *options):
            source = workdir / "source"
            part = source / "slow"
            part.mkdir(parents=True)
            server = stack.enter_context(running(BUILD / "tests" / "bench" / "nullfs", part))
            stack.callback(lambda: subprocess.run(["umount", "-l", part], check=False))
            stack.callback(lambda: server.send_signal(signal.SIGCONT))
            wait_for(lambda: os.path.ismount(part), "the part")
            m = mount(*options, source=source)
            programs = [
                stack.enter_context(
                    running(PYTHON, "-c", ASKS, m.p("slow/x"), stdin=subprocess.PIPE))
                for _ in range(count)
            ]
            for p in programs:
                assert p.stdout.readline() == b"open\n"
            server.send_signal(signal.SIGSTOP)
            wait_for(lambda: stands(server.pid), "the stop")
            for p in programs:
                p.stdin.write(b"\n")
                p.stdin.flush()
                wait_for(lambda p=p: waits(p.pid), "a request")
            return m, programs, lambda: server.send_signal(signal.SIGCONT)

        yield make


def stands(pid):
    """Each thread of it is stopped."""
    return all("State:\tT" in (t / "status").read_text(encoding="ascii")
               for t in Path(f"/proc/{pid}/task").iterdir())


def waits(pid):
    with open(f"/proc/{pid}/wchan", encoding="ascii") as f:
        return f.read() == "request_wait_answer"


def ended(programs):
    for p in programs:
        p.communicate(timeout=60)
        assert p.returncode == 0


def test_requests_that_wait_hold_no_others_up(stopped):
    m, programs, go_on = stopped(8)
    for n in range(100):
        append(m.p("x.jsonl"), b"%d\n" % n)
        m.p("plain").write_bytes(b"%d" % n)
    assert m.both("x.jsonl") == b"".join(b"%d\n" % n for n in range(100))
    assert all(p.poll() is None for p in programs)
    go_on()
    ended(programs)


def test_at_most_so_many_at_a_time(stopped):
    m, programs, go_on = stopped(5, "max_threads=3")
    with running("stat", m.p("x.jsonl")) as late:
        with pytest.raises(subprocess.TimeoutExpired):
            late.wait(1)
    go_on()
    ended(programs)
    append(m.p("x.jsonl"), RECORD)


def test_a_signal_ends_a_mount_whose_requests_wait(stopped):
    """What was appended before is kept; the mount ends when those requests do."""
    m, programs, go_on = stopped(2)
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
        os.write(fd, RECORD)
        m.proc.send_signal(signal.SIGTERM)
        go_on()
        m.proc.wait(20)
    for p in programs:
        p.communicate(timeout=20)
    assert m.b("x.jsonl").read_bytes() == RECORD


@pytest.mark.once
def test_who_writes_alone_pays_for_no_hand_over(mount, workdir):
    """Nobody needs the role while the only program waits for its sync; on a disk whose syncs
    are short, else the watch would take it. A busy machine makes them long: one quiet moment
    in many is enough."""
    counts = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as source:
        m = mount(source=Path(source))
        for n in range(200):
            append(m.p("x.jsonl"), b"%d\n" % n)
        while min(counts, default=400) >= 400 and len(counts) < 20:
            with traced(m, "-e", "trace=futex", "-o", workdir / "trace"):
                for n in range(400):
                    append(m.p("x.jsonl"), b"%d\n" % n)
            counts.append((workdir / "trace").read_text(encoding="ascii").count("futex("))
        m.stop()
    assert min(counts) < 400, counts
