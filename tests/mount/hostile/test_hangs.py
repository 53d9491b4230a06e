# SPDX-License-Identifier: MIT
"""Ordinary users whose processes cannot be looked at, and whose descriptors cannot be closed:
everybody else goes on, the mount ends, and is there again."""

import contextlib
import errno
import json
import os
import signal
import socket
import time

import pytest
from util import append, as_user, ctl, opened, run, running, wait_for

EVE, ADA = 12001, 12002
ATTACKERS = 14  # more than there are workers


@contextlib.contextmanager
def attacker(hang, place, how, target, uid):
    """A process that hangs. Another run of tests may have cut its file system off, whose
    number had been that of a mount of its own: then it is started again."""
    for _ in range(5):
        with running(hang, how, place, target, user=uid, group=uid, extra_groups=[],
                     start_new_session=True) as p:
            try:
                if p.stdout.readline() == b"ready\n":
                    yield p
                    return
            finally:
                # With its file system, or it could not even be killed.
                os.killpg(p.pid, signal.SIGKILL)
            assert b"not connected" in (said := p.stderr.read()), said
    raise AssertionError("it does not hang")


@contextlib.contextmanager
def attackers(hang, workdir, how, targets, uid=EVE):
    """Processes that hang, one for each target; all have asked something of the daemon."""
    with contextlib.ExitStack() as stack:
        everybody = []
        for n, target in enumerate(targets):
            place = workdir / f"own{uid}-{n}"
            place.mkdir(exist_ok=True)
            os.chown(place, uid, uid)
            everybody.append(stack.enter_context(attacker(hang, place, how, target, uid)))
        time.sleep(0.3)
        yield everybody


def written(p, seconds=20):
    os.set_blocking(p.stdout.fileno(), False)
    wait_for(lambda: p.stdout.read() == b"written\n", "an answer", seconds)


def is_quick(m, seconds=0.5):
    """Another user's append, and a look at the mount."""
    def appends():
        begin = time.monotonic()
        append(m.p("ada.jsonl"), b"1\n")
        os.stat(m.mnt)
        return time.monotonic() - begin

    took = min(as_user(ADA, appends) for _ in range(3))
    assert took < seconds, f"{took:.2f} s"


@pytest.fixture
def image(workdir):
    """A vault on an ext4 image, a fifth of which is kept back for root."""
    at, file = workdir / "disk", workdir / "image"
    with open(file, "wb") as f:
        f.truncate(16 << 20)
    run("mkfs.ext4", "-q", "-F", "-m", "20", "-b", "4096", "-O", "^has_journal", file, check=0)
    at.mkdir()
    run("mount", "-o", "loop", file, at, check=0)
    (at / "vault").mkdir()
    yield at / "vault"
    run("umount", at, check=0)


@pytest.fixture
def vault(mount):
    def make(*options, **how):
        m = mount(*options, **how)
        os.chmod(m.mnt, 0o1777)
        for n in range(ATTACKERS):
            append(m.p(f"eve{n}.jsonl"), b"0\n")
            os.chown(m.p(f"eve{n}.jsonl"), EVE, EVE)
        return m

    return make


@pytest.mark.parametrize("how, options", [("memory", []), ("epoll", ["commit=close"])])
def test_processes_that_cannot_be_looked_at(hang, workdir, vault, how, options):
    m = vault(*options)
    logs = [m.p(f"eve{n}.jsonl") for n in range(ATTACKERS)]
    with attackers(hang, workdir, how, logs) as everybody:
        is_quick(m)
        for p in everybody:
            written(p)
        assert m.expect_log("mounted")
        m.proc.send_signal(signal.SIGTERM)
        assert m.wait(20) == 0
        m.start()
        is_quick(m)
    m.stop()
    # A transaction whose end was not seen is no transaction.
    expected = b"0\n" if options else b"0\n1\n"
    for n in range(ATTACKERS):
        assert m.b(f"eve{n}.jsonl").read_bytes() == expected


@pytest.mark.parametrize("how, options", [("memory", []), ("epoll", ["commit=close"])])
def test_a_daemon_that_is_killed_meanwhile(hang, workdir, vault, how, options):
    m = vault(*options)
    logs = [m.p(f"eve{n}.jsonl") for n in range(ATTACKERS)]
    with attackers(hang, workdir, how, logs):
        m.proc.kill()
        m.proc.wait(10)  # all of it: no thread is left in the kernel
        with pytest.raises(OSError):
            os.listdir(m.mnt)  # a dead mount, and not the directory below
        m.start()  # the same command takes its place
        is_quick(m)


def test_a_descriptor_that_cannot_be_closed(hang, workdir, vault):
    """It is handed to the control socket: nobody waits for it, and what somebody else has
    left unfinished is kept at the end."""
    m = vault()
    append(m.p("own.jsonl"), b"0\n")
    os.chown(m.p("own.jsonl"), EVE, EVE)
    where = m.status()["control"]
    with opened(m.p("ada.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
        os.write(fd, b'{"unfinished": ')
        with attackers(hang, workdir, "passed", [where] * ATTACKERS) as everybody:
            wait_for(lambda: everybody[0].stdout.readline() == b"written\n", "an attack")
            append(m.p("ada2.jsonl"), b"0\n")
            ctl("replace", m.p("ada2.jsonl"), stdin=b"1\n2\n")
            assert m.p("ada2.jsonl").read_bytes() == b"1\n2\n"
            begin = time.monotonic()
            m.proc.send_signal(signal.SIGTERM)
            assert m.wait(20) == 0
            assert time.monotonic() - begin < 8
            assert m.set_aside("ada.jsonl") == b'{"unfinished": '
    m.start()
    m.stop()


def replace(m, path, *fds):
    """What the daemon says to this request for a log."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(30)
        s.connect(m.status()["control"])
        socket.send_fds(s, [json.dumps({"verb": "replace", "path": path}).encode()], fds)
        return json.loads(s.recv(1 << 16))


def test_a_hole_is_no_new_content(image, workdir, vault):
    """It is not copied beyond the first line that is no record."""
    m = vault("maxrecord=64k", source=image)
    append(m.p("own.jsonl"), b"0\n")
    os.chown(m.p("own.jsonl"), EVE, EVE)
    new = workdir / "new"
    with open(new, "wb") as f:
        f.write(b"1\n")
        f.truncate(100 << 30)
        f.flush()
        begin = time.monotonic()
        with open(new, "rb") as f:
            answer = as_user(EVE, lambda: replace(m, "own.jsonl", f.fileno()))
    assert answer["error"] == errno.EMSGSIZE, answer
    assert time.monotonic() - begin < 8
    assert m.both("own.jsonl") == b"0\n"


def test_a_new_content_is_its_owners(image, workdir, vault):
    """Its blocks are not those that the file system keeps back for root."""
    m = vault(source=image)
    append(m.p("own.jsonl"), b"0\n")
    os.chown(m.p("own.jsonl"), EVE, EVE)
    st = os.statvfs(image)
    assert st.f_bfree > st.f_bavail
    new = workdir / "new"
    new.write_bytes(b'"' + b"x" * 4093 + b'"\n')
    with open(new, "ab") as f:
        for _ in range(st.f_bavail * st.f_frsize // 4096 + 64):
            f.write(b'"' + b"x" * 4093 + b'"\n')
    with open(new, "rb") as f:
        answer = as_user(EVE, lambda: replace(m, "own.jsonl", f.fileno()))
    assert answer["error"] == errno.ENOSPC, answer
    # What was copied goes with its last descriptor, which may be after the answer.
    wait_for(lambda: os.statvfs(image).f_bfree >= st.f_bfree - 64, "the copy is gone")
    assert m.both("own.jsonl") == b"0\n"
