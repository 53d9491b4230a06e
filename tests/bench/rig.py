# SPDX-License-Identifier: MIT
"""What every benchmark needs: programs that are built, mounts that come and go, loads that
are measured in turn, and tables. Nothing here may hang: every program has a time limit,
and a mount that does not answer any more is aborted and detached."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))


def pkg_config(*packages):
    answer = subprocess.run(["pkg-config", "--cflags", "--libs", *packages],
                            check=True, capture_output=True, text=True)
    return answer.stdout.split()


class Programs:
    """The load programs: those of a build directory, or built here from their sources."""

    SOURCES = {
        "load": (["tests/bench/load.c"], []),
        "nullfs": (["tests/bench/nullfs.c"], ["fuse3"]),
        "bench_text": (["tests/bench/bench_text.c", "lib/json/text.c", "lib/json/text_tokens.c",
                        "lib/json/text_vector.c", "lib/base/error.c"], ["json-c"]),
    }

    def __init__(self, build, scratch):
        self.build = build
        self.scratch = scratch

    def path(self, name):
        if self.build:
            there = os.path.join(self.build, "tests/bench", name)
            if os.access(there, os.X_OK):
                return there
        out = os.path.join(self.scratch, name)
        if not os.path.exists(out):
            sources, packages = self.SOURCES[name]
            command = [os.environ.get("CC", "cc"), "-O2", "-std=gnu17", "-D_GNU_SOURCE",
                       "-D_FILE_OFFSET_BITS=64", f"-I{TREE}/lib", "-o", out]
            command += [os.path.join(TREE, s) for s in sources]
            command += pkg_config(*packages) if packages else []
            subprocess.run([*command, "-pthread"], check=True)
        return out


class Mount:
    """A mounted file system, for a `with` block."""

    def __init__(self, name, command, point, foreground=False, log=None):
        self.name, self.command, self.path = name, command, point
        self.foreground, self.log = foreground, log
        self.process = None
        self.device = None

    def __enter__(self):
        os.makedirs(self.path, exist_ok=True)
        before = os.stat(self.path).st_dev
        if self.foreground:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL,
                                            stderr=self.log)
        else:
            subprocess.run(self.command, check=True, timeout=30, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while os.stat(self.path).st_dev == before:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}: not mounted: {' '.join(self.command)}")
            time.sleep(0.02)
        self.device = os.stat(self.path).st_dev
        return self

    def abort(self):
        """Cuts the kernel off: whoever waits for an answer gets an error."""
        control = f"/sys/fs/fuse/connections/{os.minor(self.device)}/abort"
        try:
            with open(control, "w", encoding="ascii") as file:
                file.write("1")
        except OSError:
            pass

    def __exit__(self, *error):
        for _ in range(50):
            done = subprocess.run(["umount", self.path], capture_output=True, timeout=60,
                                  check=False)
            if done.returncode == 0:
                break
            time.sleep(0.1)
        else:
            if self.device:
                self.abort()
            subprocess.run(["umount", "-l", self.path], check=False, timeout=60)
        if self.process:
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                print(f"{self.name}: unmounted, but did not end: killed", file=sys.stderr)
                self.process.kill()
                self.process.wait(timeout=30)


class Bench:
    """One run: where it works, how long it takes, and what it has found."""

    def __init__(self, options, scratch):
        self.options = options
        self.scratch = scratch
        self.programs = Programs(options.build, scratch)
        self.results = []
        self.have_bindfs = shutil.which("bindfs") is not None

    def directory(self, name):
        path = os.path.join(self.scratch, name)
        os.makedirs(path, exist_ok=True)
        return path

    def jsonlfs(self, source, point, *arguments, log=None):
        """With a log, in the foreground."""
        return Mount("jsonlfs", [self.options.daemon, *arguments, source, point], point,
                     foreground=log is not None, log=log)

    def nullfs(self, point, *files):
        """With files, one that appends to them and syncs, and does nothing else."""
        command = [self.programs.path("nullfs"), point, *files]
        return Mount("nullfs", command, point, foreground=True)

    def bindfs(self, source, point):
        # Multi-threaded is its default; so is one second of attributes and names.
        return Mount("bindfs", ["bindfs", source, point], point)

    def load(self, mode, path, *arguments, seconds=None):
        seconds = seconds or self.options.seconds
        command = [self.programs.path("load"), *map(str, arguments), "-t", str(seconds),
                   mode, path]
        answer = subprocess.run(command, check=True, capture_output=True, text=True,
                                timeout=seconds + 60)
        return json.loads(answer.stdout)

    def rounds(self, contenders, rounds=None):
        """Runs every contender in turn, again and again; {name: [result, ...]}."""
        results = {name: [] for name in contenders}
        for number in range(rounds or self.options.rounds):
            for name, run in contenders.items():
                results[name].append(run())
            progress(".")
        progress("\n")
        return results

    def add(self, table, row, **values):
        self.results.append({"table": table, "row": row, **values})


def progress(text):
    if sys.stderr.isatty():
        sys.stderr.write(text)
        sys.stderr.flush()


def median(values):
    return statistics.median(values)


def ratios(of, to, key="per_second"):
    """Round by round, because what disturbs one of a pair often disturbs the other."""
    return [a[key] / b[key] for a, b in zip(of, to)]


def noise(values):
    """From the lowest to the highest, in percent of the median."""
    if len(values) < 2:
        return "-"
    return f"{(max(values) - min(values)) / median(values) * 100:.0f} %"


def verdict(value, aim, more_is_better=True):
    if aim is None:
        return ""
    good = value >= aim if more_is_better else value <= aim
    return "" if good else "short"


def table(title, heads, rows):
    """Prints a table as Markdown that is readable as it is."""
    cells = [[str(c) for c in row] for row in rows]
    widths = [max(len(row[i]) for row in [heads, *cells]) for i in range(len(heads))]
    print(f"\n### {title}\n")

    def line(row):
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        return "| " + " | ".join([first, *rest]) + " |"

    print(line(heads))
    print("| " + "-" * widths[0] + " | " +
          " | ".join("-" * (width - 1) + ":" for width in widths[1:]) + " |")
    for row in cells:
        print(line(row))
    sys.stdout.flush()
