# SPDX-License-Identifier: MIT
"""The configuration file is read again while the mount is there: by SIGHUP and by
jsonlfsctl reload; and what `jsonlfsctl config check` says of it."""

import contextlib
import errno
import itertools
import json
import os
import pty
import re
import signal
import threading
import time

import pytest
from util import (
    BAD,
    DAMAGE,
    ENV,
    FAILED,
    NOBODY,
    REPO,
    USAGE,
    append,
    as_user,
    binary,
    ctl,
    parse,
    refused,
    run,
    wait_for,
)

LINE = b"no JSON\n"
_numbers = itertools.count()


def bad_line():
    """A new one each time: the same one is told to a program once a file."""
    return b"no JSON %d\n" % next(_numbers)


GOOD = b'{"a":1}\n'


@pytest.fixture
def config(workdir):
    """config(rules, **options) writes the file, as a text editor does: a new one in place
    of the old. config.path is where, config.option names it."""

    def write(rules, **options):
        fresh = workdir / "fresh"
        fresh.write_text(json.dumps({**options, "rules": rules}, indent=1))
        fresh.rename(write.path)
        return write.option

    write.path = workdir / "rules.json"
    write.option = f"config={write.path}"
    return write


def reload(m, event="reloaded"):
    """By a signal; returns the line of the log."""
    before = len(m.log_lines(event))
    m.proc.send_signal(signal.SIGHUP)
    wait_for(lambda: len(m.log_lines(event)) > before, f"a line {event}")
    return m.log_lines(event)[-1]


# ---- what changes ----


def test_a_signal_has_the_rules_read_again(mount, config):
    m = mount(config([{"match": "a.*", "onbad": "quarantine"}]))
    held = os.open(m.p("a.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(held, LINE)
    with refused(BAD):
        append(m.p("b.jsonl"), bad_line())
    config([{"match": "b.*", "onbad": "quarantine"}])
    assert f'config="{config.path}" rules=1' in reload(m)
    append(m.p("b.jsonl"), LINE + GOOD)
    with refused(BAD):
        append(m.p("a.jsonl"), bad_line())
    # A handle keeps what held when it was opened.
    os.write(held, LINE + GOOD)
    os.close(held)
    assert m.both("a.jsonl") == m.both("b.jsonl") == GOOD
    st = m.status()
    assert st["reloads"] == 1 and st["config"] == str(config.path)


@pytest.mark.damaged
def test_a_file_gets_another_class_at_once(mount, config):
    """However long the kernel may remember the name: by open, truncate, link, and for who
    holds it open."""
    rule = {"match": "*.ledger", "class": "governed"}
    m = mount(config([]), "entry_timeout=3600,attr_timeout=3600")
    for name in ("a.ledger", "b.ledger", "c.ledger", "d.ledger"):
        append(m.p(name), GOOD)
    held = os.open(m.p("d.ledger"), os.O_WRONLY | os.O_APPEND)
    config([rule])
    reload(m)
    with refused(BAD):
        append(m.p("a.ledger"), bad_line())
    with refused(errno.EPERM):
        os.truncate(m.p("b.ledger"), 0)
    with refused(errno.EPERM):
        os.link(m.p("c.ledger"), m.p("c.txt"))
    os.write(held, LINE)
    os.close(held)
    m.expect_log("bypass ", 'path="d.ledger"', "before the reload")
    assert len(m.log_lines("bypass ")) == 1
    append(m.p("a.ledger"), GOOD)
    assert m.both("a.ledger") == 2 * GOOD and m.both("d.ledger") == GOOD + LINE

    # And back again.
    config([])
    reload(m)
    append(m.p("a.ledger"), LINE)
    os.link(m.p("c.ledger"), m.p("c.txt"))
    os.truncate(m.p("b.ledger"), 3)
    assert m.both("b.ledger") == GOOD[:3]


def test_a_descriptor_can_be_opened_again_after_a_reload(mount, config):
    """There is no name on that way that the kernel could look up."""
    m = mount(config([]))
    for name in ("x.txt", "x.jsonl"):
        append(m.p(name), GOOD)
        fd = os.open(m.p(name), os.O_RDONLY)
        reload(m)
        with open(f"/proc/self/fd/{fd}", "rb") as f:
            assert f.read() == GOOD
        os.close(fd)


def test_options_of_the_command_win_and_those_of_the_mount_stay(mount, config):
    m = mount(config([]), "onbad=quarantine")
    config([], onbad="refuse", exclude="b.jsonl", max_threads=3, ro=True)
    reload(m)
    line = m.expect_log("reload-incomplete")
    assert 'options="max_threads, ro"' in line and "mount again" in line
    append(m.p("a.jsonl"), LINE)
    append(m.p("b.jsonl"), LINE)
    assert m.both("b.jsonl") == LINE
    os.unlink(m.p("b.jsonl"))
    st = m.status()
    assert st["options"]["exclude"] == "b.jsonl" and st["options"]["ro"] is False
    assert st["given"] == [{"option": "onbad", "value": "quarantine"}]


def test_the_manual_lists_what_waits_for_a_new_mount(mount, config, workdir):
    m = mount(config([]))
    kept = set()
    for options in ({"state": str(workdir / "s"), "links": "inside", "shared": "on", "log": "none",
                     "ro": True, "xattr": False, "passthrough": False, "supervise": False,
                     "attr_timeout": 7, "entry_timeout": 7, "max_threads": 3, "fsname": "x"},
                    {"allow_other": False, "default_permissions": False}, {"allow_root": True}):
        config([], **options)
        text = ctl("reload", m.mnt).stderr.decode()
        found = set(re.findall(r"\w+", text.partition("mounted anew: ")[2]))
        assert found == set(options), text
        kept |= found
    page = (REPO / "docs/jsonlfs.8").read_text()
    listed = re.search(r"^These need a new mount:\n(.*?)^The log", page, re.M | re.S)[1]
    assert set(re.findall(r"\b[a-z]\w+\b", listed)) - {"and"} == kept
    # The others are for files, take effect, or name the file.
    text = run(binary("jsonlfs"), "-h").stdout.decode()
    known = set(re.findall(r"^    -o (\w+)", text, re.M))
    rules = re.search(r"^\.SH RULES BY PATTERN(.*?)^\.SH", page, re.M | re.S)[1]
    at_once = re.search(r"^What the file says then takes(.*?)^These need", page, re.M | re.S)[1]
    words = set(re.findall(r"\b[a-z_]+\b", rules + at_once))
    assert known - kept - words - {"config", "noexec"} == set()


def test_bounds_change_at_once(mount, config):
    m = mount(config([], archive_max=10, quarantine_max="256K", pending_max="64K", maxrecord="64K"))
    for name in "abc":
        append(m.p(f"{name}.jsonl"), 4 * GOOD)

    def bounds():
        st = m.status()
        return st["quarantine"]["max"], st["archive"]["max"], st["options"]["pending_max"]

    def unfinished():
        """Two handles with 40 KiB each: the second is beyond 64 KiB."""
        with open(m.p("p.jsonl"), "ab", 0) as f, open(m.p("p.jsonl"), "ab", 0) as g:
            f.write(b'"' + b"x" * 40960)
            try:
                g.write(b'"' + b"x" * 40960)
                g.write(b'"\n')
            finally:
                f.write(b'"\n')

    def set_aside():
        for _ in range(6):
            with refused(BAD):
                append(m.p("q.jsonl"), b"{%d" % next(_numbers) + b"x" * 40000 + b"\n")
        return len(m.quarantine())

    assert bounds() == (1 << 18, 10, 65536)
    with refused(errno.EDQUOT):
        os.unlink(m.p("a.jsonl"))
    with refused(errno.ENOBUFS):
        unfinished()
    few = set_aside()
    assert 0 < few < 6

    config([], archive_max=44, quarantine_max="4M", pending_max="1M", maxrecord="64K")
    assert ctl("reload", m.mnt).stderr == b""
    assert bounds() == (4 << 20, 44, 1 << 20)
    os.unlink(m.p("a.jsonl"))
    os.unlink(m.p("b.jsonl"))  # and the other one goes
    assert m.status()["archive"]["bytes"] == 4 * len(GOOD)
    unfinished()
    assert set_aside() == few + 6

    # Smaller ones than what is there: it stays, and nothing comes to it.
    config([], archive_max=1, quarantine_max="64K", pending_max="64K", maxrecord="64K")
    ctl("reload", m.mnt)
    with refused(errno.EDQUOT):
        os.unlink(m.p("c.jsonl"))
    with refused(errno.ENOBUFS):
        unfinished()
    with refused(BAD):
        append(m.p("q.jsonl"), b"none\n")
    st = m.status()
    assert len(m.quarantine()) == few + 6 and st["archive"]["bytes"] == 4 * len(GOOD)


# ---- what is wrong ----


def test_a_wrong_file_changes_nothing(mount, config):
    m = mount(config([{"match": "a.*", "onbad": "quarantine"}], pending_max="16M"))

    def unchanged(says):
        line = reload(m, "reload-failed")
        assert says in line and "config check FILE" in line, line
        p = ctl("reload", m.mnt, code=FAILED)
        assert says in p.stderr.decode() and b"rules from before hold" in p.stderr
        append(m.p("a.jsonl"), LINE)
        with refused(BAD):
            append(m.p("b.jsonl"), bad_line())

    for text, says in (("{", f"{config.path}:1: the JSON text ends"),
                       ('{\n"rules": [{"match": "*"}]}', f"{config.path}:2: the rule for *"),
                       ('{\n\n"onbad": "x"}', f"{config.path}:3: onbad=x: allowed is"),
                       ('{"maxrecord": "64M", "pending_max": "32M"}', "pending_max must be"),
                       ('{"match": "[a"}', "match=[a: ")):
        config.path.write_text(text)
        unchanged(says)
    config.path.unlink()
    unchanged(f"{config.path}: No such file")
    config([])
    ctl("reload", m.mnt)
    with refused(BAD):
        append(m.p("a.jsonl"), bad_line())


def test_who_may_ask(mount, config):
    m = mount(config([]))
    config([], max_threads=3)
    p = as_user(NOBODY, lambda: run(binary("jsonlfsctl"), "reload", m.mnt).returncode)
    assert p == FAILED and m.status()["reloads"] == 0
    p = ctl("reload", m.mnt)
    assert b"mounted anew: max_threads" in p.stderr and m.status()["reloads"] == 1


def test_a_mount_without_a_file_has_nothing_to_read(mount, workdir):
    m = mount()
    assert b"without config=FILE" in ctl("reload", m.mnt, code=FAILED).stderr
    (workdir / "bare").mkdir()
    assert b"no mount of jsonlfs" in ctl("reload", workdir / "bare", code=FAILED).stderr
    assert b"no mount of jsonlfs" in ctl("reload", cwd=workdir / "bare", code=FAILED).stderr
    for argv in (["-x"], [m.mnt, m.mnt]):
        assert b"--help" in ctl("reload", *argv, code=USAGE).stderr
    # There the signal ends it as ever: test_mounting.py.


def test_there_is_one_file(v, config):
    option = config([])
    p = run(binary("jsonlfs"), "-o", f"{option},{option}", v.path, v.path, check=1)
    assert b"given twice" in p.stderr


# ---- from where ----


def test_a_file_that_the_mount_hides(mount, workdir):
    """It lies in the vault, which is mounted over itself."""
    def prepare(source):
        (source / "rules.json").write_text('{"rules": []}')

    m = mount(f"config={workdir}/vault0/rules.json", self_mount=True, prepare=prepare)
    m.p("rules.json").write_text('{"rules": [{"match": "*", "onbad": "quarantine"}]}')
    reload(m)
    append(m.p("a.jsonl"), LINE + GOOD)
    assert m.p("a.jsonl").read_bytes() == GOOD


def test_a_name_relative_to_where_the_command_was_given(v, workdir):
    (workdir / "r.json").write_text('{"rules": []}')
    run(binary("jsonlfs"), "-o", "config=r.json", v.path, v.path, cwd=workdir, check=0)
    try:
        (workdir / "r.json").write_text('{"onbad": "quarantine"}')
        ctl("reload", v.path)
        append(v.log("a.jsonl"), LINE + GOOD)
        assert v.log("a.jsonl").read_bytes() == GOOD
    finally:
        v.umount()


def test_a_terminal_that_hangs_up_ends_it(workdir, config):
    """That SIGHUP is from the kernel, and means that nobody is there any more."""
    source = workdir / "s"
    source.mkdir()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(binary("jsonlfs"), ["jsonlfs", "-f", "-o", config([]), source, source], ENV)
    try:
        wait_for(lambda: os.path.ismount(source), "the mount")
        os.close(terminal)
        assert os.waitpid(pid, 0)[1] == 0
        assert not os.path.ismount(source)
    finally:
        run("umount", "-l", source)


# ---- under load ----


def test_reloads_under_load(mount, config):
    """Open, append, look up, read reports while the rules change: no good record is lost,
    no bad line gets in where both rules refuse it."""
    rules = [[{"match": "x.*", "sync": "none"}],
             [{"match": "*.jsonl", "sync": "write", "pipebuf": "2K"},
              {"match": "p.*", "class": "governed"}]]
    m = mount(config(rules[0]), "entry_timeout=3600")
    stop = threading.Event()
    count = {}

    def write(name, number):
        path = m.p(name)
        while not stop.is_set():
            append(path, b'{"w":%d,"n":%d}\n' % (number, count.get(number, 0)))
            count[number] = count.get(number, 0) + 1
            with refused(BAD):
                append(m.p("x.jsonl"), bad_line())

    def look():
        while not stop.is_set():
            m.status()
            with contextlib.suppress(OSError):
                append(m.p("p.log"), GOOD)
                os.rename(m.p("p.log"), m.p("p.log.1"))

    threads = [threading.Thread(target=write, args=("x.jsonl", n)) for n in range(3)]
    threads.append(threading.Thread(target=look))
    for t in threads:
        t.start()
    end = time.monotonic() + 3
    turns = 0
    while time.monotonic() < end:
        turns += 1
        config(rules[turns % 2])
        if turns % 2:
            ctl("reload", m.mnt)
        else:
            reload(m)
    stop.set()
    for t in threads:
        t.join()
    assert m.status()["reloads"] == turns > 2
    found = [json.loads(line) for line in m.both("x.jsonl").splitlines()]
    for number, n in count.items():
        assert [r["n"] for r in found if r["w"] == number] == list(range(n)) != []


# ---- config check ----


@pytest.fixture
def explained(workdir):
    path = workdir / "c.json"
    path.write_text("""{
  "match": ["*.jsonl", "*.ndjson"],
  "exclude": "scratch/**",
  "sync": "none",
  "rules": [
    { "match": "audit/*", "sync": "write", "locktimeout": 0.25 },
    { "match": "*.ledger", "class": "governed", "maxrecord": "1M" },
    { "match": "raw.*", "class": "plain" }
  ]
}""")
    return path


def test_config_check_tells_what_applies_and_why(explained):
    p = ctl("config", "check", explained)
    assert p.stdout.decode() == f"{explained}: valid, 3 rules\n"
    p = ctl("config", "check", "-o", r"onbad=quarantine,nofail,generations=a\,b,config=/none",
            explained, "./audit/x.ledger")
    rows = [line.split(None, 2) for line in p.stdout.decode().splitlines()]
    assert rows[0] == ["audit/x.ledger"]
    assert rows[1] == ["class", "governed", f"rule 2, {explained}:7: *.ledger"]
    assert rows[2] == ["rule", "1", f"matches      {explained}:6: audit/*"]
    found = {r[0]: r[1:] for r in rows[4:]}
    assert found["sync"] == ["write", f"rule 1, {explained}:6"]
    assert found["maxrecord"] == ["1M", f"rule 2, {explained}:7"]
    assert found["locktimeout"] == ["0.25", f"rule 1, {explained}:6"]
    assert found["onbad"] == ["quarantine", "mount option"]
    assert found["unlink"] == ["archive", "default"]


@pytest.mark.parametrize("path, kind, because", [
    ("x.ndjson", "governed", "match=*.jsonl:*.ndjson ({}:2)"),
    ("scratch/x.jsonl", "plain", "exclude=scratch/** ({}:3)"),
    ("x.jsonl.1", "plain", "rotated or backed-up"),
    ("a/.git/x.jsonl", "plain", "below .git"),
    ("x.txt", "plain", "no rule gives it a class, nor does match="),
    ("raw.jsonl", "plain", "rule 3, {}:8: raw.*"),
])
def test_config_check_tells_why_a_file_is_of_its_class(explained, path, kind, because):
    found = parse(ctl("config", "check", "--json", explained, path).stdout)["paths"][0]
    assert (found["path"], found["class"]) == (path, kind)
    assert because.format(explained) in found["because"]
    assert (found["settings"] == []) == (kind == "plain")
    for s in found["settings"]:
        if s["option"] == "sync":
            assert s == {"option": "sync", "value": "none", "from": "file", "line": 4}


def test_config_check_of_a_path_in_a_vault(mount, explained, workdir):
    m = mount("onbad=quarantine,match=*.jsonl:*.x")
    m.p("audit").mkdir()

    def settings(path):
        found = parse(ctl("config", "check", "--json", explained, path).stdout)["paths"][0]
        assert found["path"] == "audit/new/x.x"
        return {s["option"]: (s["value"], s["from"]) for s in found["settings"]}

    mounted = settings(m.p("audit/new/x.x"))
    assert mounted["onbad"] == ("quarantine", "option")
    assert mounted["sync"] == ("none", "file")
    # The backing directory alone knows of no options, and *.x is nothing there.
    assert settings(m.backing / "audit/new/x.x") == ({} if m.backing != m.mnt else mounted)
    p = ctl("config", "check", explained, workdir / "nowhere/x", code=FAILED)
    assert b"lies in no vault" in p.stderr


def test_config_check_of_what_is_wrong(workdir, explained):
    bad = workdir / "bad.json"
    bad.write_text('{\n"rules": [{"match": "*", "sync": "often"}]}')
    p = ctl("config", "check", bad, "x.jsonl", code=DAMAGE)
    assert f"{bad}:2: sync=often" in p.stderr.decode() and p.stdout == b""
    bad.write_text('{"maxrecord": "1G", "pending_max": "1M"}')
    assert b"pending_max must be" in ctl("config", "check", bad, code=DAMAGE).stderr
    assert b"No such file" in ctl("config", "check", workdir / "none", code=FAILED).stderr
    assert b"sync=x" in ctl("config", "check", "-o", "sync=x", explained, code=USAGE).stderr
    for argv in ([], ["check"], ["show", explained], ["check", "-x", explained]):
        assert b"--help" in ctl("config", *argv, code=USAGE).stderr
