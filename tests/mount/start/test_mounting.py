# SPDX-License-Identifier: MIT
"""How a mount comes up and goes down: the command and its exit codes, fstab through mount(8),
ordinary users, dead mounts, signals, and what the daemon must not inherit."""

import contextlib
import errno
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess

import pytest
from util import (
    DAEMON,
    ENV,
    KEEPER,
    NOBODY,
    REPO,
    append,
    as_user,
    binary,
    mount_table,
    process_in_exec,
    records,
    run,
    sanitized,
    wait_for,
)
from vaults import GOOD, Installed, daemons, gone, mounted_in, mounts_on

MAN = REPO / "docs" / "jsonlfs.8"


# ---- the command ----


def help_options():
    """-o lines of the help: [(names, default or None)]."""
    text = run(binary("jsonlfs"), "-h", check=0).stdout.decode()
    found = []
    for line in re.findall(r"^    -o (.*)$", text, re.M):
        names = re.match(r"[\w=]+(?:, [\w=]+)*", line).group(0).split(", ")
        default = re.search(r"\(default: ([^)]*)\)$", line)
        found.append((names, default.group(1) if default else None))
    return found


def man_paragraphs(page):
    """Tag -> text of each tagged paragraph of a man page."""
    found = {}
    for part in page.read_text().split("\n.TP\n")[1:]:
        tag, _, rest = part.partition("\n")
        tag = "".join(shlex.split(tag)[1:])
        text = re.split(r"^\.(?:SH|SS|PP)", rest, maxsplit=1, flags=re.M)[0]
        found[tag] = " ".join(text.split())
    return found


def test_the_man_pages_are_well_formed():
    for page in sorted((REPO / "docs").glob("*.8")):
        p = run("groff", "-man", "-Tutf8", "-ww", "-z", page, check=0)
        assert p.stderr == b"", page


def test_the_man_page_has_every_option_with_its_default():
    paragraphs = man_paragraphs(MAN)
    options = help_options()
    assert len(options) > 25
    for names, default in options:
        tag = ", ".join(names)
        assert tag in paragraphs, f"{tag} is not in jsonlfs(8): {sorted(paragraphs)}"
        if default is not None:
            assert f"(default: {default})" in paragraphs[tag], (tag, paragraphs[tag])


def test_the_man_page_names_no_option_that_does_not_exist():
    known = {", ".join(names) for names, _ in help_options()}
    for tag in man_paragraphs(MAN):
        if re.match(r"[a-z_]+=[A-Z]+$", tag):
            assert tag in known, tag


def test_help_and_version():
    assert b"SOURCE MOUNTPOINT" in run(binary("jsonlfs"), "-h", check=0).stdout
    assert re.match(rb"jsonlfs \d+\.\d+", run(binary("jsonlfs"), "-V", check=0).stdout)
    for letter in ("--help", "--version"):
        run(binary("jsonlfs"), letter, check=0)


@pytest.mark.parametrize(
    "options, says",
    [
        ("nonsense", 'unknown option "nonsense"'),
        ("nonsense=1", 'unknown option "nonsense"'),
        ("sync=sometimes", "allowed is one of close, write, none"),
        ("maxrecord=1T", "allowed is a number of bytes"),
        ("commit=always", "allowed is one of line, close"),
        ("allow_other,nodefault_permissions", "noallow_other"),
        ("remount,ro", "remount is not available"),
        # Without a line of fstab mount(8) gives what the kernel says of the mount.
        ("rw,user_id=0,group_id=0,remount", "remount is not available"),
        ("match=", "at least one pattern"),
    ],
)
def test_a_wrong_option_is_exit_code_1_and_a_sentence(v, options, says):
    p = v.jsonlfs(options, check=1)
    assert says in p.stderr.decode()
    assert not mounts_on(v.path)


def test_wrong_usage_is_exit_code_1(v):
    for argv in ([], [v.path], [v.path] * 3, ["-x", v.path, v.path], ["-o"]):
        p = run(binary("jsonlfs"), *argv, check=1)
        assert p.stderr


def test_what_cannot_be_mounted_is_exit_code_32(v, workdir):
    (workdir / "file").write_text("x")
    for source, mnt in (
        (workdir / "none", v.path),
        (v.path, workdir / "none"),
        (workdir / "file", v.path),
        (v.path, workdir / "file"),
    ):
        p = run(binary("jsonlfs"), source, mnt, check=32)
        assert p.stderr.startswith(b"jsonlfs: ")
    assert not mounts_on(v.path)


def test_the_mount_works_when_the_command_returns(v):
    (v.path / "old.md").write_text("x")
    for _ in range(5):
        p = v.jsonlfs()
        assert (p.stdout, p.stderr) == (b"", b"")
        append(v.log("a.jsonl"), GOOD)
        assert v.table()[0] == "fuse.jsonlfs"
        v.umount()
    assert records(v.log("a.jsonl")) == [{"n": 1}] * 5


def test_what_the_mount_table_shows(v):
    v.jsonlfs("suid", "dev", "noexec")
    fields = mounts_on(v.path)[0].split()
    assert {"nosuid", "nodev", "noexec"} <= set(fields[5].split(","))
    kind, source, extra = fields[fields.index("-") + 1 :]
    assert (kind, source) == ("fuse.jsonlfs", str(v.path))
    assert {"allow_other", "default_permissions"} <= set(extra.split(","))


def test_names_that_fstab_and_libfuse_must_escape(vault):
    for name in ("a b", "c,d", "e\\f", "g\th", "i#j", "k\\054l"):
        v = vault(name)
        v.jsonlfs()
        assert os.path.ismount(v.path), name
        append(v.log("a.jsonl"), GOOD)
        assert b"already mounted" in v.jsonlfs().stderr, name
        assert len(daemons(v.path)) == 1
        v.umount()
        assert records(v.log("a.jsonl")) == [{"n": 1}]


def test_relative_paths_and_the_vault_as_the_current_directory(v):
    (v.path / "sub").mkdir()
    run(binary("jsonlfs"), "..", "../../vault", cwd=v.path / "sub", check=0)
    append(v.log("a.jsonl"), GOOD)
    (pid,) = [p for p in map(int, filter(str.isdigit, os.listdir("/proc")))
              if serves(p, v.path)]
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    run("umount", v.path, check=0)
    wait_for(lambda: gone(pid), "the end of the daemon")


def serves(pid, path):
    """Does this process hold the source of a mount open, as a daemon does?"""
    with contextlib.suppress(OSError):
        if os.path.basename(os.readlink(f"/proc/{pid}/exe")) == "jsonlfs":
            with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
                if f.read().strip() == KEEPER:
                    return False
            return any(
                os.readlink(f"/proc/{pid}/fd/{fd}") == str(path)
                for fd in os.listdir(f"/proc/{pid}/fd")
            )
    return False


def test_a_source_elsewhere(vault):
    source, target = vault("source"), vault("target")
    run(binary("jsonlfs"), source.path, target.path, check=0)
    append(target.path / "a.jsonl", GOOD)
    assert records(source.path / "a.jsonl") == [{"n": 1}]
    # The same again is no error; another source is a mount on top.
    assert b"already" in run(binary("jsonlfs"), source.path, target.path, check=0).stderr
    assert len(mounts_on(target.path)) == 1
    target.umount()


# ---- again, and after an accident ----


def test_mounting_twice_does_not_stack(v):
    v.jsonlfs()
    p = v.jsonlfs()
    assert b"already mounted" in p.stderr
    assert len(mounts_on(v.path)) == 1 and len(daemons(v.path)) == 1
    v.umount()


def test_eight_commands_at_once_make_one_mount(v):
    started = [
        subprocess.Popen(
            [binary("jsonlfs"), str(v.path), str(v.path)],
            env=ENV, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )
        for _ in range(8)
    ]
    said = [p.communicate(timeout=30)[1] for p in started]
    assert [p.returncode for p in started] == [0] * 8, said
    assert len(mounts_on(v.path)) == 1
    assert sum(b"already" in x for x in said) == 7
    v.umount()


def test_a_dead_mount_gives_enotconn_and_the_same_command_mounts_again(v):
    v.jsonlfs("nosupervise")
    append(v.log("a.jsonl"), GOOD)
    for n in range(3):
        pid = v.pid
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: gone(pid), "its death")  # noqa: B023
        with pytest.raises(OSError) as info:
            append(v.log("a.jsonl"), GOOD)
        # Never the bare directory.
        assert info.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        p = v.jsonlfs("nosupervise")
        assert b"dead mount" in p.stderr
        append(v.log("a.jsonl"), GOOD)
        assert len(mounts_on(v.path)) == 1
        assert len(records(v.log("a.jsonl"))) == n + 2
    v.umount()


def test_another_file_system_on_the_mount_point_is_left_alone(v):
    run("mount", "-t", "tmpfs", "none", v.path, check=0)
    try:
        v.jsonlfs()
        assert [m.split(" - ")[1].split()[0] for m in mounts_on(v.path)] == [
            "tmpfs", "fuse.jsonlfs",
        ]
        v.umount()
        assert len(mounts_on(v.path)) == 1
    finally:
        run("umount", "-l", v.path)


# ---- going down ----


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_drain_and_unmount(mount, number):
    m = mount()
    fd = os.open(m.p("a.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, GOOD)
    os.write(fd, b'{"half":')
    m.proc.send_signal(number)
    assert m.proc.wait(20) == 0
    with contextlib.suppress(OSError):
        os.close(fd)
    assert not m.mounted()
    assert records(m.source / "a.jsonl") == [{"n": 1}]
    assert m.set_aside("a.jsonl") == b'{"half":'
    assert m.log_lines("unmounted", f"signal={int(number)}")


def test_a_signal_while_a_program_hammers(mount):
    m = mount()
    writer = subprocess.Popen(
        ["/bin/bash", "-c", 'for ((i = 0; ; i++)); do echo "{\\"n\\":$i}" >> a.jsonl; done'],
        cwd=m.mnt, env=ENV, stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: len(records(m.source / "a.jsonl")) > 20, "records")
        m.proc.terminate()
        assert m.proc.wait(20) == 0
    finally:
        writer.kill()
        writer.wait()
    numbers = [r["n"] for r in records(m.source / "a.jsonl")]
    assert numbers == list(range(len(numbers)))


def test_a_lazy_unmount_serves_open_handles_to_their_end(v):
    v.jsonlfs()
    pid = v.pid
    fd = os.open(v.log("a.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    run("umount", "-l", v.path, check=0)
    os.write(fd, GOOD)
    os.close(fd)
    wait_for(lambda: gone(pid), "the end of the daemon")
    assert records(v.log("a.jsonl")) == [{"n": 1}]


def test_a_daemon_unmounts_nobody_elses_mount(v):
    v.jsonlfs()
    old = v.pid
    fd = os.open(v.log("a.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    run("umount", "-l", v.path, check=0)
    v.jsonlfs()
    os.kill(old, signal.SIGTERM)
    wait_for(lambda: gone(old), "the end of the daemon")
    with contextlib.suppress(OSError):
        os.close(fd)
    assert len(mounts_on(v.path)) == 1
    append(v.log("a.jsonl"), GOOD)
    v.umount()


def test_letters(v):
    for letters in (["-s"], ["-f"], ["-d"], ["-f", "-s"]):
        with open("/dev/null", "wb") as null:
            p = subprocess.Popen(
                [binary("jsonlfs"), *letters, str(v.path), str(v.path)],
                env=ENV, stdin=null, stdout=null, stderr=null,
            )
        wait_for(lambda: mounts_on(v.path), "the mount")
        append(v.log("a.jsonl"), GOOD)
        if letters != ["-s"]:
            assert p.poll() is None
        v.umount()
        assert p.wait(10) == 0
    assert len(records(v.log("a.jsonl"))) == 4


def test_one_worker_thread_is_one(v):
    v.jsonlfs(letters=["-s"])
    script = 'for i in {1..20}; do echo "{}" >> a.jsonl & cat a.jsonl > /dev/null & done; wait'
    run("/bin/bash", "-c", script, cwd=v.path, check=0)
    # Itself, the one that waits for signals, the one for what must wait or is left open for
    # a while, one for durability, one that tells the kernel, the control socket's;
    # ThreadSanitizer adds one.
    assert len(os.listdir(f"/proc/{v.pid}/task")) <= 7
    assert len(records(v.log("a.jsonl"))) == 20
    v.umount()


# ---- what is inherited ----


def limits(pid, name):
    with open(f"/proc/{pid}/limits", encoding="ascii") as f:
        for line in f:
            if line.startswith(name):
                return line[26:].split()[:2]
    raise AssertionError(name)


def start_with(v, prepare):
    subprocess.run(
        [binary("jsonlfs"), str(v.path), str(v.path)],
        preexec_fn=prepare, env=ENV, timeout=20, check=True,
    )


def test_soft_limits_are_raised_to_the_hard_ones(v):
    def prepare():
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, files))
        size = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, size))

    start_with(v, prepare)
    soft, hard = limits(v.pid, "Max open files")
    assert soft == hard and int(soft) > 64
    soft, hard = limits(v.pid, "Max file size")
    assert soft == hard
    for _ in range(50):
        append(v.log("a.jsonl"), GOOD)
    assert len(records(v.log("a.jsonl"))) == 50
    v.umount()


def test_a_hard_limit_of_the_file_size_ends_no_daemon_and_tears_no_record(v):
    limit = 1000

    def prepare():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    start_with(v, prepare)
    kept = 0
    for _ in range(200):
        try:
            append(v.log("a.jsonl"), GOOD)
            kept += 1
        except OSError as e:
            assert e.errno == errno.EFBIG
    # A daemon that may raise the limit has done so.
    raised = limits(v.pid, "Max file size")[0] == "unlimited"
    assert len(records(v.log("a.jsonl"))) == kept
    assert kept == (200 if raised else limit // len(GOOD))
    v.umount()


def test_closed_standard_descriptors(v):
    def prepare():
        os.closerange(0, 3)

    start_with(v, prepare)
    for fd in range(3):
        assert os.readlink(f"/proc/{v.pid}/fd/{fd}") == "/dev/null"
    append(v.log("a.jsonl"), GOOD)
    with contextlib.suppress(OSError):
        append(v.log("a.jsonl"), b"bad\n")
    v.umount()
    assert records(v.log("a.jsonl")) == [{"n": 1}]


def test_nothing_of_the_caller_stays_open(v):
    """Descriptors, directory and terminal of the caller are let go: its pipe ends."""
    r, w = os.pipe()
    subprocess.run(
        [binary("jsonlfs"), str(v.path), str(v.path)],
        pass_fds=[w], stdout=w, stderr=w, cwd=v.path, env=ENV, timeout=20, check=True,
    )
    os.close(w)
    assert os.read(r, 1) == b""
    os.close(r)
    with open(f"/proc/{v.pid}/stat", encoding="ascii") as f:
        session = int(f.read().rsplit(")", 1)[1].split()[3])
    assert session == v.pid
    v.umount()


def test_the_callers_umask_counts_not_the_daemons(v):
    start_with(v, lambda: os.umask(0o077))
    before = os.umask(0o022)
    try:
        append(v.log("a.jsonl"), GOOD)
        (v.path / "b.md").write_text("x")
    finally:
        os.umask(before)
    assert v.log("a.jsonl").stat().st_mode & 0o777 == 0o644
    assert v.log("b.md").stat().st_mode & 0o777 == 0o644
    v.umount()


def test_signals_that_the_caller_ignored_or_blocked(v):
    def prepare():
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR2])
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    start_with(v, prepare)
    pid = v.pid
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: gone(pid), "the end of the daemon")
    assert not mounts_on(v.path)


def test_least_privilege(v):
    v.jsonlfs()
    with open(f"/proc/{v.pid}/status", encoding="ascii") as f:
        status = dict(line.split(":", 1) for line in f)
    assert status["NoNewPrivs"].strip() == "1"
    held = int(status["CapPrm"], 16) | int(status["CapBnd"], 16)
    for name, number in {
        "KILL": 5, "SETPCAP": 8, "NET_ADMIN": 12, "NET_RAW": 13, "SYS_MODULE": 16,
        "SYS_RAWIO": 17, "SYS_CHROOT": 18, "SYS_BOOT": 22, "SYS_RESOURCE": 24,
        "SYS_TIME": 25, "MAC_ADMIN": 33, "BPF": 39,
    }.items():
        assert not held & 1 << number, name
    assert int(status["CapInh"], 16) == 0
    v.umount()


# ---- whom it is for ----


def test_a_mount_by_root_is_for_everybody_and_permissions_count(v):
    v.jsonlfs()
    append(v.log("a.jsonl"), GOOD)
    v.log("a.jsonl").chmod(0o600)
    for uid in (NOBODY, DAEMON):
        assert "a.jsonl" in as_user(uid, lambda: os.listdir(v.path))
        with pytest.raises(PermissionError):
            as_user(uid, lambda: append(v.log("a.jsonl"), GOOD))
        as_user(uid, lambda: append(v.log(f"{uid}.jsonl"), GOOD))  # noqa: B023
        assert v.log(f"{uid}.jsonl").stat().st_uid == uid
    v.umount()


def test_noallow_other_restricts_it_to_root(v):
    v.jsonlfs("noallow_other")
    assert "allow_other" not in mounts_on(v.path)[0]
    with pytest.raises(PermissionError):
        as_user(NOBODY, lambda: os.listdir(v.path))
    v.umount()


def test_an_ordinary_user_mounts_with_fusermount3(v, fuse_for_all):
    os.chown(v.path, NOBODY, NOBODY)
    v.path.chmod(0o700)
    v.jsonlfs("nofail", "x-test=1", uid=NOBODY)
    assert "allow_other" not in mounts_on(v.path)[0]
    assert "default_permissions" in mounts_on(v.path)[0]

    def work():
        append(v.log("a.jsonl"), GOOD)
        with pytest.raises(OSError) as info:
            append(v.log("a.jsonl"), b"oops\n")
        assert info.value.errno == errno.EBADMSG

    as_user(NOBODY, work)
    with pytest.raises(PermissionError):
        os.listdir(v.path)  # not even root, unless allow_root or allow_other
    pid = v.pid
    assert b"already mounted" in v.jsonlfs(uid=NOBODY).stderr
    run("fusermount3", "-u", v.path, uid=NOBODY, check=0)
    wait_for(lambda: gone(pid), "the end of the daemon")
    assert records(v.log("a.jsonl")) == [{"n": 1}]

    # A signal unmounts as well, and after a death the same command mounts again.
    v.jsonlfs(uid=NOBODY)
    pid = v.pid
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: gone(pid), "the end of the daemon")
    assert not mounts_on(v.path)
    v.jsonlfs("nosupervise", uid=NOBODY)
    os.kill(v.pid, signal.SIGKILL)
    wait_for(lambda: not daemons(v.path), "its death")
    p = v.jsonlfs(uid=NOBODY)
    assert b"dead mount" in p.stderr
    as_user(NOBODY, lambda: append(v.log("a.jsonl"), GOOD))
    run("fusermount3", "-u", v.path, uid=NOBODY, check=0)


def test_an_ordinary_users_allow_other_needs_fuse_conf(v, fuse_for_all):
    os.chown(v.path, NOBODY, NOBODY)
    with contextlib.suppress(FileNotFoundError):
        with open("/etc/fuse.conf", encoding="ascii") as f:
            assert not re.search(r"^user_allow_other", f.read(), re.M)
    p = v.jsonlfs("allow_other", uid=NOBODY, check=32)
    assert b"user_allow_other" in p.stderr
    assert not mounts_on(v.path)


# ---- what it says at the start ----


def test_programs_that_write_round_the_mount_are_named(mount):
    held = []

    def prepare(source):
        held.append(open(source / "a.jsonl", "ab"))
        held.append(open(source / "b.md", "ab"))
        (source / "c.jsonl").write_bytes(GOOD)
        held.append(open(source / "c.jsonl", "rb"))

    m = mount(prepare=prepare)
    line = m.expect_log("bypass")
    assert 'path="a.jsonl"' in line and f"pid={os.getpid()}" in line
    assert len(m.log_lines("bypass")) == 1
    assert m.log_lines("mounted", str(m.mnt))
    for f in held:
        f.close()


def test_a_process_that_hangs_in_an_exec_does_not_hold_up_the_start(mount):
    """It waits for the answer to its close of a log, from a daemon that is stopped; who looks
    at its descriptors in /proc waits with it."""
    stopped = mount()
    with process_in_exec(stopped):
        # A leak checker stops each thread, also the one that looks there: it waits, too.
        options = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        m = mount(env={"ASAN_OPTIONS": options})
        append(m.p("x.jsonl"), GOOD)
        assert m.both("x.jsonl") == GOOD
        m.stop()  # nor the end


def test_a_configuration_file(v, workdir):
    config = workdir / "vault.json"
    config.write_text('{\n  "value": "object",\n  "match": ["*.jsonl", "*.log"]\n}\n')
    v.jsonlfs(f"config={config}")
    for name in ("a.jsonl", "a.log"):
        append(v.log(name), GOOD)
        with pytest.raises(OSError) as info:
            append(v.log(name), b"[1]\n")
        assert info.value.errno == errno.EBADMSG
    v.umount()
    config.write_text('{\n  "value": "object",\n  "valeu": "any"\n}\n')
    p = v.jsonlfs(f"config={config}", check=1)
    assert f"{config}:3:" in p.stderr.decode() and "valeu" in p.stderr.decode()


def test_the_demonstration_of_the_readme(v):
    demo = REPO / "mount-scripts" / "demo"
    v.jsonlfs()
    said = run(demo, v.path, check=0, timeout=60).stdout.decode()
    assert " lines, 0 of them broken" in said and "8000 are whole" in said
    v.umount()
    # Chance decides where the killed writer is cut off: several tries.
    assert any(
        " lines, 0 of them broken" not in run(demo, v.path, check=0, timeout=60).stdout.decode()
        for _ in range(20)
    ), "a bare directory did not break it"


# ---- as an administrator installs it ----


@pytest.fixture(scope="module")
def installed(base):
    root = base / f"root{os.getpid()}"
    system = Installed(root)
    yield system
    system.end()
    shutil.rmtree(root, ignore_errors=True)


ADDED = "defaults,nofail,noauto,_netdev,x-systemd.requires=network.target,X-test=1,comment=a"


@pytest.mark.parametrize("kind", ["jsonlfs", "fuse.jsonlfs"])
@pytest.mark.parametrize(
    "options",
    [
        "defaults",
        "defaults,allow_other,nofail",
        "rw,user,relatime,nodev,nosuid,_netdev,x-systemd.mount-timeout=10",
        "defaults,noatime,value=object,sync=write,match=*.jsonl:*.log",
    ],
)
def test_fstab_lines(installed, v, workdir, kind, options):
    table = workdir / "fstab"
    table.write_text(f"{v.path} {v.path} {kind} {options} 0 0\n")
    for _ in range(2):
        p = installed.run("mount", "-a", "-T", table, check=0)
        assert len(mounted_in(installed, v.path)) == 1, p.stderr
    line = mounted_in(installed, v.path)[0]
    assert " - fuse.jsonlfs " in line and "allow_other" in line and "nosuid,nodev" in line
    installed.sh('cd "$1" && echo \'{"n":1}\' >> a.jsonl', v.path, check=0)
    p = installed.sh('cd "$1" && echo oops >> a.jsonl', v.path, check=1)
    assert b"Bad message" in p.stderr
    installed.run("umount", v.path, check=0)
    assert not mounted_in(installed, v.path)
    wait_for(lambda: not daemons(v.path), "the end of the daemon")
    assert records(v.log("a.jsonl")) == [{"n": 1}]


@pytest.mark.parametrize("option", ["noatime", "nodiratime", "relatime"])
def test_access_times_are_those_of_the_source(installed, v, option):
    """Such an option is accepted, for lines of fstab, and not shown as if it had an effect."""
    installed.run("mount", "-t", "jsonlfs", "-o", option, v.path, v.path, check=0)
    plain = v.path / "plain"
    installed.sh('echo x >"$1"; touch -a -d @1 "$1"; cat "$1" >/dev/null', plain, check=0)
    assert "relatime" in mounted_in(installed, v.path)[0].split()[5]
    installed.run("umount", v.path, check=0)
    assert plain.stat().st_atime > 1


@pytest.mark.parametrize("kind", ["jsonlfs", "fuse.jsonlfs"])
def test_mount_by_hand_with_everything_that_fstab_may_hold(installed, v, kind):
    installed.run("mount", "-t", kind, "-o", ADDED, v.path, v.path, check=0)
    assert len(mounted_in(installed, v.path)) == 1
    installed.run("umount", v.path, check=0)


@pytest.mark.parametrize("kind", ["jsonlfs", "fuse.jsonlfs"])
def test_mount_hands_on_an_unknown_option_as_an_error(installed, v, kind):
    p = installed.run("mount", "-t", kind, "-o", "nonsense", v.path, v.path)
    assert p.returncode == 1 and b"nonsense" in p.stderr
    # Sloppy: mount -s.
    if kind == "jsonlfs":
        installed.run("mount", "-s", "-t", kind, "-o", "nonsense", v.path, v.path, check=0)
        installed.run("umount", v.path, check=0)


def test_the_helper_by_itself(installed, v):
    helper = "/sbin/mount.jsonlfs"
    installed.run(helper, v.path, v.path, "-f", "-n", "-v", "-o", "rw", check=0)
    assert not mounted_in(installed, v.path)
    installed.run(helper, v.path, v.path, "-n", "-s", "-o", "rw,strange", check=0)
    assert len(mounted_in(installed, v.path)) == 1
    assert b"already" in installed.run(helper, v.path, v.path, check=0).stderr
    installed.run("umount", v.path, check=0)


def test_a_user_line_mounts_as_that_user(installed, v, fuse_for_all):
    """`user` in the real fstab: mount(8) is setuid and gives the helper the user's id."""
    os.chown(v.path, NOBODY, NOBODY)
    v.path.chmod(0o700)
    table = v.path.parent / "fstab-user"
    table.write_text(f"{v.path} {v.path} jsonlfs noauto,user 0 0\n")
    # /etc/fstab is that of the namespace.
    installed.sh('mount --bind "$1" /etc/fstab || { touch /etc/fstab; mount --bind "$1" '
                 "/etc/fstab; }", table, check=0)
    try:
        p = installed.run("mount", v.path, uid=NOBODY)
        assert p.returncode == 0, p.stderr
        line = mounted_in(installed, v.path)[0]
        assert f"user_id={NOBODY}" in line and "noexec" in line
        installed.sh('echo \'{"n":1}\' >> "$1/a.jsonl"', v.path, uid=NOBODY, check=0)
        p = installed.run("umount", v.path, uid=NOBODY)
        assert p.returncode == 0, p.stderr
    finally:
        installed.run("umount", "/etc/fstab")
    wait_for(lambda: not daemons(v.path), "the end of the daemon")
    assert records(v.log("a.jsonl")) == [{"n": 1}]


def test_what_is_installed(installed):
    local = installed.root / "usr/local"
    for name in (
        "bin/jsonlfs", "bin/jsonlfsctl", "sbin/mount.jsonlfs", "share/man/man8/jsonlfs.8",
        "share/man/man8/mount.jsonlfs.8", "lib/systemd/system/jsonlfs@.service",
        "share/doc/jsonlfs/examples/fstab.example",
        "share/doc/jsonlfs/examples/jsonlfs.json.example",
    ):
        assert os.path.lexists(local / name), name
    assert os.readlink(installed.root / "usr/sbin/mount.jsonlfs") == "/usr/local/bin/jsonlfs"


def test_the_example_configuration_is_accepted(installed, v):
    example = REPO / "mount-scripts" / "jsonlfs.json.example"
    json.loads(example.read_text())
    v.jsonlfs(f"config={example}")
    v.umount()


def test_the_lines_of_the_fstab_example_are_accepted(v, workdir):
    """Each line, commented out or not, with the vault of this test in place of its paths."""
    example = (REPO / "mount-scripts" / "fstab.example").read_text()
    lines = re.findall(r"^#?(/\S+\s+/\S+\s+(?:fuse\.)?jsonlfs\s+\S+\s+0\s+0)$", example, re.M)
    assert len(lines) >= 6
    config = workdir / "vault.json"
    config.write_text("{}")
    for line in lines:
        options = line.split()[3].replace("/etc/jsonlfs/vault.json", str(config))
        v.jsonlfs(options)
        v.umount()


def test_an_ordinary_users_mount_and_whole_files(v, fuse_for_all):
    """Without root: no file handles, no change of owner; rewrites work all the same."""
    os.chown(v.path, NOBODY, NOBODY)
    config = v.path.parent / "config.json"
    config.write_text(json.dumps({"rewrite": "archive", "rules": [
        {"match": "registry.json", "class": "replace", "onbroken": "last-good"}]}))
    v.jsonlfs(f"config={config}", uid=NOBODY)
    script = """set -e
        for k in 1 2 3; do echo "{\\"n\\":$k}" >> x.jsonl; done
        sed -i 's/:2}/:5}/' x.jsonl
        sort -r -o x.jsonl x.jsonl
        exec 3>> x.jsonl
        echo '{"n":7}' > x.jsonl
        echo '{"n":8}' >&3
        exec 3>&-
        echo '{"a":1}' > registry.json
        echo '{"a":2}' > registry.json
        echo '{' > registry.json
        cat x.jsonl registry.json; ls .jsonlfs/archive | wc -l"""
    p = run("bash", "-c", f"cd {v.path}\n{script}", uid=NOBODY, check=0)
    assert p.stdout == b'{"n":7}\n{"n":8}\n{"a":2}\n3\n'
    run("fusermount3", "-u", v.path, uid=NOBODY, check=0)


# While the file of that name exists, a sync takes four seconds.
SLOW = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>
int fdatasync(int fd)
{
	int (*real)(int) = dlsym(RTLD_NEXT, "fdatasync");

	if (access(getenv("SLOW"), F_OK) == 0)
		sleep(4);
	return real(fd);
}
"""


def test_a_slow_end_cuts_nobody_elses_connection(base, mount):
    """The number of a connection is free once it is unmounted, and the next mount has it,
    while what was written and not closed is being synced."""
    slow, env = base / "slow", {}
    if not sanitized():  # whose own library must be the first
        (base / "slow.c").write_text(SLOW)
        run("cc", "-shared", "-fPIC", "-o", base / "slow.so", base / "slow.c", check=0)
        env = {"LD_PRELOAD": str(base / "slow.so"), "SLOW": str(slow)}
    m = mount(env=env)
    device = mount_table()[str(m.mnt)][1]
    fd = os.open(m.p("a.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, GOOD)
    slow.touch()
    with open(f"/sys/fs/fuse/connections/{device[2:]}/abort", "w", encoding="ascii") as f:
        f.write("1")
    with contextlib.suppress(OSError):
        os.close(fd)
    run("umount", m.mnt, check=0)
    others = []
    while not others or mount_table()[str(others[-1].mnt)][1] != device:
        assert sanitized() or m.proc.poll() is None, "not synced, or the number is taken"
        others.append(mount())
    assert m.proc.wait(30) == 0
    for other in others:
        append(other.p("a.jsonl"), GOOD)
    assert records(m.b("a.jsonl")) == [{"n": 1}]


@pytest.mark.once
@pytest.mark.limit(280)
def test_the_quickstart_of_an_ordinary_user(workdir, fuse_for_all):
    """The first commands of the README, by one who has the source and no rights; twice, for it
    may be run again and again."""
    home, vault = workdir / "home", workdir / "home/vault"
    tree = home / "jsonlfs"
    tree.mkdir(parents=True)
    for name in ("README.md", "docs", "fs", "lib", "meson.build", "meson_options.txt",
                 "mount-scripts", "tests"):
        run("cp", "-r", "--no-preserve=ownership", REPO / name, tree / name, check=0)
    run("chown", "-R", f"{NOBODY}:{NOBODY}", home, check=0)
    env = {"HOME": str(home), "PATH": f"{home}/.local/bin:/usr/local/bin:/usr/bin:/bin"}

    def sh(script, check=0):
        return run("/bin/bash", "-c", script, cwd=tree, uid=NOBODY, env=env, check=check,
                   timeout=250)

    said = sh("mount-scripts/quickstart ~/vault").stdout.decode()
    try:
        assert f"mounted: {vault} fuse.jsonlfs" in said
        sh("""echo '{"event":"start"}' >> ~/vault/audit.jsonl""")
        p = sh("echo oops >> ~/vault/audit.jsonl", check=1)
        assert b"write error: Bad message" in p.stderr
        sh("echo '# note' >> ~/vault/MEMORY.md")
        assert "lines refused            1" in sh("jsonlfsctl status ~/vault").stdout.decode()
        assert "mounted" in sh("mount-scripts/quickstart ~/vault").stdout.decode()
    finally:
        sh("fusermount3 -u ~/vault", check=None)
    wait_for(lambda: str(vault) not in mount_table(), "the unmount")
    assert (vault / "audit.jsonl").read_bytes() == b'{"event":"start"}\n'
