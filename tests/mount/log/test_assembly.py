# SPDX-License-Identifier: MIT
"""Writes are assembled until their newline, per open handle and lock owner. Owners are
processes (file tables), so the tests are processes that share a descriptor, step by step."""

import os
import random

import pytest
from util import (
    BAD,
    PYTHON,
    append,
    check_lines,
    opened,
    outcome,
    parse,
    refused,
    sh,
    wait_for,
)

APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT


class Owner:
    """A forked child that shares our descriptors and does one thing at a time: write(fd),
    close(fd). Its file table is its own, as that of every process is."""

    def __init__(self):
        self.to, self.answer = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.to[1])
                os.close(self.answer[0])
                self._serve()
            finally:
                os._exit(0)
        os.close(self.to[0])
        os.close(self.answer[1])

    def _serve(self):
        with os.fdopen(self.to[0], "rb") as f:
            for line in f:
                word, fd, data = eval(line)  # noqa: S307: our own text
                if word == "write":
                    code = outcome(lambda fd=fd, data=data: os.write(fd, data))
                else:
                    code = outcome(lambda fd=fd: os.close(fd))
                os.write(self.answer[1], b"%d\n" % code)

    def _ask(self, word, fd, data=b""):
        os.write(self.to[1], repr((word, fd, data)).encode() + b"\n")
        return int(os.read(self.answer[0], 100))

    def write(self, fd, data):
        return self._ask("write", fd, data)

    def close(self, fd):
        return self._ask("close", fd)

    def end(self):
        os.close(self.to[1])
        os.waitpid(self.pid, 0)
        os.close(self.answer[0])


@pytest.fixture
def owners():
    made = []

    def make():
        made.append(Owner())
        return made[-1]

    yield make
    for o in reversed(made):  # the later ones have inherited the pipes of the earlier
        o.end()


# ---- one owner ----


def test_any_cut_of_any_record_gives_the_same_file(m):
    rng = random.Random(7)
    text = '{"n":%d,"t":"€ \\u20ac \\\\ \\" \U0001f600"}\n'
    data = "".join(text % n for n in range(40)).encode() + b'17\n"s"\n\n{}\r\n'
    for case in range(12):
        name = f"{case}.jsonl"
        cuts = sorted(rng.randrange(len(data)) for _ in range([0, 1, 40, 300][case % 4]))
        with opened(m.p(name), APPEND) as fd:
            for a, b in zip([0, *cuts], [*cuts, len(data)]):
                os.write(fd, data[a:b])
        assert m.both(name) == data.replace(b"\n\n", b"\n")


def test_byte_by_byte(m):
    data = '{"t":"€"}\n[1]\n'.encode()
    with opened(m.p("x.jsonl"), APPEND) as fd:
        for i in range(len(data)):
            assert os.write(fd, data[i : i + 1]) == 1
    assert m.both("x.jsonl") == data


def test_numbers_wait_for_their_newline(m):
    with opened(m.p("x.jsonl"), APPEND) as fd:
        for piece in (b"1", b"2", b".", b"5", b"e", b"3", b"\n", b"-", b"7\n"):
            os.write(fd, piece)
    assert m.both("x.jsonl") == b"12.5e3\n-7\n"


def test_two_handles_of_one_process_do_not_mix(m):
    with opened(m.p("x.jsonl"), APPEND) as a, opened(m.p("x.jsonl"), APPEND) as b:
        os.write(a, b'{"a":')
        os.write(b, b'{"b":')
        os.write(a, b"1}\n")
        assert m.both("x.jsonl") == b'{"a":1}\n'
        os.write(b, b"2}\n")
    assert m.both("x.jsonl") == b'{"a":1}\n{"b":2}\n'


def test_threads_and_duplicates_share_an_owner(m):
    with opened(m.p("x.jsonl"), APPEND) as fd:
        dup = os.dup(fd)
        os.write(fd, b'{"a":')
        os.write(dup, b"1}\n")
        os.close(dup)
    assert m.both("x.jsonl") == b'{"a":1}\n'


# ---- several owners of one handle ----


def test_halves_of_two_owners_do_not_fuse(m, owners):
    fd = os.open(m.p("x.jsonl"), APPEND)
    a, b = owners(), owners()
    assert a.write(fd, b'{"a":') == 0
    assert b.write(fd, b'{"b":') == 0
    assert a.write(fd, b"1}\n") == 0
    assert b.write(fd, b"2}\n") == 0
    os.close(fd)
    assert m.both("x.jsonl") == b'{"a":1}\n{"b":2}\n'


def test_the_orphan_is_continued_by_the_next_owner(m, owners):
    fd = os.open(m.p("x.jsonl"), APPEND)
    a, b = owners(), owners()
    assert a.write(fd, b'{"a":') == 0
    assert a.close(fd) == BAD  # incomplete, and said so
    assert b.write(fd, b"1}\n") == 0
    assert m.both("x.jsonl") == b'{"a":1}\n'
    assert b.close(fd) == 0
    os.close(fd)
    assert m.quarantine() == []


def test_an_owner_with_its_own_fragment_does_not_take_the_orphan(m, owners):
    fd = os.open(m.p("x.jsonl"), APPEND)
    a, b, c = owners(), owners(), owners()
    a.write(fd, b'{"a":')
    b.write(fd, b'{"b":')
    assert a.close(fd) == BAD
    b.write(fd, b"2}\n")  # its own
    assert m.both("x.jsonl") == b'{"b":2}\n'
    c.write(fd, b"1}\n")  # the orphan
    assert m.both("x.jsonl") == b'{"b":2}\n{"a":1}\n'
    os.close(fd)


def test_a_whole_record_after_the_half_of_a_dead_process(m, owners):
    """Nobody means to finish that half: the record is kept, the half goes aside."""
    fd = os.open(m.p("x.jsonl"), APPEND)
    a, b = owners(), owners()
    a.write(fd, b'{"dead":"in mid-')
    a.close(fd)
    assert b.write(fd, b'{"alive":1}\n{"alive":2}\n') == 0
    os.close(fd)
    b.close(fd)
    assert m.both("x.jsonl") == b'{"alive":1}\n{"alive":2}\n'
    assert m.wait_quarantine(1)[0][1] == b'{"dead":"in mid-'


def test_an_orphan_that_nobody_continues_goes_to_the_quarantine(m, owners):
    fd = os.open(m.p("x.jsonl"), APPEND)
    a = owners()
    a.write(fd, b'{"a":')
    assert a.close(fd) == BAD
    outcome(lambda: os.close(fd))
    assert m.wait_quarantine(1)[0][1] == b'{"a":'
    assert m.both("x.jsonl") == b""


def test_a_whole_value_is_committed_at_its_owners_close(m, owners):
    fd = os.open(m.p("x.jsonl"), APPEND)
    a, b = owners(), owners()
    a.write(fd, b'{"a":1}')
    b.write(fd, b'{"b":')
    assert a.close(fd) == 0
    assert m.both("x.jsonl") == b'{"a":1}\n'
    b.write(fd, b"2}\n")
    os.close(fd)
    assert m.both("x.jsonl") == b'{"a":1}\n{"b":2}\n'


def test_the_newline_after_a_committed_value_may_come_from_another_process(m):
    sh(
        """exec 3>>x.jsonl
        /usr/bin/printf '{"a":1}' >&3
        /usr/bin/printf '\\n' >&3
        /usr/bin/printf '{"b":2}' >&3
        /usr/bin/printf '\\r\\n{"c":3}\\n' >&3
        exec 3>&-""",
        m.mnt,
    )
    assert m.both("x.jsonl") == b'{"a":1}\n{"b":2}\n{"c":3}\n'


def test_halves_in_processes_of_their_own(m):
    p = sh(
        """exec 3>>x.jsonl
        /usr/bin/printf '{' >&3
        /usr/bin/printf '}\\n' >&3
        /usr/bin/printf '{"a"' >&3; /usr/bin/printf ':' >&3; /usr/bin/printf '[1,' >&3
        /usr/bin/printf '2]}\\n{"b":1}\\n' >&3
        exec 3>&-""",
        m.mnt,
        check=None,
    )
    # printf of coreutils checks its close and says that half a record is no record.
    assert b"Bad message" in p.stderr
    assert m.both("x.jsonl") == b'{}\n{"a":[1,2]}\n{"b":1}\n'


def test_a_number_in_two_processes(m):
    sh(
        "exec 3>>x.jsonl; /usr/bin/printf 12 >&3; /usr/bin/printf '34\\n' >&3; exec 3>&-",
        m.mnt,
        check=None,
    )
    assert m.both("x.jsonl") == b"1234\n"


HALVES = """
import os, sys, time
for n in range(40):
    os.write(1, b'{"id":"%s","n":' % sys.argv[1].encode())
    time.sleep(0.001)
    os.write(1, b"%d}\\n" % n)
"""


@pytest.mark.parametrize("processes", [2, 8])
def test_background_jobs_that_share_one_descriptor(m, processes):
    m.p("halves.py").write_text(HALVES)
    jobs = " & ".join(f"{PYTHON} halves.py {i}" for i in range(processes))
    sh(f"( {jobs} & wait ) >> x.jsonl", m.mnt)
    got = m.records("x.jsonl")
    assert len(got) == 40 * processes
    for i in range(processes):
        assert [r["n"] for r in got if r["id"] == str(i)] == list(range(40))
    assert m.quarantine() == []


def test_a_parent_finishes_what_its_children_begin(m):
    """It has written itself, but has nothing pending: an owner without a fragment."""
    with opened(m.p("x.jsonl"), APPEND) as fd:
        for n in range(60):
            pid = os.fork()
            if pid == 0:
                os.write(fd, b'{"n":')
                os._exit(0)  # its FLUSH makes this the orphan
            os.waitpid(pid, 0)
            os.write(fd, b"%d}\n" % n)
    assert [r["n"] for r in m.records("x.jsonl")] == list(range(60))


def test_owner_ids_are_reused_and_nothing_of_the_old_owner_sticks(m):
    """They are addresses of the kernel: a later process may get the one of an earlier."""
    with opened(m.p("x.jsonl"), APPEND) as fd:
        for n in range(80):
            pid = os.fork()
            if pid == 0:
                data = b'{"n":%d}\n' % n
                if n % 4 == 1:
                    data += b'{"killed":'
                os.write(fd, data)
                os.kill(os.getpid(), 9)
            os.waitpid(pid, 0)
    assert [r["n"] for r in m.records("x.jsonl")] == list(range(80))
    wait_for(lambda: m.set_aside().count(b'{"killed":') >= 1, "the halves")
    assert m.counter("fragments") == 20


def test_a_writer_killed_in_mid_record(m):
    pid = os.fork()
    if pid == 0:
        fd = os.open(m.p("x.jsonl"), APPEND)
        os.write(fd, b'{"n":1}\n{"n":2,"half')
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    assert m.wait_quarantine(1)[0][1] == b'{"n":2,"half'
    assert m.both("x.jsonl") == b'{"n":1}\n'
    entry = m.quarantine()[0][0]
    assert entry["path"] == "x.jsonl" and entry["event"] == "fragment"
    m.expect_log("fragment", "x.jsonl")
    append(m.p("x.jsonl"), b'{"n":3}\n')
    assert m.both("x.jsonl") == b'{"n":1}\n{"n":3}\n'


def test_one_refusal_per_owner_fragment(m, owners):
    """What one owner broke does not hurt the other's half."""
    fd = os.open(m.p("x.jsonl"), APPEND)
    a, b = owners(), owners()
    a.write(fd, b'{"a":')
    assert b.write(fd, b"oops\n") == BAD
    assert a.write(fd, b"1}\n") == 0
    os.close(fd)
    assert m.both("x.jsonl") == b'{"a":1}\n'
    assert m.wait_quarantine(1)[0][1] == b"oops\n"


# ---- sizes that the kernel splits ----


@pytest.mark.limit(90)
def test_one_write_of_three_megabytes_is_one_record(m):
    """It arrives as requests of at most 1 MiB; others write in between all the time."""
    stop = m.p("stop")
    pids = []
    for i in range(4):
        pid = os.fork()
        if pid == 0:
            fd = os.open(m.p("x.jsonl"), APPEND)
            n = 0
            while n < 20 or not stop.exists():
                os.write(fd, b'{"small":%d,"n":%d}\n' % (i, n))
                n += 1
            os.close(fd)
            os._exit(0)
        pids.append(pid)
    size = 3 << 20
    fd = os.open(m.p("x.jsonl"), APPEND)
    for n in range(5):
        record = b'{"big":%d,"p":"' % n
        record += b"x" * (size - len(record) - 3) + b'"}\n'
        done = 0
        while done < len(record):
            done += os.write(fd, record[done:])
    os.close(fd)
    stop.touch()
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    data = m.both("x.jsonl")
    check_lines(data, "x.jsonl")
    big = [line for line in data.split(b"\n") if line.startswith(b'{"big"')]
    assert [len(line) + 1 for line in big] == [size] * 5
    assert [parse(line)["big"] for line in big] == list(range(5))
    small = [parse(x) for x in data.split(b"\n") if x.startswith(b'{"small"')]
    for i in range(4):
        mine = [r["n"] for r in small if r["small"] == i]
        assert mine == list(range(len(mine))) and len(mine) >= 20


def test_vectors_of_writev_are_one_request(m):
    with opened(m.p("x.jsonl"), APPEND) as fd:
        os.writev(fd, [b"{", b'"a"', b":", b"1", b"}", b"\n", b"[", b"]", b"\n"])
    assert m.both("x.jsonl") == b'{"a":1}\n[]\n'


def test_a_fused_pair_at_close(m):
    """json.dump twice on one handle, no newline between: not one record and not two."""
    fd = os.open(m.p("x.jsonl"), APPEND)
    os.write(fd, b'{"a":1}')
    os.write(fd, b'{"b":2}')
    with refused(BAD):
        os.close(fd)
    wait_for(lambda: m.set_aside() == b'{"a":1}{"b":2}', "the bytes")
    assert m.both("x.jsonl") == b""
