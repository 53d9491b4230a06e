# SPDX-License-Identifier: MIT
"""Lines by their numbers, seven in eight of them damaged somewhere, and a program that
writes them and says what it was told.

    bad_lines.py FILE FIRST COUNT MANNER    0 or 1 for each line: refused, or taken; then
                                            - or +: whether the last close told of anything

MANNER: single    a line a write, on one descriptor
        together  twenty lines a write
        pieces    a line in three writes, all of them made whatever is said
        nonl      open, a line without its newline, close
"""

import os
import random
import sys

HEAD = 16  # bytes of a line that tell its number and stay as they are
TOGETHER = 20
ODD = [b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\t", b"\r",
       b'"', b"\\", b"\\x", b"\\ud800", b",", b"{", b"}", b"[", b"]", b":", b"NaN", b"-", b"01",
       b"1.", b"tru", b"'", b"\xef\xbb\xbf", b"/*", b" ", b'{"n":1}']


def line(number):
    """With its newline, and without another."""
    rng = random.Random(number)
    good = (b'{"n":1%09d,"text":"' % number + "é\u20ac\U0001f600 \\u00e9\\n".encode() * rng.randrange(4)
            + b'","list":[1,-2.5e3,null,true],"o":{"k":"v"}}')
    at = rng.randrange(HEAD, len(good))
    kind = rng.randrange(8)
    if kind == 0:
        bad = good
    elif kind <= 2:
        bad = good[:at] + bytes([rng.choice([b for b in range(256) if b != 10])]) + good[at + 1:]
    elif kind == 3:
        bad = good[:at]
    elif kind == 4:
        bad = good + rng.choice(ODD)
    else:
        bad = good[:at] + rng.choice(ODD) + good[at:]
    return bad + b"\n"


def number_of(text):
    """Of a line, or None."""
    digits = text[6:15]
    return int(digits) if text[:6] == b'{"n":1' and digits.isdigit() else None


def taken(fd, data):
    try:
        return os.write(fd, data) == len(data)
    except OSError:
        return False


def closed(fd):
    try:
        os.close(fd)
    except OSError:
        return False
    return True


def write(path, first, count, manner):
    """A byte a line, and one for the last close."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    fd = os.open(path, flags)
    told = bytearray()
    while len(told) < count:
        number = first + len(told)
        data = line(number)
        if manner == "together":
            lines = range(number, min(number + TOGETHER, first + count))
            good = taken(fd, b"".join(map(line, lines)))
            told += (b"1" if good else b"0") * len(lines)
        elif manner == "pieces":
            a, b = len(data) // 3, len(data) * 2 // 3
            parts = [taken(fd, piece) for piece in (data[:a], data[a:b], data[b:])]
            told += b"1" if all(parts) else b"0"
        elif manner == "nonl":
            other = os.open(path, flags)
            good = taken(other, data[:-1])
            told += b"1" if closed(other) and good else b"0"
        else:
            told += b"1" if taken(fd, data) else b"0"
    told += b"+" if closed(fd) else b"-"
    return bytes(told)


if __name__ == "__main__":
    sys.stdout.buffer.write(write(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
