# SPDX-License-Identifier: MIT
"""Two daemons over one directory keep every promise to each other: on each side eight writers
of four kinds and two readers (tests/hosts/client.py), judged in the mounts and in the backing
directory (tests/hosts/judge.py)."""

import contextlib
import json
import re
import subprocess
import sys
import threading
import time

import pytest
from util import BUILD, PYTHON, REPO, ctl, parse, running, wait_for

sys.path.insert(0, str(REPO / "tests" / "hosts"))
from client import WRITERS  # noqa: E402
from judge import Load, environment, hold, judge, late, report  # noqa: E402

UPDATES = REPO / "tests" / "hosts" / "updates.py"
RECORDS = 60  # of each writer
pytestmark = pytest.mark.limit(150)


@pytest.fixture
def pair(mount):
    """pair(*options, broken=None): two mounts of one directory; `broken`: a promise that the
    second daemon breaks (tests/crash/broken.c)."""

    def factory(*options, broken=None):
        a = mount(*options, self_mount=False)
        return a, mount(*options, self_mount=False, source=a.source,
                        env=environment(BUILD, broken))

    return factory


@contextlib.contextmanager
def loads(a, b, acks):
    both = [Load(side, m.p("log.jsonl"), acks, records=RECORDS) for side, m in (("A", a), ("B", b))]
    try:
        yield both
        for one in both:
            one.wait()
    finally:
        for one in both:
            one.kill()


def sides(a, b):
    return {"A": a.mnt, "B": b.mnt, "behind": a.source}


def verdicts(a, b, acks, errors=0):
    """`errors`: so many calls of programs may have failed."""
    found = judge(acks, sides(a, b))
    print(report(found))
    told = found["behind"].told
    assert told.seen and told.errors.total() <= errors
    assert len(told.kept) >= 2 * WRITERS * RECORDS - 20 * errors
    return found


def until_done(both, step, pause):
    """step() again and again while the programs are at work."""
    while any(one.proc.poll() is None for one in both):
        step()
        time.sleep(pause)


def test_appends(pair, workdir):
    a, b = pair()
    with loads(a, b, workdir / "acks"):
        pass
    hold(verdicts(a, b, workdir / "acks"))


# ---- the log is moved and replaced under the other's handles ----


def rotated(a, b, acks):
    """Under the load: {what was the log: since when it is not, in microseconds}."""
    old = {}
    with loads(a, b, acks) as both:

        def rotate():
            name = f"log.jsonl.{len(old) + 1}"
            with contextlib.suppress(FileNotFoundError):
                a.p("log.jsonl").rename(a.p(name))
                a.p("log.jsonl").touch()
                old[a.source / name] = time.time_ns() // 1000

        until_done(both, rotate, 0.2)
    assert len(old) > 1
    return old


def test_rotation(pair, workdir):
    """No record that is begun after a rotation goes to the old file, on either side."""
    a, b = pair("follow=path")
    old = rotated(a, b, workdir / "acks")
    # An open may meet the moment of a rotation.
    hold(verdicts(a, b, workdir / "acks", errors=len(old)))
    assert late(workdir / "acks", old) == 0


@pytest.mark.parametrize("broken", [None, "stale-name"])
def test_who_does_not_look_at_the_name_is_seen(pair, broken):
    a, b = pair("follow=path", broken=broken)
    with open(b.p("log.jsonl"), "ab", buffering=0) as f:
        f.write(b"1\n")
        f.write(b"2\n")
        a.p("log.jsonl").rename(a.p("log.jsonl.1"))
        a.p("log.jsonl").touch()
        f.write(b"3\n")
    old = (a.source / "log.jsonl.1").read_bytes()
    assert old == (b"1\n2\n3\n" if broken else b"1\n2\n")


def changing(pair, kind, name, seconds, programs):
    """What so many programs on each side have done."""
    with contextlib.ExitStack() as stack:
        procs = [stack.enter_context(running(PYTHON, UPDATES, kind, m.p(name), n, seconds))
                 for m in pair for n in range(programs)]
        said = [p.communicate(timeout=100) for p in procs]
    assert not any(p.returncode for p in procs), said
    return sum(int(out) for out, _ in said)


def test_rewrites(pair, workdir):
    """On each side somebody writes the log anew, backwards."""
    a, b = pair("rewrite=archive")
    with loads(a, b, workdir / "acks"):
        wait_for(a.p("log.jsonl").exists, "the log")
        assert changing((a, b), "log", "log.jsonl", 3, 1) > 2
    hold(verdicts(a, b, workdir / "acks"))


# ---- blocks ----


BLOCKS = """
import sys, time
path, name, blocks, size, text, pad, pause = sys.argv[1:]
for turn in range(int(blocks)):
    with open(path, "a") as f:
        for n in range(int(size)):
            f.write(text % (name, turn, n, "x" * int(pad)) + "\\n")
            f.flush()
            time.sleep(float(pause))
"""
BLOCK, SMALL, LARGE = 8, 20, 4  # records; blocks of a writer


def block_writers(side, m, name, text, large, pause=0.002):
    """Four, one of them with a few blocks of so many bytes: what does not fit in memory is in
    the state directory meanwhile."""
    each = [(SMALL, 10, 0.002)] * 3 + [(LARGE, large // BLOCK, pause)]
    return [
        subprocess.Popen([PYTHON, "-c", BLOCKS, m.p(name), f"{side}{k}", str(blocks), str(BLOCK),
                          text, str(pad), str(pause)])
        for k, (blocks, pad, pause) in enumerate(each)
    ]


def are_whole(rows):
    """All blocks of four writers on each side, each in one piece and once."""
    assert len(rows) == 2 * (3 * SMALL + LARGE) * BLOCK
    seen = set()
    for at in range(0, len(rows), BLOCK):
        block = rows[at : at + BLOCK]
        assert len({row[:2] for row in block}) == 1, block
        assert [row[2] for row in block] == list(range(BLOCK)), block
        seen.add(block[0][:2])
    assert len(seen) * BLOCK == len(rows)


def test_transactions(pair, workdir):
    """One of the two comes and goes meanwhile: what the other has not finished is not its to
    recover."""
    a, b = pair("commit=close")
    text = '{"w":"%s","turn":%d,"n":%d,"pad":"%s"}'
    programs = block_writers("A", a, "log.jsonl", text, 4 << 20, 0.1)
    for _ in range(4):
        time.sleep(0.3)
        b.restart()
    programs += block_writers("B", b, "log.jsonl", text, 4 << 20, 0.1)
    assert [p.wait(100) for p in programs] == [0] * 8
    assert not a.quarantine() and not b.quarantine()
    for where in (a.mnt, b.mnt, a.source):
        data = re.sub(rb"x{9,}", b"", (where / "log.jsonl").read_bytes())
        rows = [json.loads(line) for line in data.splitlines()]
        are_whole([(r["w"], r["turn"], r["n"]) for r in rows])


def test_texts(pair, workdir):
    config = workdir / "rules.json"
    config.write_text('{"rules": [{"match": "*.md", "class": "text"}]}')
    a, b = pair(f"config={config}")
    wrong, stop = [], threading.Event()

    def read(m):
        while not stop.wait(0.01):
            with contextlib.suppress(FileNotFoundError):
                data = m.p("log.md").read_bytes()
                if data.count(b"\n") % 8 or b"\0" in data or data[-1:] not in (b"", b"\n"):
                    wrong.append(data[-80:])

    readers = [threading.Thread(target=read, args=(m,)) for m in (a, b)]
    for t in readers:
        t.start()
    try:
        programs = [p for side, m in (("A", a), ("B", b)) for p in
                    block_writers(side, m, "log.md", "%s %d %d words %s", 9000)]
        assert [p.wait(60) for p in programs] == [0] * 8
    finally:
        stop.set()
        for t in readers:
            t.join()
    for where in (a.mnt, b.mnt, a.source):
        rows = [r.split()[:3] for r in (where / "log.md").read_text().splitlines()]
        are_whole([(w, int(turn), int(n)) for w, turn, n in rows])
    assert wrong == []


# ---- what is refused ----


BAD = """
import errno, os, sys, time
path, name = sys.argv[1:]
told = 0
for n in range(60):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(fd, b'{"w":"%s","bad":%d\\n' % (name.encode(), n))
    except OSError as e:
        assert e.errno == errno.EBADMSG, e
        told += 1
    try:
        os.close(fd)
    except OSError as e:
        assert e.errno == errno.EBADMSG, e
    time.sleep(0.002)
print(told)
"""


def test_what_is_refused_is_kept_once(pair, workdir):
    """By two daemons that write their index at the same time."""
    a, b = pair()
    programs = {
        f"{side}{k}": subprocess.Popen([PYTHON, "-c", BAD, m.p("log.jsonl"), f"{side}{k}"],
                                       stdout=subprocess.PIPE)
        for side, m in (("A", a), ("B", b)) for k in range(4)
    }
    for p in programs.values():
        assert p.communicate(timeout=60)[0] == b"60\n" and p.returncode == 0
    want = sorted(b'{"w":"%s","bad":%d' % (w.encode(), n) for w in programs for n in range(60))
    state = a.source / ".jsonlfs"
    kept = b"".join(p.read_bytes() for p in state.rglob("quarantine/*") if p.is_file())
    assert sorted(kept.splitlines()) == want
    indexes = [p for p in state.rglob("quarantine*.jsonl") if p.is_file()]
    entries = [json.loads(line) for p in indexes for line in p.read_bytes().splitlines()]
    assert sum(e["bytes"] for e in entries if e["event"] != "joined") == len(kept)
    assert {e["file"] for e in entries} == {
        p.name for p in state.rglob("quarantine/*") if p.is_file()}
    # And each side lists all of it.
    for m in (a, b):
        listed = parse(ctl("quarantine", "list", "--json", m.mnt).stdout)["quarantine"]
        assert sum(e["bytes"] for e in listed) == len(kept)


# ---- state files ----


@pytest.mark.parametrize("how", ["rewrite", "write", "rename"])
def test_no_update_is_lost(pair, workdir, how):
    """Four programs on each side count up without a lock, and read anew when they were late."""
    config = workdir / "rules.json"
    rule = {"match": "*.state.json", "class": "replace", "lostupdate": "refuse"}
    config.write_text(json.dumps({"rules": [rule]}))
    a, b = pair(f"config={config}")
    a.p("n.state.json").write_text('{"n":0}')
    done = changing((a, b), how, "n.state.json", 3, 4)
    assert done > 20
    for where in (a.mnt, b.mnt, a.source):
        assert json.loads((where / "n.state.json").read_text()) == {"n": done}
