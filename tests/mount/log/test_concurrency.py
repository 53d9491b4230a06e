# SPDX-License-Identifier: MIT
"""Many writers and readers at once: the exact count, nothing torn, each writer's order
kept; on one file, on many, and with half of the writers going round the mount under flock."""

import collections
import concurrent.futures
import os
import random
import subprocess
import threading
import time

import pytest
from util import (
    ENV, HERE, PYTHON, append, check_lines, have, opened, parse, requests_of, traced, wait_for)

# One writer a program; each gets FILE ID COUNT and appends records {"id":...,"n":0...}.
PYTHON_WRITER = r"""
import json, os, sys
path, id, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open(path, "a") as f:
    for n in range(count):
        pad = "\u20ac" * (n * 37 % 1500)
        f.write(json.dumps({"id": id, "n": n, "pad": pad}, ensure_ascii=False) + "\n")
        if n % 5 == 0:
            f.flush()
"""
PYTHON_OPEN_EACH = r"""
import json, sys
path, id, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
for n in range(count):
    with open(path, "a") as f:
        json.dump({"id": id, "n": n}, f)
        f.write("\n")
"""
PERL_WRITER = r"""
use strict;
my ($path, $id, $count) = @ARGV;
open(my $f, ">>", $path) or die "open: $!";
for my $n (0 .. $count - 1) {
    print $f "{\"id\":\"$id\",\"n\":$n,\"pad\":\"" . ("p" x ($n * 101 % 9000)) . "\"}\n"
        or die "print: $!";
}
close($f) or die "close: $!";
"""
BASH_WRITER = r"""
for ((n = 0; n < $3; n++)); do
    printf '{"id":"%s","n":%d}\n' "$2" "$n" >> "$1" || exit 1
done
"""
BASH_SPLIT = r"""
exec 3>> "$1"
for ((n = 0; n < $3; n++)); do
    printf '{"id":"%s",' "$2" >&3 || exit 1
    printf '"n":%d}' "$n" >&3 || exit 1
    printf '\n' >&3 || exit 1
done
exec 3>&-
"""
AWK_WRITER = r"""
BEGIN { for (n = 0; n < count; n++) printf "{\"id\":\"%s\",\"n\":%d}\n", id, n >> path }
"""
NODE_WRITER = r"""
const fs = require("fs");
const [path, id, count] = process.argv.slice(1);
for (let n = 0; n < +count; n++)
    fs.appendFileSync(path, JSON.stringify({ id, n, pad: "n".repeat((n * 53) % 3000) }) + "\n");
"""
FLOCK_OUTSIDE = r"""
import fcntl, os, sys
path, id, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
for n in range(count):
    fcntl.flock(fd, fcntl.LOCK_EX)
    # In two writes: the lock is what keeps them together.
    os.write(fd, b'{"id":"%s",' % id.encode())
    os.write(fd, b'"n":%d}\n' % n)
    fcntl.flock(fd, fcntl.LOCK_UN)
"""


def commands(kind, path, name, count, writer, stdio_log):
    path, count = str(path), str(count)
    table = {
        "python": [PYTHON, "-c", PYTHON_WRITER, path, name, count],
        "python-each": [PYTHON, "-c", PYTHON_OPEN_EACH, path, name, count],
        "perl": ["perl", "-e", PERL_WRITER, path, name, count],
        "bash": ["bash", "-c", BASH_WRITER, "bash", path, name, count],
        "bash-split": ["bash", "-c", BASH_SPLIT, "bash", path, name, count],
        "awk": ["awk", "-v", f"path={path}", "-v", f"id={name}", "-v", f"count={count}",
                AWK_WRITER],
        "node": ["node", "-e", NODE_WRITER, path, name, count],
        "c": [writer, path, name, count, "64,100,1000,4095,4096,4097,9000", "1"],
        "c-split": [writer, path, name, count, "64,300,5000,70000", "5"],
        "stdio": [stdio_log, path, count, f"id={name}", "pad=700"],
        "outside": [PYTHON, "-c", FLOCK_OUTSIDE, path, name, count],
    }
    return table[kind]


KINDS = ["python", "python-each", "perl", "bash", "bash-split", "awk", "c", "c-split",
         "stdio"]


def launch(jobs):
    """Starts all, waits for all, and every one must have succeeded."""
    running = [
        (name, subprocess.Popen(argv, env=ENV, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
        for name, argv in jobs
    ]
    failures = []
    for name, p in running:
        _, err = p.communicate(timeout=100)
        if p.returncode:
            failures.append(f"{name}: {p.returncode}: {err.decode()[-300:]}")
    assert not failures, failures


def expect(lines, counts):
    """Each writer's records are all there, once, in its order."""
    seen = collections.defaultdict(list)
    for record in lines:
        seen[record["id"]].append(record["n"])
    assert set(seen) == set(counts)
    for name, count in counts.items():
        assert seen[name] == sorted(seen[name]), f"{name}: order"
        assert len(seen[name]) == len(set(seen[name])) == count, f"{name}: count"


def kinds():
    return KINDS + (["node"] if have("node") else [])


@pytest.mark.limit(120)
def test_64_processes_of_mixed_languages_on_one_file(m, writer, stdio_log):
    jobs, counts = [], {}
    for i in range(64):
        kind = kinds()[i % len(kinds())]
        name, count = f"{kind}-{i}", 25
        jobs.append((name, commands(kind, m.p("x.jsonl"), name, count, writer, stdio_log)))
        counts[name] = count
    launch(jobs)
    expect(m.records("x.jsonl"), counts)
    assert m.counter("refused") == 0
    assert m.quarantine() == []
    assert m.counter("records") == 64 * 25


@pytest.mark.limit(120)
def test_64_processes_on_many_files(m, writer, stdio_log):
    jobs, files = [], collections.defaultdict(dict)
    for i in range(64):
        kind = kinds()[i % len(kinds())]
        name, where = f"{kind}-{i}", f"{i % 7}.jsonl"
        jobs.append((name, commands(kind, m.p(where), name, 20, writer, stdio_log)))
        files[where][name] = 20
    launch(jobs)
    for where, counts in files.items():
        expect(m.records(where), counts)


@pytest.mark.limit(120)
def test_half_of_the_writers_go_round_the_mount_under_flock(m, writer, stdio_log):
    jobs, counts = [], {}
    for i in range(32):
        kind = "outside" if i % 2 else kinds()[i // 2 % len(kinds())]
        name = f"{kind}-{i}"
        path = m.b("x.jsonl") if kind == "outside" else m.p("x.jsonl")
        jobs.append((name, commands(kind, path, name, 25, writer, stdio_log)))
        counts[name] = 25
    launch(jobs)
    expect(m.records("x.jsonl"), counts)
    assert m.quarantine() == []


@pytest.mark.limit(120)
@pytest.mark.parametrize("pieces", [1, 3, 7])
def test_records_from_64_bytes_to_3_mebibytes(m, writer, pieces):
    sizes = "64,70,4095,4096,4097,65536,131072,1048575,1048577,3145728"
    jobs = [
        (f"w{i}", [writer, str(m.p("x.jsonl")), f"w{i}", "10", sizes, str(pieces)])
        for i in range(6)
    ]
    launch(jobs)
    data = m.both("x.jsonl")
    check_lines(data, "x.jsonl")
    lines = data.split(b"\n")[:-1]
    expect(map(parse, lines), {f"w{i}": 10 for i in range(6)})
    want = sorted(int(s) for s in sizes.split(",")) * 6
    assert sorted(len(x) + 1 for x in lines) == sorted(want)


def test_records_of_two_bytes(m):
    """The smallest there are, from many at once, each byte a write."""
    script = (
        "import os, sys\n"
        "fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "for n in range(200):\n"
        "    os.write(fd, sys.argv[2].encode())\n"
        "    os.write(fd, b'\\n')\n"
    )
    jobs = [(str(i), [PYTHON, "-c", script, str(m.p("x.jsonl")), str(i)])
            for i in range(10)]
    launch(jobs)
    counts = collections.Counter(m.both("x.jsonl").split(b"\n")[:-1])
    assert counts == {str(i).encode(): 200 for i in range(10)}


def test_one_descriptor_inherited_by_many_with_split_records(m, writer):
    """All share one open handle; each has its own file table, so its own fragment."""
    script = (
        "import os, sys, time, random\n"
        "rng = random.Random(sys.argv[1])\n"
        "for n in range(30):\n"
        "    data = b'{\"id\":\"%s\",\"n\":%d}\\n' % (sys.argv[1].encode(), n)\n"
        "    cut = sorted(rng.randrange(len(data)) for _ in range(3))\n"
        "    for a, b in zip([0] + cut, cut + [len(data)]):\n"
        "        if b > a:\n"
        "            os.write(1, data[a:b])\n"
    )
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
        children = [
            subprocess.Popen([PYTHON, "-c", script, f"p{i}"], stdout=fd, env=ENV)
            for i in range(16)
        ]
        assert [p.wait(60) for p in children] == [0] * 16
    expect(m.records("x.jsonl"), {f"p{i}": 30 for i in range(16)})
    assert m.quarantine() == []


READER = r"""
import json, os, sys
sys.path.insert(0, sys.argv[3])
from util import check_lines
path, stop = sys.argv[1], sys.argv[2]
rounds, last, at, tail = 0, 0, 0, b""
follow = os.open(path, os.O_RDONLY)
print("ready", flush=True)
while True:
    done = os.path.exists(stop)
    size = os.stat(path).st_size
    assert size >= last, f"st_size shrank from {last} to {size}"
    with open(path, "rb") as f:
        f.seek(max(0, size - 200000))
        data = f.read()
    if size > 200000:
        data = data[data.index(b"\n") + 1:]
    else:
        assert len(data) >= size, f"{len(data)} bytes read, size was {size}"
    check_lines(data, "a fresh reader")
    while True:  # a follower, as tail -f
        piece = os.read(follow, 65536)
        if not piece:
            break
        at += len(piece)
        tail = (tail + piece).rpartition(b"\n")[2]
    assert tail == b"", f"the follower ends in {tail[-80:]!r}"
    last = size
    rounds += 1
    if done:
        break
assert at == os.stat(path).st_size, f"the follower has {at} bytes"
print(rounds)
"""


@pytest.mark.limit(120)
def test_readers_never_see_half_a_record(m, writer, stdio_log):
    append(m.p("x.jsonl"), b'{"id":"first","n":0}\n')
    stop = m.b("stop")
    readers = [
        subprocess.Popen([PYTHON, "-c", READER, str(m.p("x.jsonl")), str(stop), str(HERE)],
                         env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for p in readers:
        assert p.stdout.readline() == b"ready\n", p.stderr.read()
    jobs, counts = [], {"first": 1}
    for kind in ["python", "python-each", "perl", "c", "c-split", "stdio", "bash-split"]:
        count = 1000 if kind in ("c-split", "stdio", "bash-split") else 400
        jobs.append((kind, commands(kind, m.p("x.jsonl"), kind, count, writer, stdio_log)))
        counts[kind] = count
    try:
        launch(jobs)
    finally:
        stop.touch()
    for p in readers:
        out, err = p.communicate(timeout=30)
        assert p.returncode == 0, err.decode()
        assert int(out) >= 3
    expect(m.records("x.jsonl"), counts)


@pytest.mark.parametrize("name", ["x.jsonl", "x.md"])
def test_answers_that_cross_do_not_take_a_length_back(mount, workdir, name):
    """Every answer of the daemon takes two seconds, an append, too, and the answer to that one
    longer still: who has seen its bytes must go on to see them."""
    rules = workdir / "rules.json"
    rules.write_text('{"sync": "write", "rules": [{"match": "*.md", "class": "text"}]}')
    m = mount(f"config={rules}", "attr_timeout=600")
    append(m.p(name), b'{"n":0}\n')  # from here on the kernel knows no length
    w = os.open(m.p(name), os.O_WRONLY | os.O_APPEND)
    readers = [os.open(m.p(name), os.O_RDONLY) for _ in range(2)]
    if name == "x.md":
        os.write(w, b'{"n":1}\n')  # a text grows when it is closed
    seen = []

    def grow():
        if name == "x.jsonl":
            os.write(w, b'{"n":1}\n')
        os.close(w)

    def stat(r, times):
        seen.append([os.fstat(r).st_size for _ in range(times)])

    with traced(m, "-o", "/dev/null", "-e", "trace=writev,pwritev2,fdatasync",
                "-e", "inject=writev,pwritev2:delay_enter=2000000",
                "-e", "inject=fdatasync:delay_enter=6000000"):
        threads = [threading.Thread(target=grow), threading.Thread(target=stat, args=(readers[0], 1)),
                   threading.Thread(target=stat, args=(readers[1], 2))]
        threads[0].start()
        time.sleep(1)
        threads[1].start()
        wait_for(lambda: m.b(name).stat().st_size == 16)
        threads[2].start()
        threads[2].join()
        assert threads[0].is_alive(), "the append was answered too early for this test"
        threads[0].join()
    for fd in readers:
        os.close(fd)
    assert seen == [[8], [16, 16]]


def test_appending_by_name_asks_for_no_attributes(workdir):
    """What the lengths of followed logs need costs nothing where nobody follows."""
    seen, _ = requests_of(workdir, "for n in {1..50}; do echo $n >>x.jsonl; done")
    count = collections.Counter(seen)
    assert count["WRITE"] == 50 == count["OPEN"] + count["CREATE"], count
    assert count["GETATTR"] + count["LOOKUP"] < 10, count


@pytest.mark.limit(90)
def test_writers_that_are_killed_at_random(m):
    """What was acknowledged by a close is there; what was cut is in the quarantine."""
    script = (
        "import os, sys\n"
        "log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "n = 0\n"
        "while True:\n"
        "    fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "    data = b'{\"id\":\"%s\",\"n\":%d,\"pad\":\"%s\"}\\n'\n"
        "    data = data % (sys.argv[3].encode(), n, b'x' * (n * 97 % 6000))\n"
        "    os.write(fd, data[:20])\n"
        "    os.write(fd, data[20:])\n"
        "    os.close(fd)\n"
        "    os.write(log, b'%d\\n' % n)\n"
        "    n += 1\n"
    )
    rng = random.Random(3)
    m.check_after = True
    acknowledged = {}
    for batch in range(5):
        children = []
        for i in range(6):
            name = f"{batch}-{i}"
            log = m.b(f"log-{name}")
            p = subprocess.Popen(
                [PYTHON, "-c", script, str(m.p("x.jsonl")), str(log), name],
                env=ENV, stderr=subprocess.DEVNULL)
            children.append((p, name, log))
        time.sleep(0.3)
        for p, name, log in children:
            time.sleep(rng.random() * 0.05)
            p.kill()
            p.wait(20)
            text = log.read_text().split() if log.exists() else []
            acknowledged[name] = [int(n) for n in text]
    seen = collections.defaultdict(list)
    for record in m.records("x.jsonl"):
        seen[record["id"]].append(record["n"])
    total = 0
    for name, numbers in acknowledged.items():
        total += len(numbers)
        got = seen[name]
        assert got == list(range(len(got))), name
        assert len(numbers) <= len(got) <= len(numbers) + 1, name
    assert total > 30


@pytest.mark.limit(90)
def test_rotation_beside_writers_that_open_each_time(m):
    """mv and a new file, as logrotate does it, while programs append by name."""
    jobs = {}
    for i in range(6):
        name = f"w{i}"
        jobs[name] = subprocess.Popen(
            [PYTHON, "-c", PYTHON_OPEN_EACH, str(m.p("x.jsonl")), name, "400"], env=ENV)
    rotations = 0
    while any(p.poll() is None for p in jobs.values()):
        try:
            os.rename(m.p("x.jsonl"), m.p(f"x.jsonl.{rotations + 1}"))
            rotations += 1
        except FileNotFoundError:
            pass
        time.sleep(0.1)
    assert all(p.wait() == 0 for p in jobs.values())
    assert rotations >= 3
    lines = []
    names = [f"x.jsonl.{i + 1}" for i in range(rotations)] + ["x.jsonl"]
    for name in names:
        if m.b(name).exists():
            lines += m.records(name)
    counted = collections.Counter((r["id"], r["n"]) for r in lines)
    assert len(counted) == 6 * 400 and set(counted.values()) == {1}
    for i in range(6):
        mine = [r["n"] for r in lines if r["id"] == f"w{i}"]
        assert mine == list(range(400))


def test_two_programs_open_a_log_for_the_first_time_at_once(m):
    """Whose open asks whether anybody else writes to the file (by a lease) is told so by
    SIGIO when somebody does in the same moment, and SIGIO ends who does not expect it."""
    names = [f"{n}.jsonl" for n in range(400)]
    for name in names:
        m.b(name).write_bytes(b"")
    together = threading.Barrier(2)

    def appends(n):
        for name in names:
            together.wait(20)
            append(m.p(name), b"%d\n" % n)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(appends, n) for n in (1, 2)]:
            done.result()
    for name in names:
        assert sorted(m.records(name)) == [1, 2]


def test_a_rotated_log_shows_at_once_what_is_still_written_to_it(m):
    """By its new name it is another file to the kernel, which knows of no growth of it."""
    line = b'{"n":1}\n'
    writer = os.open(m.p("a.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(writer, line)
    os.rename(m.p("a.jsonl"), m.p("a.jsonl.1"))
    with open(m.p("a.jsonl.1"), "rb", 0) as reader:
        for n in range(1, 20):
            assert os.stat(m.p("a.jsonl.1")).st_size == n * len(line)  # good for a second
            os.write(writer, line)
            assert os.stat(m.p("a.jsonl.1")).st_size == (n + 1) * len(line)
            reader.seek(0)
            assert reader.read() == (n + 1) * line
    os.close(writer)
