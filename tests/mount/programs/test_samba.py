# SPDX-License-Identifier: MIT
"""smbd serves a mounted vault, and smbclient puts, goes on with, renames and deletes logs."""

import os
import signal
import socket
import subprocess

import pytest
from util import ENV, run, start, wait_for

pytestmark = [pytest.mark.once, pytest.mark.limit(300)]

CONF = """[global]
private dir = {dir}
lock directory = {dir}
state directory = {dir}
cache directory = {dir}
pid directory = {dir}
ncalrpc dir = {dir}
log file = {dir}/log
interfaces = 127.0.0.1
bind interfaces only = yes
disable netbios = yes
load printers = no
printcap name = /dev/null
server role = standalone server
rpc start on demand helpers = no
map to guest = Bad User
guest account = root
[v]
path = {mnt}
read only = no
guest ok = yes
"""

RECORDS = [b'{"n":%d,"pad":"%s"}\n' % (n, b"x" * (n % 200)) for n in range(60000)]
DATA = b"".join(RECORDS)
MORE = b'{"n":60000}\n'


@pytest.fixture
def samba(debian, workdir):
    """samba(m) serves it, and gives smb(COMMANDS) -> what smbclient says."""
    place = debian("samba", "smbd", "smbclient")
    servers = []

    def serve(m):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        own = workdir / f"samba{len(servers)}"
        own.mkdir()
        conf = own / "smb.conf"
        conf.write_text(CONF.format(dir=own, mnt=m.mnt))
        servers.append(subprocess.Popen(
            [*place.command("smbd"), "-F", "--no-process-group", "-s", conf, "-p",
             str(port)],
            env=ENV | place.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True))

        def listens():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", port)) == 0

        wait_for(listens, "smbd")

        def smb(commands, check=0):
            p = run(*place.command("smbclient"), "-s", conf, "-p", port, "-N", "//127.0.0.1/v",
                    "-c", commands, cwd=workdir, env=place.env, check=check, timeout=60)
            return (p.stdout + p.stderr).decode()

        return smb

    yield serve
    for server in servers:
        # Its children, too; it has a group of its own.
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


def test_smbclient_puts_a_log(m, workdir, samba):
    """Positional writes, several under way at once, of a new file. One that is there is emptied
    first: refused, and it stays as it is."""
    smb = samba(m)
    (workdir / "x.jsonl").write_bytes(DATA)
    smb("put x.jsonl")
    assert m.both("x.jsonl") == DATA
    (workdir / "x.jsonl").write_bytes(DATA + MORE)
    assert "NT_STATUS_ACCESS_DENIED" in smb("put x.jsonl", 1)
    # smbclient sends the rest to offset 0, which natively overwrites the beginning.
    smb("reput x.jsonl", None)
    assert m.both("x.jsonl") == DATA
    (workdir / "bad.jsonl").write_bytes(RECORDS[0] + b"plain text\n" + MORE)
    smb("put bad.jsonl", None)
    assert m.both("bad.jsonl") == RECORDS[0] + MORE
    m.wait_quarantine(1, "bad.jsonl")


def test_smbclient_renames_and_deletes_a_log(m, workdir, samba):
    smb = samba(m)
    (workdir / "x.jsonl").write_bytes(DATA)
    smb("put x.jsonl")
    assert "NT_STATUS_ACCESS_DENIED" in smb("rename x.jsonl x.txt", 1)
    smb("rename x.jsonl y.jsonl; rename y.jsonl y.jsonl.1")
    assert [p.name for p in m.mnt.iterdir()] == ["y.jsonl.1"]
    smb("rename y.jsonl.1 z.jsonl; del z.jsonl")
    assert list(m.mnt.iterdir()) == [] and list(m.archive().values()) == [DATA]


def test_smbclient_puts_a_longer_log(mount, workdir, samba):
    m = mount("rewrite=extend")
    smb = samba(m)
    for data in (DATA, DATA, DATA + MORE):
        (workdir / "x.jsonl").write_bytes(data)
        smb("put x.jsonl")
        assert m.both("x.jsonl") == data
