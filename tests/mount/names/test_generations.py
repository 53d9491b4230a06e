# SPDX-License-Identifier: MIT
"""Backups, and generations that are still written, go to the archive with their name; a
rotation chain that overwrites its oldest goes on."""

import errno
import os
import shutil

import pytest
from util import (NOBODY, append, as_user, ctl, opened, parse, records, refused,
                  renameat2, run, sh, wait_for)

OLD = b'{"n":1}\n{"n":2}\n{"n":3}\n'
OTHER = 12345


def archived(m):
    return {e["path"]: e for e in
            parse(ctl("archive", "list", "--json", m.mnt).stdout)["archive"]}


def content(m, path):
    return (m.state("archive") / archived(m)[path]["file"]).read_bytes()


EDITORS = {
    "vim": ("x.jsonl~", "vim -u NONE -N -es -c 'set nocompatible backup writebackup "
            "backupcopy=no backupdir=. backupskip=' -c '2d' -c 'wq' x.jsonl; rm x.jsonl~"),
    "sed": ("x.jsonl.bak", "sed -i.bak 2d x.jsonl && rm x.jsonl.bak"),
    "perl": ("x.jsonl.bak", "perl -i.bak -ne 'print unless /2/' x.jsonl && rm x.jsonl.bak"),
    "fileinput": ("x.jsonl.bak", "python3 -c \"import fileinput\nfor line in "
                  "fileinput.input('x.jsonl', inplace=True):\n"
                  "    if '2' not in line: print(line, end='')\""),
    "rsync": ("x.jsonl~", "grep -v 2 x.jsonl > ../new.jsonl; touch -d 2001-01-01 ../new.jsonl;"
              " rsync --backup -t ../new.jsonl x.jsonl && rm x.jsonl~"),
}


@pytest.mark.parametrize("editor", EDITORS)
def test_the_backup_of_an_editor_is_archived_when_it_is_deleted(m, editor):
    name, script = EDITORS[editor]
    append(m.p("x.jsonl"), OLD)
    sh(script, m.mnt)
    assert m.both("x.jsonl") == b'{"n":1}\n{"n":3}\n'
    assert not m.p(name).exists()
    assert content(m, name) == OLD


@pytest.mark.parametrize("ending", ["~", ".bak", ".old", ".orig", ".save", ".bak-20261120", ".1.old"])
def test_a_backup_whose_records_are_elsewhere_is_removed(m, ending):
    x, backup = m.p("x.jsonl"), m.p("x.jsonl" + ending)
    append(x, OLD)
    shutil.copy(x, backup)
    append(x, b'{"n":4}\n')
    backup.unlink()  # a prefix of the log
    assert archived(m) == {}
    backup.write_bytes(OLD[:-1])  # without its final newline
    backup.unlink()
    assert archived(m) == {}
    backup.write_bytes(b'{"other":1}\n')
    backup.unlink()
    assert content(m, "x.jsonl" + ending) == b'{"other":1}\n'
    backup.write_bytes(b'{"other":1}\n')  # it is there already
    backup.unlink()
    assert len(os.listdir(m.state("archive"))) == 1


def test_generations_of_a_rotation_are_removed(m):
    for ending in (".1", "-20261120", ".2026-11-20T10:11:12Z"):
        m.p("x.jsonl" + ending).write_bytes(b'{"a":1}\n')
        m.p("x.jsonl" + ending).unlink()
    m.p("other~").write_bytes(b"of nothing here")
    m.p("other~").unlink()
    assert archived(m) == {}


def test_unlink_allow_is_for_backups_too(mount):
    m = mount("unlink=allow")
    m.p("x.jsonl~").write_bytes(OLD)
    m.p("x.jsonl~").unlink()
    assert archived(m) == {}


def test_a_backup_that_is_replaced_is_archived(m):
    append(m.p("x.jsonl"), OLD)
    m.p("x.jsonl~").write_bytes(b'{"older":1}\n')
    os.rename(m.p("x.jsonl"), m.p("x.jsonl~"))
    assert content(m, "x.jsonl~") == b'{"older":1}\n'
    m.p("tmp").write_bytes(b'{"new":1}\n')
    os.rename(m.p("tmp"), m.p("x.jsonl~"))
    assert OLD in [p.read_bytes() for p in m.state("archive").iterdir()]
    # A rename that fails leaves nothing behind.
    with refused(errno.EISDIR):
        m.p("d").mkdir()
        os.rename(m.p("x.jsonl~"), m.p("d"))
    assert len(os.listdir(m.state("archive"))) == 2


@pytest.mark.parametrize("replaced", [False, True])
def test_a_logger_that_has_a_removed_generation_open_loses_nothing(m, replaced):
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
        os.write(fd, OLD)
        os.rename(m.p("x.jsonl"), m.p("x.jsonl.1"))
        if replaced:
            m.p("x.jsonl.0").write_bytes(b'{"a":1}\n')
            os.rename(m.p("x.jsonl.0"), m.p("x.jsonl.1"))
        else:
            m.p("x.jsonl.1").unlink()
        os.write(fd, b'{"n":4}\n')
        os.fsync(fd)
    assert content(m, "x.jsonl.1") == OLD + b'{"n":4}\n'


# ---- copytruncate ----


def copy_and_cut(m, uid):
    """What logrotate's copytruncate does, by this user."""
    def body():
        m.p("x.jsonl.1").write_bytes(m.p("x.jsonl").read_bytes())
        os.truncate(m.p("x.jsonl"), 0)

    as_user(uid, body)


def test_a_copy_of_somebody_else_is_not_the_only_one(m):
    os.chmod(m.mnt, 0o1777)
    append(m.p("x.jsonl"), OLD)
    os.chown(m.p("x.jsonl"), NOBODY, -1)
    os.chmod(m.p("x.jsonl"), 0o666)
    copy_and_cut(m, OTHER)
    assert m.both("x.jsonl") == b""
    as_user(OTHER, m.p("x.jsonl.1").unlink)
    # It counts for the one who cut it.
    assert content(m, "x.jsonl") == OLD and f".u{OTHER}-" in archived(m)["x.jsonl"]["file"]
    assert archived(m)["x.jsonl"]["uid"] == NOBODY
    append(m.p("x.jsonl"), OLD + OLD)
    copy_and_cut(m, NOBODY)  # the owner's own copy is one
    assert m.both("x.jsonl") == b"" and len(os.listdir(m.state("archive"))) == 1


def test_a_foreign_copy_and_no_room(mount):
    m = mount("archive_max=10")
    os.chmod(m.mnt, 0o1777)
    append(m.p("x.jsonl"), OLD)
    os.chown(m.p("x.jsonl"), NOBODY, -1)
    os.chmod(m.p("x.jsonl"), 0o666)
    with refused(errno.EDQUOT):
        copy_and_cut(m, OTHER)
    assert m.both("x.jsonl") == OLD


# ---- chains ----


@pytest.mark.parametrize("first,second", [
    ("w1.jsonl", "w2.jsonl"), ("w.jsonl", "w1.jsonl"), ("w-2026-11-28.jsonl", "w-2026-11-29.jsonl"),
    ("w.9.jsonl", "w.10.jsonl")])
def test_a_chain_that_overwrites_its_oldest(m, first, second):
    append(m.p(first), b'{"n":2}\n')
    append(m.p(second), b'{"n":1}\n')
    inode = m.p(first).stat().st_ino
    os.rename(m.p(first), m.p(second))
    assert m.both(second) == b'{"n":2}\n' and m.p(second).stat().st_ino == inode
    assert content(m, second) == b'{"n":1}\n' and not m.p(first).exists()
    append(m.p(second), b'{"n":3}\n')
    assert m.both(second) == b'{"n":2}\n{"n":3}\n'


def test_other_logs_are_not_overwritten(m):
    append(m.p("log.jsonl"), OLD)
    for name in ("new.jsonl", "log.new.jsonl", "log1.jsonl"):
        append(m.p(name), b'{"n":9}\n')
        with refused(errno.EPERM):
            os.rename(m.p(name), m.p("log.jsonl"))
    sh("jq -c . log.jsonl | head -1 > short.jsonl && ! mv short.jsonl log.jsonl", m.mnt)
    assert m.both("log.jsonl") == OLD


def test_a_chain_whose_target_is_open_is_refused(m):
    append(m.p("w1.jsonl"), b'{"n":2}\n')
    append(m.p("w2.jsonl"), b'{"n":1}\n')
    with opened(m.p("w2.jsonl"), os.O_RDONLY), refused(errno.EPERM):
        os.rename(m.p("w1.jsonl"), m.p("w2.jsonl"))
    wait_for(lambda: m.status()["open_handles"] == 0, "the release")
    os.rename(m.p("w1.jsonl"), m.p("w2.jsonl"))


def test_a_chain_goes_on_when_the_archive_has_no_room(mount):
    m = mount("archive_max=4")
    append(m.p("w1.jsonl"), b'{"n":2}\n')
    append(m.p("w2.jsonl"), b'{"n":1}\n')
    os.rename(m.p("w1.jsonl"), m.p("w2.jsonl"))
    (beside,) = m.mnt.glob("w2.jsonl.*")
    assert beside.read_bytes() == b'{"n":1}\n' and m.both("w2.jsonl") == b'{"n":2}\n'
    m.expect_log("set-beside", "archive_max")


# ---- live logs with such names ----


def test_a_live_log_that_is_named_like_a_generation_is_pointed_out(m):
    for day in (28, 29):
        append(m.p(f"app.jsonl.2026-11-{day}"), b'{"n":1}\n')
    m.p("x.jsonl.1").write_bytes(b"{}\n")  # a copy is none
    assert m.counter("ungoverned") == 2
    m.expect_log("ungoverned")  # the program is looked up after the answer
    (line,) = m.log_lines("ungoverned")
    assert "app.jsonl.2026-11-28" in line and "match=" in line
    assert b"under names of generations" in ctl("status", m.mnt).stdout


def test_a_pattern_of_its_own_governs_it(mount):
    m = mount("match=*.jsonl:app.jsonl.????-??-??")
    f = m.p("app.jsonl.2026-11-29")
    append(f, b'{"n":1}\n{"n":2}\n')
    with refused(errno.EBADMSG):
        append(f, b"not json\n")
    assert records(f) == [{"n": 1}, {"n": 2}] and m.counter("ungoverned") == 0


# ---- sources without flags for rename ----


@pytest.fixture
def bindfs(mount, workdir):
    real, source = workdir / "real", workdir / "source"
    real.mkdir()
    source.mkdir()
    run("bindfs", real, source, check=0)
    try:
        yield mount(source=source, self_mount=False)
    finally:
        for n in (workdir / "source",):
            run("umount", "-l", n)


def test_a_source_without_flags_for_rename(bindfs):
    m = bindfs
    for name in ("x", "r", "p"):
        append(m.p(f"{name}.jsonl"), OLD)
    m.p("x.jsonl").unlink()
    assert content(m, "x.jsonl") == OLD
    generation = ctl("rotate", m.p("r.jsonl")).stdout.decode().strip()
    with open(generation, "rb") as f:
        assert f.read() == OLD
    assert m.p("r.jsonl").read_bytes() == b""
    ctl("replace", m.p("p.jsonl"), stdin=b'{"new":1}\n')
    assert m.p("p.jsonl").read_bytes() == b'{"new":1}\n' and content(m, "p.jsonl") == OLD
    append(m.p("x.jsonl"), OLD)
    with refused(errno.EEXIST):
        renameat2(m.p("x.jsonl"), m.p("p.jsonl"), 1)
