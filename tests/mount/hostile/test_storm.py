# SPDX-License-Identifier: MIT
"""All attacks at once. Somebody who appends meanwhile has every record in the log, in order and
once, and does not wait for ever; and the daemon ends in peace. With sanitizers for a minute."""

import contextlib
import json
import os
import signal
import time

import pytest
from util import HERE, PYTHON, as_user, opened, running, sanitized, wait_for

ADA, EVE = 12002, 12100
KINDS = ["descriptors", "fragments", "bad_lines", "renames", "removals", "packets", "reports",
         "leases", "locks"]
SECONDS = float(os.environ.get("JSONLFS_STORM", "60" if sanitized() else "8"))
PATIENCE = 20  # for one append: a hang, not a measure of speed


def victim(m, seconds):
    """Appends, one record at a time, and says how many, and how long the slowest one took."""
    count, slowest, end = 0, 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        for name in ("ada.jsonl", "shared.jsonl"):
            begin = time.monotonic()
            with opened(m.p(name), os.O_WRONLY | os.O_APPEND) as fd:
                record = b'{"ada": %d, "x": "%s"}\n' % (count, b"x" * (count * 37 % 900))
                assert os.write(fd, record) == len(record)
                os.fsync(fd)
            slowest = max(slowest, time.monotonic() - begin)
        count += 1
        time.sleep(0.002)
    return count, slowest


def of_ada(data):
    found = (json.loads(line) for line in data.splitlines() if line.startswith(b'{"ada": '))
    return [record["ada"] for record in found]


@pytest.mark.limit(60 + 3 * SECONDS)
def test_all_attacks_at_once(mount):
    m = mount("quarantine_max=16M", "archive_max=16M", "pending_max=16M", "rewrite=archive")
    os.chmod(m.mnt, 0o1777)
    for name, mode in (("ada.jsonl", 0o644), ("shared.jsonl", 0o666)):
        m.p(name).write_bytes(b"")
        os.chown(m.p(name), ADA, ADA)
        os.chmod(m.p(name), mode)
    control = m.status()["control"]
    with contextlib.ExitStack() as stack:
        attackers = [
            stack.enter_context(running(
                PYTHON, HERE / "progs/storm.py", kind, m.mnt, m.source, control, SECONDS + 30,
                user=EVE + n, group=EVE + n, extra_groups=[], start_new_session=True))
            for n, kind in enumerate(KINDS)]
        try:
            count, slowest = as_user(ADA, lambda: victim(m, SECONDS),
                                      int(SECONDS + 2 * PATIENCE))
            assert all(p.poll() is None for p in attackers), [
                p.stderr.read() for p in attackers if p.poll() is not None]
            status = m.status()
        finally:
            for p in attackers:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(p.pid, signal.SIGKILL)
    print(f"{count} records, the slowest took {slowest:.2f} s; {status['totals']}")
    assert count > 20 and slowest < PATIENCE
    wait_for(lambda: m.status()["open_handles"] == 0, "the releases", 20)
    m.stop()
    # What is cut off the shared log, or was replaced, is in the archive.
    assert of_ada(m.b("ada.jsonl").read_bytes()) == list(range(count))
    everywhere = {*of_ada(m.b("shared.jsonl").read_bytes())}
    for data in m.archive().values():
        everywhere.update(of_ada(data))
    assert everywhere == set(range(count))
