# SPDX-License-Identifier: MIT
"""The archive is a bounded trash: what goes for what, and whose."""
import errno
import os
import stat
import time

import pytest
from util import (NOBODY, append, as_user, ctl, opened, parse, records, refused, sh,
                  wait_for)

OTHER = 12345
TWO = b"{\"n\":1}\n{\"n\":2}\n"
STAMP = "%Y%m%dT%H%M%S.123456789Z"


def line(size, fill="x"):
    return b'"' + fill.encode() * (size - 3) + b'"\n'


def entries(m):
    return [e["path"] for e in parse(ctl("archive", "list", "--json", m.mnt).stdout)["archive"]]


def remove(m, name, size, uid=0, owner=None):
    append(m.p(name), line(size))
    os.chown(m.p(name), uid if owner is None else owner, -1)
    as_user(uid, m.p(name).unlink) if uid else m.p(name).unlink()


@pytest.fixture
def shared(mount):
    m = mount("archive_max=100K")
    os.chmod(m.mnt, 0o777)
    return m


def test_the_oldest_of_whoever_removes_go(shared):
    m = shared
    for n in range(12):
        remove(m, f"a{n}.jsonl", 10_000, NOBODY)
    # Three quarters of it, the newest.
    assert entries(m) == [f"a{n}.jsonl" for n in range(5, 12)]
    assert m.status()["archive"]["percent"] == 91
    out = ctl("status", m.mnt).stdout
    assert b"attention" in out and b"archive: 91 %" in out and b"so far 5;" in out
    for n in range(9):
        remove(m, f"b{n}.jsonl", 10_000, OTHER)
    assert [p for p in entries(m) if p[0] == "a"] == [f"a{n}.jsonl" for n in range(5, 12)]
    assert [p for p in entries(m) if p[0] == "b"] == ["b6.jsonl", "b7.jsonl", "b8.jsonl"]
    wait_for(lambda: len(list(m.state("archive").iterdir())) == 10, "the evicted are gone")
    assert m.counter("evicted") == 11
    m.expect_log("archive-evicted", "room for")


def test_others_cannot_push_anything_out(shared):
    m = shared
    for n in range(7):
        remove(m, f"a{n}.jsonl", 10_000, NOBODY)
    before = entries(m)
    # Removed by somebody else it counts for him, and does not go for his own either.
    for n in range(3):
        remove(m, f"c{n}.jsonl", 10_000, OTHER, owner=NOBODY)
    append(m.p("d.jsonl"), line(10_000))
    os.chown(m.p("d.jsonl"), NOBODY, -1)
    with refused(errno.EDQUOT):
        as_user(OTHER, m.p("d.jsonl").unlink)
    m.expect_log("denied", "archive_max")
    assert entries(m)[:7] == before and m.p("d.jsonl").exists()
    # The owner can remove it: his oldest goes.
    as_user(NOBODY, m.p("d.jsonl").unlink)
    assert entries(m)[:6] == before[1:] and entries(m)[-1] == "d.jsonl"
    # Who counts for what is still known after a new mount.
    m.restart()
    append(m.p("e.jsonl"), line(10_000))
    os.chown(m.p("e.jsonl"), NOBODY, -1)
    with refused(errno.EDQUOT):
        as_user(OTHER, m.p("e.jsonl").unlink)


def test_what_a_program_still_writes_stays(shared):
    m = shared
    with opened(m.p("a.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
        os.write(fd, line(10_000))
        m.p("a.jsonl").unlink()
        for n in range(12):
            remove(m, f"b{n}.jsonl", 10_000)
        assert entries(m)[0] == "a.jsonl"
        # Its growth counts.
        os.write(fd, line(30_000))
        os.fsync(fd)
        wait_for(lambda: m.status()["archive"]["bytes"] >= 90_000, "the growth")
        remove(m, "c.jsonl", 10_000)
        assert m.status()["archive"]["bytes"] <= 76_800
        assert entries(m)[0] == "a.jsonl"
    wait_for(lambda: m.status()["open_handles"] == 0, "the release")
    time.sleep(1.1)  # it is looked at once a second
    m.status()
    remove(m, "d.jsonl", 40_000)
    assert "a.jsonl" not in entries(m)


def test_what_is_old_goes(mount, workdir):
    vault = workdir / "v"
    archive = vault / ".jsonlfs/archive"
    archive.mkdir(parents=True)
    day = 86400
    for age in (31, 29):
        name = time.strftime(STAMP, time.gmtime(time.time() - age * day)) + f"-{age}.jsonl"
        (archive / name).write_bytes(TWO)
    m = mount(source=vault)
    wait_for(lambda: entries(m) == ["29.jsonl"], "the old one is gone")
    m.expect_log("archive-evicted", "archive_age")
    assert m.status()["archive"]["bytes"] == len(TWO)


def test_names_cannot_be_guessed(m):
    """The files keep their mode, so that only a secret name keeps a private path private."""
    m.p("private").mkdir(0o700)
    append(m.p("private/x.jsonl"), TWO)
    m.p("private/x.jsonl").unlink()
    (name,) = os.listdir(m.state("archive"))
    assert stat.S_IMODE(m.state("archive").stat().st_mode) == 0o711
    digits = name.split("-")[0].split(".")[2]
    assert len(digits) == 16 and int(digits, 16)
    with refused(errno.EACCES):
        as_user(NOBODY, lambda: os.listdir(m.state("archive")))


def test_drop_all_or_some(m):
    remove(m, "a.jsonl", 100, NOBODY)
    remove(m, "b.jsonl", 100)
    ctl("archive", "drop", m.mnt, "--older-than=1h")
    assert entries(m) == ["a.jsonl", "b.jsonl"]
    assert b"1 entr" in ctl("archive", "drop", m.mnt, f"--owner={NOBODY}").stdout
    assert entries(m) == ["b.jsonl"]
    time.sleep(1.1)
    ctl("archive", "drop", "--older-than=1s", m.mnt)
    assert entries(m) == [] and m.status()["archive"]["bytes"] == 0
    remove(m, "c.jsonl", 100)
    ctl("archive", "drop", "--all", m.mnt)
    assert entries(m) == []
    for wrong in (["--all", "name"], [], ["--older-than=x", ""], ["--owner=nobody-here"]):
        ctl("archive", "drop", m.mnt, *wrong, code=16)


def test_quarantine_drop_all(m):
    for n in range(3):
        sh(f"echo oops{n} >> x{n}.jsonl", m.mnt, check=None)
    assert m.status()["quarantine"]["entries"] == 3
    ctl("quarantine", "drop", m.mnt, "--owner=nobody")
    assert m.status()["quarantine"]["entries"] == 3
    ctl("quarantine", "drop", m.mnt, "--all", "--older-than=0s")
    assert m.status()["quarantine"] == {"entries": 0, "bytes": 0, "max": 256 << 20}
    assert records(m.state("quarantine.jsonl")) == []


def test_programs_that_remove_old_logs_go_on(mount):
    """lumberjack, winston, log4j2: rename, and remove what is beyond the limit."""
    m = mount("archive_max=1M")
    for n in range(10):
        append(m.p("app.jsonl"), line(300_000))
        os.rename(m.p("app.jsonl"), m.p(f"app-{n}.jsonl"))
        if n >= 2:
            m.p(f"app-{n - 2}.jsonl").unlink()
    assert sorted(p.name for p in m.mnt.glob("app*")) == ["app-8.jsonl", "app-9.jsonl"]
