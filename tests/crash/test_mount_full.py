# SPDX-License-Identifier: MIT
"""Disks that are really full, a real quota, and writes that the disk loses: nothing is half
there, no success is false, and the file takes records again when the disk does.

Quotas are those of btrfs (a limit on the subvolume): they count for root's processes, too,
as the daemon is one."""

import contextlib
import os
import time

import pytest

from disk import MIB, disk, run
from mount_rig import LONG, Ledger, Vault, recover, verdict, wait_for, writers

ROUNDS = 20 if LONG else 2
# Whole records: what a full quarantine does to halves is told in the log.
MIX = ["-w", 12, "-p", 12, "-n", 40000, "-f", 2, "-s", 400, "-m", "amfh"]


def filled(path, leave):
    """Takes all of the disk; then about `leave` bytes are given back."""
    with open(path, "wb", buffering=0) as f:
        with contextlib.suppress(OSError):
            while True:
                f.write(b"x" * MIB)
        with contextlib.suppress(OSError):
            while True:
                f.write(b"x" * 4096)
        with contextlib.suppress(OSError):
            os.fsync(f.fileno())
        # btrfs wants room for that, too: what was held back may not be given again then.
        with contextlib.suppress(OSError):
            if leave:
                f.truncate(max(f.tell() - leave, 0))


def until_full(v, limit, broken=None, code="ENOSPC"):
    """Writers until enough of them have been told that the disk is full; then there is room
    again, and they go on. (counts, what they say, what is wrong)."""
    v.start(threads=True, broken=broken)
    with writers(v.mnt, *MIX) as w:
        time.sleep(0.2)
        limit(True)
        wait_for(lambda: w.heard(code) > 50 or w.done(), code, 300)
        limit(False)
        time.sleep(0.4)
        said = w.end()
        status = v.stop()
        counts, wrong = w.judge(v)
        wrong = wrong or recover(v, Ledger(), judged=False)
    assert code in said["errors"], said
    return counts, said, wrong or (f"the daemon ended with {status}" if status else None)


def room(d, v):
    """A full disk and one that is not, as a function."""
    def limit(full):
        if full:
            filled(v.src / "filler", 256 << 10)
        else:
            (v.src / "filler").unlink()
            d.sync()
    return limit


def fresh(v):
    for name in v.src.glob("log*.jsonl"):
        name.unlink()


SIZES = {"ext4": 24, "xfs": 320, "btrfs": 128, "tmpfs": 24}


@pytest.mark.parametrize("kind", SIZES)
def test_full_disk(kind):
    refused = durable = 0
    wrong = None
    with disk(kind, mib=SIZES[kind]) as d:
        d.mount()
        v = Vault(d.at / "src")
        try:
            for _ in range(ROUNDS):
                fresh(v)
                counts, said, wrong = until_full(v, room(d, v))
                refused += counts["refused"]
                durable += counts["durable"]
                assert wrong is None, wrong
        finally:
            v.remove()
    print(f"\n{kind}: {refused} records refused by a full disk, {durable} durable, {said}, "
          f"{verdict(wrong)}")
    assert refused and durable


@pytest.mark.parametrize("kind", ["ext4"])
def test_no_undo_is_seen(kind):
    with disk(kind, mib=SIZES[kind]) as d:
        d.mount()
        v = Vault(d.at / "src")
        try:
            wrong = None
            for _ in range(10):
                fresh(v)
                _, _, wrong = until_full(v, room(d, v), broken="no-undo")
                if wrong:
                    break
        finally:
            v.remove()
    print(f"\nno undo: {wrong}")
    assert wrong


def test_quota():
    """btrfs: the limit of a subvolume. Nothing else is full."""
    refused = 0
    wrong = None
    with disk("btrfs", mib=256) as d:
        d.mount()
        run("btrfs", "quota", "enable", d.at)
        run("btrfs", "subvolume", "create", d.at / "src")
        run("btrfs", "qgroup", "limit", "8M", d.at / "src")
        v = Vault(d.at / "src")

        try:
            for _ in range(ROUNDS):
                fresh(v)
                d.sync()
                counts, said, wrong = until_full(v, room(d, v), code="EDQUOT")
                refused += counts["refused"]
                assert wrong is None, wrong
        finally:
            v.remove()
    print(f"\nbtrfs: {refused} records refused by a quota, {said}, {verdict(wrong)}")
    assert refused


# ---- writes that the disk loses ----

# How to make and to mount it: nothing is thrown away, nothing reserved ahead for a file.
PLAIN = {"ext4": ("-E", "nodiscard", "-b", "4096"), "xfs": ("-K",)}
AHEAD = {"ext4": (), "xfs": ("allocsize=64k",)}


def allocated(d):
    """All of the image but what the file system holds free is there: the journal can be
    written when nothing new can."""
    with open(d.image, "r+b") as f:
        os.posix_fallocate(f.fileno(), 0, d.mib * MIB)


def lost_writes(kind, host, broken=None):
    """An image on a tmpfs; what is free in it takes room there when it is written, and
    then there is none. (what they say, counts, what is wrong after a new mount)."""
    with disk(kind, inside=host.at, mib=320, make=PLAIN[kind],
              options=AHEAD[kind], pages=True) as d:
        allocated(d)
        d.mount()
        v = Vault(d.at / "src")
        try:
            v.start(threads=True, broken=broken)
            with writers(v.mnt, *MIX) as w:
                time.sleep(0.1)
                d.sync()
                run("fstrim", d.at)
                filled(host.at / "filler", 0)
                until = time.monotonic() + 3
                while not w.heard("EIO") and not w.done() and time.monotonic() < until:
                    time.sleep(0.05)
                time.sleep(0.2)
                (host.at / "filler").unlink()
                time.sleep(0.4)
                said = w.end()
                status = v.stop()
                wrong = f"the daemon ended with {status}" if status else None
                # What counts is on the disk, not in memory.
                d.unmount()
                d.mount()
                wrong = wrong or recover(v, Ledger(), judged=False)
                counts, lost = w.judge(v)
                log = v.said("sync-")
        finally:
            v.remove()
    return said, counts, wrong or lost, log


@pytest.mark.parametrize("kind", PLAIN)
def test_failed_writeback(kind):
    """EIO for everybody who is concerned, nothing else, and the file is usable again. Not
    in each round does a file system put new blocks where there is no room."""
    told = rounds = met = 0
    with disk("tmpfs", mib=500) as host:
        host.mount()
        while met < ROUNDS and rounds < 10 * ROUNDS:
            said, counts, wrong, log = lost_writes(kind, host)
            assert wrong is None, (wrong, said, counts, log[:20])
            rounds += 1
            told += counts["told"]
            met += "EIO" in said["errors"]
    print(f"\n{kind}: {told} records told of a failed sync, {met} of {rounds} rounds, "
          f"{counts}, {verdict(wrong)}")
    assert told and met == ROUNDS


@pytest.mark.parametrize("kind", PLAIN)
def test_a_sync_that_is_retried_and_believed_is_seen(kind):
    with disk("tmpfs", mib=500) as host:
        host.mount()
        for _ in range(10):
            _, _, wrong, _ = lost_writes(kind, host, broken="believe")
            if wrong:
                break
    print(f"\n{kind}: {wrong}")
    assert wrong
