# SPDX-License-Identifier: MIT
"""Documents and text logs of two daemons over one directory."""

import json
import subprocess
import time

import pytest
from util import PYTHON, running

COUNT = """
import errno, json, os, sys, time
path, end, done = sys.argv[1], float(sys.argv[2]), 0
while time.monotonic() < end:
    try:
        with open(path, "r+") as f:
            n = json.load(f)["n"]
            f.seek(0)
            f.write(json.dumps({"n": n + 1}))
            f.truncate()
        done += 1
    except OSError as e:
        if e.errno not in (errno.EBUSY, errno.ESTALE, errno.EAGAIN):
            raise
print(done)
"""

RENAME = COUNT.replace('''        with open(path, "r+") as f:
            n = json.load(f)["n"]
            f.seek(0)
            f.write(json.dumps({"n": n + 1}))
            f.truncate()
''', '''        with open(path) as f:
            n = json.load(f)["n"]
        temp = f"{path}.{os.getpid()}"
        with open(temp, "w") as f:
            f.write(json.dumps({"n": n + 1}))
        os.rename(temp, path)
''')

BLOCKS = """
import os, sys, time
path, me, end, done = sys.argv[1], sys.argv[2], float(sys.argv[3]), 0
while time.monotonic() < end:
    done += 1
    with open(path, "a") as f:
        for part in range(3):
            print(me, done, part, file=f, flush=True)
print(done)
"""


@pytest.fixture
def pair(mount, workdir):
    config = workdir / "rules.json"
    config.write_text(json.dumps({"rules": [{"match": "*.json", "class": "replace"},
                                            {"match": "*.md", "class": "text"}]}))
    options = (f"config={config}", "lostupdate=refuse")
    a = mount(*options, self_mount=False)
    return a, mount(*options, source=a.source, self_mount=False)


def sums(procs):
    total = 0
    for p in procs:
        out, err = p.communicate(timeout=60)
        assert p.returncode == 0, err.decode()
        total += int(out)
    return total


@pytest.mark.parametrize("how", ["rewrite", "rename"])
def test_no_update_of_a_document_is_lost(pair, how):
    a, b = pair
    (a.source / "n.json").write_text('{"n": 0}')
    end = str(time.monotonic() + 4)
    program = {"rewrite": COUNT, "rename": RENAME}[how]
    with running(PYTHON, "-c", program, a.p("n.json"), end, stderr=subprocess.PIPE) as p, \
         running(PYTHON, "-c", program, a.p("n.json"), end, stderr=subprocess.PIPE) as q, \
         running(PYTHON, "-c", program, b.p("n.json"), end, stderr=subprocess.PIPE) as r, \
         running(PYTHON, "-c", program, b.p("n.json"), end, stderr=subprocess.PIPE) as s:
        done = sums((p, q, r, s))
    assert done > 10
    assert json.loads((a.source / "n.json").read_text()) == {"n": done}


def test_blocks_of_text_stay_whole(pair):
    a, b = pair
    (a.source / "x.md").write_text("")
    end = str(time.monotonic() + 3)
    with running(PYTHON, "-c", BLOCKS, a.p("x.md"), "a", end) as p, \
         running(PYTHON, "-c", BLOCKS, a.p("x.md"), "b", end) as q, \
         running(PYTHON, "-c", BLOCKS, b.p("x.md"), "c", end) as r, \
         running(PYTHON, "-c", BLOCKS, b.p("x.md"), "d", end) as s:
        done = sums((p, q, r, s))
    lines = (a.source / "x.md").read_text().splitlines()
    blocks = [tuple(lines[k:k + 3]) for k in range(0, len(lines), 3)]
    assert len(set(blocks)) == len(blocks) == done
    for block in blocks:
        assert [line.rsplit(" ", 1)[1] for line in block] == ["0", "1", "2"], block
        assert len({line.rsplit(" ", 1)[0] for line in block}) == 1, block
