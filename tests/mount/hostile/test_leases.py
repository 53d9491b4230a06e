# SPDX-License-Identifier: MIT
"""Leases on backing files: whoever holds one on a file of his own lets everybody who opens it
wait for 45 seconds. The mount's other users do not notice."""

import contextlib
import errno
import os
import signal
import subprocess
import time

import pytest
from util import PYTHON, append, as_user, opened, outcome, running, wait_for
from vaults import LEASE_HOLDER

EVE, ADA = 12001, 12002
MANY = 14  # more than there are workers

OPENER = """
import os, sys
if sys.argv[2] == "truncate":
    os.truncate(sys.argv[1], 0)
else:
    how = {"append": os.O_WRONLY | os.O_APPEND, "empty": os.O_WRONLY | os.O_TRUNC}
    os.open(sys.argv[1], how.get(sys.argv[2], os.O_RDONLY))
print("opened", flush=True)
"""


@contextlib.contextmanager
def leases(m, names):
    for name in names:
        m.b(name).write_bytes(b"1\n")
        os.chown(m.b(name), EVE, EVE)
        os.chmod(m.b(name), 0o666)
    with running(PYTHON, "-c", LEASE_HOLDER, *(m.b(name) for name in names), user=EVE, group=EVE,
                 stdin=subprocess.PIPE,
                 extra_groups=[]) as p:
        assert p.stdout.readline() == b"held\n", p.stderr.read()
        yield p


def quickly(m):
    """Another user's append, and new files."""
    def work():
        begin = time.monotonic()
        append(m.p("ada.jsonl"), b"1\n")
        with opened(m.p("ada.txt"), os.O_WRONLY | os.O_CREAT):
            pass
        return time.monotonic() - begin

    took = as_user(ADA, work)
    assert took < 2, f"{took:.1f} s"


@pytest.mark.parametrize("how, kind", [("read", "txt"), ("append", "jsonl"), ("read", "jsonl"),
                                       ("empty", "txt"), ("truncate", "txt")])
def test_opens_that_wait_for_leases(m, how, kind):
    os.chmod(m.mnt, 0o1777)
    names = [f"eve{n}.{kind}" for n in range(MANY)]
    with leases(m, names) as holder, contextlib.ExitStack() as stack:
        openers = [stack.enter_context(
            running(PYTHON, "-c", OPENER, m.p(name), how, user=EVE, group=EVE, extra_groups=[]))
            for name in names]
        time.sleep(1)
        quickly(m)
        assert all(p.poll() is None for p in openers)
        # Who is killed does not wait, and who does not want to wait is told.
        openers[0].send_signal(signal.SIGKILL)
        openers[0].wait(5)
        if how == "read":
            code = as_user(EVE, lambda: outcome(
                lambda: os.open(m.p(names[1]), os.O_RDONLY | os.O_NONBLOCK)))
            assert code == errno.EWOULDBLOCK
        holder.stdin.close()
        holder.wait(10)
        for p in openers[1:]:
            assert p.stdout.readline() == b"opened\n", p.stderr.read()
    if how in ("empty", "truncate"):
        assert m.b(names[1]).read_bytes() == b""


def test_the_mount_ends_while_leases_are_held(mount):
    m = mount()
    os.chmod(m.mnt, 0o1777)
    names = [f"eve{n}.txt" for n in range(MANY)]
    with leases(m, names), contextlib.ExitStack() as stack:
        openers = [stack.enter_context(
            running(PYTHON, "-c", OPENER, m.p(name), "read", user=EVE, group=EVE,
                    extra_groups=[])) for name in names]
        time.sleep(0.5)
        quickly(m)
        m.proc.send_signal(signal.SIGTERM)
        assert m.wait(20) == 0
        for p in openers:
            p.wait(10)


def test_renames_and_removals_do_not_wait(m):
    """They keep the directory locked, for everybody."""
    os.chmod(m.mnt, 0o1777)
    with leases(m, ["eve0.jsonl", "eve1.jsonl", "eve.txt"]):
        def work():
            begin = time.monotonic()
            codes = [outcome(lambda: os.rename(m.p("eve0.jsonl"), m.p("new.jsonl"))),
                     outcome(lambda: os.unlink(m.p("eve1.jsonl"))),
                     outcome(lambda: os.rename(m.p("eve.txt"), m.p("eve2.jsonl")))]
            return codes, time.monotonic() - begin

        codes, took = as_user(EVE, work)
        assert set(codes) <= {0, errno.EAGAIN, errno.ETXTBSY}, codes
        assert took < 5
        quickly(m)
    wait_for(lambda: m.b("ada.jsonl").read_bytes() == b"1\n", "the record")
