# SPDX-License-Identifier: MIT
"""jsonlfsctl replace, edit and delete-record: a log gets new content as a whole, the old is
kept, and nothing that anybody appends meanwhile is lost. On a bare vault, through a mount, and
behind one, in its backing directory."""

import contextlib
import errno
import fcntl
import os
import signal
import stat
import subprocess
import time

import pytest

from util import (
    DAEMON,
    DAMAGE,
    FAILED,
    NO,
    NOBODY,
    OK,
    PYTHON,
    USAGE,
    append,
    as_user,
    binary,
    check_lines,
    ctl,
    parse,
    refused,
    run,
    running,
    traced,
    wait_for,
)
from vaults import ask as ask_bytes

GOOD = b'{"a":1}\n'


def ask(path, request, files=()):
    """With files, or descriptors."""
    return ask_bytes(path, request, [f if isinstance(f, int) else f.fileno() for f in files])


class Place:
    """Where the tools are given a file, where programs see it, and its state directory."""

    def __init__(self, tools, programs, m=None):
        self.tools, self.programs, self.m = tools, programs, m
        self.backing = m.backing if m else programs

    def archive(self):
        """Old contents, the oldest first."""
        top = self.backing / ".jsonlfs/archive"
        return [(top / n).read_bytes() for n in sorted(os.listdir(top))] if top.exists() else []


@pytest.fixture(params=["bare", "mounted", "behind"])
def place(request, workdir):
    if request.param == "bare":
        v = workdir / "v"
        (v / ".jsonlfs").mkdir(parents=True)
        v.chmod(0o777)
        return Place(v, v)
    m = request.getfixturevalue("mount")(self_mount=False)
    return Place(m.mnt if request.param == "mounted" else m.source, m.mnt, m)


def see(place, name="x.jsonl"):
    data = (place.programs / name).read_bytes()
    check_lines(data, name)
    return data


@pytest.fixture
def x(place):
    """A log of three records, of an ordinary user, and its path for the tools."""
    path = place.programs / "x.jsonl"
    append(path, b'{"n":1}\n{"n":2}\n{"n":3}\n')
    os.chown(path, NOBODY, 12345)
    path.chmod(0o640)
    return place.tools / "x.jsonl"


OLD = b'{"n":1}\n{"n":2}\n{"n":3}\n'


def attributes(path):
    st = path.stat()
    return stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid


# ---- replace ----


def test_replace(place, x):
    p = ctl("replace", x, stdin=b'{"new":1}\n[2]')
    assert see(place) == b'{"new":1}\n[2]\n'
    assert place.archive() == [OLD]
    assert attributes(place.programs / "x.jsonl") == (0o640, NOBODY, 12345)
    assert b"2 records now" in p.stdout and b"/.jsonlfs/archive/" in p.stdout
    kept = p.stdout.decode().rsplit(" ", 1)[1].strip()
    assert (place.tools / os.path.relpath(kept, place.tools)).read_bytes() == OLD
    append(place.programs / "x.jsonl", GOOD)
    assert see(place) == b'{"new":1}\n[2]\n' + GOOD
    assert sorted(os.listdir(place.backing)) == [".jsonlfs", "x.jsonl"]
    # By a relative path, and once more.
    ctl("replace", "x.jsonl", cwd=place.tools, stdin=GOOD)
    assert see(place) == GOOD and len(place.archive()) == 2


def test_what_is_no_record_replaces_nothing(place, x):
    p = ctl("replace", x, stdin=GOOD + b"{'a':1}\n" + GOOD + b'{"a":', code=DAMAGE)
    assert b"line 2: byte 9 of the file: " in p.stderr and b"line 4: " in p.stderr
    assert see(place) == OLD and place.archive() == []
    p = ctl("replace", x, stdin=b"x\n" * 1000, code=DAMAGE)
    assert b"and 980 more" in p.stderr and p.stderr.count(b"\n") == 22
    # Nothing at all is seldom meant.
    for nothing in (b"", b"\n \n"):
        assert b"--empty" in ctl("replace", x, stdin=nothing, code=DAMAGE).stderr
    assert see(place) == OLD and place.archive() == []
    ctl("replace", "--empty", x, stdin=b"")
    assert see(place) == b"" and place.archive() == [OLD]


def test_who_may(place, x):
    for uid, code in ((DAEMON, FAILED), (NOBODY, OK)):
        if code == OK and place.m is None:
            continue  # of a bare vault the state directory must be his, too
        p = ctl("replace", x, stdin=GOOD, uid=uid, code=code)
        assert code == OK or b"owner" in p.stderr or b"Permission" in p.stderr
    assert see(place) == (OLD if place.m is None else GOOD)


def test_what_cannot_be_replaced(place, x, workdir):
    (place.programs / "note.md").write_bytes(b"text\n")
    (place.programs / "link.jsonl").symlink_to(place.tools / "x.jsonl")
    (place.programs / "d.jsonl").mkdir()
    ctl("replace", place.tools / "d.jsonl", stdin=GOOD, code=FAILED)
    ctl("replace", place.tools / "none.jsonl", stdin=GOOD, code=FAILED)
    if place.m:
        p = ctl("replace", place.tools / "note.md", stdin=GOOD, code=FAILED)
        assert b"no governed file" in p.stderr
        assert (place.programs / "note.md").read_bytes() == b"text\n"
    # A link is followed, to the file that it means, unless others could have made it.
    p = ctl("replace", place.tools / "link.jsonl", stdin=GOOD, code=FAILED)
    assert b"symbolic link inside a vault" in p.stderr
    (workdir / "link.jsonl").symlink_to(place.tools / "x.jsonl")
    ctl("replace", workdir / "link.jsonl", stdin=GOOD)
    assert see(place) == GOOD and (place.programs / "link.jsonl").is_symlink()
    os.link(place.programs / "x.jsonl", place.programs / "y.jsonl")
    p = ctl("replace", x, stdin=OLD, code=FAILED)
    assert b"name" in p.stderr and see(place) == GOOD
    for argv in ([], ["a", "b"], ["--what", x], ["--line=1", x]):
        assert b"--help" in ctl("replace", *argv, code=USAGE).stderr


def test_a_lock_of_another_program_is_respected(place, x):
    with open(place.backing / "x.jsonl", "rb") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        p = ctl("replace", x, stdin=GOOD, code=FAILED, timeout=60)
        assert b"lock" in p.stderr or b"temporarily" in p.stderr
    assert see(place) == OLD and place.archive() == []
    ctl("replace", x, stdin=GOOD)


def test_outside_a_vault_the_old_content_lies_beside(workdir):
    x = workdir / "x.log"
    x.write_bytes(OLD)
    ctl("replace", x, stdin=GOOD)
    assert x.read_bytes() == GOOD
    (old,) = [n for n in os.listdir(workdir) if n.startswith("x.log.orig-")]
    assert (workdir / old).read_bytes() == OLD


def test_a_bare_file_that_is_written_is_left(workdir):
    x = workdir / "x.jsonl"
    x.write_bytes(OLD)
    with open(x, "ab"):
        for argv in (["replace", x], ["delete-record", "--line=1", x]):
            p = ctl(*argv, stdin=GOOD, code=FAILED)
            assert b"is open for writing" in p.stderr
    assert x.read_bytes() == OLD and os.listdir(workdir) == ["x.jsonl"]


# ---- delete-record ----


@pytest.mark.parametrize("lines, left", [
    ([1], b'{"n":2}\n{"n":3}\n'),
    ([2], b'{"n":1}\n{"n":3}\n'),
    ([3], b'{"n":1}\n{"n":2}\n'),
    ([3, 1, 3], b'{"n":2}\n'),
    ([1, 2, 3], b""),
])
def test_delete_record(place, x, lines, left):
    ctl("delete-record", *[f"--line={n}" for n in lines], x)
    assert see(place) == left and place.archive() == [OLD]


def test_delete_record_that_is_not_there(place, x):
    p = ctl("delete-record", "--line", "2", "--line", "4", x, code=FAILED)
    assert b"has no line 4" in p.stderr
    assert see(place) == OLD and place.archive() == []
    for argv in ([x], ["--line=0", x], ["--line=-1", x], ["--line=x", x], ["--line=1"]):
        assert b"--help" in ctl("delete-record", *argv, code=USAGE).stderr


def test_what_is_done_and_not_on_the_disk_is_not_told_as_undone(place, x):
    """Who does it again deletes another record."""
    fault = ("-f", "-qq", "-P", place.backing, "-e", "trace=fsync", "-e", "inject=fsync:error=EIO",
             "-o", "/dev/null")
    if place.m:
        with traced(place.m, *fault):
            p = ctl("delete-record", "--line=2", x, code=FAILED)
    else:
        p = run("strace", *fault, binary("jsonlfsctl"), "delete-record", "--line=2", x)
        assert p.returncode == FAILED
    assert b"the new content is in place" in p.stderr
    assert (place.backing / "x.jsonl").read_bytes() == b'{"n":1}\n{"n":3}\n'
    assert place.archive() == [OLD]


def test_a_secret_is_gone_when_the_archive_is_emptied(place, x):
    append(place.programs / "x.jsonl", b'{"password":"hunter2"}\n')
    ctl("delete-record", "--line=4", x)
    name = os.listdir(place.backing / ".jsonlfs/archive")[0]
    ctl("archive", "drop", place.tools, name)
    assert run("grep", "-r", "hunter2", place.backing).returncode == 1


# ---- edit ----


def test_edit(place, x, workdir):
    script = workdir / "ed"
    script.write_text('#!/bin/sh\nsed -i \'s/"n":2/"n":"two"/\' "$1"\n')
    script.chmod(0o755)
    env = {"VISUAL": str(script), "TMPDIR": str(workdir)}
    ctl("edit", x, env=env)
    assert see(place) == b'{"n":1}\n{"n":"two"}\n{"n":3}\n' and place.archive() == [OLD]
    assert not [n for n in os.listdir(workdir) if "jsonlfsctl" in n]
    # Not changed.
    assert b"not changed" in ctl("edit", x, env={"EDITOR": "true"}).stdout
    assert len(place.archive()) == 1
    # An editor that fails, or is none.
    for bad in ("false", "/no/such/editor"):
        assert b"EDITOR" in ctl("edit", x, env={"EDITOR": bad}, code=FAILED).stderr


def test_what_was_typed_is_kept_when_it_is_no_record(place, x, workdir):
    script = workdir / "ed"
    script.write_text('#!/bin/sh\necho oops >> "$1"\n')
    script.chmod(0o755)
    p = ctl("edit", x, env={"EDITOR": str(script), "TMPDIR": str(workdir)}, code=DAMAGE)
    kept = p.stderr.decode().split("kept in ")[1].split(":")[0]
    with open(kept, "rb") as f:
        assert f.read() == OLD + b"oops\n"
    assert os.stat(kept).st_mode & 0o777 == 0o600
    assert see(place) == OLD and place.archive() == []


def test_what_is_appended_while_the_editor_runs_stays(place, x, workdir):
    script = workdir / "ed"
    script.write_text(f'#!/bin/sh\nsed -i 1d "$1"\necho \'{{"late":1}}\' >> '
                      f'{place.programs}/x.jsonl\n')
    script.chmod(0o755)
    ctl("edit", x, env={"EDITOR": str(script)})
    assert see(place) == b'{"n":2}\n{"n":3}\n{"late":1}\n'
    assert place.archive() == [OLD + b'{"late":1}\n']


def test_who_rewrites_it_meanwhile_wins(place, x, workdir):
    script = workdir / "ed"
    script.write_text(f'#!/bin/sh\nsed -i 1d "$1"\necho \'[1]\' | {binary("jsonlfsctl")} '
                      f'replace {x} >/dev/null\n')
    script.chmod(0o755)
    p = ctl("edit", x, env={"EDITOR": str(script), "TMPDIR": str(workdir)}, code=FAILED)
    assert b"changed by somebody else" in p.stderr and b"kept in" in p.stderr
    assert see(place) == b"[1]\n" and place.archive() == [OLD]


# ---- while programs write ----


APPENDER = """
import os, sys
path, who = sys.argv[1], int(sys.argv[2])
n = 0
fd = os.open(path, os.O_WRONLY | os.O_APPEND)
print("ready", flush=True)
while not os.path.exists(sys.argv[3]):
    if n % 3 == 0:
        os.close(fd)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(fd, b'{"who":%d,"n":%d}\\n' % (who, n))
    n += 1
os.close(fd)
print(n, flush=True)
"""


@contextlib.contextmanager
def appenders(path, stop, count=8):
    """Programs that append until the file `stop` is there; then their numbers of records are
    in the list."""
    totals = []
    with contextlib.ExitStack() as stack:
        procs = [stack.enter_context(running(PYTHON, "-c", APPENDER, path, str(i), stop))
                 for i in range(count)]
        for p in procs:
            assert p.stdout.readline() == b"ready\n", p.stderr.read()
        yield totals
        stop.touch()
        for p in procs:
            line = p.stdout.readline()
            assert line, p.stderr.read()
            totals.append(int(line))


def appended(data):
    return [(r["who"], r["n"]) for r in map(parse, data.splitlines()) if "who" in r]


def expected(totals):
    return [(who, n) for who, total in enumerate(totals) for n in range(total)]


@pytest.mark.limit(170)
def test_a_hundred_replaces_while_eight_append(mount, workdir):
    """The new contents have nothing of theirs: each record is in exactly one of all old
    contents and the present one."""
    m = mount(self_mount=False)
    append(m.p("x.jsonl"), OLD)
    with appenders(m.p("x.jsonl"), workdir / "stop") as totals:
        for n in range(100):
            ctl("replace", m.p("x.jsonl") if n % 2 else m.b("x.jsonl"),
                stdin=b'{"replace":%d}\n' % n, timeout=60)
    contents = Place(m.mnt, m.mnt, m).archive() + [m.both("x.jsonl")]
    assert len(contents) == 101
    for n, data in enumerate(contents[1:]):
        check_lines(data, f"content {n}")
        assert parse(data.splitlines()[0]) == {"replace": n}
    found = [r for data in contents for r in appended(data)]
    assert sum(totals) > 100 and sorted(found) == expected(totals)
    # Of one program they stand in its order.
    for who in range(8):
        assert [n for w, n in found if w == who] == list(range(totals[who]))


@pytest.mark.limit(120)
def test_deletions_carry_what_is_appended(mount, workdir):
    m = mount()
    append(m.p("x.jsonl"), b"".join(b'{"go":%d}\n' % n for n in range(30)))
    with appenders(m.p("x.jsonl"), workdir / "stop", 4) as totals:
        for _ in range(30):
            ctl("delete-record", "--line=1", m.p("x.jsonl"), timeout=60)
    data = m.both("x.jsonl")
    check_lines(data, "x.jsonl")
    assert b"go" not in data
    assert sorted(appended(data)) == expected(totals)


def test_who_writes_goes_on_in_the_new_content(mount):
    """Who reads stays with the version that it opened."""
    m = mount()
    append(m.p("x.jsonl"), OLD)
    with open(m.p("x.jsonl"), "ab", buffering=0) as f, open(m.p("x.jsonl"), "rb") as reader:
        f.write(b'{"half":')
        assert reader.read() == OLD
        ctl("replace", m.p("x.jsonl"), stdin=GOOD)
        f.write(b"1}\n")
        os.fsync(f.fileno())
        reader.seek(0)
        assert reader.read() == OLD
    assert m.both("x.jsonl") == GOOD + b'{"half":1}\n'
    line = m.expect_log("replaced-by", 'path="x.jsonl"')
    assert "uid=0" in line and 'as="replace"' in line


@pytest.mark.limit(150)
def test_the_daemon_is_killed_during_replaces(v, workdir):  # noqa: F811
    """Whenever it dies, the log has an old content or the new one, whole; what was given up
    is told; and the next replace finds nothing in its way."""
    v.jsonlfs()
    x = v.log("x.jsonl")
    append(x, b'{"content":0}\n')
    last, big = 0, b'"' + b"x" * 4000 + b'"\n'
    # The fifth death within a minute would be waited out.
    for n in range(1, 5):
        with running(binary("jsonlfsctl"), "replace", x, stdin=subprocess.PIPE) as p:
            pid = v.pid
            p.stdin.write(b'{"content":%d}\n' % n + big * 400)
            p.stdin.close()
            time.sleep(0.006 * n)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            code = p.wait(60)
            assert code in (OK, FAILED), p.stderr.read()

        def content():
            with contextlib.suppress(OSError, ValueError):
                return x.read_bytes()

        data = wait_for(content, "the mount", 90)
        check_lines(data, "x.jsonl")
        now = parse(data.splitlines()[0])["content"]
        assert now == n if code == OK else now in (last, n)
        assert now == 0 or data.count(b"\n") == 401
        last = now
    wait_for(lambda: run(binary("jsonlfsctl"), "replace", x, stdin=GOOD).returncode == OK,
             "a daemon", 90)
    assert x.read_bytes() == GOOD
    v.umount()


def test_requests_that_make_no_sense(mount, workdir):
    m = mount()
    append(m.p("x.jsonl"), OLD)
    append(m.p("sub.jsonl"), GOOD)
    new = workdir / "new"
    new.write_bytes(GOOD)
    (m.p("d")).mkdir()
    m.p("link").symlink_to("d")
    append(m.p("d/y.jsonl"), GOOD)
    with open(new, "rb") as f, open(m.p("sub.jsonl"), "rb") as inside, \
            open(new, "ab") as write_only, open(m.b("x.jsonl"), "rb") as old:
        directory = os.open(workdir, os.O_RDONLY)
        r, w = os.pipe()
        path_only = os.open(new, os.O_PATH)
        for path in ("", "/", "x.jsonl/", "../x.jsonl", "./x.jsonl", "none.jsonl", "d",
                     "link/y.jsonl", ".jsonlfs/quarantine.jsonl", "x" * 300, "d/" * 3000):
            answer = ask(m.mnt, {"verb": "replace", "path": path}, [f])
            assert answer["error"] != 0, path
        for bad in ([], [r], [write_only], [directory], [path_only], [inside],
                    [f, r], [f, inside], [f, write_only]):
            answer = ask(m.mnt, {"verb": "replace", "path": "x.jsonl"}, bad)
            assert answer["error"] != 0, bad
        # Made from something else than what is there.
        assert ask(m.mnt, {"verb": "replace", "path": "x.jsonl"}, [f, f])["error"] == 116
        assert ask(m.mnt, {"verb": "replace"}, [f])["error"] == 22
        assert m.both("x.jsonl") == OLD
        assert os.listdir(m.b(".jsonlfs/archive")) == []
        assert ask(m.mnt, {"verb": "replace", "path": "x.jsonl"}, [f, old])["error"] == 0
        assert m.both("x.jsonl") == GOOD
        for fd in (directory, r, w, path_only):
            os.close(fd)

    def stranger():
        with open(new, "rb") as f:
            for path in ("x.jsonl", "none.jsonl", "d/none"):
                for verb in ("replace", "repair"):
                    assert ask(m.mnt, {"verb": verb, "path": path}, [f])["error"] == NO

    as_user(DAEMON, stranger)
    assert m.both("x.jsonl") == GOOD


def test_a_read_only_mount(mount):
    def prepare(source):
        (source / ".jsonlfs").mkdir()
        (source / "x.jsonl").write_bytes(OLD)

    m = mount("ro", prepare=prepare)
    p = ctl("replace", m.p("x.jsonl"), stdin=GOOD, code=FAILED)
    assert b"Read-only" in p.stderr and m.both("x.jsonl") == OLD


def test_a_full_archive_refuses(mount):
    m = mount("archive_max=10")
    append(m.p("x.jsonl"), OLD)
    p = ctl("replace", m.p("x.jsonl"), stdin=GOOD, code=FAILED)
    assert b"archive_max" in p.stderr and m.both("x.jsonl") == OLD
    assert m.status()["archive"]["bytes"] == 0


# ---- repair of a mounted vault ----


@pytest.fixture(params=["mounted", "behind"])
def damaged(request, mount):
    def prepare(source):
        (source / "x.jsonl").write_bytes(GOOD + b"oops\n" + b'{"b":1}{"c":2}\n' + b"\0" * 9
                                         + b"\n" + GOOD + b'{"torn":')
        (source / "good.jsonl").write_bytes(GOOD)
        os.chown(source / "x.jsonl", NOBODY, 12345)
        os.utime(source / "x.jsonl", (1, 1))

    m = mount(self_mount=False, prepare=prepare)
    m.check_after = False
    return m, m.mnt if request.param == "mounted" else m.source


def test_repair_of_a_mounted_vault(damaged):
    m, where = damaged
    before = m.b("x.jsonl").read_bytes()
    p = ctl("repair", where, code=4)
    assert b"oops" not in p.stdout and b":2: byte 8: set-aside" in p.stdout
    assert m.b("x.jsonl").read_bytes() == before
    d = parse(ctl("repair", "--apply", "--json", where, code=1).stdout)
    assert d["files_repaired"] == 1 and d["errors"] == [] and d["records"] == 4 + 1
    assert m.both("x.jsonl") == GOOD + b'{"b":1}\n{"c":2}\n' + GOOD
    st = m.p("x.jsonl").stat()
    assert (st.st_uid, st.st_gid, st.st_mtime) == (NOBODY, 12345, 1)
    (old,) = Place(where, m.mnt, m).archive()
    assert before.startswith(old) and b"oops" in old
    entries = parse(ctl("quarantine", "list", "--json", m.mnt).stdout)["quarantine"]
    assert {(e["event"], e["bytes"]) for e in entries} == {("repair", 4), ("torn-tail", 8)}
    assert "0 damaged" in ctl("repair", "--apply", where).stdout.decode()


def test_repair_leaves_files_that_are_written(damaged):
    m, where = damaged
    before = m.b("x.jsonl").read_bytes()
    with open(m.p("x.jsonl"), "ab"):
        p = ctl("repair", "--apply", where / "x.jsonl", code=12)
        assert b"is open for writing" in p.stderr
    with open(m.b("x.jsonl"), "ab"):
        p = ctl("repair", "--apply", where / "x.jsonl", code=12)
        assert b"is open for writing" in p.stderr
    assert m.b("x.jsonl").read_bytes() == before
    ctl("repair", "--apply", where / "x.jsonl", uid=DAEMON, code=12)
    ctl("repair", "--apply", where / "x.jsonl", code=1)


@pytest.mark.damaged
def test_an_end_that_nobody_can_judge(mount):
    """Half a record behind a line that is none: appends are refused (EUCLEAN)."""
    def prepare(source):
        for name in ("x.jsonl", "y.jsonl"):
            (source / name).write_bytes(GOOD + b"oops\n" + b'{"torn":')
        (source / "text.jsonl").write_bytes(b"This is\nno log.\n")

    m = mount(prepare=prepare)
    with refused(errno.EUCLEAN):
        append(m.p("x.jsonl"), GOOD)
    ctl("repair", "--apply", m.p("x.jsonl"), code=1)
    append(m.p("x.jsonl"), GOOD)
    assert m.both("x.jsonl") == GOOD + GOOD
    assert m.set_aside("x.jsonl") == b'oops{"torn":'
    ctl("replace", m.p("y.jsonl"), stdin=GOOD)
    append(m.p("y.jsonl"), GOOD)
    assert m.both("y.jsonl") == GOOD + GOOD
    assert sorted(Place(m.mnt, m.mnt, m).archive()) == [GOOD + b"oops\n" + b'{"torn":'] * 2
    # That is another kind of file.
    p = ctl("repair", "--apply", m.p("text.jsonl"), code=12)
    assert b"another kind of file" in p.stderr
    assert m.both("text.jsonl") == b"This is\nno log.\n"


@pytest.mark.damaged
def test_repair_beside_readers(mount):
    """The mount's own descriptor, which it keeps for the next append, is no writer."""
    def prepare(source):
        (source / "x.jsonl").write_bytes(GOOD + b"oops\n" + GOOD)

    m = mount(prepare=prepare)
    with open(m.p("x.jsonl"), "rb") as reader:
        for n in range(1, 4):
            append(m.b("x.jsonl"), b"oops\n")
            append(m.p("x.jsonl"), GOOD)
            wait_for(lambda: run(binary("jsonlfsctl"), "repair", "--apply", m.p("x.jsonl")
                                 ).returncode in (OK, 1), "the last close")
            assert m.both("x.jsonl") == GOOD * (2 + n)
        reader.seek(0)
        assert reader.read() == (GOOD + b"oops\n") * 2 + GOOD  # the version that it opened
    assert len(m.log_lines("repaired-by ")) == 3


def test_transactions_go_on_in_the_new_content(mount):
    """commit=close: what is staged appears behind it, and the log's intent, which bears its
    inode number, goes with it."""
    m = mount("commit=close")
    append(m.p("x.jsonl"), OLD)
    with open(m.p("x.jsonl"), "ab", buffering=0) as f, open(m.p("x.jsonl"), "rb"):
        append(m.p("x.jsonl"), GOOD)
        f.write(b'{"late":1}\n')
        ctl("replace", m.p("x.jsonl"), stdin=GOOD)
        append(m.p("x.jsonl"), GOOD)
        intents = [n for n in m.staged() if n.startswith("intent-")]
        assert [int(n.split("-")[2], 16) for n in intents] == [m.b("x.jsonl").stat().st_ino]
    assert m.both("x.jsonl") == GOOD + GOOD + b'{"late":1}\n'
    m.stop()
    assert m.staged() == []
