# SPDX-License-Identifier: MIT
"""jsonlfsctl append, quarantine, archive, rotate and reap, on bare vaults and on mounts."""

import contextlib
import fcntl
import os
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest

from util import (
    BAD,
    DAMAGE,
    FAILED,
    NOBODY,
    OK,
    PYTHON,
    REPAIRED,
    REPO,
    USAGE,
    append,
    binary,
    ctl,
    parse,
    process_in_exec,
    records,
    refused,
    run,
    running,
    sh,
    traced,
    wait_for,
)

GOOD = b'{"a":1}\n'
STAMP = r"\d{8}T\d{6}\.\d{9}Z"


@pytest.fixture(params=["bare", "mounted"])
def place(request, workdir):
    """A directory, bare or in a mount."""
    if request.param == "bare":
        return workdir
    return request.getfixturevalue("mount")().mnt


# ---- append ----


def test_append(place):
    x = place / "x.jsonl"
    p = ctl("append", x, stdin=GOOD + b"\n [1]\r\n  \n\"last\"")
    assert p.stdout == p.stderr == b""
    assert x.read_bytes() == GOOD + b" [1]\r\n\"last\"\n"
    for sync in ("close", "write", "none"):
        ctl("append", f"--sync={sync}", x, stdin=GOOD)
    ctl("append", "x.jsonl", stdin=b"12", cwd=place)
    assert x.read_bytes() == GOOD + b" [1]\r\n\"last\"\n" + GOOD * 3 + b"12\n"
    ctl("append", x, stdin=b"")


def test_append_leaves_out_what_is_no_record(place):
    x = place / "x.jsonl"
    p = ctl("append", x, code=DAMAGE,
            stdin=GOOD + b"{'a':1}\n" + GOOD + b"{}{}\n\"\xff\"\n[1,\n" + GOOD)
    assert x.read_bytes() == GOOD * 3
    lines = p.stderr.decode().splitlines()
    assert [re.match(r"jsonlfsctl: line (\d): byte (\d): ", line).groups() for line in lines] \
        == [("2", "1"), ("4", "2"), ("5", "1"), ("6", "3")]
    p = ctl("append", x, code=DAMAGE, stdin=b'"' + b"x" * (17 << 20) + b'"\n' + GOOD)
    assert p.stderr.startswith(b"jsonlfsctl: line 1: ") and p.stderr.count(b"\n") == 1
    assert x.read_bytes() == GOOD * 4


def test_append_takes_long_records_whole(place):
    record = b'"' + b"x" * (5 << 20) + b'"\n'
    ctl("append", place / "x.jsonl", stdin=record + GOOD)
    assert (place / "x.jsonl").read_bytes() == record + GOOD


def test_append_plain_text(place):
    x = place / "x.jsonl"
    text = 'say "hi"\\\n\n\ttab \x01\x7f\x0b é 𝄞 \u2028\r\nno newline'.encode()
    ctl("append", "--text-as=the \"line\"", x, stdin=text)
    assert records(x) == [{'the "line"': line} for line in
                          ['say "hi"\\', "", "\ttab \x01\x7f\x0b é 𝄞 \u2028\r", "no newline"]]
    p = ctl("append", "--text-as", "t", x, stdin=b"a\xffb\xc3\n\0\n")
    assert b"line 1: 2 bytes that are not UTF-8" in p.stderr
    assert records(x)[4:] == [{"t": "a\ufffdb\ufffd"}, {"t": "\0"}]


def test_append_comes_as_it_is_written(place):
    """A pipe that stays open: what has come is in the file."""
    x = place / "x.jsonl"
    with running(binary("jsonlfsctl"), "append", x, stdin=subprocess.PIPE) as p:
        p.stdin.write(GOOD + b'{"half')
        p.stdin.flush()
        wait_for(lambda: x.read_bytes() == GOOD)
        p.stdin.write(b'":1}\n')
        p.stdin.close()
        assert p.wait(10) == 0
    assert x.read_bytes() == GOOD + b'{"half":1}\n'


def test_many_appenders(place):
    x = place / "x.jsonl"

    def one(n):
        ctl("append", x, stdin=b"".join(b'{"n":%d,"k":%d,"p":"%s"}\n' % (n, k, b"x" * 6000)
                                        for k in range(100)))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    got = [(r["n"], r["k"]) for r in records(x)]
    assert len(got) == 400
    for n in range(4):
        assert [k for m, k in got if m == n] == list(range(100))


def test_append_joins_the_lock(workdir):
    x = workdir / "x.jsonl"
    x.write_bytes(GOOD)
    with open(x, "rb") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        p = subprocess.Popen([binary("jsonlfsctl"), "append", x], stdin=subprocess.PIPE)
        p.stdin.write(GOOD)
        p.stdin.close()
        time.sleep(0.3)
        assert p.poll() is None and x.read_bytes() == GOOD
        fcntl.flock(f, fcntl.LOCK_UN)
        assert p.wait(10) == 0
    assert x.read_bytes() == GOOD * 2


def test_append_to_a_full_disk(workdir):
    d = workdir / "small"
    d.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64K", "none", d, check=0)
    try:
        big = b'"' + b"x" * 30000 + b'"\n'
        p = ctl("append", d / "x.jsonl", stdin=big * 4, code=FAILED)
        assert b": line 3: " in p.stderr and b"nor is what follows" in p.stderr
        assert (d / "x.jsonl").read_bytes() == big * 2
    finally:
        run("umount", "-l", d, check=0)


def test_append_refusals(workdir, mount):
    assert b"one file" in ctl("append", "a", "b", code=USAGE).stderr
    for argv in ([], ["--sync=often", "x"], ["--what", "x"], ["--text-as"]):
        assert b"--help" in ctl("append", *argv, code=USAGE).stderr
    p = ctl("append", workdir / "none" / "x.jsonl", code=FAILED, stdin=GOOD)
    assert b"No such file or directory" in p.stderr
    assert b"regular" in ctl("append", "/dev/null", code=FAILED, stdin=GOOD).stderr
    (workdir / "b.jsonl").write_bytes(b"a\nb\nc")
    p = ctl("append", workdir / "b.jsonl", code=FAILED, stdin=GOOD)
    assert b"jsonlfsctl repair" in p.stderr
    # What the mount wants besides.
    m = mount("value=object")
    p = ctl("append", m.p("x.jsonl"), stdin=GOOD + b"[1]\n" + GOOD, code=DAMAGE)
    assert b"the mount refuses some of these records" in p.stderr
    assert m.both("x.jsonl") == GOOD * 2 and m.quarantine()[0][1] == b"[1]\n"
    p = ctl("append", m.p("y.jsonl"), stdin=b"[1]\n" + GOOD, code=DAMAGE)
    assert b"line 1: the mount refuses this record" in p.stderr
    assert m.both("y.jsonl") == GOOD


# ---- quarantine ----


def refuse(m, name, data):
    fd = os.open(m.p(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with refused(BAD):
        os.write(fd, data)
    with refused(BAD):  # close tells it, too
        os.close(fd)


def listed(path, *argv, **kw):
    return parse(ctl("quarantine", "list", "--json", *argv, path, **kw).stdout)["quarantine"]


def test_quarantine_of_a_mount(m):
    assert ctl("quarantine", "list", m.mnt).stdout == b"0 entries, 0 B\n"
    refuse(m, "x.jsonl", b"bad\n")
    m.p("sub").mkdir()
    refuse(m, "sub/y.jsonl", b"[,0]\n{'b':1}\n")
    # That there was no index is remembered by the kernel for a second.
    wait_for(lambda: all("path" in e for e in listed(m.mnt)))
    for path in (m.mnt, m.p("sub"), m.source):
        x, y = listed(path)
        assert [x["path"], y["path"]] == ["x.jsonl", "sub/y.jsonl"]
        assert [x["bytes"], y["bytes"]] == [4, 13] and x["event"] == "refused"
        assert x["reason"] == "bad-literal" and "python3" in x["program"]
    text = ctl("quarantine", "list", m.mnt).stdout.decode()
    assert "sub/y.jsonl" in text and text.endswith("2 entries, 17 B\n")
    p = ctl("quarantine", "show", m.mnt, y["file"])
    assert p.stdout == b"[,0]\n{'b':1}\n" and p.stderr == b""
    # Back again: not as it is, but when it has been mended.
    p = ctl("quarantine", "restore", m.mnt, y["file"], code=DAMAGE)
    assert b"line 1: byte 1: " in p.stderr and b"--edited" in p.stderr
    assert m.both("sub/y.jsonl") == b""
    p = ctl("quarantine", "restore", m.mnt, y["file"], "--edited=-", stdin=b'{"b":1}\n')
    assert b"1 of 1 record" in p.stdout
    assert m.both("sub/y.jsonl") == b'{"b":1}\n'
    ctl("quarantine", "drop", m.mnt, y["file"])
    assert [e["path"] for e in listed(m.mnt)] == ["x.jsonl"]


def test_quarantine_of_a_bare_vault(mount, workdir):
    m = mount(self_mount=False)
    refuse(m, "x.jsonl", b"bad\n")
    refuse(m, "y.jsonl", b"worse\n")
    m.umount()
    x, y = listed(m.source)
    edited = workdir / "edited"
    edited.write_bytes(b'{"mended":1}\n\n{"mended":2}')
    ctl("quarantine", "restore", m.source, x["file"], "--edited", edited)
    assert m.b("x.jsonl").read_bytes() == b'{"mended":1}\n{"mended":2}\n'
    # It is remembered, so that nobody does it twice without a thought.
    assert "restored" in listed(m.source)[0] and "restored" not in listed(m.source)[1]
    p = ctl("quarantine", "restore", m.source, x["file"], f"--edited={edited}", code=FAILED)
    assert b"--again" in p.stderr
    ctl("quarantine", "restore", "--again", m.source, x["file"], f"--edited={edited}")
    assert len(records(m.b("x.jsonl"))) == 4
    ctl("quarantine", "drop", m.source, x["file"])
    assert [e["file"] for e in listed(m.source)] == [y["file"]]
    for name in (x["file"], "../status.json", ".", ""):
        ctl("quarantine", "drop", m.source, name, code=FAILED)
        ctl("quarantine", "show", m.source, name, code=FAILED)
    assert b"list tells the names" in ctl("quarantine", "show", m.source, "no", code=FAILED).stderr
    # The mount goes on with the index as it is now.
    m.start()
    assert m.status()["quarantine"]["entries"] == 1
    refuse(m, "x.jsonl", b"worst\n")
    assert len(listed(m.mnt)) == 2


@pytest.mark.parametrize("bare", [False, True])
def test_what_is_restored_after_a_rotation_is_for_the_same_people(mount, bare):
    """The log is not there: it is made, and not as root's, for everybody to read."""
    m = mount(self_mount=False)
    x = m.p("x.jsonl")
    x.touch()
    os.chown(x, NOBODY, 12345)
    x.chmod(0o640)
    refuse(m, "x.jsonl", b"bad\n")
    os.rename(x, m.p("x.jsonl.1"))
    wait_for(lambda: all("path" in e for e in listed(m.mnt)))
    name = listed(m.mnt)[0]["file"]
    if bare:
        m.umount()
    where = m.source if bare else m.mnt
    ctl("quarantine", "restore", where, name, "--edited=-", stdin=GOOD)
    st = (where / "x.jsonl").stat()
    assert (st.st_mode & 0o7777, st.st_uid, st.st_gid) == (0o640, NOBODY, 12345)
    assert (where / "x.jsonl").read_bytes() == GOOD
    assert sorted(n for n in os.listdir(where) if n != ".jsonlfs") == ["x.jsonl", "x.jsonl.1"]


def test_two_restores_at_the_same_time(mount, workdir):
    """The second waits for the first, and sees that it is done."""
    m = mount(self_mount=False)
    refuse(m, "x.jsonl", b"bad\n")
    wait_for(lambda: all("path" in e for e in listed(m.mnt)))
    name = listed(m.mnt)[0]["file"]
    edited = workdir / "edited"
    edited.write_bytes(GOOD)
    slow = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync",
            "-e", "inject=fsync:delay_exit=1000000")
    argv = (binary("jsonlfsctl"), "quarantine", "restore", m.mnt, name, f"--edited={edited}")
    with running(*slow, *argv) as first:
        wait_for(lambda: m.b("x.jsonl").read_bytes())
        assert b"--again" in ctl(*argv[1:], code=FAILED).stderr
        assert first.wait(20) == 0
    assert m.both("x.jsonl") == GOOD


def test_what_is_restored_and_not_synced_is_not_restored_again(mount):
    """sync=write: the answer is an error, and the record is in the file."""
    m = mount("sync=write", self_mount=False)
    refuse(m, "x.jsonl", b"bad\n")
    wait_for(lambda: all("path" in e for e in listed(m.mnt)))
    name = listed(m.mnt)[0]["file"]
    argv = ("quarantine", "restore", m.mnt, name, "--edited=-")
    with traced(m, "-o", "/dev/null", "-e", "trace=fdatasync,fsync",
                "-e", "inject=fdatasync,fsync:error=EIO", "-P", m.b("x.jsonl")):
        p = ctl(*argv, stdin=GOOD + b"[2]\n", code=FAILED)
    assert b"line 1: Input/output error: it is in the file or not" in p.stderr
    assert m.both("x.jsonl") == GOOD
    assert b"--again" in ctl(*argv, stdin=GOOD + b"[2]\n", code=FAILED).stderr
    assert m.both("x.jsonl") == GOOD


def test_a_quarantine_elsewhere(mount, workdir):
    state = workdir / "state"
    m = mount(f"state={state}", self_mount=False)
    m.state_dir = str(state)
    refuse(m, "x.jsonl", b"bad\n")
    name = listed(m.mnt)[0]["file"]
    assert b"--state" in ctl("quarantine", "list", m.source, code=FAILED).stderr
    assert listed(m.source, f"--state={state}")[0]["file"] == name
    ctl("quarantine", "restore", "--state", state, m.source, name, "--edited=-", stdin=GOOD)
    assert m.both("x.jsonl") == GOOD
    ctl("quarantine", "drop", "--state", state, m.source, name)
    assert listed(m.mnt) == []


def test_a_file_without_a_line_in_the_index(workdir):
    q = workdir / ".jsonlfs/quarantine"
    q.mkdir(parents=True)
    (q / "20260101T000000Z.000000000-x.jsonl").write_bytes(GOOD)
    (workdir / ".jsonlfs/quarantine.jsonl").write_bytes(b'half a li')
    assert listed(workdir) == [{"file": "20260101T000000Z.000000000-x.jsonl", "bytes": 8}]
    p = ctl("quarantine", "restore", workdir, "20260101T000000Z.000000000-x.jsonl", code=FAILED)
    assert b"jsonlfsctl append" in p.stderr
    # Nor does an index lead out of the vault.
    for path in ("../x.jsonl", "/tmp/x.jsonl", "a/../../x.jsonl", ""):
        (workdir / ".jsonlfs/quarantine.jsonl").write_bytes(
            b'{"event":"refused","file":"20260101T000000Z.000000000-x.jsonl","path":"%s"}\n'
            % path.encode())
        ctl("quarantine", "restore", workdir, "20260101T000000Z.000000000-x.jsonl", code=FAILED)
    assert not (workdir.parent / "x.jsonl").exists()


def test_the_quarantine_is_not_for_everybody(m):
    refuse(m, "x.jsonl", b"bad\n")
    p = ctl("quarantine", "list", m.mnt, uid=NOBODY)
    assert p.stdout == b"0 entries, 0 B\n"
    for argv in (["show"], ["what", "x"], ["show", m.mnt], [], ["show", "--json", m.mnt, "x"]):
        assert b"--help" in ctl("quarantine", *argv, code=USAGE).stderr


# ---- archive ----


def test_archive_list(mount):
    m = mount(self_mount=False)
    m.p("sub").mkdir()
    append(m.p("sub/50%.jsonl"), GOOD)
    m.p("sub/50%.jsonl").unlink()
    for path in (m.mnt, m.source):
        d = parse(ctl("archive", "list", "--json", path).stdout)
        assert d["files"] == 1 and d["bytes"] == 8
        f = d["archive"][0]
        assert f["path"] == "sub/50%.jsonl" and re.fullmatch(STAMP + r"\.[0-9a-f]{16}-.*", f["file"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", f["time"])
    assert b"sub/50%.jsonl" in ctl("archive", "list", m.mnt).stdout
    assert ctl("archive", "list", m.mnt, uid=NOBODY).stdout == b"0 files, 0 B\n"
    assert b"--help" in ctl("archive", "drop", m.mnt, code=USAGE).stderr


# ---- rotate ----


def test_rotate(place):
    x = place / "x.jsonl"
    x.write_bytes(GOOD)
    os.chown(x, NOBODY, 12345)
    x.chmod(0o640)
    inode = x.stat().st_ino
    p = ctl("rotate", x)
    generation = p.stdout.decode().strip()
    assert re.fullmatch(re.escape(str(x)) + r"\." + STAMP, generation)
    with open(generation, "rb") as f:
        assert f.read() == GOOD and os.fstat(f.fileno()).st_ino == inode
    st = x.stat()
    assert st.st_size == 0 and st.st_ino != inode
    assert (st.st_mode & 0o7777, st.st_uid, st.st_gid) == (0o640, NOBODY, 12345)
    append(x, b"[2]\n")
    assert b"" == ctl("rotate", "-q", "x.jsonl", cwd=place).stdout
    assert len([n for n in os.listdir(place) if re.fullmatch(r"x\.jsonl\." + STAMP, n)]) == 2
    # An empty one is left, and a generation is none to rotate.
    before = sorted(os.listdir(place))
    assert b"is empty" in ctl("rotate", x).stdout
    assert b"a generation already" in ctl("rotate", generation, code=FAILED).stderr
    assert sorted(os.listdir(place)) == before
    assert b"No such file" in ctl("rotate", place / "none.jsonl", code=FAILED).stderr
    assert b"--help" in ctl("rotate", code=USAGE).stderr


def test_rotate_takes_the_acl_along(place):
    """The mode of a file with an ACL shows the mask: to give only that lets the group in."""
    x = place / "x.jsonl"
    x.write_bytes(GOOD)
    x.chmod(0o600)
    run("setfacl", "-m", "u:daemon:rw", x, check=0)
    acl = run("getfacl", "-c", "-p", x, check=0).stdout
    assert b"group::---" in acl
    ctl("rotate", x)
    assert x.stat().st_size == 0
    assert run("getfacl", "-c", "-p", x, check=0).stdout == acl
    assert len(os.listdir(place)) == 2


def test_a_rotation_that_was_killed_is_finished(workdir):
    """No record is there twice."""
    x = workdir / "x.jsonl"
    x.write_bytes(GOOD)
    run("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e",
        "inject=fsync:signal=SIGKILL:when=2", binary("jsonlfsctl"), "rotate", x)
    assert x.stat().st_nlink == 2
    generation = ctl("rotate", x).stdout.decode().strip()
    assert x.read_bytes() == b"" and x.stat().st_nlink == 1
    assert [str(p) for p in workdir.glob("x.jsonl.*")] == [generation]
    # A name that somebody else has given it is none of a rotation's.
    append(x, b"[2]\n")
    os.link(x, workdir / "x.jsonl.bak")
    assert ctl("rotate", x).stdout.decode().strip() != generation
    assert x.read_bytes() == b"" and (workdir / "x.jsonl.bak").read_bytes() == b"[2]\n"


def test_rotate_as_an_ordinary_user(place):
    d = place / "d"
    d.mkdir()
    d.chmod(0o777)
    x = d / "x.jsonl"
    x.write_bytes(GOOD)
    os.chown(x, NOBODY, NOBODY)
    ctl("rotate", x, uid=NOBODY)
    st = x.stat()
    assert (st.st_size, st.st_uid, st.st_gid) == (0, NOBODY, NOBODY)
    assert len(os.listdir(d)) == 2


def test_rotate_while_others_append(place):
    """Nothing is lost and nothing twice, also not by those who keep it open."""
    x = place / "x.jsonl"
    x.write_bytes(GOOD)
    stop = threading.Event()
    written = []

    def appender():
        n = 0
        while not stop.is_set():
            append(x, b'{"n":%d}\n' % n)
            written.append(n)
            n += 1

    with open(x, "ab", buffering=0) as kept:
        t = threading.Thread(target=appender)
        t.start()
        for n in range(10):
            kept.write(b'{"kept":%d}\n' % n)
            ctl("rotate", x)
            time.sleep(0.05)
        stop.set()
        t.join()
    found = [r for name in os.listdir(place) if name.startswith("x.jsonl")
             for r in records(place / name)]
    assert sorted(r["n"] for r in found if "n" in r) == written and written
    assert sorted(r["kept"] for r in found if "kept" in r) == list(range(10))


def test_rotate_what_is_not_ones_own(place):
    """Who cannot give the new file to the owner of the old one changes nothing."""
    d = place / "d"
    d.mkdir()
    d.chmod(0o777)
    (d / "x.jsonl").write_bytes(GOOD)
    (d / "x.jsonl").chmod(0o644)
    inode = (d / "x.jsonl").stat().st_ino
    assert b"permission denied" in ctl("rotate", d / "x.jsonl", code=FAILED, uid=NOBODY).stderr
    assert os.listdir(d) == ["x.jsonl"] and (d / "x.jsonl").read_bytes() == GOOD
    assert (d / "x.jsonl").stat().st_ino == inode


def test_rotate_waits_for_the_lock(workdir):
    x = workdir / "x.jsonl"
    x.write_bytes(GOOD)
    with open(x, "rb") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        assert b"holds its lock" in ctl("rotate", x, code=FAILED).stderr
        assert os.listdir(workdir) == ["x.jsonl"]
    ctl("rotate", x)


# ---- reap ----


def make_generations(d):
    now = time.time()
    ages = {"x.jsonl": 100, "x.jsonl.1": 1, "x.jsonl.2": 2, "x.jsonl.3": 30,
            "x.jsonl-20260101": 40, "x.jsonl.20260101T000000.123456789Z": 50,
            "sub/y.jsonl.1": 60, "x.jsonl.bak": 99, "x.jsonl.orig-20260101T000000Z": 99,
            "x.jsonl~": 99, "x.jsonl.1.gz": 99, "x.log.1": 99, "notes.1": 99}
    for name, age in ages.items():
        (d / name).parent.mkdir(exist_ok=True)
        (d / name).write_bytes(GOOD)
        os.utime(d / name, (now - age * 86400,) * 2)
    return set(ages)


def names(d):
    return {str(p.relative_to(d)) for p in d.rglob("*") if p.is_file() and ".jsonlfs" not in str(p)}


def test_reap_by_number(place):
    every = make_generations(place)
    p = ctl("reap", "-n", "--keep=2", place)
    assert p.stdout.decode().splitlines()[:-1] == [
        f"{place}/x.jsonl.3", f"{place}/x.jsonl-20260101",
        f"{place}/x.jsonl.20260101T000000.123456789Z"]
    assert b"3 generations, 24 B, would be deleted" in p.stdout and names(place) == every
    ctl("reap", "--keep", "2", place)
    left = every - {"x.jsonl.3", "x.jsonl-20260101", "x.jsonl.20260101T000000.123456789Z"}
    assert names(place) == left
    ctl("reap", "--keep=1", "x.jsonl", cwd=place)
    assert names(place) == left - {"x.jsonl.2"}
    ctl("reap", "--keep=0", place)
    assert names(place) == left - {"x.jsonl.1", "x.jsonl.2", "sub/y.jsonl.1"}


def test_reap_by_age(place):
    every = make_generations(place)
    ctl("reap", "--older-than=36d", place / "x.jsonl")
    left = every - {"x.jsonl-20260101", "x.jsonl.20260101T000000.123456789Z"}
    assert names(place) == left
    # Both limits: only what is beyond both.
    ctl("reap", "--older-than=36h", "--keep=1", place)
    assert names(place) == left - {"x.jsonl.2", "x.jsonl.3"}
    ctl("reap", "--older-than=8w", place)
    assert names(place) == left - {"x.jsonl.2", "x.jsonl.3", "sub/y.jsonl.1"}


def test_reap_never_takes_a_live_file(workdir):
    """Where the pattern makes a generation's name a live file's."""
    make_generations(workdir)
    every = names(workdir)
    ctl("reap", "--keep=0", "--match=x.jsonl*:y.jsonl*", workdir)
    assert {n for n in every if n.startswith("x.jsonl")} <= names(workdir) | {
        n for n in every if re.search(r"\d$|Z$", n)}
    assert "x.jsonl" in names(workdir) and "x.jsonl.bak" in names(workdir)
    (workdir / "z.jsonl.1").write_bytes(GOOD)
    os.symlink(workdir / "x.jsonl", workdir / "z.jsonl.2")
    ctl("reap", "--keep=0", "--exclude=z.jsonl", workdir)
    assert (workdir / "z.jsonl.1").exists() and (workdir / "z.jsonl.2").is_symlink()


def test_reap_leaves_what_is_written(place):
    x = place / "x.jsonl"
    x.write_bytes(GOOD)
    with running(PYTHON, "-c", "import sys\nf = open(sys.argv[1], 'ab', 0)\nprint(1, flush=True)\n"
                 "sys.stdin.readline()\nf.write(b'{}\\n')", x, stdin=subprocess.PIPE) as p:
        assert p.stdout.readline()
        ctl("rotate", x)
        q = ctl("reap", "--keep=0", place, code=FAILED)
        assert f"process {p.pid} (python3) still writes".encode() in q.stderr
        p.stdin.close()
        assert p.wait(10) == 0
    generation = [n for n in os.listdir(place) if n.startswith("x.jsonl.")]
    assert len(generation) == 1 and (place / generation[0]).read_bytes() == GOOD + b"{}\n"

    def reaped():
        run(binary("jsonlfsctl"), "reap", "--keep=0", place)
        return [n for n in os.listdir(place) if n.startswith("x.")] == ["x.jsonl"]

    wait_for(reaped)


def is_open(path):
    """Has any process opened this file?"""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) == str(path):
                return True
    return False


def test_reap_and_a_rotation_by_numbers_at_the_same_moment(workdir):
    """What has got the name meanwhile is another generation."""
    x = workdir / "x.jsonl"
    x.write_bytes(GOOD)
    (workdir / "x.jsonl.1").write_bytes(b"[1]\n")
    os.utime(workdir / "x.jsonl.1", (1, 1))
    with running("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fcntl",
                 "-e", "inject=fcntl:delay_exit=1000000", binary("jsonlfsctl"), "reap",
                 "--older-than=1d", workdir) as p:
        wait_for(lambda: is_open(workdir / "x.jsonl.1"))
        os.rename(workdir / "x.jsonl.1", workdir / "x.jsonl.2")
        os.rename(x, workdir / "x.jsonl.1")
        assert b"changed at this moment" in p.communicate(timeout=20)[1]
        assert p.returncode == FAILED
    assert (workdir / "x.jsonl.1").read_bytes() == GOOD
    assert (workdir / "x.jsonl.2").read_bytes() == b"[1]\n"


def test_reap_syncs_a_directory_once(workdir):
    make_generations(workdir)
    p = run("strace", "-f", "-e", "trace=fsync", "-e", "signal=none", binary("jsonlfsctl"),
            "reap", "--keep=0", workdir)
    assert p.returncode == 0 and b" generations, " in p.stdout
    assert p.stderr.count(b"fsync(") == 2, p.stderr  # sub, and what it is in


def test_a_process_that_hangs_in_an_exec_does_not_hold_up_reap(mount, workdir):
    """It waits for the answer to its close of a log, from a daemon that is stopped; who looks
    at its descriptors in /proc waits with it."""
    stopped, m = mount(), mount()
    (workdir / "bare").mkdir()
    log, bare = m.p("held.jsonl"), workdir / "bare/x.jsonl.1"
    append(log, GOOD)
    bare.write_bytes(GOOD)
    env = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}

    def reap(path, code):
        return run(binary("jsonlfsctl"), "reap", "--keep=0", path, check=code, env=env).stderr

    with process_in_exec(stopped, log):
        ctl("rotate", log)
        assert b"cannot be told to be closed" in reap(m.mnt, FAILED)
        # Others are found all the same, and where nobody has to be asked nobody is.
        with open(bare, "ab"):
            assert f"process {os.getpid()} (".encode() in reap(bare.parent, FAILED)
        reap(bare.parent, 0)
        assert not bare.exists() and len(os.listdir(m.mnt)) == 2
    wait_for(lambda: not run(binary("jsonlfsctl"), "reap", "--keep=0", m.mnt).returncode)
    assert os.listdir(m.mnt) == ["held.jsonl"]


def test_reap_usage(workdir):
    for argv in ([workdir], ["--keep=1"], ["--keep=x", workdir], ["--older-than=5", workdir],
                 ["--older-than=d", workdir], ["--keep=-1", workdir], ["-x", workdir]):
        assert b"--help" in ctl("reap", *argv, code=USAGE).stderr


# ---- all ----


COMMANDS = ["append", "archive", "check", "config", "delete-record", "edit", "metrics", "quarantine", "reap",
            "reload", "repair", "replace", "report", "rotate", "status", "watch", "writers"]


def test_tables_stay_aligned(m):
    """Also with names that are longer than their column."""
    for name in ("a", "b" * 60, "c" * 25):
        m.p(f"{name}.jsonl").write_bytes(b"{}\n")
        sh("echo '{\"n\": x}' >> $1", m.mnt, f"{name}.jsonl", check=None)
        m.p(f"{name}.jsonl").unlink()
        m.p(f"{name}.jsonl").write_bytes(b"{}\n")
    for table, column in ((["writers"], "RECORDS"), (["archive", "list"], "NAME"),
                          (["quarantine", "list"], "NAME")):
        head, *rows = ctl(*table, m.mnt).stdout.decode().splitlines()
        rows = [row for row in rows if ".jsonl" in row]
        assert len(rows) >= 3
        at = head.index(column) + (len(column) if column == "RECORDS" else 0)
        for row in rows:
            assert row[at - 1] == " " if column == "NAME" else row[at - 1].isdigit(), (head, row)
            assert row[at] != " " if column == "NAME" else row[at] == " ", (head, row)


def test_every_command_helps():
    every = ctl("--help").stdout.decode()
    assert sorted(re.findall(r"^  ([a-z-]+) +\S", every, re.M)) == sorted(COMMANDS)
    for command in COMMANDS:
        text = ctl(command, "--help").stdout.decode()
        assert text.startswith(f"usage: jsonlfsctl {command} ") and "Exit status: " in text
        assert all(len(line) <= 90 for line in text.splitlines()[1:])


def exit_codes(page):
    """{code: text} of the man page's table."""
    table = re.search(r"^\.SH EXIT STATUS\n(.*?)^\.SH", source(page), re.M | re.S)[1]
    return {int(c): t for c, t in re.findall(r"^\.TP\n\.B (\d+)\n(.*?)(?=^\.TP|\Z)", table,
                                            re.M | re.S)}


def constants(header, prefix):
    return {int(n) for n in re.findall(rf"^\t{prefix}_\w+ = (\d+),", source(header), re.M)}


def test_exit_codes_are_the_same_everywhere():
    """In the man pages, the sources, the tests and --help of each command."""
    known = exit_codes("docs/jsonlfsctl.1")
    assert set(known) == constants("fs/ctl/ctl.h", "CTL") == {OK, REPAIRED, DAMAGE, FAILED, USAGE}
    assert set(exit_codes("docs/jsonlfs.8")) == constants("fs/start/exit.h", "FS_EXIT")
    for command in COMMANDS:
        text = ctl(command, "--help").stdout.decode().partition("Exit status: ")[2].split("Notes")[0]
        told = {int(n) for n in re.findall(r"\b\d+\b", text)}
        assert {OK, FAILED, USAGE} <= told <= set(known), command
        assert (REPAIRED in told) == (command == "repair"), command
        page = known[DAMAGE].replace("\\-", "-")
        if DAMAGE in told and command not in ("check", "repair", "report"):
            assert re.search(rf'"?\b{command}\b', page), command


def source(name):
    return (REPO / name).read_text()


def helped(command):
    """Options that --help of a command names, and that a command takes itself."""
    text = ctl(command, "--help").stdout.decode()
    return {o.rstrip("=") for o in re.findall(r"(?<![\w-])--[a-z][a-z_-]*", text)} | {"--help"}


def is_taken(command, option, cwd):
    """It is called wrongly, or in an empty directory, so that nothing happens."""
    said = [ctl(command, *argv, "--no-such", cwd=cwd, code=None).stderr.decode()
            for argv in ([option], [f"{option}=x"])]
    return not all(re.search(rf"unknown option {option}\b", text) for text in said)


def completed_by_zsh(command):
    """Of the branch of a command, with the lists that it takes in."""
    text = source("mount-scripts/completions/_jsonlfsctl")
    branch = re.search(rf"^\t(?:\w+ \| )?{command}(?: \| \w+)?\)\n(.*?)^\t\t;;", text, re.M | re.S)[1]
    for name in re.findall(r"\$(limits|records|selection)", branch):
        branch += re.search(rf"^\t{name}=\((.*?)^\t\)", text, re.M | re.S)[1]
    return set(re.findall(r"--[a-z][a-z_-]*", branch))


def completed_by_fish(command):
    text = source("mount-scripts/completions/jsonlfsctl.fish").replace("\\\n", " ")
    found = {"--help"}
    for line in text.splitlines():
        where = re.search(r"-n '__jsonlfsctl_in ([^']*)'", line)
        if where and command in where[1].split():
            found |= {f"--{o}" for o in re.findall(r" -l ([\w-]+)", line)}
    return found


@pytest.mark.once
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_know_the_options_of_every_command(shell, workdir):
    for command in COMMANDS:
        if shell == "bash":
            found = {o.rstrip("=") for o in complete(f"jsonlfsctl {command} --", workdir)}
        else:
            found = (completed_by_zsh if shell == "zsh" else completed_by_fish)(command)
        wanted = helped(command)
        assert wanted <= found, (command, wanted - found)
        assert {o for o in found - {"--help"} if not is_taken(command, o, workdir)} == set(), command


def test_the_manual_knows_every_option():
    text = source("docs/jsonlfsctl.1").replace("\\-", "-")
    for command in COMMANDS:
        assert f"jsonlfsctl {command}".replace("config", "config check") in text
        for option in helped(command):
            assert option in text, (command, option)


def complete(line, cwd):
    program = line.split()[0]
    script = """
        . "$1"
        PATH=$4:$PATH
        COMP_LINE=$2 COMP_POINT=${#2}
        read -ra COMP_WORDS <<<"$2"
        [[ $2 == *' ' ]] && COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        "_$3"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    path = REPO / f"mount-scripts/completions/{program}.bash"
    p = run("/bin/bash", "-c", script, "bash", path, line, program,
            os.path.dirname(binary(program)), cwd=cwd, check=0)
    assert p.stderr == b""
    return p.stdout.decode().split()


def test_bash_completion_completes(workdir):
    (workdir / "x.jsonl").write_bytes(GOOD)
    assert set(complete("jsonlfsctl ", workdir)) >= set(COMMANDS)
    assert complete("jsonlfsctl rep", workdir) == ["repair", "replace", "report"]
    assert complete("jsonlfsctl config ", workdir) == ["check"]
    assert complete("jsonlfsctl config check x", workdir) == ["x.jsonl"]
    assert "--apply" in complete("jsonlfsctl repair --", workdir)
    assert complete("jsonlfsctl repair x", workdir) == ["x.jsonl"]
    assert set(complete("jsonlfsctl quarantine ", workdir)) == {
        "list", "show", "restore", "drop"}
    (workdir / ".jsonlfs/quarantine").mkdir(parents=True)
    (workdir / ".jsonlfs/quarantine/20260101T000000Z.0-x").write_bytes(b"")
    assert complete("jsonlfsctl quarantine show . 2026", workdir) == ["20260101T000000Z.0-x"]
    assert set(complete("jsonlfsctl append --sync=", workdir)) >= {"close", "write", "none"}


def test_bash_completion_of_the_options_of_the_mount(workdir):
    (workdir / "vault").mkdir()
    listed = set(complete("jsonlfs -o ", workdir))
    assert {"match=", "rewrite=", "passthrough", "nopassthrough", "ro", "rw"} <= listed
    assert len(listed) > 40
    assert complete("jsonlfs -o onb", workdir) == ["onbad=", "onbroken="]
    assert complete("jsonlfs -o ro,sync=", workdir) == [
        f"ro,sync={when}" for when in ("close", "write", "none")]
    assert complete("jsonlfs -o ro,rewrite=ex", workdir) == ["ro,rewrite=extend"]
    assert complete("jsonlfs -o ro va", workdir) == ["vault"]
    assert "--version" in complete("jsonlfs -", workdir)
