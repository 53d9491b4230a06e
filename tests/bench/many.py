# SPDX-License-Identifier: MIT
"""What many logs cost: a thousand programs on a log each, and far more logs than the daemon
may have descriptors, opened in turn: time of an append, memory and descriptors of the
daemon."""

import os
import threading

from counts import daemon_pid
from rig import table

TITLE = "Many logs"
WRITERS = 1000
LOGS = 100_000
PASSES = 3
IN_TURN = 4  # programs


def memory(pid):
    """Resident memory, in MiB; and open descriptors."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        rss = next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
    return rss / 1024, len(os.listdir(f"/proc/{pid}/fd"))


class Watched:
    """The most that the daemon used during a `with` block."""

    def __init__(self, pid):
        self.pid, self.most, self.end = pid, (0, 0), threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        while True:
            self.most = tuple(map(max, self.most, memory(self.pid)))
            if self.end.wait(0.2):
                return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.end.set()
        self.thread.join()


def measured(bench, pid, path, name, *load, **how):
    with Watched(pid) as daemon:
        got = bench.load("append", path, *load, **how)
    ratio = got["p99_us"] / got["p50_us"]
    bench.add(TITLE, name, p50_us=got["p50_us"], p99_us=got["p99_us"], ratio=ratio, aim=10,
              memory_mib=daemon.most[0], descriptors=daemon.most[1],
              per_second=got["per_second"], ratio_is="time")
    return got["written"], [
        name, f"{got['per_second']:.0f}", f"{got['p50_us']:.0f}", f"{got['p99_us']:.0f}",
        f"{ratio:.1f} x", "10 x", f"{daemon.most[0]:.1f}", f"{daemon.most[1]}"]


def run(bench):
    quick = bench.options.quick
    writers, logs = (50, 2000) if quick else (WRITERS, LOGS)
    source = bench.directory("vault-many")
    rows, written = [], 0
    for name in ("own", "turn"):
        os.makedirs(os.path.join(source, name))
    with bench.jsonlfs(source, bench.directory("mnt-many"),
                       *bench.options.arguments) as mount:
        pid = daemon_pid(mount.path)
        own = os.path.join(mount.path, "own")
        load = ["-w", writers, "-f", writers, "-s", 300, "-m", "owc"]
        # The first open of each log waits for the others': the kernel holds the directory's
        # lock while it asks for a name that it does not know.
        written += bench.load("append", own, *load, "-c", 1)["written"]
        n, row = measured(bench, pid, own, f"{writers} programs, a log each", *load,
                          seconds=1 if quick else 10)
        written += n
        rows.append(row)
        for turn in range(PASSES):
            n, row = measured(bench, pid, os.path.join(mount.path, "turn"),
                              f"{logs} logs in turn, {IN_TURN} programs, "
                              f"{'first' if not turn else 'again'}",
                              "-w", IN_TURN, "-f", logs, "-c", logs // IN_TURN, "-s", 300,
                              "-m", "owc", seconds=1800)
            written += n
            rows.append(row)
    size = sum(entry.stat().st_size for name in ("own", "turn")
               for entry in os.scandir(os.path.join(source, name)))
    if size != written * 300:
        raise RuntimeError(f"{size} bytes, but {written} records of 300 were acknowledged")
    table(TITLE, ["open, write, close", "appends a second", "middle one, us", "99 %, us",
                  "of the middle one", "aim", "memory, MiB", "descriptors"], rows)
