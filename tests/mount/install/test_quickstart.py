# SPDX-License-Identifier: MIT
"""mount-scripts/quickstart, as a person runs it who has the source and sudo: on a system whose
/usr, /etc and home are thrown away afterwards. It is built once for all tests of this file."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from util import ENV, NOBODY, REPO, run, wait_for

PARTS = ("README.md", "docs", "fs", "lib", "meson.build", "meson_options.txt", "mount-scripts",
         "tests")
FSTAB = "# of this machine\nproc /proc proc defaults 0 0"  # without a last newline

pytestmark = pytest.mark.limit(280)


class Machine:
    """A mount namespace with layers of its own over /usr and /etc, and the user ann."""

    def __init__(self, top):
        self.top, self.home = top, top / "home/ann"
        self.tree = self.home / "jsonlfs"
        self.srv = top / "srv"
        self.tree.mkdir(parents=True)
        self.srv.mkdir()
        for path in (self.home, self.home.parent, self.srv):
            path.chmod(0o755)
        for name in PARTS:
            run("cp", "-r", "--no-preserve=ownership", REPO / name, self.tree / name, check=0)
        run("chown", "-R", f"{NOBODY}:{NOBODY}", self.home, check=0)
        layers = []
        for name in ("usr", "etc"):
            (top / name).mkdir()
            (top / f"{name}.work").mkdir()
            layers.append(f"mount -t overlay -o lowerdir=/{name},upperdir={top}/{name},"
                          f"workdir={top}/{name}.work overlay /{name}")
        self.holder = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "/bin/sh", "-c",
             " && ".join([*layers, "echo ready", "exec cat"])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENV)
        assert self.holder.stdout.readline() == b"ready\n"
        self.sh(f"printf 'root:x:0:0::/root:/bin/bash\\nann:x:{NOBODY}:{NOBODY}::{self.home}:"
                f"/bin/bash\\n' >/etc/passwd; printf '%s' '{FSTAB}' >/etc/fstab; "
                "chmod 640 /etc/fstab; rm -rf /etc/jsonlfs", check=0)

    def sh(self, script, *args, uid=None, env=None, **kw):
        switch = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        return run(
            "nsenter", "-m", "-r", "-t", self.holder.pid, *(switch if uid else []), "/bin/bash",
            "-c", f"cd {self.tree} && {script}", "bash", *args,
            env={"HOME": str(self.home), "XDG_CACHE_HOME": ""} | (env or {}), timeout=250, **kw)

    def sudo(self, *args, check=0):
        """quickstart by ann, with sudo."""
        p = self.sh('mount-scripts/quickstart "$@" 2>&1', *args, check=check,
                    env={"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY)})
        return p.stdout.decode()

    def ann(self, *args, check=0):
        p = self.sh('mount-scripts/quickstart "$@" 2>&1', *args, check=check, uid=NOBODY)
        return p.stdout.decode()

    def read(self, path):
        return self.sh('cat "$1"', path, check=0).stdout.decode()

    def names(self):
        """The names that it has in /usr and /etc beyond those of the system below, which
        somebody may change meanwhile; and those it has taken away."""
        found = set()
        for path in (p for name in ("usr", "etc") for p in (self.top / name).rglob("*")):
            name = path.relative_to(self.top)
            if path.is_char_device() or not os.path.lexists("/" / name):
                found.add(str(name))
        return found

    def keep_build(self):
        self.sh('cp -a ~/.cache/jsonlfs "$1"', self.top / "built", check=0)

    def build_again(self):
        """What --uninstall has removed, without waiting for the compiler."""
        self.sh('rm -rf ~/.cache/jsonlfs && cp -a "$1" ~/.cache/jsonlfs', self.top / "built",
                check=0)
        self.sudo("--no-mount")

    def mounts(self):
        table = self.read("/proc/self/mountinfo")
        places = [x.split()[4].replace("\\040", " ") for x in table.splitlines()
                  if " - fuse.jsonlfs " in x]
        return [x for x in places if x.startswith(str(self.top))]

    def options(self, vault):
        status = json.loads(self.read(f"{vault}/.jsonlfs/status.json"))
        # fstab's defaults hold a rw.
        given = {x["option"]: x["value"] for x in status["given"] if x["option"] != "ro"}
        return given | ({"config": status["config"]} if "config" in status else {})

    def clean(self):
        for where in sorted(self.mounts(), reverse=True):
            self.sh('umount -l "$1"', where)
        wait_for(lambda: not self.mounts(), "the unmount")
        self.sh(f"printf '%s' '{FSTAB}' >/etc/fstab; chmod 640 /etc/fstab; rm -rf /etc/jsonlfs "
                f"{self.srv}/*", check=0)

    def end(self):
        self.clean()
        self.holder.stdin.close()
        self.holder.wait(10)
        self.holder.stdout.close()


@pytest.fixture(scope="module")
def built(base):
    top = Path(tempfile.mkdtemp(prefix="machine", dir=base))
    top.chmod(0o755)
    machine = Machine(top)
    machine.before = machine.names()
    said = machine.sudo("--no-mount")
    assert f"Building in {machine.home}/.cache/jsonlfs" in said
    machine.keep_build()
    yield machine
    machine.end()
    shutil.rmtree(top, ignore_errors=True)


@pytest.fixture
def machine(built):
    yield built
    built.clean()


def test_nothing_in_the_home_is_roots_and_a_plain_run_goes_on(machine):
    """Once with sudo, once without, from the same tree, which stays as it was."""
    vault = machine.home / "vault"
    machine.sudo(vault)
    foreign = machine.sh("find ~ ! -user ann ! -path '*/.jsonlfs*'", check=0).stdout
    assert foreign == b""
    machine.sh('umount "$1" && rm -rf "$1"', vault, check=0)
    try:
        said = machine.ann(vault)
        assert f"mounted: {vault} fuse.jsonlfs" in said
        assert f"PATH={machine.home}/.local/bin:$PATH" in said
        assert f"Unmount: fusermount3 -u {vault}" in said
        assert machine.sh("ls -A | sort", check=0).stdout.decode().split() == sorted(PARTS)
        assert not list(machine.home.glob(".cache/jsonlfs/*/build/tests"))
        # It takes away what it has brought, and the rest of the home stays.
        (machine.home / ".local/share/mine").mkdir()
        said = machine.ann("--uninstall")
        assert f"unmounted {vault}" in said
        assert machine.sh("find ~/.local", check=0).stdout.decode().split() == [
            f"{machine.home}/.local", f"{machine.home}/.local/share",
            f"{machine.home}/.local/share/mine"]
    finally:
        shutil.rmtree(machine.home / ".local", ignore_errors=True)
        machine.sh("fusermount3 -u ~/vault", uid=NOBODY)
        machine.build_again()


def test_a_device_that_cannot_be_opened(machine):
    """As in a container that may make it, but not open it: found before anything is done."""
    hide = "mount -t tmpfs -o nodev none /dev && mknod /dev/fuse c 10 229"
    p = machine.sh(f'unshare -m bash -c "{hide} && exec mount-scripts/quickstart ~/vault"',
                   check=1)
    assert p.stderr.decode().startswith("!!! /dev/fuse cannot be opened"), p
    assert "--device /dev/fuse" in p.stderr.decode() and b"Packages" not in p.stdout


@pytest.mark.parametrize("options, message", [
    ("onbd=refuse", 'unknown option "onbd"'),
    ("config=/nowhere.json", "/nowhere.json: No such file"),
    ("state=/proc/nowhere", "No such file"),
])
@pytest.mark.parametrize("fstab", [["--fstab"], []], ids=["fstab", "once"])
def test_a_mount_that_fails_leaves_no_trace(machine, options, message, fstab):
    vault = machine.srv / "vault"
    said = machine.sudo(vault, *fstab, "--options", options, check=1)
    assert message in said
    assert machine.read("/etc/fstab") == FSTAB
    assert machine.sh("stat -c %a /etc/fstab").stdout == b"640\n"
    assert machine.mounts() == [] and not vault.exists()


def test_a_vault_that_is_there_stays_when_its_mount_fails(machine):
    vault = machine.srv / "vault"
    vault.mkdir()
    machine.sudo(vault, "--options", "sync=never", check=1)
    assert vault.is_dir()


def lines(machine):
    return [x for x in machine.read("/etc/fstab").splitlines() if " jsonlfs " in x]


def test_the_line_of_fstab(machine):
    """It is added to what is there, once, in a form that mount reads; other options take the
    place of those before."""
    vault = machine.srv / "my vault"
    machine.sudo(vault, "--fstab")
    field = str(vault).replace(" ", "\\040")
    assert machine.read("/etc/fstab") == (
        f"{FSTAB}\n{field} {field} jsonlfs defaults,nofail 0 0\n")
    assert machine.sh("stat -c '%a %U' /etc/fstab").stdout == b"640 root\n"
    assert machine.sh("ls /etc/fstab.*").returncode != 0
    machine.sudo(vault, "--fstab")
    assert len(lines(machine)) == 1
    said = machine.sudo(vault, "--fstab", "--options", "sync=write,match=*.jsonl:* log")
    assert lines(machine) == [
        f"{field} {field} jsonlfs defaults,nofail,sync=write,match=*.jsonl:*\\040log 0 0"]
    assert "it was: " in said
    assert machine.options(vault) == {"sync": "write", "match": "*.jsonl:* log"}
    machine.sh('umount "$1" && mount "$1"', vault, check=0)
    assert machine.options(vault) == {"sync": "write", "match": "*.jsonl:* log"}
    # Without --options nobody asks for others.
    machine.sudo(vault, "--fstab")
    assert len(lines(machine)) == 1 and machine.options(vault)["sync"] == "write"
    # A line that fails takes its predecessor's place for a moment only.
    machine.sudo(vault, "--fstab", "--options", "state=/proc/nowhere", check=1)
    assert "sync=write" in lines(machine)[0]


def test_a_table_that_is_a_mount_is_written(machine):
    machine.sh("mount --bind /etc/fstab /etc/fstab", check=0)
    try:
        machine.sudo(machine.srv / "vault", "--fstab")
        assert len(lines(machine)) == 1 and machine.read("/etc/fstab").startswith(FSTAB)
    finally:
        machine.sh("umount /etc/fstab")


def test_other_options_of_a_mounted_vault(machine):
    vault = machine.srv / "vault"
    machine.sudo(vault, "--options", "sync=write")
    started = json.loads(machine.read(f"{vault}/.jsonlfs/status.json"))["pid"]
    machine.sudo(vault, "--options", "sync=write")
    assert json.loads(machine.read(f"{vault}/.jsonlfs/status.json"))["pid"] == started
    with subprocess.Popen(
            ["nsenter", "-m", "-t", str(machine.holder.pid), "/bin/sh", "-c",
             f"cd {vault} && echo there && exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENV) as user:
        assert user.stdout.readline() == b"there\n"
        said = machine.sudo(vault, "--options", "sync=none", check=1)
        assert "mounted with: sync=write" in said and "in use" in said
        assert f"fuser -vm {vault}" in said
        user.stdin.close()
    assert machine.options(vault) == {"sync": "write"}
    machine.sudo(vault, "--options", "sync=none,noxattr")
    assert machine.options(vault) == {"sync": "none", "xattr": "no"}


def test_the_closing_hint_has_all_that_was_asked_for(machine):
    vault = machine.srv / "a vault"
    said = machine.sudo(vault, "--options", "sync=write,value=object", "--for", "audit")
    hint = re.search(r"^At boot, too: sudo (.*)$", said, re.M)[1]
    machine.sh(f"SUDO_UID={NOBODY} SUDO_GID={NOBODY} {hint}", check=0)
    assert "config=/etc/jsonlfs/" in lines(machine)[0]
    assert lines(machine)[0].endswith(",sync=write,value=object 0 0")
    assert "# refused, kept in the quarantine" in said
    said = machine.sudo(machine.srv / "lenient", "--options", "sync=write,onbad=quarantine")
    assert "# kept in the quarantine, no error" in said and "# refused" not in said


def saved(machine, vault, how):
    """What becomes of a log with two records that a program writes anew; its end status."""
    log = vault / "x.jsonl"
    machine.sh('printf "{\\"n\\":1}\\n{\\"n\\":2}\\n" >"$1"', log, check=0)
    script = {
        "more": "d = open(p).read(); f = open(p, 'w'); f.write(d + '{\"n\":3}\\n'); f.close()",
        "less": "f = open(p, 'w'); f.write('{\"n\":2}\\n'); f.close()",
        "remove": "import os; os.unlink(p)",
    }[how]
    p = machine.sh('/usr/bin/python3 -c "p = \'$1\'; $2"', log, script)
    now = machine.sh('cat "$1"', log)
    return (p.returncode, now.stdout.decode().split() if now.returncode == 0 else None)


ONE, TWO, THREE = '{"n":1}', '{"n":2}', '{"n":3}'


@pytest.mark.parametrize("kind, more, less, remove", [
    ("notes", (0, [ONE, TWO, THREE]), (0, [TWO]), (0, None)),
    ("agents", (0, [ONE, TWO, THREE]), (1, [ONE, TWO]), (0, None)),
    ("audit", (1, [ONE, TWO]), (1, [ONE, TWO]), (1, [ONE, TWO])),
])
def test_rules_for(machine, kind, more, less, remove):
    vault = machine.srv / "vault"
    said = machine.sudo(vault, "--for", kind)
    file = machine.options(vault)["config"]
    assert f"Rules for {kind}: {file}" in said
    assert re.fullmatch(r"/etc/jsonlfs/[\w.-]+-srv-vault-\d+\.json", file)
    machine.sh('jsonlfsctl config check "$1"', file, check=0)
    for how, expected in (("more", more), ("less", less), ("remove", remove)):
        assert saved(machine, vault, how) == expected, how
        machine.sh('mv "$1" "$1.1"', vault / "x.jsonl")
    document = vault / "a.state.json"
    machine.sh('echo "{" >"$1"', document)
    kept = machine.read(document)
    assert kept == ("" if kind == "notes" else "{\n")


def test_other_rules_for_a_mounted_vault(machine):
    """The daemon reads them; what somebody has written into the file is kept beside."""
    vault = machine.srv / "vault"
    machine.sudo(vault, "--fstab", "--for", "audit")
    file = machine.options(vault)["config"]
    pid = json.loads(machine.read(f"{vault}/.jsonlfs/status.json"))["pid"]
    machine.sh("""echo '{"rewrite":"deny","unlink":"deny","blank":"keep"}' >"$1" """, file,
               check=0)
    said = machine.sudo(vault, "--fstab", "--for", "notes")
    assert f"the rules from before are kept: {file}.before" in said
    assert "blank" in machine.read(file + ".before")
    status = json.loads(machine.read(f"{vault}/.jsonlfs/status.json"))
    assert (status["pid"], status["options"]["rewrite"]) == (pid, "archive")
    assert len(lines(machine)) == 1 and f"config={file}" in lines(machine)[0]


def test_what_cannot_be_meant(machine):
    for args, message in (
        ([], "which directory?"),
        ([machine.srv / "v", "--for", "fun"], "notes, agents and audit"),
        ([machine.srv / "v", "--for", "notes", "--options", "config=/x"], "config="),
        (["/etc/passwd"], "no directory"),
    ):
        assert message in machine.sudo(*args, check=1)
    assert machine.mounts() == []


def test_a_dead_mount_is_mounted_again(machine):
    vault = machine.srv / "vault"
    machine.sudo(vault, "--fstab", "--options", "nosupervise")
    pid = json.loads(machine.read(f"{vault}/.jsonlfs/status.json"))["pid"]
    os.kill(pid, 9)
    wait_for(lambda: machine.sh('ls "$1"', vault).returncode != 0, "its death")
    assert "cleared the dead mount" in machine.sudo(vault, "--fstab")
    assert machine.options(vault) == {"supervise": "no"}


def test_uninstalled(machine):
    one, two = machine.srv / "one", machine.srv / "two"
    machine.sudo(one, "--fstab", "--for", "agents")
    machine.sudo(two, "--fstab")
    machine.sh("""echo '{"n":1}' >>"$1/x.jsonl" """, two, check=0)
    # One of them alone.
    machine.sudo("--uninstall", one)
    assert machine.mounts() == [str(two)]
    assert lines(machine) == [f"{two} {two} jsonlfs defaults,nofail 0 0"]
    machine.sh("jsonlfsctl --version", check=0)
    # In use: all of it stays.
    with subprocess.Popen(
            ["nsenter", "-m", "-t", str(machine.holder.pid), "/bin/sh", "-c",
             f"cd {two} && echo there && exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENV) as user:
        assert user.stdout.readline() == b"there\n"
        assert "is in use" in machine.sudo("--uninstall", check=1)
        user.stdin.close()
    assert len(lines(machine)) == 1
    machine.sh("jsonlfsctl --version", check=0)
    # As systemctl enable leaves them.
    wants = "/etc/systemd/system/multi-user.target.wants"
    machine.sh(f"mkdir -p {wants}", check=0)
    for unit in ("jsonlfs@srv-two.service", "jsonlfs-metrics.timer"):
        machine.sh(f"ln -s /usr/local/lib/systemd/system/{unit.replace('srv-two', '')} "
                   f"{wants}/{unit}", check=0)
    said = machine.sudo("--uninstall")
    try:
        assert machine.sh(f"ls {wants} | grep jsonlfs").stdout == b""
        assert f"unmounted {two}" in said and "removed: " in said
        assert machine.read("/etc/fstab") == FSTAB + "\n"
        assert machine.mounts() == []
        assert (two / "x.jsonl").read_text() == '{"n":1}\n'
        left = machine.names() ^ machine.before
        assert {name for name in left if not name.startswith("etc/jsonlfs")} == set()
        assert not (machine.home / ".cache/jsonlfs").exists()
        machine.sudo("--uninstall")
    finally:
        machine.build_again()
