# SPDX-License-Identifier: MIT
"""What stat tells is not what it told a moment ago: attributes that the kernel keeps are
dropped where something changes of which it does not know."""

import mmap
import os
import time

import pytest
from util import NOBODY, as_user, opened, run, wait_for


def mode(path):
    """As a program that asks for nothing else, so that other changes do not help."""
    return int(run("stat", "-c", "%a", path, check=0).stdout, 8)


def write(fd):
    os.write(fd, b"y")


def fallocate(fd):
    os.posix_fallocate(fd, 0, 4096)


def truncate(fd):
    os.ftruncate(fd, 0)


def copy(fd):
    assert os.copy_file_range(fd, fd, 1, 0, 4096) == 1


@pytest.mark.parametrize("change", [write, fallocate, truncate, copy])
def test_special_bits_go_with_a_write(m, change):
    path = m.p("f")
    path.write_bytes(b"x" * 8192)
    for _ in range(2):
        os.chmod(path, 0o6666)
        assert mode(path) == 0o6666

        def work():
            with opened(path, os.O_RDWR) as fd:
                change(fd)
                return mode(path)

        assert as_user(NOBODY, work) == mode(m.b("f")) == 0o666
        assert mode(path) == 0o666


def test_special_bits_that_come_while_it_is_open(m):
    path = m.p("f")
    path.write_bytes(b"x")
    os.chmod(path, 0o666)

    with opened(path, os.O_WRONLY) as fd:
        os.write(fd, b"z")
        os.chmod(path, 0o6666)
        assert mode(path) == 0o6666

        def writes():
            os.write(fd, b"z")

        as_user(NOBODY, writes)
        assert mode(path) == mode(m.b("f"))


def test_flags(m):
    path = m.p("f")
    path.write_bytes(b"x")
    before = os.stat(path).st_ctime_ns
    time.sleep(0.05)
    run("chattr", "+d", path, check=0)
    assert os.stat(path).st_ctime_ns == os.stat(m.b("f")).st_ctime_ns > before


def test_stores_to_a_mapping(m):
    path = m.p("f")
    path.write_bytes(b"x" * 8192)
    with opened(path, os.O_RDWR) as fd, mmap.mmap(fd, 8192) as view:
        for at in (0, 4096, 1):
            before = os.stat(path).st_mtime_ns
            time.sleep(0.05)
            view[at] = ord("y")
            view.flush()
            st = os.stat(path)
            assert st.st_mtime_ns == os.stat(m.b("f")).st_mtime_ns > before
            if m.status()["passthrough"]["on"]:
                # The next one needs no msync: the page is clean and faults again.
                time.sleep(0.05)
                view[at] = ord("z")
                assert os.stat(path).st_mtime_ns == os.stat(m.b("f")).st_mtime_ns
                assert os.stat(path).st_mtime_ns > st.st_mtime_ns


CLASSES = """{"rules": [{"match": "*.state.json", "class": "replace"},
                       {"match": "*.txt", "class": "text"}]}"""


@pytest.mark.parametrize("name, flags", [
    ("x.jsonl", os.O_APPEND), ("x.jsonl", os.O_TRUNC), ("t.txt", os.O_APPEND), ("t.txt", 0),
    ("s.state.json", os.O_TRUNC)])
@pytest.mark.parametrize("bits, left", [(0o6777, 0o777), (0o4666, 0o666)])
def test_special_bits_go_with_a_write_to_any_class(mount, workdir, name, flags, bits, left):
    config = workdir / "jsonlfs.json"
    config.write_text(CLASSES)
    m = mount(f"config={config}", "rewrite=archive")
    path = m.p(name)
    path.write_bytes(b"1\n")
    os.chmod(path, bits)
    assert mode(path) == bits

    def work():
        with opened(path, os.O_WRONLY | flags) as fd:
            os.write(fd, b"2\n")

    as_user(NOBODY, work)
    wait_for(lambda: mode(m.b(name)) == left, "the mode")
    assert mode(path) == left
    # Root keeps them.
    os.chmod(path, bits)
    as_user(None, work)
    assert mode(path) == mode(m.b(name)) == bits
