# SPDX-License-Identifier: MIT
"""A program that writes a file anew, once it has read it, and says what it was told: the names of
what went well, of "wrote", "committed" and "appended".

    rewrite_client.py FILE written|renamed|edited CONTENT [RECORD]

RECORD: of a program beside, which has the file open before, and appends afterwards."""

import os
import sys


def written(path, content):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(fd, content)
        print("wrote", flush=True)
    finally:
        os.close(fd)


def renamed(path, content):
    fd = os.open(path + "-new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(fd, content)
    os.close(fd)
    os.rename(path + "-new", path)


def edited(path, content):
    """Read and written on one descriptor, which syncs it."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.read(fd, 65536)
        os.lseek(fd, 0, os.SEEK_SET)
        os.ftruncate(fd, 0)
        os.write(fd, content)
        print("wrote", flush=True)
        os.fsync(fd)
    finally:
        os.close(fd)


def main():
    path, how, content = sys.argv[1:4]
    record = sys.argv[4].encode() if sys.argv[4:] else b""
    beside = os.open(path, os.O_WRONLY | os.O_APPEND) if record else -1
    try:
        with open(path, "rb") as f:
            f.read()
        globals()[how](path, content.encode())
        print("committed", flush=True)
    except OSError:
        pass
    if record:
        os.write(beside, record)
        os.close(beside)
        print("appended", flush=True)


main()
