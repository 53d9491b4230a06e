#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A vault as it is used for days, in as much time as there is: programs that append and are
killed, rotations, checks, plain files, and a daemon that dies now and then and is mounted
again by its parent.

    sudo tests/crash/soak.py [SECONDS]      86,400, a day, by default

prints a line a minute, and judges at once: each generation is read a while after its rotation
and removed, so a day needs no more disk than a minute; a writer is judged when all that
it can have written has been read. For the last quarter the daemon is left alone: what
it holds then may not grow.

Environment: JSONLFS_BUILD, JSONLFS_TEST_DIR as in mount_rig.py. Status 1: a violation."""

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter

from mount_rig import (
    BUILD, CLIENT, PYTHON, Ledger, Vault, parse_answers, unmount, wait_for,
)
from test_mount_load import grown, usage

CTL = BUILD / "fs" / "ctl" / "jsonlfsctl"
WRITERS = 4
# How long a program that had the file open at its rotation may go on appending to it.
REST = 4
AGAIN = 60  # seconds, for what takes one: a mount that comes back, a program that ends


class Writer:
    """A program that appends under a name of its own until it ends, and what it was told."""

    def __init__(self, vault, name, what):
        self.name, self.told, self.lines = name, vault.top / name, []
        self.ended = None
        with open(self.told, "wb") as out:
            self.proc = subprocess.Popen(
                [PYTHON, CLIENT, vault.mnt / "log.jsonl", f"{what}:{name}:90000"],
                stdin=subprocess.DEVNULL, stdout=out)

    def over(self, kill=False):
        """Has it ended? When is noted the first time."""
        if kill:
            self.proc.kill()
            self.proc.wait(AGAIN)
        if self.ended is None and self.proc.poll() is not None:
            self.ended = time.time()
        return self.ended is not None

    def answers(self):
        return parse_answers(self.told.read_bytes())


class Soak:
    def __init__(self, seconds, seed=1):
        self.seconds, self.rng = seconds, random.Random(seed)
        self.vault = Vault()
        self.writers, self.plain, self.until = {}, None, {}
        self.counts, self.wrong, self.samples = Counter(), [], []
        self.keeper = self.daemon = None

    # ---- the mount: a parent that stays, and the daemon ----

    def mount(self):
        v = self.vault
        subprocess.run([BUILD / "fs" / "jsonlfs", v.src, v.mnt], check=True, timeout=30)
        self.find()
        # Only the parent has a parent that is not one of the two.
        with open(f"/proc/{self.daemon}/stat", encoding="utf-8") as f:
            self.keeper = int(f.read().rsplit(")", 1)[1].split()[1])

    def status(self):
        with open(self.vault.mnt / ".jsonlfs" / "status.json", encoding="utf-8") as f:
            return json.load(f)

    def find(self):
        """The daemon that serves now, or None while there is none."""
        try:
            self.daemon = self.status()["pid"]
        except OSError:
            self.daemon = None
        return self.daemon

    def kill_daemon(self):
        old = self.daemon
        os.kill(old, 9)
        wait_for(lambda: self.find() not in (None, old), "the mount", AGAIN)
        self.counts["daemon kills"] += 1

    # ---- what happens in it ----

    def start_writer(self):
        what = self.rng.choice(["loop", "loop", "cuts"])
        self.counts["writers"] += 1
        w = Writer(self.vault, f"w{self.counts['writers']:07d}", what)
        self.writers[w.name] = w

    def kill_writer(self):
        alive = [w for w in self.writers.values() if not w.over()]
        if alive:
            self.rng.choice(alive).over(kill=True)
            self.counts["writer kills"] += 1

    def keep_busy(self):
        alive = sum(not w.over() for w in self.writers.values())
        if alive < WRITERS:
            self.start_writer()
        if self.plain and self.plain.over():
            answers = self.plain.answers()
            self.plain.told.unlink()
            self.counts["plain files"] += sum(a[0] == "plain" and not a[2] for a in answers)
            self.wrong += [f"plain file {a[1]} differs" for a in answers if a[0] == "wrong"]
            self.plain = None
        if not self.plain:
            self.plain = Writer(self.vault, f"p{self.counts['plain runs']:07d}", "plain")
            self.counts["plain runs"] += 1

    def rotate(self):
        p = self.ctl("rotate", "--quiet", self.vault.mnt / "log.jsonl")
        self.counts["rotations"] += p.returncode == 0

    def ctl(self, *command):
        return subprocess.run([CTL, *command], stdin=subprocess.DEVNULL, timeout=120,
                              capture_output=True, check=False)

    def check(self):
        """Damage is 1; a mount that dies under it is another thing."""
        p = self.ctl("check", self.vault.mnt)
        self.counts["checks"] += p.returncode == 0
        if p.returncode == 1:
            self.wrong.append(f"check: {p.stdout.decode()[-500:]}")

    def drop(self):
        """What lies in the quarantine for long, half records of killed programs: whoever
        wrote it has been judged."""
        old = [path.name for path in (self.vault.src / ".jsonlfs" / "quarantine").glob("*")
               if path.stat().st_mtime < time.time() - 5 * REST]
        if old and self.ctl("quarantine", "drop", self.vault.mnt, *old).returncode == 0:
            self.counts["dropped"] += len(old)

    # ---- judging ----

    def read(self, path):
        """Takes the records of a file to their writers."""
        data = path.read_bytes()
        if data and not data.endswith(b"\n"):
            self.wrong.append(f"{path.name} does not end with a newline")
        for line in data.split(b"\n")[:-1]:
            try:
                name = json.loads(line)["id"].split("-")[0]
            except (ValueError, KeyError, TypeError):
                self.wrong.append(f"{path.name}: not a record: {line[:80]!r}")
                continue
            if name in self.writers:
                self.writers[name].lines.append(line + b"\n")
            else:
                self.wrong.append(f"{path.name}: {line[:80]!r}: its writer has been judged")
        self.counts["records"] += data.count(b"\n")

    def harvest(self, everything=False):
        """Generations that nobody appends to any more, the oldest first."""
        for path in sorted(self.vault.src.glob("log.jsonl.*Z")):
            age = time.time() - path.stat().st_ctime
            if age < REST and not everything:
                break
            rotated = path.stat().st_ctime
            self.read(path)
            path.unlink()
            self.settle(rotated)
        if everything and self.vault.file().exists():
            self.read(self.vault.file())
            self.settle(time.time())

    def settle(self, when):
        """Judges those that ended before."""
        saved = self.vault.saved()
        for w in [w for w in self.writers.values() if w.over() and w.ended < when - 1]:
            ledger = Ledger()
            ledger.note(w.answers())
            wrong = ledger.check(b"".join(w.lines), saved)
            if wrong:
                self.wrong.append(f"{w.name}: {wrong}")
            self.counts["acknowledged"] += len(ledger.durable)
            w.told.unlink()
            del self.writers[w.name]

    def held(self):
        """None, or what has grown in the daemon's last life, and in its parent."""
        return grown(self.samples["daemon"]) or grown(self.samples["keeper"])

    # ---- the course of it ----

    def due(self, what, every):
        """Once each so many seconds."""
        now = time.monotonic()
        if now < self.until.setdefault(what, now + every):
            return False
        self.until[what] = now + every * self.rng.uniform(0.7, 1.3)
        return True

    def turn(self, begin):
        part = (time.monotonic() - begin) / self.seconds
        # After five deaths in a minute the parent would wait.
        if part < 0.75 and self.due("daemon", min(max(self.seconds / 3, 12), 600)):
            self.kill_daemon()
        if self.due("writer", 0.4):
            self.kill_writer()
        if self.due("rotate", 2):
            self.rotate()
        if self.due("check", 3):
            self.check()
        if self.due("drop", 10):
            self.drop()
        self.keep_busy()
        self.harvest()
        if part > 0.75 and self.due("sample", min(1, self.seconds / 300)):
            for who, pid in (("daemon", self.daemon), ("keeper", self.keeper)):
                self.samples[who].append(((part - 0.75) * 4, *usage(pid)))
        if self.due("say", 60):
            self.say(part)

    def say(self, part):
        memory = usage(self.daemon)
        print(f"{part * 100:.1f} %: {dict(self.counts)}, daemon {memory[0]} KiB and "
              f"{memory[1]} descriptors, {len(self.wrong)} violations", flush=True)

    def run(self):
        """The violations: a list of texts."""
        self.samples = {"daemon": [], "keeper": []}
        self.mount()
        begin = time.monotonic()
        while time.monotonic() < begin + self.seconds and len(self.wrong) < 20:
            self.turn(begin)
            time.sleep(0.05)
        for w in [*self.writers.values(), self.plain]:
            w.over(kill=True)
        time.sleep(1.1)
        self.check()
        wait_for(lambda: self.status()["open_handles"] == 0, "the last release", AGAIN)
        self.say(1)
        subprocess.run(["umount", self.vault.mnt], check=True, timeout=AGAIN)
        wait_for(lambda: not os.path.exists(f"/proc/{self.keeper}"), "the end", AGAIN)
        self.harvest(everything=True)
        if self.held():
            self.wrong.append(self.held())
        return self.wrong

    def clear(self):
        for pid in (self.keeper, self.daemon):
            with contextlib.suppress(OSError, TypeError):
                os.kill(pid, 9)
        for w in [*self.writers.values(), *([self.plain] if self.plain else [])]:
            w.over(kill=True)
        unmount(self.vault.mnt)
        self.vault.remove()


def soak(seconds):
    """(violations, what was done)."""
    s = Soak(seconds)
    try:
        return s.run(), s.counts
    finally:
        s.clear()


if __name__ == "__main__":
    found, done = soak(int(sys.argv[1]) if len(sys.argv) > 1 else 86400)
    print("\n".join(found))
    print(f"{dict(done)}, {len(found)} violations")
    sys.exit(1 if found else 0)
