# SPDX-License-Identifier: MIT
"""commit=close: what one handle writes appears as one block, or not at all."""

import errno
import fcntl
import json
import os
import signal
import sqlite3
import struct
import subprocess

import pytest
from util import (
    NOBODY, PYTHON, append, ctl, have, py, refused, run, running, sh, start, traced, wait_for)

CLOSE = "commit=close"


@pytest.fixture
def t(mount):
    return mount(CLOSE)


def lines(*values):
    return b"".join(json.dumps(v).encode() + b"\n" for v in values)


def test_nothing_is_seen_before_the_close(t):
    with open(t.p("x.jsonl"), "a") as f:
        for n in range(3):
            f.write(f"{n}\n")
            f.flush()
            os.fsync(f.fileno())
            assert t.both("x.jsonl") == b""
    assert t.both("x.jsonl") == b"0\n1\n2\n"
    assert t.counter("transactions") == 1


def test_a_shell_that_opens_once_and_writes_twice(t):
    sh("exec 3>>x.jsonl; echo 1 >&3; echo 2 >&3; test ! -s x.jsonl || exit 9; exec 3>&-;"
       "test -s x.jsonl || exit 8", t.mnt)
    assert t.both("x.jsonl") == b"1\n2\n"


def test_what_children_inherit_and_close_ends_nothing(t):
    sh("exec 3>>x.jsonl; echo 1 >&3; /bin/echo 2 >&3; /bin/true; (echo 3 >&3); sleep 0.01;"
       "test ! -s x.jsonl || exit 9; exec 3>&-", t.mnt)
    assert t.both("x.jsonl") == b"1\n2\n3\n"
    py(
        "import subprocess\n"
        "f = open('y.jsonl', 'a')\n"
        "print(1, file=f, flush=True)\n"
        "subprocess.run(['true'], close_fds=False)\n"
        "subprocess.run(['true'], pass_fds=[f.fileno()])\n"
        "assert open('y.jsonl').read() == ''\n"
        "print(2, file=f)\n"
        "f.close()\n"
        "assert open('y.jsonl').read() == '1\\n2\\n'\n",
        t.mnt,
    )


def test_taken_back_by_truncation(t):
    append(t.p("x.jsonl"), b"0\n")
    fd = os.open(t.p("x.jsonl"), os.O_WRONLY | os.O_APPEND)
    begin = os.fstat(fd).st_size
    os.write(fd, b'1\n2\n{"unfinished"')
    os.ftruncate(fd, begin)
    os.write(fd, b"3\n")
    sh("echo 9 >>x.jsonl", t.mnt)  # others go on meanwhile
    with refused(errno.EPERM):
        os.ftruncate(fd, 1)
    os.close(fd)
    assert t.both("x.jsonl") == b"0\n9\n3\n"
    with open(t.p("x.jsonl"), "a") as f:
        at = f.tell()
        f.write("4\n")
        f.seek(at)
        f.truncate()
    assert t.both("x.jsonl") == b"0\n9\n3\n"
    assert t.counter("transactions_dropped") == 2
    assert not t.quarantine()


SCRIPT = """
import os, signal, sqlite3, sys
how = sys.argv[1]
db = sqlite3.connect("%s", isolation_level=None)
db.execute("create table if not exists row (n)")
with open("audit.jsonl", "a") as log:
    begin = log.tell()
    db.execute("begin")
    for n in range(100):
        db.execute("insert into row values (?)", (n,))
        print('{"n": %%d, "how": "%%s"}' %% (n, how), file=log, flush=n %% 10 == 0)
    if how == "commit":
        db.execute("commit")
    elif how == "rollback":
        db.execute("rollback")
        log.seek(begin)
        log.truncate()
    else:
        os.kill(os.getpid(), getattr(signal, how))
"""


@pytest.mark.parametrize("how", ["commit", "rollback", "SIGKILL", "SIGTERM", "SIGSEGV"])
def test_a_script_with_a_database_transaction(t, workdir, how):
    database = workdir / "rows.db"
    p = run(PYTHON, "-c", SCRIPT % database, how, cwd=t.mnt)
    assert p.returncode == (-getattr(signal, how) if how.startswith("SIG") else 0), p.stderr
    rows = sqlite3.connect(database).execute("select n from row").fetchall()
    t.p("audit.jsonl").stat()
    wait_for(lambda: t.counter("transactions") + t.counter("transactions_dropped") == 1)
    assert [r["n"] for r in t.records("audit.jsonl")] == [n for (n,) in rows]
    assert len(rows) == (100 if how == "commit" else 0)


def test_sqlite3_by_a_shell(t, workdir):
    if not have("sqlite3"):
        pytest.fail("sqlite3 is missing")
    sh(
        f"db={workdir}/x.db; sqlite3 $db 'create table t (n)'; exec 3>>audit.jsonl\n"
        "for n in 1 2 3; do sqlite3 $db \"insert into t values ($n); select json_object('n', $n)\""
        " >&3; done; test ! -s audit.jsonl || exit 9; exec 3>&-",
        t.mnt,
    )
    assert [r["n"] for r in t.records("audit.jsonl")] == [1, 2, 3]


def test_programs_of_other_users_are_told_apart_too(t):
    """Who was killed and who has closed its file, of a user that the daemon is not."""
    t.mnt.chmod(0o1777)
    how = "f = open('audit.jsonl', 'a'); print('{\"n\":%d}', file=f, flush=True)"
    p = run(PYTHON, "-c", how % 1 + "; import os; os.kill(os.getpid(), 9)", cwd=t.mnt, uid=NOBODY)
    assert p.returncode == -signal.SIGKILL
    wait_for(lambda: t.counter("transactions_dropped") == 1)
    sh("exec 3>>audit.jsonl; echo '{\"n\":2}' >&3; /bin/echo '{\"n\":3}' >&3;"
       "test ! -s audit.jsonl || exit 9; exec 3>&-; grep -q 3 audit.jsonl", t.mnt, uid=NOBODY)
    run(PYTHON, "-c", how % 4, cwd=t.mnt, uid=NOBODY, check=0)
    assert t.records("audit.jsonl") == [{"n": 2}, {"n": 3}, {"n": 4}]


def test_a_killed_program_may_commit_when_told_so(mount):
    m = mount(f"{CLOSE},killed=commit")
    run(PYTHON, "-c", "import os; f = open('x.jsonl', 'a'); print(1, file=f, flush=True);"
        "print(2, file=f, flush=True); os.kill(os.getpid(), 9)", cwd=m.mnt)
    wait_for(lambda: m.b("x.jsonl").read_bytes() == b"1\n2\n")


def test_a_program_with_threads_that_exits_is_not_killed(t):
    py(
        "import os, threading, time\n"
        "fd = os.open('x.jsonl', os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "os.write(fd, b'1\\n2\\n')\n"
        "threading.Thread(target=os._exit, args=(0,)).start()\n"
        "time.sleep(60)\n",
        t.mnt,
    )
    wait_for(lambda: t.b("x.jsonl").read_bytes() == b"1\n2\n")


def test_interleaved_transactions_are_contiguous(t):
    fds = [os.open(t.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT) for _ in range(2)]
    for n in range(200):
        os.write(fds[n % 2], lines({"who": n % 2, "n": n}))
    for fd in reversed(fds):
        os.close(fd)
    # Two descriptors of one process: the last close of both ends them.
    wait_for(lambda: len(t.b("x.jsonl").read_bytes().splitlines()) == 200)
    who = [r["who"] for r in t.records("x.jsonl")]
    assert who in ([0] * 100 + [1] * 100, [1] * 100 + [0] * 100)


def test_sixteen_programs_at_a_time(t):
    code = (
        "import sys\n"
        "for turn in range(20):\n"
        "    with open('x.jsonl', 'a') as f:\n"
        "        for n in range(30):\n"
        "            print('{\"id\":\"%s.%d\",\"n\":%d}' % (sys.argv[1], turn, n), file=f, flush=n % 7 == 0)\n"
    )
    programs = [start(PYTHON, "-c", code, str(n), cwd=t.mnt) for n in range(16)]
    for p in programs:
        assert p.wait(120) == 0
    rows = t.records("x.jsonl")
    assert len(rows) == 16 * 20 * 30
    for at in range(0, len(rows), 30):
        block = rows[at : at + 30]
        assert len({r["id"] for r in block}) == 1 and [r["n"] for r in block] == list(range(30))


def test_a_million_records(t):
    t.check_after = False  # each line is compared here
    append(t.p("x.jsonl"), b"0\n")
    code = (
        "with open('x.jsonl', 'ab', 1 << 20) as f:\n"
        "    for n in range(1_000_000): f.write(b'{\"n\":%d,\"text\":\"abcdefghijklmnop\"}\\n' % n)\n"
        "    f.flush()\n"
        "    assert open('x.jsonl').read() == '0\\n'\n"
    )
    with running(PYTHON, "-c", code, cwd=t.mnt, stderr=subprocess.PIPE) as p:
        assert p.wait(150) == 0, p.stderr.read()
    data = t.b("x.jsonl").read_bytes()
    rows = data.split(b"\n")
    assert len(rows) == 1_000_002 and rows[0] == b"0" and rows[-1] == b""
    assert all(row == b'{"n":%d,"text":"abcdefghijklmnop"}' % n for n, row in enumerate(rows[1:-1]))


def test_the_error_reaches_the_close_that_commits(mount):
    m = mount(f"{CLOSE},locktimeout=0.3")
    append(m.p("x.jsonl"), b"0\n")
    outside = os.open(m.b("x.jsonl"), os.O_RDONLY)
    fcntl.flock(outside, fcntl.LOCK_EX)
    fd = os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"1\n2\n")
    with refused(errno.EAGAIN):
        os.close(fd)
    # Nobody is left who could try again: kept, and said.
    wait_for(lambda: m.quarantine())
    fcntl.flock(outside, fcntl.LOCK_UN)
    os.close(outside)
    assert m.both("x.jsonl") == b"0\n"
    assert [e["event"] for e, _ in m.quarantine()] == ["transaction"]
    m.expect_log("transaction-failed")


def test_half_a_record_at_the_end_is_told_and_the_others_appear(t):
    fd = os.open(t.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b'1\n2\n{"half')
    with refused(errno.EBADMSG):
        os.close(fd)
    assert t.both("x.jsonl") == b"1\n2\n"


def test_by_pattern(mount, workdir):
    path = workdir / "rules.json"
    path.write_text(json.dumps({"rules": [{"match": "audit.*", "commit": "close"}]}))
    m = mount(f"config={path}")
    for name, seen in (("x.jsonl", b"1\n"), ("audit.jsonl", b"")):
        fd = os.open(m.p(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, b"1\n")
        assert m.both(name) == seen
        os.close(fd)
        assert m.both(name) == b"1\n"


def test_reported_per_program(t):
    code = (
        "for n in range(3):\n"
        "    with open('x.jsonl', 'a') as f:\n"
        "        print(n, file=f, flush=True)\n"
        "        print(n, file=f, flush=True)\n"
        "        if n == 1: f.truncate(4)\n"
    )
    py(code, t.mnt)
    assert t.both("x.jsonl") == b"0\n0\n2\n2\n"
    wait_for(lambda: [(w["transactions"], w["transactions_dropped"]) for w in t.writers("x.jsonl")]
             == [(2, 1)])
    assert (t.counter("transactions"), t.counter("transactions_dropped")) == (2, 1)
    assert "program took it back" in t.expect_log("transaction-dropped", "x.jsonl")


def left(vault, name, path, content):
    """As a crash would have left it."""
    at = vault / ".jsonlfs/daemon"
    at.mkdir(parents=True, exist_ok=True)
    (at / name).write_bytes(b"jsonlfs stage %d\n%s\n" % (len(path), path.encode()) + content)


def test_what_the_quarantine_does_not_take_stays(mount):
    rows = b"".join(b'{"n":%d,"text":"abcdefghijklmnopqrstuvwxyz"}\n' % n for n in range(30_000))
    m = mount(CLOSE, "quarantine_max=1M",
              prepare=lambda vault: left(vault, "stage-1-1", "x.jsonl", rows))
    assert "quarantine_max" in m.expect_log("transaction-stays", "stage-1-1")
    assert m.staged() == ["stage-1-1"]
    assert not m.quarantine()
    m.stop()
    m.options = [CLOSE]
    m.start()
    assert m.staged() == []
    assert [data for _, data in m.quarantine()] == [rows]


def test_what_a_crash_left_is_appended_once_and_whole_lines_only(mount):
    def prepare(vault):
        (vault / "x.jsonl").write_bytes(b"0\n")
        left(vault, "stage-1-1", "x.jsonl", b'1\n2\n{"ha\0\0\0\n')
        left(vault, "stage-1-2", "gone.jsonl", b"3\n")
        (vault / ".jsonlfs/daemon/stage-1-3").write_bytes(b"jsonlfs st")

    m = mount(CLOSE, "killed=commit", prepare=prepare)
    assert m.both("x.jsonl") == b"0\n1\n2\n"
    assert [data for _, data in m.quarantine()] == [b"3\n"]
    assert m.staged() == []
    m.restart()
    assert m.both("x.jsonl") == b"0\n1\n2\n"


@pytest.mark.parametrize("killed", ["drop", "commit"])
def test_the_mount_ends_within_a_transaction(mount, killed):
    m = mount(f"{CLOSE},killed={killed}")
    with running(PYTHON, "-c", "import time; f = open('x.jsonl', 'a'); print('1\\n2', file=f,"
                 "flush=True); print(flush=True); time.sleep(60)", cwd=m.mnt,
                 stdout=subprocess.PIPE) as p:
        p.stdout.readline()
        m.proc.send_signal(signal.SIGTERM)
        m.proc.wait(20)
        m.restart()
    want = b"1\n2\n" if killed == "commit" else b""
    assert m.both("x.jsonl") == want
    assert len(m.quarantine()) == (killed == "drop")
    assert m.staged() == []


@pytest.mark.parametrize("killed", ["drop", "commit"])
def test_the_daemon_dies_within_a_transaction(mount, killed):
    """What an fsync or the close of a duplicate has made durable is not lost silently."""
    m = mount(f"{CLOSE},killed={killed}")
    append(m.p("x.jsonl"), b"0\n")
    with running(PYTHON, "-c", "import os, time; f = open('x.jsonl', 'a'); print('1\\n2', file=f,"
                 "flush=True); os.fsync(f.fileno()); print(flush=True); time.sleep(60)",
                 cwd=m.mnt, stdout=subprocess.PIPE) as p:
        p.stdout.readline()
        assert m.staged()
        m.clean = False
        m.kill()
        m.start()
    assert m.both("x.jsonl") == (b"0\n1\n2\n" if killed == "commit" else b"0\n")
    assert [e["event"] for e, _ in m.quarantine()] == (["transaction"] if killed == "drop" else [])
    assert m.staged() == []


NAME = "user.jsonlfs.intent"


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 % (1 << 64)
    return h


def mark(path, before, block):
    """As FORMAT.md has it."""
    first = block.split(b"\n")[0].rstrip(b" \t\r")
    head = struct.pack("=IIQQQQ", 0x4D4C534A, len(first), before, len(block), fnv(block), fnv(first))
    os.setxattr(path, NAME, head + struct.pack("=Q", fnv(head + struct.pack("=Q", os.stat(path).st_ino))))


def intent(vault, path, before=0, block=b"", stage=b""):
    """A file that says which log to look at, and with a block what is being appended there."""
    def one(before, block, stage):
        head = struct.pack("=QQQQ", 0x325F4C4E4F534A2E, before, len(block), fnv(block) if block else 0)
        tail = struct.pack("=IIII", len(path), len(stage), len(block), 0) + path + stage + block
        return head + struct.pack("=Q", fnv(head + struct.pack("=Q", 0) + tail)) + tail

    st = os.stat(vault / os.fsdecode(path))
    at = vault / f".jsonlfs/daemon/intent-{st.st_dev:x}-{st.st_ino:x}"
    at.parent.mkdir(parents=True, exist_ok=True)
    at.write_bytes(one(0, b"", b"") + (one(before, block, stage) if block else b""))
    return at.name


BLOCK = b'{"n":1} \n{"n":2}\n{"n":3}\n'


@pytest.mark.parametrize("there, left, said", [
    (b"", b"", "not begun"),
    (BLOCK, BLOCK, "complete"),
    (BLOCK + b'{"n":4}\n', BLOCK + b'{"n":4}\n', "complete"),
    (b'{"n":1} \n', b"", "taken back"),
    (b'{"n":1}', b"", "taken back"),
    (b'{"n":1} \n{"n"', b"", "taken back"),
    (b'{"n":1} \n' + b"\0" * 9, b"", "taken back"),
    (b"\0" * len(BLOCK), b"", "taken back"),
    (b'{"n"', b'{"n"', "less than a record"),
    (b'{"n":9}\n', b'{"n":9}\n', "left alone"),
    (b'{"n":1}, \n', b'{"n":1}, \n', "left alone"),
    (BLOCK[:-2] + b"4\n{}\n", BLOCK[:-2] + b"4\n{}\n", "left alone"),
])
def test_a_mark_that_a_crash_left(mount, there, left, said):
    """What stands behind the length that it tells is the block, a part of it, or not its own."""
    def prepare(vault):
        (vault / "x.jsonl").write_bytes(b"0\n" + there)
        mark(vault / "x.jsonl", 2, BLOCK)
        intent(vault, b"x.jsonl")

    m = mount(CLOSE, prepare=prepare)
    m.check_after = False
    assert m.b("x.jsonl").read_bytes() == b"0\n" + left
    assert said in m.expect_log("transaction-recovered", "x.jsonl")
    assert [data for _, data in m.quarantine()] == ([there] if there and said == "taken back" else [])
    assert m.staged() == []
    assert NAME not in os.listxattr(m.b("x.jsonl"))


def test_a_mark_is_not_seen_through_the_mount(t):
    append(t.p("x.jsonl"), b"0\n")
    mark(t.b("x.jsonl"), 2, BLOCK)
    os.setxattr(t.b("x.jsonl"), "user.other", b"1")
    assert os.listxattr(t.p("x.jsonl")) == ["user.other"]
    with refused(errno.ENODATA):
        os.getxattr(t.p("x.jsonl"), NAME)
    with refused(errno.EPERM):
        os.removexattr(t.p("x.jsonl"), NAME)


def test_an_intent_goes_when_its_log_is_gone_and_waits_for_its_directory(mount):
    waits = []

    def prepare(vault):
        (vault / "d").mkdir()
        for name in ("gone.jsonl", "d/x.jsonl"):
            (vault / name).write_bytes(b"0\n")
            waits.append(intent(vault, name.encode()))
        (vault / "gone.jsonl").unlink()
        (vault / "d").rename(vault / "elsewhere")

    m = mount(CLOSE, prepare=prepare)
    assert m.expect_log("transaction-recovered", "gone.jsonl")
    assert m.expect_log("transaction-recovered", "d/x.jsonl")
    assert m.staged() == waits[1:]
    m.stop()
    m.b("elsewhere").rename(m.b("d"))
    m.start()
    assert m.staged() == []


def test_nothing_is_appended_behind_a_part_that_could_not_be_cut_yet(mount):
    """A program outside holds the lock at mount time and at the first open."""
    held = []

    def prepare(vault):
        (vault / "x.jsonl").write_bytes(b'0\n{"n":1} \n')
        mark(vault / "x.jsonl", 2, BLOCK)
        intent(vault, b"x.jsonl")
        held.append(open(vault / "x.jsonl", "rb"))
        fcntl.flock(held[0], fcntl.LOCK_EX)

    m = mount(CLOSE, prepare=prepare)
    for _ in range(2):
        with refused(errno.EAGAIN):
            os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND)
    held[0].close()
    append(m.p("x.jsonl"), b"1\n2\n")
    assert m.both("x.jsonl") == b"0\n1\n2\n"


@pytest.mark.parametrize("end", ["close", "unmount"])
def test_what_neither_the_log_nor_the_quarantine_takes_waits_for_the_next_mount(mount, end):
    """An fsync has said that it is safe."""
    rows = b"".join(b'{"n":%d,"text":"abcdefghijklmnopqrstuvwxyz"}\n' % n for n in range(30_000))
    m = mount(CLOSE, "quarantine_max=1M", "locktimeout=0.1")
    append(m.p("x.jsonl"), b"0\n")
    fd = os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND)
    os.write(fd, rows)
    os.fsync(fd)
    if end == "close":
        with open(m.b("x.jsonl"), "rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with refused(errno.EAGAIN):
                os.close(fd)
            m.expect_log("transaction-stays", "x.jsonl")
        m.stop()
    else:
        m.proc.send_signal(signal.SIGTERM)
        m.proc.wait(20)
        m.stop()
        with refused(errno.ENOTCONN):
            os.close(fd)
    m.options = [CLOSE]
    m.start()
    assert m.both("x.jsonl") == b"0\n"
    assert [data for _, data in m.quarantine()] == [rows]
    assert m.staged() == []


def test_what_a_handle_stages_anew_is_not_taken_for_the_block_before_it(mount):
    """Two blocks of one handle: by the program that opened it, and by a child that goes on. The
    intent of the first one could not be emptied, as a power cut may also have it."""
    m = mount(CLOSE)
    code = (
        "import os, sys, time\n"
        "fd = os.open('x.jsonl', os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "os.write(fd, b'1\\n2\\n')\n"
        "os.fsync(fd)\n"
        "child = os.fork()\n"
        "if child:\n"
        "    os.close(fd)\n"
        "    os.wait()\n"
        "while os.stat('x.jsonl').st_size == 0:\n"
        "    time.sleep(0.01)\n"
        "os.write(fd, b'3\\n4\\n')\n"
        "os.fsync(fd)\n"
        "print(flush=True)\n"
        "time.sleep(60)\n"
    )
    with traced(m, "-e", "trace=ftruncate", "-e", "inject=ftruncate:error=EIO:when=3+",
                "-o", "/dev/null"):
        with running(PYTHON, "-c", code, cwd=m.mnt, stdout=subprocess.PIPE,
                     start_new_session=True) as p:
            p.stdout.readline()
            assert m.both("x.jsonl") == b"1\n2\n"
            m.clean = False
            m.kill()
            os.killpg(p.pid, signal.SIGKILL)
    m.start()
    assert m.both("x.jsonl") == b"1\n2\n"
    assert [data for _, data in m.quarantine()] == [b"3\n4\n"]
    assert m.staged() == []


def test_a_stage_waits_as_long_as_an_intent_cannot_be_read(mount):
    """The stage may be of a block that is in the log."""
    m = mount(CLOSE, "killed=commit")
    append(m.p("x.jsonl"), b"0\n1\n2\n")
    m.stop()
    left(m.b(), "stage-1-1", "x.jsonl", b"1\n2\n")
    where = m.b(".jsonlfs/daemon") / intent(m.b(), b"x.jsonl", 2, b"1\n2\n", b"stage-1-1")
    where.rename(where.with_name("kept"))
    where.mkdir()  # read(2) fails
    m.start()
    m.expect_log("intent-stays", where.name)
    m.stop()
    (taken,) = where.parent.glob(f"hosts/*/{where.name}")
    taken.rmdir()
    where.with_name("kept").rename(taken)
    m.start()
    assert m.both("x.jsonl") == b"0\n1\n2\n"
    assert not m.quarantine()
    assert m.staged() == []


def test_a_part_of_one_block_does_not_stay_before_another(mount):
    """The quarantine does not take the part, so it cannot be cut; nor can another program's block
    be appended behind it."""
    rows = b"".join(b'{"n":%d,"text":"abcdefghijklmnopqrstuvwxyz"}\n' % n for n in range(30_000))

    def prepare(vault):
        (vault / "x.jsonl").write_bytes(b"0\n" + rows)
        mark(vault / "x.jsonl", 2, rows + b"1\n")
        intent(vault, b"x.jsonl")
        left(vault, "stage-1-1", "x.jsonl", b"3\n4\n")

    m = mount(CLOSE, "killed=commit", "quarantine_max=1M", prepare=prepare)
    m.stop()
    m.options = [CLOSE, "killed=commit"]
    m.start()
    assert m.both("x.jsonl") == b"0\n"
    assert sorted(data for _, data in m.quarantine()) == [b"3\n4\n", rows]
    assert m.staged() == []


@pytest.mark.parametrize("idle", [False, True])
def test_an_intent_that_could_not_be_emptied_does_not_count_for_what_comes_later(mount, idle):
    """A log that begins anew with the record that the block began with."""
    m = mount(CLOSE)
    fd = os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b'{"event":"start"}\n{"n":1}\n')
    os.fsync(fd)  # into a file: its intent is one, too
    with traced(m, "-e", "trace=ftruncate", "-e", "inject=ftruncate:error=EIO:when=3",
                "-o", "/dev/null"):
        os.close(fd)
    assert m.both("x.jsonl") == b'{"event":"start"}\n{"n":1}\n'
    if idle:
        fds = f"/proc/{m.proc.pid}/fd"
        wait_for(lambda: not any("intent-" in os.readlink(f"{fds}/{fd}") for fd in os.listdir(fds)))
    run("cp", "x.jsonl", "x.jsonl.1", cwd=m.mnt, check=0)
    os.truncate(m.p("x.jsonl"), 0)
    append(m.p("x.jsonl"), b'{"event":"start"}\n')
    m.restart()
    assert m.both("x.jsonl") == b'{"event":"start"}\n'
    assert not m.quarantine()
    assert m.staged() == []


def test_a_log_whose_intent_could_not_be_renamed_gets_another(mount):
    """Under the old number, that of what was there before a rewrite, recovery would not find it."""
    m = mount(CLOSE, "rewrite=archive")
    append(m.p("x.jsonl"), b"1\n2\n")
    # The first is that of the log.
    with traced(m, "-e", "trace=renameat", "-e", "inject=renameat:error=EIO:when=2",
                "-o", os.devnull):
        m.p("x.jsonl").write_bytes(b"1\n3\n")
    m.expect_log("intent-stays")
    append(m.p("x.jsonl"), b"4\n5\n")
    st = os.stat(m.b("x.jsonl"))
    assert f"intent-{st.st_dev:x}-{st.st_ino:x}" in m.staged()
    m.restart()
    assert m.both("x.jsonl") == b"1\n3\n4\n5\n"
    assert m.staged() == []


@pytest.mark.parametrize("looks", [False, True])
def test_a_log_that_is_replaced_meanwhile_is_not_split(t, looks):
    """The kernel shows the descriptor by the number that it has looked up last."""
    append(t.p("x.jsonl"), b"0\n")
    fd = os.open(t.p("x.jsonl"), os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"1\n")
    for n in range(2):
        ctl("replace", t.p("x.jsonl"), stdin=b"%d\n" % (7 + n))
        if looks:
            wait_for(lambda: os.fstat(fd).st_ino == t.b("x.jsonl").stat().st_ino)
        os.close(os.dup(fd))
        assert t.both("x.jsonl") == b"%d\n" % (7 + n)
    os.write(fd, b"2\n")
    os.close(fd)
    assert t.both("x.jsonl") == b"8\n1\n2\n"
