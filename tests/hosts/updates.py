# SPDX-License-Identifier: MIT
"""Programs of others that change one file from several places: what each has done is counted, and
must all be there in the end. `python3 updates.py KIND PATH NAME SECONDS [ERRNO...]` prints how often it did
it (more errors that an update may end in):
rewrite, write, rename: a document {"n": 0} counts up; block: three lines of text at once; log: a log is
read and written anew, backwards; look: reads blocks, of which there are no halves; bad: a line that is no record, refused. Programs that change the same file
may collide again and again: each goes on until it was successful twice."""

import errno
import json
import os
import random
import sys
import time

COLLISIONS = (errno.EBUSY, errno.ESTALE, errno.EAGAIN)


def rewrite(path):
    with open(path, "r+", encoding="ascii") as f:
        n = json.load(f)["n"]
        f.seek(0)
        f.write(json.dumps({"n": n + 1}))
        f.truncate()


def write(path):
    with open(path, encoding="ascii") as f:
        n = json.load(f)["n"]
    with open(path, "w", encoding="ascii") as f:
        json.dump({"n": n + 1}, f)


def rename(path):
    with open(path, encoding="ascii") as f:
        n = json.load(f)["n"]
    temp = f"{path}.{os.uname().nodename}.{os.getpid()}"
    with open(temp, "w", encoding="ascii") as f:
        f.write(json.dumps({"n": n + 1}))
    os.rename(temp, path)


def log(path):
    time.sleep(random.uniform(0.1, 0.3))
    with open(path, "rb") as f:
        data = f.read()
    with open(path, "wb") as f:
        f.write(b"".join(reversed(data.splitlines(True))))


def update(kind, path, seconds, more):
    end, done = time.monotonic() + seconds, 0
    change = {"rewrite": rewrite, "write": write, "rename": rename, "log": log}[kind]
    while done < 2 or time.monotonic() < end:
        try:
            change(path)
            done += 1
        except OSError as e:
            if e.errno not in COLLISIONS and errno.errorcode[e.errno] not in more:
                raise
            time.sleep(random.uniform(0, 0.2))  # or one wins always
    return done


def block(path, name, seconds):
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        done += 1
        with open(path, "a", encoding="ascii") as f:
            for part in range(3):
                print(name, done, part, file=f, flush=True)
    return done


def look(path, seconds):
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        with open(path, encoding="ascii") as f:
            lines = f.read().splitlines()
        assert [line.rsplit(" ", 1)[1:] for line in lines] == [["0"], ["1"], ["2"]] * (len(lines) // 3)
        done += 1
    return done


def refuse(path, name, seconds):
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        for call in (lambda: os.write(fd, b'{"w":"%s","bad":%d\n' % (name.encode(), done)),  # noqa: B023
                     lambda: os.close(fd)):  # noqa: B023
            try:
                call()
            except OSError as e:
                if e.errno != errno.EBADMSG:
                    raise
        done += 1
    return done


def hold_blocks(text, done):
    """Each block is there once, with its three lines together."""
    lines = text.splitlines()
    blocks = [tuple(lines[k:k + 3]) for k in range(0, len(lines), 3)]
    assert len(set(blocks)) == len(blocks) == done, (len(set(blocks)), len(blocks), done)
    for one in blocks:
        assert [line.rsplit(" ", 1)[1] for line in one] == ["0", "1", "2"], one
        assert len({line.rsplit(" ", 1)[0] for line in one}) == 1, one


def main():
    kind, path, name, seconds = sys.argv[1:5]
    seconds = float(seconds)
    if kind == "look":
        print(look(path, seconds))
    elif kind in ("block", "bad"):
        print({"block": block, "bad": refuse}[kind](path, name, seconds))
    else:
        print(update(kind, path, seconds, sys.argv[5:]))


if __name__ == "__main__":
    main()
