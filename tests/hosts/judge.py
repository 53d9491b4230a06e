# SPDX-License-Identifier: MIT
"""Starts the programs of client.py on some hosts and judges what is there in the end, on each
side: every record that a program was told is kept is found once, nothing is twice, no line is
torn, nobody wrote anything else, and no reader ever saw a half."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))
import client  # noqa: E402


class Load:
    """The programs of one host, at work. `enter`: what runs a command on that host."""

    def __init__(self, name, log, acks, seconds=300.0, records=1 << 30, enter=()):
        acks.mkdir(exist_ok=True)
        self.name, self.seconds = name, seconds
        argv = [*enter, sys.executable, "-B", HERE / "client.py", name, log, acks, seconds,
                records]
        self.proc = subprocess.Popen([*map(str, argv)], stdin=subprocess.DEVNULL)

    def wait(self):
        """What hangs in a fault is over a while after it."""
        assert self.proc.wait(self.seconds + 120) == 0, self.name
        return self

    def kill(self):
        if self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait(10)


class Told:
    """What all programs were told: acks/NAME, acks/NAME.json. `fault`: a shell does not look at
    what close says, so what it thinks to be kept need not be durable."""

    def __init__(self, acks, fault=False):
        self.kept, self.errors, self.seen, self.slowest = {}, Counter(), 0, 0.0
        self.wrong = []
        for path in sorted(Path(acks).iterdir()):
            if path.suffix == ".json":
                end = json.loads(path.read_text())
                self.errors.update(end["errors"])
                self.seen += end["seen"]
                self.slowest = max(self.slowest, end["slowest"])
                self.wrong += [f"reader {path.stem}: {x}" for x in end["wrong"]]
            elif not fault or client.kind(path.name) != "shell":
                for line in path.read_text().splitlines():
                    number, began = map(int, line.split())
                    self.kept[path.name, number] = began


class Verdict:
    """What is wrong on one side."""

    def __init__(self, told, contents):
        found, self.torn = Counter(), []
        for data in contents:
            lines = data.split(b"\n")
            if lines[-1]:
                self.torn.append(f"the end: {lines[-1][:40]!r}")
            for line in lines[:-1]:
                key = client.parse(line)
                if key:
                    found[key] += 1
                else:
                    self.torn.append(f"{len(line)} bytes: {line[:40]!r}")
        self.told = told
        self.lost = sorted(set(told.kept) - set(found))
        self.twice = sorted(k for k, n in found.items() if n > 1)
        self.there = len(found)

    def kept_all(self):
        return not (self.lost or self.twice or self.torn)

    def good(self):
        return self.kept_all() and not self.told.wrong

    def __str__(self):
        shown = [*map(str, self.lost[:3]), *map(str, self.twice[:3]), *self.torn[:3]]
        return (f"{len(self.lost)} lost of {len(self.told.kept)}, {len(self.twice)} twice, "
                f"{len(self.torn)} torn" + (f": {'; '.join(shown)}" if shown else ""))


def files(directory, name="log.jsonl"):
    """The content of a log and of its generations, as they are seen there."""
    return [path.read_bytes() for path in sorted(Path(directory).iterdir())
            if path.name == name or path.name.startswith(name + ".")]


def turns(directory):
    """How often a record of another host follows in the log."""
    hosts = [client.parse(line)[0].partition(".")[0]
             for data in files(directory) for line in data.splitlines()]
    return sum(a != b for a, b in zip(hosts, hosts[1:], strict=False))


def judge(acks, sides, fault=False, name="log.jsonl"):
    """{side: Verdict} for {side: directory}."""
    told = Told(acks, fault)
    return {side: Verdict(told, files(where, name)) for side, where in sides.items()}


def late(acks, rotations, seconds=0):
    """How many records are in a file that had been rotated (so long) before their writer began
    with them. `rotations`: {file: when it had been, in microseconds}."""
    told = Told(acks)
    return sum(told.kept.get(client.parse(line), 0) > when + seconds * 1e6
               for path, when in rotations.items() for line in path.read_bytes().splitlines())


def report(verdicts):
    told = next(iter(verdicts.values())).told
    return "\n".join([
        f"{len(told.wrong)} wrong of {told.seen} lines read; slowest {told.slowest:.2f} s, "
        f"errors {dict(told.errors)}", *told.wrong[:3],
        *(f"{side}: {v}" for side, v in verdicts.items())])


def hold(verdicts):
    assert all(v.good() for v in verdicts.values()), "\n" + report(verdicts)


def environment(build, broken):
    """Of a daemon that breaks a promise (tests/crash/broken.c)."""
    if not broken:
        return {}
    return {"LD_PRELOAD": str(build / "tests" / "crash" / "libbroken.so"),
            "JSONLFS_BROKEN": broken, "PATH": os.environ["PATH"]}
