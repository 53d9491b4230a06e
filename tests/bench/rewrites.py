# SPDX-License-Identifier: MIT
"""What it costs to write a log or a state file anew as a whole, against the usual recipe of a
careful program on the native file system (temporary file, fsync, rename, fsync of the
directory); and what an append costs on a handle that follows its name."""

import json
import os
import time

from rig import median, noise, ratios, table

TITLE = "Written anew"
LINE = json.dumps({"text": "x" * 285}).encode() + b"\n"
KIB = 1 << 10


def per_round(bench, one):
    """Calls it for half as long as a load takes: microseconds each."""
    begin, count = time.monotonic(), 0
    while not count or time.monotonic() - begin < bench.options.seconds / 2:
        one()
        count += 1
    return {"us": (time.monotonic() - begin) / count * 1e6}


def written(path, content):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(fd, content)
    os.close(fd)


def recipe(path, content):
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(fd, content)
    os.fsync(fd)
    os.close(fd)
    os.rename(path + ".new", path)
    fd = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def document(size):
    return json.dumps({"pad": "x" * (size - 11)}).encode()


def records(size):
    return LINE * (size // len(LINE))


class Changing:
    """Another content each time: the same once more would change nothing."""

    def __init__(self, path, content):
        self.path, self.content, self.odd = path, content, False

    def __call__(self):
        self.odd = not self.odd
        written(self.path, self.content.replace(b"x", b"y", 1) if self.odd else self.content)


class Growing:
    """One record more with each rewrite."""

    def __init__(self, path, size):
        self.path, self.content = path, records(size)
        written(path, self.content)

    def __call__(self):
        self.content += LINE
        written(self.path, self.content)


def whole_files(bench, mount, native):
    rows = []
    for row, name, content in (
        ("class replace, 4 KiB", "a.state.json", document(4 * KIB)),
        ("class replace, 1 MiB", "b.state.json", document(1024 * KIB)),
        ("rewrite=archive, 64 KiB", "archive.jsonl", records(64 * KIB)),
        ("rewrite=archive, 1 MiB", "archive1.jsonl", records(1024 * KIB)),
        ("rewrite=extend by a record, 64 KiB", "extend.jsonl", records(64 * KIB)),
        ("rewrite=extend by a record, 1 MiB", "extend1.jsonl", records(1024 * KIB)),
    ):
        path = os.path.join(mount, name)
        extends = name.startswith("extend")
        anew = Growing(path, len(content)) if extends else Changing(path, content)
        there = os.path.join(native, name)
        got = bench.rounds({
            "native": lambda: per_round(bench, lambda: recipe(there, content)),
            "mount": lambda: per_round(bench, anew),
        })
        ratio = median(ratios(got["mount"], got["native"], "us"))
        times = {k: [r["us"] for r in v] for k, v in got.items()}
        bench.add(TITLE, row, us=times, ratio=ratio, ratio_is="time")
        rows.append([row, f"{median(times['native']):.0f}", f"{median(times['mount']):.0f}",
                     f"{ratio:.2f} x", noise(times["native"])])
    table(f"{TITLE}: open with O_TRUNC, write, close (microseconds)",
          ["", "recipe", "mount", "ratio", "noise"], rows)


def following(bench, mount):
    """One record a write, on handles that stay open; the third is on another file than the one
    it was opened as."""
    handles = {}
    for name in ("stays", "follows", "followed"):
        path = os.path.join(mount, f"{name}.jsonl")
        handles[name] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(handles[name], LINE)
    os.rename(path, path + ".1")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
    got = bench.rounds({
        name: lambda fd=fd: per_round(bench, lambda: os.write(fd, LINE))
        for name, fd in handles.items()
    })
    for fd in handles.values():
        os.close(fd)
    if os.path.getsize(path + ".1") != len(LINE):
        raise RuntimeError("it did not follow")
    times = {k: [r["us"] for r in v] for k, v in got.items()}
    rows = []
    for name, what in (("stays", "follow=file"), ("follows", "follow=path"),
                       ("followed", "follow=path, after a rotation")):
        ratio = median(ratios(got[name], got["stays"], "us"))
        bench.add(TITLE, what, us=times[name], ratio=ratio, ratio_is="time")
        rows.append([what, f"{median(times[name]):.1f}", f"{ratio:.2f} x",
                     noise(times[name])])
    table("An append to an open handle (microseconds)", ["", "time", "ratio", "noise"], rows)


def run(bench):
    config = os.path.join(bench.scratch, "rewrites.json")
    rules = [
        {"match": "*.state.json", "class": "replace"},
        {"match": "archive*.jsonl", "rewrite": "archive"},
        {"match": "extend*.jsonl", "rewrite": "extend"},
        {"match": "follow*.jsonl", "follow": "path"},
    ]
    with open(config, "w", encoding="utf-8") as file:
        json.dump({"archive_max": "16G", "rules": rules}, file)
    with bench.jsonlfs(bench.directory("vault-anew"), bench.directory("mnt-anew"),
                       "-o", f"config={config}", *bench.options.arguments) as mount:
        whole_files(bench, mount.path, bench.directory("native-anew"))
        following(bench, mount.path)
