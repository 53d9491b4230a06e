# SPDX-License-Identifier: MIT
"""Bad lines through the mount, in every manner and mode: what a program was refused is in the
quarantine, byte for byte; what it was not refused is in the log or, if it is no record, in the
quarantine; nothing else is in the log, and nothing in both. With onbad=report the last close of
a program tells of its bad lines, else it does not. JSONLFS_BAD: how many lines, 1,000,000 in
the long run."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from bad_lines import line, number_of
from mount_rig import LONG, PYTHON, vault

LINES = int(os.environ.get("JSONLFS_BAD", "1000000" if LONG else "16000"))
MANNERS = ["single", "together", "pieces", "nonl"]
PROGRAM = Path(__file__).resolve().parent / "bad_lines.py"
# Of each line: it is in the log, in the quarantine.
LOG, ASIDE = 1, 2


def written(v, count):
    """Eight programs write `count` lines; what each line was answered, and each last close."""
    share = count // (2 * len(MANNERS))
    programs = [subprocess.Popen([PYTHON, PROGRAM, v.mnt / f"log{n % 2}.jsonl", str(n * share),
                                  str(share), MANNERS[n % len(MANNERS)]],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
                for n in range(2 * len(MANNERS))]
    told = [p.communicate(timeout=24 * 3600)[0] for p in programs]
    assert all(p.returncode == 0 for p in programs)
    assert all(len(answers) == share + 1 for answers in told)
    return b"".join(t[:-1] for t in told), b"".join(t[-1:] for t in told)


def is_record(data):
    """By another parser than ours."""
    try:
        json.loads(data.decode())
    except (ValueError, RecursionError):
        return False
    return True


def judge(v, told):
    """What is wrong, or None; and how many lines were taken, and are set aside."""
    where = bytearray(len(told))
    for log in v.src.glob("log*.jsonl"):
        data = log.read_bytes()
        if data and not data.endswith(b"\n"):
            return f"{log.name} does not end with a newline", {}
        for text in data.split(b"\n")[:-1]:
            number = number_of(text)
            if number is None or number >= len(told) or text + b"\n" != line(number):
                return f"nobody wrote {text!r}", {}
            if not is_record(text):
                return f"in the log and no record: {text!r}", {}
            if where[number]:
                return f"twice in the log: {text!r}", {}
            where[number] = LOG
    for entry in (v.src / ".jsonlfs" / "quarantine").glob("*"):
        for text in entry.read_bytes().split(b"\n"):
            number = number_of(text)
            if number is not None and number < len(told) and text + b"\n" == line(number):
                where[number] |= ASIDE
    counts = {"lines": len(told), "refused": told.count(b"0"), "in the log": where.count(LOG),
              "set aside": where.count(ASIDE)}
    for number, place in enumerate(where):
        refused = told[number] == ord("0")
        if place == 0:
            return f"{'refused' if refused else 'taken'} and gone: {line(number)!r}", counts
        if place == LOG | ASIDE:
            return f"in the log and set aside: {line(number)!r}", counts
        if refused and place == LOG:
            return f"refused, and in the log: {line(number)!r}", counts
        if place == ASIDE and not refused and is_record(line(number)):
            return f"a record, taken and set aside: {line(number)!r}", counts
    return None, counts


def run(v, count, onbad="report", broken=None):
    v.start("quarantine_max=64G", f"onbad={onbad}", threads=True, broken=broken)
    told, closes = written(v, count)
    status = v.stop()
    wrong, counts = judge(v, told)
    # The last manner closes a descriptor that it has not written to.
    last = (b"---+" if onbad == "report" else b"++++") * 2
    if not wrong and closes != last:
        wrong = f"the last closes said {closes}, not {last}"
    return wrong or (f"the daemon ended with {status}" if status else None), counts, told


@pytest.mark.parametrize("onbad", ["report", "quarantine", "refuse"])
def test_bad_lines(onbad):
    with vault() as v:
        wrong, counts, _ = run(v, LINES // 2, onbad)
        print(f"\nonbad={onbad}: {counts}, verdict: {wrong or 'each in its place'}")
        assert wrong is None
        assert counts["set aside"] > counts["in the log"] > 0
        # Only onbad=refuse refuses whatever it sets aside.
        assert (counts["set aside"] > counts["refused"]) == (onbad != "refuse")


def test_what_is_not_kept_is_seen():
    with vault() as v:
        wrong, _, _ = run(v, 800, "refuse", broken="unsaved")
    assert wrong and "refused and gone" in wrong, wrong


def test_the_judge_sees_damage():
    with vault() as v:
        wrong, _, told = run(v, 800)
        assert wrong is None
        log = v.src / "log0.jsonl"
        kept = sorted((v.src / ".jsonlfs" / "quarantine").iterdir())
        good, aside = log.read_bytes(), kept[0].read_bytes()
        first = good.split(b"\n")[0] + b"\n"
        for damaged in (good[len(first):], good + first, good[:-1], b"{}\n" + good):
            log.write_bytes(damaged)
            assert judge(v, told)[0], damaged[:80]
        log.write_bytes(good)
        for damaged in (aside[:-3], b"x" + aside, aside + first):
            kept[0].write_bytes(damaged)
            assert judge(v, told)[0], damaged
        kept[0].write_bytes(aside)
        assert judge(v, told)[0] is None
