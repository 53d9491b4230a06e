# SPDX-License-Identifier: MIT
"""Class text: what one handle appends lands as one block; all else as on a plain file."""

import errno
import json
import mmap
import os
import re
import signal
import subprocess
import threading

import pytest
from util import PYTHON, append, have, py, refused, run, running, sh, start, traced, wait_for


@pytest.fixture
def t(mount, workdir):
    path = workdir / "rules.json"
    path.write_text(json.dumps({"rules": [{"match": "daily/*.md", "class": "text"}]}))
    m = mount(f"config={path}")
    m.p("daily").mkdir()
    return m


def test_what_is_appended_lands_at_the_close(t):
    append(t.p("daily/x.md"), b"# Today\n\nno JSON, no newline")
    with open(t.p("daily/x.md"), "a") as f:
        for n in range(3):
            print(f"- {n}", file=f, flush=True)
            assert t.both("daily/x.md") == b"# Today\n\nno JSON, no newline"
    assert t.both("daily/x.md") == b"# Today\n\nno JSON, no newline- 0\n- 1\n- 2\n"
    assert os.stat(t.p("daily/x.md")).st_size == os.stat(t.b("daily/x.md")).st_size
    append(t.p("plain.md"), b"as it comes")
    assert t.counter("transactions") == 2
    assert sum(w["transactions"] for w in t.writers("daily/x.md")) == 2
    assert sum(w["bytes"] for w in t.writers("daily/x.md")) == 40
    assert not t.quarantine()


def test_the_name_of_a_new_file_is_synced_before_its_first_block(t, workdir):
    with traced(t, "-y", "-e", "trace=fsync,fdatasync,pwritev2", "-o", workdir / "trace"):
        append(t.p("daily/x.md"), b"one\n")
        append(t.p("daily/x.md"), b"two\n")
    calls = re.findall(r"(\w+)\(\d+<[^>]*/(daily(?:/x\.md)?)>", (workdir / "trace").read_text())
    file = [("pwritev2", "daily/x.md"), ("fdatasync", "daily/x.md")]
    assert calls == [("fsync", "daily"), *file, *file]


def test_shells(t):
    sh("exec 3>>x.md; echo 1 >&3; /bin/echo 2 >&3; (echo 3 >&3); test ! -s x.md || exit 9;"
       "exec 3>&-; test -s x.md || exit 8; { echo 4; /bin/echo 5; } >>x.md; printf '6\\n' >>x.md;"
       "printf '7\\n' | tee -a x.md", t.p("daily"))
    assert t.both("daily/x.md") == b"1\n2\n3\n4\n5\n6\n7\n"


def test_blocks_of_many_programs_are_not_interleaved(t):
    code = (
        "import sys\n"
        "for turn in range(30):\n"
        "    with open('x.md', 'a') as f:\n"
        "        for n in range(20):\n"
        "            print(sys.argv[1], turn, n, 'text ' * (n % 5), file=f, flush=n % 7 == 0)\n"
    )
    programs = [start(PYTHON, "-c", code, str(n), cwd=t.p("daily")) for n in range(8)]
    for p in programs:
        assert p.wait(120) == 0
    rows = [r.split()[:3] for r in t.b("daily/x.md").read_text().splitlines()]
    assert len(rows) == 8 * 30 * 20
    blocks = [rows[at : at + 20] for at in range(0, len(rows), 20)]
    for block in blocks:
        assert len({(who, turn) for who, turn, _ in block}) == 1
        assert [int(n) for _, _, n in block] == list(range(20))
    for who in range(8):
        assert [int(b[0][1]) for b in blocks if b[0][0] == str(who)] == list(range(30))


def test_a_reader_sees_a_block_whole_or_not_at_all(t):
    """Blocks that take the disk a while to write: a reader meets most of them on their way."""
    block, stop, sizes = 8 << 20, threading.Event(), set()
    append(t.p("daily/x.md"), b"x" * block)

    def read():
        with open(t.p("daily/x.md"), "rb", 0) as f:
            while not stop.is_set():
                f.seek(0)
                end = sum(iter(lambda: len(f.read(1 << 20)), 0))
                sizes.add(end % block)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(12):
            append(t.p("daily/x.md"), b"x" * block)
    finally:
        stop.set()
        reader.join()
    assert sizes == {0}


def test_more_than_fits_in_memory(t):
    text = b"".join(b"line %d of a long text\n" % n for n in range(200_000))
    append(t.p("daily/x.md"), b"before\n")
    with open(t.p("daily/x.md"), "ab", 1 << 16) as f:
        f.write(text)
        assert t.b("daily/x.md").read_bytes() == b"before\n"
        assert t.staged()
    assert t.b("daily/x.md").read_bytes() == b"before\n" + text
    assert t.staged() == []


def test_a_killed_program_has_written_what_it_has_written(t):
    run(PYTHON, "-c", "import os; f = open('x.md', 'a'); print('half', file=f, end='', flush=True);"
        "os.kill(os.getpid(), 9)", cwd=t.p("daily"))
    wait_for(lambda: t.b("daily/x.md").read_bytes() == b"half")


def test_editors_and_tools_work_as_on_a_plain_file(t):
    append(t.p("daily/x.md"), b"one\ntwo\nthree\n")
    run("sed", "-i", "s/two/TWO/", "x.md", cwd=t.p("daily"), check=0)
    assert t.both("daily/x.md") == b"one\nTWO\nthree\n"
    run("sort", "-o", "x.md", "x.md", cwd=t.p("daily"), check=0)
    assert t.both("daily/x.md") == b"TWO\none\nthree\n"
    t.p("daily/x.md").write_text("anew\n")
    with open(t.p("daily/x.md"), "r+b") as f:
        f.seek(2)
        f.write(b"EW")
        f.truncate(4)
    assert t.both("daily/x.md") == b"anEW"
    os.truncate(t.p("daily/x.md"), 2)
    with open(t.p("daily/x.md"), "a+") as f:
        f.write("gone")
        f.flush()
        f.truncate(0)
        f.write("anew again\n")
    assert t.both("daily/x.md") == b"anew again\n"
    with open(t.p("daily/x.md"), "rb") as f, mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE,
                                                       prot=mmap.PROT_READ) as view:
        assert view[:] == b"anew again\n"
    os.rename(t.p("daily/x.md"), t.p("daily/y.md"))
    os.link(t.p("daily/y.md"), t.p("daily/z.md"))
    os.rename(t.p("daily/y.md"), t.p("away.txt"))
    assert t.both("away.txt") == b"anew again\n"
    os.unlink(t.p("daily/z.md"))
    py("with open('new.md', 'w') as f: f.write('a'); f.flush()\n"
       "with open('new.md', 'x' if False else 'a') as f: f.write('b')", t.p("daily"))
    assert t.both("daily/new.md") == b"ab"


def test_an_editor_saves_while_a_program_appends(t):
    if not have("vim"):
        pytest.fail("vim is missing")
    append(t.p("daily/x.md"), b"one\n")
    with open(t.p("daily/x.md"), "a") as f:
        print("two", file=f, flush=True)
        run("vim", "-es", "-u", "NONE", "-c", "set backupcopy=yes", "-c", "1s/one/ONE/", "-c", "wq",
            "x.md", cwd=t.p("daily"))
        assert t.both("daily/x.md") == b"ONE\n"
    assert t.both("daily/x.md") == b"ONE\ntwo\n"


def test_what_would_land_in_a_file_that_was_replaced_is_kept(t):
    append(t.p("daily/x.md"), b"one\n")
    fd = os.open(t.p("daily/x.md"), os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"two\n")
    run("sed", "-i", "s/one/ONE/", "x.md", cwd=t.p("daily"), check=0)
    with refused(errno.ESTALE):
        os.close(fd)
    assert t.both("daily/x.md") == b"ONE\n"
    t.expect_log("transaction-failed", "daily/x.md")
    assert [data for _, data in t.quarantine()] == [b"two\n"]


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_the_mount_ends_before_the_close(t, how):
    append(t.p("daily/x.md"), b"0\n")
    code = (
        "import os, time\n"
        "f = open('x.md', 'a')\n"
        "print('1', file=f)\n"
        "print('not yet', end='', file=f, flush=True)\n"
        "os.fsync(f.fileno())\n"
        "print(flush=True)\n"
        "time.sleep(60)\n"
    )
    with running(PYTHON, "-c", code, cwd=t.p("daily"), stdout=subprocess.PIPE) as p:
        p.stdout.readline()
        if how == "kill":
            t.clean = False
            t.kill()
        else:
            t.proc.send_signal(signal.SIGTERM)
            t.proc.wait(20)
            t.stop()
        t.start()
    assert t.both("daily/x.md") == b"0\n1\nnot yet"
    assert t.staged() == []


def test_a_crash_between_the_block_and_the_end_of_its_stage_doubles_nothing(t):
    append(t.p("daily/x.md"), b"0\nblock\nof text")
    t.stop()
    for name, content in (("1", b"block\nof text"), ("2", b"other\0\0")):
        t.b(".jsonlfs/daemon").mkdir(0o700, parents=True, exist_ok=True)
        (t.b(".jsonlfs/daemon") / f"stage-1-{name}").write_bytes(
            b"jsonlfs stage 10\ndaily/x.md\n" + content)
        t.start()
        t.stop()
    assert t.b("daily/x.md").read_bytes() == b"0\nblock\nof textother"
    assert not t.staged()


def test_what_waits_is_bounded(mount, workdir):
    path = workdir / "rules.json"
    path.write_text(json.dumps({"rules": [{"match": "*.md", "class": "text"}]}))
    m = mount(f"config={path}", "maxrecord=64K", "pending_max=1M")
    fds = [os.open(m.p("x.md"), os.O_WRONLY | os.O_APPEND | os.O_CREAT) for _ in range(2)]
    os.write(fds[0], b"a" * 700_000)
    with refused(errno.ENOBUFS):
        os.write(fds[1], b"b" * 700_000)
    # What is synced waits on the disk.
    os.fsync(fds[0])
    os.write(fds[1], b"b" * 700_000)
    for fd in fds:
        os.close(fd)
    wait_for(lambda: m.b("x.md").stat().st_size == 1_400_000)
