# SPDX-License-Identifier: MIT
"""Ordinary users who take as much as they get of what the daemon has: the others and root go
on."""

import contextlib
import errno
import json
import os
import resource
import subprocess

import pytest
from util import ENV, PYTHON, append, as_user, opened, outcome, sanitized, wait_for

ADA = 12002
EVES = range(12010, 12018)
LIMIT = 1024  # of the daemon's descriptors

# Opens files and directories until it may not, says what it got, and keeps them until it is
# told to go.
GREEDY = r"""
import json, os, resource, sys
kind, top, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
fds, code = [], 0
try:
    while len(fds) < count:
        if kind == "directory":
            fds.append(os.open(top, os.O_RDONLY | os.O_DIRECTORY))
        elif kind == "plain":
            fds.append(os.open(f"{top}/eve.txt", os.O_RDONLY))
        elif kind == "new":
            fds.append(os.open(f"{top}/{os.getuid()}.{len(fds)}", os.O_WRONLY | os.O_CREAT))
        elif kind == "log":
            fds.append(os.open(f"{top}/{os.getuid()}.{len(fds)}.jsonl",
                               os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        elif kind == "stage":  # a content that is written anew takes a descriptor, too
            fd = os.open(f"{top}/eve.json", os.O_WRONLY)
            fds.append(fd)
            os.write(fd, b"{}")
        elif kind == "version":  # the old file of a log, which this descriptor reads on
            fds.append(os.open(f"{top}/eve.jsonl", os.O_RDONLY))
            with open(f"{top}/eve.jsonl", "w") as f:
                print(len(fds), file=f)
            os.pread(fds[-1], 1, 0)
except OSError as e:
    code = e.errno
print(json.dumps([len(fds), code]), flush=True)
sys.stdin.read()
os._exit(0)
"""


@contextlib.contextmanager
def greedy(m, uid, kind, count=LIMIT):
    p = subprocess.Popen([PYTHON, "-c", GREEDY, kind, str(m.mnt), str(count)], env=ENV,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         user=uid, group=uid, extra_groups=[])
    try:
        yield json.loads(p.stdout.readline())
    finally:
        p.stdin.close()
        p.stdout.close()
        p.wait(20)


@pytest.fixture
def few(mount, workdir):
    """A mount whose daemon has few descriptors."""
    config = workdir / "jsonlfs.json"
    config.write_text('{"rules": [{"match": "eve.json", "class": "replace"},'
                      ' {"match": "eve.jsonl", "rewrite": "archive"}]}')
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, before[1]))
    try:
        m = mount(f"config={config}")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    resource.prlimit(m.proc.pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    os.chmod(m.mnt, 0o1777)
    m.p("eve.txt").write_bytes(b"x")
    m.p("eve.jsonl").write_bytes(b"0\n")
    os.chown(m.p("eve.jsonl"), EVES[0], EVES[0])
    m.p("eve.json").write_bytes(b"{}")
    os.chmod(m.p("eve.json"), 0o666)
    return m


def appends(m, number):
    """A log and a plain file that nobody has open, each time another one."""
    append(m.p(f"log{os.getuid()}.{number}.jsonl"), b"1\n")
    with opened(m.p(f"plain{os.getuid()}.{number}"), os.O_WRONLY | os.O_CREAT) as fd:
        os.write(fd, b"1\n")
    os.listdir(m.mnt)


@pytest.mark.parametrize("kind", ["plain", "new", "directory", "stage"])
def test_one_user_gets_a_share_of_the_descriptors(few, kind):
    takes = 2 if kind == "stage" else 1
    with greedy(few, EVES[0], kind) as (count, code):
        assert code == errno.ENFILE  # not EMFILE: that is the program's own limit
        assert LIMIT // 8 < count * takes <= LIMIT // 4
        few.expect_log("descriptors-full", f"uid={EVES[0]}")
        as_user(ADA, lambda: [appends(few, n) for n in range(20)])
        appends(few, 0)
    # It is all given back.
    with greedy(few, EVES[0], kind, 100) as got:
        assert got == [100, 0]


def test_one_user_keeps_a_share_of_replaced_logs(few):
    with greedy(few, EVES[0], "version") as (count, code):
        assert code == errno.ESTALE
        assert LIMIT // 8 < count <= LIMIT // 4
        few.expect_log("descriptors-full", f"uid={EVES[0]}")
        as_user(ADA, lambda: [appends(few, n) for n in range(20)])
        with opened(few.p("eve.jsonl"), os.O_RDONLY) as fd:
            few.p("eve.jsonl").write_bytes(b"7\n")
            assert os.read(fd, 100) == b"%d\n" % count
    with greedy(few, EVES[0], "version", 100) as got:
        assert got == [100, 0]


@pytest.mark.parametrize("kinds", [["plain"], ["log"], ["plain", "log", "new", "directory"]])
def test_many_users_leave_the_rest_for_root_and_logs(few, kinds):
    """As many users as one likes: root still opens what it wants, and records get in."""
    append(few.p("old.jsonl"), b"0\n")
    os.chmod(few.p("old.jsonl"), 0o666)
    with contextlib.ExitStack() as stack:
        for n, uid in enumerate(EVES):
            count, code = stack.enter_context(greedy(few, uid, kinds[n % len(kinds)]))
            assert code in (errno.ENFILE, errno.ENOMEM) and count, (n, count, code)
        as_user(ADA, lambda: append(few.p("old.jsonl"), b"1\n"))
        fds = []
        for n in range(40):
            appends(few, n)
            fds.append(os.open(few.p("eve.txt"), os.O_RDONLY))
        for fd in fds:
            os.close(fd)
    assert few.b("old.jsonl").read_bytes() == b"0\n1\n"
    wait_for(lambda: as_user(ADA, lambda: outcome(lambda: appends(few, 1))) == 0, "room again")


def resident(m):
    with open(f"/proc/{m.proc.pid}/status", encoding="ascii") as f:
        return next(int(x.split()[1]) << 10 for x in f if x.startswith("VmRSS:"))


@pytest.mark.limit(120)
def test_writers_are_shown_without_keeping_the_text(mount):
    """Anybody may open writers.json as often as he likes; there may be megabytes of it."""
    m = mount("sync=none")
    deep = m.p("/".join(["d" * 200] * 6))
    os.makedirs(deep)
    os.chmod(deep, 0o777)

    def work():
        for n in range(1500):
            append(deep / f"{n}.jsonl", b"1\n")

    as_user(EVES[0], work, 60)
    before = resident(m)
    where = m.p(".jsonlfs/writers.json")

    with contextlib.ExitStack() as stack:
        fds = [stack.enter_context(opened(where, os.O_RDONLY)) for _ in range(100)]
        assert {os.read(fd, 1) for fd in fds} == {b"{"}
        grown = resident(m) - before
    assert grown < 20 << 20 or sanitized(), f"{grown >> 20} MiB more"
    # In pieces of any length, and again from any place.
    whole = where.read_bytes()
    assert len(whole) > 1500 * 1200
    shown = json.loads(whole)
    assert len(shown["writers"]) == 1500 and shown["bypass"] == []
    with opened(where, os.O_RDONLY) as fd:
        pieces = []
        while piece := os.read(fd, 7777):
            pieces.append(piece)
        text = b"".join(pieces)
        assert json.loads(text)["writers"] == shown["writers"]
        assert os.pread(fd, 100, 50_000) == text[50_000:50_100]
        assert os.lseek(fd, 0, os.SEEK_HOLE) == len(text)
        assert os.pread(fd, 100, len(text)) == b""
        assert os.pread(fd, 200, 0)[40:] == text[40:200]  # behind the time, which is another
    # Others see nothing of it.
    assert as_user(ADA, lambda: json.loads(where.read_bytes()))["writers"] == []


def rec(n, size=2000):
    return b'{"n":%d,"x":"%s"}\n' % (n, b"x" * size)


@pytest.mark.parametrize("remounted", [False, True])
def test_who_cuts_a_log_cannot_have_its_records_forgotten(mount, remounted):
    """In a sticky directory: he copies and cuts it, removes his copy, and then so much of his
    own that the archive has no room for what he has removed before."""
    m = mount("archive_max=32k")
    os.chmod(m.mnt, 0o1777)
    eve = EVES[0]
    append(m.p("removed.jsonl"), b'{"ada":1}\n')
    append(m.p("ada.jsonl"), b'{"ada":2}\n')
    for name in ("removed.jsonl", "ada.jsonl"):
        os.chown(m.p(name), ADA, ADA)
        os.chmod(m.p(name), 0o666)
    as_user(ADA, m.p("removed.jsonl").unlink)

    def cut():
        m.p("ada.jsonl.1").write_bytes(m.p("ada.jsonl").read_bytes())
        os.truncate(m.p("ada.jsonl"), 0)
        m.p("ada.jsonl.1").unlink()

    def fill():
        codes = []
        for n in range(40):
            append(m.p(f"eve{n}.jsonl"), rec(n))
            codes.append(outcome(m.p(f"eve{n}.jsonl").unlink))
        return codes

    as_user(eve, cut)
    assert m.both("ada.jsonl") == b""
    if remounted:
        m.stop()
        m.start()
    assert set(as_user(eve, fill)) == {0}
    kept = b"".join(m.archive().values())
    assert b'{"ada":1}\n' in kept and b'{"ada":2}\n' in kept
    # Nor may she cut it when her share is full.
    append(m.p("ada.jsonl"), rec(3, 3000))
    assert as_user(eve, lambda: outcome(cut)) == errno.EDQUOT
    assert m.both("ada.jsonl") == rec(3, 3000)
    # Others still have room.
    append(m.p("ada2.jsonl"), rec(0))
    as_user(ADA, lambda: append(m.p("ada3.jsonl"), rec(0)))
    as_user(ADA, m.p("ada3.jsonl").unlink)
