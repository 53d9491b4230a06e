# SPDX-License-Identifier: MIT
"""What it costs that the records of one handle appear as one block: commit=close against
commit=line, which makes each of them durable at the close, too; and class text against a
careful program on the native file system. One open, N writes, one close."""

import json
import os

from rig import median, noise, ratios, table

TITLE = "One block for each open"
RECORDS = (1, 2, 10, 100, 1000)
SIZE = 300


def steps(count, synced=False):
    return "o" + "w" * count + ("f" if synced else "") + "c"


def run(bench):
    config = os.path.join(bench.scratch, "transactions.json")
    with open(config, "w", encoding="utf-8") as file:
        json.dump({"rules": [{"match": "close/*.jsonl", "commit": "close"},
                             {"match": "text/*.jsonl", "class": "text"}]}, file)
    native = bench.directory("native-blocks")
    rows = []
    with bench.jsonlfs(bench.directory("vault-blocks"), bench.directory("mnt-blocks"),
                       "-o", f"config={config}", *bench.options.arguments) as mount:
        where = {name: os.path.join(mount.path, name) for name in ("line", "close", "text")}
        for path in where.values():
            os.makedirs(path, exist_ok=True)
        where["native"] = native
        for count in RECORDS[::2] if bench.options.quick else RECORDS:
            got = bench.rounds({
                name: lambda name=name, path=path: bench.load(
                    "append", path, "-s", SIZE, "-m", steps(count, name == "native"))
                for name, path in where.items()
            })
            for results in got.values():
                for result in results:
                    result["us"] = 1e6 / result["per_second"] / count
            ratio = median(ratios(got["close"], got["line"], "us"))
            text = median(ratios(got["text"], got["native"], "us"))
            times = {k: [r["us"] for r in v] for k, v in got.items()}
            row = f"{count} record{'s' * (count > 1)}"
            bench.add(TITLE, row, us=times, ratio=ratio, ratio_text=text, ratio_is="time",
                      aim=1.0)
            rows.append([row, *(f"{median(times[k]):.1f}" for k in ("line", "close")),
                         f"{ratio:.2f} x", "1.0 x",
                         *(f"{median(times[k]):.1f}" for k in ("native", "text")),
                         f"{text:.2f} x", noise(times["line"])])
    table(f"{TITLE}: open, write each, close (microseconds for a record)",
          ["", "commit=line", "commit=close", "ratio", "aim", "native with fsync", "text", "ratio",
           "noise"], rows)
