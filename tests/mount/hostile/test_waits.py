# SPDX-License-Identifier: MIT
"""What one user's requests wait for is not waited for by others."""

import errno
import json
import os
import signal
import socket
import time

import pytest
from util import DAMAGE, PYTHON, append, as_user, ctl, outcome, refused, running

EVE, ADA = 12001, 12002
MANY = 30
RENAMES = """
import os, sys
for n in range(int(sys.argv[1])):
    if os.fork() == 0:
        os.mkdir(f"d{n}")  # the kernel has one rename in a directory at a time
        plain = open(f"d{n}/p", "w")
        print("ready", flush=True)
        while os.getppid() != 1:
            try:
                os.rename(f"d{n}/p", f"d{n}/p.jsonl")
            except OSError:
                pass
        os._exit(0)
for n in range(int(sys.argv[1])):
    os.wait()
"""


@pytest.mark.limit(120)
def test_renames_of_files_that_are_being_written(m):
    """Each of them waits for a close that does not come."""
    m.p("own").mkdir()
    os.chown(m.p("own"), EVE, EVE)
    append(m.p("ada.jsonl"), b"0\n")
    os.chown(m.p("ada.jsonl"), ADA, ADA)

    def appends():
        begin = time.monotonic()
        append(m.p("ada.jsonl"), b"1\n")
        return time.monotonic() - begin

    with running(PYTHON, "-c", RENAMES, MANY, cwd=m.p("own"), user=EVE, group=EVE,
                 extra_groups=[], start_new_session=True) as p:
        try:
            for _ in range(MANY):
                assert p.stdout.readline() == b"ready\n", p.stderr.read()
            took = as_user(ADA, lambda: sorted(appends() for _ in range(5)))
            assert took[2] < 0.4, took
        finally:
            os.killpg(p.pid, signal.SIGKILL)
    # Their last answers are still to come.
    assert outcome(lambda: os.rmdir(m.p("own"))) == errno.ENOTEMPTY


def test_failed_requests_do_not_fill_the_log(m):
    append(m.p("own.jsonl"), b"0\n")
    os.chown(m.p("own.jsonl"), EVE, EVE)
    where = m.status()["control"]

    def fails():
        begin = time.monotonic()
        request = {"verb": "replace", "path": "own.jsonl", "as": "x" * 10000}
        for _ in range(200):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
                s.connect(where)
                s.send(json.dumps(request).encode())
                assert json.loads(s.recv(1 << 16))["error"] == errno.EINVAL
        return time.monotonic() - begin

    took = as_user(EVE, fails, 60)
    lines = m.log_lines("replace-failed path=")
    # A burst of 50, and 10 a second.
    assert 0 < len(lines) <= 51 + 10 * took and max(map(len, lines)) < 400
    assert len(lines) == 200 or m.status()["log"]["suppressed"] > 0
    # Those of others are told.
    ctl("replace", m.p("own.jsonl"), stdin=b"{bad\n", code=DAMAGE)


def test_a_rename_of_a_file_that_is_being_written(m):
    with open(m.p("plain"), "w") as f:
        f.write('{"n": 1}\n')
        f.flush()
        with refused(errno.ETXTBSY):
            os.rename(m.p("plain"), m.p("y.jsonl"))
    m.expect_log("denied", "close it first")
    os.rename(m.p("plain"), m.p("y.jsonl"))
    assert m.both("y.jsonl") == b'{"n": 1}\n'


def test_a_large_file_is_judged_by_the_pool(m):
    line = b'{"n": 1, "pad": "' + b"x" * 1000 + b'"}\n'
    m.p("plain").write_bytes(line * 4000)
    os.rename(m.p("plain"), m.p("x.jsonl"))
    assert m.both("x.jsonl") == line * 4000
    m.p("plain").write_bytes(line * 4000 + b"{bad\n")
    with refused(errno.EBADMSG):
        os.rename(m.p("plain"), m.p("y.jsonl"))
    m.p("plain").write_bytes(line * 4001)
    os.rename(m.p("plain"), m.p("x.jsonl"))
    assert m.both("x.jsonl") == line * 4001
