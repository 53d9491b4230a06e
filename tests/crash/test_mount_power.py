"""Power cuts on real file systems: a loop image is shut down (the ioctl drops what was not
synced) while writers are at work, mounted again, and what close and fsync had acknowledged
must be there. JSONLFS_CUTS: how many, for each file system."""

import fcntl
import json
import os
import random
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from mount_rig import CLIENT, LONG, PYTHON, Ledger, Vault, parse_answers, recover, test_dir

SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
LOGFLUSH, NOLOGFLUSH = 1, 2
CUTS = int(os.environ.get("JSONLFS_CUTS", "5000" if LONG else "60"))
MAKE = {
    "ext4": ("64M", ["mkfs.ext4", "-q", "-F"]),
    "xfs": ("320M", ["mkfs.xfs", "-q", "-f"]),
}


class Disk:
    """A file system in an image, mounted by loop."""

    def __init__(self, kind):
        size, make = MAKE[kind]
        self.top = Path(tempfile.mkdtemp(prefix="power-", dir=test_dir()))
        self.image, self.at = self.top / "image", self.top / "disk"
        self.at.mkdir()
        subprocess.run(["truncate", "-s", size, self.image], check=True)
        subprocess.run([*make, self.image], check=True, stdout=subprocess.DEVNULL)
        self.mounted = False

    def mount(self):
        subprocess.run(["mount", "-o", "loop", self.image, self.at], check=True, timeout=30)
        self.mounted = True

    def unmount(self):
        if self.mounted:
            subprocess.run(["umount", self.at], check=True, timeout=30)
        self.mounted = False

    def sync(self):
        fd = os.open(self.at, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def cut(self, how):
        fd = os.open(self.at, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", how))
        finally:
            os.close(fd)

    def remove(self):
        self.unmount()
        shutil.rmtree(self.top, ignore_errors=True)


def writers(v, cycle):
    """Mixed ones: a record per open, several per write, fsync on one descriptor."""
    steps = (
        [f"loop:c{cycle:05d}a:2000"],
        [f"loop:c{cycle:05d}b:2000"],
        [f"many:c{cycle:05d}c{n}:5" for n in range(400)],
        [f"fsync:c{cycle:05d}d:2000"],
    )
    return [
        subprocess.Popen([PYTHON, CLIENT, v.mnt / "log.jsonl", *own],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        for own in steps
    ]


def one_cut(disk, ledger, cycle, rng, *options):
    """What is wrong, or None."""
    disk.mount()
    v = Vault(disk.at / "src")
    disk.sync()  # the vault itself is there already
    try:
        v.start(*options)
        before = v.file().stat().st_size if v.file().exists() else 0
        programs = writers(v, cycle)
        deadline = time.monotonic() + 10
        while (not v.file().exists() or v.file().stat().st_size == before) and (
                time.monotonic() < deadline):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.08))
        moment = time.monotonic()
        disk.cut(rng.choice((LOGFLUSH, NOLOGFLUSH)))
        time.sleep(0.01)
        v.die()
        for program in programs:
            out, _ = program.communicate(timeout=20)
            ledger.note(parse_answers(out), until=moment)
        v.kill()
        disk.unmount()
        disk.mount()
        return recover(v, ledger, power=True)
    finally:
        v.remove()
        disk.unmount()


@pytest.mark.parametrize("kind", MAKE)
def test_power_cuts(kind):
    if not shutil.which(MAKE[kind][1][0]):
        pytest.fail(f"{MAKE[kind][1][0]} is not installed")
    rng = random.Random(4)
    disk, ledger, violations = Disk(kind), Ledger(), []
    try:
        for cycle in range(CUTS):
            if cycle % 20 == 0:
                # A file of its own, so that reading it does not become the work.
                ledger = Ledger()
                disk.mount()
                shutil.rmtree(disk.at / "src", ignore_errors=True)
                disk.unmount()
            wrong = one_cut(disk, ledger, cycle, rng)
            if wrong:
                violations.append(f"cut {cycle}: {wrong}")
                break
    finally:
        disk.remove()
    print(f"\n{kind}: {CUTS} power cuts, {len(violations)} violations; in the last file "
          f"{len(ledger.durable)} durable of {len(ledger.tried)} records")
    assert not violations, "\n".join(violations)


def test_the_rig_sees_what_is_not_synced():
    """The same with a daemon that says that it syncs nothing: records must be missed."""
    disk, rng = Disk("ext4"), random.Random(5)
    try:
        wrong = None
        for cycle in range(10):
            wrong = one_cut(disk, Ledger(), cycle, rng, "sync=none")
            if wrong and "durable and gone" in wrong:
                break
            disk.mount()
            shutil.rmtree(disk.at / "src")
            disk.unmount()
        assert wrong and "durable and gone" in wrong, wrong
    finally:
        disk.remove()


# ---- whole files that are written anew ----

REWRITER = (
    "import json, os, sys, time\n"
    "log, state = sys.argv[1] + '/log.jsonl', sys.argv[1] + '/registry.json'\n"
    "for n in range(int(sys.argv[2]), 10 ** 9):\n"
    "    rows = open(log).readlines()\n"
    "    with open(log, 'w') as f: f.writelines(rows[:1] + ['{\"n\":%d}\\n' % n])\n"
    "    with open(state, 'w') as f: json.dump({'n': n, 'pad': 'x' * 5000}, f)\n"
    "    print(n, time.monotonic(), flush=True)\n"
)


def rewrite_cut(disk, first, rng):
    """One power cut while a log and a state file are written anew. The first number for
    the next one."""
    disk.mount()
    v = Vault(disk.at / "src")
    if not (disk.at / "src" / "registry.json").exists():
        (disk.at / "src" / "log.jsonl").write_text('{"keep":1}\n{"n":0}\n')
        (disk.at / "src" / "registry.json").write_text('{"n": 0}')
    config = disk.top / "config.json"
    config.write_text(json.dumps({"rewrite": "archive", "rules": [
        {"match": "registry.json", "class": "replace"}]}))
    disk.sync()
    try:
        v.start(f"config={config}", "archive_max=32M")
        program = subprocess.Popen([PYTHON, "-c", REWRITER, v.mnt, str(first)],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL)
        program.stdout.readline()
        time.sleep(rng.uniform(0, 0.1))
        moment = time.monotonic()
        disk.cut(rng.choice((LOGFLUSH, NOLOGFLUSH)))
        time.sleep(0.01)
        v.die()
        out, _ = program.communicate(timeout=20)
        v.kill()
        disk.unmount()
        disk.mount()
        rows = [json.loads(x) for x in (v.src / "log.jsonl").read_text().splitlines()]
        number = json.loads((v.src / "registry.json").read_text())["n"]
        durable = [int(x.split()[0]) for x in out.splitlines()
                   if len(x.split()) == 2 and float(x.split()[1]) < moment]
        last = max(durable, default=first)
        assert rows[0] == {"keep": 1} and len(rows) == 2, rows
        assert rows[1]["n"] >= last and number >= last, (rows, number, last)
        return max(rows[1]["n"], number) + 1
    finally:
        v.remove()
        disk.unmount()


@pytest.mark.parametrize("kind", MAKE)
def test_power_cuts_of_rewrites(kind):
    rng, disk, number = random.Random(6), Disk(kind), 1
    try:
        for _ in range(max(CUTS // 4, 3)):
            number = rewrite_cut(disk, number, rng)
            disk.mount()
            shutil.rmtree(disk.at / "src" / ".jsonlfs" / "archive", ignore_errors=True)
            disk.unmount()
    finally:
        disk.remove()
    assert number > 10


TRANSACTIONS = (
    "import os, sys, time\n"
    "log = sys.argv[1] + '/log.jsonl'\n"
    "for n in range(10 ** 9):\n"
    "    with open(log, 'a') as f:\n"
    "        for k in range(5):\n"
    "            print('{\"id\":\"%s.%d\",\"k\":%d}' % (sys.argv[2], n, k), file=f, flush=True)\n"
    "            if k == n % 7: os.fsync(f.fileno())\n"
    "    print('%s.%d' % (sys.argv[2], n), time.monotonic(), flush=True)\n"
)


def transactions_cut(disk, cycle, rng):
    """One power cut while two programs commit blocks of five; how many were acknowledged."""
    disk.mount()
    v = Vault(disk.at / "src")
    try:
        v.start("commit=close")
        programs = [subprocess.Popen([PYTHON, "-c", TRANSACTIONS, v.mnt, f"{cycle}{who}"],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.DEVNULL) for who in "ab"]
        first = [p.stdout.readline() for p in programs]
        time.sleep(rng.uniform(0, 0.1))
        moment = time.monotonic()
        disk.cut(rng.choice((LOGFLUSH, NOLOGFLUSH)))
        time.sleep(0.01)
        v.die()
        out = b"".join(first + [p.communicate(timeout=20)[0] for p in programs])
        v.kill()
        disk.unmount()
        disk.mount()
        v.start("commit=close")
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
        assert os.listdir(v.src / ".jsonlfs" / "transactions") == []
        return len(durable)
    finally:
        v.remove()
        disk.unmount()


@pytest.mark.parametrize("kind", MAKE)
def test_power_cuts_of_transactions(kind):
    rng, disk, durable = random.Random(7), Disk(kind), 0
    try:
        for cycle in range(max(CUTS // 4, 3)):
            durable += transactions_cut(disk, cycle, rng)
    finally:
        disk.remove()
    assert durable > 10
