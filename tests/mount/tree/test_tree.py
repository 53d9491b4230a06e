# SPDX-License-Identifier: MIT
"""A tree of more files than the daemon may open descriptors: walked twice, it is the tree of
the backing directory, and the daemon stays within its descriptors and its memory.

JSONLFS_FILES=N makes it larger. The long run is

    JSONLFS_FILES=1000000 tests/run mount -k large_tree -s
"""

import os
import resource
import time

import pytest

import util

FILES = int(os.environ.get("JSONLFS_FILES", "10000"))
PER_DIRECTORY = 1000
DESCRIPTORS = 1024
SAMPLE = 97  # each so manieth file has a content, is read and changed
MIB = 1 << 20


def make(top):
    for first in range(0, FILES, PER_DIRECTORY):
        d = top / f"d{first // PER_DIRECTORY}"
        d.mkdir()
        for n in range(first, min(first + PER_DIRECTORY, FILES)):
            with open(d / f"f{n}", "wb") as f:
                if n % SAMPLE == 0:
                    f.write(b"%d\n" % n)


def what_is_in(directory):
    found = {}
    with os.scandir(directory) as entries:
        for e in entries:
            st = os.lstat(e.path)
            found[e.name] = (e.inode(), st.st_ino, st.st_mode, st.st_size, st.st_mtime_ns)
    return found


def walk(m, expected):
    """Every directory holds the same, with the same attributes; and so many files."""
    count = 0
    names = sorted(n for n in os.listdir(m.backing) if n != ".jsonlfs")
    assert sorted(os.listdir(m.mnt)) == names
    for d in names:
        through, behind = what_is_in(m.p(d)), what_is_in(m.b(d))
        assert through == behind, d
        count += len(through)
    assert count == expected


def status(pid, field):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(field + ":"))


@pytest.mark.limit(120 + FILES / 200)
def test_a_large_tree_with_few_descriptors(mount):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, before[1]))
    try:
        m = mount(prepare=make)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    # The daemon raises its limit where it may: take the way back from it.
    pid = m.proc.pid
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    small = status(pid, "VmRSS")
    start = time.monotonic()
    walk(m, FILES)
    first = time.monotonic() - start
    # Nothing is lost that the kernel still knows: held open, read, changed, removed.
    sample = range(0, FILES, SAMPLE)
    held = [open(m.p(f"d0/f{n}"), "rb") for n in range(DESCRIPTORS // 4)]
    for n in sample:
        path = m.p(f"d{n // PER_DIRECTORY}/f{n}")
        assert path.read_bytes() == b"%d\n" % n
        os.chmod(path, 0o640)
        if n % 2:
            os.unlink(path)
        else:
            os.rename(path, m.p(f"d0/moved{n}"))
    for n, f in enumerate(held):
        assert f.read() == (b"%d\n" % n if n % SAMPLE == 0 else b"")
        f.close()
    start = time.monotonic()
    walk(m, FILES - sum(n % 2 for n in sample))
    second = time.monotonic() - start
    assert len(os.listdir(f"/proc/{pid}/fd")) < DESCRIPTORS
    peak = status(pid, "VmHWM")
    print(f"{FILES} files: walked in {first:.0f} s and {second:.0f} s, the daemon took "
          f"{peak / 1024:.1f} MiB, {(peak - small) * 1024 / FILES:.0f} bytes a file")
    if not util.sanitized():
        # 300 MiB for a million.
        assert peak * 1024 < 20 * MIB + FILES * 294
