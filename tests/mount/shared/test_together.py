# SPDX-License-Identifier: MIT
"""Two daemons over one directory, programs on both: nothing is lost, torn or doubled."""

import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from writers import assert_whole, writing  # noqa: E402

SECONDS = float(os.environ.get("JSONLFS_SHARED_SECONDS", "4"))


@pytest.fixture(params=["local", "remote"])
def pair(request, mount):
    """pair(*options) -> two mounts of one directory: of a disk's file system, or of one that a
    host may see old bytes of, for which a FUSE file system stands that passes everything on."""
    both = []

    def factory(*options):
        source = None
        if request.param == "remote":
            source = mount("match=no-log-at-all", self_mount=False).mnt / "below"
            source.mkdir()
        for _ in range(2):
            both.append(mount(*options, source=source, self_mount=False))
            source = both[0].source
        assert all(m.status()["shared"]["on"] for m in both)
        return both

    yield factory
    for m in both:
        m.stop()
        m.forget()  # its descriptor keeps the file system below busy


def test_appends_alone(pair, workdir):
    a, b = pair()
    with writing(workdir, (a, b), "x.jsonl", SECONDS) as (_, acknowledged):
        acked = acknowledged()
    assert_whole([a.b("x.jsonl")], acked)


def test_a_rewrite_by_one_does_not_strand_the_handles_of_the_other(pair, workdir):
    a, b = pair("rewrite=archive")
    (a.b("x.jsonl")).write_bytes(b"")
    rewrites = 0
    with writing(workdir, (a, b), "x.jsonl", SECONDS) as (runs, acknowledged):
        while runs():
            time.sleep(0.1)
            try:
                data = b.p("x.jsonl").read_bytes()
                b.p("x.jsonl").write_bytes(b'{"rewrite":%d}\n' % rewrites + data)
                rewrites += 1
            except OSError as e:
                assert e.errno in (11, 116), e
        acked = acknowledged()
    assert rewrites > 3
    assert_whole([a.b("x.jsonl")], acked)


@pytest.mark.parametrize("kept", [10**6, 3])
@pytest.mark.parametrize("follow", ["path", "file"])
def test_rotation_by_one(pair, workdir, follow, kept):
    """With `kept` generations: what is replaced is in the archive, for the other daemon's
    programs may have it open."""
    a, b = pair(f"follow={follow}")
    a.b("x.jsonl").write_bytes(b"")
    rotations = 0
    with writing(workdir, (a, b), "x.jsonl", SECONDS) as (runs, acknowledged):
        while runs():
            time.sleep(0.1)
            os.rename(b.p("x.jsonl"), b.p(f"x.jsonl.{rotations % kept + 1}"))
            os.close(os.open(b.p("x.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666))
            rotations += 1
        acked = acknowledged()
    assert rotations > 8
    assert_whole([*a.source.glob("x.jsonl*"), *(a.source / ".jsonlfs/archive").iterdir()], acked)
    if follow == "path":
        assert a.counter("followed") > 8
