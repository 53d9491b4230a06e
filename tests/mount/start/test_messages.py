# SPDX-License-Identifier: MIT
"""Where messages go: the mount command's standard error, log=, and what status says of those that
nobody took; programs that had a log open before the mount; daemons that have died."""

import json
import os
import signal
import subprocess

import pytest
from util import ENV, NOBODY, PYTHON, binary, run, wait_for


@pytest.fixture
def vault(workdir):
    """A directory that the mount command mounts over itself, as people do."""
    path = workdir / "vault"
    path.mkdir()
    path.chmod(0o777)
    yield path
    run("umount", "-l", path)


def mounted(vault, *options, check=0):
    """What the mount command has said."""
    args = ["-o", ",".join(options)] if options else []
    return run(binary("jsonlfs"), *args, vault, vault, check=check).stderr.decode()


def status(vault, name="status.json"):
    return json.loads((vault / ".jsonlfs" / name).read_text())


def shown(vault, uid=None):
    return run(binary("jsonlfsctl"), "status", vault, check=0, uid=uid).stdout.decode()


def refuse(vault):
    run("/bin/bash", "-c", 'echo oops >>"$0/x.jsonl"', vault)


def test_to_a_file(vault, workdir):
    log = workdir / "messages"
    assert mounted(vault, f"log={log}") == ""
    refuse(vault)
    wait_for(lambda: 'refused path="x.jsonl"' in log.read_text(), "the line")
    assert "Z jsonlfs[" in log.read_text().splitlines()[0]
    # logrotate renames it.
    log.rename(workdir / "messages.1")

    def again():
        refuse(vault)
        return log.exists() and "refused" in log.read_text()
    wait_for(again, "the new file")
    assert status(vault)["log"]["to"] == str(log)
    assert "receiver" not in shown(vault)


def test_to_a_relative_name_or_into_the_vault(vault):
    for where, message in (("messages", "begins with /"), (f"{vault}/messages", "in the vault"),
                           ("/nowhere/x", "No such file"), ("/dev/null", "regular file")):
        assert message in mounted(vault, f"log={where}", check=None)
        assert not os.path.ismount(vault)


def test_to_nobody(vault):
    """Without a receiver status names it, and its error; the rate limit is not to blame."""
    script = ('mount -t tmpfs none /run && "$0" -o log=journal "$1" "$1" && '
              'echo "{}" >>"$1/a.jsonl"; "$2" status "$1"; umount "$1"')
    p = run("unshare", "-m", "/bin/bash", "-c", script, binary("jsonlfs"), vault,
            binary("jsonlfsctl"))
    said = p.stdout.decode()
    assert "log lines found no receiver (/run/systemd/journal/socket: No such file" in said
    assert "log=FILE" in said and "rate limit" not in said


def test_to_the_journal(vault, workdir):
    """In its own protocol, a datagram a line."""
    script = f"""
import os, socket, subprocess, sys
os.makedirs("/run/systemd/journal")
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind("/run/systemd/journal/socket")
s.settimeout(10)
subprocess.run([{binary("jsonlfs")!r}, "-o", "log=journal", sys.argv[1], sys.argv[1]], check=True)
while True:
    text = s.recv(65536).decode()
    if "MESSAGE=mounted " in text:
        print(text, end="")
        break
subprocess.run(["umount", sys.argv[1]])
"""
    p = run("unshare", "-m", "/bin/bash", "-c", 'mount -t tmpfs none /run && exec "$@"', "bash",
            PYTHON, "-c", script, vault, check=0)
    fields = dict(line.split("=", 1) for line in p.stdout.decode().splitlines())
    assert fields["SYSLOG_IDENTIFIER"] == "jsonlfs" and fields["PRIORITY"] == "6"


@pytest.mark.parametrize("hide, said", [
    ("mount -t tmpfs none /dev", "/dev/fuse is missing: "),
    # As where a container may make the device, but not open it.
    ("mount -t tmpfs -o nodev none /dev; mknod /dev/fuse c 10 229",
     "/dev/fuse cannot be opened: Permission denied: "),
])
def test_a_missing_device(vault, hide, said):
    """One line, which says what to do, in a container, too."""
    p = run("unshare", "-m", "/bin/bash", "-c", hide + ' && exec "$0" "$1" "$1"',
            binary("jsonlfs"), vault, check=32)
    (line,) = p.stderr.decode().splitlines()
    assert line.startswith(f"jsonlfs: {said}") and "--device /dev/fuse" in line


def test_who_holds_a_lock_cannot_be_seen(vault, workdir):
    """A PID namespace shows no lock whose process has ended, as flock(1) has that took it."""
    script = ('"$0" -o "locktimeout=1,log=$3" "$1" "$2" && { (flock 9; sleep 3) 9>>"$1/a.jsonl" & '
              'sleep 0.5; echo "{}" >>"$2/a.jsonl"; cat "$3"; umount "$2"; }')
    (workdir / "mnt").mkdir()
    said = run("unshare", "-mpf", "--mount-proc", "/bin/bash", "-c", script, binary("jsonlfs"),
               vault, workdir / "mnt", workdir / "log").stdout.decode()
    assert 'lock-timeout operation="write" path="a.jsonl"' in said
    assert 'holder="nobody who can be seen here; ' in said, said


@pytest.fixture
def holders(vault):
    """Programs that hold a log open: one of root's, one of nobody's."""
    programs = []
    for user in (None, NOBODY):
        programs.append(subprocess.Popen(
            [PYTHON, "-c", "import sys; f = open(sys.argv[1], 'a'); g = open(sys.argv[1], 'a'); "
             "print('open', flush=True); sys.stdin.read()", vault / f"of-{user}.jsonl"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENV, user=user, group=user))
        assert programs[-1].stdout.readline() == b"open\n"
    yield programs
    for p in programs:
        p.stdin.close()
        p.wait(10)
        p.stdout.close()


def test_who_had_a_log_open_before_the_mount(vault, holders):
    """The mount command names each of them once, status as long as it runs, and only to those who
    may know. It looks for a second; that may be too short on a busy machine."""
    said = mounted(vault)
    for _ in range(10):
        if all(f"pid={p.pid} " in said for p in holders):
            break
        run("umount", vault, check=0)
        said = mounted(vault)
    for p, user in zip(holders, ("None", NOBODY)):
        (line,) = [x for x in said.splitlines() if f"pid={p.pid} " in x]
        assert line.startswith(f'bypass path="of-{user}.jsonl"') and PYTHON in line
    assert status(vault)["bypass"] == 2
    assert {x["pid"] for x in status(vault, "writers.json")["bypass"]} == {
        p.pid for p in holders}
    text = shown(vault)
    assert "2 logs were open in programs before the mount" in text
    assert all(f"(process {p.pid})" in text for p in holders)
    theirs = shown(vault, uid=NOBODY)
    assert f"(process {holders[1].pid})" in theirs
    assert f"(process {holders[0].pid})" not in theirs
    holders[0].stdin.close()
    holders[0].wait(10)
    assert "1 log was open" in shown(vault)
    holders[1].stdin.close()
    holders[1].wait(10)
    assert status(vault)["bypass"] == 0 and "before the mount" not in shown(vault)


def test_nobody_had_a_log_open(vault):
    assert mounted(vault) == ""
    assert status(vault)["bypass"] == 0


def test_deaths_of_the_daemon(vault):
    mounted(vault)
    assert status(vault)["deaths"] == 0 and "of the daemon" not in shown(vault)
    for n in (1, 2):
        pid = status(vault)["pid"]
        os.kill(pid, signal.SIGKILL)

        def anew(old=pid):
            try:
                return status(vault)["pid"] != old
            except OSError:
                return False
        wait_for(anew, "the next daemon")
        assert status(vault)["deaths"] == n
    assert "2 deaths of the daemon of this mount" in shown(vault)


def test_other_options_of_what_is_mounted(vault, workdir):
    """The mount command says which of them do not hold; the same ones again are no failure."""
    rules = workdir / "rules.json"
    rules.write_text('{"unlink": "deny"}')
    mounted(vault, "sync=write", "maxrecord=1M", "noxattr", f"config={rules}")
    pid = status(vault)["pid"]
    for same in ([], ["sync=write"], ["maxrecord=1024K", "noxattr"], ["onbad=" + status(vault)[
            "options"]["onbad"]], ["unlink=deny"], [f"config={rules}"], ["rw", "nofail"]):
        said = mounted(vault, *same)
        assert said == f"jsonlfs: {vault} is already mounted on {vault}\n", same
    for option, message in (
        ("sync=none", "sync is write there, not none"),
        ("maxrecord=2M", "maxrecord is 1M there, not 2M"),
        ("xattr", "xattr is no there, not yes"),
        ("unlink=allow", "unlink is deny there, not allow"),
        ("match=*.log", "match is *.jsonl there, not *.log"),
        ("log=none", "log is not set there, not none"),
        ("config=/etc/passwd", ""),
    ):
        said = mounted(vault, option, check=32 if message else None)
        assert message in said and (not message or f"umount {vault}" in said), said
    assert status(vault)["pid"] == pid
