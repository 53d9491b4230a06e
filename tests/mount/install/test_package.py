# SPDX-License-Identifier: MIT
"""The Debian packages: they are built from this tree, lintian has nothing against them, and
what is installed from them works in its places."""

import re
import shutil

import pytest
from util import REPO, records, run, wait_for
from vaults import Installed, daemons, mounted_in

HOLDS = {
    "jsonlfs": {
        "/etc/jsonlfs", "/usr/bin/jsonlfs", "/usr/bin/jsonlfsctl", "/usr/sbin/mount.jsonlfs",
        "/usr/lib/systemd/system/jsonlfs@.service",
        "/usr/lib/systemd/system/jsonlfs-check@.service",
        "/usr/lib/systemd/system/jsonlfs-check@.timer",
        "/usr/share/bash-completion/completions/jsonlfs",
        "/usr/share/bash-completion/completions/jsonlfsctl",
        "/usr/share/fish/vendor_completions.d/jsonlfs.fish",
        "/usr/share/fish/vendor_completions.d/jsonlfsctl.fish",
        "/usr/share/zsh/vendor-completions/_jsonlfs",
        "/usr/share/zsh/vendor-completions/_jsonlfsctl",
        "/usr/share/man/man1/jsonlfsctl.1.gz", "/usr/share/man/man8/jsonlfs.8.gz",
        "/usr/share/man/man8/mount.jsonlfs.8.gz", "/usr/share/doc/jsonlfs/README.md",
        "/usr/share/doc/jsonlfs/docs/TROUBLESHOOTING.md",
        *(f"/usr/share/doc/jsonlfs/examples/{x}.example"
          for x in ("cron", "fstab", "jsonlfs.json", "logrotate")),
    },
    "libjsonl0": {"/usr/lib/ARCH/libjsonl.so.0"},
    "libjsonl-dev": {
        "/usr/include/jsonl.h", "/usr/lib/ARCH/libjsonl.a", "/usr/lib/ARCH/libjsonl.so",
        "/usr/lib/ARCH/pkgconfig/libjsonl.pc",
        "/usr/share/doc/libjsonl-dev/examples/example.c",
    },
}


class Packaged(Installed):
    """The packages installed into a root of their own, which lies over /usr in a mount
    namespace."""

    def __init__(self, root, packages):
        self.root = root
        (root / "var/lib/dpkg").mkdir(parents=True)
        # What they depend on is in the other root.
        self.dpkg("--force-depends", "-i", *packages)
        self.enter("/usr")

    def dpkg(self, *argv):
        return run("dpkg", f"--root={self.root}", "--force-script-chrootless", *argv, check=0,
                   timeout=60).stdout.decode()


@pytest.fixture(scope="module")
def packages(base):
    out = base / "packages"
    p = run(
        REPO / "mount-scripts/build-deb", out, timeout=500,
        env={"DEB_BUILD_OPTIONS": "nocheck", "HOME": "/root"},
    )
    said = p.stdout.decode()
    assert p.returncode == 0, said + p.stderr.decode()
    log = (out / "build.log").read_text()
    # With all hardening flags of dpkg, and the compiler has nothing against it.
    assert "-D_FORTIFY_SOURCE" in log and "-Wl,-z,now" in log
    assert re.findall(r"^\S+:\d+:\d+: warning: .*", log, re.M) == []
    return [line for line in said.splitlines() if line.endswith(".deb")]


# One test: in another worker, another test would build them again.
@pytest.mark.limit(600)
def test_the_packages(packages, workdir):
    assert len([p for p in packages if "-dbgsym_" not in p]) == 3, packages
    system = Packaged(workdir / "root", packages)
    try:
        what_they_hold(system)
        a_mount_from_fstab(system, workdir)
        the_units(system)
        a_program_with_the_library(system, workdir)
        system.run("umount", "/usr")
        taken_away(system)
    finally:
        system.end()
    shutil.rmtree(system.root)


def what_they_hold(system):
    arch = run("dpkg-architecture", "-q", "DEB_HOST_MULTIARCH", check=0).stdout.decode().strip()
    for package, wanted in HOLDS.items():
        there = set(system.dpkg("-L", package).splitlines())
        assert {name.replace("ARCH", arch) for name in wanted} <= there
        for name in there:
            assert name == "/." or name.startswith(("/etc", "/usr")), name
    for name in ("docs/DESIGN.md", "docs/PERFORMANCE.md", "docs/TUTORIAL-FSTAB.md"):
        assert f"]({name})" in (system.root / "usr/share/doc/jsonlfs/README.md").read_text()
        assert (system.root / "usr/share/doc/jsonlfs" / name).is_file()


def a_mount_from_fstab(system, workdir):
    vault = workdir / "vault"
    vault.mkdir()
    table = workdir / "fstab"
    table.write_text(f"{vault} {vault} jsonlfs defaults,nofail 0 0\n")
    system.run("mount", "-a", "-T", table, check=0)
    assert len(mounted_in(system, vault)) == 1
    p = system.sh('cd "$1" && echo \'{"n":1}\' >> a.jsonl; echo oops >> a.jsonl', vault)
    assert b"Bad message" in p.stderr
    assert b"refused" in system.run("jsonlfsctl", "status", vault, check=0).stdout
    assert b"clean" in system.run("jsonlfsctl", "check", vault, check=0).stdout
    system.run("umount", vault, check=0)
    wait_for(lambda: not daemons(vault), "the end of the daemon")
    assert records(vault / "a.jsonl") == [{"n": 1}]


def the_units(system):
    units = sorted(u for u in HOLDS["jsonlfs"] if "/systemd/" in u)
    p = system.run("systemd-analyze", "verify", *units, timeout=60)
    assert (len(units), p.returncode, p.stderr) == (3, 0, b"")


def a_program_with_the_library(system, workdir):
    example = "/usr/share/doc/libjsonl-dev/examples/example.c"
    script = 'cc -o "$1/example" "$2" $(pkg-config --cflags --libs libjsonl) && ldd "$1/example"'
    out = system.sh(script, workdir, example, check=0, timeout=60).stdout.decode()
    assert "libjsonl.so.0 => /" in out, out
    log = workdir / "log.jsonl"
    system.run(workdir / "example", log, workdir / "state.json", check=0)
    assert records(log) == [{"event": "hello"}]


def taken_away(system):
    """Nothing is left but what dpkg keeps for itself."""
    system.dpkg("--purge", *HOLDS, *(f"{p}-dbgsym" for p in ("jsonlfs", "libjsonl0")))
    left = [p for p in system.root.rglob("*") if not p.is_dir() and
            "var/lib/dpkg" not in str(p)]
    assert left == []
