# SPDX-License-Identifier: MIT
"""The control socket of a mount: who may ask for what, clients that behave badly, and the
commands of jsonlfsctl that go through it."""

import contextlib
import errno
import json
import os
import select
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest
from util import (
    BAD,
    DAMAGE,
    FAILED,
    NO,
    NOBODY,
    USAGE,
    append,
    as_user,
    binary,
    ctl,
    mount_table,
    parse,
    refused,
    run,
    running,
    traced,
    wait_for,
)
from vaults import ask, connect

GOOD = b'{"a":1}\n'
EUSERS, ENOSYS, EMSGSIZE = 87, 38, 90


@pytest.fixture
def m(mount):
    return mount()


def status(path):
    return parse((path / ".jsonlfs/status.json").read_bytes())


def refuse(path, data=b"bad\n"):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    with refused(BAD):
        os.write(fd, data)
    with refused(BAD):  # close tells it, too
        os.close(fd)


def quarantined(path):
    return parse(ctl("quarantine", "list", "--json", path).stdout)["quarantine"]


def archived(path):
    return parse(ctl("archive", "list", "--json", path).stdout)["archive"]


# ---- the socket ----


def test_where_it_is(m):
    st = status(m.mnt)
    source = m.backing.stat()
    assert st["control"] == "/run/jsonlfs/%d:%d-%d" % (
        os.major(source.st_dev), os.minor(source.st_dev), source.st_ino)
    assert os.stat("/run/jsonlfs").st_mode & 0o7777 == 0o755
    assert ask(m.mnt, {"verb": "ping"})["pid"] == st["pid"] == m.proc.pid
    m.stop()
    assert not os.path.exists(st["control"])


def test_two_mounts_of_one_source_have_one_each(mount, workdir):
    m = mount(self_mount=False)
    other = workdir / "other"
    other.mkdir()
    with running(binary("jsonlfs"), "-f", m.source, other):
        wait_for(lambda: os.path.ismount(other))
        assert status(other)["control"] == status(m.mnt)["control"] + ".1"
        assert ask(other, {"verb": "ping"})["pid"] == status(other)["pid"]
        assert ask(m.mnt, {"verb": "ping"})["pid"] == m.proc.pid
        run("umount", other, check=0)


def test_two_that_start_together_have_one_each(workdir):
    """The first has seen that the name is free, and has not taken it yet."""
    first, second, source = (workdir / name for name in ("first", "second", "source"))
    for directory in (first, second, source):
        directory.mkdir()
    slow = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=rename", "-e",
            "inject=rename:delay_enter=2000000")
    with running(*slow, binary("jsonlfs"), "-f", source, first):
        wait_for(lambda: str(first) in mount_table())
        wait_for(lambda: list(Path("/run/jsonlfs").glob(".new-*")))
        with running(binary("jsonlfs"), "-f", source, second):
            wait_for(lambda: str(second) in mount_table())
            try:
                for mnt in (first, second):
                    wait_for(lambda mnt=mnt: status(mnt).get("control"))
                at = [status(mnt) for mnt in (first, second)]
                assert at[1]["control"] == at[0]["control"] + ".1"
                assert [ask(mnt, {"verb": "ping"})["pid"] for mnt in (first, second)] == [
                    st["pid"] for st in at]
            finally:
                run("umount", second, check=0)
                run("umount", first, check=0)


def test_in_a_chroot_the_daemons_own_view_leads_to_it(m, workdir):
    """The vault and /proc are there, /run is not that of the host."""
    root = workdir / "root"
    script = """
        set -e
        mount -t tmpfs none "$1"
        for d in bin sbin lib lib64 usr; do
            [ -e /$d ] || continue
            mkdir "$1/$d"; mount --rbind /$d "$1/$d"
        done
        mkdir "$1/proc" "$1/vault" "$1/run" "$1/ctl"
        mount --rbind /proc "$1/proc"
        mount --bind "$2" "$1/vault"
        mount --bind "$3" "$1/ctl"
        exec chroot "$1" /ctl/jsonlfsctl watch --count=1 /vault
    """
    root.mkdir()
    ctl_dir = os.path.dirname(binary("jsonlfsctl"))
    with running("unshare", "--mount", "/bin/bash", "-c", script, "x", root, m.mnt,
                 ctl_dir) as p:
        assert b"watching" in p.stdout.readline(), p.stderr.read()
        refuse(m.p("x.jsonl"))
        assert b" refused x.jsonl" in p.stdout.readline()
        assert p.wait(20) == 0


def test_strangers_may_ask_for_nothing_that_is_not_theirs(m):
    refuse(m.p("x.jsonl"))
    append(m.p("y.jsonl"), GOOD)
    m.p("y.jsonl").unlink()
    entry, old = quarantined(m.mnt)[0]["file"], archived(m.mnt)[0]["file"]

    def stranger():
        assert ask(m.mnt, {"verb": "ping"})["error"] == 0
        for request in ({"verb": "reload"}, {"verb": "quarantine-drop", "names": [entry]},
                        {"verb": "archive-drop", "names": [old]},
                        {"verb": "quarantine-restored", "name": entry, "records": 1}):
            assert ask(m.mnt, request)["error"] == NO, request

    as_user(NOBODY, stranger)
    assert [e["file"] for e in quarantined(m.mnt)] == [entry]
    assert "restored" not in quarantined(m.mnt)[0]
    assert [e["file"] for e in archived(m.mnt)] == [old]
    assert len(m.log_lines("control-denied", 'verb="archive-drop"', f"uid={NOBODY}")) == 1


@pytest.mark.parametrize("packet, code", [
    (b"no json", BAD),
    (b"[1]", BAD),
    (b'{"verb":1}', BAD),
    (b'{"verb":"fly"}', ENOSYS),
    (b'{"verb":"ping"', BAD),
    (b'{"verb":"ping"}' + b" " * 70000, EMSGSIZE),
    (b"[" * 60000, BAD),
    (b"\0" * 100, BAD),
    (b'{"verb":"\xff\xfe"}', None),
])
def test_malformed_requests(m, packet, code):
    answer = ask(m.mnt, packet)
    assert answer["error"] == code if code else answer["error"] in (BAD, ENOSYS)
    assert ask(m.mnt, {"verb": "ping"})["error"] == 0


def test_descriptors_that_nobody_wanted_are_closed(m):
    def open_now():
        return len(os.listdir(f"/proc/{m.proc.pid}/fd"))

    assert ask(m.mnt, {"verb": "ping"}, [0, 1])["error"] == 0
    before = wait_for(open_now)
    r, w = os.pipe()
    for _ in range(20):
        assert ask(m.mnt, {"verb": "ping"}, [r, w])["error"] == 0
        assert ask(m.mnt, {"verb": "ping"}, [r] * 60)["error"] == 0
    os.close(w)
    # Nobody has the other end any more.
    assert os.read(r, 1) == b""
    os.close(r)
    # Some more than before may be the mount's own; 1,240 were sent.
    wait_for(lambda: open_now() < before + 20, "closed descriptors")


def test_names_lead_nowhere(m):
    append(m.p("x.jsonl"), GOOD)
    for verb in ("quarantine-drop", "archive-drop"):
        for name in ("../x.jsonl", "../../x.jsonl", "..", ".", "", "a/b", "none"):
            answer = ask(m.mnt, {"verb": verb, "names": [name]})
            assert answer["dropped"] == 0 and answer["failed"][0]["name"] == name
        for names in (1, {}, None, [], [1], [None], [["x"]]):
            assert ask(m.mnt, {"verb": verb, "names": names})["dropped"] == 0
    assert m.both("x.jsonl") == GOOD


@pytest.mark.limit(90)
def test_hanging_clients_hold_nothing_up(m):
    """Who connects and says nothing has a place for ten seconds, and not all of them."""
    def hang(n):
        kept = [connect(m.mnt) for _ in range(n)]
        time.sleep(0.2)
        # The last ones got a place, or were told that there is none.
        told = [s for s in kept if select.select([s], [], [], 0)[0]]
        for s in told:
            assert json.loads(s.recv(4096))["error"] == EUSERS
        return len(kept) - len(told), kept

    pipe = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            places, _kept = hang(20)
            os.write(pipe[1], bytes([places]))
            time.sleep(60)
        finally:
            os._exit(0)
    try:
        assert os.read(pipe[0], 1) == bytes([8])
        assert ask(m.mnt, {"verb": "ping"})["error"] == 0
        begin = time.monotonic()
        places, kept = hang(40)
        assert places == 32 - 8
        with connect(m.mnt) as s:
            assert json.loads(s.recv(4096))["error"] == EUSERS
        # The mount does not care.
        append(m.p("x.jsonl"), GOOD)
        assert m.both("x.jsonl") == GOOD
        for s in kept:
            s.close()

        def served():
            with contextlib.suppress(OSError):
                return ask(m.mnt, {"verb": "ping"})["error"] == 0

        wait_for(served, "a place", 40)
        # Those of the other user are let go of by themselves.
        s = connect(m.mnt)
        wait_for(lambda: select.select([s], [], [], 0)[0], "an end to waiting", 40)
        assert time.monotonic() - begin >= 9 and json.loads(s.recv(4096))["error"] == 11
        s.close()
        # And an unmount waits for none of them.
        s = connect(m.mnt)
        m.stop()
        s.close()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pipe[0])
        os.close(pipe[1])


def test_without_a_socket_the_mount_works(workdir):
    """/run/jsonlfs is not a directory of root's."""
    script = 'mount -t tmpfs none /run && ln -s /tmp /run/jsonlfs && exec "$@"'
    vault = workdir / "v"
    vault.mkdir()
    with running("unshare", "--mount", "/bin/bash", "-c", script, "x", binary("jsonlfs"),
                 "-f", vault, vault) as p:
        inside = type(vault)(f"/proc/{p.pid}/root{vault}")
        wait_for(lambda: (inside / ".jsonlfs/status.json").exists(), "the mount", 20)
        append(inside / "x.jsonl", GOOD)
        assert (inside / "x.jsonl").read_bytes() == GOOD
        assert status(inside)["control"] == ""
        p.terminate()
        assert p.wait(20) == 0
        assert b"no-control-socket" in p.stderr.read()


# ---- watch ----


@contextlib.contextmanager
def watching(path, *argv):
    with running(binary("jsonlfsctl"), "watch", *argv, path) as p:
        first = p.stdout.readline()
        assert b"watching" in first, p.stderr.read()
        yield p


def test_watch(m):
    m.p("sub").mkdir()
    with watching(m.p("sub"), "--json", "--count=4") as p, watching(m.mnt, "--count=5") as q:
        refuse(m.p("sub/x.jsonl"))
        refuse(m.p("y.jsonl"), b"elsewhere\n")
        append(m.p("sub/x.jsonl"), b'"' + b"x" * 5000 + b'"\n')
        os.rename(m.p("sub/x.jsonl"), m.p("sub/x.jsonl.1"))
        append(m.p("sub/x.jsonl"), GOOD)
        m.p("sub/x.jsonl").unlink()
        events = [parse(line) for line in p.stdout]
        assert [e["event"] for e in events] == ["refused", "oversize", "rotated", "archived"]
        assert {e["path"] for e in events} == {"sub/x.jsonl"}
        assert events[0]["pid"] == os.getpid() and "python3" in events[0]["program"]
        assert events[0]["quarantine"] in [e["file"] for e in quarantined(m.mnt)]
        assert events[2]["to"] == "sub/x.jsonl.1" and events[1]["length"] == 5003
        lines = q.stdout.read().decode().splitlines()
        assert len(lines) == 5 and " refused y.jsonl" in lines[1]
        assert all(line.startswith("20") for line in lines)
        assert p.wait(10) == q.wait(10) == 0


def test_what_happens_right_after_the_answer_is_told(m):
    """The daemon's thread may not get to run between its answer and the first event."""
    with traced(m, "-e", "trace=sendto", "-e", "inject=sendto:delay_exit=1500000",
                "-o", os.devnull):
        with watching(m.mnt, "--json", "--count=1") as p:
            refuse(m.p("x.jsonl"))
            assert parse(p.stdout.readline())["event"] == "refused"


def test_watch_has_no_rate_limit_and_says_what_it_missed(m):
    """A burst is told whole to who reads; who stops reading is told how many are gone, and
    holds up nobody. Truncations, as refused records would be synced: who reads nothing for ten
    seconds is sent away."""
    append(m.p("x.jsonl"), b"{}\n")

    def truncate(times):
        for _ in range(times):
            with refused(NO):
                os.truncate(m.p("x.jsonl"), 0)

    with connect(m.mnt) as stopped, watching(m.mnt, "--json", "--count=300") as p:
        stopped.send(b'{"verb":"watch"}')
        assert json.loads(stopped.recv(4096))["error"] == 0
        events = []
        reader = threading.Thread(target=lambda: events.extend(map(parse, p.stdout)))
        reader.start()
        truncate(300)
        reader.join(30)
        assert len([e for e in events if e["event"] == "denied"]) == 300
        assert len(m.log_lines("denied")) < 300
        truncate(2000)
        count = missed = 0
        while count + missed < 2300:
            e = json.loads(stopped.recv(1 << 17))
            count += e["event"] == "denied"
            missed += e["count"] if e["event"] == "missed" else 0
        assert missed > 0 and count + missed == 2300


def test_watch_survives_the_daemon(v):  # noqa: F811
    v.jsonlfs()
    with watching(v.path, "--json") as p:
        first = v.pid
        os.kill(first, signal.SIGKILL)
        assert parse(p.stdout.readline())["event"] == "daemon-gone"
        assert parse(p.stdout.readline())["event"] == "watching"
        assert status(v.path)["pid"] != first
        refuse(v.log("x.jsonl"))
        assert parse(p.stdout.readline())["event"] == "refused"
        v.umount()
        assert [parse(line)["event"] for line in p.stdout] == ["daemon-gone", "mount-gone"]
        assert p.wait(20) == 0


def test_watch_where_there_is_nothing(workdir):
    assert b"no jsonlfs is mounted" in ctl("watch", workdir, code=FAILED).stderr
    assert b"No such file" in ctl("watch", workdir / "none", code=FAILED).stderr \
        or b"no jsonlfs" in ctl("watch", workdir / "none", code=FAILED).stderr
    for argv in (["--count=0", workdir], ["--count=x", workdir], ["a", "b"], ["--what"]):
        assert b"--help" in ctl("watch", *argv, code=USAGE).stderr


# ---- an ordinary user's mount ----


@pytest.mark.parametrize("runtime", [False, True])
def test_an_ordinary_users_mount(v, request, fuse_for_all, runtime):  # noqa: F811
    os.chown(v.path, NOBODY, NOBODY)
    # The path of a socket has room for 107 bytes, and a build directory may be deep.
    place = Path(tempfile.mkdtemp(prefix="jsonlfs-run."))
    request.addfinalizer(lambda: shutil.rmtree(place, ignore_errors=True))
    os.chown(place, NOBODY, NOBODY)
    env = {"XDG_RUNTIME_DIR": str(place)} if runtime else {}
    run(binary("jsonlfs"), v.path, v.path, uid=NOBODY, env=env, check=0)

    def work():
        path = status(v.path)["control"]
        assert path.startswith(f"{place}/jsonlfs/" if runtime else f"/tmp/jsonlfs-{NOBODY}/")
        assert os.stat(os.path.dirname(path)).st_mode & 0o7777 == 0o700
        refuse(v.log("x.jsonl"))
        append(v.log("y.jsonl"), GOOD)
        v.log("y.jsonl").unlink()

    as_user(NOBODY, work)
    user = {"uid": NOBODY}
    entry = parse(ctl("quarantine", "list", "--json", v.path, **user).stdout)["quarantine"][0]
    ctl("quarantine", "drop", v.path, entry["file"], **user)
    old = parse(ctl("archive", "list", "--json", v.path, **user).stdout)["archive"][0]
    ctl("archive", "restore", v.path, old["file"], **user)
    ctl("archive", "drop", v.path, old["file"], **user)
    after = as_user(NOBODY, lambda: (status(v.path), v.log("y.jsonl").read_bytes()))
    assert after[0]["quarantine"]["entries"] == after[0]["archive"]["bytes"] == 0
    assert after[1] == GOOD
    run("fusermount3", "-u", v.path, uid=NOBODY, check=0)


# ---- quarantine and archive ----


def test_quarantine_drop_and_restore_of_a_mount(m):
    for n in range(40):
        refuse(m.p(f"x{n}.jsonl"), b"bad %d\n" % n)
    refuse(m.p("y.jsonl"), b"x\n")
    entries = [e["file"] for e in quarantined(m.mnt)]
    used = m.status()["quarantine"]["bytes"]
    ctl("quarantine", "drop", m.mnt, *entries[:40])
    assert [e["file"] for e in quarantined(m.mnt)] == entries[40:]
    assert m.status()["quarantine"]["entries"] == 1
    assert m.status()["quarantine"]["bytes"] <= used - 40 * 4096
    assert len(m.log_lines("quarantine-dropped")) == 40
    p = ctl("quarantine", "drop", m.mnt, entries[0], "..", code=FAILED)
    assert p.stderr.count(b"\n") == 2
    ctl("quarantine", "restore", m.mnt, entries[40], "--edited=-", stdin=b"[2]\n")
    assert m.both("y.jsonl") == b"[2]\n"
    wait_for(lambda: "restored" in quarantined(m.mnt)[0])
    p = ctl("quarantine", "restore", m.mnt, entries[40], "--edited=-", stdin=b"[2]\n",
            code=FAILED)
    assert b"--again" in p.stderr
    # What was dropped is stored again when another program sends it again.
    as_user(0, lambda: refuse(m.p("x1.jsonl"), b"bad 1\n"))
    assert len(quarantined(m.mnt)) == 2


def test_bad_lines_of_one_program_share_an_entry(m):
    """Within a minute; what is dropped is out of the index, too."""
    for n in range(100):
        refuse(m.p("x.jsonl"), b"bad %d\n" % n)
    (entry,) = quarantined(m.mnt)
    assert entry["events"] == 100 and entry["bytes"] == sum(len(b"bad %d\n" % n) for n in range(100))
    assert len(m.quarantine()) == 100
    used = m.status()["quarantine"]["bytes"]
    assert 100 * 200 < used < 100 * 500  # the index counts
    ctl("quarantine", "drop", m.mnt, entry["file"])
    assert m.status()["quarantine"]["bytes"] == 0
    assert m.state("quarantine.jsonl").stat().st_size == 0


@pytest.fixture(params=["bare", "mounted", "behind"])
def kept(request, mount):
    """A vault with an archived file: (where the tools look, where programs do, its name)."""
    m = mount(self_mount=False)
    m.p("sub").mkdir()
    append(m.p("sub/50%.jsonl"), GOOD)
    os.chown(m.p("sub/50%.jsonl"), NOBODY, 12345)
    os.chmod(m.p("sub/50%.jsonl"), 0o640)
    os.utime(m.p("sub/50%.jsonl"), (1, 1))
    m.p("sub/50%.jsonl").unlink()
    name = archived(m.mnt)[0]["file"]
    if request.param == "bare":
        m.umount()
        m.proc = None
        return m.source, m.source, name
    return (m.source if request.param == "behind" else m.mnt), m.mnt, name


def test_archive_restore_and_drop(kept):
    where, seen, name = kept
    target = seen / "sub/50%.jsonl"
    assert b"archive drop" in ctl("archive", "restore", where, name).stdout
    wait_for(target.exists)
    st = target.stat()
    assert target.read_bytes() == GOOD
    assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (NOBODY, 12345, 0o640)
    assert st.st_mtime == 1
    assert b"--as" in ctl("archive", "restore", where, name, code=FAILED).stderr
    ctl("archive", "restore", where, name, f"--as={seen}/other.jsonl")
    assert (seen / "other.jsonl").read_bytes() == GOOD
    assert b"make it" in ctl("archive", "restore", where, name, f"--as={seen}/none/x.jsonl",
                             code=FAILED).stderr
    assert len(archived(where)) == 1
    ctl("archive", "drop", where, name)
    assert archived(where) == []
    for bad in (name, "..", "../quarantine.jsonl", ""):
        ctl("archive", "drop", where, bad, code=FAILED)
        ctl("archive", "restore", where, bad, code=FAILED)
    assert not [n for n in os.listdir(seen) if "jsonl-new" in n]


def test_archive_drop_makes_room(mount):
    m = mount("archive_max=10")
    append(m.p("x.jsonl"), GOOD)
    os.chown(m.p("x.jsonl"), NOBODY, -1)
    m.p("x.jsonl").unlink()
    append(m.p("x.jsonl"), GOOD)
    os.chmod(m.mnt, 0o777)
    with refused(errno.EDQUOT):  # what another owns does not go for it
        as_user(12345, m.p("x.jsonl").unlink)
    ctl("archive", "drop", m.mnt, archived(m.mnt)[0]["file"])
    assert m.status()["archive"]["bytes"] == 0
    as_user(12345, m.p("x.jsonl").unlink)
    assert m.status()["archive"]["bytes"] == 8


def test_a_damaged_original_is_not_restored(workdir):
    vault = workdir / "v"
    (vault / ".jsonlfs/archive").mkdir(parents=True)
    name = "20260101T000000.000000000Z-x.jsonl"
    (vault / ".jsonlfs/archive" / name).write_bytes(GOOD + b"bad\n")
    p = ctl("archive", "restore", vault, name, code=DAMAGE)
    assert b"jsonlfsctl repair" in p.stderr and not (vault / "x.jsonl").exists()
    long = "20260101T000000.000000000Z-" + "x" * 120
    (vault / ".jsonlfs/archive" / long).write_bytes(GOOD)
    assert b"--as" in ctl("archive", "restore", vault, long, code=FAILED).stderr
    ctl("archive", "restore", vault, long, "--as=x.jsonl", cwd=vault)
    assert (vault / "x.jsonl").read_bytes() == GOOD
