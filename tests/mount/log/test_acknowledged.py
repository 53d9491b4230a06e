# SPDX-License-Identifier: MIT
"""What has been answered with success is there afterwards: beside renames, and after a power
cut."""

import errno
import fcntl
import os
import stat
import struct
import threading
import time

import pytest
from util import append, run

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
NOLOGFLUSH = 2
LONG = b'{"pad":"' + b"x" * (12 << 20) + b'"}'


def test_an_append_that_begins_while_its_log_is_renamed_onto_another(m):
    """The end of the log takes long to read, so that its open is still under way when the
    rename comes: one of them has to see the other."""
    for n in range(12):
        a, b = m.p(f"a{n}.jsonl"), m.p(f"b{n}.jsonl")
        append(b, b'"first"\n')
        m.b(f"a{n}.jsonl").write_bytes(b'"first"\n' + LONG)  # no newline: a copy
        said = []

        def appends(path=a, record=b'"late %d"\n' % n, said=said):
            try:
                append(path, record)
                said.append(0)
            except OSError as e:
                said.append(e.errno)

        assert os.stat(a).st_size > len(LONG)
        late = threading.Thread(target=appends)
        late.start()
        time.sleep(0.003 * n)
        try:
            os.rename(a, b)
        except OSError as e:
            assert e.errno in (errno.ETXTBSY, errno.EPERM), e
        late.join(30)
        assert said and said[0] in (0, errno.ENOENT, errno.ESTALE), said
        if said == [0]:
            # In a new file, if it came behind the rename; the copy then ends as it was made.
            found = [p for p in (a, b)
                     if p.exists() and b'\n"late %d"\n' % n in b"\n" + p.read_bytes()]
            assert found, f"round {n}: the record is in neither file"
        a.unlink(missing_ok=True)
        b.unlink()


@pytest.fixture
def image(workdir):
    """An ext4 image that writes nothing by itself, and cut(): what is not synced is gone."""
    at, file = workdir / "disk", workdir / "image"
    with open(file, "wb") as f:
        f.truncate(64 << 20)
    run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", file, check=0)
    at.mkdir()

    class Image:
        vault = at / "vault"

        def mount(self):
            run("mount", "-o", "loop,commit=300", file, at, check=0)

        def cut(self):
            fd = os.open(at, os.O_RDONLY)
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NOLOGFLUSH))
            os.close(fd)

        def umount(self):
            run("umount", at, check=0)

    i = Image()
    i.mount()
    i.vault.mkdir()
    yield i
    run("umount", "-l", at)


def change_by_handle(fd, path):
    os.fchmod(fd, 0o600)
    os.fchown(fd, 12001, 12001)
    os.utime(fd, (1000, 1000))
    os.setxattr(path, "user.k", b"v")


def change_by_name(fd, path):
    path.chmod(0o600)
    os.chown(path, 12001, 12001)
    os.setxattr(path, "user.k", b"v")
    os.utime(path, (1000, 1000))


def change_before_open(fd, path):
    """By one who has it closed again, while the daemon has no descriptor of it either."""


@pytest.mark.parametrize("appends", [False, True], ids=["alone", "with an append"])
@pytest.mark.parametrize("change", [change_by_handle, change_by_name, change_before_open])
def test_an_fsync_makes_attributes_durable(image, mount, change, appends):
    m = mount(source=image.vault)
    path = m.p("x.jsonl")
    append(path, b"1\n")
    run("sync", "-f", image.vault, check=0)
    if change == change_before_open:
        m.stop()
        m.start()
        change_by_name(None, path)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    change(fd, path)
    if appends:
        os.write(fd, b"2\n")
        os.utime(fd, (1000, 1000))
    os.fsync(fd)
    image.cut()
    os.close(fd)
    m.allowed_output.append(".")  # its disk is gone
    m.clean = False
    m.stop()
    m.forget()
    image.umount()
    image.mount()
    st = (image.vault / "x.jsonl").stat()
    assert stat.S_IMODE(st.st_mode) == 0o600
    assert st.st_uid == st.st_gid == 12001
    assert st.st_mtime == 1000
    assert os.getxattr(image.vault / "x.jsonl", "user.k") == b"v"
    assert st.st_size == (4 if appends else 2)


def test_an_fsync_after_an_attribute_is_removed(image, mount):
    m = mount(source=image.vault)
    path = m.p("x.jsonl")
    append(path, b"1\n")
    os.setxattr(path, "user.k", b"v")
    run("sync", "-f", image.vault, check=0)
    with open(path, "ab") as f:
        os.fsync(f)
        os.removexattr(path, "user.k")
        os.fsync(f)
        image.cut()
    m.allowed_output.append(".")
    m.clean = False
    m.stop()
    m.forget()
    image.umount()
    image.mount()
    assert os.listxattr(image.vault / "x.jsonl") == []
