# SPDX-License-Identifier: MIT
"""rewrite=extend and rewrite=archive: programs that write a whole log anew."""

import contextlib
import errno
import fcntl
import json
import os
import signal
import subprocess
import time

import pytest

import util
from util import PYTHON, append, opened, refused, run

MODES = ("extend", "archive")


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
    copy = rec(1) + b'{"n":2}'
    for _ in range(2):  # the same again is no change
        m.p("x.jsonl").write_bytes(copy)
        assert m.both("x.jsonl") == copy
    append(m.p("x.jsonl"), rec(3))
    m.p("x.jsonl").write_bytes(rec(1, 2, 3)[:-1])
    assert numbers(m.both("x.jsonl")) == [1, 2, 3]


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
        ls >&3 -d /proc/nonexistent 2> /dev/null
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


def test_an_exec_that_closes_it(either):
    """The kernel holds a lock of the process while it waits for our answer: who looks at
    the process then must not be us."""
    m = either
    append(m.p("x.jsonl"), rec(1))
    util.py(
        "import os, subprocess, sys\n"
        "f = open('x.jsonl', 'w')\n"
        "f.write('{\"n\":1}\\n'); f.flush()\n"
        "subprocess.run(['true'])\n"
        "f.write('{\"n\":2}\\n'); f.flush()\n"
        "os.execv('/bin/true', ['true'])\n", m.mnt, timeout=10)
    util.wait_for(lambda: numbers(m.both("x.jsonl")) == [1, 2])


def test_appenders_meanwhile(either):
    """What others append between open and close stays."""
    m = either
    append(m.p("x.jsonl"), rec(1))
    with open(m.p("x.jsonl"), "wb") as f:
        run(PYTHON, "-c", f"open({str(m.p('x.jsonl'))!r}, 'ab').write({rec(7, 8)!r})",
            check=0)
        f.write(rec(1, 2))
    assert numbers(m.both("x.jsonl")) == [1, 7, 8, 2]


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


# ---- archive ----


@pytest.fixture
def archive(mount):
    return mount("rewrite=archive")


def archived(m):
    return list(m.archive().values())


def test_any_content_replaces_the_log(archive):
    m = archive
    append(m.p("x.jsonl"), rec(1, 2))
    os.chmod(m.p("x.jsonl"), 0o640)
    os.chown(m.p("x.jsonl"), util.NOBODY, util.DAEMON)
    os.setxattr(m.p("x.jsonl"), "user.k", b"v")
    m.p("x.jsonl").write_bytes(rec(9))
    assert numbers(m.both("x.jsonl")) == [9]
    assert archived(m) == [rec(1, 2)]
    for path in (m.p("x.jsonl"), m.b("x.jsonl")):
        st = path.stat()
        assert (st.st_mode & 0o7777, st.st_uid, st.st_gid) == (
            0o640, util.NOBODY, util.DAEMON)
        assert st.st_size == len(rec(9))
        assert os.getxattr(path, "user.k") == b"v"
    assert m.p("x.jsonl").stat().st_ino == m.b("x.jsonl").stat().st_ino
    assert sorted(p.name for p in m.backing.iterdir()) == [".jsonlfs", "x.jsonl"]
    assert m.counter("rewrites") == 1 and m.counter("archived") == 1
    m.expect_log("replaced", "x.jsonl")
    [name] = m.archive()
    assert (m.state("archive") / name).stat().st_uid == util.NOBODY


def test_the_time_is_that_of_the_rewrite(archive):
    m = archive
    append(m.p("x.jsonl"), rec(1))
    os.utime(m.p("x.jsonl"), (1, 1))
    m.p("x.jsonl").write_bytes(rec(2))
    assert m.p("x.jsonl").stat().st_mtime > 1e9


def test_empty_content(archive):
    m = archive
    append(m.p("x.jsonl"), rec(1))
    assert bash(m, "> x.jsonl").returncode == 0
    assert m.both("x.jsonl") == b"" and archived(m) == [rec(1)]
    append(m.p("x.jsonl"), rec(2))
    assert numbers(m.both("x.jsonl")) == [2]


def test_open_handles_go_on_in_the_new_file(archive):
    m = archive
    append(m.p("x.jsonl"), rec(1))
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND) as fd, \
            open(m.p("x.jsonl"), "rb", buffering=0) as reader:
        os.write(fd, rec(2) + b'{"n":')
        m.p("x.jsonl").write_bytes(rec(7))
        assert numbers(m.both("x.jsonl")) == [7]
        os.write(fd, b"8}\n")
        os.fsync(fd)
        assert numbers(m.both("x.jsonl")) == [7, 8]
        assert reader.read() == rec(1, 2)  # and so it is with readers: test_versions.py
        reader.close()
        # fstat(2) names a node, which is that of the old file until the RELEASE has come.
        util.wait_for(lambda: os.fstat(fd).st_ino == m.p("x.jsonl").stat().st_ino)
        os.fchmod(fd, 0o600)
    assert m.b("x.jsonl").stat().st_mode & 0o777 == 0o600
    assert archived(m) == [rec(1, 2)]


def test_appenders_meanwhile_stay_behind_the_new_content(archive):
    m = archive
    append(m.p("x.jsonl"), rec(1, 2))
    with open(m.p("x.jsonl"), "wb") as f:
        run(PYTHON, "-c", f"open({str(m.p('x.jsonl'))!r}, 'ab').write({rec(7)!r})",
            check=0)
        f.write(rec(9))
    assert numbers(m.both("x.jsonl")) == [9, 7]
    assert archived(m) == [rec(1, 2, 7)]


def test_more_after_a_commit(archive):
    """fsync commits, the handle goes on."""
    m = archive
    append(m.p("x.jsonl"), rec(1))
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_TRUNC) as fd:
        os.write(fd, rec(5))
        os.fsync(fd)
        assert numbers(m.both("x.jsonl")) == [5]
        append(m.p("x.jsonl"), rec(6))
        os.pwrite(fd, rec(4), 0)
    assert numbers(m.both("x.jsonl")) == [4, 6]


def test_writes_into_the_middle(archive):
    m = archive
    append(m.p("x.jsonl"), rec(1, 2, 3))
    with opened(m.p("x.jsonl"), os.O_RDWR) as fd:
        os.pwrite(fd, rec(8), len(rec(1)))
        assert numbers(m.both("x.jsonl")) == [1, 2, 3]
        assert os.pread(fd, 100, 0) == rec(1, 8, 3)
    assert numbers(m.both("x.jsonl")) == [1, 8, 3]
    with opened(m.p("x.jsonl"), os.O_RDWR) as fd:
        os.pwrite(fd, b"x", len(rec(1)))
        with refused(errno.EBADMSG):
            os.close(fd)
    assert numbers(m.both("x.jsonl")) == [1, 8, 3]


def test_other_names_stand_in_the_way(archive):
    m = archive
    append(m.p("x.jsonl"), rec(1))
    os.link(m.p("x.jsonl"), m.p("y.jsonl"))
    fd = os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_TRUNC)
    os.write(fd, rec(2))
    with refused(errno.EPERM):
        os.close(fd)
    m.expect_log("rewrite-refused", "other names")
    assert m.set_aside() == rec(2) and numbers(m.both("y.jsonl")) == [1]


def test_a_log_that_was_rotated_meanwhile(archive):
    m = archive
    append(m.p("x.jsonl"), rec(1))
    fd = os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_TRUNC)
    os.write(fd, rec(2))
    os.rename(m.p("x.jsonl"), m.p("x.jsonl.1"))
    append(m.p("x.jsonl"), rec(3))
    with refused(errno.ESTALE):
        os.close(fd)
    assert m.both("x.jsonl") == rec(3) and m.both("x.jsonl.1") == rec(1)
    assert m.set_aside() == rec(2)


def test_a_full_archive(mount):
    m = mount("rewrite=archive", "archive_max=10")
    append(m.p("x.jsonl"), rec(1, 2))
    fd = os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_TRUNC)
    os.write(fd, rec(3))
    with refused(errno.EDQUOT):
        os.close(fd)
    m.expect_log("rewrite-refused", "archive_max")
    assert numbers(m.both("x.jsonl")) == [1, 2] and m.set_aside() == rec(3)
    assert m.archive() == {} and m.status()["archive"]["bytes"] == 0


def test_a_lock_held_outside(mount):
    m = mount("rewrite=archive", "locktimeout=0.3")
    append(m.p("x.jsonl"), rec(1))
    with open(m.b("x.jsonl"), "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fd = os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_TRUNC)
        os.write(fd, rec(3))
        with refused(errno.EAGAIN):
            os.close(fd)
        assert m.set_aside() == rec(3)
    # Nor by the RELEASE, which comes later.
    time.sleep(0.2)
    assert numbers(m.both("x.jsonl")) == [1]
    m.expect_log("lock-timeout", "close")


def test_who_waits_outside_for_the_lock_has_to_compare(archive):
    """The protocol of programs outside: after flock, does the name still lead to it?"""
    m = archive
    append(m.p("x.jsonl"), rec(1))
    waiter = open(m.b("x.jsonl"), "ab")
    m.p("x.jsonl").write_bytes(rec(2))
    fcntl.flock(waiter, fcntl.LOCK_EX)
    assert os.fstat(waiter.fileno()).st_ino != m.b("x.jsonl").stat().st_ino
    assert os.fstat(waiter.fileno()).st_nlink == 0
    waiter.close()
    with open(m.b("x.jsonl"), "ab") as again:
        fcntl.flock(again, fcntl.LOCK_EX)
        again.write(rec(3))
    append(m.p("x.jsonl"), rec(4))
    assert numbers(m.both("x.jsonl")) == [2, 3, 4]


# Programs as they are.

PROGRAMS = {
    "sed -i": "sed -i 's/:2}/:5}/' x.jsonl",
    "sort -o": "sort -r -o x.jsonl x.jsonl",
    "jq, mv": "jq -c 'select(.n != 2)' x.jsonl > tmp && mv tmp x.jsonl",
    "grep, cp": "grep -v :2 x.jsonl > tmp; cp tmp x.jsonl; rm tmp",
    "vim in place": "vim -u NONE -es -c 'set backupcopy=yes' -c '2d' -c 'wq' x.jsonl",
    "vim": "vim -u NONE -es -c 'set backupcopy=no' -c '2d' -c 'wq' x.jsonl",
    "python, os.replace": "python3 -c \"import os; r=open('x.jsonl').readlines();"
                          "open('t','w').writelines(r[::-1]); os.replace('t','x.jsonl')\"",
    "python, write_text": "python3 -c \"from pathlib import Path; p=Path('x.jsonl');"
                          "p.write_text(p.read_text().splitlines()[2]+chr(10))\"",
    "perl -i": "perl -i -ne 'print unless /:2/' x.jsonl",
    "a compactor by a log's name":
        "tail -n 1 x.jsonl > new.jsonl && mv new.jsonl x.jsonl",
    "truncate": "truncate -s 8 x.jsonl",
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("who", ["root", "user"])
def test_programs_rewrite_a_log(mount, name, who):
    m = mount("rewrite=archive")
    m.p("d").mkdir()
    os.chmod(m.p("d"), 0o777)
    data = rec(1, 2, 3)
    append(m.p("d/x.jsonl"), data)
    os.chmod(m.p("d/x.jsonl"), 0o666)
    # The same on a bare directory.
    bare = m.source.parent / "bare"
    bare.mkdir()
    bare.chmod(0o777)
    (bare / "x.jsonl").write_bytes(data)
    (bare / "x.jsonl").chmod(0o666)
    uid = util.NOBODY if who == "user" else None
    want = util.sh(PROGRAMS[name], bare, uid=uid, check=None)
    got = util.sh(PROGRAMS[name], m.p("d"), uid=uid, check=None)
    assert got.returncode == want.returncode, got.stderr
    assert m.both("d/x.jsonl") == (bare / "x.jsonl").read_bytes() != data
    names = {p.name for p in m.p("d").iterdir()}
    assert names == {p.name for p in bare.iterdir()}
    # And it is a log as before.
    append(m.p("d/x.jsonl"), rec(9))
    assert numbers(m.both("d/x.jsonl"))[-1] == 9


def test_bad_content_renamed_onto_it(archive):
    m = archive
    append(m.p("x.jsonl"), rec(1))
    m.p("t").write_bytes(b"{no}\n")
    with refused(errno.EBADMSG):
        os.rename(m.p("t"), m.p("x.jsonl"))
    assert m.both("t") == b"{no}\n" and numbers(m.both("x.jsonl")) == [1]


def test_records_that_came_between_reading_and_renaming_stay(archive):
    m = archive
    append(m.p("x.jsonl"), rec(1, 2))
    m.p("x.jsonl").read_bytes()
    m.p("t").write_bytes(rec(5))
    run(PYTHON, "-c", f"open({str(m.p('x.jsonl'))!r}, 'ab').write({rec(7)!r})", check=0)
    os.rename(m.p("t"), m.p("x.jsonl"))
    assert numbers(m.both("x.jsonl")) == [5, 7] and not m.p("t").exists()


def test_another_program_renames_after_records_came(archive):
    m = archive
    append(m.p("x.jsonl"), rec(1, 2))
    p = bash(m, "jq -c . x.jsonl > t; echo '{\"n\":3}' >> x.jsonl; mv t x.jsonl")
    assert p.returncode != 0 and b"busy" in p.stderr
    assert numbers(m.both("x.jsonl")) == [1, 2, 3] and m.p("t").exists()
    assert bash(m, "jq -c . x.jsonl > t2; mv t2 x.jsonl").returncode == 0
    assert numbers(m.both("x.jsonl")) == [1, 2, 3]


LOOP_REWRITE = {
    "open w": (
        "import sys\n"
        "for k in range(int(sys.argv[2])):\n"
        "    rows = open(sys.argv[1]).readlines()\n"
        "    open(sys.argv[1], 'w').writelines(rows[::-1])\n"
    ),
    "os.replace": (
        "import os, sys\n"
        "for k in range(int(sys.argv[2])):\n"
        "    rows = open(sys.argv[1]).readlines()\n"
        "    open(sys.argv[1] + '.tmp', 'w').writelines(rows[::-1])\n"
        "    os.replace(sys.argv[1] + '.tmp', sys.argv[1])\n"
    ),
}
LOOP_APPEND = (
    "import os, sys\n"
    "path, first, keep = sys.argv[1], int(sys.argv[2]), sys.argv[3] == 'keep'\n"
    "fd = os.open(path, os.O_WRONLY | os.O_APPEND)\n"
    "n = first\n"
    "while not os.path.exists(path + '.stop'):\n"
    "    if not keep:\n"
    "        os.close(fd); fd = os.open(path, os.O_WRONLY | os.O_APPEND)\n"
    "    os.write(fd, b'{\"n\":%d}\\n' % n); n += 1\n"
    "    if n % 50 == 0: os.fsync(fd)\n"
    "    if n - first >= 4000: break\n"
    "os.close(fd)\n"
    "print(n)\n"
)


@pytest.mark.limit(170)
@pytest.mark.parametrize("how", LOOP_REWRITE)
def test_appenders_during_a_thousand_rewrites(archive, how):
    """They keep a descriptor, or open the log each time. Nothing is lost or doubled."""
    m = archive
    append(m.p("x.jsonl"), rec(0, 1))  # one alone is the same backwards
    others = [
        subprocess.Popen([PYTHON, "-c", LOOP_APPEND, m.p("x.jsonl"), str(k * 1000000), kind],
                         stdout=subprocess.PIPE)
        for k, kind in enumerate(("keep", "open"), 1)
    ]
    p = subprocess.run([PYTHON, "-c", LOOP_REWRITE[how], m.p("x.jsonl"), "1000"], timeout=150)
    m.p("x.jsonl.stop").write_bytes(b"")
    ends = [int(o.communicate(timeout=60)[0]) for o in others]
    assert p.returncode == 0 and [o.returncode for o in others] == [0, 0]
    want = [0, 1]
    for k, end in enumerate(ends, 1):
        want += range(k * 1000000, end)
    assert sorted(numbers(m.both("x.jsonl"))) == sorted(want)
    assert m.counter("archived") == m.counter("rewrites") == 1000


def test_two_rewriters(archive):
    """The second one has not seen what the first has made of the log."""
    m = archive
    append(m.p("x.jsonl"), rec(1))
    with open(m.p("x.jsonl"), "r+b") as f:
        f.truncate(0)
        f.write(rec(3))
        run(PYTHON, "-c", f"open({str(m.p('x.jsonl'))!r}, 'wb').write({rec(2)!r})", check=0)
        with refused(errno.ESTALE):
            f.close()
    assert numbers(m.both("x.jsonl")) == [2] and archived(m) == [rec(1)]
    assert m.set_aside() == rec(3)


def test_an_old_reading(archive):
    m = archive
    append(m.p("x.jsonl"), rec(1))
    m.p("x.jsonl").read_bytes()
    run(PYTHON, "-c", f"open({str(m.p('x.jsonl'))!r}, 'wb').write({rec(2)!r})", check=0)
    m.p("t").write_bytes(rec(3))
    with refused(errno.ESTALE):
        os.rename(m.p("t"), m.p("x.jsonl"))
    fd = os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_TRUNC)
    os.write(fd, rec(4))
    with refused(errno.ESTALE):
        os.close(fd)
    m.p("x.jsonl").read_bytes()
    os.rename(m.p("t"), m.p("x.jsonl"))
    m.p("x.jsonl").write_bytes(rec(5))
    assert numbers(m.both("x.jsonl")) == [5] and len(archived(m)) == 3


def test_an_old_reading_of_a_file_whose_number_is_used_again(archive):
    """Two rewrites later the log may have the inode number that it had: it is another file."""
    m = archive
    append(m.p("x.jsonl"), rec(1))
    script = ("for k in 2, 3:\n    with open('x.jsonl', 'wb') as f:\n"
              "        f.write(b'{\"n\":%d}\\n' % k * 10)\n")
    for _ in range(60):
        m.p("x.jsonl").read_bytes()
        number = m.b("x.jsonl").stat().st_ino
        run(PYTHON, "-c", script, cwd=m.mnt, check=0)
        if m.b("x.jsonl").stat().st_ino == number:
            break
    fd = os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_TRUNC)
    os.write(fd, rec(4))
    with refused(errno.ESTALE):
        os.close(fd)
    assert numbers(m.both("x.jsonl")) == [3] * 10


def test_what_a_process_has_put_there_itself_it_has_seen(archive):
    """A database compacts by log to .bak, .dump to log, and clears itself later."""
    m, p = archive, archive.p("x.jsonl")
    append(p, rec(1, 2))
    p.read_bytes()
    p.with_name("x.jsonl.dump").write_bytes(rec(2))
    os.rename(p, m.p("x.jsonl.bak"))
    os.rename(m.p("x.jsonl.dump"), p)
    os.unlink(m.p("x.jsonl.bak"))
    with open(p, "wb") as f:
        f.write(rec(3))
        f.flush()
        os.fsync(f.fileno())
        assert m.both("x.jsonl") == rec(3)
    assert m.both("x.jsonl") == rec(3)
    # Records of others that came after the rename are not among it.
    m.p("x.jsonl.dump").write_bytes(rec(4))
    os.rename(p, m.p("x.jsonl.bak"))
    os.rename(m.p("x.jsonl.dump"), p)
    bash(m, "echo '{\"n\":5}' >> x.jsonl")
    p.write_bytes(rec(6))
    assert m.both("x.jsonl") == rec(6, 5)


def test_a_log_that_is_renamed_is_seen_as_far_as_it_was_read(archive):
    m = archive
    append(m.p("y.jsonl"), rec(1))
    m.p("y.jsonl").read_bytes()
    bash(m, "echo '{\"n\":2}' >> y.jsonl")
    os.rename(m.p("y.jsonl"), m.p("x.jsonl"))
    m.p("x.jsonl").write_bytes(rec(3))
    assert m.both("x.jsonl") == rec(3, 2)
    # Of one that it has not read it knows nothing, whatever had that name before.
    m.p("x.jsonl").read_bytes()
    os.rename(m.p("x.jsonl"), m.p("x.jsonl.1"))
    bash(m, "echo '{\"n\":4}' >> z.jsonl")
    os.rename(m.p("z.jsonl"), m.p("x.jsonl"))
    m.p("x.jsonl").write_bytes(rec(5))
    assert m.both("x.jsonl") == rec(5)


def test_a_newline_that_came_since_is_no_line(archive):
    """A copy without its last newline is read, another program appends, and it is written
    anew."""
    m, p = archive, archive.p("x.jsonl")
    p.write_bytes(rec(1, 2)[:-1])
    p.read_bytes()
    bash(m, "echo '{\"n\":3}' >> x.jsonl")
    p.write_bytes(rec(4))
    assert m.both("x.jsonl") == rec(4, 3)


def fsync_of(fd):
    try:
        os.fsync(fd)
        return 0
    except OSError as e:
        return e.errno


def test_fsync_says_what_close_will_say(archive):
    """Never 0 for what cannot become the log as it stands."""
    m, p = archive, archive.p("x.jsonl")
    append(p, rec(1))
    p.read_bytes()
    run(PYTHON, "-c", f"open({str(p)!r}, 'wb').write({rec(2)!r})", check=0)
    fd = os.open(p, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, rec(3))
    for _ in range(2):
        assert fsync_of(fd) == errno.ESTALE and m.both("x.jsonl") == rec(2)
    with refused(errno.ESTALE):
        os.close(fd)
    assert m.both("x.jsonl") == rec(2) and m.set_aside() == rec(3)
    p.read_bytes()
    with opened(p, os.O_WRONLY | os.O_TRUNC) as fd:
        os.write(fd, rec(4) + b"{no}\n" + rec(5))
        assert fsync_of(fd) == errno.EBADMSG and m.both("x.jsonl") == rec(2)
        os.ftruncate(fd, len(rec(4)))
        assert fsync_of(fd) == 0 and m.both("x.jsonl") == rec(4)
        # An unfinished record is none that fsync could speak of.
        os.pwrite(fd, b'{"n":', len(rec(4)))
        assert fsync_of(fd) == 0 and m.both("x.jsonl") == rec(4)
        os.pwrite(fd, b"6}", len(rec(4)) + 5)
    assert m.both("x.jsonl").rstrip(b"\n") == rec(4, 6).rstrip(b"\n")
    os.link(p, m.p("other.jsonl"))
    fd = os.open(p, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, rec(7))
    assert fsync_of(fd) == errno.EPERM
    with refused(errno.EPERM):
        os.close(fd)


def test_fsync_of_what_does_not_extend(extend):
    m, p = extend, extend.p("x.jsonl")
    append(p, rec(1, 2, 3))
    fd = os.open(p, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, rec(1, 2))
    assert fsync_of(fd) == 0  # on its way
    os.write(fd, rec(4))
    assert fsync_of(fd) == errno.EPERM
    with refused(errno.EPERM):
        os.close(fd)
    assert m.both("x.jsonl") == rec(1, 2, 3)
