# SPDX-License-Identifier: MIT
"""What it costs to append safely: governed files against the native file system, with a
program's own fsync or with the usual recipe of lock, append, sync, unlock."""

import json
import os
import subprocess
import time

from rig import median, noise, ratios, table, verdict

RECORD = 300
# writers, files; least ratio to native, to the recipe, to the bare mount
CLOSES = [(1, 1, 0.8, None, 1.0), (4, 1, 0.9, 2, 1.3), (16, 1, 1.2, 4.6, 2),
          (64, 1, 1.3, 6, 2), (128, 1, None, None, None), (16, 16, 0.8, None, None)]
# what they do (load.c), programs on one file; least ratio to one of them, to the bare mount
SYNCS = [("owfc", 1, None, 1.0), ("owfc", 16, 1.5, 1.0), ("owfc", 64, None, 1.0),
         ("wf", 1, None, 1.0), ("wf", 16, 1.8, 1.3)]
FILES = 16
TITLE = "Governed files: a safe append"


class Counted:
    """Loads on one directory of a mount, whose records are counted afterwards."""

    def __init__(self, bench, mounted, source):
        self.bench, self.mounted, self.source = bench, mounted, source
        self.expected = {}

    def append(self, name, *arguments):
        path = os.path.join(self.mounted, name)
        os.makedirs(path, exist_ok=True)
        result = self.bench.load("append", path, "-s", RECORD, *arguments)
        self.expected[name] = self.expected.get(name, 0) + result["written"]
        return result

    def check(self):
        """Every acknowledged record is there, once: a fast file system that loses some
        has not been measured but found out."""
        for name, expected in self.expected.items():
            path = os.path.join(self.source, name)
            size = sum(os.path.getsize(os.path.join(path, f)) for f in os.listdir(path))
            if size != expected * RECORD:
                raise RuntimeError(f"{path}: {size} bytes, but {expected} records of "
                                   f"{RECORD} bytes were acknowledged")


def ratio_of(got, other, aim):
    """Two cells, and what is to be said of it."""
    ratio = median(ratios(got["mount"], got[other]))
    return ratio, [f"{ratio:.2f} x", f"{aim} x" if aim else "-"], aim and verdict(ratio, aim)


def closes(bench, counted, null, bare):
    native = bench.directory("native")
    rows = []
    for writers, files, *aims in CLOSES[1:2] if bench.options.quick else CLOSES:
        name = f"close-{writers}-{files}"
        here = os.path.join(native, name)
        os.makedirs(here, exist_ok=True)
        os.makedirs(here + "-recipe", exist_ok=True)
        load = ["-w", writers, "-f", files]
        got = bench.rounds({
            "native": lambda: bench.load("append", here, "-s", RECORD, *load, "-m", "owfc"),
            "mount": lambda: counted.append(name, *load, "-m", "owc"),
            "recipe": lambda: bench.load("append", here + "-recipe", "-s", RECORD, *load,
                                         "-m", "olwfuc"),
            "null": lambda: bench.load("append", null.path, "-s", RECORD, *load, "-m", "owc"),
            "bare": lambda: bench.load("append", bare.path, "-s", RECORD, *load, "-m", "owc"),
        })
        speed = {k: [r["per_second"] for r in v] for k, v in got.items()}
        found = [ratio_of(got, other, aim)
                 for other, aim in zip(("native", "recipe", "bare"), aims)]
        row = f"{writers} writer{'s' * (writers > 1)}, {files} file{'s' * (files > 1)}"
        bench.add(TITLE, row, rates=speed, ratio=found[0][0], aim=aims[0],
                  ratio_recipe=found[1][0], aim_recipe=aims[1], ratio_bare=found[2][0],
                  aim_bare=aims[2])
        rows.append([row, *(f"{median(speed[k]):.0f}"
                            for k in ("native", "mount", "recipe", "null", "bare")),
                     *found[0][1], *found[1][1], *found[2][1], noise(speed["native"]),
                     next((said for _, _, said in found if said), "")])
    table(f"{TITLE}: open, write, close; durable when close returns (appends a second)",
          ["", "native", "mount", "recipe", "empty mount", "bare mount", "of native", "aim",
           "of recipe", "aim", "of bare mount", "aim", "noise", ""], rows)


def own_sync(bench, counted, bare):
    """Programs that sync by themselves."""
    native = bench.directory("native/sync")
    rows, one = [], {}
    for steps, programs, aim_one, aim_bare in SYNCS[-1:] if bench.options.quick else SYNCS:
        load = ["-s", RECORD, "-w", programs, "-m", steps]
        got = bench.rounds({
            "native": lambda: bench.load("append", native, *load),
            "mount": lambda: counted.append(f"sync-{steps}", *load[2:]),
            "bare": lambda: bench.load("append", bare.path, *load),
        })
        speed = {k: [r["per_second"] for r in v] for k, v in got.items()}
        if programs == 1:
            one[steps] = got["mount"]
        to_native, cells, _ = ratio_of(got, "native", None)
        to_bare, cells_bare, said = ratio_of(got, "bare", aim_bare)
        to_one = median(ratios(got["mount"], one.get(steps, got["mount"])))
        row = f"{'open, write, fsync, close' if 'o' in steps else 'write, fsync'}; " \
              f"{programs} program{'s' * (programs > 1)}"
        bench.add(TITLE, row, rates=speed, ratio=to_native, ratio_bare=to_bare,
                  aim_bare=aim_bare, ratio_one=to_one, aim_one=aim_one)
        rows.append([row, *(f"{median(speed[k]):.0f}" for k in ("native", "mount", "bare")),
                     cells[0], *cells_bare, f"{to_one:.2f} x",
                     f"{aim_one} x" if aim_one else "-", noise(speed["native"]),
                     said or (aim_one and verdict(to_one, aim_one)) or ""])
    table(f"{TITLE}: by programs that sync by themselves, one file (appends a second)",
          ["", "native", "mount", "bare mount", "of native", "of bare mount", "aim",
           "of one program", "aim", "noise", ""], rows)


def unsynced(bench, counted, null, bare):
    rows = []
    for writers in (1,) if bench.options.quick else (1, 4):
        got = bench.rounds({
            "null": lambda: bench.load("append", null.path, "-s", RECORD, "-w", writers,
                                       "-m", "w"),
            "mount": lambda: counted.append(f"open-{writers}", "-w", writers, "-m", "w"),
            "bare": lambda: bench.load("append", bare.path, "-s", RECORD, "-w", writers,
                                       "-m", "w"),
        })
        ratio = median(ratios(got["mount"], got["null"], "p50_us"))
        to_bare = median(ratios(got["mount"], got["bare"], "p50_us"))
        times = {k: [r["p50_us"] for r in v] for k, v in got.items()}
        aim = 1.3 if writers == 1 else None
        row = f"{writers} writer{'s' * (writers > 1)}"
        bench.add(TITLE, f"write, not synced, {row}", p50_us=times, ratio=ratio, aim=aim,
                  ratio_bare=to_bare)
        rows.append([row, *(f"{median(times[k]):.1f}" for k in ("null", "bare", "mount")),
                     f"{ratio:.2f} x", f"{aim} x" if aim else "-", f"{to_bare:.2f} x",
                     noise(times['null']),
                     verdict(ratio, aim, more_is_better=False)])
    table(f"{TITLE}: write on an open handle, not synced (microseconds, the middle one)",
          ["", "empty mount", "bare mount", "mount", "of empty mount", "aim", "of bare mount",
           "noise", ""], rows)


def validation(bench):
    rounds = str(bench.options.rounds)
    answer = subprocess.run([bench.programs.path("bench_text"), "--json", "--rounds", rounds],
                            check=True, capture_output=True, text=True, timeout=300)
    rows = []
    for got in json.loads(answer.stdout):
        rows.append([f"{got['corpus']}, {got['record_bytes']} bytes",
                     f"{got['vector_gb_s']:.2f}", f"{got['portable_gb_s']:.2f}",
                     f"{got['json_c_gb_s']:.3f}", f"{got['vector_over_json_c']:.1f} x",
                     "14 x, 1.5 GB/s", verdict(got["vector_over_json_c"], 14)
                     or verdict(got["vector_gb_s"], 1.5)])
        bench.add("Validation", **{"row": got["corpus"], **got})
    table("Validation of records, one core (GB/s)",
          ["records", "jsonlfs", "without vectors", "json-c", "of json-c", "aim", ""], rows)


def write_log(path, size):
    """A log of about this size, made outside the mount."""
    line = json.dumps({"seq": 0, "text": "x" * (600 - 24)}).encode() + b"\n"
    block = line * 2048
    with open(path, "wb") as file:
        while file.tell() < size:
            file.write(block)


def reading(bench, mount, source, null):
    size = bench.options.read_size
    path = os.path.join(source, "read.jsonl")
    write_log(path, size)
    through = os.path.join(mount.path, "read.jsonl")
    load = ["-b", 131072]
    bench.load("read", path, *load, seconds=0.2)
    got = bench.rounds({
        "native": lambda: bench.load("read", path, *load),
        "mount": lambda: bench.load("read", through, *load),
        "null": lambda: bench.load("read", os.path.join(null.path, "read"), *load),
    })
    ratio = median(ratios(got["mount"], got["null"], "bytes_per_second"))
    to_native = median(ratios(got["mount"], got["native"], "bytes_per_second"))
    speed = {k: [r["bytes_per_second"] / 1e9 for r in v] for k, v in got.items()}
    row = f"{size >> 20} MiB, reads of 128 KiB"
    bench.add(TITLE, "sequential read, " + row, gigabytes=speed, ratio=ratio, aim=0.9,
              ratio_native=to_native)
    table("Governed files: reading a log from front to back, cached (GB/s)",
          ["", "native", "mount", "empty mount", "of native", "of empty mount", "aim", "noise",
           ""],
          [[row, *(f"{median(speed[k]):.2f}" for k in ("native", "mount", "null")),
            f"{to_native:.2f} x", f"{ratio:.2f} x", "0.9 x", noise(speed['native']),
            verdict(ratio, 0.9)]])


def grown(path, size):
    """A log that is nearly all hole: only its length and its end are real."""
    os.makedirs(path)
    with open(os.path.join(path, "log0.jsonl"), "wb") as file:
        file.seek(size - 9)
        file.write(b'\n{"a":1}\n')


def growth(bench, mount, source, _):
    """The same append to a small and to a large log, with few and with many handles."""
    sizes = [1 << 20, bench.options.grow_size]
    handles = [1, 100] if bench.options.quick else [1, 100, 1000]
    contenders, rows = {}, []

    def one(name, *arguments):
        return lambda: bench.load("append", os.path.join(mount.path, name), "-s", RECORD,
                                  *arguments)
    for size in sizes:
        grown(os.path.join(source, f"grown-{size}"), size)
        contenders[f"open handle, {size >> 20} MiB"] = one(f"grown-{size}", "-m", "w")
    for size in sizes:
        grown(os.path.join(source, f"grown-close-{size}"), size)
        contenders[f"open, write, close, {size >> 20} MiB"] = \
            one(f"grown-close-{size}", "-m", "owc")
    for count in handles:
        os.makedirs(os.path.join(source, f"handles-{count}"))
        contenders[f"{count} handle{'s' * (count > 1)} in turn"] = \
            one(f"handles-{count}", "-m", "w", "-n", count)
    got = bench.rounds(contenders)
    first = None
    for name, results in got.items():
        if name.endswith(" 1 MiB") or name == "1 handle in turn":
            first = results
        ratio = median(ratios(results, first, "p50_us"))
        times = [r["p50_us"] for r in results]
        bench.add("Growth", name, p50_us=times, ratio=ratio, aim=1.1)
        rows.append([name, f"{median(times):.1f}",
                     "1" if results is first else f"{ratio:.2f} x", "1.1 x",
                     noise(times),
                     verdict(ratio, 1.1, more_is_better=False)])
    table("Governed files: an append as the file and the number of handles grow "
          "(microseconds, the middle one)",
          ["", "time", "of the first", "aim", "noise", ""], rows)


def transaction(path, records):
    """Opens, writes records one by one, closes: microseconds a record."""
    line = json.dumps({"seq": 0, "text": "x" * (RECORD - 24)}).encode() + b"\n"
    begin = time.monotonic()
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for _ in range(records):
        os.write(fd, line)
    os.close(fd)
    return {"us": (time.monotonic() - begin) / records * 1e6}


def transactions(bench, mount):
    """What commit=close costs, against commit=line: the rows of one transaction."""
    rows = []
    with bench.jsonlfs(bench.directory("vault-close"), bench.directory("mnt-close"), "-o", "commit=close",
                       *bench.options.arguments) as closing:
        for records in (1, 100, 1000):
            got = bench.rounds({
                "line": lambda: transaction(os.path.join(mount.path, "t.jsonl"), records),
                "close": lambda: transaction(os.path.join(closing.path, "t.jsonl"), records),
            })
            ratio = median(ratios(got["close"], got["line"], "us"))
            times = {k: [r["us"] for r in v] for k, v in got.items()}
            aim = 1.0 if records == 1000 else None
            row = f"{records} record{'s' * (records > 1)}"
            bench.add(TITLE, f"a transaction of {row}", us=times, ratio=ratio, aim=aim)
            rows.append([row, f"{median(times['line']):.1f}", f"{median(times['close']):.1f}",
                         f"{ratio:.2f} x", f"{aim} x" if aim else "-", noise(times["line"]),
                         verdict(ratio, aim, more_is_better=False)])
    table(f"{TITLE}: open, write, close with commit=close (microseconds a record)",
          ["", "commit=line", "commit=close", "ratio", "aim", "noise", ""], rows)


def appends(bench, more=()):
    """What appending costs; then each of `more` on the same mount."""
    source, native = bench.directory("vault"), bench.directory("native")
    with bench.jsonlfs(source, bench.directory("mnt"), *bench.options.arguments) as mount, \
            bench.nullfs(bench.directory("null")) as null, \
            bench.nullfs(bench.directory("bare"),
                         *(os.path.join(native, f"bare{k}") for k in range(FILES))) as bare:
        counted = Counted(bench, mount.path, source)
        closes(bench, counted, null, bare)
        own_sync(bench, counted, bare)
        unsynced(bench, counted, null, bare)
        counted.check()
        for measure in more:
            measure(bench, mount, source, null)


def run(bench):
    validation(bench)
    appends(bench, [reading, growth])
