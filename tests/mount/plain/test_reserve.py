# SPDX-License-Identifier: MIT
"""Blocks that ext4 keeps back for root: the mount hands them to nobody who could not have
them on the bare file system, whatever way the bytes come, and to root as natively."""

import contextlib
import errno
import faulthandler
import mmap
import os
import shutil

import pytest

import util
from util import as_user, opened, run

ADA = 12001
SIZE = 16 << 20
# Blocks of metadata lie differently from one filling to the next.
SLACK = 256 << 10
CONFIG = '{"rules": [{"match": "*.state", "class": "replace"}]}'
RECORD = b'{"pad":"' + b"x" * 4000 + b'"}\n'


class Disk:
    """An ext4 image with a fifth of it kept back, and the mount of a vault in it."""

    def __init__(self, top, size=SIZE):
        self.at = top / "disk"
        image = top / "image"
        with open(image, "wb") as f:
            f.truncate(size)
        run("mkfs.ext4", "-q", "-F", "-m", "20", "-b", "4096", "-N", "4096",
            "-O", "^has_journal", "-E", "lazy_itable_init=0", image, check=0)
        self.at.mkdir()
        run("mount", "-o", "loop", image, self.at, check=0)
        (self.at / "vault").mkdir()
        st = os.statvfs(self.at)
        self.kept = (st.f_bfree - st.f_bavail) * st.f_frsize

    def free(self):
        """What is left altogether, the reserve counted in."""
        run("sync", "-f", self.at, check=0)
        st = os.statvfs(self.at)
        return st.f_bfree * st.f_frsize

    def reserve_is_whole(self):
        left = self.free()
        assert left >= self.kept - SLACK, f"{self.kept - left} of {self.kept} bytes gone"


@pytest.fixture
def image(request, workdir):
    disk = Disk(workdir, getattr(request, "param", SIZE))
    yield disk
    run("umount", disk.at, check=0)


BOTH = pytest.mark.parametrize("disk", ["", "nopassthrough"], indirect=True)


@pytest.fixture
def disk(request, image, workdir, mount):
    """The mount fixture comes last and goes first, and the image after it."""
    config = workdir / "config.json"
    config.write_text(CONFIG)
    more = getattr(request, "param", "")
    options = [f"config={config}", *filter(None, [more])]
    image.mount = mount(*options, source=image.at / "vault")
    return image


def fill(fd, piece=b"x" * 65536):
    """Writes until the disk says no; its errno, and how much there is then."""
    done = 0
    try:
        while done < 2 * SIZE:
            done += os.write(fd, piece)
    except OSError as e:
        if len(piece) > 4096 and e.errno == errno.ENOSPC and piece != RECORD:
            return e.errno, done + fill(fd, b"x" * 4096)[1]
        return e.errno, done
    return 0, done


def filled(path, flags=0, piece=b"x" * 65536):
    def body():
        with opened(path, os.O_WRONLY | os.O_CREAT | flags, 0o666) as fd:
            return fill(fd, piece)

    return body


def same_as_natively(disk, name, **how):
    """An ordinary user fills the disk here and there: as many bytes, the same errno."""
    native = as_user(ADA, filled(disk.mount.b(name), **how), 60)
    disk.reserve_is_whole()
    os.unlink(disk.mount.b(name))
    disk.free()
    mounted = as_user(ADA, filled(disk.mount.p(name), **how), 60)
    disk.reserve_is_whole()
    assert mounted[0] == native[0] == errno.ENOSPC
    assert abs(mounted[1] - native[1]) <= SLACK, (mounted, native)


@BOTH
def test_plain_file(disk):
    same_as_natively(disk, "f")


def test_log(disk):
    same_as_natively(disk, "x.jsonl", flags=os.O_APPEND, piece=RECORD)


@pytest.mark.parametrize("image, switched", [(SIZE, True), (2 << 30, False)],
                         indirect=["image"])
def test_appends_with_ids_only_where_they_matter(disk, workdir, switched):
    """They are nine system calls an append. On a disk with plenty of room they are not made."""
    path, trace = disk.mount.p("x.jsonl"), workdir / "trace"

    def append():
        with opened(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as fd:
            for _ in range(20):
                os.write(fd, RECORD)

    as_user(ADA, append, 60)
    with util.traced(disk.mount, "-o", trace, "-e", "trace=setfsuid,writev"):
        as_user(ADA, append, 60)
    text = trace.read_text()
    assert text.count("pad") == 20, text
    assert (text.count("setfsuid") > 20) == switched, text


def test_log_without_append(disk):
    same_as_natively(disk, "x.jsonl", piece=RECORD)


@BOTH
@pytest.mark.parametrize("name", ["f", "x.jsonl"])
@pytest.mark.parametrize("order", ["root opens first", "root opens second"])
def test_root_has_it_open_too(disk, name, order):
    path = disk.mount.p(name)
    flags = os.O_WRONLY | os.O_APPEND
    with opened(path, flags | os.O_CREAT) as first:
        os.fchmod(first, 0o666)
        os.write(first, RECORD)
    if order == "root opens first":
        with opened(path, flags):
            code, _ = as_user(ADA, filled(path, os.O_APPEND, RECORD), 60)
    else:
        def body():
            with opened(path, flags) as fd:
                root_done.wait_for_root()
                return fill(fd, RECORD)

        root_done = Turn()
        with root_done.beside(path, flags):
            code, _ = as_user(ADA, body, 60)
    assert code == errno.ENOSPC
    disk.reserve_is_whole()


class Turn:
    """A process of root that opens a file after another process has."""

    def __init__(self):
        self.ask, self.told = os.pipe(), os.pipe()

    def wait_for_root(self):
        os.write(self.ask[1], b"x")
        os.read(self.told[0], 1)

    @contextlib.contextmanager
    def beside(self, path, flags):
        pid = os.fork()
        if pid == 0:
            try:
                os.read(self.ask[0], 1)
                os.open(path, flags)
                os.write(self.told[1], b"x")
                os.close(self.ask[1])
                os.read(self.ask[0], 1)
            finally:
                os._exit(0)
        try:
            yield
        finally:
            os.write(self.ask[1], b"x")
            os.waitpid(pid, 0)
            for fd in (*self.ask, *self.told):
                os.close(fd)


@BOTH
@pytest.mark.parametrize("root_too", [False, True])
def test_mapping_with_holes(disk, root_too):
    """Blocks that come to be when a page of a mapping is written back. The page may be lost
    (natively the process gets SIGBUS at once), but the reserve stays."""
    path = disk.mount.p("f")
    root = os.open(path, os.O_RDWR | os.O_CREAT)
    os.fchown(root, ADA, ADA)
    os.ftruncate(root, SIZE)
    if not root_too:
        os.close(root)

    def body():
        faulthandler.disable()
        with opened(path, os.O_RDWR) as fd, mmap.mmap(fd, SIZE) as m:
            for at in range(0, SIZE, 4096):
                m[at] = 1
            m.flush()

    with contextlib.suppress(OSError, AssertionError):  # AssertionError: SIGBUS
        as_user(ADA, body, 60)
    if root_too:
        os.close(root)
    disk.reserve_is_whole()


def test_fallocate(disk):
    def body():
        with opened(disk.mount.p("f"), os.O_RDWR | os.O_CREAT) as fd:
            return util.outcome(lambda: util.fallocate(fd, 0, 0, SIZE)), fill(fd)[0]

    assert as_user(ADA, body, 60) == (errno.ENOSPC, errno.ENOSPC)
    disk.reserve_is_whole()


def test_copy_file_range(disk):
    def body():
        with opened(disk.mount.p("a"), os.O_RDWR | os.O_CREAT) as a, \
                opened(disk.mount.p("b"), os.O_RDWR | os.O_CREAT) as b:
            os.write(a, b"y" * (4 << 20))
            try:
                for k in range(10):
                    os.copy_file_range(a, b, 4 << 20, 0, k * (4 << 20))
            except OSError as e:
                return e.errno

    assert as_user(ADA, body, 60) == errno.ENOSPC
    disk.reserve_is_whole()


def attributes(top, n):
    """A block of attributes for each of many files."""
    for k in range(n):
        try:
            with opened(top / f"f{k}", os.O_RDWR | os.O_CREAT) as fd:
                os.setxattr(fd, "user.pad", bytes([k % 256]) * 3000 + str(k).encode())
        except OSError as e:
            return e.errno
    return 0


def test_extended_attributes(disk):
    """Natively and here: files get names, but no more attributes than there is room for."""
    as_user(ADA, filled(disk.mount.b("full")), 60)
    for top in (disk.mount.source, disk.mount.mnt):
        # Inodes and names come out of what is there already.
        assert as_user(ADA, lambda top=top: attributes(top, 200), 60) == errno.ENOSPC
        disk.reserve_is_whole()


def names(top, kind):
    """Directories grow with their names."""
    made = 0
    try:
        for k in range(2000):
            name = top / f"{kind}-{k:05d}-{'n' * 200}"
            if kind == "link":
                os.link(top / "full", name)
            elif kind == "rename":
                os.rename(top / (f"old{k}"), name)
            else:
                os.mkdir(name)
            made += 1
    except OSError as e:
        return e.errno, made
    return 0, made


@pytest.mark.parametrize("kind", ["link", "mkdir"])
def test_names(disk, kind):
    as_user(ADA, filled(disk.mount.b("full")), 60)
    got = []
    for at in (disk.mount.source, disk.mount.mnt):
        got.append(as_user(ADA, lambda at=at: names(at, kind), 60))
        disk.reserve_is_whole()
        for path in disk.mount.source.glob(f"{kind}-*"):
            path.rmdir() if kind == "mkdir" else path.unlink()
    assert got[1][0] == got[0][0] == errno.ENOSPC


def test_log_that_is_replaced_by_its_extension(disk):
    """A rename onto a log appends what is new: into what is left, not into the reserve."""
    m = disk.mount

    def body():
        top = m.mnt
        with opened(top / "x.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND) as fd:
            os.write(fd, RECORD)
        shutil.copyfile(top / "x.jsonl", top / "new")
        with opened(top / "new", os.O_WRONLY | os.O_APPEND) as fd:
            for _ in range(256):
                os.write(fd, RECORD)
        with opened(top / "full", os.O_WRONLY | os.O_CREAT) as fd:
            fill(fd)
        return util.outcome(lambda: os.rename(top / "new", top / "x.jsonl"))

    assert as_user(ADA, body, 60) == errno.ENOSPC
    disk.reserve_is_whole()
    assert m.both("x.jsonl") == RECORD


def test_state_file(disk):
    def body():
        with opened(disk.mount.p("a.state"), os.O_WRONLY | os.O_CREAT) as fd:
            return fill(fd)[0]

    assert as_user(ADA, body, 60) == errno.ENOSPC
    disk.reserve_is_whole()


@BOTH
@pytest.mark.parametrize("name", ["f", "x.jsonl"])
def test_root_has_the_reserve(disk, name):
    """What ordinary users have filled is not full for root."""
    as_user(ADA, filled(disk.mount.b("full")), 60)
    native = filled(disk.mount.b("native"), os.O_APPEND, RECORD)()
    os.unlink(disk.mount.b("native"))
    disk.free()
    mounted = filled(disk.mount.p(name), os.O_APPEND, RECORD)()
    assert mounted[0] == native[0] == errno.ENOSPC
    assert native[1] > disk.kept // 2
    assert abs(mounted[1] - native[1]) <= SLACK, (mounted, native)
