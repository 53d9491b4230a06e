# SPDX-License-Identifier: MIT
"""How jsonlfsctl finds the mount: by its device, however the caller came there."""

import errno
import json
import os
import signal
import subprocess

import pytest
from util import ENV, FAILED, NOBODY, append, binary, ctl, refused, run, sh

GOOD = b'{"a":1}\n'


@pytest.fixture
def bind(m, workdir):
    """A bind mount of a directory in a mount."""
    m.p("sub").mkdir()
    append(m.p("sub/x.jsonl"), GOOD)
    at = workdir / "data"
    at.mkdir()
    run("mount", "--bind", m.p("sub"), at, check=0)
    yield at
    run("umount", at, check=0)


def test_in_a_bind_mount_of_a_part(m, bind):
    """The whole is visible, so everything works as from there."""
    (bind / "deeper").mkdir()
    assert json.loads(ctl("status", "--json", bind).stdout)["mountpoint"] == str(m.mnt)
    with refused(errno.EBADMSG):
        append(bind / "x.jsonl", b"bad\n")
    assert b"sub/x.jsonl" in ctl("quarantine", "list", bind / "deeper").stdout
    ctl("replace", bind / "x.jsonl", stdin=b'{"b":2}\n')
    assert m.both("sub/x.jsonl") == b'{"b":2}\n'
    ctl("append", bind / "x.jsonl", stdin=GOOD)
    assert m.both("sub/x.jsonl") == b'{"b":2}\n' + GOOD
    d = json.loads(ctl("check", "--json", "--exclude=sub/**", bind).stdout)
    assert d["files"] == 0 and d["mounts"][0]["mountpoint"] == str(m.mnt)


def test_in_a_container_that_sees_a_part_only(m, bind):
    script = 'umount "$1" && shift && exec "$@"'
    for argv in (["status", bind], ["check", bind], ["quarantine", "list", bind],
                 ["repair", "--apply", bind]):
        p = run("unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh", m.mnt,
                binary("jsonlfsctl"), *argv)
        assert p.returncode & FAILED, p
        assert b"part of a mount of jsonlfs (bind mount)" in p.stderr + p.stdout, p


def test_a_directory_in_a_mount_that_died(mount, workdir):
    """And was mounted again: the shell stands in the old one."""
    m = mount()
    m.clean = False
    with subprocess.Popen(["/bin/sh", "-c", 'read x; exec "$0" status', binary("jsonlfsctl")],
                          cwd=m.mnt, stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=ENV | {"PWD": str(m.mnt)}) as p:
        m.proc.send_signal(signal.SIGKILL)
        m.proc.wait(10)
        again = subprocess.Popen([binary("jsonlfs"), "-f", m.source, m.mnt], env=ENV,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        sh(f"for i in $(seq 100); do {binary('jsonlfsctl')} status . >/dev/null 2>&1 && exit; "
           f"cd /; cd {m.mnt} 2>/dev/null; sleep .1; done; exit 1", "/")
        _, said = p.communicate(b"\n", timeout=20)
    run("umount", m.mnt, check=0)
    again.wait(10)
    assert p.returncode == 8 and b'cd "$PWD"' in said, said


def test_root_in_the_mount_of_a_user(workdir):
    """Who may not look into it is told whose it is."""
    v, mnt = workdir / "v", workdir / "mnt"
    for d in (v, mnt):
        d.mkdir()
        os.chown(d, NOBODY, NOBODY)
    fuse = os.stat("/dev/fuse").st_mode
    os.chmod("/dev/fuse", fuse | 0o666)
    try:
        run(binary("jsonlfs"), v, mnt, uid=NOBODY, check=0)
        p = ctl("status", mnt, code=FAILED)
        assert b"was made by user nobody" in p.stderr and b"runuser -u nobody" in p.stderr
        ctl("status", mnt, uid=NOBODY)
    finally:
        run("umount", mnt, check=0)
        os.chmod("/dev/fuse", fuse)


def test_the_current_directory_is_the_default(m):
    for argv in (["status"], ["writers"], ["check"], ["metrics"], ["quarantine", "list"],
                 ["archive", "list"]):
        assert ctl(*argv, cwd=m.mnt).stdout
    assert b"no jsonlfs is mounted here" in ctl("status", cwd=m.source, code=FAILED).stderr
