# SPDX-License-Identifier: MIT
"""jsonlfsctl metrics: the text format of Prometheus, which a parser of our own reads strictly."""

import errno
import json
import os
import re
import signal
from pathlib import Path

import pytest
from util import FAILED, REPO, USAGE, append, ctl, refused, wait_for

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})\{{({LABEL}(?:,{LABEL})*)\}} (\d+)")


def parse_text(data):
    """The exposition format: each metric has HELP, TYPE and then all of its samples, once."""
    text = data.decode("utf-8")
    assert text.endswith("\n")
    found, types, current, helped = {}, {}, None, None
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            helped = line.split(" ", 3)[2]
            assert helped not in types and line.split(" ", 3)[3]
        elif line.startswith("# TYPE "):
            _, _, current, kind = line.split(" ")
            assert current == helped and kind in ("counter", "gauge")
            assert (kind == "counter") == current.endswith("_total")
            types[current] = kind
        else:
            name, labels, value = SAMPLE.fullmatch(line).groups()
            assert name == current and (name, labels) not in found
            found[name, labels] = int(value)
    return found


def of(found, name, where):
    (value,) = [v for (n, labels), v in found.items()
                if n == name and f'mountpoint="{where}"' in labels]
    return value


def test_the_counters_of_all_mounts(mount, workdir):
    one, two = mount(), mount()
    append(one.p("x.jsonl"), b'{"a":1}\n')
    with refused(errno.EBADMSG):
        append(one.p("x.jsonl"), b"bad\n")
    found = parse_text(ctl("metrics").stdout)
    status = json.loads(ctl("status", "--json", one.mnt).stdout)
    for where, records in ((one.mnt, 1), (two.mnt, 0)):
        assert of(found, "jsonlfs_up", where) == 1
        assert of(found, "jsonlfs_records_total", where) == records
    assert of(found, "jsonlfs_refused_total", one.mnt) == 1
    assert of(found, "jsonlfs_quarantine_entries", one.mnt) == 1
    assert of(found, "jsonlfs_quarantine_max_bytes", one.mnt) == status["quarantine"]["max"] > 0
    # Of one, and to a file.
    out = workdir / "jsonlfs.prom"
    p = ctl("metrics", f"--output={out}", two.mnt)
    assert p.stdout == b"" and len(parse_text(out.read_bytes())) > 20
    assert str(one.mnt) not in out.read_text()
    assert b"no jsonlfs is mounted here" in ctl("metrics", workdir, code=FAILED).stderr
    ctl("metrics", "--nonsense", code=USAGE)


def test_every_key_is_in_the_status(m):
    """None of them is always 0 because it is spelt wrongly."""
    status = json.loads(ctl("status", "--json", m.mnt).stdout)
    source = (REPO / "fs/ctl/ask/metrics.c").read_text()
    rows = re.findall(r'\{"(\w+)",\s*"[^"]*",\s*(?:"(\w+)"|NULL),\s*"(\w+)"\}', source)
    assert len(rows) > 20
    for _, group, key in rows:
        assert key in (status[group] if group else status), (group, key)


def test_a_dead_mount_is_down(m):
    m.clean = False
    m.proc.send_signal(signal.SIGKILL)
    m.proc.wait(10)
    for argv in ([], [m.mnt]):
        assert of(parse_text(ctl("metrics", *argv).stdout), "jsonlfs_up", m.mnt) == 0


def test_labels_are_escaped(mount, workdir):
    name = 'a"b\\c\n\x1b'
    source = workdir / name
    source.mkdir()
    m = mount(source=source)
    found = parse_text(ctl("metrics", m.mnt).stdout)
    (labels,) = [labels for n, labels in found if n == "jsonlfs_up"]
    assert 'a\\"b\\\\c' in labels and "\x1b" not in labels


def test_the_alert_rules_name_metrics_that_exist(m):
    text = (REPO / "docs/OPERATING.md").read_text()
    named = set(re.findall(r"jsonlfs_\w+", text))
    assert len(named) >= 8
    assert named <= {n for n, _ in parse_text(ctl("metrics", m.mnt).stdout)}


@pytest.mark.parametrize("bad", ["fifo", "link"])
def test_the_file_is_replaced_and_nothing_else(m, workdir, bad):
    out = workdir / "out"
    if bad == "fifo":
        os.mkfifo(out)
    else:
        os.symlink("/dev/null", out)
    assert ctl("metrics", f"--output={out}", m.mnt, code=FAILED).stderr


@pytest.mark.parametrize("named", [False, True])
def test_a_daemon_that_does_not_answer_keeps_nobody(mount, named):
    """The other mounts are told of all the same."""
    stopped, other = mount(), mount()
    stopped.proc.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: all("State:\tT" in (task / "status").read_text() for task in
                             Path(f"/proc/{stopped.proc.pid}/task").iterdir()), "a stopped daemon")
        argv = [other.mnt, stopped.mnt] if named else []
        found = parse_text(ctl("metrics", *argv, timeout=25).stdout)
    finally:
        stopped.proc.send_signal(signal.SIGCONT)
    assert of(found, "jsonlfs_up", other.mnt) == 1
    assert of(found, "jsonlfs_up", stopped.mnt) == 0
