# SPDX-License-Identifier: MIT
"""Limits that docs/DESIGN.md lists: when one of them is lifted, its line can go."""

import ctypes
import errno
import os

import pytest
from util import REPO, append, binary, getflags, FS_APPEND_FL, opened, outcome, run

LIBC = ctypes.CDLL(None, use_errno=True)


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]


def listed(text):
    return text in (REPO / "docs/DESIGN.md").read_text(encoding="utf-8")


def test_statx_does_not_show_append_only(m):
    append(m.p("x.jsonl"), b"1\n")
    with opened(m.p("x.jsonl"), os.O_RDONLY) as fd:
        assert getflags(fd) & FS_APPEND_FL
    buffer = ctypes.create_string_buffer(256)
    assert LIBC.statx(-100, os.fsencode(m.p("x.jsonl")), 0, 0x7FF, buffer) == 0
    attributes = int.from_bytes(buffer[8:16], "little")
    assert not attributes & 0x20 and listed("STATX_ATTR_APPEND")


def test_handles_are_good_while_the_file_is_known(m):
    m.p("f").write_bytes(b"x")
    handle, mount_id = Handle(bytes=128), ctypes.c_int()
    with opened(m.p("f"), os.O_RDONLY), opened(m.mnt, os.O_RDONLY) as top:
        assert LIBC.name_to_handle_at(-100, os.fsencode(m.p("f")), ctypes.byref(handle),
                                      ctypes.byref(mount_id), 0) == 0
        fd = LIBC.open_by_handle_at(top, ctypes.byref(handle), os.O_RDONLY)
        assert fd >= 0 and os.read(fd, 9) == b"x"
        os.close(fd)
    assert listed("open_by_handle_at(2)")


def test_files_without_a_name(m):
    version = run(binary("jsonlfs"), "-V").stdout.decode()
    code = outcome(lambda: os.close(os.open(m.mnt, os.O_TMPFILE | os.O_RDWR)))
    assert code in (0, errno.EOPNOTSUPP), version
    assert listed("O_TMPFILE needs libfuse 3.17")


@pytest.mark.parametrize("option", ["ro", "noexec", "onbad=refuse"])
def test_remount(m, option):
    p = run(binary("jsonlfs"), "-o", f"remount,{option}", m.source, m.mnt)
    assert p.returncode and b"remount is not available" in p.stderr
    assert listed("`mount -o remount` is refused")
    append(m.p("x.jsonl"), b"1\n")
