# SPDX-License-Identifier: MIT
"""What several hosts can append to one log on a distributed file system (tests/hosts): with a
mount each, against the recipe of lock, append, sync, unlock on the same engine without mounts."""

import json
import os
import subprocess
import sys
import time

from rig import TREE, median, ratios, table, verdict

RECORD, WRITERS = 300, 8  # bytes; on each host
AIM = 3.0
TITLE = "Several hosts: appends to one log"


def together(bench, hosts, steps, where):
    """The same load on all of these hosts at once."""
    command = [bench.programs.path("load"), "-s", RECORD, "-w", WRITERS, "-m", steps,
               "-t", bench.options.seconds, "append"]
    running = [subprocess.Popen([*map(str, [*h.enter, *command, where(h)])],
                                stdout=subprocess.PIPE) for h in hosts]
    said = [json.loads(p.communicate(timeout=bench.options.seconds + 120)[0]) for p in running]
    return {"per_second": sum(s["per_second"] for s in said),
            "written": sum(s["written"] for s in said),
            "slowest": max(s["max_us"] for s in said) / 1e6}


def lengths(sides):
    """What is in the log, as each host sees it."""
    return {sum(f.stat().st_size for f in s.seen().iterdir() if f.is_file()) for s in sides}


def mounted(bench, rig, count):
    """On the first `count` hosts; whatever was acknowledged is there."""
    sides = rig.vault()[:count]
    options = [o for o in bench.options.arguments if o != "-o"]
    try:
        for side in sides:
            side.start(*options)
        got = together(bench, [s.host for s in sides], "owc", lambda host: host.mnt)
        # A client may answer for a second from what it remembers of the other's file.
        until = time.monotonic() + 10
        while (sizes := lengths(sides)) != {got["written"] * RECORD}:
            if time.monotonic() > until:
                raise RuntimeError(f"{sizes} bytes, but {got['written']} records of {RECORD} "
                                   "bytes were acknowledged")
            time.sleep(0.2)
        return got
    finally:
        for side in sides:
            side.clear()


def recipe(bench, rig, count):
    sides = rig.vault()[:count]
    where = {s.host: s.source for s in sides}
    return together(bench, list(where), "olwfuc", where.get)


def run(bench):
    os.environ["JSONLFS_BUILD"] = os.path.dirname(os.path.dirname(bench.options.daemon))
    sys.path.insert(0, os.path.join(TREE, "tests", "hosts"))
    from engines import Ceph, Gluster, Moose
    from namespaces import Rig

    kind = {k.name: k for k in (Gluster, Ceph, Moose)}[bench.options.engine]
    rows = []
    with Rig(kind, "ABC") as rig:
        for count in (1, 2, 3):
            got = bench.rounds({"mount": lambda: mounted(bench, rig, count),
                                "recipe": lambda: recipe(bench, rig, count)})
            speed = {k: [r["per_second"] for r in v] for k, v in got.items()}
            ratio = median(ratios(got["mount"], got["recipe"]))
            slowest = {k: max(r["slowest"] for r in v) for k, v in got.items()}
            row = f"{count} host{'s' * (count > 1)}"
            bench.add(TITLE, row, engine=kind.name, rates=speed, ratio=ratio, aim=AIM,
                      slowest=slowest)
            rows.append([row, *(f"{median(speed[k]):.0f}" for k in ("mount", "recipe")),
                         f"{ratio:.2f} x", f"{AIM} x",
                         *(f"{slowest[k]:.2f} s" for k in ("mount", "recipe")),
                         verdict(ratio, AIM)])
    table(f"{TITLE} on {kind.name}, {WRITERS} writers a host: open, write, close (appends a "
          "second)", ["", "mount", "recipe", "of recipe", "aim", "slowest", "of the recipe", ""],
          rows)
