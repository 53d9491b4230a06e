# SPDX-License-Identifier: MIT
"""The state directory: what the daemon acts on is where nobody else can write."""

import errno
import os
import stat

import pytest
from util import NOBODY, Mount, append, as_user, binary, opened, refused, run

HEAD = b"jsonlfs stage 7\nx.jsonl\n"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def fails(vault, *words):
    """A mount of it fails, and says these."""
    p = run(binary("fs/jsonlfs"), vault, vault, check=None)
    assert p.returncode == 32, p
    for word in words:
        assert word in p.stderr.decode(), p.stderr
    return p


def test_the_parts_of_it(m):
    assert sorted(os.listdir(m.b(".jsonlfs"))) == [
        ".gitignore", "archive", "daemon", "quarantine"]
    assert mode(m.state("daemon")) == 0o700
    assert mode(m.state("archive")) == mode(m.state("quarantine")) == 0o711


def test_the_layout_of_earlier_versions_is_taken_over(mount, workdir):
    vault = workdir / "v"
    old = vault / ".jsonlfs/transactions"
    old.mkdir(parents=True)
    old.chmod(0o700)
    (old / "stage-1-1").write_bytes(HEAD + b'{"n":1}\n')
    kept = vault / ".jsonlfs/last-good"
    kept.mkdir()
    (kept / "0123-x.json").write_bytes(b"{}")
    name = "20261120T101112.123456789Z-x.jsonl"
    (vault / ".jsonlfs/archive").mkdir()
    (vault / ".jsonlfs/archive" / name).write_bytes(b"{}\n")
    m = mount(source=vault)
    assert not old.exists() and not kept.exists()
    assert sorted(os.listdir(m.b(".jsonlfs/daemon"))) == ["hosts", "last-good"]
    assert (m.b(".jsonlfs/daemon/last-good") / "0123-x.json").read_bytes() == b"{}"
    # What was staged went its way.
    (entry,) = m.wait_quarantine(1)
    assert entry[1] == b'{"n":1}\n' and entry[0]["event"] == "transaction"
    assert m.status()["archive"]["entries"] == 1


def test_what_is_in_both_places_is_not_overwritten(mount, workdir):
    vault = workdir / "v"
    for part, text in (("transactions", b"1"), ("daemon", b"2")):
        at = vault / ".jsonlfs" / part
        at.mkdir(parents=True)
        at.chmod(0o700)
        (at / "stage-1-1").write_bytes(HEAD + b'{"n":%s}\n' % text)
    m = mount(source=vault)
    assert m.wait_quarantine(1)[0][1] == b'{"n":2}\n'
    assert os.listdir(m.b(".jsonlfs/transactions")) == ["stage-1-1"]
    m.restart()
    assert [d for _, d in m.wait_quarantine(2)] == [b'{"n":2}\n', b'{"n":1}\n']
    assert not m.b(".jsonlfs/transactions").exists()


@pytest.mark.parametrize("part", ["", "daemon", "quarantine", "archive"])
@pytest.mark.parametrize("wrong", ["writable", "foreign", "link"])
def test_what_others_can_write_is_refused(workdir, part, wrong):
    vault = workdir / "v"
    at = vault / ".jsonlfs" / part
    at.mkdir(parents=True)
    if wrong == "writable":
        at.chmod(0o777)
        fails(vault, "can be written by others", "chmod go-w")
        at.chmod(0o755)
    elif wrong == "foreign":
        os.chown(at, NOBODY, -1)
        fails(vault, f"belongs to user {NOBODY}")
        os.chown(at, 0, -1)
    else:
        at.rmdir()
        os.symlink(workdir, at)
        fails(vault, "is not a directory")
        at.unlink()
    m = Mount(vault, vault, [], workdir / "log")
    m.start()
    m.stop()


@pytest.mark.limit(60)
@pytest.mark.parametrize("kind", ["stage-1-1", "intent-1-1"])
def test_a_fifo_among_the_intents_does_not_hold_up_the_mount(mount, workdir, kind):
    vault = workdir / "v"
    at = vault / ".jsonlfs/daemon"
    at.mkdir(parents=True)
    at.chmod(0o700)
    os.mkfifo(at / kind)
    (at / "stage-1-2").write_bytes(HEAD + b'{"n":1}\n')
    (vault / "x.jsonl").write_bytes(b"")
    m = mount(source=vault)
    # Nothing is waited for, and nothing is lost: what it may speak of stays.
    m.expect_log("intent-stays" if kind.startswith("intent") else "transaction-stays", kind)
    append(m.p("x.jsonl"), b'{"n":2}\n')
    m.stop()
    (fifo,) = at.glob(f"hosts/*/{kind}")
    fifo.unlink()
    m.start()
    assert m.wait_quarantine(1)[0][1] == b'{"n":1}\n'


def test_only_the_daemon_sees_what_is_staged(mount):
    m = mount("commit=close")
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
        os.write(fd, b'{"n":1}\n')
        os.fsync(fd)
        assert list(m.b(".jsonlfs/daemon").glob("hosts/*/stage-*"))
        with refused(errno.EACCES):
            as_user(NOBODY, lambda: os.listdir(m.state("daemon")))


def test_an_empty_one_is_removed_at_the_end(mount):
    m = mount(self_mount=False)
    assert (m.source / ".jsonlfs/daemon").is_dir()
    m.stop()
    assert os.listdir(m.source) == []
    # What is in use by another mount stays, and what has something in it.
    m.start()
    other = mount(source=m.source, self_mount=False)
    m.stop()
    assert (m.source / ".jsonlfs/daemon").is_dir()
    append(other.p("x.jsonl"), b'{"n":1}\n')
    other.p("x.jsonl").unlink()
    other.stop()
    assert len(list((m.source / ".jsonlfs/archive").iterdir())) == 1
    m.start()
    assert m.status()["archive"]["entries"] == 1
    m.stop()


@pytest.mark.parametrize("name", ["note", "quarantine/x", "daemon/stage-0", ".jsonlfs-new"])
def test_one_with_anything_else_in_it_stays(mount, name):
    m = mount(self_mount=False)
    (m.source / ".jsonlfs" / name).write_bytes(b"x")
    m.stop()
    assert (m.source / ".jsonlfs" / name).read_bytes() == b"x"
    assert {"archive", "quarantine", "daemon"} <= set(os.listdir(m.source / ".jsonlfs"))


def test_the_directory_that_state_names_stays(mount, workdir):
    m = mount(f"state={workdir}/elsewhere")
    m.stop()
    assert (workdir / "elsewhere/daemon").is_dir()


def test_one_daemon_ends_while_the_next_begins(m):
    """It removes the empty directory under the hands of the other."""
    for _ in range(40):
        old = m.proc
        run("umount", m.mnt, check=0)
        m.start()
        assert old.wait(20) == 0
        append(m.p("x.jsonl"), b'{"a":1}\n')
        assert m.b(".jsonlfs/daemon").is_dir()
