"""rewrite=extend and rewrite=archive: programs that write a whole log anew."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import time

import pytest

import util
from util import PYTHON, append, opened, outcome, refused, run

MODES = ("extend",)


def rec(*numbers):
    return b"".join(b'{"n":%d}\n' % n for n in numbers)


def numbers(data):
    util.check_lines(data, "the log")
    return [json.loads(x)["n"] for x in data.splitlines()]


def bash(m, script, **kw):
    return run("bash", "-c", script, cwd=m.mnt, **kw)


@pytest.fixture(params=MODES)
def either(request, mount):
    return mount(f"rewrite={request.param}")


@pytest.fixture
def extend(mount):
    return mount("rewrite=extend")


# ---- what both have in common ----


def test_new_content_that_extends_the_old(either):
    m = either
    append(m.p("x.jsonl"), rec(1, 2))
    with open(m.p("x.jsonl"), "wb") as f:
        f.write(rec(1, 2))
        f.flush()
        # Everybody else sees what was there, and so does a new handle.
        assert numbers(m.p("x.jsonl").read_bytes()) == [1, 2]
        assert m.p("x.jsonl").stat().st_size == len(rec(1, 2))
        f.write(rec(3))
        f.flush()
        assert numbers(m.both("x.jsonl")) == [1, 2]
    assert numbers(m.both("x.jsonl")) == [1, 2, 3]
    assert m.p("x.jsonl").stat().st_size == len(rec(1, 2, 3))
    assert m.counter("rewrites") == 1
    assert m.writer("x.jsonl", "python")["rewrites"] >= 1


def test_the_handle_reads_what_it_wrote(either):
    m = either
    append(m.p("x.jsonl"), rec(1))
    with open(m.p("x.jsonl"), "w+b", buffering=0) as f:
        assert f.read() == b""
        f.write(rec(1, 2))
        assert f.seek(0, 2) == len(rec(1, 2))
        f.seek(0)
        assert f.read() == rec(1, 2)
        assert m.p("x.jsonl").stat().st_size == len(rec(1))
        f.truncate(len(rec(1)))
        assert f.seek(0, 2) == len(rec(1))
        f.write(rec(4))
    assert numbers(m.both("x.jsonl")) == [1, 4]


@pytest.mark.parametrize("order", ["truncate", "write"])
def test_open_for_update(either, order):
    """r+, seek to the start, write, truncate, in both orders."""
    m = either
    append(m.p("x.jsonl"), rec(1, 2))
    with open(m.p("x.jsonl"), "r+b") as f:
        old = f.read()
        f.seek(0)
        if order == "truncate":
            f.truncate()
        f.write(old + rec(3))
        if order == "write":
            f.truncate()
    assert numbers(m.both("x.jsonl")) == [1, 2, 3]


def test_a_last_record_without_its_newline(either):
    m = either
    append(m.p("x.jsonl"), rec(1))
    m.p("x.jsonl").write_bytes(rec(1) + b'{"n":2}')
    assert numbers(m.both("x.jsonl")) == [1, 2]


def test_bad_content_is_refused_at_close(either):
    m = either
    append(m.p("x.jsonl"), rec(1))
    fd = os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_TRUNC)
    os.write(fd, rec(1) + b"{'no'}\n")
    with refused(errno.EBADMSG):
        os.close(fd)
    assert numbers(m.both("x.jsonl")) == [1]
    [(entry, data)] = m.wait_quarantine(1)
    assert data == rec(1) + b"{'no'}\n" and entry["event"] == "rewrite-refused"
    assert entry["path"] == "x.jsonl"
    m.expect_log("rewrite-refused", "x.jsonl", entry["file"])
    assert m.counter("rewrites_refused") == 1 and m.counter("rewrites") == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_writer_that_is_killed_leaves_the_old(either, how):
    m = either
    append(m.p("x.jsonl"), rec(1, 2))
    p = subprocess.Popen(
        [PYTHON, "-c", "import os,sys,time\n"
         f"fd = os.open({str(m.p('x.jsonl'))!r}, os.O_WRONLY | os.O_TRUNC)\n"
         f"os.write(fd, {rec(1, 2, 3)!r})\n"
         "print('written', flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE)
    p.stdout.readline()
    p.send_signal(how)
    p.wait(10)
    assert m.wait_quarantine(1)[0][1] == rec(1, 2, 3)
    assert numbers(m.both("x.jsonl")) == [1, 2]
    m.expect_log("rewrite-abandoned", "x.jsonl")


def test_close_of_a_duplicate_is_not_the_end(either):
    m = either
    append(m.p("x.jsonl"), rec(1))
    p = bash(m, """exec 3> x.jsonl
        echo '{"n":1}' >&3
        cat x.jsonl > before
        ls >&3 -d /nonexistent 2> /dev/null
        ( echo '{"n":2}' >&3 )
        cat x.jsonl >> before
        echo '{"n":3}' >&3
        exec 3>&-
        cat x.jsonl > after""")
    assert p.returncode == 0, p.stderr
    assert numbers(m.p("before").read_bytes()) == [1, 1]
    assert numbers(m.p("after").read_bytes()) == [1, 2, 3]


def test_a_write_after_a_duplicate_in_another_program_was_closed_last(either):
    """The one who opened it has closed; the child goes on and closes last."""
    m = either
    append(m.p("x.jsonl"), rec(1))
    p = bash(m, """exec 3> x.jsonl
        ( sleep 0.3; echo '{"n":1}'; echo '{"n":2}' ) >&3 &
        exec 3>&-
        wait
        """)
    assert p.returncode == 0, p.stderr
    util.wait_for(lambda: numbers(m.both("x.jsonl")) == [1, 2])


def test_appenders_meanwhile(either):
    """What others append between open and close stays."""
    m = either
    append(m.p("x.jsonl"), rec(1))
    with open(m.p("x.jsonl"), "wb") as f:
        run(PYTHON, "-c", f"open({str(m.p('x.jsonl'))!r}, 'ab').write({rec(7, 8)!r})",
            check=0)
        f.write(rec(1, 2))
    assert numbers(m.both("x.jsonl")) == [1, 7, 8, 2] if "extend" in m.options[0] else [
        1, 2, 7, 8]


def test_what_was_appended_between_reading_and_opening_stays(either):
    """The program has read the log, another one appends, the program writes it anew."""
    m = either
    append(m.p("x.jsonl"), rec(1))
    rows = m.p("x.jsonl").read_bytes()
    run(PYTHON, "-c", f"open({str(m.p('x.jsonl'))!r}, 'ab').write({rec(7)!r})", check=0)
    with open(m.p("x.jsonl"), "wb") as f:
        f.write(rows + rec(2))
    assert sorted(numbers(m.both("x.jsonl"))) == [1, 2, 7]


def test_its_own_appends_are_not_doubled(either):
    m = either
    rows = []
    for n in range(5):
        append(m.p("x.jsonl"), rec(n))
        rows.append(n)
        if n % 2:
            m.p("x.jsonl").read_bytes()
    m.p("x.jsonl").write_bytes(rec(*rows, 9))
    assert numbers(m.both("x.jsonl")) == [*rows, 9]


def test_an_empty_log_is_written_as_ever(either):
    m = either
    m.p("x.jsonl").write_bytes(rec(1))
    assert numbers(m.both("x.jsonl")) == [1] and m.counter("rewrites") == 0


def test_an_unmount_in_between_keeps_the_old(either):
    m = either
    append(m.p("x.jsonl"), rec(1))
    fd = os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_TRUNC)
    os.write(fd, rec(1, 2))
    m.proc.send_signal(signal.SIGTERM)
    m.wait(20)
    assert m.b("x.jsonl").read_bytes() == rec(1)
    assert m.quarantine("x.jsonl")[0][1] == rec(1, 2)
    with contextlib.suppress(OSError):
        os.close(fd)


def test_fsync_makes_it_durable_and_visible(either):
    m = either
    append(m.p("x.jsonl"), rec(1))
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_TRUNC) as fd:
        os.write(fd, rec(1)[:3])
        os.fsync(fd)
        assert numbers(m.both("x.jsonl")) == [1]
        os.write(fd, rec(1)[3:] + rec(2))
        os.fsync(fd)
        assert numbers(m.both("x.jsonl")) == [1, 2]
        os.write(fd, rec(3))
    assert numbers(m.both("x.jsonl")) == [1, 2, 3]


def test_copytruncate_works_as_before(either):
    m = either
    append(m.p("x.jsonl"), rec(1))
    m.p("x.jsonl.1").write_bytes(rec(1))
    with open(m.p("x.jsonl"), "r+b") as f:
        f.truncate(0)
    assert m.both("x.jsonl") == b"" and m.set_aside() == b""


@pytest.mark.limit(120)
def test_a_large_one(either):
    m = either
    data = rec(*range(200000))
    append(m.p("x.jsonl"), data)
    more = rec(*range(200000, 400000))
    m.p("x.jsonl").write_bytes(data + more)
    assert m.both("x.jsonl") == data + more


# ---- extend ----


@pytest.mark.parametrize("content", [b"", rec(1), rec(2, 1, 3), rec(1, 3, 2)])
def test_what_does_not_extend_is_refused(extend, content):
    m = extend
    append(m.p("x.jsonl"), rec(1, 2))
    fd = os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_TRUNC)
    os.write(fd, content)
    with refused(errno.EPERM):
        os.close(fd)
    assert numbers(m.both("x.jsonl")) == [1, 2]
    assert m.set_aside("x.jsonl") == content
    m.expect_log("rewrite-refused", "x.jsonl", "does not begin")


def test_the_same_content_again_changes_nothing(extend):
    m = extend
    append(m.p("x.jsonl"), rec(1, 2))
    inode = m.b("x.jsonl").stat().st_ino
    m.p("x.jsonl").write_bytes(rec(1, 2))
    assert numbers(m.both("x.jsonl")) == [1, 2]
    assert m.b("x.jsonl").stat().st_ino == inode


def test_extend_has_bash_know(extend):
    m = extend
    append(m.p("x.jsonl"), rec(1))
    p = bash(m, "cp x.jsonl all; echo '{\"n\":2}' >> all; cat all > x.jsonl")
    assert p.returncode == 0 and numbers(m.both("x.jsonl")) == [1, 2]
    p = bash(m, "echo '{\"n\":3}' > x.jsonl")
    assert numbers(m.both("x.jsonl")) == [1, 2] and m.set_aside() == rec(3)


def test_truncate_by_name_stays_refused(extend):
    m = extend
    append(m.p("x.jsonl"), rec(1))
    with refused(errno.EPERM):
        os.truncate(m.p("x.jsonl"), 0)
    with refused(errno.EPERM):
        os.close(os.open(m.p("x.jsonl"), os.O_RDONLY | os.O_TRUNC))


def test_deny_is_the_default(m):
    append(m.p("x.jsonl"), rec(1))
    with refused(errno.EPERM):
        os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_TRUNC)
    with opened(m.p("x.jsonl"), os.O_RDWR) as fd, refused(errno.EPERM):
        os.ftruncate(fd, 0)


@pytest.mark.limit(120)
def test_extending_while_others_append(extend):
    """One program writes all rows so far, over and over; four append. Nothing is lost,
    nothing comes twice."""
    m = extend
    appender = (
        "import sys\n"
        "for n in range(250):\n"
        "    with open(sys.argv[1], 'ab') as f: f.write(b'{\"n\":%d}\\n' % (int(sys.argv[2]) + n))\n"
    )
    append(m.p("x.jsonl"), rec(0))
    others = [subprocess.Popen([PYTHON, "-c", appender, m.p("x.jsonl"), str(1000 * k)])
              for k in range(1, 5)]
    mine, n = [], 100000
    while any(p.poll() is None for p in others) or len(mine) < 20:
        rows = m.p("x.jsonl").read_bytes()
        m.p("x.jsonl").write_bytes(rows + rec(n))
        mine.append(n)
        n += 1
    assert [p.wait(30) for p in others] == [0] * 4
    want = [0, *mine, *(1000 * k + i for k in range(1, 5) for i in range(250))]
    assert sorted(numbers(m.both("x.jsonl"))) == sorted(want)
