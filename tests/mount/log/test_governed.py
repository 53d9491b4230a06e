# SPDX-License-Identifier: MIT
"""What a write means: which files are under the rules, what a record is, what becomes of a
bad one, sizes, blank lines, where a write may land, and what close and sync promise."""

import contextlib
import errno
import fcntl
import mmap
import os
import signal
import stat
import subprocess
import time

import pytest
from util import (
    BAD,
    BIG,
    DAEMON,
    NO,
    NOBODY,
    PYTHON,
    append,
    as_user,
    check_lines,
    in_thread,
    opened,
    outcome,
    pwritev2,
    records,
    refused,
    run,
    sh,
    wait_for,
)

GOOD = b'{"event":"start","n":1}\n'


# ---- which files ----


def test_only_the_matching_names_are_governed(m):
    for name in ("a.txt", "a.json", "a.jsonl.gz", "jsonl", "a.jsonlx", "a.jsonl.1.gz"):
        append(m.p(name), b"oops\n")
        assert m.both(name) == b"oops\n"
    for name in ("a.jsonl", ".jsonl", "with space.jsonl", "ä.jsonl"):
        with refused(BAD):
            append(m.p(name), b"oops\n")
        assert m.both(name) == b""


def test_match_exclude_and_patterns_with_a_slash(mount):
    m = mount("match=*.log:audit/*.txt", "exclude=tmp.log:old/*")
    os.makedirs(m.p("audit/deep"))
    os.makedirs(m.p("old"))
    for name in ("x.log", "audit/y.txt", "audit/x.log"):
        with refused(BAD):
            append(m.p(name), b"oops\n")
    for name in ("x.jsonl", "tmp.log", "old/x.log", "y.txt"):
        append(m.p(name), b"oops\n")
    m.check_after = False  # x.jsonl is no governed name here


def test_below_git_nothing_is_governed(m):
    os.makedirs(m.p(".git/logs"))
    os.makedirs(m.p("sub/.git"))
    append(m.p(".git/logs/x.jsonl"), b"oops\n")
    append(m.p("sub/.git/x.jsonl"), b"oops\n")
    os.makedirs(m.p("x.git"))
    with refused(BAD):
        append(m.p("x.git/x.jsonl"), b"oops\n")


@pytest.mark.parametrize(
    "suffix",
    [".1", ".27", "-20261120", ".2026-11-20", ".old", ".orig", ".save", ".bak", "~",
     ".bak-20261120T101500Z", ".1.bak"],
)
def test_a_generation_is_plain_and_a_live_file_may_become_one(m, suffix):
    append(m.p("x.jsonl"), GOOD)
    os.rename(m.p("x.jsonl"), m.p("x.jsonl" + suffix))
    assert m.both("x.jsonl" + suffix) == GOOD
    append(m.p("x.jsonl" + suffix), b"free text\n")
    assert m.both("x.jsonl" + suffix) == GOOD + b"free text\n"


@pytest.mark.parametrize("suffix", [".gz", ".txt", "x", ".1.gz", "-", ".", ".tmp"])
def test_other_names_are_no_generations(m, suffix):
    append(m.p("x.jsonl"), GOOD)
    with refused(NO):
        os.rename(m.p("x.jsonl"), m.p("x.jsonl" + suffix))
    assert m.both("x.jsonl") == GOOD
    assert not m.b("x.jsonl" + suffix).exists()


def test_more_generations_by_option(mount):
    m = mount("generations=*.sealed")
    append(m.p("x.jsonl"), GOOD)
    os.rename(m.p("x.jsonl"), m.p("x.jsonl.sealed"))
    assert m.both("x.jsonl.sealed") == GOOD


def test_other_kinds_of_files_are_never_governed(m):
    os.mkdir(m.p("dir.jsonl"))
    os.mkfifo(m.p("fifo.jsonl"))
    append(m.p("real.jsonl"), GOOD)
    os.symlink("real.jsonl", m.p("link.jsonl"))
    os.symlink("real.jsonl", m.p("link.txt"))
    assert stat.S_ISFIFO(os.lstat(m.p("fifo.jsonl")).st_mode)
    os.rename(m.p("fifo.jsonl"), m.p("fifo"))
    os.rename(m.p("link.jsonl"), m.p("l2.txt"))
    os.unlink(m.p("link.txt"))
    os.rename(m.p("dir.jsonl"), m.p("dir"))
    append(m.p("l2.txt"), GOOD)  # a symlink leads to the governed file
    assert m.both("real.jsonl") == GOOD * 2
    with refused(BAD):
        append(m.p("l2.txt"), b"oops\n")


# ---- what a record is ----

ACCEPTED = [
    b'{}', b'[]', b'null', b'true', b'-0', b'1.5e+300', b'"x"', b' {"a" : [ 1 ] } ',
    b'{"a":1}\r', b'"\xf0\x9f\x98\x80\xe2\x82\xac"', b'"\\ud800"', b'{"a":1,"a":2}',
    b'1' * 2000, b'[' * 128 + b']' * 128, b'"\x7f"', b'"\xef\xbf\xbf"', b'0', b'\t[1]',
]
REFUSED = {
    "text": b"oops",
    "half": b'{"a":',
    "fused": b'{"a":1}{"b":2}',
    "two": b'{"a":1} {"b":2}',
    "nan": b"NaN",
    "infinity": b'{"a":-Infinity}',
    "single-quotes": b"{'a':1}",
    "comment": b'{"a":1} // x',
    "comma": b'{"a":1,}',
    "leading-zero": b"-01",
    "bare-dot": b"2.",
    "plus": b"+1",
    "raw-tab": b'"a\tb"',
    "escape": b'"\\x41"',
    "nul": b'{"a":1}\x00',
    "nul-run": b"\x00" * 300,
    "two-boms": b'\xef\xbb\xbf\xef\xbb\xbf{"a":1}',
    "overlong": b'"\xc0\xaf"',
    "surrogate": b'"\xed\xa0\x80"',
    "beyond-unicode": b'"\xf4\x90\x80\x80"',
    "half-character": b'"\xe2\x82"',
    "latin1": b'"\xe9t\xe9"',
    "deep": b"[" * 129 + b"]" * 129,
    "upper": b"TRUE",
    "nbsp": b"\xc2\xa0{}",
    "formfeed": b"\x0c{}",
    "inner-cr": b'{"a":"\r"}',
}


def test_every_json_value_is_a_record_and_kept_byte_for_byte(m):
    for value in ACCEPTED:
        append(m.p("x.jsonl"), value + b"\n")
    assert m.both("x.jsonl") == b"".join(v + b"\n" for v in ACCEPTED)


def test_what_is_not_json_is_refused(m):
    append(m.p("x.jsonl"), GOOD)
    for name, line in REFUSED.items():
        got = outcome(lambda data=line: append(m.p("x.jsonl"), data + b"\n"))
        assert got == BAD, name
    assert m.both("x.jsonl") == GOOD
    m.wait_quarantine(len(REFUSED))
    kept = [data for _, data in m.quarantine()]
    assert kept == [line + b"\n" for line in REFUSED.values()]


def test_maxdepth(mount):
    m = mount("maxdepth=3")
    append(m.p("x.jsonl"), b"[[[1]]]\n")
    with refused(BAD):
        append(m.p("x.jsonl"), b"[[[[1]]]]\n")


@pytest.mark.parametrize(
    "value,good,bad",
    [
        ("any", [b"1", b'"s"', b"null", b"[]", b"{}"], []),
        ("container", [b"[]", b"{}", b" [1]"], [b"1", b'"s"', b"null"]),
        ("object", [b"{}", b' {"a":[1]}'], [b"[]", b"1", b'"s"', b"true"]),
    ],
)
def test_value(mount, value, good, bad):
    m = mount(f"value={value}")
    for line in good:
        append(m.p("x.jsonl"), line + b"\n")
    for line in bad:
        with refused(BAD):
            append(m.p("x.jsonl"), line + b"\n")
    assert m.both("x.jsonl") == b"".join(g + b"\n" for g in good)


# ---- what becomes of a bad one ----


def test_the_quarantine_has_the_bytes_and_who_when_why(m):
    append(m.p("x.jsonl"), GOOD)
    os.chmod(m.p("x.jsonl"), 0o640)
    os.chown(m.p("x.jsonl"), DAEMON, DAEMON)
    bad = b'{"a":"b",oops}\n'
    with refused(BAD):
        append(m.p("x.jsonl"), bad)
    (entry, data), = m.wait_quarantine(1)
    assert data == bad
    assert entry["path"] == "x.jsonl"
    assert entry["pid"] == os.getpid()
    assert entry["uid"] == 0
    assert entry["offset"] == 9
    assert entry["event"] == "refused"
    assert entry["reason"]
    assert "python3" in entry["program"]
    kept = os.stat(m.state("quarantine") / entry["file"])
    assert (kept.st_uid, kept.st_gid, kept.st_mode & 0o777) == (DAEMON, DAEMON, 0o640)
    line = m.expect_log("refused", 'path="x.jsonl"')
    assert entry["file"] in line and "offset=" in line and f"pid={os.getpid()}" in line
    assert "oops" not in m.log()  # never the content
    assert m.counter("refused") == 1


def test_refuse_a_request_is_all_or_none(mount):
    m = mount("onbad=refuse")
    append(m.p("x.jsonl"), GOOD)
    three = b'{"n":2}\n{"n":3\n{"n":4}\n'
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND) as fd:
        with refused(BAD):
            os.write(fd, three)
    assert m.both("x.jsonl") == GOOD
    assert m.wait_quarantine(1)[0][1] == three


# ---- onbad=report, the default ----


@contextlib.contextmanager
def indebted(path, code=BAD):
    """A handle whose last close must tell of bad lines."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        yield fd
    except BaseException:
        outcome(lambda: os.close(fd))
        raise
    with refused(code):
        os.close(fd)


def test_report_bad_lines_beside_good_ones_are_told_at_each_close(m):
    with indebted(m.p("x.jsonl")) as fd:
        assert os.write(fd, b'{"n":1}\noops\n{"n":2}\n') == 21
        assert os.write(fd, b"worse\n") == 6  # it runs: nothing stops it any more
        assert os.write(fd, b'{"n":3}\n') == 8
        for _ in range(2):
            copy = os.dup(fd)
            with refused(BAD):
                os.close(copy)
        with refused(BAD):
            os.fsync(fd)
        os.fsync(fd)  # told once
    assert m.both("x.jsonl") == b'{"n":1}\n{"n":2}\n{"n":3}\n'
    assert [(e["event"], d) for e, d in m.wait_quarantine(2)] == [
        ("bad-record", b"oops\n"), ("bad-record", b"worse\n")]
    assert m.counter("refused") == 2


def test_report_another_process_is_not_told(m):
    with indebted(m.p("x.jsonl")) as fd:
        os.write(fd, GOOD + b"oops\n")
        # It inherits the descriptor, writes to it, syncs and closes it.
        code = f"import os; os.write({fd}, {GOOD!r}); os.fsync({fd}); os.close({fd})"
        for _ in range(3):
            subprocess.run([PYTHON, "-c", code], pass_fds=[fd], check=True, timeout=30)
        with refused(BAD):
            os.fsync(fd)
    assert m.both("x.jsonl") == GOOD * 4


def test_report_a_thread_is_the_process(m):
    with indebted(m.p("x.jsonl")) as fd:
        in_thread(lambda: os.write(fd, GOOD + b"oops\n"))
        with refused(BAD):
            os.fsync(fd)
        in_thread(lambda: os.write(fd, b"oops\n" + GOOD))
    assert m.both("x.jsonl") == GOOD * 2
    assert len(m.wait_quarantine(1)) == 1


def test_report_a_line_sent_again_is_told_once(m):
    with indebted(m.p("x.jsonl")) as fd:
        with refused(BAD):
            os.write(fd, b"oops\nnope\n")
        for again in (b"oops\n", b"no", b"pe\n", b"nope\n" + GOOD + b"oops\n"):
            assert os.write(fd, again) == len(again)
    # By the same process, also when it has opened the file anew.
    append(m.p("x.jsonl"), b"oops\n" + GOOD)
    assert m.both("x.jsonl") == GOOD * 2
    assert [d for _, d in m.wait_quarantine(1)] == [b"oops\nnope\n"]
    # By another one it is another line.
    sh("echo oops >> x.jsonl", m.mnt, check=1)
    assert sorted(d for _, d in m.wait_quarantine(2)) == [b"oops\n", b"oops\nnope\n"]
    assert m.counter("refused") == 3


def test_report_commit_close_is_spoiled_by_one_line(mount):
    m = mount("commit=close")
    append(m.p("x.jsonl"), GOOD)
    with indebted(m.p("x.jsonl")) as fd:
        os.write(fd, b'{"n":1}\noops\n{"n":2}\n')
        for _ in range(2):
            with refused(BAD):
                os.fsync(fd)
    assert m.both("x.jsonl") == GOOD
    assert sorted(d for _, d in m.wait_quarantine(2)) == sorted(
        [b"oops\n", b'{"n":1}\n{"n":2}\n'])
    # Sent again by the same process, the bad line is known, and the others count.
    append(m.p("x.jsonl"), b'{"n":1}\noops\n{"n":2}\n')
    assert m.both("x.jsonl") == GOOD + b'{"n":1}\n{"n":2}\n'


@pytest.mark.parametrize("onbad", ["report", "quarantine", "refuse"])
def test_a_byte_order_mark_is_left_out_and_counted(mount, onbad):
    m = mount(f"onbad={onbad}")
    for n in range(3):
        append(m.p("x.jsonl"), b"\xef\xbb\xbf" + b'{"n":%d}\n' % n)
    assert m.both("x.jsonl") == b'{"n":0}\n{"n":1}\n{"n":2}\n'
    assert m.counter("marks") == 3


# ---- onbad=refuse ----


def test_the_fragment_goes_with_the_refused_bytes(m):
    with indebted(m.p("x.jsonl")) as fd:
        assert os.write(fd, b'{"half":') == 8
        with refused(BAD):
            os.write(fd, b'oops}\n')
        assert os.write(fd, GOOD) == len(GOOD)
    assert m.both("x.jsonl") == GOOD
    (entry, data), = m.wait_quarantine(1)
    assert data == b'{"half":oops}\n'
    assert entry["offset"] == 8


def test_refuse_once_then_the_same_bytes_count_as_reported(mount):
    """A program that keeps the refused buffer and sends it again in front of more."""
    m = mount("onbad=refuse")
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
        bad = b'oops\n'
        with refused(BAD):
            os.write(fd, bad)
        again = bad + b'{"n":1}\n{"n":2}\n'
        assert os.write(fd, again) == len(again)
        with refused(BAD):  # a new bad record is news
            os.write(fd, b'{"n":3}\nnope\n')
        assert os.write(fd, b'{"n":3}\nnope\n{"n":4}\n') == 21
    assert m.both("x.jsonl") == b'{"n":1}\n{"n":2}\n{"n":3}\n{"n":4}\n'
    assert b"".join(d for _, d in m.wait_quarantine(2)) == b'oops\n{"n":3}\nnope\n'


def test_refuse_the_rest_of_a_record_whose_beginning_was_refused_joins_its_entry(mount):
    """A program that drops the refused block and goes on in mid-record (stdio)."""
    m = mount("onbad=refuse")
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
        with refused(BAD):
            os.write(fd, b'oops\n{"n":1,"text":"be')
        rest = b'gin"}\n{"n":2}\n'
        assert os.write(fd, rest) == len(rest)
        assert os.write(fd, b'{"n":3}\n') == 8
    assert m.both("x.jsonl") == b'{"n":2}\n{"n":3}\n'
    assert m.wait_quarantine(1)[0][1] == b'oops\n{"n":1,"text":"begin"}\n'


def test_refuse_the_rest_may_take_many_writes(mount):
    m = mount("onbad=refuse")
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
        with refused(BAD):
            os.write(fd, b'oops\n{"n":1')
        for piece in (b',"a"', b":", b"1", b"}", b"\n", GOOD):
            assert os.write(fd, piece) == len(piece)
    assert m.both("x.jsonl") == GOOD
    assert m.wait_quarantine(1)[0][1] == b'oops\n{"n":1,"a":1}\n'


def test_refuse_a_refusal_concerns_its_own_handle_only(mount):
    m = mount("onbad=refuse")
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT) as one:
        with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND) as two:
            with refused(BAD):
                os.write(one, b'oops\n{"n":')
            assert os.write(two, GOOD) == len(GOOD)
            assert os.write(one, b"1}\n" + GOOD) == 3 + len(GOOD)
    assert m.both("x.jsonl") == GOOD * 2


@pytest.mark.parametrize("who", ["second handle", "other user", "thread"])
def test_the_same_refusal_for_everybody(m, who):
    append(m.p("x.jsonl"), GOOD)
    os.chmod(m.p("x.jsonl"), 0o666)

    def attempt():
        append(m.p("x.jsonl"), b"oops\n")

    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND):
        with refused(BAD):
            if who == "other user":
                as_user(NOBODY, attempt)
            elif who == "thread":
                in_thread(attempt)
            else:
                attempt()
    assert m.both("x.jsonl") == GOOD
    (entry, data), = m.wait_quarantine(1)
    assert data == b"oops\n"
    assert entry["uid"] == (NOBODY if who == "other user" else 0)


def test_onbad_quarantine(mount):
    m = mount("onbad=quarantine")
    data = b'{"n":1}\noops\n{"n":2}\n\xff\xfe\n{"n":3}\n'
    append(m.p("x.jsonl"), data)
    assert m.both("x.jsonl") == b'{"n":1}\n{"n":2}\n{"n":3}\n'
    wait_for(lambda: m.set_aside("x.jsonl") == b"oops\n\xff\xfe\n", "both bad lines kept")
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND) as fd:
        assert os.write(fd, b'{"half":') == 8
        assert os.write(fd, b'oops}\n{"n":4}\n') == 14
    assert m.both("x.jsonl").endswith(b'{"n":3}\n{"n":4}\n')
    wait_for(lambda: m.set_aside().endswith(b'{"half":oops}\n'), "the third bad line")
    assert sh("echo oops >> x.jsonl", m.mnt).returncode == 0


def test_the_same_bytes_are_stored_once(m):
    for _ in range(5):
        sh("echo oops >> x.jsonl", m.mnt, check=1)
    names = os.listdir(m.state("quarantine"))
    assert len(names) == 1, names


def test_a_full_quarantine_keeps_no_copy_and_says_so(mount):
    m = mount("quarantine_max=4M")  # half of a small one is kept for fragments
    line = b'"' + b"x" * 700_000 + b"\n"
    append(m.p("x.jsonl"), GOOD)
    for i in range(5):
        with refused(BAD):
            append(m.p("x.jsonl"), str(i).encode() + line)
    used = sum(f.stat().st_size for f in m.state("quarantine").iterdir())
    assert 700_000 < used <= 2 << 20
    assert m.both("x.jsonl") == GOOD
    wait_for(lambda: m.counter("quarantine_full") >= 1, "the counter")
    # A fragment has nobody to refuse: it still finds room.
    with opened(m.p("y.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
        os.write(fd, b'{"half":')
    wait_for(lambda: m.set_aside("y.jsonl") == b'{"half":', "the fragment")


def test_a_user_who_fills_the_quarantine_leaves_room_for_others(mount):
    m = mount("quarantine_max=16M")
    append(m.p("x.jsonl"), GOOD)
    os.chmod(m.p("x.jsonl"), 0o666)

    def flood():
        for i in range(20):
            with refused(BAD):
                append(m.p("x.jsonl"), b'%d"' % i + b"x" * 700_000 + b"\n")

    as_user(NOBODY, flood)
    kept = len(m.quarantine())
    assert 1 <= kept < 20
    with refused(BAD):
        append(m.p("x.jsonl"), b"from root\n")
    assert m.quarantine()[-1][1] == b"from root\n"
    assert m.both("x.jsonl") == GOOD


def test_a_fragment_that_cannot_be_kept_is_logged_as_lost(mount):
    m = mount("quarantine_max=1M")
    half = b'{"half":"' + b"x" * 700_000
    for name in ("x.jsonl", "y.jsonl", "z.jsonl"):
        fd = os.open(m.p(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, half + name.encode())
        assert outcome(lambda fd=fd: os.close(fd)) == BAD
    wait_for(lambda: m.counter("fragments") == 3, "three fragments")
    lost = 3 - len(m.quarantine())
    assert lost >= 1
    assert m.counter("lost") == lost
    assert m.counter("lost_bytes") == lost * (len(half) + 7)
    line = m.expect_log("LOST", ".jsonl")
    assert str(len(half) + 7) in line and "fnv1a=" in line


# ---- sizes ----


def sized(size):
    return b'{"p":"' + b"x" * (size - 9) + b'"}\n'


def test_oversize_warn(m):
    append(m.p("x.jsonl"), sized(4095))
    assert m.counter("oversize") == 0
    assert not m.log_lines("oversize")
    for size in (4096, 5000, 100_000):
        append(m.p("x.jsonl"), sized(size))
    assert m.both("x.jsonl") == b"".join(map(sized, (4095, 4096, 5000, 100_000)))
    assert m.counter("oversize") == 3
    m.expect_log("oversize", "x.jsonl")
    assert len(m.log_lines("oversize")) == 1  # once per file and program a minute
    append(m.p("y.jsonl"), sized(5000))
    m.expect_log("oversize", "y.jsonl")


def test_oversize_reject(mount):
    m = mount("oversize=reject")
    append(m.p("x.jsonl"), sized(4095))
    with refused(BIG):
        append(m.p("x.jsonl"), sized(4096))
    assert m.both("x.jsonl") == sized(4095)
    assert m.wait_quarantine(1)[0][1] == sized(4096)


def test_oversize_allow_and_pipebuf(mount):
    m = mount("oversize=allow", "pipebuf=512")
    append(m.p("x.jsonl"), sized(600))
    assert not m.log_lines("oversize")
    m2 = mount("oversize=reject", "pipebuf=512")
    append(m2.p("x.jsonl"), sized(511))
    with refused(BIG):
        append(m2.p("x.jsonl"), sized(512))


def test_maxrecord_bounds_whole_and_pending_records(mount):
    m = mount("maxrecord=64K")
    append(m.p("x.jsonl"), sized(65536))
    with refused(BIG):
        append(m.p("x.jsonl"), sized(65537))
    with indebted(m.p("x.jsonl"), BIG) as fd:
        sent, code = 0, 0
        for _ in range(100):
            try:
                sent += os.write(fd, b'"' if sent == 0 else b"x" * 4096)
            except OSError as e:
                code = e.errno
                break
        assert code == BIG
        assert sent <= 65536
    assert m.both("x.jsonl") == sized(65536)


def test_a_refused_long_record_does_not_silence_its_handle(mount):
    m = mount("maxrecord=64K")
    with indebted(m.p("x.jsonl"), BIG) as fd:
        with refused(BIG):
            os.write(fd, b'"' + b"x" * 70_000)
        assert os.write(fd, b'rest"\n' + GOOD) == 6 + len(GOOD)
    assert m.both("x.jsonl") == GOOD


def test_blank_lines_are_dropped_and_counted(m):
    append(m.p("x.jsonl"), b'\n{"n":1}\n\n  \t\r\n{"n":2}\n\n')
    assert m.both("x.jsonl") == b'{"n":1}\n{"n":2}\n'
    assert m.counter("blank") == 4
    append(m.p("x.jsonl"), b"\n")
    assert m.both("x.jsonl") == b'{"n":1}\n{"n":2}\n'


def test_blank_keep(mount):
    m = mount("blank=keep")
    m.check_after = False  # a blank line is no JSON value
    append(m.p("x.jsonl"), b'\n{"n":1}\n \n')
    assert m.both("x.jsonl") == b'\n{"n":1}\n \n'


# ---- what readers see ----


def test_pending_bytes_are_invisible(m):
    with opened(m.p("x.jsonl"), os.O_RDWR | os.O_APPEND | os.O_CREAT) as fd:
        os.write(fd, GOOD + b'{"half":')
        assert os.fstat(fd).st_size == len(GOOD)
        assert os.stat(m.p("x.jsonl")).st_size == len(GOOD)
        assert os.lseek(fd, 0, os.SEEK_END) == len(GOOD)
        assert os.pread(fd, 4096, 0) == GOOD
        assert m.both("x.jsonl") == GOOD
        os.write(fd, b"1}\n")
        assert m.both("x.jsonl") == GOOD + b'{"half":1}\n'
        assert os.fstat(fd).st_size == len(GOOD) + 11


def test_an_open_reader_sees_what_is_appended(m):
    append(m.p("x.jsonl"), GOOD)
    with open(m.p("x.jsonl"), "rb") as f:
        assert f.read() == GOOD
        append(m.p("x.jsonl"), GOOD)
        assert f.read() == GOOD
        assert f.read() == b""


def test_mmap_private_yes_shared_no(m):
    append(m.p("x.jsonl"), GOOD)
    with opened(m.p("x.jsonl"), os.O_RDWR) as fd:
        with mmap.mmap(fd, len(GOOD), mmap.MAP_PRIVATE, mmap.PROT_READ) as view:
            assert view[:] == GOOD
        for prot in (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE):
            with refused(errno.ENODEV):
                mmap.mmap(fd, len(GOOD), mmap.MAP_SHARED, prot)


# ---- where a write may land ----

TWO = b'{"n":1}\n{"n":2}\n'


def test_append_ignores_the_offset(m):
    append(m.p("x.jsonl"), TWO)
    with opened(m.p("x.jsonl"), os.O_RDWR | os.O_APPEND) as fd:
        os.lseek(fd, 0, os.SEEK_SET)
        assert os.write(fd, GOOD) == len(GOOD)
        assert os.pwrite(fd, GOOD, 3) == len(GOOD)
    assert m.both("x.jsonl") == TWO + GOOD * 2


def test_without_append_the_size_at_open_is_an_end(m):
    append(m.p("x.jsonl"), TWO)
    with opened(m.p("x.jsonl"), os.O_RDWR) as fd:
        append(m.p("x.jsonl"), b'{"by":"another"}\n')
        assert os.pwrite(fd, GOOD, len(TWO)) == len(GOOD)  # lands at the real end
    assert m.both("x.jsonl") == TWO + b'{"by":"another"}\n' + GOOD


def test_without_append_sequential_writes_go_on_at_a_virtual_end(m):
    """Pending and dropped bytes count, as in the writer's own idea of the file."""
    pieces = [b'{"n":1}\n', b"\n", b'{"n"', b":2}", b"\n\n", b'{"n":3}\n']
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_CREAT) as fd:
        for i, piece in enumerate(pieces):
            assert os.write(fd, piece) == len(piece)
            if i == 0:
                append(m.p("x.jsonl"), b'{"by":"another"}\n')
    assert m.both("x.jsonl") == b'{"n":1}\n{"by":"another"}\n{"n":2}\n{"n":3}\n'


def test_r_plus_and_seek_to_the_end(m):
    append(m.p("x.jsonl"), TWO)
    with open(m.p("x.jsonl"), "r+b") as f:
        append(m.p("x.jsonl"), GOOD)
        assert f.seek(0, 2) == len(TWO + GOOD)  # an end committed since the open
        f.write(b'{"n":3}\n')
    assert m.both("x.jsonl") == TWO + GOOD + b'{"n":3}\n'


def test_below_the_end_the_same_bytes_change_nothing_and_others_are_refused(m):
    append(m.p("x.jsonl"), TWO)
    with opened(m.p("x.jsonl"), os.O_RDWR) as fd:
        assert os.pwrite(fd, TWO, 0) == len(TWO)
        assert os.pwrite(fd, b'"n":2', 9) == 5
        for data, at in ((b'{"n":7}\n', 0), (b"9", 13), (b'{"n":2}', 0), (b"x", 5)):
            with refused(NO):
                os.pwrite(fd, data, at)
        with refused(NO):  # beyond the end: a hole would appear
            os.pwrite(fd, GOOD, len(TWO) + 10)
        assert os.pwrite(fd, GOOD, len(TWO)) == len(GOOD)
    assert m.both("x.jsonl") == TWO + GOOD


def test_bad_content_at_the_end_is_refused_without_append_too(m):
    append(m.p("x.jsonl"), TWO)
    with opened(m.p("x.jsonl"), os.O_WRONLY) as fd:
        with refused(BAD):
            os.pwrite(fd, b"oops\n", len(TWO))
    assert m.both("x.jsonl") == TWO


def test_append_cleared_by_fcntl(m):
    append(m.p("x.jsonl"), TWO)
    with opened(m.p("x.jsonl"), os.O_RDWR | os.O_APPEND) as fd:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_APPEND)
        os.lseek(fd, 0, os.SEEK_SET)
        with refused(NO):
            os.write(fd, b'{"n":9}\n')
        assert os.pwrite(fd, TWO, 0) == len(TWO)
        assert os.pwrite(fd, GOOD, len(TWO)) == len(GOOD)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)
        assert os.pwrite(fd, GOOD, 0) == len(GOOD)
    assert m.both("x.jsonl") == TWO + GOOD * 2


def test_append_set_by_fcntl(m):
    append(m.p("x.jsonl"), TWO)
    with opened(m.p("x.jsonl"), os.O_RDWR) as fd:
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
        assert os.pwrite(fd, GOOD, 0) == len(GOOD)
    assert m.both("x.jsonl") == TWO + GOOD


def test_noappend_of_one_write(m):
    append(m.p("x.jsonl"), TWO)
    with opened(m.p("x.jsonl"), os.O_RDWR | os.O_APPEND) as fd:
        got = outcome(lambda: pwritev2(fd, b'{"n":9}\n', 0, 0x20))
        if got in (errno.EOPNOTSUPP, errno.EINVAL):
            pytest.skip("kernel without RWF_NOAPPEND")
    data = m.both("x.jsonl")
    assert data.startswith(TWO)
    assert data == TWO if got else data == TWO + b'{"n":9}\n'


def test_append_strict(mount):
    m = mount("append=strict")
    append(m.p("x.jsonl"), GOOD)
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_CREAT):
        with refused(NO):
            os.close(os.open(m.p("x.jsonl"), flags))
    with opened(m.p("x.jsonl"), os.O_RDWR | os.O_APPEND) as fd:
        os.write(fd, GOOD)
    assert m.both("x.jsonl") == GOOD * 2


# ---- closing and syncing ----


def close_code(fd):
    return outcome(lambda: os.close(fd))


def test_close_commits_a_whole_value_with_its_newline(m):
    for data in (b'{"a":1}', b"[1]", b'"s"', b"true", b"null", b'{"a":1} '):
        fd = os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, data)
        assert close_code(fd) == 0
    want = b'{"a":1}\n[1]\n"s"\ntrue\nnull\n{"a":1} \n'
    assert m.both("x.jsonl") == want


def test_close_of_an_incomplete_record_fails_and_keeps_its_bytes(m):
    for i, data in enumerate((b'{"a":', b'"s', b"tru", b"[1,", b'{"a":1}{"b":2}'), 1):
        fd = os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        assert os.write(fd, data) == len(data)
        assert close_code(fd) == BAD, data
        assert m.wait_quarantine(i)[-1][1] == data
    assert m.both("x.jsonl") == b""
    assert m.counter("fragments") == 5
    assert m.log_lines("fragment", "x.jsonl")


def test_a_bare_number_is_committed_by_the_last_close(m):
    """It could have grown as long as anybody held the handle."""
    fd = os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    dup = os.dup(fd)
    os.write(fd, b"12")
    os.close(fd)
    assert m.both("x.jsonl") == b""
    os.write(dup, b"34")
    os.close(dup)
    wait_for(lambda: m.both("x.jsonl") == b"1234\n", "the number")


def test_a_newline_that_comes_after_the_committed_value_is_swallowed(m):
    for newline in (b"\n", b"\r\n"):
        fd = os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        dup = os.dup(fd)
        os.write(fd, b'{"a":1}')
        assert close_code(fd) == 0
        assert m.both("x.jsonl").endswith(b'{"a":1}\n')
        os.write(dup, newline + b'{"a":2}\n')
        assert close_code(dup) == 0
    assert m.both("x.jsonl") == b'{"a":1}\n{"a":2}\n' * 2
    assert m.counter("blank") == 0


@pytest.mark.parametrize("sync", [os.fsync, os.fdatasync])
def test_fsync_commits_a_whole_value_and_leaves_an_incomplete_one_pending(m, sync):
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
        os.write(fd, b'{"a":1}')
        sync(fd)
        assert m.both("x.jsonl") == b'{"a":1}\n'
        os.write(fd, b'\n{"a":')
        sync(fd)
        assert m.both("x.jsonl") == b'{"a":1}\n'
        os.write(fd, b"2}\n12")
        sync(fd)
        assert m.both("x.jsonl") == b'{"a":1}\n{"a":2}\n'
        os.write(fd, b"3\n")
        assert m.both("x.jsonl") == b'{"a":1}\n{"a":2}\n123\n'
    assert m.counter("fragments") == 0


def test_o_sync_applies_the_same_rule_at_each_write(m):
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_SYNC) as fd:
        os.write(fd, b'{"a":1}')
        assert m.both("x.jsonl") == b'{"a":1}\n'
        os.write(fd, b'\n{"a":')
        os.write(fd, b"2}\n")
    assert m.both("x.jsonl") == b'{"a":1}\n{"a":2}\n'


def syncs(m, action):
    """How many syncs an action brings; one is counted just after its answer."""
    before = m.counter("syncs")
    action()
    time.sleep(0.02)
    return m.counter("syncs") - before


def test_sync_close_is_the_default(m):
    append(m.p("x.jsonl"), GOOD)
    assert syncs(m, lambda: append(m.p("x.jsonl"), GOOD)) >= 1
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND):
        assert syncs(m, lambda: os.close(os.open(m.p("x.jsonl"), os.O_RDONLY))) == 0
        assert syncs(m, lambda: os.close(os.open(m.p("x.jsonl"), os.O_WRONLY))) == 0


def test_sync_write(mount):
    m = mount("sync=write")
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
        assert syncs(m, lambda: os.write(fd, GOOD)) >= 1
        os.write(fd, b'{"a":1}')  # the fragment rule of fsync
        assert m.both("x.jsonl") == GOOD + b'{"a":1}\n'


def test_sync_none_but_fsync_is_honoured(mount):
    m = mount("sync=none")
    append(m.p("x.jsonl"), GOOD)
    assert syncs(m, lambda: append(m.p("x.jsonl"), GOOD)) == 0
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, GOOD)
        assert syncs(m, lambda: os.fsync(fd)) >= 1
        os.write(fd, GOOD)
        assert syncs(m, lambda: os.fdatasync(fd)) >= 1
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_DSYNC) as fd:
        assert syncs(m, lambda: os.write(fd, GOOD)) >= 1


def test_what_is_open_when_the_mount_ends_is_released_all_the_same(mount):
    m = mount()
    fds = []
    for i, data in enumerate((b'{"whole":1}', b'{"half":', b"17")):
        fd = os.open(m.p(f"{i}.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, GOOD + data)
        fds.append(fd)
    run("umount", "-l", m.mnt, check=0)
    for fd in fds:
        outcome(lambda fd=fd: os.close(fd))
    assert m.proc.wait(20) == 0
    assert m.b("0.jsonl").read_bytes() == GOOD + b'{"whole":1}\n'
    assert m.b("1.jsonl").read_bytes() == GOOD
    assert m.b("2.jsonl").read_bytes() == GOOD + b"17\n"
    assert m.set_aside("1.jsonl") == b'{"half":'


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_drains_and_unmounts(m, name):
    fds = []
    for i, data in enumerate((b'{"whole":1}', b'{"half":')):
        fd = os.open(m.p(f"{i}.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, GOOD + data)
        fds.append(fd)
    m.proc.send_signal(getattr(signal, name))
    assert m.proc.wait(20) == 0
    assert not m.mounted()
    for fd in fds:
        outcome(lambda fd=fd: os.close(fd))
    assert m.b("0.jsonl").read_bytes() == GOOD + b'{"whole":1}\n'
    assert m.b("1.jsonl").read_bytes() == GOOD
    assert m.set_aside("1.jsonl") == b'{"half":'


# ---- a mount over its own source, the state directory ----


def test_a_self_mount_behaves_the_same(mount):
    m = mount(self_mount=True)
    append(m.p("x.jsonl"), GOOD)
    with refused(BAD):
        append(m.p("x.jsonl"), b"oops\n")
    append(m.p("MEMORY.md"), b"# note\n")
    assert m.both("x.jsonl") == GOOD
    assert m.both("MEMORY.md") == b"# note\n"
    assert m.wait_quarantine(1)[0][1] == b"oops\n"
    m.stop()
    assert (m.source / "x.jsonl").read_bytes() == GOOD
    assert (m.source / ".jsonlfs" / "quarantine.jsonl").exists()


def test_the_state_directory_is_hidden_and_read_only(m):
    with refused(BAD):
        append(m.p("x.jsonl"), b"oops\n")
    assert ".jsonlfs" not in os.listdir(m.mnt)
    inside = set(os.listdir(m.p(".jsonlfs")))
    assert {"quarantine", "quarantine.jsonl", "status.json", "writers.json"} <= inside
    assert m.p(".jsonlfs/.gitignore").read_text().split() == ["*"]
    (entry, data), = m.wait_quarantine(1)
    assert m.p(f".jsonlfs/quarantine/{entry['file']}").read_bytes() == data
    attempts = {
        "create": lambda: append(m.p(".jsonlfs/new"), b"x"),
        "append": lambda: append(m.p(".jsonlfs/quarantine.jsonl"), GOOD),
        "unlink": lambda: os.unlink(m.p(f".jsonlfs/quarantine/{entry['file']}")),
        "mkdir": lambda: os.mkdir(m.p(".jsonlfs/d")),
        "rmdir": lambda: os.rmdir(m.p(".jsonlfs")),
        "rename": lambda: os.rename(m.p(".jsonlfs"), m.p("gone")),
        "rename out": lambda: os.rename(m.p(".jsonlfs/quarantine.jsonl"), m.p("q")),
        "rename in": lambda: os.rename(m.p("x.jsonl"), m.p(".jsonlfs/x.jsonl")),
        "link": lambda: os.link(m.p(".jsonlfs/quarantine.jsonl"), m.p("q")),
        "chmod": lambda: os.chmod(m.p(".jsonlfs/quarantine.jsonl"), 0o777),
        "truncate": lambda: os.truncate(m.p(".jsonlfs/quarantine.jsonl"), 0),
        "write status": lambda: append(m.p(".jsonlfs/status.json"), b"{}\n"),
        "symlink": lambda: os.symlink("x", m.p(".jsonlfs/l")),
    }
    for what, attempt in attempts.items():
        assert outcome(attempt) in (errno.EROFS, errno.EPERM, errno.EACCES), what
    assert m.quarantine() == [(entry, data)]


def test_state_in_another_directory(mount, workdir):
    place = workdir / "state"
    place.mkdir()
    m = mount(f"state={place}")
    with refused(BAD):
        append(m.p("x.jsonl"), b"oops\n")
    names = os.listdir(place / "quarantine")
    assert len(names) == 1
    assert (place / "quarantine" / names[0]).read_bytes() == b"oops\n"
    # In the vault there is the list of daemons alone, for those that mount it without state=.
    assert sorted(os.listdir(m.b(".jsonlfs"))) == [".gitignore", "daemon"]
    assert m.status()
    m.stop()
    assert not m.b(".jsonlfs").exists()


# ---- counters ----


def test_status_counts(m):
    append(m.p("x.jsonl"), TWO)
    append(m.p("y.jsonl"), GOOD)
    with refused(BAD):
        append(m.p("x.jsonl"), b"oops\n")
    assert m.counter("records") == 3
    assert m.counter("bytes") == len(TWO + GOOD)
    assert m.counter("refused") == 1
    assert m.counter("quarantined") == 1
    assert stat.S_IMODE(os.stat(m.p(".jsonlfs/status.json")).st_mode) & 0o444 == 0o444
    as_user(NOBODY, m.status)
    # Counters only: not even the name of a file.
    assert b"x.jsonl" not in m.p(".jsonlfs/status.json").read_bytes()


def test_writers_tell_the_habits_of_each_program(m):
    sh("for i in 1 2 3; do echo '{\"n\":1}' >> a.jsonl; done", m.mnt)
    w = m.writer("a.jsonl", "bash")
    assert (w["records"], w["bytes"], w["refused"]) == (3, 24, 0)
    assert w["opens_without_append"] == 0 and w["split_records"] == 0
    with opened(m.p("b.jsonl"), os.O_WRONLY | os.O_CREAT) as fd:
        os.write(fd, b'{"n"')
        os.write(fd, b":1}\n")
        os.write(fd, sized(5000))
        os.write(fd, b'{"n":2}')
    w = wait_for(lambda: m.writer("b.jsonl", "python"), "the entry")
    assert w["opens_without_append"] == 1
    assert w["split_records"] >= 1
    assert w["oversize"] == 1
    assert w["closes_without_newline"] == 1
    assert w["records"] == 3


def test_writers_shows_each_user_their_own(m):
    os.chmod(m.mnt, 0o777)
    append(m.p("root.jsonl"), GOOD)
    as_user(NOBODY, lambda: append(m.p("nobody.jsonl"), GOOD))
    assert {w["path"] for w in m.writers()} == {"root.jsonl", "nobody.jsonl"}
    assert {w["path"] for w in as_user(NOBODY, m.writers)} == {"nobody.jsonl"}


def test_a_program_is_its_executable_and_script_and_no_other_argument(m, workdir):
    script = workdir / "audit.py"
    script.write_text("import sys\nopen(sys.argv[1], 'a').write('{}\\n')\n")
    run(PYTHON, script, m.p("x.jsonl"), "secret-token", check=0)
    w = m.writer("x.jsonl")
    assert str(script) in w["program"] and "python3" in w["program"]
    assert "secret" not in m.p(".jsonlfs/writers.json").read_text()


def test_every_index_line_is_valid_json_whatever_the_name(m):
    name = 'a"b\\c\n\x1b[31m\u202e.jsonl'
    with refused(BAD):
        append(m.p(name), b"oops\n")
    raw = os.fsencode(name.replace(".jsonl", "")) + b"\xff.jsonl"
    with refused(BAD):
        append(os.path.join(os.fsencode(m.mnt), raw), b"oops2\n")
    entries = wait_for(lambda: records(m.state("quarantine.jsonl")), "the index")
    assert len(entries) == 2
    assert entries[0]["path"] == name
    assert "\x1b" not in m.log()
    assert "\u202e" not in m.log()
    check_lines(m.state("quarantine.jsonl").read_bytes(), "index")


def test_a_repeated_first_write_is_a_retry_and_no_second_record(mount):
    m = mount()
    fd = os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_CREAT)
    assert os.pwrite(fd, b'{"n":1}\n', 0) == 8
    assert os.pwrite(fd, b'{"n":1}\n', 0) == 8
    assert os.pwrite(fd, b'{"n":2}\n', 8) == 8
    os.close(fd)
    assert m.both("x.jsonl") == b'{"n":1}\n{"n":2}\n'


def test_equal_records_of_two_programs_are_two_records(mount):
    m = mount()
    one, two = (os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_CREAT) for _ in range(2))
    assert os.write(one, b'"tick"\n') == 7
    assert os.write(two, b'"tick"\n') == 7
    os.close(one)
    os.close(two)
    assert m.both("x.jsonl") == b'"tick"\n' * 2
