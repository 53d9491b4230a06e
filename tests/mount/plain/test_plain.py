# SPDX-License-Identifier: MIT
"""Plain files behave as without the mount: for programs, for system calls, for several
users at once. What random operations find is in test_differential; here are the things
that need a story: users and groups, ACLs, descriptors, locks, notification, many files.
Whole programs are in test_workloads."""

import ctypes
import errno
import fcntl
import mmap
import os
import re
import resource
import select
import shutil
import stat
import struct
import time

import pytest

import differ
import util
from differ import GROUP, GROUP_OBJ, MASK, OTHER, USER, USER_OBJ, acl
from util import refused

ADA, BEN, CYD = 12001, 12002, 12003
TEAM, OTHERS = 12100, 12200


def as_person(uid, function, groups=(), gid=None, umask=0o022, timeout=20):
    """As util.as_user, with supplementary groups and an umask."""

    def body():
        os.umask(umask)
        os.setgroups(list(groups))
        os.setresgid(*[uid if gid is None else gid] * 3)
        os.setresuid(uid, uid, uid)
        return function()

    return util.as_user(None, body, timeout)


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.fixture
def team(m):
    """A directory of group TEAM with the setgid bit, writable for it."""
    d = m.p("team")
    d.mkdir()
    os.chown(d, 0, TEAM)
    os.chmod(d, 0o2775)
    return d


# ---- whose a new file is ----


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o027])
def test_new_files_are_the_callers(m, umask):
    os.chmod(m.p(), 0o777)

    def make():
        fd = os.open(m.p("file"), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        os.close(fd)
        os.mkdir(m.p("dir"), 0o777)
        os.symlink("x", m.p("link"))
        os.mkfifo(m.p("fifo"), 0o666)
        os.mknod(m.p("node"), 0o666 | stat.S_IFREG)

    as_person(ADA, make, umask=umask)
    for name, mode in (("file", 0o666), ("dir", 0o777), ("fifo", 0o666), ("node", 0o666)):
        st = os.lstat(m.b(name))
        assert (st.st_uid, st.st_gid) == (ADA, ADA), name
        assert stat.S_IMODE(st.st_mode) == mode & ~umask, name
    st = os.lstat(m.b("link"))
    assert (st.st_uid, st.st_gid) == (ADA, ADA)


def test_supplementary_group_may_create(team):
    with refused(errno.EACCES):
        as_person(CYD, lambda: (team / "no").write_text("x"))
    as_person(ADA, lambda: (team / "yes").write_text("x"), groups=[TEAM])
    st = os.stat(team / "yes")
    assert (st.st_uid, st.st_gid) == (ADA, TEAM)


def test_setgid_directory_passes_group_and_bit_on(team):
    as_person(ADA, lambda: os.mkdir(team / "sub"), groups=[TEAM], umask=0o002)
    st = os.stat(team / "sub")
    assert (st.st_gid, stat.S_IMODE(st.st_mode)) == (TEAM, 0o2775)
    as_person(BEN, lambda: (team / "sub" / "f").write_text("x"), groups=[TEAM])
    assert os.stat(team / "sub" / "f").st_gid == TEAM


def test_setgid_bit_of_a_new_file_needs_membership(m, team):
    os.chmod(team, 0o2777)

    def make(name):
        os.close(os.open(team / name, os.O_CREAT | os.O_WRONLY, 0o2775))

    as_person(ADA, lambda: make("in"), groups=[TEAM], umask=0)
    as_person(CYD, lambda: make("out"), umask=0)
    assert mode_of(team / "in") == 0o2775
    assert mode_of(team / "out") == 0o775


def test_device_nodes_are_roots(m):
    os.chmod(m.p(), 0o777)
    with refused(errno.EPERM):
        as_person(ADA, lambda: os.mknod(m.p("null"), 0o666 | stat.S_IFCHR, os.makedev(1, 3)))
    os.mknod(m.p("null"), 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    assert os.lstat(m.b("null")).st_rdev == os.makedev(1, 3)
    with refused(errno.EACCES):  # nodev
        os.open(m.p("null"), os.O_RDONLY)


def test_many_users_at_once(m):
    """The ids of one request never leak into another."""
    os.chmod(m.p(), 0o1777)

    def make(uid):
        for n in range(150):
            os.close(os.open(m.p(f"{uid}.{n}"), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            os.mkdir(m.p(f"{uid}.{n}.d"))

    pids = []
    for uid in (ADA, BEN, CYD, 0):
        pid = os.fork()
        if pid == 0:
            try:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
                make(uid)
                os._exit(0)
            finally:
                os._exit(1)
        pids.append(pid)
    assert [os.waitpid(p, 0)[1] for p in pids] == [0] * 4
    wrong = [
        e.name
        for e in os.scandir(m.backing)
        if e.name[0] != "." and e.stat().st_uid != int(e.name.split(".")[0])
    ]
    assert not wrong


# ---- permissions ----


def test_permissions_are_checked(m):
    m.p("secret").write_text("x")
    os.chmod(m.p("secret"), 0o600)
    for what in (
        lambda: m.p("secret").read_text(),
        lambda: m.p("secret").write_text("y"),
        lambda: os.truncate(m.p("secret"), 0),
    ):
        with refused(errno.EACCES):
            as_person(ADA, what)
    for what in (
        lambda: os.chmod(m.p("secret"), 0o666),
        lambda: os.utime(m.p("secret"), (1, 1)),
        lambda: os.chown(m.p("secret"), ADA, -1),
    ):
        with refused(errno.EPERM):
            as_person(ADA, what)


def test_sticky_directory(m):
    d = m.p("tmp")
    d.mkdir()
    os.chmod(d, 0o1777)
    as_person(ADA, lambda: (d / "hers").write_text("x"))
    with refused(errno.EPERM):
        as_person(BEN, lambda: os.unlink(d / "hers"))
    with refused(errno.EPERM):
        as_person(BEN, lambda: os.rename(d / "hers", d / "his"))
    as_person(ADA, lambda: os.unlink(d / "hers"))


def test_chgrp_only_to_groups_of_the_caller(m):
    os.chmod(m.p(), 0o777)
    as_person(ADA, lambda: m.p("f").write_text("x"))
    as_person(ADA, lambda: os.chown(m.p("f"), -1, TEAM), groups=[TEAM])
    assert os.stat(m.p("f")).st_gid == TEAM
    with refused(errno.EPERM):
        as_person(ADA, lambda: os.chown(m.p("f"), -1, OTHERS), groups=[TEAM])


def suid_file(m, mode, name="prog"):
    m.p(name).write_bytes(b"#!/bin/sh\n" + b"x" * 5000)
    os.chown(m.p(name), ADA, TEAM)
    os.chmod(m.p(name), mode)
    return m.p(name)


WAYS = {
    "write": lambda p: os.write(os.open(p, os.O_WRONLY), b"#!"),
    "append": lambda p: os.write(os.open(p, os.O_WRONLY | os.O_APPEND), b"#!"),
    "pwrite": lambda p: os.pwrite(os.open(p, os.O_RDWR), b"#!", 4096),
    "truncate": lambda p: os.truncate(p, 3),
    "grow": lambda p: os.truncate(p, 300000),
    "ftruncate": lambda p: os.ftruncate(os.open(p, os.O_WRONLY), 3),
    "open(O_TRUNC)": lambda p: os.open(p, os.O_WRONLY | os.O_TRUNC),
    "fallocate": lambda p: util.fallocate(os.open(p, os.O_RDWR), 0, 0, 100000),
    "chgrp": lambda p: os.chown(p, -1, ADA),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("who", [ADA, 0])
@pytest.mark.parametrize("mode", [0o6755, 0o2755, 0o4711, 0o2700, 0o6600])
def test_suid_is_cleared_as_natively(m, tmp_path, way, who, mode):
    """By an ordinary user's change of content, at once; by root's not."""
    bare = tmp_path / "prog"
    shutil.copyfile(suid_file(m, 0o644), bare)
    os.chmod(m.p("prog"), mode)
    os.chown(bare, ADA, TEAM)
    os.chmod(bare, mode)
    os.chmod(m.p("prog"), mode)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        os.chmod(folder, 0o755)
    for groups in ([], [TEAM]):
        for path in (bare, m.p("prog")):
            os.chown(path, ADA, TEAM)
            os.chmod(path, mode)
            as_person(who, lambda path=path: WAYS[way](path), groups=groups, gid=who)
        assert mode_of(m.p("prog")) == mode_of(bare), (way, groups)
        assert mode_of(m.b("prog")) == mode_of(bare), (way, groups)


def test_file_capability_is_cleared_by_a_write(m):
    path = suid_file(m, 0o775)
    cap = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    os.setxattr(path, "security.capability", cap)
    assert os.getxattr(m.b("prog"), "security.capability") == cap
    as_person(ADA, lambda: WAYS["write"](path))
    for side in (m.p("prog"), m.b("prog")):
        with refused(errno.ENODATA):
            os.getxattr(side, "security.capability")


def test_suid_set_while_open_is_cleared(m):
    path = suid_file(m, 0o755)
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, b"a", 0)
    os.chmod(path, 0o6755)
    assert mode_of(path) == 0o6755
    as_person(ADA, lambda: os.pwrite(fd, b"b", 0))
    assert mode_of(m.b("prog")) == 0o755
    assert mode_of(path) == 0o755
    os.close(fd)


def test_setgid_set_while_open_and_a_member_of_the_group(m, tmp_path):
    """Kernel passthrough writes for everybody with one set of credentials, without groups: it
    takes the bit away, where natively a member's write leaves it."""
    kept = 0o644 if m.log_lines("passthrough", 'state="on"') else 0o2644
    bare = tmp_path / "prog"
    bare.touch()
    for folder in (tmp_path, *tmp_path.parents[:3]):
        os.chmod(folder, 0o755)
    for path, left in ((bare, 0o2644), (suid_file(m, 0o644), kept)):
        os.chown(path, ADA, TEAM)
        os.chmod(path, 0o644)

        def body(path=path):
            with util.opened(path, os.O_RDWR) as fd:
                os.pwrite(fd, b"a", 0)
                os.fchmod(fd, 0o2644)
                os.pwrite(fd, b"b", 0)

        as_person(ADA, body, groups=[TEAM], gid=ADA)
        assert mode_of(path) == left
    assert mode_of(m.b("prog")) == kept


# ---- ACLs ----


def test_acl_grants_and_refuses(m):
    m.p("f").write_text("x")
    os.chmod(m.p("f"), 0o600)
    os.setxattr(m.p("f"), "system.posix_acl_access", acl(
        (USER_OBJ, 6), (USER, 4, ADA), (GROUP_OBJ, 0), (GROUP, 6, TEAM), (MASK, 6), (OTHER, 0)))
    assert as_person(ADA, lambda: m.p("f").read_text()) == "x"
    with refused(errno.EACCES):
        as_person(ADA, lambda: m.p("f").write_text("y"))
    as_person(BEN, lambda: m.p("f").write_text("y"), groups=[TEAM])
    with refused(errno.EACCES):
        as_person(CYD, lambda: m.p("f").read_text())
    assert os.getxattr(m.b("f"), "system.posix_acl_access") == os.getxattr(
        m.p("f"), "system.posix_acl_access")
    # The mask is what the group bits of the mode show, and chmod changes it.
    assert mode_of(m.p("f")) == 0o660
    os.chmod(m.p("f"), 0o600)
    with refused(errno.EACCES):
        as_person(ADA, lambda: m.p("f").read_text())


def test_default_acl_is_inherited_and_umask_ignored(m):
    d = m.p("d")
    d.mkdir()
    os.chmod(d, 0o777)
    default = acl((USER_OBJ, 7), (USER, 7, BEN), (GROUP_OBJ, 5), (MASK, 7), (OTHER, 0))
    os.setxattr(d, "system.posix_acl_default", default)

    def make():
        os.close(os.open(d / "f", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir(d / "sub", 0o777)

    as_person(ADA, make, umask=0o077)
    assert mode_of(d / "f") == 0o660
    assert mode_of(d / "sub") == 0o770
    assert os.getxattr(d / "sub", "system.posix_acl_default") == default
    as_person(BEN, lambda: (d / "f").write_text("ben"))
    assert (d / "f").read_text() == "ben"


def test_setfacl_and_getfacl(m):
    m.p("f").write_text("x")
    util.run("setfacl", "-m", f"u:{ADA}:rw,g:{TEAM}:r", m.p("f"), check=0)
    out = util.run("getfacl", "-cn", m.p("f"), check=0).stdout.decode()
    assert f"user:{ADA}:rw-" in out and f"group:{TEAM}:r--" in out
    util.run("setfacl", "-b", m.p("f"), check=0)
    assert f"{ADA}" not in util.run("getfacl", "-cn", m.p("f"), check=0).stdout.decode()


def test_setting_an_acl_drops_setgid_of_strangers_groups(m):
    for groups, mode in (([], 0o755), ([TEAM], 0o2755)):
        path = suid_file(m, 0o2755)
        as_person(ADA, lambda path=path: os.setxattr(path, "system.posix_acl_access", acl(
            (USER_OBJ, 7), (GROUP_OBJ, 5), (OTHER, 5))), groups=groups)
        assert mode_of(m.b("prog")) == mode
        assert mode_of(path) == mode


# ---- extended attributes ----


def test_namespaces(m):
    m.p("f").write_text("x")
    for name in ("user.a", "trusted.b", "security.c"):
        os.setxattr(m.p("f"), name, b"value")
        assert os.getxattr(m.b("f"), name) == b"value"
    assert {"user.a", "trusted.b", "security.c"} <= set(os.listxattr(m.p("f")))
    os.chmod(m.p("f"), 0o666)
    assert "trusted.b" not in as_person(ADA, lambda: os.listxattr(m.p("f")))
    with refused(errno.EPERM):
        as_person(ADA, lambda: os.setxattr(m.p("f"), "trusted.d", b""))
    with refused(errno.ENODATA):
        as_person(ADA, lambda: os.getxattr(m.p("f"), "trusted.b"))
    os.symlink("f", m.p("l"))
    os.setxattr(m.p("l"), "trusted.l", b"of the link", follow_symlinks=False)
    assert os.getxattr(m.b("l"), "trusted.l", follow_symlinks=False) == b"of the link"
    assert "trusted.l" not in os.listxattr(m.p("f"))


def test_reserved_names(m):
    m.p("f").write_text("x")
    for name in ("user.jsonlfs.x", "user.jsonlfs."):
        with refused(errno.EPERM):
            os.setxattr(m.p("f"), name, b"")
        with refused(errno.EPERM):
            os.removexattr(m.p("f"), name)
    os.setxattr(m.p("f"), "user.jsonlfsx", b"")


def test_without_xattrs(mount):
    m = mount("noxattr")
    m.p("f").write_text("x")
    with refused(errno.EOPNOTSUPP):
        os.setxattr(m.p("f"), "user.a", b"")
    with refused(errno.EOPNOTSUPP):
        os.getxattr(m.p("f"), "user.a")


# ---- content ----


def test_mmap_shared_is_shared(m):
    m.p("f").write_bytes(bytes(100000))
    with open(m.p("f"), "r+b") as a, open(m.p("f"), "r+b") as b:
        with mmap.mmap(a.fileno(), 0) as x, mmap.mmap(b.fileno(), 0) as y:
            x[5000:5005] = b"hello"
            assert y[5000:5005] == b"hello"
            assert os.pread(b.fileno(), 5, 5000) == b"hello"
            os.pwrite(a.fileno(), b"world", 70000)
            assert y[70000:70005] == b"world"
            x.flush()
    assert m.b("f").read_bytes()[5000:5005] == b"hello"


def test_mapping_outlives_its_handle(m):
    """A store through a mapping whose descriptor is closed is seen by later opens."""
    m.p("f").write_bytes(b"a" * 4096)
    fd = os.open(m.p("f"), os.O_RDWR)
    x = mmap.mmap(fd, 4096)
    x[0:1] = b"b"
    os.close(fd)
    assert m.p("f").read_bytes()[:1] == b"b"
    time.sleep(0.05)
    x[0:1] = b"c"
    assert m.p("f").read_bytes()[:1] == b"c"
    x.close()


def test_sparse_files(m):
    with open(m.p("f"), "wb") as f:
        f.truncate(10 << 20)
        f.seek(5 << 20)
        f.write(b"x" * 4096)
        f.flush()
        fd = f.fileno()
        assert os.lseek(fd, 0, os.SEEK_DATA) == 5 << 20
        assert os.lseek(fd, 5 << 20, os.SEEK_HOLE) == (5 << 20) + 4096
        with refused(errno.ENXIO):
            os.lseek(fd, 6 << 20, os.SEEK_DATA)
        util.fallocate(fd, util.PUNCH | util.KEEP_SIZE, 5 << 20, 4096)
        with refused(errno.ENXIO):
            os.lseek(fd, 0, os.SEEK_DATA)
    assert m.b("f").stat().st_size == 10 << 20
    assert m.b("f").stat().st_blocks < 100
    util.run("cp", "--sparse=auto", m.p("f"), m.p("g"), check=0)
    assert m.b("g").stat().st_blocks < 100


def test_o_direct(m):
    buf = mmap.mmap(-1, 8192)
    buf.write(b"d" * 8192)
    fd = os.open(m.p("f"), os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)
    assert os.writev(fd, [buf]) == 8192
    back = mmap.mmap(-1, 8192)
    assert os.preadv(fd, [back], 0) == 8192
    assert back[:] == b"d" * 8192
    os.close(fd)
    assert m.b("f").read_bytes() == b"d" * 8192


def test_o_append_can_be_cleared_without_passthrough(mount):
    m = mount("nopassthrough")
    fd = os.open(m.p("f"), os.O_RDWR | os.O_CREAT | os.O_APPEND)
    os.write(fd, b"aaaa")
    os.pwrite(fd, b"b", 0)  # appends, as Linux does
    fcntl.fcntl(fd, fcntl.F_SETFL, 0)
    os.pwrite(fd, b"c", 0)
    os.close(fd)
    assert m.both("f") == b"caaab"


def test_two_appenders_do_not_overwrite(m):
    m.p("f").touch()
    pids = []
    for letter in b"ab":
        pid = os.fork()
        if pid == 0:
            fd = os.open(m.p("f"), os.O_WRONLY | os.O_APPEND)
            for _ in range(500):
                os.write(fd, bytes([letter]) * 99 + b"\n")
            os._exit(0)
        pids.append(pid)
    assert [os.waitpid(p, 0)[1] for p in pids] == [0, 0]
    lines = m.both("f").split(b"\n")
    assert sorted(set(lines)) == [b"", b"a" * 99, b"b" * 99]
    assert len(lines) == 1001


def test_open_unlinked(m):
    fd = os.open(m.p("f"), os.O_RDWR | os.O_CREAT)
    os.write(fd, b"still here")
    os.unlink(m.p("f"))
    assert not m.b("f").exists()
    st = os.fstat(fd)
    assert (st.st_nlink, st.st_size) == (0, 10)
    os.fchmod(fd, 0o640)
    os.ftruncate(fd, 5)
    os.setxattr(fd, "user.x", b"1")
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o640
    assert os.pread(fd, 99, 0) == b"still"
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    assert os.read(again, 99) == b"still"
    os.close(again)
    os.close(fd)


def test_a_name_used_again_is_another_file(m):
    """Inode numbers come back at once on ext4; what was open must not notice."""
    for n in range(200):
        m.p("f").write_text(f"old {n}")
        before = os.open(m.p("f"), os.O_PATH)
        os.unlink(m.p("f"))
        os.close(before)
        m.p("f").write_text(f"new {n}")
        assert m.p("f").read_text() == f"new {n}"
        os.unlink(m.p("f"))
        m.p("f").mkdir()
        m.p("f").rmdir()


def test_removed_working_directory(m):
    m.p("d").mkdir()
    here = os.open(m.p("d"), os.O_RDONLY | os.O_DIRECTORY)
    m.p("d").rmdir()
    assert os.fstat(here).st_nlink == 0
    assert os.listdir(here) == []
    with refused(errno.ENOENT):
        os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=here)
    os.close(here)


def test_hard_links_share_an_inode(m):
    m.p("a").write_text("x")
    os.link(m.p("a"), m.p("b"))
    os.mkdir(m.p("d"))
    os.link(m.p("a"), m.p("d/c"))
    numbers = {os.stat(m.p(n)).st_ino for n in ("a", "b", "d/c")}
    assert numbers == {os.stat(m.b("a")).st_ino}
    assert os.stat(m.p("b")).st_nlink == 3
    m.p("d/c").write_text("changed")
    assert m.p("a").read_text() == "changed"


def test_tmpfile(m):
    try:
        fd = os.open(m.p(), os.O_TMPFILE | os.O_RDWR, 0o644)
    except OSError as e:
        # libfuse before 3.17 has no such operation: programs fall back.
        assert e.errno == errno.EOPNOTSUPP
        return
    os.write(fd, b"content")
    assert os.fstat(fd).st_nlink == 0
    util.link_fd(fd, m.p("named"))
    os.close(fd)
    assert m.both("named") == b"content"


def test_copy_file_range(m):
    m.p("a").write_bytes(bytes(range(256)) * 1000)
    with open(m.p("a"), "rb") as a, open(m.p("b"), "wb") as b:
        assert os.copy_file_range(a.fileno(), b.fileno(), 256000) == 256000
    assert m.both("b") == m.both("a")


def test_kernel_has_no_collapse_and_insert(m):
    m.p("f").write_bytes(bytes(16384))
    with util.opened(m.p("f"), os.O_RDWR) as fd:
        for mode in (util.COLLAPSE, util.INSERT):
            with refused(errno.EOPNOTSUPP):
                util.fallocate(fd, mode, 4096, 4096)


def test_file_size_limit_of_the_caller(m):
    def write():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        fd = os.open(m.p("f"), os.O_WRONLY | os.O_CREAT)
        first = os.write(fd, b"x" * 8000)
        return first, util.outcome(lambda: os.write(fd, b"y"))

    assert util.as_user(None, write) == (5000, errno.EFBIG)
    assert m.b("f").stat().st_size == 5000


# ---- times ----


def test_times(m):
    m.p("f").write_text("x")
    os.utime(m.p("f"), ns=(1_000_000_001, 2_000_000_002))
    for st in (os.stat(m.p("f")), os.stat(m.b("f"))):
        assert (st.st_atime_ns, st.st_mtime_ns) == (1_000_000_001, 2_000_000_002)
    omit, now = differ.Timespec(0, 0x3FFFFFFE), differ.Timespec(0, 0x3FFFFFFF)
    pair = (differ.Timespec * 2)(omit, now)
    libc = ctypes.CDLL(None)
    assert libc.utimensat(util.AT_FDCWD, os.fsencode(m.p("f")), pair, 0) == 0
    st = os.stat(m.p("f"))
    assert st.st_atime_ns == 1_000_000_001
    assert abs(st.st_mtime - time.time()) < 10
    os.symlink("f", m.p("l"))
    os.utime(m.p("l"), ns=(5, 6), follow_symlinks=False)
    assert os.lstat(m.b("l")).st_mtime_ns == 6
    # Somebody who may write may set "now", but no other time.
    os.chmod(m.p("f"), 0o666)
    as_person(ADA, lambda: os.utime(m.p("f")))
    with refused(errno.EPERM):
        as_person(ADA, lambda: os.utime(m.p("f"), (1, 1)))


# ---- names and directories ----


def test_long_names_and_deep_paths(m):
    name = "n" * 255
    m.p(name).write_text("x")
    assert m.b(name).read_text() == "x"
    with refused(errno.ENAMETOOLONG):
        m.p(name + "n").write_text("x")
    # Deeper than PATH_MAX, step by step.
    here = os.open(m.p(), os.O_RDONLY)
    for _ in range(40):
        os.mkdir("d" * 200, dir_fd=here)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    fd = os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=here)
    os.write(fd, b"deep")
    os.close(fd)
    assert os.stat("f", dir_fd=here).st_size == 4
    os.unlink("f", dir_fd=here)
    os.close(here)
    util.run("rm", "-r", m.p("d" * 200), check=0)
    assert not m.b("d" * 200).exists()


def test_names_that_are_no_text(m):
    for name in (b"\xff\xfe", b"new\nline", b"tab\t", b"-rf", b"\x01"):
        path = os.path.join(os.fsencode(m.mnt), name)
        with open(path, "wb") as f:
            f.write(name)
        assert name in os.listdir(os.fsencode(m.mnt))
        with open(os.path.join(os.fsencode(m.backing), name), "rb") as f:
            assert f.read() == name


libc = ctypes.CDLL(None, use_errno=True)


def test_seekdir(m):
    m.p("d").mkdir()
    for n in range(1000):
        m.p(f"d/{n}").touch()
    d = differ.Stream(m.p("d"))
    seen, places = [], []
    while True:
        places.append(d.tell())
        name = d.read()
        if name is None:
            break
        seen.append(name)
    assert len(set(seen)) == 1002
    for k in (0, 1, 500, 37, 999, 1001, 250):
        d.seek(places[k])
        assert d.read() == seen[k]
    # Names that go and come move nothing else.
    for n in range(0, 1000, 2):
        m.p(f"d/{n}").unlink()
    d.seek(places[300])
    rest = []
    while (name := d.read()) is not None:
        rest.append(name)
    kept = [x for x in seen[300:] if x in (b".", b"..") or int(x) % 2]
    assert [x for x in rest if x in set(kept)] == kept
    d.close()


def test_reading_while_names_come_and_go(m):
    m.p("d").mkdir()
    for n in range(3000):
        m.p(f"d/keep{n}").touch()
    with util.running(
        "bash", "-c", 'while :; do for n in {1..50}; do : > x$n; done; rm -f x*; done',
        cwd=m.p("d"),
    ):
        for _ in range(5):
            names = [e.name for e in os.scandir(m.p("d")) if e.name.startswith("keep")]
            assert len(names) == len(set(names)) == 3000


# ---- locks, notification, limits ----


def test_locks_between_programs(m):
    m.p("f").write_text("x")
    with open(m.p("f"), "r+") as a, open(m.p("f"), "r+") as b:
        fcntl.flock(a, fcntl.LOCK_EX)
        with refused(errno.EAGAIN):
            fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(a, fcntl.LOCK_UN)
        fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(a, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0)

        def other():
            with open(m.p("f"), "r+") as c:
                return (
                    util.outcome(lambda: fcntl.lockf(c, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 5)),
                    util.outcome(lambda: fcntl.lockf(c, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 20)),
                )

        assert util.as_user(None, other) == (errno.EAGAIN, 0)


def test_inotify(m):
    m.p("d").mkdir()
    fd = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(fd, os.fsencode(m.p("d")), 0xFFF) > 0
    m.p("d/f").write_text("x")
    os.rename(m.p("d/f"), m.p("d/g"))
    os.unlink(m.p("d/g"))
    masks = 0
    while select.select([fd], [], [], 1)[0]:
        data = os.read(fd, 65536)
        while data:
            _, mask, _, size = struct.unpack_from("iIII", data)
            masks |= mask
            data = data[16 + size:]
    os.close(fd)
    # created, modified, closed after writing, moved from and to, deleted
    for bit in (0x100, 0x2, 0x8, 0x40, 0x80, 0x200):
        assert masks & bit, hex(bit)


@pytest.fixture
def few_descriptors(mount):
    """A mount whose daemon may open 1,024 descriptors, as many hosts have it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    # The daemon raises its limit where it may: take the way back from it.
    m = mount()
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    resource.prlimit(m.proc.pid, resource.RLIMIT_NOFILE, (1024, 1024))
    return m


def open_fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.limit(180)
def test_twenty_thousand_files_with_few_descriptors(few_descriptors):
    m = few_descriptors
    for d in range(20):
        m.b(f"d{d}").mkdir()
        for n in range(1000):
            m.b(f"d{d}/{n}").touch()
    out = util.run("ls", "-lR", m.mnt, check=0, timeout=100).stdout
    assert out.count(b"-rw-r--r--") == 20000
    assert not util.run("ls", "-lR", m.mnt, check=0, timeout=100).stderr
    held = [open(m.p(f"d0/{n}"), "rb") for n in range(300)]
    util.run("chmod", "-R", "u+x", m.p("d1"), check=0, timeout=60)
    assert open_fds(m.proc.pid) < 1024
    for f in held:
        f.close()
    util.run("rm", "-r", *[m.p(f"d{d}") for d in range(20)], check=0, timeout=100)
    assert sorted(os.listdir(m.backing)) == [".jsonlfs"]


@pytest.mark.limit(120)
def test_ordinary_users_mount(workdir):
    """Without capabilities there are no file handles: paths are walked again. Renames,
    unlinked files and more files than descriptors work all the same."""
    source, mnt, log = workdir / "src", workdir / "mnt", workdir / "user.log"
    for d in (source, mnt):
        d.mkdir()
        os.chown(d, util.NOBODY, util.NOBODY)
    log.touch()
    with open(log, "wb") as out:
        daemon = util.subprocess.Popen(
            ["/bin/bash", "-c", 'ulimit -n 200 && exec "$@"', "bash",
             util.binary("jsonlfs"), "-f", source, mnt],
            user=util.NOBODY, group=util.NOBODY, extra_groups=[], cwd="/", env=util.ENV,
            stdin=util.subprocess.DEVNULL, stdout=out, stderr=out,
        )
    try:
        util.wait_for(lambda: str(mnt) in util.mount_table(), "the mount")
        script = """
            set -e; cd "$1"
            umask 027; mkdir d; for i in $(seq 1500); do echo $i > d/f$i; done
            test $(ls -l d | wc -l) = 1501; test $(stat -c %a d) = 750
            mkdir -p x/y/z; echo deep > x/y/z/f; mv x/y w; test $(cat w/z/f) = deep
            exec 3< d/f7; mv d/f7 w/f7; mv d e; test $(cat w/f7) = 7; test $(cat e/f9) = 9
            ln w/f7 l; test $(stat -c %h l) = 2; rm w/f7 l; test $(cat <&3) = 7
            test $(stat -L -c %h /proc/self/fd/3) = 0
            chmod 600 e/f1; touch -d @5 e/f1; test "$(stat -c '%a %Y' e/f1)" = "600 5"
            echo '{"a":1}' >> log.jsonl; mv log.jsonl log.jsonl.1; echo '{}' >> log.jsonl
            cat log.jsonl.1 log.jsonl; rm -rf e
        """
        out = util.sh(script, "/", mnt, uid=util.NOBODY, timeout=90).stdout
        assert out == b'{"a":1}\n{}\n'
        with refused(errno.EACCES):  # nobody else's business, not even root's
            os.listdir(mnt)
        assert sorted(os.listdir(source)) == [".jsonlfs", "log.jsonl", "log.jsonl.1", "w", "x"]
        assert open_fds(daemon.pid) < 200
        assert "reached-by=\"path\"" in log.read_text()
    finally:
        util.run("umount", "-l", mnt)
        assert daemon.wait(20) == 0, log.read_text()


# ---- kernel passthrough ----


def libfuse_version():
    out = util.run(util.binary("jsonlfs"), "-V", check=0).stdout.decode()
    found = re.search(r"libfuse (\d+)\.(\d+)", out)
    return int(found[1]), int(found[2])


def kernel_version():
    return tuple(int(x) for x in re.findall(r"\d+", os.uname().release)[:2])


IO_SCRIPT = """
    dd if=/dev/zero of=big bs=4096 count=300 status=none
    dd if=big of=/dev/null bs=4096 status=none
    echo more >> big; tail -c 5 big >/dev/null
    /usr/bin/python3 - <<'END'
import mmap
with open("big", "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
    assert m[:5] == b"\\0" * 5
    m[4096:4100] = b"here"
    m.flush()
with open("big", "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
    assert m[4096:4100] == b"here"
END
"""


def test_passthrough_is_on_where_it_can_be(workdir):
    """Proved by what the daemon is not asked, not by what it says."""
    seen, log = util.requests_of(workdir, IO_SCRIPT)
    if libfuse_version() >= (3, 17) and kernel_version() >= (6, 9):
        assert "READ" not in seen and "WRITE" not in seen, seen
        assert "FLUSH" not in seen  # nothing to tell
        assert 'passthrough state="on"' in log
    else:
        assert "READ" in seen and "WRITE" in seen
        assert 'passthrough state="off" reason="' in log


def test_passthrough_can_be_switched_off(workdir):
    seen, log = util.requests_of(workdir, IO_SCRIPT, "-o", "nopassthrough")
    assert "WRITE" in seen and "FLUSH" in seen
    assert 'passthrough state="off" reason="switched off by nopassthrough"' in log


def test_governed_files_never_pass_through(workdir):
    seen, _ = util.requests_of(
        workdir, "for i in $(seq 50); do echo '{\"n\": 1}' >> log.jsonl; done; cat log.jsonl")
    assert seen.count("WRITE") == 50 and "READ" in seen


# ---- the state directory ----


def test_state_directory_is_read_only(m):
    assert ".jsonlfs" not in os.listdir(m.p())
    assert {"status.json", "writers.json", "quarantine", "archive"} <= set(
        os.listdir(m.p(".jsonlfs")))
    state = m.p(".jsonlfs")
    for what in (
        lambda: (state / "x").write_text("x"),
        lambda: (state / "x").mkdir(),
        lambda: os.symlink("x", state / "l"),
        lambda: os.mkfifo(state / "p"),
        lambda: os.rmdir(state / "archive"),
        lambda: os.rmdir(state),
        lambda: os.unlink(state / ".gitignore"),
        lambda: os.rename(state / ".gitignore", m.p("g")),
        lambda: os.rename(state, m.p("other")),
        lambda: os.chmod(state, 0o700),
        lambda: os.chown(state / ".gitignore", ADA, ADA),
        lambda: os.utime(state / ".gitignore"),
        lambda: os.truncate(state / ".gitignore", 0),
        lambda: os.open(state / ".gitignore", os.O_RDWR),
        lambda: os.setxattr(state / ".gitignore", "user.x", b""),
        lambda: os.open(state / "status.json", os.O_WRONLY),
    ):
        with refused(errno.EPERM):
            what()
    assert (state / ".gitignore").read_text() == "*\n"


# ---- what happens behind the mount ----


def test_changes_behind_the_mount_appear(mount):
    m = mount("attr_timeout=0", "entry_timeout=0")
    m.p("f").write_text("one")
    assert m.p("f").read_text() == "one"
    m.b("f").write_text("two, longer")
    assert m.p("f").stat().st_size == 11
    assert m.p("f").read_text() == "two, longer"
    assert not m.p("g").exists()
    m.b("g").write_text("x")
    assert m.p("g").exists()
    os.rename(m.b("g"), m.b("h"))
    assert not m.p("g").exists() and m.p("h").read_text() == "x"
    m.b("d").mkdir()
    m.b("d/e").write_text("x")
    assert m.p("d/e").read_text() == "x"
    os.rename(m.b("d"), m.b("d2"))
    assert m.p("d2/e").read_text() == "x"


def test_content_of_closed_files_is_fresh_at_the_next_open(m):
    """Whatever the attribute timeout, and though small files stay in the page cache."""
    m.p("f").write_bytes(b"a" * 1000)
    for n in range(50):
        assert m.p("f").read_bytes() == m.b("f").read_bytes()
        with open(m.b("f"), "r+b") as f:
            f.seek(n)
            f.write(b"%d" % (n % 10))


def test_mounts_below_the_source(mount, workdir):
    if not os.path.exists("/proc/self/mountinfo"):
        pytest.skip("no /dev/fuse")

    def prepare(source):
        (source / "sub").mkdir()
        util.run("mount", "-t", "tmpfs", "-o", "size=1M", "none", source / "sub", check=0)

    m = mount(prepare=prepare)
    try:
        m.p("sub/f").write_text("on tmpfs")
        os.mkdir(m.p("sub/d"))
        os.rename(m.p("sub/f"), m.p("sub/d/g"))
        assert m.p("sub/d/g").read_text() == "on tmpfs"
        m.p("top").write_text("x")
        with refused(errno.EXDEV):
            os.rename(m.p("top"), m.p("sub/top"))
        with refused(errno.EXDEV):
            os.link(m.p("top"), m.p("sub/top"))
        # Files of both are never taken for one another.
        assert os.stat(m.p("sub")).st_ino != os.stat(m.p("sub/d")).st_ino
    finally:
        m.stop()
        util.run("umount", "-l", m.source / "sub")


# ---- programs ----


def test_make_a_program_and_run_it(m):
    m.p("x.c").write_text('#include <stdio.h>\nint main(){puts("ran");}\n')
    util.run("cc", "-o", "x", "x.c", cwd=m.p(), check=0)
    assert util.run(m.p("x"), check=0).stdout == b"ran\n"
    # A program that runs cannot be written to; one that was just written can run.
    shutil.copy("/bin/sleep", m.p("s"))
    with util.running(m.p("s"), "20"):
        util.wait_for(
            lambda: util.outcome(lambda: os.close(os.open(m.p("s"), os.O_WRONLY)))
            == errno.ETXTBSY, "ETXTBSY")
    os.close(os.open(m.p("s"), os.O_WRONLY))


@pytest.mark.parametrize("what", ["mkdir", "mknod", "symlink", "link", "open", "log"])
def test_a_call_that_fails_leaves_no_name(mount, what):
    """A lock directory, or a file made with O_EXCL: who tries again would never get it."""
    m = mount("append=strict")
    m.p("old").write_bytes(b"old")
    os.stat(m.p("old"))
    path = "new.jsonl" if what == "log" else "new"
    make = {
        "mkdir": os.mkdir,
        "mknod": os.mknod,
        "symlink": lambda new: os.symlink("old", new),
        "link": lambda new: os.link(m.p("old"), new),
        "open": lambda new: os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL)),
        "log": lambda new: os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL)),
    }[what]
    if what == "log":  # refused by its own rules
        assert util.outcome(lambda: make(m.p(path))) == errno.EPERM
    else:
        # What has been made cannot be looked at. By which of the two calls fstat(3) does that
        # is the C library's business, and a sanitizer's; and each thread counts its own.
        for call, when in [(c, n) for n in (1, 2) for c in ("newfstatat", "fstat")] * 3:
            with util.traced(m, "-o", "/dev/null", "-e", f"trace={call}", "-e",
                             f"inject={call}:error=EIO:when={when}"):
                got = util.outcome(lambda: make(m.p(path)))
            if got:
                break
            (os.rmdir if what == "mkdir" else os.unlink)(m.p(path))
        assert got == errno.EIO
    assert sorted(n for n in os.listdir(m.b()) if n != ".jsonlfs") == ["old"]
    assert not os.path.lexists(m.p(path))
    assert m.b("old").stat().st_nlink == 1
    if what == "log":
        util.append(m.p(path), b"1\n")
    else:
        make(m.p(path))
        assert os.path.lexists(m.b(path))
