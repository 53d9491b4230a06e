# SPDX-License-Identifier: MIT
"""Ways round the rules, vector by vector. Each tries to get bytes that are no records into a
governed file, or to damage what is recorded. Whatever errno it meets (test_refusals.py is
exact about those), afterwards the records are there, and every line is a record."""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import subprocess
import threading

import pytest
from util import (
    COLLAPSE,
    EXCHANGE,
    INSERT,
    KEEP_SIZE,
    NOBODY,
    PUNCH,
    PYTHON,
    Mount,
    RWF_NOAPPEND,
    UNSHARE,
    ZERO,
    append,
    as_user,
    check_lines,
    fallocate,
    in_thread,
    link_fd,
    opened,
    outcome,
    pwritev2,
    refused,
    renameat2,
    run,
    sh,
    start,
    unnamed_files,
)

RECORDS = b"".join(b'{"n":%d,"t":"recorded"}\n' % n for n in range(400))
EVIL = b"evil, no record\n"
RW = os.O_RDWR
APPEND = os.O_WRONLY | os.O_APPEND

VECTORS = {}


def vector(function):
    VECTORS[function.__name__] = function
    return function


def attempt(function, *args):
    """One step of an attack: whether it is refused does not matter here."""
    with contextlib.suppress(OSError, ValueError):
        return function(*args)
    return None


@vector
def hard_link_to_a_plain_name(v):
    attempt(os.link, v.p("x.jsonl"), v.p("l.txt"))
    if v.p("l.txt").exists():
        attempt(v.p("l.txt").write_bytes, EVIL)


@vector
def hard_link_to_a_generation(v):
    attempt(os.link, v.p("x.jsonl"), v.p("x.jsonl.1"))
    if v.p("x.jsonl.1").exists():
        attempt(v.p("x.jsonl.1").write_bytes, EVIL)


@vector
def hard_link_of_plain_to_governed(v):
    v.p("evil.txt").write_bytes(b'{"n":1}\n')
    attempt(os.link, v.p("evil.txt"), v.p("new.jsonl"))
    v.p("evil.txt").write_bytes(EVIL)
    v.also.append("new.jsonl")


@vector
def rename_away_change_and_back(v):
    attempt(os.rename, v.p("x.jsonl"), v.p("x.txt"))
    if v.p("x.txt").exists():
        attempt(v.p("x.txt").write_bytes, EVIL)
        attempt(os.rename, v.p("x.txt"), v.p("x.jsonl"))


@vector
def rename_onto(v):
    v.p("evil").write_bytes(EVIL)
    attempt(os.rename, v.p("evil"), v.p("x.jsonl"))
    v.p("evil2").write_bytes(RECORDS + EVIL)
    attempt(os.rename, v.p("evil2"), v.p("x.jsonl"))


@vector
def exchange(v):
    v.p("evil").write_bytes(EVIL)
    attempt(renameat2, v.p("evil"), v.p("x.jsonl"), EXCHANGE)
    attempt(renameat2, v.p("x.jsonl"), v.p("evil"), EXCHANGE)
    v.p("d").mkdir(exist_ok=True)
    attempt(renameat2, v.p("d"), v.p("x.jsonl"), EXCHANGE)


@vector
def exchange_of_plain_directories(v):
    for d in ("a", "b"):
        v.p(d).mkdir(exist_ok=True)
    v.p("b/.git").mkdir(exist_ok=True)
    v.p("b/.git/x.jsonl").write_bytes(EVIL)
    v.p("a/sub").mkdir(exist_ok=True)
    attempt(append, v.p("a/sub/x.jsonl"), RECORDS)
    attempt(renameat2, v.p("a/sub"), v.p("b/.git"), EXCHANGE)
    v.also.append("a/sub/x.jsonl")


@vector
def unnamed_file_that_gets_a_name(v):
    if not unnamed_files(v):
        return
    with opened(v.mnt, os.O_TMPFILE | RW) as fd:
        os.write(fd, b'{"n":1}\n')
        attempt(link_fd, fd, v.p("new.jsonl"))
        attempt(os.pwrite, fd, EVIL, 0)
    v.also.append("new.jsonl")


@vector
def unnamed_file_with_bad_content(v):
    if not unnamed_files(v):
        return
    with opened(v.mnt, os.O_TMPFILE | RW) as fd:
        os.write(fd, EVIL)
        attempt(link_fd, fd, v.p("new.jsonl"))
        attempt(link_fd, fd, v.p("x.jsonl"))
    v.also.append("new.jsonl")


@vector
def plain_handle_from_before_the_rename(v):
    v.p("evil").write_bytes(b'{"n":1}\n')
    with opened(v.p("evil"), RW) as fd:
        attempt(os.rename, v.p("evil"), v.p("new.jsonl"))
        attempt(os.pwrite, fd, EVIL, 0)
    v.also.append("new.jsonl")


@vector
def plain_mapping_from_before_the_rename(v):
    v.p("evil").write_bytes(b'{"n":1}\n')
    with opened(v.p("evil"), RW) as fd:
        view = mmap.mmap(fd, 8, mmap.MAP_SHARED)
    attempt(os.rename, v.p("evil"), v.p("new.jsonl"))
    view[:4] = b"evil"
    attempt(view.flush)
    view.close()
    v.also.append("new.jsonl")


@vector
def governed_handle_from_before_the_rename(v):
    append(v.p("y.jsonl"), RECORDS)
    with opened(v.p("y.jsonl"), APPEND) as fd:
        attempt(os.rename, v.p("y.jsonl"), v.p("z.jsonl"))
        attempt(os.write, fd, EVIL)
        attempt(os.ftruncate, fd, 3)
        attempt(fallocate, fd, PUNCH | KEEP_SIZE, 0, 10)
    v.also.append("z.jsonl")


@vector
def reopened_by_descriptor(v):
    with opened(v.p("x.jsonl"), os.O_RDONLY) as fd:
        path = f"/proc/self/fd/{fd}"
        for flags in (RW, RW | os.O_TRUNC, os.O_WRONLY, APPEND):
            with contextlib.suppress(OSError), opened(path, flags) as again:
                attempt(os.pwrite, again, EVIL, 0)
                attempt(os.write, again, EVIL)
        attempt(os.truncate, path, 0)


@vector
def reopened_by_descriptor_after_a_rename_that_changes_the_class(v):
    append(v.p("y.jsonl"), RECORDS)
    with opened(v.p("y.jsonl"), os.O_RDONLY) as fd:
        os.rename(v.p("y.jsonl"), v.p("y.jsonl.1"))
        os.rename(v.p("y.jsonl.1"), v.p("y.jsonl"))
        path = f"/proc/self/fd/{fd}"
        with contextlib.suppress(OSError), opened(path, RW) as again:
            attempt(os.pwrite, again, EVIL, 0)
            attempt(os.write, again, EVIL)
    v.also.append("y.jsonl")


@vector
def generation_handle_that_comes_back(v):
    """A plain handle of a generation, which is then renamed to a governed name."""
    append(v.p("y.jsonl"), RECORDS)
    os.rename(v.p("y.jsonl"), v.p("y.jsonl.1"))
    with opened(v.p("y.jsonl.1"), RW) as fd:
        attempt(os.rename, v.p("y.jsonl.1"), v.p("y.jsonl"))
        if v.p("y.jsonl").exists():
            attempt(os.pwrite, fd, EVIL, 0)
    v.also.append("y.jsonl")


@vector
def write_below_the_end(v):
    for flags in (RW, os.O_WRONLY):
        with opened(v.p("x.jsonl"), flags) as fd:
            attempt(os.write, fd, EVIL)
            attempt(os.pwrite, fd, EVIL, 10)
            attempt(os.pwrite, fd, EVIL, len(RECORDS) - 3)
            attempt(os.pwritev, fd, [EVIL, EVIL], 0)


@vector
def write_beyond_the_end(v):
    with opened(v.p("x.jsonl"), RW) as fd:
        attempt(os.pwrite, fd, b'{"n":1}\n', len(RECORDS) + 4096)
        os.lseek(fd, 1 << 40, os.SEEK_SET)
        attempt(os.write, fd, b'{"n":1}\n')


@vector
def write_with_noappend(v):
    with opened(v.p("x.jsonl"), os.O_RDWR | os.O_APPEND) as fd:
        attempt(pwritev2, fd, EVIL, 0, RWF_NOAPPEND)
        attempt(pwritev2, fd, b'{"n":9}\n', 0, RWF_NOAPPEND)


@vector
def write_with_rwf_append_on_a_plain_handle(v):
    with opened(v.p("x.jsonl"), RW) as fd:
        attempt(pwritev2, fd, EVIL, 0, 0x10)


@vector
def append_cleared(v):
    with opened(v.p("x.jsonl"), APPEND) as fd:
        fcntl.fcntl(fd, fcntl.F_SETFL, 0)
        attempt(os.pwrite, fd, EVIL, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        attempt(os.write, fd, b'{"n":9}\n')


@vector
def direct_io(v):
    memory = mmap.mmap(-1, 4096)
    memory[:16] = EVIL
    with contextlib.suppress(OSError), opened(v.p("x.jsonl"), RW | os.O_DIRECT) as fd:
        attempt(os.pwritev, fd, [memory], 0)
    memory.close()


@vector
def fallocate_modes(v):
    for mode in (0, KEEP_SIZE, PUNCH | KEEP_SIZE, ZERO, ZERO | KEEP_SIZE, COLLAPSE, INSERT,
                 UNSHARE, UNSHARE | KEEP_SIZE):
        for at, length in ((0, 4096), (100, 50), (0, 1 << 20), (4096, 4096)):
            with opened(v.p("x.jsonl"), RW) as fd:
                attempt(fallocate, fd, mode, at, length)
    with opened(v.p("x.jsonl"), RW) as fd:
        attempt(os.posix_fallocate, fd, 0, 1 << 20)


@vector
def truncation(v):
    for size in (0, 1, len(RECORDS) - 1, len(RECORDS) + 1):
        attempt(os.truncate, v.p("x.jsonl"), size)
        with opened(v.p("x.jsonl"), RW) as fd:
            attempt(os.ftruncate, fd, size)


@vector
def open_with_truncation(v):
    for flags in (os.O_RDONLY, os.O_WRONLY, RW, APPEND, os.O_WRONLY | os.O_CREAT):
        attempt(lambda f=flags: os.close(os.open(v.p("x.jsonl"), f | os.O_TRUNC)))


@vector
def copy_call(v):
    v.p("evil").write_bytes(EVIL * 100)
    with opened(v.p("evil"), os.O_RDONLY) as src, opened(v.p("x.jsonl"), RW) as dst:
        attempt(os.copy_file_range, src, dst, 100, 0, 0)
        attempt(os.copy_file_range, src, dst, 100, 0, len(RECORDS))
        attempt(fcntl.ioctl, dst, 0x40049409, src)  # FICLONE


@vector
def splice_and_sendfile(v):
    v.p("evil").write_bytes(EVIL)
    for flags in (RW, APPEND):
        with opened(v.p("x.jsonl"), flags) as fd, opened(v.p("evil"), os.O_RDONLY) as src:
            attempt(os.sendfile, fd, src, 0, 16)
            r, w = os.pipe()
            os.write(w, EVIL)
            attempt(os.splice, r, fd, 16)
            os.close(r)
            os.close(w)


@vector
def shared_mapping(v):
    with opened(v.p("x.jsonl"), RW) as fd:
        view = attempt(lambda: mmap.mmap(fd, 16, mmap.MAP_SHARED))
        if view:
            view[:16] = EVIL
            view.close()
        private = attempt(
            lambda: mmap.mmap(fd, 16, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        )
        if private:
            private[:16] = EVIL
            private.close()


@vector
def inode_flags(v):
    run("chattr", "-a", v.p("x.jsonl"))
    run("chattr", "+c", v.p("x.jsonl"))
    with opened(v.p("x.jsonl"), RW) as fd:
        attempt(os.pwrite, fd, EVIL, 0)


@vector
def directory_rename_into_git(v):
    v.p("sub").mkdir(exist_ok=True)
    append(v.p("sub/y.jsonl"), RECORDS)
    attempt(os.rename, v.p("sub"), v.p(".git"))
    if v.p(".git/y.jsonl").exists():
        attempt(v.p(".git/y.jsonl").write_bytes, EVIL)
        attempt(os.rename, v.p(".git"), v.p("sub"))
    v.also.append("sub/y.jsonl")


@vector
def directory_rename_out_of_git(v):
    v.p("repo/.git").mkdir(parents=True, exist_ok=True)
    v.p("repo/.git/y.jsonl").write_bytes(EVIL)
    attempt(os.rename, v.p("repo/.git"), v.p("repo/git"))
    v.also.append("repo/git/y.jsonl")


@vector
def rename_out_of_git(v):
    v.p("r/.git").mkdir(parents=True, exist_ok=True)
    v.p("r/.git/y.jsonl").write_bytes(EVIL)
    attempt(os.rename, v.p("r/.git/y.jsonl"), v.p("r/y.jsonl"))
    attempt(os.link, v.p("r/.git/y.jsonl"), v.p("r/z.jsonl"))
    v.also += ["r/y.jsonl", "r/z.jsonl"]


@vector
def symlinks(v):
    attempt(os.symlink, "x.jsonl", v.p("l.txt"))
    with contextlib.suppress(OSError), opened(v.p("l.txt"), RW) as fd:
        attempt(os.pwrite, fd, EVIL, 0)
        attempt(os.write, fd, EVIL)
    attempt(os.truncate, v.p("l.txt"), 0)
    v.p("evil").write_bytes(EVIL)
    attempt(os.symlink, "evil", v.p("y.jsonl"))
    attempt(os.rename, v.p("y.jsonl"), v.p("x.jsonl"))


@vector
def special_file_in_its_place(v):
    attempt(os.mkfifo, v.p("f.jsonl"))
    attempt(os.rename, v.p("f.jsonl"), v.p("x.jsonl"))


@vector
def half_a_record_then_death(v):
    pid = os.fork()
    if pid == 0:
        fd = os.open(v.p("x.jsonl"), APPEND)
        os.write(fd, b'{"half":')
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)


@vector
def bad_bytes_in_every_kind_of_write(v):
    with opened(v.p("x.jsonl"), APPEND) as fd:
        attempt(os.write, fd, EVIL)
        attempt(os.writev, fd, [EVIL, b'{"n":1}\n'])
        attempt(os.pwrite, fd, EVIL, 0)
        attempt(os.write, fd, b'{"n":1}\n' + b"\0" * 100)
        attempt(os.write, fd, b'{"n":1}{"n":2}\n')
    libc = ctypes.CDLL(None)
    with opened(v.p("x.jsonl"), APPEND) as fd:
        libc.dprintf(fd, b"evil %d\n", 1)


@vector
def sparse_copy(v):
    v.p("holes").write_bytes(b"")
    os.truncate(v.p("holes"), 1 << 20)
    run("cp", "--sparse=always", v.p("holes"), v.p("new.jsonl"))
    run("cp", "--sparse=always", "--reflink=auto", v.p("holes"), v.p("x.jsonl"))
    v.also.append("new.jsonl")


@vector
def case_and_dots_in_paths(v):
    v.p("sub").mkdir(exist_ok=True)
    for path in ("sub/../x.jsonl", "./x.jsonl", ".//sub/.././x.jsonl"):
        with contextlib.suppress(OSError), opened(v.p(path), RW) as fd:
            attempt(os.pwrite, fd, EVIL, 0)
    attempt(append, v.p("sub/../y.jsonl"), EVIL)
    v.also.append("y.jsonl")


class Vault:
    def __init__(self, m):
        self.m, self.mnt, self.p, self.b = m, m.mnt, m.p, m.b
        self.also = []

    def verify(self):
        """x.jsonl begins with what was recorded; all that is governed is whole lines."""
        data = self.b("x.jsonl").read_bytes()
        assert data.startswith(RECORDS)
        assert self.p("x.jsonl").read_bytes() == data
        for name in ["x.jsonl", *self.also]:
            path = self.b(name)
            if path.is_file() and not path.is_symlink():
                check_lines(path.read_bytes(), name)


@pytest.fixture
def vault(m):
    append(m.p("x.jsonl"), RECORDS)
    os.chmod(m.p("x.jsonl"), 0o666)
    os.chmod(m.mnt, 0o777)
    return Vault(m)


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("who", ["root", "thread", "user", "second"])
def test_vector(vault, name, who):
    attack = VECTORS[name]
    if who == "root":
        attack(vault)
    elif who == "thread":
        in_thread(lambda: attack(vault))
    elif who == "user":

        def step():
            # Setting the scene may be refused to this user: that is all right, too.
            attempt(attack, vault)
            return vault.also

        vault.also += as_user(NOBODY, step)
    else:
        with opened(vault.p("x.jsonl"), os.O_RDWR | os.O_APPEND) as fd:
            attack(vault)
            vault.verify()
            assert os.pread(fd, 100, 0) == RECORDS[:100]
            os.write(fd, b'{"still":"here"}\n')
    vault.verify()
    append(vault.p("x.jsonl"), b'{"end":1}\n')
    assert vault.b("x.jsonl").read_bytes().endswith(b'{"end":1}\n')


@pytest.mark.parametrize("how", ["append", "plain"])
def test_io_uring(vault, uring, how):
    for offset, text in (("0", "evil"), ("10", "evil\n"), ("0", "evil\n")):
        p = run(uring, vault.p("x.jsonl"), how, offset, text)
        if p.returncode == 77:
            pytest.skip("kernel without io_uring")
        assert p.returncode == 0
        assert int(p.stdout) < 0 or (how == "append" and text == "evil")
    vault.verify()
    p = run(uring, vault.p("x.jsonl"), "append", "0", '{"ring":1}\n', check=0)
    assert int(p.stdout) == 11
    assert vault.m.both("x.jsonl") == RECORDS + b'{"ring":1}\n'


def test_a_handle_of_the_backing_file_from_before_the_mount_is_named(mount):
    """It goes round the mount, and nothing can be done but say so."""
    holder = []

    def prepare(source):
        (source / "x.jsonl").write_bytes(RECORDS)
        holder.append(
            start("sh", "-c", 'exec 3>>"$1"; echo ready; read x', "sh",
                  source / "x.jsonl", stdin=subprocess.PIPE))
        holder[0].stdout.readline()

    try:
        m = mount(prepare=prepare, self_mount=True)
        m.expect_log("x.jsonl", str(holder[0].pid))
    finally:
        holder[0].communicate(b"\n", timeout=10)


def test_programs_of_another_user_cannot_read_the_quarantine(vault):
    m = vault.m
    os.chmod(m.p("x.jsonl"), 0o600)
    with refused(errno.EBADMSG):
        append(m.p("x.jsonl"), b"a secret\n")
    name = m.wait_quarantine(1)[0][0]["file"]

    def read():
        return m.p(f".jsonlfs/quarantine/{name}").read_bytes()

    assert read() == b"a secret\n"
    with refused(errno.EACCES):
        as_user(NOBODY, read)
    code = outcome(lambda: as_user(NOBODY, lambda: m.p(".jsonlfs/quarantine.jsonl").read_bytes()))
    assert code == errno.EACCES


def test_attacks_beside_honest_writers(vault):
    """All of it at once: the honest writers' records are all there, in order."""
    script = (
        "import os, sys\n"
        "for n in range(150):\n"
        "    fd = os.open('x.jsonl', os.O_WRONLY | os.O_APPEND)\n"
        "    os.write(fd, b'{\"honest\":%d,' % int(sys.argv[1]))\n"
        "    os.write(fd, b'\"n\":%d}\\n' % n)\n"
        "    os.close(fd)\n"
    )
    writers = [start(PYTHON, "-c", script, str(i), cwd=vault.mnt) for i in range(4)]
    stop = threading.Event()
    errors = []
    tame = ("write_below_the_end", "write_beyond_the_end", "append_cleared", "truncation",
            "open_with_truncation", "rename_onto", "exchange", "fallocate_modes",
            "splice_and_sendfile", "copy_call", "bad_bytes_in_every_kind_of_write")

    def attacker():
        while not stop.is_set():
            for name in tame:
                try:
                    VECTORS[name](vault)
                except FileExistsError:
                    pass
                except Exception as e:
                    errors.append(f"{name}: {e!r}")
                    return

    t = threading.Thread(target=attacker)
    t.start()
    try:
        for p in writers:
            assert p.wait(60) == 0, p.stderr.read()
    finally:
        stop.set()
        t.join(30)
        for p in writers:
            p.communicate(timeout=10)
    assert not errors
    vault.verify()
    got = [r for r in vault.m.records("x.jsonl")[400:] if "honest" in r]
    for i in range(4):
        assert [r["n"] for r in got if r["honest"] == i] == list(range(150))


def test_two_mounts_of_one_directory(mount, workdir):
    """Not a good idea, but flock keeps even these apart."""
    m = mount()
    second = workdir / "second"
    second.mkdir()
    other = Mount(m.source, second, [f"state={workdir}/state2"], workdir / "log-second")
    (workdir / "state2").mkdir()
    other.start()
    try:
        sh("for i in 1 2; do for n in $(seq 40); do\n"
           "  printf '{\"m\":%d,\"n\":%d}\\n' $i $n >> \"${!i}/x.jsonl\"\n"
           "done & done; wait", "/", str(m.mnt), str(second))
        got = m.records("x.jsonl")
        for i in (1, 2):
            assert [r["n"] for r in got if r["m"] == i] == list(range(1, 41))
    finally:
        other.stop()
        other.forget()


# ---- privileges of a log that an ordinary user appends to ----


@pytest.mark.parametrize("mode, left", [(0o4777, 0o777), (0o2777, 0o777), (0o6777, 0o777),
                                        (0o2766, 0o2766), (0o777, 0o777)])
def test_an_ordinary_user_s_append_clears_suid_and_sgid(mount, mode, left):
    m = mount()
    path = m.p("x.jsonl")
    append(path, b'{"n":1}\n')
    os.chmod(path, mode)
    append(path, b'{"n":2}\n')
    assert os.stat(path).st_mode & 0o7777 == mode  # root's own append takes nothing away
    as_user(NOBODY, lambda: append(path, b'{"n":3}\n'))
    assert os.stat(m.b("x.jsonl")).st_mode & 0o7777 == left
    assert path.read_bytes() == b'{"n":1}\n{"n":2}\n{"n":3}\n'
