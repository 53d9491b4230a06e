# SPDX-License-Identifier: MIT
"""A thousand writers at once, on one file and on a hundred: nothing lost, nothing twice,
nothing torn, and the daemon's memory and descriptors as flat in the end as in the beginning.
JSONLFS_RECORDS: how many in all, 10,000,000 in the long run."""

import os
import subprocess
import time

import pytest

from mount_rig import BUILD, LONG, vault

WRITERS = 1000
RECORDS = int(os.environ.get("JSONLFS_RECORDS", "10000000" if LONG else "100000"))
PROGRAM = BUILD / "tests" / "crash" / "load_writers"
# What a daemon may take, whatever is written: memory in KiB, and from one half of a run to
# the other. Descriptors: how many files are open at a moment is chance, with up to three each
# (to read, to append, of the directory that is to be synced).
MEMORY, MORE_MEMORY, MORE_FILES, PER_FILE = 64 << 10, 4 << 10, 16, 3


def usage(pid):
    """(KiB of memory, descriptors) of a process."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        memory = next(line.split()[1] for line in f if line.startswith("VmRSS:"))
    return int(memory), len(os.listdir(f"/proc/{pid}/fd"))


def grown(samples, files=0):
    """None, or what has grown: samples are (part of the work that is done, KiB,
    descriptors); `files`: so many are open now and then."""
    early = [s for s in samples if s[0] < 0.5]
    late = [s for s in samples if s[0] >= 0.5]
    if not early or not late:
        return f"too few samples: {len(early)} and {len(late)}"
    peaks = [[max(s[i] for s in half) for i in (1, 2)] for half in (early, late)]
    if max(peaks[0][0], peaks[1][0]) > MEMORY:
        return f"{max(peaks[0][0], peaks[1][0])} KiB of memory"
    if peaks[1][0] > peaks[0][0] + MORE_MEMORY:
        return f"memory grew from {peaks[0][0]} to {peaks[1][0]} KiB"
    if peaks[1][1] > max(peaks[0][1] + MORE_FILES, files and files * PER_FILE + 50):
        return f"descriptors grew from {peaks[0][1]} to {peaks[1][1]}"
    return None


def judge(v, files, count):
    """None, or what the judge says of the backing files."""
    p = subprocess.run([PROGRAM, "check", v.src, str(WRITERS), str(files), str(count)],
                       stderr=subprocess.PIPE, timeout=3600, check=False)
    assert p.returncode in (0, 1), p
    return p.stderr.decode() if p.returncode else None


def follow(v, program):
    """Samples of the daemon until the program ends: (bytes written, KiB, descriptors)."""
    samples = []
    while program.poll() is None:
        written = sum(f.stat().st_size for f in v.src.glob("*.jsonl"))
        samples.append((written, *usage(v.daemon.pid)))
        time.sleep(0.02 if len(samples) < 1000 else 1)
    total = samples[-1][0]
    return [(s[0] / total, *s[1:]) for s in samples]


@pytest.mark.parametrize("files", [1, 100])
def test_a_thousand_writers(files):
    count = RECORDS // 2 // WRITERS
    with vault() as v:
        v.start(threads=True)
        # Writers that wait for each other in the kernel use up the time that the daemon
        # needs: on two processors a hundred files take four times as long without this.
        program = subprocess.Popen(
            ["nice", PROGRAM, "run", v.mnt, str(WRITERS), str(files), str(count)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        samples = follow(v, program)
        seconds, _ = program.communicate(timeout=60)
        assert program.returncode == 0
        assert v.stop() == 0
        wrong = judge(v, files, count) or grown(samples, files)
        print(f"\n{WRITERS} writers, {files} files, {WRITERS * count} records in "
              f"{float(seconds):.1f} s, at most {max(s[1] for s in samples)} KiB and "
              f"{max(s[2] for s in samples)} descriptors, verdict: {wrong or 'nothing lost'}")
        assert wrong is None
        assert v.saved() == b""


def test_the_judge_sees_damage():
    """Each kind of damage, and each kind of growth, is seen."""
    with vault() as v:
        v.start(threads=True)
        subprocess.run([PROGRAM, "run", v.mnt, str(WRITERS), "1", "3"], check=True,
                       stdout=subprocess.DEVNULL)
        assert v.stop() == 0
        log = v.src / "log0.jsonl"
        good = log.read_bytes().splitlines(keepends=True)
        assert len(good) == 3 * WRITERS and judge(v, 1, 3) is None
        of_first = [n for n, line in enumerate(good) if line.startswith(b'{"w":0,')]
        a, b = of_first[0], of_first[1]
        swapped = good.copy()
        swapped[a], swapped[b] = good[b], good[a]
        torn = good.copy()
        torn[a] = good[a][:10] + b"\n"
        for damaged in (good[:-1], good + good[-1:], swapped, torn, good[:a] + good[a + 1 :],
                        good + [b'{"w":0,"n":3}\n'], [b"".join(good)[:-1]]):
            log.write_bytes(b"".join(damaged))
            assert judge(v, 1, 3)
    flat = [(n / 100, 9000 + n % 7, 30) for n in range(100)]
    assert grown(flat) is None
    assert "memory grew" in grown([(p, m + int(9000 * p), f) for p, m, f in flat])
    assert "descriptors" in grown([(p, m, f + int(60 * p)) for p, m, f in flat])
    assert "KiB of memory" in grown([(p, m + 60000, f) for p, m, f in flat])
