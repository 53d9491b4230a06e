# SPDX-License-Identifier: MIT
"""What an append takes in requests of the kernel, in system calls and in processor time of
the daemon: figures that a busy machine does not change, or hardly, so that they show what a
change of the code did where the times are noise."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time

from rig import Mount, median, table

TITLE = "What an append takes"
PATTERNS = [("open, write, close", "owc"), ("write", "w"), ("write, fsync", "wf"),
            ("open, write, fsync, close", "owfc")]
WRITERS = (1, 16)


def serves_fuse(pid):
    try:
        descriptors = os.scandir(f"/proc/{pid}/fd")
        return any(os.readlink(fd.path) == "/dev/fuse" for fd in descriptors)
    except OSError:
        return False


def daemon_pid(point):
    """The process that serves this mount point, which is the last argument of its command;
    a parent that only watches it has the same command, but not the device."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                arguments = file.read().split(b"\0")
        except OSError:
            continue
        if len(arguments) > 2 and arguments[-2] == os.fsencode(point) and serves_fuse(pid):
            return int(pid)
    raise RuntimeError(f"nobody serves {point}")


def spent(pid):
    """By thread: nanoseconds on a processor and waiting for one, switches to another thread
    (proc(5), schedstat)."""
    threads = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):  # it has ended
            with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                ran, waited, _ = map(int, file.read().split())
            with open(f"/proc/{pid}/task/{thread}/status", encoding="ascii",
                      errors="replace") as file:
                switches = sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
            threads[thread] = (ran, waited, switches)
    return threads


class RequestLog:
    """What a daemon that shows each request was asked."""

    def __init__(self, path, log):
        self.path, self.log, self.start = path, log, 0

    def settle(self):
        """RELEASE is not waited for by the program that closed."""
        size = -1
        while size != os.path.getsize(self.log):
            size = os.path.getsize(self.log)
            time.sleep(0.2)
        return size

    def forget(self):
        self.start = self.settle()

    def counts(self):
        self.settle()
        counts = {}
        with open(self.log, encoding="utf-8", errors="replace") as file:
            file.seek(self.start)
            for line in file:
                found = re.search(r"opcode: (\w+)", line)
                if found and found[1] not in ("INIT", "STATFS", "DESTROY"):
                    counts[found[1]] = counts.get(found[1], 0) + 1
        return counts


@contextlib.contextmanager
def logged_requests(bench, name, command):
    """Mounts with `command`, which shows the requests and gets the mount point appended."""
    log = os.path.join(bench.scratch, "requests.log")
    point = bench.directory(f"{name}-counted")
    with open(log, "wb") as file:
        with Mount(name, [*command, point], point, foreground=True, log=file):
            yield RequestLog(point, log)


def requests(bench, source, load):
    """By opcode, of one append."""
    with logged_requests(bench, "jsonlfs", [bench.options.daemon, "-d", source]) as log:
        done = bench.load("append", os.path.join(log.path, "log"), *load,
                          seconds=0.2)["written"]
        counts = log.counts()
    return {name: round(n / done, 2) for name, n in counts.items() if n / done >= 0.05}


def system_calls(bench, mount, load):
    """By name; None without strace."""
    if not shutil.which("strace"):
        return None
    out = os.path.join(bench.scratch, "strace.out")
    with subprocess.Popen(["strace", "-f", "-c", "-o", out, "-p", str(daemon_pid(mount.path))],
                          stderr=subprocess.DEVNULL) as tracer:
        time.sleep(0.5)
        done = bench.load("append", os.path.join(mount.path, "log"), *load,
                          seconds=0.5)["written"]
        tracer.send_signal(signal.SIGINT)
        tracer.wait(timeout=30)
    counts = {}
    with open(out, encoding="ascii", errors="replace") as file:
        for line in file:
            fields = line.split()
            if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
                counts[fields[-1]] = int(fields[3])
    return {name: round(n / done, 2) for name, n in counts.items() if n / done >= 0.05}


def cost(bench, pid, path, load):
    """Of one append: microseconds of the daemon on a processor, and waiting for one, and its
    switches."""
    values = []
    for _ in range(bench.options.rounds):
        before = spent(pid)
        done = bench.load("append", path, *load)["written"]
        after = spent(pid)
        values.append([sum(now[i] - before.get(thread, (0, 0, 0))[i]
                           for thread, now in after.items()) / done for i in range(3)])
    ran, waited, switches = map(median, zip(*values))
    return ran / 1e3, waited / 1e3, switches


def bare_cost(bench, point, load):
    """The same of a mount that makes the system calls of an append and nothing else."""
    with bench.nullfs(point, os.path.join(bench.scratch, "bare-counted")) as bare:
        return cost(bench, bare.process.pid, bare.path, load)


def listed(counts):
    if counts is None:
        return "-"
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return f"{sum(counts.values()):.1f}: " + ", ".join(f"{k} {v:g}" for k, v in ordered)


def run(bench):
    source = bench.directory("counts")
    os.makedirs(os.path.join(source, "log"))
    point = bench.directory("mnt")
    rows = []
    for name, steps in PATTERNS:
        for writers in WRITERS:
            load = ["-m", steps, "-w", writers]
            shown = requests(bench, source, load)
            with bench.jsonlfs(source, point, *bench.options.arguments) as mount:
                calls = system_calls(bench, mount, load)
                used = cost(bench, daemon_pid(mount.path),
                            os.path.join(mount.path, "log"), load)
            bare = bare_cost(bench, point, load)
            row = f"{name}; {writers} writer{'s' * (writers > 1)}"
            bench.add(TITLE, row, requests=shown, system_calls=calls, cpu_us=used[0],
                      waiting_us=used[1], switches=used[2], bare_cpu_us=bare[0],
                      bare_waiting_us=bare[1], bare_switches=bare[2])
            rows.append([row, listed(shown), listed(calls),
                         *(f"{a:.0f} / {b:.0f}" for a, b in zip(used[:2], bare[:2])),
                         f"{used[2]:.1f} / {bare[2]:.1f}"])
    table(f"{TITLE} (a / b: the bare mount)",
          ["", "requests", "system calls", "on a processor, us", "waiting for one, us",
           "switches"], rows)
