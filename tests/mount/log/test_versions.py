# SPDX-License-Identifier: MIT
"""A log gets another file in its place while programs read it: who has it open stays with
what was opened, and the next open sees the new one."""

import contextlib
import fcntl
import json
import os
import subprocess
import time

import pytest

import util
from util import append, ctl, opened, wait_for

OLD = b"".join(b'{"old":%d,"pad":"%s"}\n' % (n, b"x" * n) for n in range(40))
LONGER = b"".join(b'{"new":%d,"pad":"%s"}\n' % (n, b"y" * (2 * n)) for n in range(60))
SHORTER = LONGER[: LONGER.index(b'{"new":3,')]


def by_ctl(m, new):
    ctl("replace", m.p("x.jsonl"), stdin=new)


def by_rewrite(m, new):
    with open(m.p("x.jsonl"), "wb") as f:
        f.write(new)


def by_rename(m, new):
    m.p("new.tmp").write_bytes(new)
    m.p("new.tmp").rename(m.p("x.jsonl"))


@pytest.fixture(params=[by_ctl, by_rewrite, by_rename], ids=lambda f: f.__name__)
def replaced(request):
    return request.param


@pytest.fixture(params=[LONGER, SHORTER], ids=["longer", "shorter"])
def new(request):
    return request.param


@pytest.fixture
def m(mount):
    m = mount("rewrite=archive")
    m.p("x.jsonl").write_bytes(OLD)
    return m


def read_on(fd, size=7):
    data = b""
    while piece := os.read(fd, size):
        data += piece
    return data


def test_a_reader_stays_with_what_it_opened(m, replaced, new):
    with opened(m.p("x.jsonl"), os.O_RDONLY) as fd:
        data = b"".join(os.read(fd, 7) for _ in range(30))
        replaced(m, new)
        # Whoever opens the log now has all of the new one.
        assert m.both("x.jsonl") == new
        assert m.p("x.jsonl").stat().st_size == len(new)
        with opened(m.p("x.jsonl"), os.O_RDONLY) as other:
            assert os.fstat(other).st_ino == m.p("x.jsonl").stat().st_ino
            assert os.fstat(other).st_ino != os.fstat(fd).st_ino
            assert read_on(other) == new
        append(m.p("x.jsonl"), b'{"new":"more"}\n')
        assert data + read_on(fd) == OLD
        assert os.fstat(fd).st_size == len(OLD) == os.lseek(fd, 0, os.SEEK_END)
        assert os.pread(fd, 1 << 20, 0) == OLD
        assert os.pread(fd, 10, len(OLD)) == b""
        os.fsync(fd)
    assert m.both("x.jsonl") == new + b'{"new":"more"}\n'


def test_each_reader_has_its_version(m, replaced):
    with contextlib.ExitStack() as stack:
        readers = []
        for n in range(20):
            content = b'{"n":%d}\n' % n * (n + 1)
            replaced(m, content)
            fd = stack.enter_context(opened(m.p("x.jsonl"), os.O_RDONLY))
            readers.append((fd, content, os.fstat(fd).st_ino))
        assert m.p("x.jsonl").read_bytes() == content
        for fd, content, _ in readers:
            assert read_on(fd) == content
        # Nodes of the kernel are told apart for fifteen of them.
        for fd, content, number in readers[:15]:
            assert os.fstat(fd).st_size == len(content)
            assert os.fstat(fd).st_ino == number


def replaced_files(m):
    """How many files that have lost their names the daemon has open."""
    where = f"/proc/{m.proc.pid}/fd"
    found = 0
    for fd in os.listdir(where):
        with contextlib.suppress(FileNotFoundError):
            name = os.readlink(f"{where}/{fd}")
            found += name.startswith(str(m.b(""))) and name.endswith(" (deleted)")
    return found


def test_what_nobody_reads_any_more_is_closed(m, replaced, new):
    fds = [os.open(m.p("x.jsonl"), os.O_RDONLY) for _ in range(3)]
    replaced(m, new)
    assert replaced_files(m) >= 1
    for fd in fds:
        assert read_on(fd) == OLD
        os.close(fd)
    wait_for(lambda: not replaced_files(m), "a closed file")


def test_who_writes_too_goes_over_with_the_next_write(m, replaced, new):
    """It must see what it has appended."""
    with opened(m.p("x.jsonl"), os.O_RDWR | os.O_APPEND) as fd:
        data = b"".join(os.read(fd, 7) for _ in range(30))
        replaced(m, new)
        assert data + read_on(fd) == OLD
        assert os.fstat(fd).st_size == len(OLD)
        os.write(fd, b'{"mine":1}\n')
        expected = new + b'{"mine":1}\n'
        assert m.p("x.jsonl").read_bytes() == expected
        assert m.p("x.jsonl").stat().st_size == len(expected)
        assert os.fstat(fd).st_size == len(expected)
        assert os.pread(fd, 1 << 20, 0) == expected
        os.fsync(fd)
    assert m.both("x.jsonl") == expected


def test_who_writes_too_goes_over_when_it_starts_again(m, replaced, new):
    with open(m.p("x.jsonl"), "a+b") as f:
        f.seek(0)
        assert f.read() == OLD
        replaced(m, new)
        f.seek(0)
        assert f.read() == new
        assert os.fstat(f.fileno()).st_size == len(new)


def test_writers_go_on_beside_a_reader(m, replaced, new):
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND) as w, opened(
        m.p("x.jsonl"), os.O_RDONLY
    ) as r, open(m.p("x.jsonl"), "r+b", buffering=0) as seeking:
        replaced(m, new)
        expected = new
        for n in range(5):
            os.write(w, b'{"w":%d}\n' % n)
            expected += b'{"w":%d}\n' % n
            assert m.p("x.jsonl").stat().st_size == len(expected)
            seeking.seek(0, 2)
            seeking.write(b'{"s":%d}\n' % n)
            expected += b'{"s":%d}\n' % n
            assert m.p("x.jsonl").stat().st_size == len(expected)
            assert m.both("x.jsonl") == expected
            assert os.fstat(r).st_size == len(OLD)
        os.fsync(w)
        assert read_on(r) == OLD
    assert m.both("x.jsonl") == expected


def lines_of(process, until, timeout=20):
    """What it prints until a line has `until` in it."""
    lines = []
    os.set_blocking(process.stdout.fileno(), False)
    end = time.monotonic() + timeout
    rest = b""
    while time.monotonic() < end and not any(until in x for x in lines):
        rest += process.stdout.read() or b""
        *more, rest = rest.split(b"\n")
        lines += more
        time.sleep(0.02)
    return lines


@contextlib.contextmanager
def tail(*args):
    p = subprocess.Popen(
        ["tail", "-s", "0.05", "-n", "+1", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield p
    finally:
        p.kill()
        p.communicate()


def test_tail_by_name_goes_over(m, replaced, new):
    """tail -F prints each line of both versions once, and what comes behind."""
    with tail("-F", str(m.p("x.jsonl"))) as p:
        lines = lines_of(p, b'{"old":39,')
        append(m.p("x.jsonl"), b'{"more":1}\n')
        lines += lines_of(p, b'{"more":1}')
        replaced(m, new)
        append(m.p("x.jsonl"), b'{"more":2}\n')
        lines += lines_of(p, b'{"more":2}')
        append(m.p("x.jsonl"), b'{"more":3}\n')
        lines += lines_of(p, b'{"more":3}')
    everything = OLD + b'{"more":1}\n' + new + b'{"more":2}\n{"more":3}\n'
    assert lines == everything.splitlines()


def test_tail_by_descriptor_stays(m, replaced, new):
    """tail -f is at its end: of the new version it sees nothing, whole or half."""
    with tail("-f", str(m.p("x.jsonl"))) as p:
        lines = lines_of(p, b'{"old":39,')
        replaced(m, new)
        append(m.p("x.jsonl"), b'{"more":2}\n')
        lines += lines_of(p, b"more", timeout=1)
    assert lines == OLD.splitlines()


@pytest.mark.parametrize("replaced", [by_rewrite, by_rename])
def test_locks_hold_where_nobody_reads(m, replaced, new):
    """Without a reader the kernel's node stays, and with it the locks of programs."""
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        replaced(m, new)
        with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND) as other:
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_readers_while_the_log_is_replaced_all_the_time(m, replaced):
    """Versions whose lines differ in length: each reader gets one of them, whole."""
    seen = set()
    versions = [
        b"".join(b'{"v":%d,"n":%d,"p":"%s"}\n' % (v, n, b"z" * v) for n in range(50))
        for v in range(20)
    ]
    stop = m.p("stop")
    replaced(m, versions[0])
    reader = f"""
import json, os, sys
while not os.path.exists({str(stop)!r}):
    fd = os.open({str(m.p("x.jsonl"))!r}, os.O_RDONLY)
    data = b""
    while piece := os.read(fd, 61):
        data += piece
    assert os.fstat(fd).st_size == len(data), (os.fstat(fd), len(data))
    os.close(fd)
    lines = [json.loads(x) for x in data.splitlines()]
    assert len({{x["v"] for x in lines}}) == 1 and len(lines) == 50, data
    print(lines[0]["v"])
"""
    readers = [
        subprocess.Popen(
            [util.PYTHON, "-c", reader], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    n, end = 0, time.monotonic() + 1
    while n < 12 or time.monotonic() < end:
        replaced(m, versions[n % len(versions)])
        n += 1
    stop.touch()
    for p in readers:
        out, err = p.communicate()
        assert p.returncode == 0, err.decode()
        seen |= set(out.split())
    assert len(seen) > 1
    assert json.loads(m.p("x.jsonl").read_bytes().splitlines()[0])["v"] == (n - 1) % 20
