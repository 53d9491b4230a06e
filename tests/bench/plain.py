# SPDX-License-Identifier: MIT
"""Plain files, which the mount should not be felt on: side by side with the native file
system and with bindfs, the usual pass-through; and which requests each row costs."""

import contextlib
import fnmatch
import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass

from counts import listed, logged_requests
from rig import median, noise, progress, table, verdict

TITLE = "Plain files"
REQUESTS = "Plain files: requests"
ROUND_TRIPS = "Plain files: one operation on one file"
MIB = 1 << 20


@dataclass
class Row:
    """One kind of work. A load reports operations a second, a command is run to its end;
    what is compared with native is the speed or the time."""
    name: str
    aim: float
    is_time: bool
    load: tuple = None
    command: tuple = None
    per: int = 1  # operations of a command, for the requests
    noxattr: bool = False

    def once(self, bench, root):
        """Seconds of one operation or of the whole command."""
        if self.load:
            mode, path, *arguments = self.load
            got = bench.load(mode, os.path.join(root, path), *arguments)
            return 1 / got["per_second"], got["ops"]
        start = time.perf_counter()
        subprocess.run(self.command, cwd=root, check=True, stdout=subprocess.DEVNULL,
                       stdin=subprocess.DEVNULL, timeout=300)
        return time.perf_counter() - start, self.per

    def warm(self, bench, root):
        """Names and attributes are remembered for a second, and others have had their turn
        since: a warm command is one that was run just before."""
        if self.command:
            self.once(bench, root)


def all_rows(quick):
    written = 16 * MIB if quick else 128 * MIB
    files, tracked = sizes(quick)
    ls = ("ls", "-lR", "tree")

    def speed(name, aim, *load):
        return Row(name, aim, False, load=load)

    def program(name, aim, per, *command, **more):
        return Row(name, aim, True, command=command, per=per, **more)

    rows = [
        speed("sequential read, 1 MiB", 0.95, "read", "data", "-b", MIB),
        speed("sequential read, 4 KiB", 0.8, "read", "data", "-b", 4096),
        speed("random read, 4 KiB", 0.9, "random", "data", "-b", 4096),
        speed("sequential write, 1 MiB", 0.85, "write", "written", "-b", MIB, "-s", written),
        speed("sequential write, 4 KiB", 0.75, "write", "written", "-b", 4096, "-s", written),
        Row("stat", 1.2, True, load=("stat", "stat", "-f", 100)),
        Row("create, write, close, unlink", 5, True, load=("create", "new")),
        program("find", 1.2, files, "find", "tree", "-type", "f", "-newer", "data"),
        program("ls -lR", 3, files, *ls),
        program("ls -lR, noxattr", 1, files, *ls, noxattr=True),
        program("ripgrep", 5, files, "rg", "-c", "-j2", "needle 96", "tree"),
        program("grep -r", 7, files, "grep", "-rc", "needle 96", "tree"),
        program("git status", 1.3, tracked, "git", "-C", "repository",
                "--no-optional-locks", "status", "--porcelain"),
    ]
    return [r for r in rows if r.load or shutil.which(r.command[0])]


# ---- what is measured on ----


def sizes(quick):
    """Files of the tree, and of the repository."""
    return (500, 200) if quick else (16000, 2000)


def make_tree(root, files):
    """Small files in directories of one hundred."""
    for number in range(files):
        path = os.path.join(root, f"d{number // 100}")
        if number % 100 == 0:
            os.makedirs(path)
        with open(os.path.join(path, f"f{number % 100}"), "w", encoding="ascii") as file:
            file.write(f"file {number}\nneedle {number % 97}\n" + "some words of text\n" * 40)


def make_repository(root, files):
    make_tree(root, files)
    git = ["git", "-C", root, "-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "all"], check=True)


def prepare(source, quick):
    files, tracked = sizes(quick)
    with open(os.path.join(source, "data"), "wb") as file:
        for _ in range(16 if quick else 256):
            file.write(os.urandom(MIB))
    os.makedirs(os.path.join(source, "stat"))
    for number in range(100):
        with open(os.path.join(source, "stat", f"f{number}"), "wb") as file:
            file.write(b"x")
    os.makedirs(os.path.join(source, "new"))
    make_tree(os.path.join(source, "tree"), files)
    make_repository(os.path.join(source, "repository"), tracked)
    # Git looks again into files that are as young as its index, and the kernel writes
    # the pages back: neither is what is measured.
    subprocess.run(["sync", "-f", source], check=True)
    time.sleep(1.1)
    subprocess.run(["git", "-C", os.path.join(source, "repository"), "status"], check=True,
                   stdout=subprocess.DEVNULL)


# ---- measuring ----


def turn(bench, row, root):
    row.warm(bench, root)
    return row.once(bench, root)[0]


def measure_row(bench, row, roots):
    times = bench.rounds({name: lambda root=root: turn(bench, row, root)
                          for name, root in roots.items()})
    ratio = {}
    for name in roots:
        pairs = zip(times[name], times["native"])
        ratio[name] = median([t / n if row.is_time else n / t for t, n in pairs])
    aim, peer = row.aim, ratio.get("bindfs")
    if not bench.passthrough and peer:
        # The same means as the peer has: then the aim is to be no slower.
        aim = peer
    unit, scale = ("ms", 1e3) if row.command else ("us", 1e6)
    bench.add(TITLE, row.name, unit=unit, ratio=ratio["mount"], aim=aim,
              ratio_is="time" if row.is_time else "speed", ratio_bindfs=peer,
              times={k: [t * scale for t in v] for k, v in times.items()})
    cells = [row.name, *(f"{median(times[k]) * scale:.2f} {unit}" if k in times else "-"
                         for k in ("native", "mount", "bindfs")),
             f"{ratio['mount']:.2f} x {'time' if row.is_time else 'speed'}",
             f"{aim:.2f} x", f"{peer:.2f} x" if peer else "-", noise(times["native"]),
             verdict(ratio["mount"], aim, not row.is_time)]
    progress(" | ".join(cells) + "\n")
    return cells


def passthrough(mount):
    """Does it say that the kernel reads and writes plain files by itself?"""
    with open(os.path.join(mount, ".jsonlfs", "status.json"), encoding="utf-8") as file:
        return json.load(file)["passthrough"]["on"]


def arguments_of(bench, row):
    return [*bench.options.arguments, *(["-o", "noxattr"] if row.noxattr else [])]


def measure(bench, source, rows):
    cells = []
    with bench.jsonlfs(source, bench.directory("mnt"), *bench.options.arguments) as mount:
        bench.passthrough = passthrough(mount.path)
    for row in rows:
        with bench.jsonlfs(source, bench.directory("mnt"), *arguments_of(bench, row)) as mount:
            roots = {"native": source, "mount": mount.path}
            if not bench.have_bindfs:
                cells.append(measure_row(bench, row, roots))
                continue
            with bench.bindfs(source, bench.directory("bindfs")) as peer:
                cells.append(measure_row(bench, row, {**roots, "bindfs": peer.path}))
    state = "on" if bench.passthrough else "off"
    table(f"{TITLE}: what one takes, and the ratio to native; kernel passthrough is {state}",
          ["", "native", "mount", "bindfs", "mount", "aim", "bindfs", "noise", ""], cells)


# ---- what a round trip takes ----


def round_trips(bench, source):
    """One operation on one file, beside a mount that answers at once: the part of it that
    no file system of this kind can save."""
    steps = [("stat", "stat", "stat"), ("open, close", "open", "stat"),
             ("listxattr", "listxattr", "stat"),
             ("create, write, close, unlink", "create", "new")]
    cells = []
    with bench.jsonlfs(source, bench.directory("mnt"), *bench.options.arguments) as mount, \
            bench.nullfs(bench.directory("null")) as null, \
            contextlib.ExitStack() as stack:
        roots = {"native": source, "mount": mount.path, "empty": null.path}
        if bench.have_bindfs:
            peer = stack.enter_context(bench.bindfs(source, bench.directory("bindfs")))
            roots["bindfs"] = peer.path
        for name, mode, path in steps:
            row = Row(name, None, True, load=(mode, path, "-f", 100))
            times = bench.rounds({k: lambda root=root: row.once(bench, root)[0] * 1e6
                                  for k, root in roots.items()})
            bench.add(ROUND_TRIPS, name, unit="us", times=times)
            cells.append([name, *(f"{median(times[k]):.2f}" if k in times else "-"
                                  for k in ("native", "mount", "empty", "bindfs")),
                          noise(times["empty"])])
    table(f"{ROUND_TRIPS} (microseconds)",
          ["", "native", "mount", "empty mount", "bindfs", "noise"], cells)


# ---- requests ----


def count_row(bench, source, row, name):
    """Requests of one operation, warm. Nothing expires meanwhile, since showing each
    request makes them slow."""
    long = ["-o", "attr_timeout=3600,entry_timeout=3600"]
    if name == "bindfs":
        command = ["bindfs", "-d", *long, source]
    else:
        command = [bench.options.daemon, "-d", *long, *arguments_of(bench, row), source]
    with logged_requests(bench, name, command) as log:
        row.once(bench, log.path)
        log.forget()
        operations = row.once(bench, log.path)[1]
        counts = log.counts()
    return {k: n / operations for k, n in counts.items()}


def count(bench, source, rows):
    cells = []
    seconds, bench.options.seconds = bench.options.seconds, 0.2
    for row in rows:
        got = {name: count_row(bench, source, row, name)
               for name in ["mount"] + ["bindfs"] * bench.have_bindfs}
        asked = {"READ", "WRITE"} & set(got["mount"])
        if bench.passthrough and row.load and row.load[0] in ("read", "random", "write"):
            # What status.json says is not enough.
            if asked:
                raise RuntimeError(f"{row.name}: kernel passthrough is on, but the daemon "
                                   f"was asked for {', '.join(asked)}")
        bench.add(REQUESTS, row.name, requests=got)
        cells.append([row.name, *(listed({k: float(f"{n:.2g}") for k, n in got[name].items()
                                          if n >= 0.001})
                                  if name in got else "-" for name in ("mount", "bindfs"))])
    bench.options.seconds = seconds
    table(f"{REQUESTS} of one operation, or for each file", ["", "mount", "bindfs"], cells)


def run(bench):
    rows = all_rows(bench.options.quick)
    if bench.options.rows:
        rows = [r for r in rows if fnmatch.fnmatch(r.name, bench.options.rows)]
    source = bench.directory("plain")
    progress("making files\n")
    prepare(source, bench.options.quick)
    measure(bench, source, rows)
    if not bench.options.rows:
        round_trips(bench, source)
    count(bench, source, rows)
