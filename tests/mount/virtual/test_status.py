# SPDX-License-Identifier: MIT
"""What a mount tells of itself: the state directory, status.json and writers.json, the
quarantine, the log, and jsonlfsctl status and writers."""

import errno
import json
import os
import re
import signal
import stat
import subprocess
import threading
import time

import pytest

from util import (
    BAD,
    DAEMON,
    ENV,
    NOBODY,
    PYTHON,
    append,
    as_user,
    binary,
    opened,
    outcome,
    parse,
    refused,
    run,
    sh,
    traced,
    wait_for,
)

GOOD = b'{"a":1}\n'


def ctl(*argv, **kw):
    return run(binary("jsonlfsctl"), *argv, **kw)


# ---- status.json ----


def test_status_has_everything_that_is_promised(m):
    s = m.status()
    assert s["source"] == str(m.source) and s["mountpoint"] == str(m.mnt)
    assert re.fullmatch(r"\d+\.\d+\.\d+", s["version"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", s["started"])
    assert 0 <= s["uptime_s"] < 60
    assert s["uid"] == 0
    assert isinstance(s["passthrough"]["on"], bool)
    assert s["passthrough"]["on"] or s["passthrough"]["reason"]
    assert {"opens", "records", "bytes", "refused", "lost", "syncs", "denied"} <= set(s["totals"])
    assert s["quarantine"] == {"bytes": 0, "entries": 0, "max": 256 << 20}
    assert s["archive"] == {"bytes": 0, "entries": 0, "percent": 0, "max": 1 << 30}
    assert s["pending_bytes"] == 0
    assert s["log"]["written"] > 0 and s["log"]["suppressed"] == 0
    assert s["options"]["match"] == "*.jsonl" and s["options"]["pipebuf"] == 4096


def test_status_shows_the_options_in_effect(mount):
    m = mount("match=*.log", "onbad=quarantine", "oversize=reject", "blank=keep",
              "value=object", "sync=write", "unlink=deny", "append=strict", "maxdepth=7",
              "pipebuf=512", "maxrecord=1M", "quarantine_max=8M", "archive_max=9M")
    o = m.status()["options"]
    want = {"match": "*.log", "onbad": "quarantine", "oversize": "reject", "blank": "keep",
            "value": "object", "sync": "write", "unlink": "deny", "append": "strict",
            "maxdepth": 7, "pipebuf": 512, "maxrecord": 1 << 20, "quarantine_max": 8 << 20,
            "archive_max": 9 << 20}
    assert {k: o[k] for k in want} == want


def test_status_shows_every_option(mount):
    """Whatever -h names is there, under its name, in milliseconds what is written as seconds."""
    m = mount("follow=path", "killed=commit", "lostupdate=refuse", "onbroken=empty",
              "nosupervise", "attr_timeout=0.5", "locktimeout=2")
    o = m.status()["options"]
    assert (o["follow"], o["killed"], o["lostupdate"], o["onbroken"], o["supervise"]) == (
        "path", "commit", "refuse", "empty", False)
    assert (o["attr_timeout_ms"], o["locktimeout_ms"], o["max_threads"]) == (500, 2000, 10)
    told = run(binary("jsonlfs"), "-h", check=0).stdout.decode()
    names = {n.split("=")[0].split(",")[0] for n in re.findall(r"^    -o (\S+)", told, re.M)}
    assert {"match", "follow", "unlink", "archive_max"} <= names, told
    assert names - {n.removesuffix("_ms") for n in o} <= {"config", "noexec"}  # mount(8) has the latter


def test_status_is_a_snapshot_made_at_open(m):
    path = m.p(".jsonlfs/status.json")
    with opened(path, os.O_RDONLY) as fd:
        before = parse(os.pread(fd, 1 << 20, 0))
        append(m.p("x.jsonl"), GOOD)
        # Piece by piece, and again from the start: the same text.
        pieces = b"".join(os.pread(fd, 7, at) for at in range(0, 1 << 14, 7))
        assert parse(pieces) == before
        assert os.pread(fd, 10, 1 << 20) == b""
        end = os.lseek(fd, 0, os.SEEK_HOLE)
        assert end == len(pieces)
        assert os.lseek(fd, 5, os.SEEK_DATA) == 5
        assert outcome(lambda: os.lseek(fd, end, os.SEEK_DATA)) == errno.ENXIO
    assert before["totals"]["records"] == 0
    assert m.status()["totals"]["records"] == 1


def test_status_is_readable_by_every_program(m):
    path = m.p(".jsonlfs/status.json")
    st = os.stat(path)
    assert stat.S_IMODE(st.st_mode) == 0o444 and st.st_uid == 0
    for command in (["cat", path], ["head", "-c", "1000000", path], ["jq", ".", path],
                    ["grep", "", path], ["sed", "", path], ["python3", "-m", "json.tool", path]):
        assert parse(run(*command, check=0).stdout)["source"] == str(m.source)
    run("cp", path, m.p("copy.json"), check=0)
    assert parse(m.p("copy.json").read_bytes())["source"] == str(m.source)
    for uid in (None, NOBODY):
        assert outcome(lambda: as_user(uid, lambda: os.open(path, os.O_WRONLY))) in (
            errno.EPERM, errno.EROFS, errno.EACCES)


def test_pending_bytes_and_open_handles_come_and_go(m):
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
        os.write(fd, b'{"a":"' + b"x" * 1000)
        s = m.status()
        assert s["pending_bytes"] >= 1006
        assert s["open_handles"] >= 1
        os.write(fd, b'"}\n')
    assert m.status()["pending_bytes"] == 0
    # The handle that reads status.json is made after the text.
    wait_for(lambda: m.status()["open_handles"] == 0, "the handles to go")


def test_many_readers_at_once(m):
    problems = []

    def read():
        try:
            for _ in range(50):
                m.status()
                m.writers()
        except Exception as e:
            problems.append(e)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for t in threads:
        t.start()
    for i in range(200):
        append(m.p(f"{i % 20}.jsonl"), GOOD)
    for t in threads:
        t.join(30)
    assert not problems
    assert m.status()["totals"]["records"] == 200


def test_archive_and_quarantine_are_counted_again_after_a_restart(m):
    with refused(BAD):
        append(m.p("x.jsonl"), b"oops\n")
    append(m.p("y.jsonl"), GOOD * 1000)
    os.unlink(m.p("y.jsonl"))
    wait_for(lambda: m.status()["archive"]["bytes"] >= 8000, "the archive")
    before = m.status()
    m.restart()
    after = m.status()
    assert after["quarantine"] == before["quarantine"]
    assert after["archive"] == before["archive"]
    assert after["totals"]["records"] == 0


# ---- writers.json ----


def test_habits_are_listed_by_name(m):
    append(m.p("good.jsonl"), GOOD)
    with opened(m.p("bad.jsonl"), os.O_WRONLY | os.O_CREAT) as fd:
        os.write(fd, b'{"n"')
        os.write(fd, b":1}\n")
        os.write(fd, b'["' + b"x" * 5000 + b'"]\n')
        os.write(fd, b'{"n":2}')
    with opened(m.p("sync.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_APPEND) as fd:
        os.write(fd, GOOD)
        os.fsync(fd)
    wait_for(lambda: m.writer("bad.jsonl")["records"] == 3, "the last record")
    assert set(m.writer("bad.jsonl")["habits"]) == {
        "no-append", "oversize", "missing-newline", "split-writes", "no-sync"}
    assert m.writer("good.jsonl")["habits"] == ["no-sync"]
    assert m.writer("sync.jsonl")["habits"] == []


def test_writers_know_times_and_sizes(m):
    start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1))
    append(m.p("x.jsonl"), GOOD)
    append(m.p("x.jsonl"), b'{"long":"' + b"x" * 100 + b'"}\n')
    w = m.writer("x.jsonl")
    assert start <= w["first"] <= w["last"]
    assert w["largest"] == 112
    assert w["opens"] == 2 and w["records"] == 2


# What a program is: unmodified interpreters, found in PATH as a user would.
PROGRAMS = {
    "bash": ("bash", "echo '{}' >> \"$1\"\n"),
    "sh": ("dash", "echo '{}' >> \"$1\"\n"),
    "python3": ("python3", "import sys\nopen(sys.argv[1], 'a').write('{}\\n')\n"),
    "perl": ("perl", "open(my $f, '>>', $ARGV[0]); print $f \"{}\\n\"; close $f;\n"),
    "node": ("node", "require('fs').appendFileSync(process.argv[2], '{}\\n')\n"),
}


@pytest.mark.parametrize("interpreter", PROGRAMS)
def test_the_script_stands_beside_its_interpreter(m, workdir, interpreter):
    exe, text = PROGRAMS[interpreter]
    script = workdir / f"writer-{interpreter}"
    script.write_text(text)
    run(interpreter, script.name, m.p("x.jsonl"), "secret", cwd=workdir, check=0)
    w = m.writer("x.jsonl")
    assert re.fullmatch(rf"/\S*/{exe}[0-9.]* {re.escape(str(script))}", w["program"]), w
    # As an executable with #! it is the same program.
    script.write_text(f"#!{run('which', interpreter).stdout.decode().strip()}\n{text}")
    script.chmod(0o755)
    run(script, m.p("x.jsonl"), "secret", cwd=workdir, check=0)
    assert m.writer("x.jsonl")["records"] == 2


def test_a_script_is_looked_at_seldom(m, workdir):
    """A shell opens the log anew for each line: who it is was asked a moment ago."""
    script, out = workdir / "loop", workdir / "calls"
    script.write_text('for i in $(seq 200); do echo "{}" >> "$1"; done')
    with traced(m, "-qq", "-e", "trace=socketpair", "-o", out):
        begun = time.monotonic()
        run("sh", script, m.p("x.jsonl"), check=0)
        seconds = time.monotonic() - begun
    assert 1 <= out.read_text().count("socketpair(") <= seconds + 2
    w, = m.writers()
    assert w["program"].endswith(f" {script}") and w["records"] == 200



def test_code_on_the_command_line_is_not_shown(m):
    sh("echo '{\"secret\":1}' >> x.jsonl", m.mnt)
    run(PYTHON, "-c", "open('y.jsonl','a').write('{\"secret\":1}\\n')", cwd=m.mnt, check=0)
    run("perl", "-e", "open F,'>>z.jsonl'; print F \"{\\\"secret\\\":1}\\n\"", cwd=m.mnt, check=0)
    assert m.writer("x.jsonl")["program"].endswith("bash -c")
    assert m.writer("y.jsonl")["program"].endswith(" -c")
    assert m.writer("z.jsonl")["program"].endswith("perl -e")
    assert "secret" not in m.p(".jsonlfs/writers.json").read_text()
    assert "secret" not in m.log()


def test_a_program_that_execs_another_is_two_programs(m):
    sh("exec 3>>x.jsonl; echo '{}' >&3; exec tee -a y.jsonl <<< '{}'", m.mnt)
    assert "bash" in m.writer("x.jsonl")["program"]
    assert m.writer("y.jsonl")["program"].endswith("/tee")


# ---- the state directory ----


def test_what_the_state_directory_is_made_of(m):
    state = m.state()
    want = {".": 0o755, "quarantine": 0o711, "archive": 0o711, ".gitignore": 0o644}
    for name, mode in want.items():
        st = os.stat(state / name)
        assert (stat.S_IMODE(st.st_mode), st.st_uid) == (mode, 0), name
    assert (state / ".gitignore").read_text() == "*\n"


def test_a_umask_does_not_change_it(workdir):
    (workdir / "v").mkdir()
    (workdir / "m").mkdir()
    p = run("/bin/bash", "-c", 'umask 077; exec "$1" "$2" "$3"', "bash", binary("jsonlfs"),
            workdir / "v", workdir / "m", timeout=20)
    try:
        assert p.returncode == 0, p.stderr
        for name, mode in ((".", 0o755), ("quarantine", 0o711), ("archive", 0o711)):
            assert stat.S_IMODE(os.stat(workdir / "v/.jsonlfs" / name).st_mode) == mode
        as_user(NOBODY, lambda: (workdir / "m/.jsonlfs/status.json").read_bytes())
    finally:
        run("umount", workdir / "m", timeout=20)


def attempt_to_mount(workdir, *options):
    argv = [binary("jsonlfs"), "-f"]
    for o in options:
        argv += ["-o", o]
    return run(*argv, workdir / "v", workdir / "m", timeout=20)


def test_a_state_directory_that_could_be_anybodys_is_refused(workdir):
    (workdir / "v").mkdir()
    (workdir / "m").mkdir()
    state = workdir / "v/.jsonlfs"
    elsewhere = workdir / "elsewhere"
    elsewhere.mkdir()
    # A link.
    state.symlink_to(elsewhere)
    p = attempt_to_mount(workdir)
    assert p.returncode == 32 and b"not a directory" in p.stderr, p
    assert os.listdir(elsewhere) == []
    state.unlink()
    # A file.
    state.write_text("")
    p = attempt_to_mount(workdir)
    assert p.returncode == 32 and b"not a directory" in p.stderr, p
    state.unlink()
    # Another user's.
    state.mkdir()
    os.chown(state, NOBODY, NOBODY)
    p = attempt_to_mount(workdir)
    assert p.returncode == 32 and b"belongs to user 65534" in p.stderr, p
    os.chown(state, 0, 0)
    # A part of it.
    (state / "quarantine").symlink_to(elsewhere)
    p = attempt_to_mount(workdir)
    assert p.returncode == 32, p
    assert os.listdir(elsewhere) == []


def test_a_read_only_mount_leaves_nothing_behind(mount):
    m = mount("ro", prepare=lambda v: (v / "x.jsonl").write_bytes(GOOD))
    assert m.p("x.jsonl").read_bytes() == GOOD
    assert outcome(lambda: append(m.p("x.jsonl"), GOOD)) == errno.EROFS
    assert os.listdir(m.mnt) == ["x.jsonl"]
    m.stop()
    assert os.listdir(m.source) == ["x.jsonl"]


def test_a_read_only_mount_of_a_vault_that_has_a_state(mount):
    m = mount()
    with refused(BAD):
        append(m.p("x.jsonl"), b"oops\n")
    m.stop()
    m.options = ["ro"]
    m.start()
    assert m.status()["options"]["ro"] is True
    assert m.status()["quarantine"]["entries"] == 1
    assert ctl("status", m.mnt).returncode == 0


# ---- the quarantine ----


def test_set_aside_bytes_belong_to_whom_the_file_belongs(m):
    path = m.p("private.jsonl")
    as_user(NOBODY, lambda: append(path, GOOD))
    os.chmod(path, 0o600)

    def write_badly():
        with refused(BAD):
            append(path, b"oops\n")

    as_user(NOBODY, write_badly)
    # Also when another writes: what counts is who may read the file.
    with refused(BAD):
        append(path, b"oops of root\n")
    entries = m.wait_quarantine(2)
    assert [e["uid"] for e, _ in entries] == [NOBODY, 0]
    for entry, data in entries:
        st = os.stat(m.state("quarantine") / entry["file"])
        assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (NOBODY, NOBODY, 0o600)
        shown = m.p(".jsonlfs/quarantine") / entry["file"]
        assert as_user(NOBODY, shown.read_bytes) == data
        assert as_user(DAEMON, lambda: outcome(shown.read_bytes)) == errno.EACCES
    # Names are not for everybody to list, and the index is root's.
    assert as_user(NOBODY, lambda: outcome(
        lambda: os.listdir(m.p(".jsonlfs/quarantine")))) == errno.EACCES
    assert as_user(NOBODY, lambda: outcome(
        m.p(".jsonlfs/quarantine.jsonl").read_bytes)) == errno.EACCES


def test_execution_is_never_taken_over_and_acls_are(m):
    append(m.p("x.jsonl"), GOOD)
    os.chmod(m.p("x.jsonl"), 0o750)
    run("setfacl", "-m", f"u:{DAEMON}:r", m.p("x.jsonl"), check=0)
    with refused(BAD):
        append(m.p("x.jsonl"), b"oops\n")
    (entry, _), = m.wait_quarantine(1)
    stored = m.state("quarantine") / entry["file"]
    assert not os.stat(stored).st_mode & 0o111
    shown = m.p(".jsonlfs/quarantine") / entry["file"]
    assert as_user(DAEMON, shown.read_bytes) == b"oops\n"
    assert as_user(NOBODY, lambda: outcome(shown.read_bytes)) == errno.EACCES


def test_the_same_bytes_are_kept_once(m):
    for _ in range(5):
        sh("echo the same >> x.jsonl", m.mnt, check=1)
    with refused(BAD):
        append(m.p("y.jsonl"), b"the same\n")
    assert len(m.wait_quarantine(1, "x.jsonl")) == 1
    assert len(m.wait_quarantine(1, "y.jsonl")) == 1
    assert m.counter("refused") == 6
    m.restart()
    with refused(BAD):
        append(m.p("x.jsonl"), b"the same\n")
    assert len(m.wait_quarantine(1, "x.jsonl")) == 1


@pytest.mark.limit(120)
def test_a_full_quarantine_refuses_without_a_copy_and_says_so(mount):
    m = mount("quarantine_max=2M")
    full = 0
    for i in range(60):
        with refused(BAD):
            append(m.p("x.jsonl"), b"%d " % i + b"x" * 60000 + b"\n")
    full = m.counter("quarantine_full")
    assert full > 0
    assert m.status()["quarantine"]["bytes"] <= 2 << 20
    stored = len(m.quarantine())
    assert stored + full == 60
    # Every copy that was kept is whole.
    for entry, data in m.quarantine():
        assert len(data) == entry["bytes"] and data.endswith(b"x\n")
    # A fragment has no caller to refuse: room is kept for it.
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b'{"fragment')
    wait_for(lambda: m.quarantine()[-1][1] == b'{"fragment', "the fragment")
    assert m.counter("lost") == 0
    # Another user is not shut out by the first one's share, nor is a good record.
    append(m.p("x.jsonl"), GOOD)
    assert m.both("x.jsonl") == GOOD
    p = ctl("status", m.mnt, check=0)
    assert b"attention" in p.stdout and b"quarantine full" in p.stdout


# ---- the log ----


def test_a_flood_of_refusals_is_limited_and_counted(m):
    def flood():
        for i in range(400):
            if outcome(lambda: append(m.p("x.jsonl"), b"bad %d\n" % i)) != BAD:
                raise AssertionError("not refused")

    begin = time.monotonic()
    flood()
    took = time.monotonic() - begin
    lines = m.log_lines("refused", "x.jsonl")
    # A burst of 50, and 10 a second.
    assert 50 <= len(lines) <= 51 + 10 * took
    suppressed = m.status()["log"]["suppressed"]
    assert len(lines) + suppressed >= 400
    # Another user's line is not kept out, and brings the count of what was.
    time.sleep(1.2)
    os.chmod(m.p("x.jsonl"), 0o666)

    def once():
        with refused(BAD):
            append(m.p("x.jsonl"), b"bad of nobody\n")

    as_user(NOBODY, once)
    line = m.expect_log("suppressed", "refused", "uid=0", "count=")
    assert int(re.search(r"count=(\d+)", line)[1]) > 0


def test_a_log_line_is_one_line_whatever_the_name(m):
    name = 'a\n\x1b[31mrefused path="x"\u202e\x9b.jsonl'
    with refused(BAD):
        append(m.p(name), b"oops\n")
    raw = os.path.join(os.fsencode(m.mnt), b"b\xff\n.jsonl")
    with refused(BAD):
        append(raw, b"oops\n")
    lines = wait_for(lambda: m.log_lines("refused") if len(m.log_lines("refused")) >= 2 else None)
    assert len(lines) == 2
    text = re.search(r'path=("(?:[^"\\]|\\.)*")', lines[0])[1]
    assert json.loads(text) == name
    assert all(ord(c) >= 0x20 and c not in "\u202e\x9b\x7f" for line in lines for c in line)


# ---- jsonlfsctl status ----


def test_ctl_status_is_a_table_or_the_document(m):
    append(m.p("x.jsonl"), GOOD * 3)
    with refused(BAD):
        append(m.p("x.jsonl"), b"oops\n")
    os.mkdir(m.p("sub"))
    text = ctl("status", m.mnt, check=0).stdout.decode()
    assert text.startswith(str(m.mnt) + "\n")
    assert re.search(r"source +" + re.escape(str(m.source)) + "\n", text)
    assert re.search(r"  records +3\n", text)
    assert re.search(r"lines refused +1\n", text)
    assert re.search(r"quarantine +\d+\.\d KiB of 256.0 MiB, 1 entry\n", text)
    assert "attention" not in text
    for place in (m.mnt, m.p("sub"), str(m.mnt) + "/"):
        p = ctl("status", "--json", place, check=0)
        assert parse(p.stdout)["totals"]["records"] == 3
    assert parse(ctl("status", "--json", ".", cwd=m.p("sub")).stdout)["source"] == str(m.source)
    p = ctl("status", m.mnt, uid=NOBODY, check=0)
    assert b"records" in p.stdout


def test_ctl_writers_is_a_table_or_the_document(m):
    p = ctl("writers", m.mnt, check=0)
    assert b"nobody has opened" in p.stdout
    os.chmod(m.mnt, 0o777)
    for _ in range(3):
        sh("echo '{}' >> busy.jsonl", m.mnt)
    as_user(NOBODY, lambda: append(m.p("nobody.jsonl"), GOOD))
    lines = ctl("writers", m.mnt, check=0).stdout.decode().splitlines()
    assert lines[0].split()[:3] == ["PROGRAM", "FILE", "RECORDS"]
    assert "busy.jsonl" in lines[1] and "nobody.jsonl" in lines[2]
    assert lines[1].endswith("no-sync")
    lines = ctl("writers", m.mnt, uid=NOBODY, check=0).stdout.decode().splitlines()
    assert len(lines) == 2 and "nobody.jsonl" in lines[1]
    p = ctl("writers", "--json", m.mnt, check=0)
    assert {w["path"] for w in parse(p.stdout)["writers"]} == {"busy.jsonl", "nobody.jsonl"}


def test_ctl_on_a_self_mount(mount):
    m = mount(self_mount=True)
    append(m.p("x.jsonl"), GOOD)
    assert parse(ctl("status", "--json", m.mnt, check=0).stdout)["totals"]["records"] == 1


def test_ctl_says_what_to_do_when_there_is_no_mount(workdir):
    p = ctl("status", workdir)
    assert p.returncode == 8 and p.stdout == b""
    assert b"no jsonlfs is mounted here" in p.stderr and b"jsonlfs SOURCE" in p.stderr
    p = ctl("writers", workdir / "absent")
    assert p.returncode == 8 and b"no jsonlfs is mounted here" in p.stderr


def test_ctl_says_what_to_do_when_the_mount_is_dead(m):
    m.clean = False
    m.proc.send_signal(signal.SIGKILL)
    m.proc.wait(10)
    p = ctl("status", m.mnt)
    assert p.returncode == 8
    assert b"the mount is dead" in p.stderr and b"umount -l" in p.stderr


def test_ctl_usage(m):
    for argv in ([], ["nonsense"], ["status", "--nonsense", m.mnt],
                 ["status", m.mnt, m.mnt], ["repair"], ["--json"]):
        p = ctl(*argv)
        assert p.returncode == 16, argv
        assert p.stdout == b"" and b"--help" in p.stderr, argv
    for argv in (["--help"], ["-h"], ["help"], ["check", "--help"], ["help", "check"],
                 ["status", "-h"], ["writers", "--help"]):
        p = ctl(*argv, check=0)
        assert p.stdout.startswith(b"usage: jsonlfsctl ") and p.stderr == b"", argv
    p = ctl("--version", check=0)
    assert re.fullmatch(rb"jsonlfsctl \d+\.\d+\.\d+\n", p.stdout)
    # A report that cannot be written is a failure.
    with open("/dev/full", "wb") as full:
        p = subprocess.run([binary("jsonlfsctl"), "status", "--json", m.mnt], stdout=full,
                           stderr=subprocess.PIPE, env=ENV, timeout=20)
    assert p.returncode == 8 and b"standard output" in p.stderr
