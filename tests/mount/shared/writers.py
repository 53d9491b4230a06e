# SPDX-License-Identifier: MIT
"""Programs that write through two mounts of one directory at the same time, and the judge: what
was acknowledged is there, whole and once."""

import collections
import contextlib
import os
import subprocess

from util import PYTHON, check_lines, parse, running

# open, append, close: acknowledged by close. Errors that say "try again" are followed.
REOPEN = """
import errno, os, sys, time
path, me, out = sys.argv[1], sys.argv[2], open(sys.argv[4], "w")
end = time.monotonic() + float(sys.argv[3])
n = 0
while time.monotonic() < end:
    n += 1
    line = b'{"w":"%s","n":%d}\\n' % (me.encode(), n)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)
    except OSError as e:
        if e.errno not in (errno.EAGAIN, errno.ESTALE):
            raise
        continue
    print(n, file=out)
"""

# Keeps the log open, and calls fsync after each record.
HOLD = """
import errno, os, sys, time
path, me, out = sys.argv[1], sys.argv[2], open(sys.argv[4], "w")
end = time.monotonic() + float(sys.argv[3])
fd, n = -1, 0
while time.monotonic() < end:
    n += 1
    line = b'{"w":"%s","n":%d}\\n' % (me.encode(), n)
    try:
        if fd < 0:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.write(fd, line)
        os.fsync(fd)
    except OSError as e:
        if e.errno == errno.ESTALE:
            if fd >= 0:
                os.close(fd)
            fd = -1
        elif e.errno != errno.EAGAIN:
            raise
        continue
    print(n, file=out)
"""


@contextlib.contextmanager
def writing(workdir, mounts, name, seconds, programs=(REOPEN, HOLD, REOPEN, HOLD)):
    """Two times four writers of a log. Yields (running?, acknowledged?): the second, called when
    all have ended, gives (writer, number) of every record that was acknowledged."""
    with contextlib.ExitStack() as stack:
        procs = []
        for side, m in enumerate(mounts):
            for k, program in enumerate(programs):
                me = f"{'ab'[side]}{k}"
                procs.append((me, stack.enter_context(running(
                    PYTHON, "-c", program, m.p(name), me, seconds, workdir / f"acked-{me}",
                    stdout=subprocess.DEVNULL))))

        def acknowledged():
            got = []
            for me, p in procs:
                assert p.wait(60) == 0, p.stderr.read().decode()
                numbers = (workdir / f"acked-{me}").read_text().split()
                assert numbers, f"{me} got nothing done"
                got += [(me, int(n)) for n in numbers]
            return got

        yield (lambda: all(p.poll() is None for _, p in procs)), acknowledged


def judge(paths, acknowledged):
    """(lost, twice): of what was acknowledged; every line must be whole."""
    found = collections.Counter()
    for path in paths:
        data = path.read_bytes()
        check_lines(data, str(path))
        for line in data.split(b"\n")[:-1]:
            record = parse(line)
            if "w" in record:
                found[record["w"], record["n"]] += 1
    lost = [r for r in acknowledged if not found[r]]
    twice = [r for r, n in found.items() if n > 1]
    return lost, twice


def assert_whole(paths, acknowledged):
    lost, twice = judge(paths, acknowledged)
    total = len(acknowledged)
    assert not lost, f"{len(lost)} of {total} lost: {lost[:5]}"
    assert not twice, f"{len(twice)} of {total} twice: {twice[:5]}"


