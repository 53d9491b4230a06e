# SPDX-License-Identifier: MIT
"""Several daemons over one directory find each other: the list in daemon/hosts, who waits for
whom, and who takes over what a dead one has left."""

import fcntl
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from util import NOBODY, append, binary, mount_table, opened, run, wait_for


def entries(vault):
    return sorted(p.name for p in (vault / ".jsonlfs/daemon/hosts").glob("[!.]*"))


def refused_mount(m, workdir, *options):
    """What a mount of its source says that is refused."""
    where = workdir / "refused"
    where.mkdir(exist_ok=True)
    argv = ["-f"] + (["-o", ",".join(options)] if options else [])
    p = run(binary("jsonlfs"), *argv, m.source, where)
    assert p.returncode == 32, p
    return p.stderr.decode()


@pytest.mark.parametrize("first, second", [("auto", "auto"), ("on", "auto"), ("auto", "on")])
def test_two_daemons_share(mount, first, second):
    a = mount(f"shared={first}", self_mount=False)
    shared = a.status()["shared"]
    assert shared["fences"] == "unknown" and shared["file_system"]
    assert (shared["on"], shared["hosts"]) == (first == "on", [])
    b = mount(f"shared={second}", source=a.source, self_mount=False)
    for one, other in ((a, b), (b, a)):
        shared = one.status()["shared"]
        assert shared["on"]
        (host,) = shared["hosts"]
        assert (host["pid"], host["mountpoint"]) == (other.proc.pid, str(other.mnt))
        assert host["host"] == os.uname().nodename
    assert len(entries(a.source)) == 2
    # Stays so, whoever goes.
    b.stop()
    wait_for(lambda: not a.status()["shared"]["hosts"])
    assert a.status()["shared"]["on"] and len(entries(a.source)) == 1
    a.stop()
    assert os.listdir(a.source) == []


def test_a_mount_that_is_mounted_anew_is_not_shared(mount):
    """Its daemon lives a little longer than the mount."""
    a = mount(self_mount=False)
    time.sleep(1)
    os.kill(a.proc.pid, signal.SIGSTOP)
    run("umount", "-l", a.mnt, check=0)
    wait_for(lambda: str(a.mnt) not in mount_table())
    later = threading.Timer(0.5, os.kill, (a.proc.pid, signal.SIGCONT))
    later.start()
    b = mount(source=a.source, self_mount=False)
    later.join()
    assert a.proc.wait(20) == 0
    assert not b.status()["shared"]["on"] and not b.status()["shared"]["hosts"]


def test_off_shares_with_nobody(mount, workdir):
    a = mount("shared=off", self_mount=False)
    for options in ((), ("shared=on",), ("shared=off",)):
        said = refused_mount(a, workdir, *options)
        assert f"pid {a.proc.pid}" in said and "another daemon" in said and "shared=off" in said
    assert len(entries(a.source)) == 1 and not a.status()["shared"]["on"]
    a.stop()
    b = mount(source=a.source, self_mount=False)
    assert "shared=off was given" in refused_mount(b, workdir, "shared=off")
    assert len(entries(b.source)) == 1


def test_locks_that_no_other_host_sees(mount, workdir):
    """A file system that calls itself sshfs is refused, but not when one host alone has it."""
    real, source, where = workdir / "real", workdir / "source", workdir / "mnt"
    for path in (real, source, where):
        path.mkdir()
    run("bindfs", "-o", "subtype=sshfs", real, source, check=0)
    try:
        for options in ((), ("-o", "shared=on")):
            p = run(binary("jsonlfs"), *options, source, where)
            assert p.returncode == 32
            assert b"is on sshfs" in p.stderr and b"shared=off" in p.stderr
        assert os.listdir(real) == []
        # Who writes nothing needs no lock.
        (real / "b.jsonl").write_bytes(b"1\n")
        m = mount("ro", source=source, self_mount=False)
        assert m.p("b.jsonl").read_bytes() == b"1\n"
        m.stop()
        m = mount("shared=off", source=source, self_mount=False)
        append(m.p("a.jsonl"), b'{"a":1}\n')
        m.stop()
        assert (real / "a.jsonl").read_bytes() == b'{"a":1}\n'
    finally:
        run("umount", "-l", source, check=0)


def flags_of(m, name):
    """Of the daemon's descriptors of a file."""
    here = Path(f"/proc/{m.proc.pid}")
    return [int(re.search(r"flags:\s+(\d+)", (here / "fdinfo" / fd.name).read_text())[1], 8)
            for fd in (here / "fd").iterdir() if os.readlink(fd).endswith("/" + name)]


def test_logs_are_read_past_the_cache_of_a_network_file_system(mount, workdir):
    real, source = workdir / "real", workdir / "source"
    config = workdir / "rules.json"
    config.write_text('{"rules": [{"match": "*.md", "class": "text"}]}')
    for path in (real, source):
        path.mkdir()
    run("bindfs", real, source, check=0)
    try:
        for where, direct in ((source, True), (workdir / "local", False)):
            where.mkdir(exist_ok=True)
            m = mount(f"config={config}", source=where, self_mount=False)
            for name in ("a.jsonl", "b.md"):
                append(m.p(name), b'{"a":1}\n')
                with m.p(name).open("rb") as f:
                    assert f.read() == b'{"a":1}\n'
                    # Appends go through the cache: the kernel knows the size then.
                    assert [fl for fl in flags_of(m, name)
                            if not fl & os.O_ACCMODE and not fl & os.O_PATH
                            and bool(fl & os.O_DIRECT) != direct] == []
                    assert any(fl & os.O_DIRECT for fl in flags_of(m, name)) == direct
            m.stop()
    finally:
        run("umount", "-l", source, check=0)


def test_a_daemon_that_does_not_answer_is_waited_for(mount, workdir):
    a = mount(self_mount=False)
    # It has had its first look at the list, and holds no lock of it.
    time.sleep(1)
    a.proc.send_signal(signal.SIGSTOP)
    try:
        said = refused_mount(a, workdir)
    finally:
        a.proc.send_signal(signal.SIGCONT)
    assert "does not share it" in said
    assert len(entries(a.source)) == 1


def test_what_a_living_daemon_has_staged_is_left_alone(mount):
    """And what a dead one has is taken over once."""
    a = mount("commit=close", "killed=commit", self_mount=False)
    with opened(a.p("x.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
        os.write(fd, b"1\n2\n")
        os.fsync(fd)
        assert a.staged()
        b = mount("commit=close", "killed=commit", source=a.source, self_mount=False)
        assert b.p("x.jsonl").read_bytes() == b"" and not b.quarantine()
        assert [n for n in a.staged() if n.startswith("stage-")]
        a.clean = False
        a.kill()
    # It lives no more: but only a mount takes over.
    assert b.p("x.jsonl").read_bytes() == b""
    a.start()
    assert a.p("x.jsonl").read_bytes() == b.p("x.jsonl").read_bytes() == b"1\n2\n"
    assert a.staged() == [] and len(entries(a.source)) == 2
    b.restart()
    assert b.p("x.jsonl").read_bytes() == b"1\n2\n" and not b.quarantine()


def test_with_state_elsewhere_they_meet_in_the_vault(mount, workdir):
    a = mount(f"state={workdir}/state", self_mount=False)
    b = mount(source=a.source, self_mount=False)
    assert a.status()["shared"]["on"] and b.status()["shared"]["on"]
    b.stop()
    append(a.p("x.jsonl"), b"1\n")
    a.stop()
    assert os.listdir(a.source) == ["x.jsonl"]


def test_a_directory_below_one_that_is_mounted(mount):
    a = mount(prepare=lambda vault: (vault / "below/d").mkdir(parents=True), self_mount=False)
    b = mount(source=a.source / "below/d", self_mount=False)
    assert a.status()["shared"]["on"] and b.status()["shared"]["on"]
    assert [h["pid"] for h in b.status()["shared"]["hosts"]] == [a.proc.pid]
    b.stop()
    assert len(entries(a.source)) == 1


def test_a_list_above_that_anybody_could_have_made_is_not_asked(mount, workdir):
    """Else he who may write in a directory above the vault keeps it from being mounted."""
    at = workdir / ".jsonlfs/daemon/hosts/evil-0123456789ab"
    at.mkdir(parents=True)
    (at / "lock").write_text('{"host":"evil","pid":1,"shared":"off"}')
    with open(at / "lock", encoding="utf-8") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        for name in (".jsonlfs", ".jsonlfs/daemon", ".jsonlfs/daemon/hosts"):
            os.chown(workdir / name, NOBODY, NOBODY)
        m = mount()
        shared = m.status()["shared"]
        assert not shared["on"] and not shared["hosts"]
        m.stop()
        os.chown(workdir / ".jsonlfs/daemon", 0, 0)
        os.chown(workdir / ".jsonlfs/daemon/hosts", 0, 0)
        os.chmod(workdir / ".jsonlfs/daemon/hosts", 0o777)
        mount()
    assert [p.name for p in at.parent.iterdir()] == [at.name]
