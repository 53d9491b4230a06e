# SPDX-License-Identifier: MIT
"""jsonlfsctl by root in a vault whose users are hostile: links, FIFOs, state directories and
sockets that they plant, directories that they exchange while it runs, trees without a bottom,
names that speak to terminals."""

import contextlib
import json
import os
import pty
import re
import select
import shutil
import socket
import subprocess
import threading
import time

import pytest
from util import (
    DAMAGE, ENV, FAILED, NOBODY, PYTHON, USAGE, as_user, binary, ctl, run)

GOOD = b'{"a":1}\n'
SECRET = b'{"secret":1}\n'


@pytest.fixture
def vault(workdir):
    """A bare vault of root's, with a directory of the attacker's in it, and a directory of
    root's beside."""
    v = workdir / "vault"
    for d in (v, v / ".jsonlfs", v / ".jsonlfs/archive", v / ".jsonlfs/quarantine", v / "user",
              workdir / "root"):
        d.mkdir()
    os.chown(v / "user", NOBODY, NOBODY)
    (workdir / "root").chmod(0o700)
    (workdir / "root/x.jsonl").write_bytes(SECRET)
    return v


def untouched(workdir):
    root = workdir / "root"
    assert os.listdir(root) == ["x.jsonl"] and (root / "x.jsonl").read_bytes() == SECRET


def attack(work):
    """Runs it as the attacker, in another process."""
    return as_user(NOBODY, work)


# ---- the report ----


def test_a_report_is_written_by_the_command(vault, workdir):
    (vault / "x.jsonl").write_bytes(GOOD)
    out = workdir / "check.json"
    for _ in range(2):
        p = ctl("check", "--json", f"--output={out}", vault)
        assert (p.stdout, p.stderr) == (b"", b"")
        assert json.loads(out.read_bytes())["files"] == 1
    assert os.listdir(workdir).count("check.json") == 1
    assert not [n for n in os.listdir(workdir) if ".new-" in n]
    ctl("check", "--output", out, vault)
    assert out.read_bytes().endswith(b"clean\n")
    # Wrong usage leaves it, and so does a place that does not take it.
    ctl("check", f"--output={out}", "--value=nonsense", vault, code=USAGE)
    assert out.read_bytes().endswith(b"clean\n")
    assert b"no such directory" in ctl(
        "check", f"--output={workdir}/none/x", vault, code=FAILED).stderr
    for bad in ("/dev/null", "/dev/stdout", workdir):
        ctl("check", f"--output={bad}", vault, code=FAILED)
    assert os.path.exists("/dev/null") and not os.path.isfile("/dev/null")


def test_a_report_does_not_go_where_users_lead_it(vault, workdir):
    target = workdir / "root/x.jsonl"
    user = vault / "user"

    def plant():
        os.symlink(target, user / "report")
        os.mkfifo(user / "fifo")
        os.symlink(workdir / "root", user / "dir")
        os.symlink(workdir / "root", user / ".report.new")

    attack(plant)
    for where in ("user/report", "user/fifo", "user/dir/report", "user/new", "user/dir/x.jsonl"):
        p = ctl("check", "--json", f"--output={vault}/{where}", vault, code=FAILED)
        assert b"jsonlfsctl: " in p.stderr and p.stdout == b""
    untouched(workdir)
    # Outside of vaults a link of somebody else's is not followed either.
    os.mkdir(workdir / "home")
    os.chown(workdir / "home", NOBODY, NOBODY)
    attack(lambda: os.symlink(workdir / "root", workdir / "home/link"))
    ctl("check", f"--output={workdir}/home/link/y", vault, code=FAILED)
    (workdir / "open").mkdir(mode=0o777)
    (workdir / "open").chmod(0o777)
    assert b"everybody can write" in ctl(
        "check", f"--output={workdir}/open/y", vault, code=FAILED).stderr
    untouched(workdir)
    # In a directory of the vault's owner it may be.
    os.chown(vault, NOBODY, NOBODY)
    ctl("check", f"--output={user}/new", vault)
    assert (user / "new").read_bytes().endswith(b"clean\n")
    untouched(workdir)


# ---- paths in a vault ----


def archived(vault, path="user%2Fx.jsonl"):
    name = f"20260101T000000.000000000Z-{path}"
    (vault / ".jsonlfs/archive" / name).write_bytes(GOOD)
    return name


def set_aside(vault, path="user/x.jsonl"):
    (vault / ".jsonlfs/quarantine/20260101T000000Z.0").write_bytes(GOOD)
    with open(vault / ".jsonlfs/quarantine.jsonl", "a", encoding="ascii") as f:
        f.write(json.dumps({"file": "20260101T000000Z.0", "event": "refused", "path": path,
                            "time": "2026-01-01T00:00:00Z"}) + "\n")
    return "20260101T000000Z.0"


def test_restore_follows_no_link(vault, workdir):
    one, two = archived(vault), archived(vault, "user%2F..%2F..%2Froot%2Fy.jsonl")
    entry = set_aside(vault)
    os.rmdir(vault / "user")
    os.chown(vault, NOBODY, NOBODY)
    attack(lambda: os.symlink(workdir / "root", vault / "user"))
    for name in (one, two):
        p = ctl("archive", "restore", vault, name, code=FAILED)
        assert b"--as=PATH" in p.stderr
    ctl("archive", "restore", f"--as={vault}/user/y.jsonl", vault, one, code=FAILED)
    ctl("quarantine", "restore", vault, entry, code=FAILED)
    untouched(workdir)
    # A name that is a link, and one that is a FIFO.
    os.unlink(vault / "user")
    os.mkdir(vault / "user")
    os.chown(vault / "user", NOBODY, NOBODY)
    attack(lambda: os.symlink(workdir / "root/x.jsonl", vault / "user/x.jsonl"))
    ctl("archive", "restore", vault, one, code=FAILED)
    ctl("quarantine", "restore", vault, entry, code=FAILED)
    attack(lambda: (os.unlink(vault / "user/x.jsonl"), os.mkfifo(vault / "user/x.jsonl")))
    ctl("quarantine", "restore", vault, entry, code=FAILED)
    untouched(workdir)
    os.unlink(vault / "user/x.jsonl")
    ctl("archive", "restore", vault, one)
    ctl("quarantine", "restore", vault, entry)
    assert (vault / "user/x.jsonl").read_bytes() == GOOD + GOOD


VERBS = {
    "check": ["check", "{}"],
    "repair": ["repair", "--apply", "{}"],
    "replace": ["replace", "{}"],
    "delete-record": ["delete-record", "--line=1", "{}"],
    "append": ["append", "{}"],
    "rotate": ["rotate", "{}"],
    "edit": ["edit", "{}"],
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("what", ["link", "directory", "fifo"])
def test_no_command_follows_what_users_plant(vault, workdir, verb, what):
    user = vault / "user"

    def plant():
        if what == "link":
            os.symlink(workdir / "root/x.jsonl", user / "x.jsonl")
        elif what == "fifo":
            os.mkfifo(user / "x.jsonl")
        else:
            os.symlink(workdir / "root", user / "d")

    attack(plant)
    path = user / ("d/x.jsonl" if what == "directory" else "x.jsonl")
    argv = [a.format(path) for a in VERBS[verb]]
    # Also from inside, by a path that begins in the middle of the vault.
    for cwd, p in ((None, path), (user, path.relative_to(user))):
        argv = [a.format(p) for a in VERBS[verb]]
        q = ctl(*argv, stdin=b'{"evil":1}\n', cwd=cwd, env={"EDITOR": "true"}, code=None)
        assert q.returncode & FAILED, q
        assert what == "fifo" or b"symbolic link" in q.stderr + q.stdout, q
    untouched(workdir)


def test_reap_deletes_nothing_behind_a_link(vault, workdir):
    root = workdir / "root"
    (root / "x.jsonl.1").write_bytes(SECRET)
    attack(lambda: os.symlink(root, vault / "user/d"))
    ctl("reap", "--keep=0", vault / "user/d", code=FAILED)
    ctl("reap", "--keep=0", vault / "user/d/x.jsonl", code=FAILED)
    ctl("reap", "--keep=0", vault)
    assert (root / "x.jsonl.1").exists()


def test_restore_while_a_directory_is_exchanged_for_a_link(vault, workdir):
    name = archived(vault, "user%2Fd%2Fnew.jsonl")
    root, user = workdir / "root", vault / "user"
    script = f"""
import ctypes, os
root, user = {str(root)!r}, {str(user)!r}
os.setgid({NOBODY}); os.setuid({NOBODY})
os.symlink(root, user + "/link")
os.mkdir(user + "/d")
print(flush=True)
libc = ctypes.CDLL(None)
a, b = (user + "/d").encode(), (user + "/link").encode()
while True:
    libc.renameat2(-100, a, -100, b, 2)
"""
    with subprocess.Popen([PYTHON, "-c", script], stdout=subprocess.PIPE, env=ENV) as p:
        p.stdout.readline()
        codes = {ctl("archive", "restore", vault, name, code=None).returncode
                 for _ in range(100)}
        p.kill()
    untouched(workdir)
    assert FAILED in codes


def test_a_state_directory_of_somebody_elses_is_not_believed(workdir):
    """By root: a vault of its own that an attacker has made of his directory."""
    v, root = workdir / "v", workdir / "root"
    v.mkdir()
    os.chown(v, NOBODY, NOBODY)
    root.mkdir(mode=0o700)
    (root / "x.jsonl").write_bytes(SECRET)

    def plant():
        os.makedirs(v / ".jsonlfs/archive")
        os.symlink(root, v / ".jsonlfs/quarantine")
        (v / "x.jsonl").write_bytes(GOOD + b"bad\n")
        (v / ".jsonlfs/archive" / "20260101T000000.000000000Z-y.jsonl").write_bytes(GOOD)

    attack(plant)
    for argv in (["archive", "list", v], ["quarantine", "list", v],
                 ["archive", "restore", v, "20260101T000000.000000000Z-y.jsonl"],
                 ["archive", "drop", v, "20260101T000000.000000000Z-y.jsonl"],
                 ["quarantine", "drop", v, "x.jsonl"],
                 ["repair", "--apply", v], ["delete-record", "--line=2", v / "x.jsonl"]):
        p = ctl(*argv, code=None)
        assert p.returncode & FAILED and b"forged" in p.stderr + p.stdout, (argv, p)
    untouched(workdir)
    assert sorted(os.listdir(v)) == [".jsonlfs", "x.jsonl"]
    # He himself may, and reading needs no state.
    ctl("archive", "list", v, uid=NOBODY)
    ctl("repair", v, code=DAMAGE)
    ctl("check", v, code=DAMAGE)


def test_a_state_directory_that_others_can_write_is_not_believed(vault):
    (vault / ".jsonlfs").chmod(0o777)
    assert b"forged" in ctl("archive", "list", vault, code=FAILED).stderr


def test_a_vault_inside_a_vault_is_not_the_vault(vault, workdir):
    """An inner .jsonlfs of an attacker's does not take paths out of the outer vault."""
    attack(lambda: os.mkdir(vault / "user/.jsonlfs"))
    (vault / "user/x.jsonl").write_bytes(b"bad\n")
    assert ctl("check", "--exclude=user/**", vault / "user").stdout
    ctl("archive", "list", vault / "user")


@pytest.mark.parametrize("kind", ["fifo", "forged"])
def test_a_status_file_in_a_bare_directory_is_not_read(workdir, kind):
    v = workdir / "v"
    (v / ".jsonlfs").mkdir(parents=True)
    heard = []
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as s:
        s.bind(str(workdir / "sock"))
        s.listen(1)
        if kind == "fifo":
            os.mkfifo(v / ".jsonlfs/status.json")
        else:
            (v / ".jsonlfs/status.json").write_text(json.dumps(
                {"control": str(workdir / "sock"), "uid": 0, "version": "\x1b]0;evil\a"}))
        (v / "x.jsonl").write_bytes(GOOD)
        p = ctl("status", v, code=FAILED, timeout=10)
        assert b"no jsonlfs is mounted here" in p.stderr and b"\x1b" not in p.stdout + p.stderr
        ctl("check", v, timeout=10)
        ctl("replace", v / "x.jsonl", stdin=b'{"b":2}\n', timeout=10)
        s.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            heard.append(s.accept())
    assert heard == [] and (v / "x.jsonl").read_bytes() == b'{"b":2}\n'


# ---- sockets ----


def full_socket(path, backlog=0):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.bind(str(path))
    os.chmod(path, 0o777)
    s.listen(backlog)
    others = []
    while True:
        c = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        c.setblocking(False)
        others.append(c)
        try:
            c.connect(str(path))
        except BlockingIOError:
            return [s, *others]


@pytest.mark.parametrize("squatter", [True, False], ids=["somebody", "owner"])
def test_a_socket_with_a_full_queue_does_not_hang_it(workdir, squatter):
    """/tmp/jsonlfs-UID, made by somebody else, or by the owner of the vault."""
    v, owner = workdir / "v", 54321 + squatter
    v.mkdir()
    (v / ".jsonlfs").mkdir()
    (v / "x.jsonl").write_bytes(GOOD + b"bad\n")
    for p in (v, v / ".jsonlfs", v / "x.jsonl"):
        os.chown(p, owner, owner)
    place = f"/tmp/jsonlfs-{owner}"
    st = os.stat(v)
    name = f"{place}/{os.major(st.st_dev)}:{os.minor(st.st_dev)}-{st.st_ino}"
    os.mkdir(place, 0o755)
    try:
        os.chown(place, NOBODY if squatter else owner, -1)
        held = full_socket(name)
        p = ctl("repair", "--apply", v, uid=owner, timeout=20, code=None)
        if squatter:
            assert p.returncode == 1 and (v / "x.jsonl").read_bytes() == GOOD
        else:
            assert p.returncode & FAILED and b"too many" in p.stderr + p.stdout
        for s in held:
            s.close()
    finally:
        shutil.rmtree(place)


# ---- deep trees ----


def make_deep(top, levels):
    """A directory a level, each with a log, and one at the bottom that is damaged."""
    here = os.getcwd()
    os.chdir(top)
    try:
        for i in range(levels):
            os.mkdir("d" * 100)
            if i % 100 == 0:
                with open("z.jsonl", "wb") as f:
                    f.write(GOOD)
            os.chdir("d" * 100)
        with open("deep.jsonl", "wb") as f:
            f.write(GOOD + b"bad\n")
        with open("deep.jsonl.1", "wb") as f:
            f.write(GOOD)
    finally:
        os.chdir(here)


@pytest.mark.limit(180)
def test_trees_without_a_bottom(workdir):
    """Little memory, few descriptors, and what lies beside them is looked at."""
    v, levels = workdir / "v", 12000
    v.mkdir()
    make_deep(v, levels)
    (v / "zz.jsonl").write_bytes(GOOD + b"bad\n")
    # AddressSanitizer keeps what is freed, up to 256 MiB by default.
    env = {"ASAN_OPTIONS": ENV.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"}
    script = """
import json, resource, subprocess, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (120, 120))
p = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
out = p.stdout
print(json.dumps([p.returncode, used, len(out), p.stderr.decode()[-300:]]))
sys.stderr.buffer.write(out[-300:])
"""
    try:
        for argv, code in ((["check", "--jobs=1"], 4), (["repair"], DAMAGE),
                           (["reap", "--keep=0", "-n"], 0)):
            p = run(PYTHON, "-c", script, binary("jsonlfsctl"), *argv, v, check=0, timeout=100,
                    env=env)
            got, used, length, said = json.loads(p.stdout)
            assert got == code, (argv, got, said, p.stderr)
            assert used < 100000, (argv, used)
            if argv[0] == "check":
                # All logs, the one at the bottom and the one beside the tree.
                assert b"DAMAGED: 2 findings in 2 files" in p.stderr
                assert length > levels * 101
            elif argv[0] == "reap":
                assert b"1 generation, " in p.stderr
    finally:
        run("rm", "-rf", v, check=0, timeout=60)


def test_a_tree_that_is_moved_while_it_is_walked(vault, workdir):
    """Directories come and go above the place where the walk is: it ends, and sees the rest."""
    top = vault / "user/a"
    path = top
    for _ in range(60):
        path = path / "d"
    path.mkdir(parents=True)
    (path / "x.jsonl").write_bytes(GOOD)
    (vault / "z.jsonl").write_bytes(GOOD)
    stop = threading.Event()

    def shuffle():
        a, b = top / "d/d/d", vault / "user/b"
        while not stop.is_set():
            os.rename(a, b)
            os.rename(b, a)

    t = threading.Thread(target=shuffle)
    t.start()
    try:
        for _ in range(50):
            p = ctl("check", "--json", vault, code=None)
            assert p.returncode in (0, FAILED)
            assert json.loads(p.stdout)["files"] >= 1
    finally:
        stop.set()
        t.join()


# ---- terminals ----

EVIL = "\x1b]0;evil\x07\u009b31m\u202e"


def clean(p):
    text = (p.stdout + p.stderr).decode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text), p
    return text


def test_names_and_what_others_say_do_nothing_to_a_terminal(vault, workdir):
    name = f"{EVIL}.jsonl"
    log = vault / "user" / name
    log.write_bytes(GOOD + b"bad\n")
    (vault / "user" / f"{name}.1").write_bytes(GOOD)
    entry = archived(vault, f"user%2F{EVIL}.jsonl")
    set_aside(vault, f"user/{EVIL}.jsonl")
    attack(lambda: os.symlink(f"/{EVIL}", vault / "user/link"))
    (workdir / "rules.json").write_text(json.dumps(
        {"rules": [{"match": f"{EVIL}*", "class": "replace"}]}))
    bad = workdir / f"{EVIL}.json"
    bad.write_text("{")
    for argv in (["check", vault], ["check", "--json", vault], ["check", log], ["repair", vault],
                 ["repair", "--json", vault], ["archive", "list", vault],
                 ["archive", "list", "--json", vault], ["quarantine", "list", vault],
                 ["quarantine", "list", "--json", vault], ["archive", "restore", vault, entry],
                 ["archive", "restore", vault, EVIL], ["quarantine", "show", vault, EVIL],
                 ["quarantine", "drop", vault, EVIL], ["archive", "drop", vault, EVIL],
                 ["reap", "-n", "--keep=0", vault], ["rotate", f"{log}x"], ["status", log],
                 ["append", f"{vault}/{EVIL}/x"], ["watch", f"{vault}/{EVIL}"], [EVIL],
                 ["check", f"--{EVIL}"], ["config", "check", bad],
                 ["config", "check", workdir / "rules.json", name],
                 ["config", "check", "--json", workdir / "rules.json", name],
                 ["replace", log], ["edit", f"{log}x"], ["reload", f"{log}x"],
                 ["delete-record", "--line=9", log], ["rotate", log]):
        clean(ctl(*argv, code=None))


def test_the_name_of_a_program_does_nothing_to_a_terminal(vault):
    log = vault / "x.jsonl"
    log.write_bytes(GOOD + b"bad\n")
    script = f"""
import ctypes, sys
ctypes.CDLL(None).prctl(15, b"\\x1b]0;evil\\x07", 0, 0, 0)
f = open({str(log)!r}, "ab")
print(flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([PYTHON, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          env=ENV) as p:
        p.stdout.readline()
        q = ctl("repair", "--apply", vault, code=None)
        assert "\\x1b]0;evil\\x07" in clean(q)
        p.stdin.close()


def test_an_entry_is_shown_to_a_terminal_without_harm(vault):
    """And byte for byte to everything else."""
    entry = set_aside(vault)
    data = f'{{"{EVIL}":1}}\nx'.encode()
    (vault / ".jsonlfs/quarantine" / entry).write_bytes(data)
    assert ctl("quarantine", "show", vault, entry).stdout == data
    main, other = pty.openpty()
    p = subprocess.run([binary("jsonlfsctl"), "quarantine", "show", vault, entry],
                       stdout=other, stderr=subprocess.PIPE, timeout=20, env=ENV)
    os.close(other)
    seen = b""
    while select.select([main], [], [], 1)[0]:
        try:
            piece = os.read(main, 4096)
        except OSError:
            break
        seen += piece
    os.close(main)
    assert p.returncode == 0 and b"\x1b" not in seen and b"\\x1b]0;evil\\x07" in seen


# ---- links that lead out ----


def test_check_lists_links_that_lead_out(vault):
    (vault / "a/b").mkdir(parents=True)
    out = {"abs": "/etc/passwd", "a/up": "../../x", "a/b/named": "../c/../../../x", "top": "..",
           "a/b/mixed": "./../../../x", "inside-abs": str(vault / "a")}
    inside = {"a/b/in": "../../x", "in": "a/b", "a/one": "..", "a/dots": "./b", "dangling": "none",
              "a/b/dotty": "..x/...", "self": "."}
    for name, target in (out | inside).items():
        (vault / name).symlink_to(target)
    p = ctl("check", "--json", vault)
    d = json.loads(p.stdout)
    prefix = f"{vault}/"
    assert {x["link"].removeprefix(prefix): x["target"] for x in d["links"]} == out
    assert d["links_out"] == len(out) and d["clean"] is True
    # Depth counts from the vault's root, wherever the check begins.
    d = json.loads(ctl("check", "--json", vault / "a/b").stdout)
    assert {x["link"].removeprefix(prefix) for x in d["links"]} == {"a/b/named", "a/b/mixed"}
    text = ctl("check", vault).stdout.decode()
    assert f"{vault}/abs: note: a link that leads out of the vault, to /etc/passwd" in text
    assert re.search(r"^links leading out +6$", text, re.M)
