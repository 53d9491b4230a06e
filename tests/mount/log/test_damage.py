# SPDX-License-Identifier: MIT
"""What is already broken when the mount begins: a table of real corruption, laid down in
the backing directory before the mount. What readers are shown, what the first append
repairs, what is kept in the quarantine, what is reported and left alone."""

import errno
import json
import os
import stat
import subprocess
import time
from collections import namedtuple

import pytest
from util import (
    DAEMON,
    PYTHON,
    UNCLEAN,
    append,
    binary,
    check_lines,
    opened,
    refused,
    run,
    running,
    wait_for,
)

pytestmark = pytest.mark.damaged

A = b'{"n":1}\n'
B = b'{"n":2,"t":"\xe2\x82\xac"}\n'
NEW = b'{"new":1}\n'

# shown: what readers get before any append. cut: the bytes at the end that the first
# append sets aside. newline: the last record gets its newline by the first append.
Case = namedtuple("Case", "content shown cut newline", defaults=(b"", False))

TAILS = {
    "half record": Case(A + b'{"n":2,"te', A, b'{"n":2,"te'),
    "half string": Case(A + b'"abc', A, b'"abc'),
    "only half a record": Case(b'{"n":', b"", b'{"n":'),
    "fused and no newline": Case(A + b'{"n":2}{"n":3}', A, b'{"n":2}{"n":3}'),
    "half a character": Case(A + B[:13], A, B[:13]),
    "half a character of four": Case(
        A + b'"\xf0\x9f\x98', A, b'"\xf0\x9f\x98'),
    "a bare number": Case(A + b"12", A, b"12"),
    "text": Case(A + b"oops", A, b"oops"),
    "half a literal": Case(A + b"nul", A, b"nul"),
    "nuls 1": Case(A + b"\0", A, b"\0"),
    **{f"nuls {n}": Case(A + B + b"\0" * n, A + B, b"\0" * n)
       for n in (200, 333, 512, 700)},
    "nuls to the block's end": Case(A + b"\0" * (4096 - len(A)), A, b"\0" * (4096 - 8)),
    "record then nuls": Case(
        A + b'{"n":2}' + b"\0" * 300, A, b'{"n":2}' + b"\0" * 300),
    "half record then nuls": Case(A + b'{"n"' + b"\0" * 250, A, b'{"n"' + b"\0" * 250),
    "all nuls": Case(b"\0" * 4096, b"", b"\0" * 4096),
    # Blocks of an unsynced batch that were written out of order: a hole, the rest of the
    # batch and its newline.
    "nuls, then the rest of a batch": Case(
        A + B + b"\0" * 4000 + b'"t":7}\n', A + B, b"\0" * 4000 + b'"t":7}\n'),
    "half record, nuls, the rest of a batch": Case(
        A + b'{"n":2,' + b"\0" * 512 + b'3}\n', A, b'{"n":2,' + b"\0" * 512 + b'3}\n'),
    "several holes and half a record": Case(
        A + b"\0" * 99 + b'1}\n{"n"' + b"\0" * 99 + b'}\n{"n":', A,
        b"\0" * 99 + b'1}\n{"n"' + b"\0" * 99 + b'}\n{"n":'),
    "large half record": Case(A + b'"' + b"x" * 300_000, A, b'"' + b"x" * 300_000),
    "valid without newline": Case(A + B[:-1], A + B[:-1], b"", True),
    "only a valid record without newline": Case(A[:-1], A[:-1], b"", True),
    "valid string without newline": Case(A + b'"s"', A + b'"s"', b"", True),
    "valid with carriage return": Case(A + b"[1]\r", A + b"[1]\r", b"", True),
    "clean": Case(A + B, A + B),
    "empty": Case(b"", b""),
}

# Damage that ends with a newline: never rewritten online.
MIDDLE = {
    "fused": A + b'{"n":2}{"n":3}\n' + B,
    "nul run": A + b"\0" * 400 + b'{"n":2}\n' + B,
    "bad line": A + b"oops\n" + B,
    "half record": A + b'{"n":2,\n' + B,
    "half record fused": A + b'{"n":2,"t":"ab{"n":3}\n' + B,
    "half a character": A + b'"\xe2\x82"\n' + B,
    "bad last line": A + b"oops\n",
    "blank": A + b"\n" + B,
    "oversize": A + b'"' + b"x" * 5000 + b'"\n' + B,
}

BINARY = {
    "elf": b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 20 + b"\nab\n\x00\x01",
    "gzip": b"\x1f\x8b\x08\x00" + b"\n".join([bytes([i, 255 - i]) for i in range(99)]),
    "text": b"# Notes\n\nThis is no JSON.\nThe end",
    "half after a bad line": A + b"oops\n" + b'{"n":',
}


def lay(content):
    def prepare(source):
        (source / "x.jsonl").write_bytes(content)
        os.chmod(source / "x.jsonl", 0o640)
        os.chown(source / "x.jsonl", DAEMON, DAEMON)

    return prepare


@pytest.mark.parametrize("name", TAILS)
def test_tail(mount, name):
    case = TAILS[name]
    m = mount(prepare=lay(case.content))
    before = os.stat(m.b("x.jsonl"))

    # Reading shows whole records and never writes.
    assert m.p("x.jsonl").read_bytes() == case.shown
    assert os.stat(m.p("x.jsonl")).st_size == len(case.shown)
    with opened(m.p("x.jsonl"), os.O_RDONLY) as fd:
        assert os.pread(fd, 1 << 20, 0) == case.shown
        assert os.lseek(fd, 0, os.SEEK_END) == len(case.shown)
        # Open for writing and close, without a write, is no append either.
        os.close(os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND))
        after = os.stat(m.b("x.jsonl"))
        assert m.b("x.jsonl").read_bytes() == case.content
        assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
        assert m.quarantine() == []

        # The first append repairs.
        append(m.p("x.jsonl"), NEW)
        kept = case.content[: len(case.content) - len(case.cut)]
        want = kept + (b"\n" if case.newline else b"") + NEW
        assert m.both("x.jsonl") == want
        assert os.pread(fd, 1 << 20, 0) == want
    assert m.set_aside("x.jsonl") == case.cut
    if case.cut:
        (entry, _), = m.quarantine()
        assert entry["path"] == "x.jsonl"
        assert entry["at"] == len(kept)
        st = os.stat(m.state("quarantine") / entry["file"])
        assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (DAEMON, DAEMON, 0o640)
    if case.cut or case.newline:
        assert m.counter("repairs") == 1
        m.expect_log("x.jsonl", "repair")
    append(m.p("x.jsonl"), NEW)
    assert m.both("x.jsonl") == want + NEW
    m.check_after = True


@pytest.mark.parametrize("name", MIDDLE)
def test_damage_in_the_middle_is_reported_and_left_alone(mount, name):
    content = MIDDLE[name]
    m = mount(prepare=lay(content))
    assert m.p("x.jsonl").read_bytes() == content
    append(m.p("x.jsonl"), NEW)
    assert m.both("x.jsonl") == content + NEW
    assert m.quarantine() == []
    ctl = binary("jsonlfsctl")
    for where in (m.mnt, m.backing):
        p = run(ctl, "check", "--json", where)
        harmless = name in ("blank", "oversize")
        assert p.returncode == (0 if harmless else 4), p.stdout + p.stderr
        if not harmless:
            assert "x.jsonl" in json.dumps(json.loads(p.stdout))


@pytest.mark.parametrize("name", BINARY)
def test_a_file_that_is_no_json_lines_is_not_touched(mount, name):
    content = BINARY[name]
    m = mount(prepare=lay(content))
    before = os.stat(m.b("x.jsonl")).st_mtime_ns
    with refused(UNCLEAN):
        append(m.p("x.jsonl"), NEW)
    with refused(UNCLEAN):  # and again
        append(m.p("x.jsonl"), NEW)
    assert m.b("x.jsonl").read_bytes() == content
    assert os.stat(m.b("x.jsonl")).st_mtime_ns == before
    m.expect_log("x.jsonl", "not JSON Lines")
    # One bad file never stops another.
    append(m.p("y.jsonl"), NEW)
    assert m.both("y.jsonl") == NEW
    p = run("/bin/bash", "-c", "echo '{}' >> x.jsonl", cwd=m.mnt)
    assert p.returncode == 1
    assert b"Structure needs cleaning" in p.stderr


def test_a_tail_longer_than_maxrecord_is_not_touched(mount):
    content = A + b'"' + b"x" * 100_000
    m = mount("maxrecord=64K", prepare=lay(content))
    assert m.p("x.jsonl").read_bytes() == A
    with refused(UNCLEAN):
        append(m.p("x.jsonl"), NEW)
    assert m.b("x.jsonl").read_bytes() == content


def test_all_of_them_in_one_vault(mount):
    def prepare(source):
        for i, case in enumerate(TAILS.values()):
            (source / f"t{i}.jsonl").write_bytes(case.content)
        for i, content in enumerate(BINARY.values()):
            (source / f"b{i}.jsonl").write_bytes(content)

    m = mount(prepare=prepare)
    for i, case in enumerate(TAILS.values()):
        assert m.p(f"t{i}.jsonl").read_bytes() == case.shown
    p = run(binary("jsonlfsctl"), "check", m.backing)
    assert p.returncode == 4
    for i in range(len(BINARY)):
        assert f"b{i}.jsonl".encode() in p.stdout
    for i in range(len(TAILS)):
        append(m.p(f"t{i}.jsonl"), NEW)
    for i in range(len(TAILS)):
        check_lines(m.both(f"t{i}.jsonl"), f"t{i}.jsonl")


def test_o_trunc_on_a_file_that_holds_nothing_but_a_torn_tail(mount):
    """Readers see an empty file, but there are bytes: they are not thrown away."""
    m = mount(prepare=lay(b'{"half":'))
    try:
        with open(m.p("x.jsonl"), "wb") as f:
            f.write(NEW)
    except OSError as e:
        assert e.errno == errno.EPERM
        assert m.b("x.jsonl").read_bytes() == b'{"half":'
    else:
        assert m.both("x.jsonl") == NEW
        assert m.set_aside() == b'{"half":'


def test_a_torn_tail_that_the_quarantine_cannot_take_stays_and_is_counted(mount):
    """To cut it without a copy would be to lose it, so nothing is appended."""
    content = A + b'{"half":"' + b"x" * (5 << 20)
    m = mount("quarantine_max=4M", prepare=lay(content))
    with refused(errno.ENOSPC):
        append(m.p("x.jsonl"), NEW)
    assert m.b("x.jsonl").read_bytes() == content
    assert m.counter("quarantine_full") >= 1
    assert not m.quarantine()


def test_a_rotation_takes_the_torn_tail_along(mount):
    content = A + b'{"half":'
    m = mount(prepare=lay(content))
    os.rename(m.p("x.jsonl"), m.p("x.jsonl.1"))
    data = m.b("x.jsonl.1").read_bytes()
    assert data == content or (data == A and m.set_aside() == b'{"half":')
    append(m.p("x.jsonl"), NEW)
    assert m.both("x.jsonl") == NEW


def test_a_torn_tail_renamed_to_another_governed_name(mount):
    m = mount(prepare=lay(A + b'{"half":'))
    os.rename(m.p("x.jsonl"), m.p("y.jsonl"))
    assert m.p("y.jsonl").read_bytes() == A
    append(m.p("y.jsonl"), NEW)
    assert m.both("y.jsonl") == A + NEW
    assert m.set_aside() == b'{"half":'


def test_repair_waits_for_a_writer_outside_who_is_in_mid_record(mount):
    """Its tail is no wreck: once it goes on, both its record and ours are whole."""
    m = mount("sync=none", prepare=lay(A))
    script = (
        "import sys, time\n"
        "f = open(sys.argv[1], 'ab', buffering=0)\n"
        "f.write(b'{\"outside\":')\n"
        "print(1, flush=True)\n"
        "time.sleep(1)\n"
        "f.write(b'1}\\n')\n"
    )
    with running(PYTHON, "-c", script, m.b("x.jsonl")) as p:
        p.stdout.readline()
        start = time.monotonic()
        append(m.p("x.jsonl"), NEW)
        assert time.monotonic() - start < 5
        assert p.wait(10) == 0
    assert m.quarantine() == []
    assert m.both("x.jsonl") == A + b'{"outside":1}\n' + NEW


def test_repair_when_the_writer_outside_stays_silent(mount):
    """After two seconds of silence a half record of an open handle is a wreck too."""
    m = mount(prepare=lay(A))
    script = (
        "import sys\n"
        "f = open(sys.argv[1], 'ab', buffering=0)\n"
        "f.write(b'{\"outside\":')\n"
        "print(1, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with running(PYTHON, "-c", script, m.b("x.jsonl"), stdin=subprocess.PIPE) as p:
        p.stdout.readline()
        append(m.p("x.jsonl"), NEW)
        assert m.both("x.jsonl") == A + NEW
        assert m.set_aside() == b'{"outside":'


def test_a_repair_is_not_repeated_after_a_remount(mount):
    m = mount(prepare=lay(A + b'{"half":'))
    append(m.p("x.jsonl"), NEW)
    m.restart()
    append(m.p("x.jsonl"), NEW)
    assert m.both("x.jsonl") == A + NEW + NEW
    assert len(m.quarantine()) == 1


def test_sizes_in_readdir_and_stat_agree_with_what_is_read(mount):
    m = mount(prepare=lay(A + b"\0" * 300))
    p = run("/bin/sh", "-c", "wc -c < x.jsonl; stat -c %s x.jsonl; ls -l x.jsonl", cwd=m.mnt,
            check=0)
    words = p.stdout.split()
    assert words[0] == words[1] == words[6] == b"%d" % len(A)
    wait_for(lambda: m.b("x.jsonl").stat().st_size == len(A) + 300, "untouched")
