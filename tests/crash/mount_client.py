# SPDX-License-Identifier: MIT
"""A program that writes records and says, line by line on its standard output, what it was
told: ["try"|"write"|"part"|"close"|"fsync", record or null, errno, when], the last by
the monotonic clock, after the answer had come.

    mount_client.py FILE STEP...
      append:NAME      open, one record in one write, close
      many:NAME:N      open, N records in one write, close
      block:NAME:N     open, N records in a write each, close
      pieces:NAME      a record in three writes, close
      fsync:NAME:N     N records, each with fsync, on one descriptor
      nonl:NAME        a record without its newline, close
      bad:NAME         a line that is no record, close
      half:NAME        the beginning of a record, close
      remove:NAME      FILE is removed
      replace:NAME     FILE and one record more, renamed onto it
      rotate:NAME      FILE renamed to FILE.1
      copytruncate:NAME  FILE copied to FILE.1 and cut to nothing
      loop:NAME:N      N times append, one record each; stops when the mount is gone
      cuts:NAME:N      the same, a record in three writes
      plain:NAME:N     N times a file beside it: written, renamed, compared, removed; says
                       ["plain", name, 0 or errno], ["wrong", name, 0] when it differs"""

import errno
import json
import os
import sys
import time

GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.EROFS)


def say(what, name, code):
    os.write(1, json.dumps([what, name, code, time.monotonic()]).encode() + b"\n")


def record(name, size=0):
    return json.dumps({"id": name, "pad": "x" * size}).encode() + b"\n"


def attempt(what, name, function):
    try:
        function()
    except OSError as e:
        say(what, name, e.errno)
        return e.errno
    say(what, name, 0)
    return 0


def full_write(fd, data):
    if os.write(fd, data) != len(data):
        raise OSError(errno.EIO, "short")


def writes(path, names, pieces, synced=False):
    for name in names:
        say("try", name, 0)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as e:
        for name in names:
            say("write", name, e.errno)
        return e.errno
    code = 0
    for name, data in pieces:
        if name is None:
            try:
                full_write(fd, data)
            except OSError as e:
                code = e.errno
            continue
        # Without its newline it is not a record yet.
        what = "write" if data.endswith(b"\n") else "part"
        got = attempt(what, name, lambda: full_write(fd, data))
        code = code or got
        if synced:
            attempt("fsync", None, lambda: os.fsync(fd))
    attempt("close", None, lambda: os.close(fd))
    return code


def many(path, names):
    """One write for all of them: one answer for all of them."""
    for name in names:
        say("try", name, 0)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        code = 0
        try:
            full_write(fd, b"".join(record(name) for name in names))
        except OSError as e:
            code = e.errno
        for name in names:
            say("write", name, code)
        attempt("close", None, lambda: os.close(fd))
    except OSError as e:
        for name in names:
            say("write", name, e.errno)


def plain(path, name, number):
    data = name.encode() * (number * 997 % 20000)
    first, last = (os.path.join(os.path.dirname(path), name + end) for end in ("", ".txt"))
    with open(first, "wb") as f:
        f.write(data)
    os.rename(first, last)
    with open(last, "rb") as f:
        if f.read() != data:
            say("wrong", name, 0)
    os.unlink(last)


def bad(path, name):
    """Refused, and kept aside; nothing of it is ever a record."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        attempt("bad", name, lambda: full_write(fd, b'{"id":' + name.encode() + b"\n"))
        attempt("close", None, lambda: os.close(fd))
    except OSError as e:
        say("bad", name, e.errno)


def half(path, name):
    """Nobody finishes it."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        attempt("half", name, lambda: full_write(fd, record(name)[:-4]))
        os.close(fd)
    except OSError:
        pass  # what was taken is set aside all the same


def replace(path, name):
    say("try", name, 0)

    def renamed():
        with open(path, "rb") as old, open(path + ".new", "wb") as new:
            new.write(old.read() + record(name))
        os.rename(path + ".new", path)

    attempt("write", name, renamed)


def copytruncate(path):
    with open(path, "rb") as old, open(path + ".1", "wb") as new:
        new.write(old.read())
        os.fsync(new.fileno())
    os.truncate(path, 0)


def step(path, what, name, count):
    names = [f"{name}-{n:05d}" for n in range(1, count + 1)]
    if what == "append":
        writes(path, [name], [(name, record(name))])
    elif what == "many":
        many(path, names)
    elif what == "block":
        writes(path, names, [(n, record(n)) for n in names])
    elif what == "pieces":
        data = record(name, 30)
        writes(path, [name], [(None, data[:5]), (None, data[5:20]), (name, data[20:])])
    elif what == "fsync":
        writes(path, names, [(n, record(n)) for n in names], synced=True)
    elif what == "nonl":
        writes(path, [name], [(name, record(name)[:-1])])
    elif what == "bad":
        bad(path, name)
    elif what == "half":
        half(path, name)
    elif what == "remove":
        attempt("remove", name, lambda: os.unlink(path))
    elif what == "replace":
        replace(path, name)
    elif what == "rotate":
        attempt("rotate", name, lambda: os.rename(path, path + ".1"))
    elif what == "copytruncate":
        attempt("copytruncate", name, lambda: copytruncate(path))
    elif what in ("loop", "cuts"):
        for n in names:
            data = record(n, int(n[-2:]))
            pieces = [(None, data[:7]), (None, data[7:-1])] if what == "cuts" else []
            if writes(path, [n], [*pieces, (n, data[-1:] if pieces else data)]) in GONE:
                return
    elif what == "plain":
        for n, name in enumerate(names):
            if attempt("plain", name, lambda: plain(path, name, n)) in GONE:
                return
    else:
        sys.exit(f"no such step: {what}")


def main():
    for argument in sys.argv[2:]:
        what, name, *count = argument.split(":")
        step(sys.argv[1], what, name, int(count[0]) if count else 1)


main()
