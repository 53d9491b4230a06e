# SPDX-License-Identifier: MIT
"""jsonlfsctl check: every governed file, every line, on bare directories and on mounts."""

import errno
import os
import pty
import re
import resource
import select
import subprocess
import time

import pytest

from util import (
    ENV,
    NOBODY,
    PYTHON,
    append,
    binary,
    parse,
    run,
    running,
    wait_for,
)

GOOD = b'{"a":1}\n'
OLD = (1, 1)  # nobody is appending: no tail is waited for


def check(*argv, **kw):
    return run(binary("jsonlfsctl"), "check", *argv, **kw)


def report(*argv, code=0, **kw):
    p = check("--json", *argv, **kw)
    assert p.returncode == code, (p.returncode, p.stderr)
    return parse(p.stdout)


def lay_down(directory, files):
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, OLD)


# name: (content, kind, line, offset, length)
DAMAGE = {
    "half.jsonl": (GOOD + b'{"b":\n' + GOOD, "half-record", 2, 13, 5),
    "torn.jsonl": (GOOD + b'{"b":"x', "torn-tail", 2, 15, 7),
    "fused.jsonl": (GOOD + b'{"b":1}{"c":2}\n' + GOOD, "fused-records", 2, 15, 14),
    "nul.jsonl": (GOOD * 2 + b"\0" * 512 + GOOD, "nul-bytes", 3, 16, 512),
    "allnul.jsonl": (b"\0" * 700, "nul-bytes", 1, 0, 700),
    "utf8.jsonl": (b'{"a":"\xe2\x82"}\n', "bad-utf8", 1, 8, 10),
    "halfutf8.jsonl": (GOOD + b'"\xe2\x82', "torn-tail", 2, 11, 3),
    "nan.jsonl": (b"[1,NaN]\n", "invalid", 1, 3, 7),
    "single.jsonl": (b"{'a':1}\n", "invalid", 1, 1, 7),
    "long.jsonl": (b'"' + b"x" * (16 << 20) + b'"\n' + GOOD, "too-long", 1, 0, (16 << 20) + 2),
}
NOTES = {
    "oversize.jsonl": (b'["' + b"x" * 5000 + b'"]\n', "oversize", 1, 0, 5005),
    "blank.jsonl": (GOOD + b" \t\r\n" + GOOD, "blank-line", 2, 8, 3),
    "nonewline.jsonl": (GOOD + b"[1]", "missing-newline", 2, 11, 0),
    "number.jsonl": (GOOD + b"12", "unfinished-number", 2, 10, 0),
}


def findings(document):
    return {f["file"]: (f["kind"], f["line"], f["offset"], f["length"], f["note"])
            for f in document["findings"]}


def test_damage_is_found_with_its_place(workdir):
    v = workdir / "v"
    lay_down(v, {name: row[0] for name, row in DAMAGE.items()})
    lay_down(v, {"clean.jsonl": GOOD * 100, "sub/empty.jsonl": b""})
    d = report(v, code=4)
    assert findings(d) == {f"{v}/{name}": (*row[1:], False) for name, row in DAMAGE.items()}
    assert d["files"] == len(DAMAGE) + 2 and d["files_damaged"] == len(DAMAGE)
    assert d["bytes"] == sum(len(r[0]) for r in DAMAGE.values()) + 800
    assert d["clean"] is False and d["errors"] == [] and d["findings_omitted"] == 0
    assert d["compliant"] is False and d["programs"] == []
    assert sum(d["damage"].values()) == len(DAMAGE)
    assert d["damage"]["nul-bytes"] == 2 and d["damage"]["wrong-value"] == 0
    assert sum(d["notes"].values()) == 0
    # Each alone, as people see it.
    for name, (_, kind, line, offset, _) in DAMAGE.items():
        p = check(name, cwd=v)
        assert p.returncode == 4 and p.stderr == b""
        lines = p.stdout.decode().splitlines()
        assert lines[0].startswith(f"{name}:{line}: byte {offset}: {kind}: "), lines
        assert lines[-1] == "DAMAGED: 1 finding in 1 file"


def test_notes_are_no_damage(workdir):
    v = workdir / "v"
    lay_down(v, {name: row[0] for name, row in NOTES.items()})
    d = report(v)
    assert findings(d) == {f"{v}/{name}": (*row[1:], True) for name, row in NOTES.items()}
    assert d["clean"] is True and d["files_damaged"] == 0 and d["compliant"] is False
    assert all(n == 1 for n in d["notes"].values()) and sum(d["damage"].values()) == 0
    assert d["oversize"] == 1 and d["blank"] == 1 and d["largest"] == 5005
    assert d["records"] == 7 and d["lines"] == 8
    text = check(v, check=0).stdout.decode()
    assert text.count(": note: ") == 4 and text.endswith("\nclean\n")
    # They can be switched off as on the mount.
    d = report("--oversize=allow", "--blank", "keep", v)
    assert set(f["kind"] for f in d["findings"]) == {"missing-newline", "unfinished-number"}


def test_an_empty_vault_is_clean(workdir):
    d = report(workdir)
    assert d["files"] == 0 and d["clean"] is True and d["compliant"] is True
    assert check(workdir, check=0).stdout.endswith(b"clean\n")


def test_what_is_walked_and_what_is_not(workdir):
    v = workdir / "v"
    bad = b"bad\n"
    lay_down(v, {
        "a.jsonl": GOOD, "sub/b.jsonl": GOOD, "sub/deeper/c.jsonl": GOOD,
        ".hidden/d.jsonl": GOOD, "weird \n\x1b[31mname.jsonl": GOOD,
        # Not governed, or not ours:
        "plain.txt": bad, "a.jsonl.1": bad, "a.jsonl.gz": bad, "x.JSONL": bad,
        ".git/e.jsonl": bad, "sub/.git/f.jsonl": bad, ".jsonlfs/g.jsonl": bad,
        "other/.jsonlfs/h.jsonl": bad, "skip/i.jsonl": bad,
    })
    lay_down(workdir / "outside", {"j.jsonl": bad})
    (v / "link.jsonl").symlink_to(workdir / "outside/j.jsonl")
    (v / "linkdir").symlink_to(workdir / "outside")
    os.mkfifo(v / "fifo.jsonl")
    (v / "dir.jsonl").mkdir()
    lay_down(v / "dir.jsonl", {"k.jsonl": GOOD})
    d = report("--exclude=skip/**", v)
    assert d["files"] == 6
    # Below the vault's root patterns still mean paths from the root.
    assert report("--exclude=sub/deeper/**", v / "sub")["files"] == 1
    assert report("--exclude=deeper/**", v / "sub")["files"] == 2
    # Other patterns; a link that is named is followed, but none inside a vault.
    assert report("--match", "*.txt:*.gz", v, code=4)["files"] == 2
    (workdir / "linkdir").symlink_to("outside")
    (workdir / "link.jsonl").symlink_to("linkdir/j.jsonl")
    assert report(workdir / "linkdir", code=4)["files"] == 1
    assert report(workdir / "link.jsonl", code=4)["files"] == 1
    for name in ("linkdir", "link.jsonl", "linkdir/j.jsonl"):
        assert "symbolic link" in report(v / name, code=8)["errors"][0]["error"]
    # A file that is named is checked whatever its name.
    assert report(v / "plain.txt", code=4)["damage"]["invalid"] == 1
    assert report(v / "sub", v / "a.jsonl", v / ".hidden")["files"] == 4


def test_names_cannot_do_anything_to_a_terminal(workdir):
    name = os.fsencode(workdir) + b"/x\n\x1b[31m\xe2\x80\xae\xff.jsonl"
    with open(name, "wb") as f:
        f.write(b"bad\n")
    p = check(workdir)
    assert p.returncode == 4
    assert rb"x\x0a\x1b[31m\xe2\x80\xae\xff.jsonl:1: byte 0: invalid" in p.stdout
    assert b"\x1b" not in p.stdout
    d = report(workdir, code=4)
    assert d["findings"][0]["file"].endswith("x\n\x1b[31m\u202e\ufffd.jsonl")


def test_options_are_those_of_the_mount(workdir):
    v = workdir / "v"
    lay_down(v, {"a.jsonl": b'{}\n[1]\n2\n' + b'["' + b"x" * 600 + b'"]\n'})
    assert report("--value=object", v, code=4)["damage"]["wrong-value"] == 3
    assert report("--value=container", v, code=4)["damage"]["wrong-value"] == 1
    assert report("--pipebuf=512", v)["notes"]["oversize"] == 1
    assert report("--maxrecord=4K", "--pipebuf=4K", v)["clean"] is True
    lay_down(v, {"b.jsonl": b"[[[[[1]]]]]\n"})
    assert report("--maxdepth=4", v, code=4)["damage"]["invalid"] == 1
    # From a file; single options have precedence, wherever they stand.
    config = workdir / "c.json"
    config.write_text('{"value": "object", "pipebuf": 512, "match": ["a.jsonl"]}')
    d = report("--value=any", f"--config={config}", v)
    assert d["files"] == 1 and d["oversize"] == 1
    for argv in (["--blank=foo"], ["--maxrecord=1x"], ["--config=/proc/nonexistent"],
                 ["--match"], ["--sync=close"], ["--nonsense"], ["-x"]):
        p = check(*argv, v) if argv != ["--match"] else check(v, *argv)
        assert p.returncode == 16 and p.stdout == b"" and p.stderr, argv


def test_what_cannot_be_read_is_a_failure_and_the_rest_is_checked(workdir):
    v = workdir / "v"
    lay_down(v, {"a.jsonl": GOOD, "b.jsonl": GOOD, "closed/c.jsonl": GOOD, "d.jsonl": b"bad\n"})
    (v / "b.jsonl").chmod(0)
    (v / "closed").chmod(0)
    d = report(v, code=12, uid=NOBODY)
    assert d["files"] == 2 and d["clean"] is False
    assert {(e["file"], e["error"]) for e in d["errors"]} == {
        (f"{v}/b.jsonl", os.strerror(errno.EACCES)), (f"{v}/closed", os.strerror(errno.EACCES))}
    os.unlink(v / "d.jsonl")
    p = check(v, uid=NOBODY)
    assert p.returncode == 8 and b"try as root" in p.stderr
    assert b"not everything could be read" in p.stdout
    p = check(workdir / "absent", v / "a.jsonl")
    assert p.returncode == 8 and b"No such file" in p.stderr
    assert re.search(rb"records +1\n", p.stdout)
    os.mkfifo(workdir / "fifo")
    p = check(workdir / "fifo")
    assert p.returncode == 8 and b"neither a directory nor a regular file" in p.stderr
    with open("/dev/full", "wb") as full:
        p = subprocess.run([binary("jsonlfsctl"), "check", v / "a.jsonl"], stdout=full,
                           stderr=subprocess.PIPE, env=ENV, timeout=20)
    assert p.returncode == 8


def test_a_file_of_something_else_is_not_told_line_by_line(workdir):
    lay_down(workdir, {"utf16.jsonl": ('{"a":1}\n' * 5000).encode("utf-16")})
    p = check(workdir)
    assert p.returncode == 4
    lines = p.stdout.decode().splitlines()
    assert len([x for x in lines if "utf16.jsonl:" in x]) == 21
    assert any(re.search(r"utf16.jsonl: \d+ more findings, which --all shows", x) for x in lines)
    assert len(check("--all", workdir).stdout.splitlines()) > 10000
    # A program gets all of them, up to a bound.
    d = report(workdir, code=4)
    assert len(d["findings"]) + d["findings_omitted"] == sum(d["damage"].values())


def sanitized():
    """Sanitizers reserve address space without measure."""
    with open(binary("jsonlfsctl"), "rb") as f:
        image = f.read()
    return b"__asan_init" in image or b"__tsan_init" in image


def limited():
    resource.setrlimit(resource.RLIMIT_AS, (128 << 20, 128 << 20))


def test_memory_is_bounded_whatever_the_length_of_a_line(workdir):
    with open(workdir / "hole.jsonl", "wb") as f:
        f.write(GOOD)
        f.truncate(1 << 30)
    with open(workdir / "line.jsonl", "wb") as f:
        f.write(b'"')
        for _ in range(300):
            f.write(b"x" * (1 << 20))
        f.write(b'"\n' + GOOD)
    for name in ("hole.jsonl", "line.jsonl"):
        os.utime(workdir / name, OLD)
    p = subprocess.run([binary("jsonlfsctl"), "check", "--json", workdir], env=ENV, timeout=60,
                       stdout=subprocess.PIPE, preexec_fn=None if sanitized() else limited)
    assert p.returncode == 4
    got = {(f["kind"], f["length"]) for f in parse(p.stdout)["findings"]}
    assert got == {("nul-bytes", (1 << 30) - 8), ("too-long", (300 << 20) + 2)}


def test_the_line_that_is_being_appended_is_waited_for(workdir):
    path = workdir / "x.jsonl"
    path.write_bytes(GOOD + b'{"b"')
    script = ("import sys,time; f=open(sys.argv[1],'ab',0); time.sleep(0.5); "
              "f.write(b':2}\\n'); time.sleep(0.1); f.write(b'{\"unfinished')")
    with running(PYTHON, "-c", script, path) as writer:
        d = report(path)
        assert d["records"] == 2 and d["clean"] is True
        writer.wait(10)
    # And when nobody goes on, it is torn.
    start = time.monotonic()
    d = report(path, code=4)
    assert d["damage"]["torn-tail"] == 1
    assert time.monotonic() - start < 5


# ---- several threads ----

PART = 32 << 20  # bytes that one thread reads of a file at a time


def test_a_large_file_is_checked_in_parts(workdir):
    """Damage right before, on and behind the joints has its place in the whole file."""
    block = b'{"pad":"' + b"x" * 1013 + b'"}\n'
    assert len(block) == 1024
    wanted = []
    with open(workdir / "large.jsonl", "wb") as f:
        for _ in range(3 * PART // len(block)):
            f.write(block)
        f.write(b'{"torn')
        for at in (PART - 1024, PART, 2 * PART + 1024):
            f.seek(at)
            f.write(b"?" * 1023)
            wanted.append(("invalid", at // 1024 + (at < 2 * PART), at, 1023))
        # One line over a joint: two records fused into one of 2,048 bytes.
        f.seek(2 * PART - 1)
        f.write(b" ")
        wanted.append(("fused-records", 2 * PART // 1024, 2 * PART, 2047))
    lines = 3 * PART // 1024
    wanted.append(("torn-tail", lines, 3 * PART + 6, 6))
    os.utime(workdir / "large.jsonl", OLD)
    for jobs in ("1", "2", "7"):
        d = report(f"--jobs={jobs}", workdir, code=4)
        assert sorted((f["kind"], f["line"], f["offset"], f["length"])
                      for f in d["findings"]) == sorted(wanted)
        assert [f["offset"] for f in d["findings"]] == sorted(w[2] for w in wanted)
        assert (d["files"], d["files_damaged"]) == (1, 1)
        assert (d["lines"], d["records"]) == (lines, lines - 5)
        assert d["bytes"] == 3 * PART + 6


def test_many_threads_tell_in_order(workdir):
    """As one thread does, with more findings than are kept, on standard output and in JSON."""
    lay_down(workdir, {f"{n:03}/{k}.jsonl": (GOOD + b"bad\n") * (n % 7 * 300) + GOOD
                       for n in range(40) for k in range(3)})
    one = check("--all", "--jobs=1", workdir)
    assert one.returncode == 4 and one.stdout.count(b": invalid: ") > 10000
    for _ in range(3):
        assert check("--all", "--jobs", "9", workdir).stdout == one.stdout
    assert report("--jobs=5", workdir, code=4)["findings"] == \
        report("--jobs=1", workdir, code=4)["findings"]
    for bad in ("0", "-1", "x", "1x", "", "1001"):
        assert check(f"--jobs={bad}", workdir).returncode == 16


def test_the_threads_are_as_many_as_the_processors(workdir):
    with open(workdir / "hole.jsonl", "wb") as f:
        f.truncate(64 << 30)
    for argv, cpus in ([], os.sched_getaffinity(0)), ([], {0}), (["--jobs=5"], {0}):
        p = subprocess.Popen([binary("jsonlfsctl"), "check", *argv, workdir],
                             stdout=subprocess.DEVNULL, env=ENV,
                             preexec_fn=lambda: os.sched_setaffinity(0, cpus))  # noqa: B023
        try:
            want = 1 + (5 if argv else len(cpus))
            wait_for(lambda: len(os.listdir(f"/proc/{p.pid}/task")) >= want)  # noqa: B023
            threads = os.listdir(f"/proc/{p.pid}/task")
            assert len(threads) == want or sanitized()
        finally:
            p.kill()
            p.wait(10)


# ---- progress ----


def on_terminal(*argv, seconds=40):
    """Runs check with standard error (alone) on a terminal: status, stdout, what it shows."""
    ours, theirs = pty.openpty()
    p = subprocess.Popen([binary("jsonlfsctl"), "check", *argv], env=ENV, stderr=theirs,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    os.close(theirs)
    shown = b""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not select.select([ours], [], [], 0.2)[0]:
            continue
        try:
            piece = os.read(ours, 65536)
        except OSError:  # EIO: the other side is closed
            break
        shown += piece
    out = p.stdout.read()
    p.stdout.close()
    os.close(ours)
    return p.wait(10), out, shown


def test_progress_is_for_terminals_and_long_runs(workdir):
    (workdir / "short").mkdir()
    lay_down(workdir / "short", {"a.jsonl": GOOD})
    assert on_terminal(str(workdir / "short"))[2] == b""
    # A fresh tail is waited for, which takes as long as a large file.
    long = workdir / "long"
    long.mkdir()
    (long / "a.jsonl").write_bytes(b'{"torn')
    lay_down(long, {"b.jsonl": GOOD * 400000})
    code, out, shown = on_terminal(str(long))
    assert code == 4 and b"torn-tail" in out
    steps = [int(x) for x in re.findall(rb"(\d+) %", shown)]
    assert steps and steps == sorted(steps) and steps[-1] <= 100
    assert re.search(rb"iB of 3.1 MiB  \S+ [KM]iB/s  \d+:\d\d left  ", shown)
    assert shown.endswith(b"\r\x1b[K")
    # In a pipe: silence.
    p = check(long)
    assert p.returncode == 4 and p.stderr == b""


# ---- mounted vaults ----


def test_a_mounted_vault(m):
    append(m.p("x.jsonl"), GOOD * 50)
    os.mkdir(m.p("sub"))
    append(m.p("sub/y.jsonl"), b'["' + b"x" * 5000 + b'"]\n')
    p = check(m.mnt, check=0)
    assert b"clean" in p.stdout
    assert b"is mounted, and the mount hides torn tails" in p.stderr
    assert f"jsonlfsctl check {m.source}".encode() in p.stderr
    d = report(m.mnt)
    assert (d["files"], d["records"], d["oversize"]) == (2, 51, 1)
    assert d["mounts"] == [{"mountpoint": str(m.mnt), "source": str(m.source),
                            "source_reachable": True}]
    assert report(m.p("sub"))["files"] == 1
    # The backing directory has a state directory, but no mount.
    p = check(m.source, check=0)
    assert p.stderr == b""


@pytest.mark.damaged
def test_a_torn_tail_shows_in_the_backing_directory_only(mount):
    def prepare(v):
        lay_down(v, {"x.jsonl": GOOD + b'{"torn', "y.jsonl": GOOD + b"bad\n" + GOOD})

    m = mount(prepare=prepare)
    d = report(m.mnt, code=4)
    assert d["damage"]["torn-tail"] == 0 and d["damage"]["invalid"] == 1
    d = report(m.source, code=4)
    assert d["damage"]["torn-tail"] == 1 and d["damage"]["invalid"] == 1
    # Reading has changed nothing; the next append repairs.
    assert m.b("x.jsonl").read_bytes() == GOOD + b'{"torn'
    append(m.p("x.jsonl"), GOOD)
    assert report(m.source, code=4)["damage"]["torn-tail"] == 0


def test_a_self_mount_is_checked_through_itself(mount):
    m = mount(self_mount=True)
    append(m.p("x.jsonl"), GOOD)
    p = check(m.mnt, check=0)
    assert b"hides torn tails" in p.stderr and b"jsonlfsctl check" not in p.stderr
    assert report(m.mnt)["mounts"][0]["source_reachable"] is False


@pytest.mark.damaged
def test_the_options_of_the_mount_are_the_defaults(mount):
    m = mount("match=*.log", "pipebuf=512")
    append(m.p("x.log"), b'["' + b"x" * 600 + b'"]\n')
    m.p("y.jsonl").write_bytes(b"not governed\n")
    d = report(m.mnt)
    assert (d["files"], d["oversize"]) == (1, 1)
    assert report("--match=*.jsonl", m.mnt, code=4)["files"] == 1
    assert report("--pipebuf=4096", m.mnt)["oversize"] == 0


def test_the_report_names_programs_that_rely_on_the_mount(m):
    append(m.p("good.jsonl"), GOOD)
    with open(m.p("bad.jsonl"), "wb", buffering=0) as f:
        f.write(GOOD[:3])
        f.write(GOOD[3:])
    wait_for(lambda: m.counter("records") == 2)
    d = report(m.mnt, m.p("bad.jsonl"))  # the mount is one, by whatever path
    assert d["compliant"] is True and len(d["mounts"]) == 1
    found = {p["path"]: p for p in d["programs"]}
    assert {"no-append", "split-writes", "no-sync"} <= set(found["bad.jsonl"]["habits"])
    assert found["bad.jsonl"]["records"] == 1 and found["bad.jsonl"]["program"]
    assert found["bad.jsonl"]["mountpoint"] == str(m.mnt)
    assert len(found) == len(d["programs"])
    # Who opens to append, and syncs, has nothing to answer for.
    fd = os.open(m.p("best.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, GOOD)
    os.fsync(fd)
    os.close(fd)
    assert "best.jsonl" not in {p["path"] for p in report(m.mnt)["programs"]}


def test_checking_beside_writers(m):
    """Through the mount there is never half a record, whenever one looks."""
    script = ("import os,sys,json\n"
              "n=0\n"
              "while True:\n"
              "  n+=1\n"
              "  f=open(sys.argv[1],'ab',0)\n"
              "  r=json.dumps({'n':n,'pad':'x'*(n*37%9000)}).encode()+b'\\n'\n"
              "  f.write(r[:len(r)//2]); f.write(r[len(r)//2:]); f.close()\n")
    with running(PYTHON, "-c", script, m.p("x.jsonl")), \
            running(PYTHON, "-c", script, m.p("x.jsonl")):
        wait_for(lambda: m.counter("records") > 20)
        for _ in range(10):
            d = report(m.mnt)
            assert sum(d["damage"].values()) == 0 and d["records"] > 0
    assert report(m.source)["records"] >= d["records"]
