# SPDX-License-Identifier: MIT
"""Power cuts on real file systems, under a load of mixed writers that note elsewhere what
was acknowledged. ext4 and xfs: the shutdown ioctl drops what was not synced. btrfs has none, so
its image is copied at random moments (Disk.copy says what such a copy is), which is done for
the others, too. Then a new daemon goes on, and everything that close and fsync had
acknowledged must be there. JSONLFS_CUTS: how many cuts and copies, for each file system.

The ioctl has a catch: an fsync that is in flight when it comes may return 0 without having
written, without a mount of ours, too. So what counts was acknowledged before it; nobody sees
such an answer after a real cut."""

import contextlib
import json
import os
import random
import shutil
import subprocess
import time

import pytest

from disk import LOGFLUSH, NOLOGFLUSH, disk
from mount_rig import LONG, PYTHON, Ledger, Vault, recover, wait_for, writers

CUTS = int(os.environ.get("JSONLFS_CUTS", "5000" if LONG else "250"))
COPIES = int(os.environ.get("JSONLFS_CUTS", "2000" if LONG else "20"))
MIX = ["-w", 14, "-p", 14, "-n", 3000, "-f", 2]


def at_work(v, rng, base):
    """Waits until the writers are, and for a random moment."""
    wait_for(lambda: sum(f.stat().st_size for f in v.src.glob("log*.jsonl")) > base, "a record")
    time.sleep(rng.uniform(0, 0.06))


def begin(v, rng):
    """Files that are there already have something in them, and it is durable. Bytes."""
    shutil.rmtree(v.src / ".jsonlfs", ignore_errors=True)
    size = 0
    for number in range(2):
        name = v.src / f"log{number}.jsonl"
        name.unlink(missing_ok=True)
        if rng.random() < 0.5:
            name.write_bytes(b'{"id":"base"}\n' * rng.randrange(1, 500))
            size += name.stat().st_size
    return size


def judged(v, w, snapshot):
    wrong = recover(v, Ledger(), power=True, judged=False)
    counts, lost = w.judge(v, "-p", "-s", snapshot)
    return wrong or lost, counts


def one_cut(d, rng, **how):
    """(what is wrong or None, counts)."""
    d.mount()
    v = Vault(d.at / "src")
    snapshot = v.top / "snapshot"
    try:
        base = begin(v, rng)
        d.sync()  # the vault itself is there already
        v.start(threads=True, **how)
        with writers(v.mnt, *MIX, "-e") as w:
            at_work(v, rng, base)
            w.snapshot(snapshot)
            d.cut(rng.choice((LOGFLUSH, NOLOGFLUSH)))
            v.die()
            w.kill()
            v.kill()
            d.unmount()
            d.mount()
            return judged(v, w, snapshot)
    finally:
        v.remove()
        d.unmount()


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_power_cuts(kind):
    rng = random.Random(4)
    durable, violations = 0, []
    with disk(kind) as d:
        for cycle in range(CUTS):
            wrong, counts = one_cut(d, rng)
            durable += counts["durable"]
            if wrong:
                violations.append(f"cut {cycle}: {wrong}")
    print(f"\n{kind}: {CUTS} power cuts, {durable} durable records, "
          f"{len(violations)} violations")
    assert not violations, "\n".join(violations)
    assert durable > CUTS


def copies(d, rng, count, where, **how):
    """A load, `count` copies of the disk under it; then each of them is mounted instead.
    Yields (what is wrong or None, counts) of each."""
    d.mount()
    v = Vault(d.at / "src")
    try:
        base = begin(v, rng)
        d.sync()
        v.start(threads=True, **how)
        with writers(v.mnt, *MIX, "-n", 100000) as w:
            taken = []
            for n in range(count):
                at_work(v, rng, base)
                # In this order: what the snapshot says had happened before the copy.
                snapshot = w.snapshot(v.top / f"snapshot{n}")
                taken.append((snapshot, d.copy(where / f"copy{n}")))
            w.kill()
            v.kill()
            d.unmount()
            for snapshot, image in taken:
                d.mount(image)
                yield judged(v, w, snapshot)
                d.unmount()
                image.unlink()
    finally:
        v.remove()
        d.unmount()


@pytest.mark.parametrize("kind", ["btrfs", "ext4", "xfs"])
def test_copies_at_random_moments(kind):
    rng = random.Random(6)
    done, durable, violations = 0, 0, []
    with disk("xfs", mib=2048) as host:
        host.mount()
        with disk(kind, inside=host.at) as d:
            while done < COPIES:
                for wrong, counts in copies(d, rng, min(10, COPIES - done), host.at):
                    durable += counts["durable"]
                    if wrong:
                        violations.append(f"copy {done}: {wrong}")
                    done += 1
    print(f"\n{kind}: {done} copies of the disk, {durable} records durable in the end, "
          f"{len(violations)} violations")
    assert not violations, "\n".join(violations)


@pytest.mark.parametrize("broken", ["no-sync", "early"])
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_broken_syncs_are_seen(kind, broken):
    """A daemon that syncs nothing, or answers before it has: records must be missed."""
    rng = random.Random(5)
    wrong = None
    with disk(kind) as d:
        for cycle in range(10):
            wrong, _ = one_cut(d, rng, broken=broken)
            if wrong and "durable and gone" in wrong:
                break
    print(f"\n{kind}, {broken}: after {cycle + 1} cuts: {wrong}")
    assert wrong and "durable and gone" in wrong, wrong


def test_a_broken_sync_is_seen_in_a_copy():
    rng = random.Random(7)
    with disk("xfs", mib=2048) as host:
        host.mount()
        with disk("btrfs", inside=host.at) as d:
            found = [wrong for wrong, _ in copies(d, rng, 5, host.at, broken="no-sync")]
    assert any(wrong and "durable and gone" in wrong for wrong in found), found


# ---- whole files that are written anew ----

REWRITER = (
    "import json, os, sys, time\n"
    "log, state = sys.argv[1] + '/log.jsonl', sys.argv[1] + '/registry.json'\n"
    "longer = sys.argv[1] + '/longer.jsonl'\n"
    "for n in range(int(sys.argv[2]), 10 ** 9):\n"
    "    rows = open(log).readlines()\n"
    "    with open(log, 'w') as f: f.writelines(rows[:1] + ['{\"n\":%d}\\n' % n])\n"
    "    with open(state, 'w') as f: json.dump({'n': n, 'pad': 'x' * 5000}, f)\n"
    "    rows = open(longer).read().splitlines() + ['{\"n\":%d}' % n]\n"
    "    with open(longer, 'w') as f: f.write('\\n'.join(rows) + '\\n')\n"
    "    print(n, time.monotonic(), flush=True)\n"
)


def rewrite_cut(d, first, rng):
    """One power cut while a log and a state file are written anew, and a log by all that it
    holds and one record more. The first number for the next one."""
    d.mount()
    v = Vault(d.at / "src")
    if not (d.at / "src" / "registry.json").exists():
        (d.at / "src" / "log.jsonl").write_text('{"keep":1}\n{"n":0}\n')
        (d.at / "src" / "longer.jsonl").write_text('{"n":0}\n')
        (d.at / "src" / "registry.json").write_text('{"n": 0}')
    config = d.top / "config.json"
    config.write_text(json.dumps({"rewrite": "archive", "rules": [
        {"match": "registry.json", "class": "replace"},
        {"match": "longer.jsonl", "rewrite": "extend"}]}))
    d.sync()
    try:
        v.start(f"config={config}", "archive_max=32M")
        program = subprocess.Popen([PYTHON, "-c", REWRITER, v.mnt, str(first)],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL)
        program.stdout.readline()
        time.sleep(rng.uniform(0, 0.1))
        moment = time.monotonic()
        d.cut(rng.choice((LOGFLUSH, NOLOGFLUSH)))
        time.sleep(0.01)
        v.die()
        out, _ = program.communicate(timeout=20)
        v.kill()
        d.unmount()
        d.mount()
        rows = [json.loads(x) for x in (v.src / "log.jsonl").read_text().splitlines()]
        number = json.loads((v.src / "registry.json").read_text())["n"]
        durable = [int(x.split()[0]) for x in out.splitlines()
                   if len(x.split()) == 2 and float(x.split()[1]) < moment]
        last = max(durable, default=first)
        assert rows[0] == {"keep": 1} and len(rows) == 2, rows
        assert rows[1]["n"] >= last and number >= last, (rows, number, last)
        # Less than a record may be left of the last one, as of any append.
        whole = (v.src / "longer.jsonl").read_text().split("\n")[:-1]
        longer = [json.loads(x)["n"] for x in whole]
        assert longer == sorted(set(longer)) and longer[0] == 0, longer
        assert set(durable) <= set(longer), (durable, longer)
        return max(rows[1]["n"], number, longer[-1]) + 1
    finally:
        v.remove()
        d.unmount()


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_power_cuts_of_rewrites(kind):
    rng, number, cuts = random.Random(6), 1, max(CUTS // 16, 3)
    with disk(kind) as d:
        for _ in range(cuts):
            number = rewrite_cut(d, number, rng)
            d.mount()
            shutil.rmtree(d.at / "src" / ".jsonlfs" / "archive", ignore_errors=True)
            d.unmount()
    print(f"\n{kind}: {cuts} power cuts, {number} rewrites, 0 violations")
    assert number > cuts


TRANSACTIONS = (
    "import os, sys, time\n"
    "log = sys.argv[1] + '/log.jsonl'\n"
    "for n in range(10 ** 9):\n"
    "    with open(log, 'a') as f:\n"
    "        for k in range(5):\n"
    "            print('{\"id\":\"%s.%d\",\"k\":%d,\"pad\":\"%s\"}' % (sys.argv[2], n, k,\n"
    "                  'x' * (n * 997 % int(sys.argv[3]))), file=f, flush=True)\n"
    "            if k == n % 20: os.fsync(f.fileno())\n"
    "    print('%s.%d' % (sys.argv[2], n), time.monotonic(), flush=True)\n"
)


def transactions_cut(d, cycle, rng, pad=40000, **how):
    """One power cut while two programs commit blocks of five; how many were acknowledged.
    Those that are not synced on the way have their intent in a mark, the others in a file."""
    d.mount()
    v = Vault(d.at / "src")
    try:
        v.start("commit=close", **how)
        programs = [subprocess.Popen([PYTHON, "-c", TRANSACTIONS, v.mnt, f"{cycle}{who}",
                                      str(pad)],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.DEVNULL) for who in "ab"]
        first = [p.stdout.readline() for p in programs]
        time.sleep(rng.uniform(0, 0.1))
        moment = time.monotonic()
        d.cut(rng.choice((LOGFLUSH, NOLOGFLUSH)))
        time.sleep(0.01)
        v.die()
        out = b"".join(first + [p.communicate(timeout=20)[0] for p in programs])
        v.kill()
        d.unmount()
        d.mount()
        v.start("commit=close")
        # Less than a record may be left of a block, as any torn tail until the next append.
        with open(v.mnt / "log.jsonl", "a") as f:
            f.writelines(json.dumps({"id": f"{cycle}end", "k": k}) + "\n" for k in range(5))
        v.stop()
        rows = [json.loads(x) for x in (v.src / "log.jsonl").read_text().splitlines()]
        blocks = [rows[at : at + 5] for at in range(0, len(rows), 5)]
        for block in blocks:
            assert [r["k"] for r in block] == list(range(5)), block
            assert len({r["id"] for r in block}) == 1, block
        ids = [b[0]["id"] for b in blocks]
        durable = [x.split()[0].decode() for x in out.splitlines()
                   if len(x.split()) == 2 and float(x.split()[1]) < moment]
        assert len(set(ids)) == len(ids) and set(durable) <= set(ids)
        assert v.daemon_files() == []
        return len(durable)
    finally:
        v.remove()
        d.unmount()


def transactions_cuts(d, cuts, rng, **how):
    """Durable blocks; each cut finds the log small again."""
    durable = 0
    for cycle in range(cuts):
        durable += transactions_cut(d, cycle, rng, **how)
        d.mount()
        (d.at / "src" / "log.jsonl").unlink()
        d.unmount()
    return durable


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_power_cuts_of_transactions(kind):
    cuts = max(CUTS // 16, 3)
    with disk(kind) as d:
        durable = transactions_cuts(d, cuts, random.Random(7))
    print(f"\n{kind}: {cuts} power cuts, {durable} durable blocks, 0 violations")
    assert durable > cuts


if LONG:
    # xfs counts no byte of an append before all of it is written. With ext4 one cut in
    # forty leaves a part, which the mark is for.
    def test_blocks_without_their_mark_are_seen():
        with disk("ext4") as d, pytest.raises((AssertionError, ValueError)):
            transactions_cuts(d, 400, random.Random(8), pad=150000, broken="no-mark")


# ---- class text, and handles that follow their name ----

TEXTS = (
    "import sys, time\n"
    "for n in range(10 ** 9):\n"
    "    with open(sys.argv[1] + '/day.md', 'a') as f:\n"
    "        for k in 'abc': print('-', sys.argv[2], n, k, 'x' * (n % 3000), file=f, flush=True)\n"
    "    print(sys.argv[2], n, time.monotonic(), flush=True)\n"
)
FOLLOWS = (
    "import os, sys, time\n"
    "fd = os.open(sys.argv[1] + '/log.jsonl', os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
    "for n in range(10 ** 9):\n"
    "    os.write(fd, b'{\"id\":\"%s %d\"}\\n' % (sys.argv[2].encode(), n))\n"
    "    os.fsync(fd)\n"
    "    print(sys.argv[2], n, time.monotonic(), flush=True)\n"
)


def rotating(v, seconds):
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        number += 1
        with contextlib.suppress(OSError):
            os.rename(v.mnt / "log.jsonl", v.mnt / f"log.jsonl.{number}")
            (v.mnt / "log.jsonl").touch()
        time.sleep(0.01)


def others_cut(d, rng, broken=None):
    """One power cut while programs append to a text and, never opening it again, to a log that
    is rotated. (what is wrong or None, how many were acknowledged)."""
    d.mount()
    v = Vault(d.at / "src")
    config = d.top / "config.json"
    config.write_text(json.dumps({"follow": "path", "rules": [{"match": "*.md", "class": "text"}]}))
    try:
        v.start(f"config={config}", threads=True, broken=broken)
        programs = [subprocess.Popen([PYTHON, "-c", code, v.mnt, who], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
                    for code, who in ((TEXTS, "t1"), (TEXTS, "t2"), (FOLLOWS, "f1"), (FOLLOWS, "f2"))]
        first = [p.stdout.readline() for p in programs]
        rotating(v, rng.uniform(0.02, 0.15))
        moment = time.monotonic()
        d.cut(rng.choice((LOGFLUSH, NOLOGFLUSH)))
        time.sleep(0.01)
        v.die()
        out = b"".join(first + [p.communicate(timeout=20)[0] for p in programs])
        v.kill()
        d.unmount()
        d.mount()
        # With syncs that do nothing not even its name need be there.
        text = "".join(f.read_text(errors="replace") for f in v.src.glob("day.md"))
        logs = b"".join(f.read_bytes() for f in v.src.glob("log.jsonl*"))
        said = [x.decode().split() for x in out.splitlines() if len(x.split()) == 3]
        said = [(who, int(n)) for who, n, when in said if float(when) < moment]
        for who, n in said:
            pad = "x" * (n % 3000)
            block = "".join(f"- {who} {n} {k} {pad}\n" for k in "abc")
            record = b'{"id":"%s %d"}\n' % (who.encode(), n)
            count = text.count(block) if who[0] == "t" else logs.count(record)
            if count != 1:
                return f"{who} {n} is there {count} times", len(said)
        return None, len(said)
    finally:
        shutil.rmtree(v.src, ignore_errors=True)
        v.remove()
        d.unmount()


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_power_cuts_of_texts_and_of_rotated_logs(kind):
    rng, durable, cuts = random.Random(9), 0, max(CUTS // 16, 3)
    with disk(kind) as d:
        for cycle in range(cuts):
            wrong, count = others_cut(d, rng)
            assert wrong is None, f"cut {cycle}: {wrong}"
            durable += count
    print(f"\n{kind}: {cuts} power cuts, {durable} blocks and records, 0 violations")
    assert durable > cuts


def test_broken_syncs_of_logs_that_are_rotated_are_seen():
    with disk("ext4") as d:
        assert any(others_cut(d, random.Random(n), broken="no-sync")[0] for n in range(10))
