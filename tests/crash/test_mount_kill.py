# SPDX-License-Identifier: MIT
"""Kill loops: writers that are killed at random, then the daemon under writers. What was
acknowledged is there; half a record never shows. JSONLFS_KILLS: how many of each."""

import fcntl
import os
import random
import time

import pytest

from mount_rig import (
    LONG, Ledger, client, recover, vault, verdict, wait_for, writers,
)

KILLS = int(os.environ.get("JSONLFS_KILLS", "100000" if LONG else "10000"))
DEATHS = int(os.environ.get("JSONLFS_KILLS", "5000" if LONG else "60"))


def kill_writers(v, kills, broken=None):
    v.start(threads=True, broken=broken)
    with writers(v.mnt, "-k", kills, "-w", 3 * kills + 100, "-n", 64, "-f", 4) as w:
        said = w.wait(timeout=60 + kills / 50)
        status = v.stop()
        counts, wrong = w.judge(v)
    assert said["killed"] >= kills
    return said, counts, wrong or (f"the daemon ended with {status}" if status else None)


def test_writers_killed():
    """Eight at a time, each in its own manner, each killed wherever it is."""
    with vault() as v:
        said, counts, wrong = kill_writers(v, KILLS)
        print(f"\n{said['killed']} writers killed, {counts}, {verdict(wrong)}")
        assert wrong is None
        # They were killed in the middle of their work, and of records.
        assert counts["durable"] > KILLS and counts["tried"] and counts["set_aside"]
        assert not said["errors"]


@pytest.mark.parametrize("broken", ["drop", "torn", "twice", "swap", "unsaved"])
def test_a_broken_daemon_is_seen_without_a_death(broken):
    with vault() as v:
        _, _, wrong = kill_writers(v, 400, broken)
        assert wrong
        print(f"\n{broken}: {wrong}")


def kill_daemon(v, rng, broken=None):
    """What is wrong, or None; and what the judge has counted."""
    v.start(threads=rng.random() < 0.5, broken=broken)
    with writers(v.mnt, "-w", 14, "-p", 14, "-n", 4000, "-f", 2) as w:
        wait_for(lambda: any(f.stat().st_size for f in v.src.glob("log*.jsonl")), "a record")
        time.sleep(rng.uniform(0, 0.05))
        v.die()
        w.wait()
        v.kill()
        ledger = Ledger()
        wrong = recover(v, ledger, judged=False)
        counts, lost = w.judge(v, "-d")
    return wrong or lost, counts


def test_daemon_killed():
    rng = random.Random(2)
    violations, durable, part = [], 0, 0
    with vault() as v:
        for n in range(DEATHS):
            for name in v.src.glob("log*.jsonl"):
                name.unlink()
            wrong, counts = kill_daemon(v, rng)
            durable += counts["durable"]
            part += counts["part"] + counts["tried"]
            if wrong:
                violations.append(f"{n}: {wrong}")
    print(f"\nthe daemon killed {DEATHS} times, {durable} durable records, {part} on their "
          f"way, {len(violations)} violations")
    assert not violations, "\n".join(violations)
    assert durable > DEATHS and part > DEATHS


def test_the_check_sees_damage():
    """The judge of these tests is not blind: each kind of damage is named."""
    ledger = Ledger()
    ledger.note([("try", "a", 0), ("write", "a", 0), ("close", None, 0),
                 ("try", "b", 0), ("write", "b", 0)])
    a, b = b'{"id":"a"}\n', b'{"id":"b"}\n'
    assert ledger.check(a + b, b"") is None
    assert ledger.check(a, b"") and ledger.check(a, b, power=False) is None
    assert ledger.check(a, b"", power=True) is None
    for damaged in (b, a + b[:-1], a + a + b, a + b'{"id"\n' + b, a + b"\0\0\n" + b,
                    a + b + b'{"id":"c"}\n'):
        assert ledger.check(damaged, b"", power=True), damaged


@pytest.mark.parametrize("damage", [
    "nothing", "a line gone", "a line twice", "two lines in the wrong order", "a byte",
    "half a line", "no newline at the end", "NULs",
])
def test_the_judge_sees_damage(damage):
    """The same for the judge of the many writers."""
    with vault() as v:
        v.start(threads=True)
        with writers(v.mnt, "-w", 1, "-n", 50, "-m", "a") as w:
            w.wait()
            v.stop()
            log = v.src / "log0.jsonl"
            lines = log.read_bytes().splitlines(keepends=True)
            if damage == "a line gone":
                del lines[10]
            elif damage == "a line twice":
                lines.insert(10, lines[10])
            elif damage == "two lines in the wrong order":
                lines[10], lines[11] = lines[11], lines[10]
            elif damage == "a byte":
                lines[10] = lines[10].replace(b'"p"', b'"q"')
            elif damage == "half a line":
                lines[10] = lines[10][:-9]
            elif damage == "no newline at the end":
                lines[-1] = lines[-1][:-1]
            elif damage == "NULs":
                lines[10] = b"\0" * len(lines[10])
            log.write_bytes(b"".join(lines))
            counts, wrong = w.judge(v)
    assert bool(wrong) == (damage != "nothing"), (counts, wrong)


@pytest.mark.parametrize("gone", ["close", "saved"])
def test_a_lying_daemon_is_seen(gone):
    """What was acknowledged is taken away behind the daemon's back: the run must fail."""
    with vault() as v:
        ledger = Ledger()
        v.start()
        ledger.note(client(v, "append:a", "append:b"))
        v.kill()
        data = v.file().read_bytes().splitlines(keepends=True)
        v.file().write_bytes(data[0] if gone == "close" else data[0] + data[1][:-4])
        assert recover(v, ledger)


def held_outside(v, broken=None):
    """A program outside holds the lock, over and over, under a load from inside: how often
    the log has changed meanwhile, and what the judge says."""
    changed, rounds = 0, 100
    v.start(threads=True, broken=broken)
    with writers(v.mnt, "-w", 4, "-p", 4, "-n", 100000) as w:
        log = v.src / "log0.jsonl"
        wait_for(log.exists, "the log")
        with open(log, "rb") as f:
            for _ in range(rounds):
                fcntl.flock(f, fcntl.LOCK_EX)
                size = os.fstat(f.fileno()).st_size
                time.sleep(0.003)
                changed += os.fstat(f.fileno()).st_size != size
                fcntl.flock(f, fcntl.LOCK_UN)
                time.sleep(0.005)
        w.end()
        status = v.stop()
        counts, wrong = w.judge(v)
    return changed, rounds, counts, wrong or (f"the daemon ended with {status}" if status else None)


def test_a_lock_outside_is_respected():
    with vault() as v:
        changed, rounds, counts, wrong = held_outside(v)
    print(f"\nlocked outside {rounds} times, {changed} appends meanwhile, {counts}, "
          f"{verdict(wrong)}")
    assert not changed and wrong is None and counts["durable"] > rounds


def test_no_lock_is_seen():
    with vault() as v:
        changed, rounds, _, _ = held_outside(v, "no-lock")
    print(f"\nno lock: {changed} of {rounds} times")
    assert changed
