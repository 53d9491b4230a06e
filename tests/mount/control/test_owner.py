# SPDX-License-Identifier: MIT
"""A mount by root over a directory that belongs to a user: he learns why a write was refused,
restores and drops; everybody sees his own entries and events, and no others."""

import contextlib
import errno
import os
import subprocess

import pytest
from util import (
    BAD,
    DAMAGE,
    FAILED,
    NO,
    PYTHON,
    as_user,
    append,
    binary,
    ctl,
    parse,
    refused,
    run,
    running,
    wait_for,
)
from vaults import LEASE_HOLDER, ask

OWNER, WRITER, STRANGER = 61001, 61002, 61003
GOOD = b'{"a":1}\n'


def owned(mount, workdir, *options):
    vault = workdir / "owned"
    vault.mkdir()
    os.chown(vault, OWNER, OWNER)
    vault.chmod(0o777)
    return mount("allow_other", *options, source=vault)


@pytest.fixture
def m(mount, workdir):
    return owned(mount, workdir)


def refuse(path, data, code=BAD):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with refused(code):
        os.write(fd, data)
    with refused(code):
        os.close(fd)


def remove(path):
    append(path, GOOD)
    path.unlink()


def entries(what, m, uid):
    return parse(ctl(what, "list", "--json", m.mnt, uid=uid).stdout)[what]


def test_each_sees_what_is_his(m):
    for uid in (OWNER, WRITER):
        as_user(uid, lambda uid=uid: refuse(m.p(f"{uid}.jsonl"), b"bad of %d\n" % uid))
        as_user(uid, lambda uid=uid: remove(m.p(f"{uid}.gone.jsonl")))
    for what, name in (("quarantine", "{}.jsonl"), ("archive", "{}.gone.jsonl")):
        paths = {uid: sorted(e["path"] for e in entries(what, m, uid))
                 for uid in (0, OWNER, WRITER, STRANGER)}
        both = sorted(name.format(uid) for uid in (OWNER, WRITER))
        assert paths == {0: both, OWNER: both, WRITER: [name.format(WRITER)], STRANGER: []}
    (mine,) = entries("quarantine", m, WRITER)
    assert mine["reason"] and mine["text"] and mine["uid"] == WRITER
    assert ctl("quarantine", "show", m.mnt, mine["file"], uid=WRITER).stdout == \
        b"bad of %d\n" % WRITER
    # The owner of the vault is told of it, but reads only what he could have read.
    theirs = next(e for e in entries("quarantine", m, OWNER) if e["uid"] == WRITER)
    assert b"ermission denied" in ctl(
        "quarantine", "show", m.mnt, theirs["file"], uid=OWNER, code=FAILED).stderr


def test_who_wrote_to_a_file_of_others_learns_why_not(m):
    path = m.p("shared.jsonl")
    as_user(OWNER, lambda: append(path, GOOD))
    path.chmod(0o622)
    as_user(WRITER, lambda: refuse(path, b"bad\n"))
    (entry,) = entries("quarantine", m, WRITER)
    assert entry["path"] == "shared.jsonl" and entry["uid"] == WRITER
    ctl("quarantine", "show", m.mnt, entry["file"], uid=WRITER, code=FAILED)
    assert entries("quarantine", m, STRANGER) == []


def test_his_own_are_restored(m):
    as_user(WRITER, lambda: remove(m.p("w.jsonl")))
    as_user(WRITER, lambda: refuse(m.p("x.jsonl"), b"bad\n"))
    (gone,) = entries("archive", m, WRITER)
    ctl("archive", "restore", m.mnt, gone["file"], uid=WRITER)
    assert m.p("w.jsonl").read_bytes() == GOOD and m.p("w.jsonl").stat().st_uid == WRITER
    (bad,) = entries("quarantine", m, WRITER)
    ctl("quarantine", "restore", "--edited=-", m.mnt, bad["file"], stdin=GOOD, uid=WRITER)
    assert m.p("x.jsonl").read_bytes() == GOOD
    assert "restored" in entries("quarantine", m, WRITER)[0]


def test_the_owner_puts_back_what_he_cannot_read(m):
    as_user(WRITER, lambda: append(m.p("w.jsonl"), GOOD))
    m.p("w.jsonl").chmod(0o600)
    as_user(WRITER, lambda: m.p("w.jsonl").unlink())
    (gone,) = entries("archive", m, OWNER)
    for uid in (STRANGER, OWNER):
        # Nowhere else: he would read it there.
        ctl("archive", "restore", "--as", m.p("d.jsonl"), m.mnt, gone["file"], uid=uid, code=FAILED)
    ctl("archive", "restore", m.mnt, gone["file"], uid=STRANGER, code=FAILED)
    assert not m.p("w.jsonl").exists()
    said = ctl("archive", "restore", m.mnt, gone["file"], uid=OWNER).stdout
    assert said.startswith(bytes(m.p("w.jsonl")))
    # The kernel is told that a file is there now.
    wait_for(m.p("w.jsonl").exists, "the file")
    st = m.p("w.jsonl").stat()
    assert (st.st_uid, st.st_mode & 0o7777) == (WRITER, 0o600)
    assert m.p("w.jsonl").read_bytes() == GOOD
    assert b"there is a file of this name" in ctl(
        "archive", "restore", m.mnt, gone["file"], uid=OWNER, code=FAILED).stderr
    for name in ("x", "../daemon", ".", gone["file"] + "x"):
        assert as_user(OWNER, lambda name=name: ask(
            m.mnt, {"verb": "archive-restore", "name": name})["error"])


def set_aside(m, data, code=BAD):
    """An entry that the owner of the vault cannot read."""
    as_user(WRITER, lambda: append(m.p("w.jsonl"), GOOD))
    m.p("w.jsonl").chmod(0o600)
    as_user(WRITER, lambda: refuse(m.p("w.jsonl"), data, code))
    (entry,) = entries("quarantine", m, OWNER)
    return entry["file"]


def restore(m, name, *options, uid, code=0):
    return ctl("quarantine", "restore", *options, m.mnt, name, uid=uid, code=code)


def test_the_owner_restores_records_that_he_cannot_read(mount, workdir):
    """Too long by the rules of that time, and not by those of today."""
    rules = workdir / "rules.json"
    rules.write_text('{"maxrecord": "64"}')
    m = owned(mount, workdir, f"config={rules}")
    record = b'{"b":"%s"}\n' % (b"x" * 99)
    name = set_aside(m, record, errno.EMSGSIZE)
    assert b"not all of it are records" in restore(m, name, uid=OWNER, code=DAMAGE).stderr
    rules.write_text('{"maxrecord": "1K"}')
    ctl("reload", m.mnt)
    assert b"cannot be read by you" in restore(m, name, uid=STRANGER, code=FAILED).stderr
    # Not to another file, and not something else in its place.
    assert restore(m, name, "--edited=-", uid=OWNER, code=FAILED)
    assert m.both("w.jsonl") == GOOD
    assert b"1 of 1 record appended to " in restore(m, name, uid=OWNER).stdout
    assert m.both("w.jsonl") == GOOD + record
    assert b"--again" in restore(m, name, uid=OWNER, code=FAILED).stderr
    restore(m, name, "--again", uid=OWNER)
    assert m.both("w.jsonl") == GOOD + record * 2
    # The log is gone: it is made again, as private as the entry.
    m.p("w.jsonl").unlink()
    restore(m, name, "--again", uid=OWNER)
    wait_for(m.p("w.jsonl").exists, "the file")
    st = m.p("w.jsonl").stat()
    assert (st.st_uid, st.st_mode & 0o7777) == (WRITER, 0o600)
    assert m.both("w.jsonl") == record
    # More people than before would read it there.
    m.p("w.jsonl").chmod(0o644)
    assert b"more people" in restore(m, name, "--again", uid=OWNER, code=FAILED).stderr
    assert m.both("w.jsonl") == record


def test_what_is_no_entry_is_not_restored_for_the_owner(m):
    name = set_aside(m, b"bad\n")
    for name in ("x", "../daemon", ".", name + "x"):
        assert as_user(OWNER, lambda name=name: ask(
            m.mnt, {"verb": "quarantine-restore", "name": name})["error"])


@pytest.mark.parametrize("what", ["archive", "quarantine"])
def test_a_lease_on_an_entry_keeps_nobody(m, what):
    """Whose entry it is could let the daemon wait for 45 seconds."""
    name = set_aside(m, b"bad\n")
    if what == "archive":
        as_user(WRITER, lambda: m.p("w.jsonl").unlink())
        (entry,) = entries("archive", m, OWNER)
        name = entry["file"]
    with running(PYTHON, "-c", LEASE_HOLDER, m.b(f".jsonlfs/{what}/{name}"), user=WRITER, group=WRITER,
                 extra_groups=[], stdin=subprocess.PIPE) as p:
        assert p.stdout.readline() == b"held\n", p.stderr.read()
        run(binary("jsonlfsctl"), what, "restore", m.mnt, name, uid=OWNER, timeout=30)


def test_only_the_owner_drops(m):
    as_user(WRITER, lambda: remove(m.p("w.jsonl")))
    as_user(WRITER, lambda: refuse(m.p("x.jsonl"), b"bad\n"))
    for uid in (WRITER, STRANGER):
        for what in ("archive", "quarantine"):
            name = entries(what, m, 0)[0]["file"]
            assert as_user(uid, lambda what=what, name=name: ask(
                m.mnt, {"verb": f"{what}-drop", "names": [name]})["error"]) == NO
    for what in ("archive", "quarantine"):
        assert b"1 entry was removed" in ctl(what, "drop", "--all", m.mnt, uid=OWNER).stdout
        assert entries(what, m, 0) == []


def test_he_has_no_power_over_the_files_of_others(m):
    """Who keeps the vault may not have the daemon rewrite what he could not write."""
    as_user(WRITER, lambda: append(m.p("w.jsonl"), GOOD))
    with (m.p() / "w.jsonl").open("rb") as f:
        for verb in ("replace", "repair"):
            assert as_user(OWNER, lambda verb=verb: ask(
                m.mnt, {"verb": verb, "path": "w.jsonl"}, [f.fileno()])["error"]) == NO
    assert as_user(OWNER, lambda: ask(m.mnt, {"verb": "reload"})["error"]) == NO


def test_nothing_of_roots_is_left(m):
    as_user(WRITER, lambda: remove(m.p("w.jsonl")))
    as_user(WRITER, lambda: refuse(m.p("x.jsonl"), b"bad\n"))
    for what in ("archive", "quarantine"):
        ctl(what, "drop", "--all", m.mnt, uid=OWNER)
    as_user(OWNER, lambda: m.p("x.jsonl").unlink())
    m.stop()
    assert os.listdir(m.source) == []


def test_many_entries_come_in_pieces(m):
    """More than a packet of the control socket holds."""
    names = [f"{'n' * 180}-{i}.jsonl" for i in range(400)]

    def write():
        for i, name in enumerate(names):
            refuse(m.p(name), b"bad %d\n" % i)

    as_user(WRITER, write, timeout=60)
    assert sorted(e["path"] for e in entries("quarantine", m, WRITER)) == sorted(names)
    ctl("quarantine", "drop", "--all", m.mnt, uid=OWNER)
    assert entries("quarantine", m, WRITER) == []


def test_a_part_that_is_none(m):
    for part in (None, "", "daemon", "../x"):
        assert ask(m.mnt, {"verb": "entries", "part": part})["error"] != 0


def test_watched_by_each(m):
    with contextlib.ExitStack() as stack:
        watches = {uid: stack.enter_context(running(
            binary("jsonlfsctl"), "watch", "--count=1", m.mnt, user=uid))
            for uid in (OWNER, WRITER, STRANGER)}
        for p in watches.values():
            assert b"watching" in p.stdout.readline()
        as_user(WRITER, lambda: refuse(m.p("w.jsonl"), b"bad\n"))
        as_user(STRANGER, lambda: refuse(m.p("s.jsonl"), b"bad\n"))
        for uid, path in ((OWNER, b"w.jsonl"), (WRITER, b"w.jsonl"), (STRANGER, b"s.jsonl")):
            line = watches[uid].stdout.readline()
            assert b"refused" in line and path in line, (uid, line)
            assert watches[uid].wait(20) == 0


def test_without_a_mount_it_is_for_root(m):
    as_user(WRITER, lambda: remove(m.p("w.jsonl")))
    m.stop()
    for what in ("archive", "quarantine"):
        p = ctl(what, "list", m.source, uid=OWNER, code=FAILED)
        assert b"mount it, or try as root" in p.stderr
        ctl(what, "list", m.source)
