# SPDX-License-Identifier: MIT
"""jsonlfsctl repair: what is no record goes, everything is kept, and nobody who writes is
disturbed."""

import contextlib
import fcntl
import os
import signal
import subprocess
import time

import pytest

from util import (
    NOBODY, PYTHON, append, binary, check_lines, parse, run, running, sanitized, start,
    wait_for)

GOOD = b'{"a":1}\n'
OLD = (1, 1)
CLEAN, REPAIRED, LEFT, FAILED, USAGE = 0, 1, 4, 8, 16

# name: (before, after, lines that are set aside)
DAMAGE = {
    "fused.jsonl": (GOOD + b'{"b":1}{"c":2}\n', GOOD + b'{"b":1}\n{"c":2}\n', []),
    "nul.jsonl": (GOOD + b"\0" * 5000 + GOOD, GOOD * 2, []),
    "newline.jsonl": (GOOD + b"[1]", GOOD + b"[1]\n", []),
    "torn.jsonl": (GOOD + b'{"b":"x', GOOD, [b'{"b":"x']),
    "sub/bad.jsonl": (GOOD + b"oops\n" + GOOD + b"{'a':1}\n", GOOD * 2, [b"oops", b"{'a':1}"]),
    "half fused.jsonl": (GOOD + b'{"b":1}{"c"\n', GOOD, [b'{"b":1}{"c"']),
}


def repair(*argv, code=CLEAN, **kw):
    p = run(binary("jsonlfsctl"), "repair", *argv, **kw)
    assert p.returncode == code, (p.returncode, p.stdout, p.stderr)
    return p


def lay_down(directory, files=DAMAGE):
    for name, row in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row[0] if isinstance(row, tuple) else row)
        os.utime(path, OLD)


def content(directory):
    return {str(p.relative_to(directory)): p.read_bytes()
            for p in sorted(directory.rglob("*")) if p.is_file()}


@pytest.fixture
def vault(workdir):
    """A bare vault that was mounted before."""
    v = workdir / "v"
    (v / ".jsonlfs").mkdir(parents=True)
    v.chmod(0o777)
    return v


def kept_originals(vault):
    return {p.name.split("-", 1)[1].replace("%2F", "/"): p.read_bytes()
            for p in (vault / ".jsonlfs/archive").iterdir()}


def set_aside(vault):
    entries = [parse(line) for line in
               (vault / ".jsonlfs/quarantine.jsonl").read_bytes().splitlines()]
    found = {}
    for e in entries:
        data = (vault / ".jsonlfs/quarantine" / e["file"]).read_bytes()
        assert e["event"] == "repair" and e["bytes"] == len(data)
        found.setdefault(e["path"], []).append(data)
    return found


def test_without_apply_nothing_is_changed(vault):
    lay_down(vault)
    before = content(vault)
    p = repair(vault, code=LEFT)
    assert content(vault) == before and os.listdir(vault / ".jsonlfs") == []
    text = p.stdout.decode()
    assert f"{vault}/fused.jsonl:2: byte 8: split: into 2 records\n" in text
    assert f"{vault}/nul.jsonl:2: byte 8: nuls-removed: 5000 bytes\n" in text
    assert f"{vault}/newline.jsonl:2: byte 11: newline-added: " in text
    assert f"{vault}/torn.jsonl:2: byte 8: set-aside: " in text
    assert text.count(": would be repaired: ") == len(DAMAGE)
    assert "nothing was changed: --apply does it" in text
    assert repair("--json", vault, code=LEFT).stderr == b"" and content(vault) == before


def test_a_vault_is_repaired(vault):
    lay_down(vault)
    lay_down(vault, {"clean.jsonl": GOOD * 3, "note.md": b"no log\n"})
    inode = (vault / "clean.jsonl").stat().st_ino
    p = repair("--apply", vault, code=REPAIRED)
    assert p.stderr == b""
    for name, (_, after, _) in DAMAGE.items():
        assert (vault / name).read_bytes() == after, name
    assert (vault / "clean.jsonl").stat().st_ino == inode
    assert (vault / "note.md").read_bytes() == b"no log\n"
    assert kept_originals(vault) == {name: row[0] for name, row in DAMAGE.items()}
    assert set_aside(vault) == {name: row[2] for name, row in DAMAGE.items() if row[2]}
    assert sorted(os.listdir(vault)) == sorted(
        {".jsonlfs", "clean.jsonl", "note.md", "sub", *DAMAGE} - {"sub/bad.jsonl"})
    # Once more: there is nothing to do.
    assert b"0 damaged" in repair("--apply", vault).stdout
    run(binary("jsonlfsctl"), "check", vault, check=0)


def test_the_document(vault):
    lay_down(vault)
    d = parse(repair("--apply", "--json", vault, code=REPAIRED).stdout)
    assert d["apply"] is True and d["errors"] == [] and d["changes_omitted"] == 0
    assert d["files"] == d["files_damaged"] == d["files_repaired"] == len(DAMAGE)
    assert d["bytes_before"] == sum(len(row[0]) for row in DAMAGE.values())
    assert d["bytes_after"] == sum(len(row[1]) for row in DAMAGE.values())
    assert d["records"] == sum(row[1].count(b"\n") for row in DAMAGE.values())
    assert d["lines_set_aside"] == 4 and d["lines_split"] == 1 and d["records_split"] == 2
    assert d["bytes_set_aside"] == sum(len(x) for row in DAMAGE.values() for x in row[2])
    assert d["nul_bytes"] == 5000 and d["newlines_added"] == 1
    for f in d["damaged"]:
        name = os.path.relpath(f["file"], vault)
        assert f["repaired"] is True
        with open(f["original"], "rb") as kept:
            assert kept.read() == DAMAGE[name][0]
    assert {c["change"] for c in d["changes"]} == {
        "set-aside", "split", "nuls-removed", "newline-added"}


def test_outside_a_vault_everything_lies_beside(workdir):
    d = workdir / "d"
    lay_down(d, {"x.jsonl": 2 * GOOD + b"oops\nnope\n"})
    p = repair("--apply", "x.jsonl", cwd=d, code=REPAIRED)
    names = sorted(os.listdir(d))
    assert len(names) == 3 and names[0] == "x.jsonl", names
    assert names[1].startswith("x.jsonl.bad-") and names[2].startswith("x.jsonl.orig-")
    assert (d / names[0]).read_bytes() == 2 * GOOD
    assert (d / names[1]).read_bytes() == b"oops\nnope\n"
    assert (d / names[2]).read_bytes() == 2 * GOOD + b"oops\nnope\n"
    assert f"the original is {names[2]}\n".encode() in p.stdout
    # Both are left alone by the next run over the directory.
    assert b"1 file looked at, 0 damaged" in repair("--apply", d).stdout


def test_what_belongs_to_the_file_stays(vault):
    lay_down(vault, {"x.jsonl": GOOD + b"bad\n"})
    x = vault / "x.jsonl"
    os.chown(x, NOBODY, 12345)
    x.chmod(0o2640)
    run("setfacl", "-m", "u:daemon:r", x, check=0)
    os.setxattr(x, "user.key", b"value")
    os.utime(x, ns=(10**18 + 1, 10**18 + 2))
    acl = run("getfacl", "-n", "-p", x, check=0).stdout
    before = x.stat()
    repair("--apply", x, code=REPAIRED)
    after = x.stat()
    assert after.st_ino != before.st_ino and x.read_bytes() == GOOD
    assert [after.st_mode, after.st_uid, after.st_gid, after.st_mtime_ns] == [
        before.st_mode, before.st_uid, before.st_gid, before.st_mtime_ns]
    assert run("getfacl", "-n", "-p", x, check=0).stdout == acl
    assert os.getxattr(x, "user.key") == b"value"


def test_the_acl_of_a_directory_is_not_inherited(vault):
    lay_down(vault, {"x.jsonl": GOOD + b"bad\n"})
    (vault / "x.jsonl").chmod(0o600)
    run("setfacl", "-d", "-m", "u:daemon:rw", vault, check=0)
    repair("--apply", vault, code=REPAIRED)
    acl = run("getfacl", "-c", "-p", vault / "x.jsonl", check=0).stdout
    assert b"daemon" not in acl and (vault / "x.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_written_is_left(vault):
    lay_down(vault, {"x.jsonl": GOOD + b"bad\n", "y.jsonl": GOOD + b"bad\n"})
    before = (vault / "x.jsonl").read_bytes()
    with running(PYTHON, "-c", "import sys\nf = open(sys.argv[1], 'ab')\nprint(1, flush=True)\n"
                 "sys.stdin.read()", vault / "x.jsonl", stdin=subprocess.PIPE) as p:
        assert p.stdout.readline()
        q = repair("--apply", vault, code=REPAIRED | LEFT | FAILED)
        assert f"{vault}/x.jsonl: is open for writing".encode() in q.stderr
        assert f"process {p.pid}, python3".encode() in q.stderr
        assert (vault / "x.jsonl").read_bytes() == before
        # The others are repaired all the same, and nothing is left over of the first.
        assert (vault / "y.jsonl").read_bytes() == GOOD
        assert list(kept_originals(vault)) == ["y.jsonl"]
        assert sorted(os.listdir(vault)) == [".jsonlfs", "x.jsonl", "y.jsonl"]
        p.stdin.close()
        p.wait(10)
    repair("--apply", vault, code=REPAIRED)
    # Readers are in nobody's way.
    lay_down(vault, {"x.jsonl": GOOD + b"bad\n"})
    with open(vault / "x.jsonl", "rb") as f:
        repair("--apply", vault, code=REPAIRED)
        assert f.read() == GOOD + b"bad\n"


def test_a_lock_is_waited_for(vault):
    lay_down(vault, {"x.jsonl": GOOD + b"bad\n"})
    with open(vault / "x.jsonl", "rb") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        q = repair("--apply", vault, code=LEFT | FAILED)
        assert b"is locked by another program" in q.stderr
        assert (vault / "x.jsonl").read_bytes() == GOOD + b"bad\n"
        p = subprocess.Popen([binary("jsonlfsctl"), "repair", "--apply", vault],
                             stdout=subprocess.DEVNULL)
        time.sleep(0.3)
        assert p.poll() is None
        fcntl.flock(f, fcntl.LOCK_UN)
        assert p.wait(10) == REPAIRED
    assert (vault / "x.jsonl").read_bytes() == GOOD


def test_hard_links_are_not_parted(vault):
    lay_down(vault, {"x.jsonl": GOOD + b"bad\n"})
    os.link(vault / "x.jsonl", vault / "y")
    q = repair("--apply", vault, code=LEFT | FAILED)
    assert b"more than one name" in q.stderr
    assert (vault / "x.jsonl").samefile(vault / "y")


def test_another_kind_of_file_is_left(vault):
    files = {"binary.jsonl": bytes(range(256)) * 50, "prose.jsonl": b"a\nb\nc\n",
             "long.jsonl": b"x" * (80 << 20)}
    lay_down(vault, files)
    for flags in ([], ["--apply"]):
        q = repair(*flags, vault, code=LEFT | FAILED)
        assert q.stderr.count(b"no line of it is JSON") == 3
        assert {n: (vault / n).read_bytes() for n in files} == files
    # The beginning of a record, and nothing else, is a log that was cut.
    lay_down(vault, {n: b'{"a":' for n in files})
    repair("--apply", vault, code=REPAIRED)
    assert [(vault / n).read_bytes() for n in files] == [b""] * 3


NO_LOGS = {
    "a text with a number": b"hello\n42\nworld\n",
    "two lines": b"hello\n42\n",
    "a page": b"# Title\n\nSome text.\n\n    {\"an\": \"example\"}\n\nMore text.\n\nAnd more.\n",
    "an array": b'[\n  {"a": 1},\n  {"a": 2},\n  {"a": 3}\n]\n',
    "an object": b'{\n  "a": 1,\n  "b": [\n    {}\n  ]\n}\n',
    "records in an array": b'[\n{"a":1}\n,\n{"a":2}\n,\n{"a":3}\n]\n',
}


@pytest.mark.parametrize("what", NO_LOGS)
@pytest.mark.parametrize("mounted", [False, True], ids=["bare", "mounted"])
def test_what_is_no_log_is_not_gutted(vault, mount, what, mounted):
    data = NO_LOGS[what]
    top = vault
    if mounted:
        m = mount(source=vault, prepare=lambda v: (v / "x.jsonl").write_bytes(data))
        m.check_after = False
        top = m.mnt
    lay_down(vault, {"x.jsonl": data, "y.jsonl": GOOD + b"bad\n"})
    q = repair("--apply", top, code=REPAIRED | LEFT | FAILED)
    assert (vault / "x.jsonl").read_bytes() == data
    assert b"nothing was changed" in q.stderr and b"--force" in q.stderr
    assert (b"one JSON document" in q.stderr) == (what in {"an array", "an object",
                                                           "records in an array"})
    q = repair(top, code=LEFT | FAILED)
    assert b"--force" in q.stderr
    repair("--apply", "--force", top / "x.jsonl", code=REPAIRED)
    assert len((vault / "x.jsonl").read_bytes()) < len(data)


def test_logs_are_repaired_without_force(vault):
    lay_down(vault, {
        "half.jsonl": GOOD + b'{"a":1' + GOOD + b'{"b":',
        "numbers.jsonl": b"1\n2\n3\nbad\n",
        "bom.jsonl": b"\xef\xbb\xbf" + GOOD + GOOD,
    })
    repair("--apply", vault, code=REPAIRED)
    assert (vault / "bom.jsonl").read_bytes() == GOOD + GOOD
    assert (vault / "numbers.jsonl").read_bytes() == b"1\n2\n3\n"


def test_a_full_quarantine_changes_nothing(vault):
    lay_down(vault, {"x.jsonl": GOOD + b'["' + b"x" * 50000 + b"\n"})
    before = (vault / "x.jsonl").read_bytes()
    q = repair("--apply", "--quarantine_max=20K", vault, code=LEFT | FAILED)
    assert b"--quarantine_max" in q.stderr
    assert (vault / "x.jsonl").read_bytes() == before
    assert sorted(os.listdir(vault)) == [".jsonlfs", "x.jsonl"]


def test_a_full_disk_changes_nothing(workdir):
    d = workdir / "small"
    d.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1M", "none", d, check=0)
    try:
        data = GOOD * 80000 + b"bad\n"
        lay_down(d, {"x.jsonl": data})
        q = repair("--apply", d, code=LEFT | FAILED)
        assert b"no space" in q.stderr
        assert os.listdir(d) == ["x.jsonl"] and (d / "x.jsonl").read_bytes() == data
    finally:
        run("umount", "-l", d, check=0)


def test_a_kill_leaves_the_old_file_or_the_new(vault):
    data = (GOOD * 1000 + b"bad\n") * 200
    ended = set()
    for n in range(24):
        lay_down(vault, {"x.jsonl": data})
        p = subprocess.Popen([binary("jsonlfsctl"), "repair", "--apply", vault / "x.jsonl"],
                             stdout=subprocess.DEVNULL)
        time.sleep(0.01 * n)
        p.send_signal(signal.SIGKILL)
        p.wait(10)
        now = (vault / "x.jsonl").read_bytes()
        assert now in (data, GOOD * 200000)
        ended.add(now == data)
        # The original has two names when it was killed in front of the rename.
        for kept in (vault / ".jsonlfs").glob("archive/*"):
            kept.unlink()
    assert True in ended
    lay_down(vault, {"x.jsonl": data})
    repair("--apply", vault / "x.jsonl", code=REPAIRED)


def test_links_and_relative_paths(vault, workdir):
    lay_down(vault, {"sub/x.jsonl": GOOD + b"bad\n", "y.log": GOOD + b"bad\n"})
    os.symlink(vault / "sub/x.jsonl", workdir / "link")
    repair("--apply", "link", cwd=workdir, code=REPAIRED)
    assert (workdir / "link").is_symlink() and (vault / "sub/x.jsonl").read_bytes() == GOOD
    repair("--apply", ".", cwd=vault)
    assert (vault / "y.log").read_bytes() == GOOD + b"bad\n"
    # A file that is named is repaired whatever its name.
    repair("--apply", "y.log", cwd=vault, code=REPAIRED)
    repair("--apply", "--match=*.log", vault)
    assert sorted(kept_originals(vault)) == ["sub/x.jsonl", "y.log"]


def test_an_ordinary_user_repairs_what_is_his(vault):
    lay_down(vault, {"x.jsonl": GOOD + b"bad\n"})
    q = repair("--apply", vault, code=FAILED, uid=NOBODY)
    assert b"permission denied" in q.stderr
    for p in (vault / "x.jsonl", vault / ".jsonlfs"):
        os.chown(p, NOBODY, NOBODY)
    repair("--apply", vault, code=REPAIRED, uid=NOBODY)
    assert (vault / "x.jsonl").read_bytes() == GOOD
    assert (vault / "x.jsonl").stat().st_uid == NOBODY


def test_a_walk_does_not_go_into_a_mount(mount, workdir):
    def prepare(source):
        (source / "x.jsonl").write_bytes(GOOD + b"bad\n" + GOOD)
        os.utime(source / "x.jsonl", OLD)

    m = mount(self_mount=False, prepare=prepare)
    os.rename(m.b("x.jsonl"), m.b("y.jsonl"))
    q = repair("--apply", "--exclude=vault*/**", workdir, code=LEFT | FAILED)
    assert b"lies in a mount of jsonlfs" in q.stderr
    m.b("y.jsonl").write_bytes(GOOD)


def test_behind_a_mount(mount):
    """On the backing directory of a running mount: the mount goes on with the new file."""
    m = mount(self_mount=False, prepare=lambda s: (
        (s / "x.jsonl").write_bytes(GOOD + b"bad\n" + GOOD), os.utime(s / "x.jsonl", OLD)))
    assert m.p("x.jsonl").read_bytes() == GOOD + b"bad\n" + GOOD
    repair("--apply", m.source, code=REPAIRED)
    append(m.p("x.jsonl"), GOOD)
    assert m.both("x.jsonl") == GOOD * 3
    # While a program has it open in the mount it is left.
    with open(m.b("x.jsonl"), "ab") as f:
        f.write(b"bad\n" + GOOD)
    with open(m.p("x.jsonl"), "ab") as f:
        f.write(GOOD)
        f.flush()
        q = repair("--apply", m.source, code=LEFT | FAILED)
        assert b"is open for writing" in q.stderr
    assert m.both("x.jsonl") == GOOD * 3 + b"bad\n" + GOOD * 2
    # The daemon gives its descriptor back when the last writer has closed.
    wait_for(lambda: run(binary("jsonlfsctl"), "repair", "--apply", m.source).returncode
             == REPAIRED, seconds=15)
    append(m.p("x.jsonl"), GOOD)
    assert m.both("x.jsonl") == GOOD * 6


def test_who_opens_it_at_the_last_moment_is_not_stranded(mount):
    """A mount remembers for a second which file a name stood for."""
    m = mount(self_mount=False, prepare=lambda s: (
        (s / "x.jsonl").write_bytes(GOOD + b"bad\n" + GOOD), os.utime(s / "x.jsonl", OLD)))
    for n in range(5):
        with open(m.b("x.jsonl"), "ab") as f:
            f.write(b"bad\n")
        os.stat(m.p("x.jsonl"))
        p = subprocess.Popen([binary("jsonlfsctl"), "repair", "--apply", m.source],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for k in range(40):
            append(m.p("x.jsonl"), b'{"n":%d,"k":%d}\n' % (n, k))
            time.sleep(0.01)
        assert p.wait(10) in (REPAIRED, LEFT | FAILED)
        data = m.b("x.jsonl").read_bytes()
        for k in range(40):
            assert data.count(b'{"n":%d,"k":%d}\n' % (n, k)) == 1
    m.umount()
    repair("--apply", m.source, code=REPAIRED if b"bad" in data else CLEAN)
    check_lines(m.b("x.jsonl").read_bytes(), "x.jsonl")


# An append of two writes, and a repair that waits in front of its reading for the first.
HALVES = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static _Atomic int half;
static __thread int rest, asked, waits;

ssize_t writev(int fd, const struct iovec *iov, int n)
{
	ssize_t (*real)(int, const struct iovec *, int) = dlsym(RTLD_NEXT, "writev");
	struct iovec first = *iov;

	if (rest) {
		rest = 0;
		usleep(500000);
		half = 0;
	} else if (first.iov_len > 50000) {
		first.iov_len /= 2;
		n = (int)real(fd, &first, 1);
		rest = half = 1;
		return n;
	}
	return real(fd, iov, n);
}

ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	ssize_t (*real)(int, struct msghdr *, int) = dlsym(RTLD_NEXT, "recvmsg");

	asked = 1;
	return real(fd, msg, flags);
}

int flock(int fd, int op)
{
	int (*real)(int, int) = dlsym(RTLD_NEXT, "flock");

	waits = asked && op == LOCK_UN;
	return real(fd, op);
}

int fstat64(int fd, struct stat64 *st)
{
	int (*real)(int, struct stat64 *) = dlsym(RTLD_NEXT, "fstat64");

	if (waits) {
		waits = asked = 0;
		close(open(getenv("HALVES"), O_CREAT | O_WRONLY, 0600));
		for (int i = 0; i < 3000 && !half; i++)
			usleep(1000);
	}
	return real(fd, st);
}
"""


def test_a_record_that_is_being_appended_stays_whole(base, mount):
    waits, env = base / "halves.waits", {}
    if not sanitized():  # which calls others than these
        (base / "halves.c").write_text(HALVES)
        run("cc", "-shared", "-fPIC", "-o", base / "halves.so", base / "halves.c", check=0)
        env = {"LD_PRELOAD": str(base / "halves.so"), "HALVES": str(waits)}
    m = mount(self_mount=False, env=env,
              prepare=lambda s: ((s / "x.jsonl").write_bytes(GOOD + b"bad\n" + GOOD),
                                 os.utime(s / "x.jsonl", OLD)))
    record = b'{"x":"' + b"x" * 100000 + b'"}\n'
    p = subprocess.Popen([binary("jsonlfsctl"), "repair", "--apply", m.mnt],
                         stdout=subprocess.DEVNULL)
    if env:
        wait_for(waits.exists)
    append(m.p("x.jsonl"), record)
    code = p.wait(20)
    if not env and code == LEFT | FAILED:  # it was looked at while it was open for that
        assert m.both("x.jsonl") == GOOD + b"bad\n" + GOOD + record
        code = run(binary("jsonlfsctl"), "repair", "--apply", m.mnt).returncode
    assert code == REPAIRED
    assert m.both("x.jsonl") == GOOD * 2 + record
    assert m.set_aside("x.jsonl") == b"bad"


@contextlib.contextmanager
def repaired_while_open(vault, *tracer):
    """A repair that has just put the new file in its place, and the old one still open: the
    path, the program, a path to the old file, and that one's number."""
    lay_down(vault, {"x.jsonl": GOOD + b"bad\n"})
    x = vault / "x.jsonl"
    with open(x, "rb") as old:
        inode = os.fstat(old.fileno()).st_ino
        p = start(*tracer, binary("jsonlfsctl"), "repair", "--apply", x,
                  stdout=subprocess.DEVNULL)
        wait_for(lambda: x.stat().st_ino != inode)
        yield x, p, f"/proc/self/fd/{old.fileno()}", inode


def test_the_original_comes_back_when_it_is_opened_too_late(mount, vault):
    """Somebody has found the old file by its name and opens it when it has lost that."""
    mount()  # while there is a mount this is watched for
    with repaired_while_open(vault) as (x, p, old, inode):
        assert x.read_bytes() == GOOD
        with open(old, "ab") as f:
            f.write(GOOD)
        assert b"is open for writing" in p.communicate(timeout=10)[1]
        assert p.returncode == LEFT | FAILED
    assert x.stat().st_ino == inode and x.read_bytes() == GOOD + b"bad\n" + GOOD
    assert kept_originals(vault) == {} and sorted(os.listdir(vault)) == [".jsonlfs", "x.jsonl"]


def test_an_original_that_came_back_is_told_of_though_it_is_not_on_the_disk(mount, vault):
    mount()
    tracer = ("strace", "-f", "-qq", "-P", vault, "-e", "trace=fsync", "-e",
              "inject=fsync:error=EIO:when=2", "-o", "/dev/null")
    with repaired_while_open(vault, *tracer) as (x, p, old, inode):
        with open(old, "ab") as f:
            f.write(GOOD)
        assert b"is open for writing" in p.communicate(timeout=10)[1]
        assert p.returncode == LEFT | FAILED
    assert x.stat().st_ino == inode and x.read_bytes() == GOOD + b"bad\n" + GOOD


def test_what_is_repaired_and_not_on_the_disk(vault):
    lay_down(vault, {"x.jsonl": GOOD + b"bad\n"})
    p = run("strace", "-f", "-qq", "-P", vault, "-e", "trace=fsync", "-e",
            "inject=fsync:error=ENOSPC", "-o", "/dev/null", binary("jsonlfsctl"), "repair",
            "--apply", vault)
    assert p.returncode == FAILED and b"the new content is in place" in p.stderr
    assert (vault / "x.jsonl").read_bytes() == GOOD
    assert kept_originals(vault) == {"x.jsonl": GOOD + b"bad\n"}


def test_the_original_does_not_come_back_over_what_was_appended(mount, vault):
    """One has found the old file by its name, another appends to the new one first."""
    mount()
    with repaired_while_open(vault) as (x, p, old, _):
        append(x, b"[1]\n")
        with open(old, "ab") as f:
            f.write(b"[2]\n")
        assert p.communicate(timeout=10)[1] == b"" and p.returncode == REPAIRED
    assert x.read_bytes() == GOOD + b"[1]\n"
    assert kept_originals(vault) == {"x.jsonl": GOOD + b"bad\n[2]\n"}


def test_usage():
    for argv in ([], ["--what", "."], ["--maxrecord=x", "/"]):
        assert b"--help" in repair(*argv, code=USAGE).stderr
    q = repair("/proc/nonexistent/x", code=FAILED)
    assert b"/proc/nonexistent/x: " in q.stderr
    assert b"Exit status" in repair("--help").stdout
