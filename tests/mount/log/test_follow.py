# SPDX-License-Identifier: MIT
"""follow=path: a handle that was opened with O_APPEND goes on in the new file of its name
after a rotation; each record is in exactly one of the files, and none is stranded."""

import contextlib
import json
import os
import re
import subprocess

import pytest
from util import (
    DAEMON, NOBODY, PYTHON, SLOW, binary, check_lines, parse, records, run, running, traced,
    wait_for)

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL


@pytest.fixture
def m(mount):
    return mount("follow=path")


def create(path, mode=0o666):
    fd = os.open(path, NEW, mode)
    os.fchmod(fd, mode)
    os.close(fd)


def rotate(m, name="a.jsonl", to="a.jsonl.1", mode=0o666):
    os.rename(m.p(name), m.p(to))
    create(m.p(name), mode)


@contextlib.contextmanager
def appender(m, name="a.jsonl", flags=0):
    fd = os.open(m.p(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT | flags, 0o666)
    try:
        yield fd
    finally:
        os.close(fd)


def test_the_next_record_goes_to_the_new_file(m):
    with appender(m) as fd:
        os.write(fd, b"1\n")
        rotate(m)
        os.write(fd, b"2\n")
        assert m.records("a.jsonl.1") == [1]
        assert m.records("a.jsonl") == [2]
        rotate(m, to="a.jsonl-20261120")
        os.write(fd, b"3\n4\n")
        os.fsync(fd)
        assert os.fstat(fd).st_size >= 0
    assert m.records("a.jsonl.1") == [1]
    assert m.records("a.jsonl-20261120") == [2]
    assert m.records("a.jsonl") == [3, 4]
    assert m.counter("followed") == 2


def test_no_record_goes_where_the_name_could_not_be_synced(m):
    m.p("d").mkdir()
    with appender(m, "d/a.jsonl") as fd:
        os.write(fd, b"1\n")
        rotate(m, "d/a.jsonl", "d/a.jsonl.1")
        # That is how the directory is opened.
        with traced(m, "-e", "trace=open_by_handle_at",
                    "-e", "inject=open_by_handle_at:error=EIO", "-o", os.devnull):
            os.write(fd, b"2\n")
        assert m.b("d/a.jsonl.1").read_bytes() == b"1\n2\n"
        wait_for(lambda: os.write(fd, b"3\n") and m.b("d/a.jsonl").read_bytes())
    m.expect_log("follow-refused", "d/a.jsonl")


def test_without_the_option_it_stays_with_its_file(mount):
    m = mount()
    with appender(m) as fd:
        os.write(fd, b"1\n")
        rotate(m)
        os.write(fd, b"2\n")
    assert m.records("a.jsonl.1") == [1, 2]
    assert m.records("a.jsonl") == []


def test_as_a_rule_of_the_configuration(mount, tmp_path):
    config = tmp_path / "c.json"
    config.write_text(
        json.dumps({"rules": [{"match": "a*.jsonl", "follow": "path"}]}), "utf-8"
    )
    m = mount(f"config={config}")
    with appender(m) as a, appender(m, "b.jsonl") as b:
        rotate(m)
        rotate(m, "b.jsonl", "b.jsonl.1")
        os.write(a, b"1\n")
        os.write(b, b"2\n")
    assert m.records("a.jsonl") == [1] and m.records("a.jsonl.1") == []
    assert m.records("b.jsonl") == [] and m.records("b.jsonl.1") == [2]


def test_an_unfinished_record_goes_along_whole(m):
    with appender(m) as fd:
        os.write(fd, b'1\n{"half":')
        rotate(m)
        os.write(fd, b"2}\n")
    assert m.records("a.jsonl.1") == [1]
    assert m.records("a.jsonl") == [{"half": 2}]


def test_until_there_is_a_new_file_the_old_one_takes_them(m):
    with appender(m) as fd:
        os.rename(m.p("a.jsonl"), m.p("a.jsonl.1"))
        os.write(fd, b"1\n")
        os.write(fd, b"2\n")
        create(m.p("a.jsonl"))
        os.write(fd, b"3\n")
    assert m.records("a.jsonl.1") == [1, 2]
    assert m.records("a.jsonl") == [3]


def test_back_under_its_name_it_is_the_same_file(m):
    with appender(m) as fd:
        os.write(fd, b"1\n")
        os.rename(m.p("a.jsonl"), m.p("b.jsonl"))
        os.rename(m.p("b.jsonl"), m.p("a.jsonl"))
        os.write(fd, b"2\n")
    assert m.records("a.jsonl") == [1, 2]
    assert m.counter("followed") == 0


def test_a_rename_to_another_log_is_a_rotation_too(m):
    with appender(m) as fd:
        os.write(fd, b"1\n")
        rotate(m, to="a-old.jsonl")
        os.write(fd, b"2\n")
    assert m.records("a-old.jsonl") == [1]
    assert m.records("a.jsonl") == [2]


def test_removed_and_made_anew(m):
    with appender(m) as fd:
        os.write(fd, b"1\n")
        os.unlink(m.p("a.jsonl"))
        create(m.p("a.jsonl"))
        os.write(fd, b"2\n")
    assert list(m.archive().values()) == [b"1\n"]
    assert m.records("a.jsonl") == [2]


def test_a_rotation_outside_the_mount_is_seen_within_a_second(m):
    with appender(m) as fd:
        os.write(fd, b"0\n")
        os.rename(m.b("a.jsonl"), m.b("a.jsonl.1"))
        m.b("a.jsonl").write_bytes(b"")
        n = 0

        def arrived():
            nonlocal n
            n += 1
            os.write(fd, b"%d\n" % n)
            return m.b("a.jsonl").read_bytes()

        wait_for(arrived, "a record in the new file")
    old, new = records(m.b("a.jsonl.1")), records(m.b("a.jsonl"))
    assert old + new == list(range(n + 1))


def test_without_o_append_a_handle_stays(m):
    create(m.p("a.jsonl"))
    fd = os.open(m.p("a.jsonl"), os.O_WRONLY)
    os.write(fd, b"1\n")
    rotate(m)
    os.write(fd, b"2\n")
    os.close(fd)
    assert m.records("a.jsonl.1") == [1, 2]


def test_what_it_appended_is_read_through_the_same_handle(m):
    fd = os.open(m.p("a.jsonl"), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(fd, b"1\n")
    assert os.pread(fd, 10, 0) == b"1\n"
    rotate(m)
    os.write(fd, b'"new"\n')
    assert os.pread(fd, 10, 0) == b'"new"\n'
    os.close(fd)


def test_the_size_of_the_new_file_is_told_at_once(m):
    """The kernel believes that these writes go to the old file."""
    with appender(m) as fd:
        os.write(fd, b"1\n")
        rotate(m)
        for n in range(1, 20):
            assert os.stat(m.p("a.jsonl")).st_size == 2 * n - 2
            os.write(fd, b"2\n")
            assert os.stat(m.p("a.jsonl")).st_size == 2 * n
            assert os.stat(m.p("a.jsonl.1")).st_size == 2


def test_what_stays_behind_is_durable_also_without_sync(mount):
    """A later fsync of the handle vouches for it."""
    m = mount("follow=path", "sync=none")
    with appender(m) as fd:
        os.write(fd, b"1\n")
        rotate(m)
        before = m.counter("syncs")
        os.write(fd, b"2\n")
        # Counted when the old file's last handle is closed, by going over.
        assert m.counter("syncs") == before + 1


# The child's script: the parent's descriptor 0 is written to after each line of stdin.
AS_USER = r"""
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
print("open", flush=True)
for line in sys.stdin.buffer:
    os.write(fd, line)
    print("done", flush=True)
"""


@contextlib.contextmanager
def other_user(m, uid, groups=()):
    with running(
        PYTHON, "-c", AS_USER, m.p("a.jsonl"),
        stdin=subprocess.PIPE, user=uid, group=uid, extra_groups=list(groups),
    ) as p:
        assert p.stdout.readline() == b"open\n"

        def write(line):
            p.stdin.write(line)
            p.stdin.flush()
            assert p.stdout.readline() == b"done\n"

        yield write


@pytest.mark.parametrize("owner, mode, goes", [
    ((0, 0), 0o600, False),
    ((0, 0), 0o644, False),
    ((0, 0), 0o666, True),
    ((NOBODY, 0), 0o600, True),
    ((NOBODY, 0), 0o466, False),
    ((0, DAEMON), 0o620, True),
    ((0, DAEMON), 0o602, False),
    ((0, NOBODY), 0o620, True),
])
def test_only_where_the_caller_may_write(m, owner, mode, goes):
    os.chmod(m.mnt, 0o755)
    create(m.p("a.jsonl"))
    with other_user(m, NOBODY, [DAEMON]) as write:
        write(b"1\n")
        os.rename(m.p("a.jsonl"), m.p("a.jsonl.1"))
        create(m.p("a.jsonl"), mode)
        os.chown(m.p("a.jsonl"), *owner)
        write(b"2\n")
        write(b"3\n")
    assert m.records("a.jsonl.1") == ([1] if goes else [1, 2, 3])
    assert m.records("a.jsonl") == ([2, 3] if goes else [])
    assert len(m.log_lines("follow-refused")) == (0 if goes else 1)


def test_an_acl_is_not_guessed(m):
    os.chmod(m.mnt, 0o755)
    create(m.p("a.jsonl"))
    with other_user(m, NOBODY) as write:
        rotate(m, mode=0o666)
        run("setfacl", "-m", f"u:{NOBODY}:r", m.p("a.jsonl"), check=0)
        write(b"1\n")
    assert m.records("a.jsonl.1") == [1] and m.records("a.jsonl") == []


WRITER = r"""
import json, os, sys, time
path, id, stop = sys.argv[1], int(sys.argv[2]), sys.argv[3]
fd = os.open(path, os.O_WRONLY | os.O_APPEND)
print("open", flush=True)
n = 0
while not os.path.exists(stop):
    line = json.dumps({"id": id, "n": n, "pad": "x" * (n * 37 % 700)}).encode() + b"\n"
    cut = n * 53 % len(line)
    os.write(fd, line[:cut]) if cut else None
    os.write(fd, line[cut:])
    if n % 7 == 0:
        os.fsync(fd)
    n += 1
    time.sleep(0.005)
os.close(fd)
print(n)
"""
NANOSECONDS = re.compile(r"^a\.jsonl\.\d{8}T\d{6}\.\d{9}Z$")


def settled(m, name):
    """No handle appends to it any more."""
    return os.getxattr(m.p(name), "user.jsonlfs.writers") == b"0"


def test_how_many_append_to_a_file(m):
    with appender(m) as fd, appender(m):
        assert os.getxattr(m.p("a.jsonl"), "user.jsonlfs.writers") == b"2"
        rotate(m)
        assert os.getxattr(m.p("a.jsonl.1"), "user.jsonlfs.writers") == b"2"
        os.write(fd, b"1\n")
        assert os.getxattr(m.p("a.jsonl.1"), "user.jsonlfs.writers") == b"1"
        assert os.getxattr(m.p("a.jsonl"), "user.jsonlfs.writers") == b"1"
        assert "user.jsonlfs.writers" not in os.listxattr(m.p("a.jsonl"))
        p = run(binary("jsonlfsctl"), "reap", "--keep", "0", m.p("a.jsonl"), check=8)
        assert b"still writes to it" in p.stderr
        assert m.p("a.jsonl.1").exists()
    wait_for(lambda: settled(m, "a.jsonl.1"), "the RELEASE")
    run(binary("jsonlfsctl"), "reap", "--keep", "0", m.p("a.jsonl"), check=0)
    assert not m.p("a.jsonl.1").exists()


def test_reap_leaves_a_later_generation_that_is_appended_to(m):
    """The descriptor still shows in /proc as the first file."""
    with appender(m) as fd:
        rotate(m, to="a.jsonl.2")
        os.write(fd, b"1\n")
        rotate(m)
        assert os.getxattr(m.p("a.jsonl.1"), "user.jsonlfs.writers") == b"1"
        p = run(binary("jsonlfsctl"), "reap", "--keep", "0", m.p("a.jsonl"), check=8)
        assert b"a.jsonl.1: is still open for writing: left" in p.stderr
        assert m.p("a.jsonl.1").exists() and not m.p("a.jsonl.2").exists()
    wait_for(lambda: settled(m, "a.jsonl.1"), "the RELEASE")
    run(binary("jsonlfsctl"), "reap", "--keep", "0", m.p("a.jsonl"), check=0)
    assert not m.p("a.jsonl.1").exists()


@pytest.mark.limit(600)
def test_sixteen_writers_that_never_reopen_through_a_thousand_rotations(m, tmp_path):
    """Rotated and reaped all the while; what stood in the generations when they were reaped,
    and what is left at the end, is every record once."""
    writers, rotations, stop = 16, 1000 // SLOW, tmp_path / "stop"
    create(m.p("a.jsonl"))
    seen, kept, done, reaped = [], [], 0, 0
    with contextlib.ExitStack() as stack:
        programs = [
            stack.enter_context(running(PYTHON, "-c", WRITER, m.p("a.jsonl"), i, stop))
            for i in range(writers)
        ]
        # An open in the course of two rotations may fail with ESTALE.
        for p in programs:
            assert p.stdout.readline() == b"open\n"
        while done < rotations:
            # Each syncs the directory, which waits for what others write to the disk.
            p = run(binary("jsonlfsctl"), "rotate", m.p("a.jsonl"), check=0, timeout=300)
            name = os.path.basename(p.stdout.decode().strip())
            if not NANOSECONDS.match(name):
                continue  # it was empty
            done += 1
            kept.append(name)
            if done % 20:
                continue
            # A writer that does not get to run stays where it is, or writes at this moment, or
            # cannot be looked at within a second: reap leaves that one. What it deletes is
            # whole by then, and is read when it is gone.
            held = {x: stack.enter_context(open(m.b(x), "rb")) for x in kept}
            p = run(binary("jsonlfsctl"), "reap", "--keep", "20", m.p("a.jsonl"), timeout=300)
            assert p.returncode == (8 if p.stderr else 0)
            assert all(re.search(rb": left(;|$)", x) for x in p.stderr.splitlines()), p.stderr
            left = {f for f in os.listdir(m.mnt) if NANOSECONDS.match(f)}
            # The newest are those that were written to last, by a late writer, too.
            assert left <= set(kept) and len(left) >= 20
            for gone in set(kept) - left:
                data = held[gone].read()
                check_lines(data, gone)
                seen += [parse(line) for line in data.split(b"\n")[:-1]]
                reaped += 1
            for f in held.values():
                f.close()
            kept = [x for x in kept if x in left]
            assert m.p("a.jsonl").exists()
        stop.touch()
        counts = []
        for p in programs:
            out, err = p.communicate(timeout=300)
            assert p.returncode == 0, err
            counts.append(int(out))
    for name in [*kept, "a.jsonl"]:
        seen += records(m.b(name))
    got = sorted((r["id"], r["n"]) for r in seen)
    assert got == [(i, n) for i, count in enumerate(counts) for n in range(count)]
    assert reaped > rotations / 2 and m.counter("followed") >= writers
    assert m.quarantine() == []
