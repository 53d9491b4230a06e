# SPDX-License-Identifier: MIT
"""Every operation on a live governed file other than an append: the table of refusals, by
system call, errno exact, content unchanged; each refusal also on a second handle, by
another user and from another thread. Then what is allowed, and what it does."""

import contextlib
import errno
import fcntl
import json
import mmap
import os
import stat
import subprocess
import threading
import time

import pytest
from util import (
    BAD,
    COLLAPSE,
    DAEMON,
    EXCHANGE,
    FS_APPEND_FL,
    INSERT,
    KEEP_SIZE,
    NO,
    NOBODY,
    NOREPLACE,
    PUNCH,
    PYTHON,
    ZERO,
    append,
    as_user,
    fallocate,
    getflags,
    in_thread,
    link_fd,
    opened,
    outcome,
    records,
    refused,
    renameat2,
    run,
    running,
    setflags,
    sh,
    traced,
    tree,
    unnamed_files,
    wait_for,
)

ONE = b'{"n":1}\n'
TWO = b'{"n":1}\n{"n":2}\n'
MORE = b'{"n":3}\n'
SLOW = int(os.environ.get("JSONLFS_TEST_SLOWNESS", "1"))
RW = os.O_RDWR
APPEND = os.O_WRONLY | os.O_APPEND


def on_fd(flags, function):
    """An attempt that opens the file anew and then calls function(fd)."""

    def attempt(m):
        with opened(m.p("x.jsonl"), flags) as fd:
            function(fd)

    return attempt


def splice_into(fd):
    r, w = os.pipe()
    os.write(w, ONE)
    try:
        os.splice(r, fd, len(ONE))
    finally:
        os.close(r)
        os.close(w)


def sendfile_into(fd):
    with opened("/proc/self/cmdline", os.O_RDONLY) as src:
        os.sendfile(fd, src, 0, 10)


# name -> (attempt, errno). The vault holds x.jsonl with two records, y.jsonl with one,
# the plain files plain.txt, other.jsonl.tmp (valid lines, no prefix), bad.txt.
REFUSALS = {
    "open O_TRUNC": (lambda m: os.close(os.open(m.p("x.jsonl"), RW | os.O_TRUNC)), NO),
    "open O_TRUNC|O_APPEND": (
        lambda m: os.close(os.open(m.p("x.jsonl"), APPEND | os.O_TRUNC)), NO),
    "open O_TRUNC|O_CREAT": (
        lambda m: os.close(
            os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)), NO),
    "truncate 0": (lambda m: os.truncate(m.p("x.jsonl"), 0), NO),
    "truncate shorter": (lambda m: os.truncate(m.p("x.jsonl"), len(ONE)), NO),
    "truncate longer": (lambda m: os.truncate(m.p("x.jsonl"), 4096), NO),
    "ftruncate 0": (on_fd(RW, lambda fd: os.ftruncate(fd, 0)), NO),
    "ftruncate of an append handle": (on_fd(APPEND, lambda fd: os.ftruncate(fd, 0)), NO),
    "ftruncate longer": (on_fd(RW, lambda fd: os.ftruncate(fd, 4096)), NO),
    "pwrite below": (on_fd(RW, lambda fd: os.pwrite(fd, b"9", 5)), NO),
    "pwrite across the end": (on_fd(RW, lambda fd: os.pwrite(fd, MORE * 2, 8)), NO),
    "pwrite beyond": (on_fd(RW, lambda fd: os.pwrite(fd, MORE, 100)), NO),
    "fallocate 0 longer": (on_fd(RW, lambda fd: fallocate(fd, 0, 0, 4096)), NO),
    "posix_fallocate": (on_fd(RW, lambda fd: os.posix_fallocate(fd, 0, 4096)), NO),
    "fallocate punch": (
        on_fd(RW, lambda fd: fallocate(fd, PUNCH | KEEP_SIZE, 0, 8)), NO),
    "fallocate zero": (on_fd(RW, lambda fd: fallocate(fd, ZERO, 0, 8)), NO),
    "fallocate zero keep": (
        on_fd(RW, lambda fd: fallocate(fd, ZERO | KEEP_SIZE, 0, 8)), NO),
    # Of these two the kernel does not even ask us.
    "fallocate collapse": (
        on_fd(RW, lambda fd: fallocate(fd, COLLAPSE, 0, 4096)), errno.EOPNOTSUPP),
    "fallocate insert": (
        on_fd(RW, lambda fd: fallocate(fd, INSERT, 0, 4096)), errno.EOPNOTSUPP),
    "fallocate keep": (
        on_fd(RW, lambda fd: fallocate(fd, KEEP_SIZE, 0, 4096)), errno.EOPNOTSUPP),
    "mmap shared": (
        on_fd(RW, lambda fd: mmap.mmap(fd, 16, mmap.MAP_SHARED)), errno.ENODEV),
    "mmap shared, reading": (
        on_fd(os.O_RDONLY, lambda fd: mmap.mmap(fd, 16, mmap.MAP_SHARED, mmap.PROT_READ)),
        errno.ENODEV),
    "sendfile": (on_fd(APPEND, sendfile_into), errno.EINVAL),
    "splice": (on_fd(APPEND, splice_into), errno.EINVAL),
    "rename to a plain name": (
        lambda m: os.rename(m.p("x.jsonl"), m.p("x.txt")), NO),
    "rename to an existing plain name": (
        lambda m: os.rename(m.p("x.jsonl"), m.p("plain.txt")), NO),
    "rename to a compressed name": (
        lambda m: os.rename(m.p("x.jsonl"), m.p("x.jsonl.1.gz")), NO),
    "rename of another onto it": (
        lambda m: os.rename(m.p("other.jsonl.tmp"), m.p("x.jsonl")), NO),
    "rename of a governed one onto it": (
        lambda m: os.rename(m.p("y.jsonl"), m.p("x.jsonl")), NO),
    "exchange with plain": (
        lambda m: renameat2(m.p("x.jsonl"), m.p("plain.txt"), EXCHANGE), NO),
    "exchange with governed": (
        lambda m: renameat2(m.p("x.jsonl"), m.p("y.jsonl"), EXCHANGE), NO),
    "exchange from plain": (
        lambda m: renameat2(m.p("plain.txt"), m.p("x.jsonl"), EXCHANGE), NO),
    "exchange with a directory": (
        lambda m: renameat2(m.p("dir"), m.p("x.jsonl"), EXCHANGE), NO),
    "rename of bad content to a governed name": (
        lambda m: os.rename(m.p("bad.txt"), m.p("new.jsonl")), BAD),
    "link to a plain name": (lambda m: os.link(m.p("x.jsonl"), m.p("l.txt")), NO),
    "link to a generation": (lambda m: os.link(m.p("x.jsonl"), m.p("x.jsonl.1")), NO),
    "link of plain to a governed name": (
        lambda m: os.link(m.p("plain.txt"), m.p("l.jsonl")), NO),
    "rename no-replace": (
        lambda m: renameat2(m.p("y.jsonl"), m.p("x.jsonl"), NOREPLACE), errno.EEXIST),
    "setxattr reserved": (
        lambda m: os.setxattr(m.p("x.jsonl"), "user.jsonlfs.x", b"1"), NO),
    "clear append-only": (
        on_fd(os.O_RDONLY, lambda fd: setflags(fd, getflags(fd) & ~FS_APPEND_FL)), NO),
}


@pytest.fixture
def vault(m):
    append(m.p("x.jsonl"), TWO)
    append(m.p("y.jsonl"), ONE)
    m.p("plain.txt").write_bytes(ONE)
    m.p("other.jsonl.tmp").write_bytes(b'{"n":1}\n{"n":7}\n{"n":8}\n')
    m.p("bad.txt").write_bytes(b"oops\n")
    m.p("dir").mkdir()
    for name in os.listdir(m.mnt):
        os.chmod(m.p(name), 0o777)
    os.chmod(m.mnt, 0o777)
    return m


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal(vault, name):
    m = vault
    attempt, code = REFUSALS[name]
    before, names = tree(m.backing), sorted(os.listdir(m.mnt))
    inode, mtime = os.stat(m.p("x.jsonl")).st_ino, os.stat(m.b("x.jsonl")).st_mtime_ns

    def by(who, run_it=lambda f: f()):
        assert outcome(lambda: run_it(lambda: attempt(m))) == code, who
        assert tree(m.backing) == before, who
        assert sorted(os.listdir(m.mnt)) == names, who

    by("root")
    by("another thread", in_thread)
    user_code = outcome(lambda: as_user(NOBODY, lambda: attempt(m)))
    # The kernel may refuse an ordinary user earlier (protected_hardlinks).
    assert user_code == code, f"another user: {user_code}"
    assert tree(m.backing) == before
    with opened(m.p("x.jsonl"), os.O_RDWR | os.O_APPEND) as fd:
        by("beside an open handle")
        assert os.pread(fd, 100, 0) == TWO
        assert os.write(fd, MORE) == len(MORE)  # the open handle still works
    assert m.both("x.jsonl") == TWO + MORE
    assert os.stat(m.p("x.jsonl")).st_ino == inode
    assert mtime  # unchanged until the append above; tree() compared the bytes
    if code == NO and "xattr" not in name and "append-only" not in name:
        wait_for(lambda: m.counter("denied") >= 1, "the counter")


def test_a_refusal_is_logged_with_its_path(vault):
    with refused(NO):
        os.rename(vault.p("x.jsonl"), vault.p("x.txt"))
    vault.expect_log("x.jsonl")


# ---- truncation ----


def test_empty_and_new_files_take_o_trunc(m):
    for _ in range(2):
        with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
            os.ftruncate(fd, 0)
    os.truncate(m.p("x.jsonl"), 0)
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_TRUNC) as fd:
        os.write(fd, TWO)
        os.ftruncate(fd, len(TWO))  # the same size
    os.truncate(m.p("x.jsonl"), len(TWO))
    assert m.both("x.jsonl") == TWO


def test_truncate_to_zero_when_a_generation_holds_the_content(m):
    append(m.p("x.jsonl"), TWO)
    m.p("x.jsonl.1").write_bytes(TWO)
    with opened(m.p("x.jsonl"), APPEND) as fd:
        os.truncate(m.p("x.jsonl"), 0)
        assert m.both("x.jsonl") == b""
        os.write(fd, MORE)
    assert m.both("x.jsonl") == MORE
    assert m.both("x.jsonl.1") == TWO


@pytest.mark.parametrize(
    "name,content",
    [
        ("x.jsonl.1", ONE),
        ("x.jsonl.1", TWO + MORE),
        ("x.jsonl.1", b'{"n":1}\n{"n":9}\n'),
        ("x.jsonl.1", b""),
        ("y.jsonl.1", TWO),
        ("x.jsonl.txt", TWO),
        ("sub/x.jsonl.1", TWO),
        ("copy.jsonl", TWO),
    ],
)
def test_truncate_to_zero_without_an_exact_generation(m, name, content):
    append(m.p("x.jsonl"), TWO)
    m.p("sub").mkdir()
    m.p(name).write_bytes(content)
    with refused(NO):
        os.truncate(m.p("x.jsonl"), 0)
    with opened(m.p("x.jsonl"), RW) as fd, refused(NO):
        os.ftruncate(fd, 0)
    assert m.both("x.jsonl") == TWO
    m.expect_log("x.jsonl", "generation")


def test_truncate_to_zero_with_a_generation_that_is_the_file_itself(m):
    """Its second name, which only a program outside can make, would be emptied with it."""
    append(m.p("x.jsonl"), TWO)
    os.link(m.b("x.jsonl"), m.b("x.jsonl.1"))
    with refused(NO):
        os.truncate(m.p("x.jsonl"), 0)
    assert m.both("x.jsonl") == TWO
    m.b("x.jsonl.2").write_bytes(TWO)
    os.truncate(m.p("x.jsonl"), 0)
    assert m.both("x.jsonl") == b"" and m.b("x.jsonl.2").read_bytes() == TWO


def test_truncate_compares_under_the_lock(m):
    """An appender beside copytruncate in a loop: each record ends up in exactly one
    place, or the truncation is refused."""
    script = (
        "import os\n"
        "for n in range(1500):\n"
        "    fd = os.open('x.jsonl', os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "    os.write(fd, b'{\"n\":%d}\\n' % n)\n"
        "    os.close(fd)\n"
    )
    kept, cut, denied = b"", 0, 0
    append(m.p("x.jsonl"), b"")
    with running(PYTHON, "-c", script, cwd=m.mnt) as p:
        while p.poll() is None:
            content = m.p("x.jsonl").read_bytes()
            m.p("x.jsonl.1").write_bytes(content)
            if outcome(lambda: os.truncate(m.p("x.jsonl"), 0)) == 0:
                kept += content
                cut += bool(content)
            else:
                denied += 1
        assert p.returncode == 0, p.stderr.read()
    data = kept + m.both("x.jsonl")
    assert [json.loads(x)["n"] for x in data.splitlines()] == list(range(1500))
    assert cut + denied > 0


# ---- what fallocate and copy calls do when they are allowed ----


def test_copy_file_range_falls_back_to_writes(m):
    m.p("src").write_bytes(TWO)
    with opened(m.p("src"), os.O_RDONLY) as src:
        with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_CREAT) as dst:
            assert os.copy_file_range(src, dst, 100) == len(TWO)
    assert m.both("x.jsonl") == TWO
    m.p("bad").write_bytes(b"oops\n")
    with opened(m.p("bad"), os.O_RDONLY) as src, opened(m.p("x.jsonl"), RW) as dst:
        os.lseek(dst, 0, os.SEEK_END)
        with refused(BAD):
            os.copy_file_range(src, dst, 5)
        with refused(NO):
            os.copy_file_range(src, dst, 5, 0, 0)
    assert m.both("x.jsonl") == TWO


def test_copy_file_range_out_of_a_governed_file(m):
    append(m.p("x.jsonl"), TWO)
    with opened(m.p("x.jsonl"), os.O_RDONLY) as src:
        with opened(m.p("copy"), os.O_WRONLY | os.O_CREAT) as dst:
            assert os.copy_file_range(src, dst, 100) == len(TWO)
    assert m.both("copy") == TWO


def test_splice_and_sendfile_without_append_land_at_the_end(m):
    append(m.p("x.jsonl"), TWO)
    with opened(m.p("x.jsonl"), RW) as fd:
        os.lseek(fd, 0, os.SEEK_END)
        r, w = os.pipe()
        os.write(w, MORE)
        assert os.splice(r, fd, len(MORE)) == len(MORE)
        os.write(w, b"oops\n")
        assert os.splice(r, fd, 5) == 5
        with refused(BAD):
            os.fsync(fd)
        os.close(r)
        os.close(w)
        with opened(m.p("src"), os.O_RDWR | os.O_CREAT) as src:
            os.write(src, ONE)
            assert os.sendfile(fd, src, 0, len(ONE)) == len(ONE)
    assert m.both("x.jsonl") == TWO + MORE + ONE


# ---- renames ----


def test_rename_between_governed_names(m):
    append(m.p("x.jsonl"), TWO)
    m.p("sub").mkdir()
    with opened(m.p("x.jsonl"), APPEND) as fd:
        os.rename(m.p("x.jsonl"), m.p("sub/z.jsonl"))
        os.write(fd, MORE + b"oops\n")
        with refused(BAD):
            os.fsync(fd)
    assert m.both("sub/z.jsonl") == TWO + MORE
    assert not m.p("x.jsonl").exists()


def test_rename_to_a_generation_that_exists(m):
    append(m.p("x.jsonl"), TWO)
    m.p("x.jsonl.1").write_bytes(b"old\n")
    os.rename(m.p("x.jsonl"), m.p("x.jsonl.1"))
    assert m.both("x.jsonl.1") == TWO
    append(m.p("x.jsonl"), MORE)
    assert m.both("x.jsonl") == MORE


def test_a_handle_keeps_its_class_after_its_file_became_a_generation(m):
    append(m.p("x.jsonl"), TWO)
    with opened(m.p("x.jsonl"), APPEND) as fd:
        os.rename(m.p("x.jsonl"), m.p("x.jsonl.1"))
        os.write(fd, MORE + b"oops\n")
        with refused(BAD):
            os.fsync(fd)
        with refused(NO):
            os.ftruncate(fd, 0)
        # The generation is a plain file for whoever opens it now.
        with opened(m.p("x.jsonl.1"), os.O_RDWR) as plain:
            assert os.pread(plain, 100, 0) == TWO + MORE
    m.p("x.jsonl.1").write_bytes(b"free\n")
    assert m.both("x.jsonl.1") == b"free\n"


def test_rename_of_an_empty_one_is_free(m):
    append(m.p("x.jsonl"), b"")
    os.rename(m.p("x.jsonl"), m.p("x.txt"))
    append(m.p("x.txt"), b"text\n")
    append(m.p("y.jsonl"), b"")
    m.p("new").write_bytes(TWO)
    os.rename(m.p("new"), m.p("y.jsonl"))
    assert m.both("y.jsonl") == TWO
    assert m.both("x.txt") == b"text\n"


@pytest.mark.parametrize("new", ["new", "new.jsonl"])
def test_rename_onto_an_empty_one_replaces_it(m, new):
    """Inode, owner, mode and links are those of the new file, as without the mount."""
    append(m.p("y.jsonl"), b"")
    os.link(m.p("y.jsonl"), m.p("z.jsonl"))
    os.chown(m.p("y.jsonl"), NOBODY, NOBODY)
    m.p(new).write_bytes(TWO)
    os.chown(m.p(new), DAEMON, DAEMON)
    os.chmod(m.p(new), 0o640)
    inode = m.b(new).stat().st_ino
    os.rename(m.p(new), m.p("y.jsonl"))
    for path in (m.p("y.jsonl"), m.b("y.jsonl")):
        st = path.stat()
        assert (st.st_ino, st.st_uid, st.st_mode & 0o7777, st.st_nlink) == (
            inode, DAEMON, 0o640, 1)
    st = m.p("z.jsonl").stat()
    assert (st.st_uid, st.st_size, st.st_nlink) == (NOBODY, 0, 1)
    append(m.p("y.jsonl"), MORE)
    append(m.p("z.jsonl"), MORE)
    assert m.both("y.jsonl") == TWO + MORE and m.both("z.jsonl") == MORE
    assert not m.p(new).exists()


def test_rename_onto_an_empty_one_that_is_being_written(m):
    """Its writer goes on where he is read: the inode stays."""
    with opened(m.p("y.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
        m.p("new").write_bytes(TWO)
        os.rename(m.p("new"), m.p("y.jsonl"))
        os.write(fd, MORE)
    assert m.both("y.jsonl") == TWO + MORE
    append(m.p("e.jsonl"), b"")
    m.p("bad").write_bytes(b"oops\n")
    with refused(BAD):
        os.rename(m.p("bad"), m.p("e.jsonl"))
    append(m.p("e.jsonl"), MORE)  # as before
    assert m.both("e.jsonl") == MORE and m.b("bad").read_bytes() == b"oops\n"


def test_plain_content_that_becomes_governed_is_validated(m):
    m.p("good.tmp").write_bytes(TWO)
    os.rename(m.p("good.tmp"), m.p("good.jsonl"))
    with refused(BAD):
        append(m.p("good.jsonl"), b"oops\n")
    append(m.p("good.jsonl"), MORE)
    assert m.both("good.jsonl") == TWO + MORE
    for i, content in enumerate((b"oops\n", TWO + b"\0\0", TWO + b'{"half"', b'{}{}\n')):
        m.p(f"{i}.tmp").write_bytes(content)
        with refused(BAD):
            os.rename(m.p(f"{i}.tmp"), m.p(f"{i}.jsonl"))
        assert m.both(f"{i}.tmp") == content
        assert not m.p(f"{i}.jsonl").exists()


def test_rename_while_a_plain_handle_is_open_for_writing(m):
    m.p("x.tmp").write_bytes(TWO)
    with opened(m.p("x.tmp"), os.O_WRONLY | os.O_APPEND) as fd:
        with refused(errno.ETXTBSY):
            os.rename(m.p("x.tmp"), m.p("x.jsonl"))
        os.write(fd, b"oops\n")
        with refused(errno.ETXTBSY):
            os.rename(m.p("x.tmp"), m.p("x.jsonl"))
    with refused(BAD):
        os.rename(m.p("x.tmp"), m.p("x.jsonl"))
    m.p("y.tmp").write_bytes(TWO)
    with opened(m.p("y.tmp"), os.O_RDONLY):  # a reader is no danger
        os.rename(m.p("y.tmp"), m.p("y.jsonl"))
    assert m.both("y.jsonl") == TWO


def test_nobody_opens_for_writing_what_is_being_made_a_log(m):
    """Whoever is told to look again, by the kernel alone, looks the name up: that does not make
    it a plain file again while its content is judged."""
    content = ONE * 50000
    m.p("x.tmp").write_bytes(content)
    with traced(m, "-o", "/dev/null", "-e", "trace=pread64",
                "-e", "inject=pread64:delay_enter=1000000"):
        rename = threading.Thread(target=os.rename, args=(m.p("x.tmp"), m.p("x.jsonl")))
        rename.start()
        time.sleep(0.5)
        assert m.b("x.tmp").exists() and rename.is_alive()
        with opened(m.p("x.tmp"), os.O_RDONLY):
            pass
        try:
            fd = os.open(m.p("x.tmp"), os.O_WRONLY)
        except OSError as e:
            assert e.errno in (errno.ESTALE, errno.ENOENT)
        else:
            rename.join(30)
            os.pwrite(fd, b"oops", 1)
            os.close(fd)
        rename.join(30)
    assert m.both("x.jsonl") == content
    # And it may become plain again.
    os.rename(m.p("x.jsonl"), m.p("x.jsonl.1"))
    with opened(m.p("x.jsonl.1"), os.O_WRONLY) as fd:
        os.pwrite(fd, b"oops", 1)
    os.rename(m.p("x.jsonl.1"), m.p("x.jsonl.2"))
    append(m.p("x.jsonl"), ONE)
    assert m.both("x.jsonl") == ONE


def test_a_rename_that_fails_leaves_the_source_as_it_was(m):
    """A bare number gets its newline when it becomes a log, and only then."""
    m.p("x.tmp").write_bytes(b"12")
    before = os.stat(m.p("x.tmp")).st_mtime_ns
    with traced(m, "-o", "/dev/null", "-e", "trace=renameat,renameat2",
                "-e", "inject=renameat,renameat2:error=ENOSPC"):
        with refused(errno.ENOSPC):
            os.rename(m.p("x.tmp"), m.p("x.jsonl"))
    assert m.b("x.tmp").read_bytes() == b"12"
    assert m.b("x.tmp").stat().st_mtime_ns == before
    os.rename(m.p("x.tmp"), m.p("x.jsonl"))
    assert m.b("x.jsonl").read_bytes() == b"12\n"


def test_rename_right_after_close_waits_for_the_release(m):
    """Write a temporary file, close it, rename it: RELEASE may come after the RENAME."""
    for n in range(100):
        m.p("x.tmp").write_bytes(b'{"n":%d}\n' % n)
        os.rename(m.p("x.tmp"), m.p(f"{n}.jsonl"))
    assert [m.records(f"{n}.jsonl")[0]["n"] for n in range(100)] == list(range(100))


def test_an_extension_renamed_onto_a_live_file_is_an_append(m):
    append(m.p("x.jsonl"), TWO)
    os.utime(m.p("x.jsonl"), ns=(1, 1))
    inode = os.stat(m.p("x.jsonl")).st_ino
    m.p("x.tmp").write_bytes(TWO + MORE)
    os.chmod(m.p("x.tmp"), 0o604)
    os.utime(m.p("x.tmp"), ns=(10**18, 2 * 10**18))
    with opened(m.p("x.jsonl"), os.O_RDWR | os.O_APPEND) as fd:
        os.rename(m.p("x.tmp"), m.p("x.jsonl"))
        st = os.stat(m.p("x.jsonl"))
        assert st.st_ino == inode
        assert stat.S_IMODE(st.st_mode) == 0o604
        assert st.st_mtime_ns == 2 * 10**18
        assert os.pread(fd, 100, 0) == TWO + MORE
        os.write(fd, b'{"n":4}\n')
    assert not m.p("x.tmp").exists() and not m.b("x.tmp").exists()
    assert m.both("x.jsonl") == TWO + MORE + b'{"n":4}\n'
    assert m.counter("prefix_renames") == 1


def test_stat_right_after_a_prefix_rename(m):
    """The name leads to the live file at once, not to the one that was renamed."""
    append(m.p("x.jsonl"), ONE)
    inode, data = os.stat(m.p("x.jsonl")).st_ino, ONE
    for n in range(300):
        data += b'{"n":%d}\n' % n
        m.p("x.tmp").write_bytes(data)
        os.rename(m.p("x.tmp"), m.p("x.jsonl"))
        st = os.stat(m.p("x.jsonl"))
        assert (st.st_ino, st.st_size) == (inode, len(data)), n
        if n % 3 == 0:
            data += MORE
            append(m.p("x.jsonl"), MORE)
    assert m.both("x.jsonl") == data


@pytest.mark.parametrize(
    "content,code",
    [
        (ONE, NO),
        (b"", NO),
        (TWO[:-2], NO),
        (TWO + b"oops\n", None),
        (TWO + b'{"half":', None),
        (b"x" + TWO, NO),
    ],
)
def test_other_content_renamed_onto_a_live_file(m, content, code):
    append(m.p("x.jsonl"), TWO)
    m.p("x.tmp").write_bytes(content)
    got = outcome(lambda: os.rename(m.p("x.tmp"), m.p("x.jsonl")))
    assert got == code if code else got in (NO, BAD)
    assert m.both("x.jsonl") == TWO
    assert m.both("x.tmp") == content


def test_the_same_content_renamed_onto_a_live_file(m):
    append(m.p("x.jsonl"), TWO)
    for content in (TWO, TWO[:-1]):  # a last newline counts as there
        m.p("x.tmp").write_bytes(content)
        os.rename(m.p("x.tmp"), m.p("x.jsonl"))
        assert m.both("x.jsonl") == TWO
    assert not m.p("x.tmp").exists()


@pytest.mark.limit(90)
def test_prefix_renames_beside_an_appender_that_never_reopens(m):
    """Read all, add one, write a temporary file, rename: a program that 'appends' by
    rewriting, a thousand times. Whenever it succeeds its record is there; the appender loses
    nothing."""
    append(m.p("x.jsonl"), ONE)
    script = (
        "import os, time\n"
        "fd = os.open('x.jsonl', os.O_WRONLY | os.O_APPEND)\n"
        "n = 0\n"
        "while n < 600 or not os.path.exists('stop'):\n"
        "    os.write(fd, b'{\"append\":%d}\\n' % n)\n"
        "    n += 1\n"
        "    time.sleep(0.002)\n"
        "os.close(fd)\n"
        "print(n)\n"
    )
    done = []
    with running(PYTHON, "-c", script, cwd=m.mnt) as p:
        for n in range(1000 // SLOW):
            content = m.p("x.jsonl").read_bytes()
            m.p("x.tmp").write_bytes(content + b'{"rename":%d}\n' % n)
            code = outcome(lambda: os.rename(m.p("x.tmp"), m.p("x.jsonl")))
            assert code in (0, NO)
            if code == 0:
                done.append(n)
        m.p("stop").touch()
        assert p.wait(60) == 0, p.stderr.read()
        appended = int(p.stdout.read())
    got = m.records("x.jsonl")
    assert [r["append"] for r in got if "append" in r] == list(range(appended))
    assert [r["rename"] for r in got if "rename" in r] == done
    assert done


# ---- hard links ----


def test_hard_links_within_the_class(m):
    append(m.p("x.jsonl"), TWO)
    os.link(m.p("x.jsonl"), m.p("y.jsonl"))
    append(m.p("y.jsonl"), MORE)
    assert m.both("x.jsonl") == m.both("y.jsonl") == TWO + MORE
    os.unlink(m.p("x.jsonl"))  # another name is left: nothing is lost
    assert m.both("y.jsonl") == TWO + MORE
    m.p("a.txt").write_bytes(b"a\n")
    os.link(m.p("a.txt"), m.p("b.txt"))


def test_link_of_an_unnamed_file_to_a_governed_name(m):
    if not unnamed_files(m):
        return
    with opened(m.mnt, os.O_TMPFILE | os.O_RDWR) as fd:
        os.write(fd, TWO)
        code = outcome(lambda: link_fd(fd, m.p("x.jsonl")))
        assert code in (0, errno.ETXTBSY)  # the handle is open for writing
        with contextlib.suppress(OSError):
            os.write(fd, b"oops\n")
    if code:
        assert not m.p("x.jsonl").exists()
    else:
        assert m.both("x.jsonl") == TWO
    with opened(m.mnt, os.O_TMPFILE | os.O_RDWR) as fd:
        os.write(fd, b"oops\n")
        assert outcome(lambda: link_fd(fd, m.p("y.jsonl"))) in (BAD, errno.ETXTBSY)
        link_fd(fd, m.p("y.txt"))
    assert not m.p("y.jsonl").exists()
    assert m.both("y.txt") == b"oops\n"


# ---- directories ----


def test_rename_of_a_directory_that_would_change_a_class(mount):
    m = mount("match=*.jsonl:live/*.log")
    os.makedirs(m.p("live"))
    append(m.p("live/x.log"), TWO)
    with refused(errno.EXDEV):
        os.rename(m.p("live"), m.p("dead"))
    assert m.both("live/x.log") == TWO
    os.makedirs(m.p("repo/sub"))
    append(m.p("repo/sub/x.jsonl"), TWO)
    with refused(errno.EXDEV):
        os.rename(m.p("repo/sub"), m.p("repo/.git"))
    os.rename(m.p("repo"), m.p("repo2"))  # no class changes
    with opened(m.p("repo2/sub/x.jsonl"), APPEND) as fd:
        os.rename(m.p("repo2"), m.p("repo3"))
        os.write(fd, MORE + b"oops\n")
        with refused(BAD):
            os.fsync(fd)
    assert m.both("repo3/sub/x.jsonl") == TWO + MORE


@pytest.mark.damaged
@pytest.mark.parametrize("call", ["getdents64", "newfstatat"])
def test_a_directory_that_cannot_be_looked_through_is_not_renamed(mount, call):
    m = mount("match=logs/*.jsonl")
    os.mkdir(m.p("new"))
    m.p("new/x.jsonl").write_bytes(b"oops\n")
    where = [] if call == "getdents64" else ["-P", m.b("new/x.jsonl"), "-P", "x.jsonl"]
    with traced(m, "-o", "/dev/null", *where, "-e", f"trace={call}",
                "-e", f"inject={call}:error=EIO"):
        with refused(errno.EIO):
            os.rename(m.p("new"), m.p("logs"))
    assert m.b("new/x.jsonl").read_bytes() == b"oops\n"
    assert not m.b("logs").exists()


def test_mv_copies_where_the_rename_of_a_directory_is_refused(m):
    os.makedirs(m.p("repo/sub"))
    append(m.p("repo/sub/x.jsonl"), TWO)
    sh("mv repo/sub repo/.git", m.mnt)
    assert m.both("repo/.git/x.jsonl") == TWO
    assert not m.p("repo/sub").exists()


# ---- unlink ----


def test_unlink_archives(m):
    append(m.p("x.jsonl"), TWO)
    os.chmod(m.p("x.jsonl"), 0o640)
    with opened(m.p("x.jsonl"), os.O_RDWR | os.O_APPEND) as fd:
        os.unlink(m.p("x.jsonl"))
        assert not m.p("x.jsonl").exists() and not m.b("x.jsonl").exists()
        os.write(fd, MORE)
        assert os.pread(fd, 100, 0) == TWO + MORE
    assert list(m.archive().values()) == [TWO + MORE]
    append(m.p("x.jsonl"), ONE)
    os.unlink(m.p("x.jsonl"))
    assert sorted(m.archive().values()) == [ONE, TWO + MORE]
    assert m.counter("archived") == 2
    append(m.p("empty.jsonl"), b"")
    os.unlink(m.p("empty.jsonl"))
    assert len(m.archive()) == 2
    assert not m.b("empty.jsonl").exists()


def test_unlink_deny(mount):
    m = mount("unlink=deny")
    append(m.p("x.jsonl"), TWO)
    with refused(NO):
        os.unlink(m.p("x.jsonl"))
    assert m.both("x.jsonl") == TWO
    append(m.p("y.jsonl"), b"")
    os.unlink(m.p("y.jsonl"))
    os.rename(m.p("x.jsonl"), m.p("x.jsonl.1"))
    os.unlink(m.p("x.jsonl.1"))  # a generation is plain


def test_unlink_allow(mount):
    m = mount("unlink=allow")
    append(m.p("x.jsonl"), TWO)
    os.unlink(m.p("x.jsonl"))
    assert not m.b("x.jsonl").exists()
    assert m.archive() == {}


def test_a_full_archive_refuses_and_names_the_remedy(mount):
    m = mount("archive_max=4K")
    append(m.p("x.jsonl"), b'"' + b"x" * 3000 + b'"\n')
    append(m.p("y.jsonl"), b'"' + b"y" * 3000 + b'"\n')
    os.unlink(m.p("x.jsonl"))
    os.chown(m.p("y.jsonl"), 1234, 2345)
    os.chmod(m.mnt, 0o777)
    with refused(errno.EDQUOT):
        as_user(12345, lambda: os.unlink(m.p("y.jsonl")))
    assert len(m.both("y.jsonl")) == 3003
    m.expect_log("y.jsonl", "archive_max")


# ---- metadata ----


def test_metadata_passes_through(m):
    append(m.p("x.jsonl"), TWO)
    os.chmod(m.p("x.jsonl"), 0o604)
    os.chown(m.p("x.jsonl"), 1234, 2345)
    os.utime(m.p("x.jsonl"), ns=(5, 7_000_000_001))
    os.setxattr(m.p("x.jsonl"), "user.note", b"hello")
    run("setfacl", "-m", "u:daemon:r", m.p("x.jsonl"), check=0)
    a, b = os.stat(m.p("x.jsonl")), os.stat(m.b("x.jsonl"))
    for field in ("st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_size", "st_nlink"):
        assert getattr(a, field) == getattr(b, field), field
    assert (a.st_uid, a.st_gid, a.st_mtime_ns) == (1234, 2345, 7_000_000_001)
    assert os.getxattr(m.b("x.jsonl"), "user.note") == b"hello"
    assert b"user:daemon:r--" in run("getfacl", "-c", m.b("x.jsonl"), check=0).stdout
    os.removexattr(m.p("x.jsonl"), "user.note")


def test_reserved_xattrs(m):
    append(m.p("x.jsonl"), TWO)
    m.p("plain").write_bytes(b"")
    for name in ("x.jsonl", "plain"):
        with refused(NO):
            os.setxattr(m.p(name), "user.jsonlfs.a", b"1")
        assert "user.jsonlfs.a" not in os.listxattr(m.b(name))


def test_the_inode_flags_show_append_only(m):
    append(m.p("x.jsonl"), TWO)
    m.p("plain").write_bytes(b"")
    with opened(m.p("x.jsonl"), os.O_RDONLY) as fd:
        assert getflags(fd) & FS_APPEND_FL
    with opened(m.p("plain"), os.O_RDONLY) as fd:
        assert not getflags(fd) & FS_APPEND_FL
    p = run("chattr", "-a", m.p("x.jsonl"))
    assert p.returncode != 0 and b"Operation not permitted" in p.stderr
    assert b"a" in run("lsattr", m.p("x.jsonl"), check=0).stdout.split()[0]


# ---- locks ----


def test_locks_hold_among_programs_inside(m):
    append(m.p("x.jsonl"), TWO)
    with open(m.p("x.jsonl"), "ab") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        p = run("flock", "-n", m.p("x.jsonl"), "true")
        assert p.returncode == 1
        f.write(MORE)  # the mount's own lock is another one
        f.flush()
        fcntl.flock(f, fcntl.LOCK_UN)
        assert run("flock", "-n", m.p("x.jsonl"), "true").returncode == 0
        fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)

        def other():
            with open(m.p("x.jsonl"), "ab") as g:
                fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB)

        with refused(errno.EAGAIN):
            as_user(None, other)
    as_user(None, other)
    assert m.both("x.jsonl") == TWO + MORE


@contextlib.contextmanager
def lock_outside(m, name):
    """Another program holds the flock of the backing file."""
    script = (
        "import fcntl, sys\n"
        "f = open(sys.argv[1], 'ab')\n"
        "fcntl.flock(f, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with running(
        PYTHON, "-c", script, m.b(name), stdin=subprocess.PIPE
    ) as p:
        assert p.stdout.readline() == b"held\n"
        yield p


def test_a_foreign_lock_gives_eagain_in_time_and_names_the_holder(mount):
    m = mount("locktimeout=1")
    append(m.p("x.jsonl"), TWO)
    append(m.p("y.jsonl"), ONE)
    with lock_outside(m, "x.jsonl") as holder:
        start = time.monotonic()
        fd = os.open(m.p("x.jsonl"), APPEND)
        with refused(errno.EAGAIN):
            os.write(fd, MORE)
        assert 0.8 < time.monotonic() - start < 4
        m.expect_log("x.jsonl", str(holder.pid))
        append(m.p("y.jsonl"), MORE)
        assert m.p("x.jsonl").read_bytes() == TWO
    # The refused bytes were not taken over: the program sends them again.
    assert os.write(fd, MORE) == len(MORE)
    os.close(fd)
    assert m.both("x.jsonl") == TWO + MORE
    assert m.counter("lock_timeouts") >= 1


def test_a_lock_that_is_given_back_in_time_is_waited_for(m):
    append(m.p("x.jsonl"), TWO)
    with lock_outside(m, "x.jsonl") as holder:
        timer = threading.Timer(0.7, holder.stdin.close)
        timer.start()
        start = time.monotonic()
        append(m.p("x.jsonl"), MORE)
        assert time.monotonic() - start > 0.5
        timer.join()
        holder.stdin = None
    assert m.both("x.jsonl") == TWO + MORE


def test_more_waiters_than_threads_and_the_mount_still_answers(mount):
    m = mount("locktimeout=2", "sync=none")  # no disk in what is timed
    append(m.p("x.jsonl"), TWO)
    append(m.p("y.jsonl"), ONE)
    script = (
        "import os, sys\n"
        "fd = os.open('x.jsonl', os.O_WRONLY | os.O_APPEND)\n"
        "try:\n"
        "    os.write(fd, b'{\"waited\":1}\\n')\n"
        "except OSError as e:\n"
        "    sys.exit(e.errno)\n"
    )
    with lock_outside(m, "x.jsonl"), contextlib.ExitStack() as stack:
        waiters = [
            stack.enter_context(running(PYTHON, "-c", script, cwd=m.mnt)) for _ in range(50)
        ]
        time.sleep(1.0)
        start = time.monotonic()
        for n in range(20):
            append(m.p("y.jsonl"), ONE)
            os.stat(m.p("x.jsonl"))
            assert m.p("x.jsonl").read_bytes() == TWO
        assert time.monotonic() - start < 3
        codes = {p.wait(15) for p in waiters}
        assert codes == {errno.EAGAIN}
    assert m.both("x.jsonl") == TWO
    assert len(m.records("y.jsonl")) == 21


def test_readers_and_closes_do_not_wait_for_a_foreign_lock(mount):
    m = mount("sync=none")
    append(m.p("x.jsonl"), TWO)
    with lock_outside(m, "x.jsonl"):
        start = time.monotonic()
        assert m.p("x.jsonl").read_bytes() == TWO
        with opened(m.p("x.jsonl"), APPEND):
            pass
        assert os.stat(m.p("x.jsonl")).st_size == len(TWO)
        assert time.monotonic() - start < 2


def test_the_log_names_programs_that_hold_files_open_from_before(mount):
    holders = []

    def prepare(source):
        (source / "x.jsonl").write_bytes(TWO)
        script = "import sys; f = open(sys.argv[1], 'ab'); print(1, flush=True); input()"
        p = stack.enter_context(
            running(PYTHON, "-c", script, source / "x.jsonl", stdin=subprocess.PIPE)
        )
        p.stdout.readline()
        holders.append(p)

    with contextlib.ExitStack() as stack:
        m = mount(prepare=prepare)
        m.expect_log("x.jsonl", str(holders[0].pid))


def test_a_writer_outside_without_a_lock_keeps_its_bytes(m):
    """Bytes that somebody adds to the backing file are never overwritten."""
    with opened(m.p("x.jsonl"), APPEND | os.O_CREAT) as fd:
        with open(m.b("x.jsonl"), "ab", buffering=0) as outside:
            for n in range(50):
                os.write(fd, b'{"in":%d}\n' % n)
                outside.write(b'{"out":%d}\n' % n)
    got = records(m.b("x.jsonl"))
    assert [r["in"] for r in got if "in" in r] == list(range(50))
    assert [r["out"] for r in got if "out" in r] == list(range(50))
    wait_for(lambda: m.p("x.jsonl").read_bytes() == m.b("x.jsonl").read_bytes(), "the size")


def test_a_new_file_with_an_old_number_is_judged_anew(m):
    """ext4 gives the number of a removed file to the next one: its bad lines are new."""
    numbers = set()
    for _ in range(8):
        fd = os.open(m.p("x.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        numbers.add(os.fstat(fd).st_ino)
        with refused(errno.EBADMSG):
            os.write(fd, b"oops\n")
        with refused(errno.EBADMSG):
            os.close(fd)
        os.unlink(m.p("x.jsonl"))
    print(f"{len(numbers)} numbers")
