"""Plain files, which the mount should not be felt on: side by side with the native file
system and with bindfs, the usual pass-through."""

import json
import os
import shutil
import subprocess
import time

from rig import median, noise, progress, ratios, table, verdict

TITLE = "Plain files"
MIB = 1 << 20


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
    with open(os.path.join(source, "data"), "wb") as file:
        for _ in range(16 if quick else 256):
            file.write(os.urandom(MIB))
    os.makedirs(os.path.join(source, "stat"))
    for number in range(100):
        with open(os.path.join(source, "stat", f"f{number}"), "wb") as file:
            file.write(b"x")
    os.makedirs(os.path.join(source, "new"))
    make_tree(os.path.join(source, "tree"), 500 if quick else 16000)
    make_repository(os.path.join(source, "repository"), 200 if quick else 2000)


def loads(bench):
    """Rates: more is better."""
    written = 16 * MIB if bench.options.quick else 128 * MIB
    return [
        ("sequential read, 1 MiB", 0.95, ["read", "data", "-b", MIB]),
        ("sequential read, 4 KiB", 0.8, ["read", "data", "-b", 4096]),
        ("random read, 4 KiB", 0.9, ["random", "data", "-b", 4096]),
        ("sequential write, 1 MiB", 0.85, ["write", "written", "-b", MIB, "-s", written]),
        ("sequential write, 4 KiB", 0.75, ["write", "written", "-b", 4096, "-s", written]),
    ]


def names(bench):
    return [
        ("stat, warm", 1.2, ["stat", "stat", "-f", 100]),
        ("create, write, close, unlink", 5, ["create", "new"]),
    ]


def commands(bench):
    """Whole programs: less time is better."""
    found = [
        ("find", 1.2, ["find", "tree", "-type", "f", "-newer", "data"]),
        ("ls -lR", 3, ["ls", "-lR", "tree"]),
        ("grep -r", 7, ["grep", "-rc", "needle 96", "tree"]),
        ("ripgrep", 5, ["rg", "-c", "-j2", "needle 96", "tree"]),
        ("git status", 1.3, ["git", "-C", "repository", "--no-optional-locks", "status",
                             "--porcelain"]),
    ]
    return [c for c in found if shutil.which(c[2][0])]


def timed(root, command):
    start = time.perf_counter()
    subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL,
                   stdin=subprocess.DEVNULL, timeout=300)
    return {"seconds": time.perf_counter() - start}


def load_rows(bench, roots, rows):
    for row, aim, (mode, path, *arguments) in loads(bench) + names(bench):
        by_time = mode in ("stat", "create")
        got = bench.rounds({
            name: lambda root=root: bench.load(mode, os.path.join(root, path), *arguments)
            for name, root in roots.items()})
        times = {k: [1e6 / r["per_second"] for r in v] for k, v in got.items()}
        compared = {k: median(ratios(v, got["native"])) for k, v in got.items()}
        if by_time:
            compared = {k: 1 / v for k, v in compared.items()}
        rows.append(cells(bench, row, times, compared, aim, not by_time, "us"))


def command_rows(bench, roots, rows):
    for row, aim, command in commands(bench):
        for root in roots.values():
            timed(root, command)  # warm
        got = bench.rounds({name: lambda root=root: timed(root, command)
                            for name, root in roots.items()})
        times = {k: [r["seconds"] * 1e3 for r in v] for k, v in got.items()}
        compared = {k: median(ratios(v, got["native"], "seconds")) for k, v in got.items()}
        rows.append(cells(bench, row, times, compared, aim, False, "ms"))


def passthrough(mount):
    """Does the kernel read and write plain files by itself?"""
    with open(os.path.join(mount, ".jsonlfs", "status.json"), encoding="utf-8") as file:
        return json.load(file)["passthrough"]["on"]


def cells(bench, row, times, compared, aim, more_is_better, unit):
    """`times` are of one operation; `compared` is a ratio of speed or of time."""
    kind = "speed" if more_is_better else "time"
    if not bench.passthrough:
        # Then the aim is to be no slower than the peer, which has the same means.
        aim = round(compared.get("bindfs", aim), 2)
    bench.add(TITLE, row, times=times, unit=unit, ratio=compared["mount"], aim=aim,
              ratio_is=kind, ratio_bindfs=compared.get("bindfs"))
    peer = f"{compared['bindfs']:.2f} x" if "bindfs" in compared else "-"
    return [row, *(f"{median(times[k]):.2f} {unit}" if k in times else "-"
                   for k in ("native", "mount", "bindfs")),
            f"{compared['mount']:.2f} x {kind}", f"{aim} x", peer,
            noise(times['native']),
            verdict(compared["mount"], aim, more_is_better)]


def measure(bench, roots):
    rows = []
    bench.passthrough = passthrough(roots["mount"])
    load_rows(bench, roots, rows)
    command_rows(bench, roots, rows)
    table(f"{TITLE}: what one takes, and the ratio to native",
          ["", "native", "mount", "bindfs", "mount", "aim", "bindfs", "noise", ""], rows)


def run(bench):
    source = bench.directory("plain")
    progress("making files\n")
    prepare(source, bench.options.quick)
    with bench.jsonlfs(source, bench.directory("mnt"), *bench.options.arguments) as mount:
        roots = {"native": source, "mount": mount.path}
        if not bench.have_bindfs:
            measure(bench, roots)
            return
        with bench.bindfs(source, bench.directory("bindfs")) as peer:
            measure(bench, {**roots, "bindfs": peer.path})
