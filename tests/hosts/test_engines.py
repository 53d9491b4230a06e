# SPDX-License-Identifier: MIT
"""Two hosts with a mount each over one vault on a distributed file system (namespaces.py,
engines.py), eight writers of four kinds and two readers on each: what a program was told is kept
is found once, on each host and in the backing store, whatever breaks. A fault may cost time, and
errors.

`tests/run hosts`; an engine alone: `tests/run hosts -k gluster`."""

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from engines import Ceph, Gluster, Moose  # noqa: E402
from judge import hold, judge, late, report, turns  # noqa: E402
from namespaces import BUILD, HERE, Rig, wait_for  # noqa: E402
from updates import hold_blocks  # noqa: E402

LONG = bool(os.environ.get("JSONLFS_LONG"))
SECONDS = 60 if LONG else 4
DOWN = (12, 60) if LONG else (12,)  # seconds without a link; servers wait for 42


@pytest.fixture(scope="session", params=[Gluster, Ceph, Moose], ids=lambda kind: kind.name)
def rig(request):
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        try:
            r = stack.enter_context(Rig(request.param))
        except Exception as e:
            pytest.fail(f"the engine {request.param.name} does not come up here: {e}")
        print(f"{request.param.name} is up after {time.monotonic() - began:.0f} s")
        yield r


@contextlib.contextmanager
def vault(rig, *options, broken=None):
    """A fresh vault and its mounts, one on each host."""
    sides = rig.vault()
    try:
        yield [side.start(*options, broken=broken) for side in sides]
    finally:
        for side in sides:
            side.clear()


@contextlib.contextmanager
def loads(sides, acks, seconds=SECONDS):
    """`acks` is where no fault of an engine reaches."""
    all_ = [side.load(acks, seconds) for side in sides]
    try:
        yield all_
        for one in all_:
            one.wait()
    finally:
        for one in all_:
            one.kill()


@pytest.fixture
def acks():
    where = Path(tempfile.mkdtemp(prefix="jsonlfs-acks."))
    yield where
    shutil.rmtree(where)


def verdicts(rig, sides, acks, fault=False):
    found = judge(acks, {s.host.name: s.seen() for s in sides if s.proc}
                  | rig.engine.backing(sides[0].source.name), fault)
    print(report(found))
    assert len(found["A"].told.kept) > 20
    return found


def test_appends(rig, acks):
    with vault(rig) as sides:
        with loads(sides, acks):
            pass
        found = verdicts(rig, sides, acks)
        assert not found["A"].told.errors
        hold(found)
        # A turn that waits for what a client keeps costs a second (GlusterFS).
        assert turns(sides[0].seen()) > 2 * SECONDS


@pytest.mark.engines("gluster")
def test_clients_that_remember_sizes(rig, acks):
    with rig.engine.remembering(), vault(rig) as sides:
        with loads(sides, acks):
            pass
        hold(verdicts(rig, sides, acks))


@pytest.mark.engines("gluster", "ceph")
def test_rotation(rig, acks):
    """Handles of both hosts go on with the new file."""
    with vault(rig, "follow=path") as sides:
        a, rotated = sides[0].seen(), {}
        with loads(sides, acks, SECONDS + 4) as both:
            while both[0].proc.poll() is None:
                old = a / f"log.jsonl.{len(rotated) + 1}"
                with contextlib.suppress(FileNotFoundError):
                    (a / "log.jsonl").rename(old)
                    (a / "log.jsonl").touch()
                    rotated[old] = time.time_ns() // 1000
                time.sleep(1)
        assert late(acks, rotated, rig.engine.trusts_names) == 0 and rotated
        hold(verdicts(rig, sides, acks))


RULES = {"rules": [{"match": "*.json", "class": "replace"}, {"match": "*.md", "class": "text"}]}


def started(side, kind, name, who, *more):
    return subprocess.Popen(
        [*side.host.enter, sys.executable, str(HERE / "updates.py"), kind, str(side.mnt / name), who,
         str(SECONDS), *more], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def done_by(procs):
    """How often all of them did it."""
    said = [p.communicate(timeout=SECONDS + 120)[0] for p in procs]
    assert not any(p.returncode for p in procs)
    return sum(map(int, said))


def changing(sides, kind, name, programs=2, more=()):
    """What so many programs have done on each host."""
    return done_by([started(side, kind, name, f"{side.host.name}{n}", *more)
                    for side in sides for n in range(programs)])


def test_rewrites(rig, acks):
    """A log that programs of both hosts write anew, while others of both have it open."""
    with vault(rig, "rewrite=archive") as sides:
        with loads(sides, acks, SECONDS + 1):
            wait_for(lambda: (sides[0].seen() / "log.jsonl").exists(), "the log")
            rewrites = changing(sides, "log", "log.jsonl", 1, rig.engine.in_a_rename)
        print(f"{rewrites} rewrites")
        assert rewrites > 2
        hold(verdicts(rig, sides, acks))


@pytest.fixture
def rules(tmp_path_factory):
    config = tmp_path_factory.mktemp("rules") / "rules.json"
    config.write_text(json.dumps(RULES))
    return f"config={config}"


@pytest.mark.parametrize("how", ["rewrite", "rename"])
def test_no_update_of_a_document_is_lost(rig, rules, how):
    with vault(rig, rules, "lostupdate=refuse") as sides:
        (sides[0].seen() / "n.json").write_text('{"n": 0}')
        done = changing(sides, how, "n.json", more=rig.engine.in_a_rename)
        print(f"{done} updates")

        def has_all(side):
            """A client of GlusterFS may lead to a replaced file for a second."""
            try:
                return json.loads((side.seen() / "n.json").read_text()) == {"n": done}
            except OSError as e:
                assert errno.errorcode[e.errno] in ("ESTALE", *rig.engine.in_a_rename)

        for side in sides:
            wait_for(lambda: has_all(side), f"{done} updates on {side.host.name}", 10)  # noqa: B023


def test_blocks_of_text_stay_whole(rig, rules):
    with vault(rig, rules) as sides:
        (sides[0].seen() / "x.md").write_text("")
        readers = [started(side, "look", "x.md", "reader") for side in sides]
        done = changing(sides, "block", "x.md")
        print(f"{done} blocks, {done_by(readers)} looks")
        for side in sides:
            wait_for(lambda: (side.seen() / "x.md").read_text().count("\n") >= 3 * done,  # noqa: B023
                     f"{done} blocks on {side.host.name}", 10)
            hold_blocks((side.seen() / "x.md").read_text(), done)


def test_what_is_refused_is_kept_once(rig):
    """By daemons that write one index, and each lists all of it."""
    with vault(rig) as sides:
        done = changing(sides, "bad", "log.jsonl")
        print(f"{done} refused")

        def kept(side):
            """A client may answer for a second from what it remembers of the other's files."""
            state = side.host.path(side.source) / ".jsonlfs"
            lines = b"".join(p.read_bytes() for p in state.glob("quarantine/*")).splitlines()
            said = side.host.run(BUILD / "fs/ctl/jsonlfsctl", "quarantine", "list", "--json",
                                 side.mnt).stdout
            listed = sum(e["bytes"] for e in json.loads(said)["quarantine"])
            return (len(lines), len(set(lines)), listed) == (
                done, done, sum(len(line) + 1 for line in lines))

        for side in sides:
            wait_for(lambda: kept(side), f"all of it on {side.host.name}", 10)  # noqa: B023


# ---- faults ----


@pytest.mark.engines("gluster")
@pytest.mark.parametrize("seconds", DOWN)
def test_a_link_that_is_down_for_a_while(rig, acks, seconds):
    with vault(rig) as sides:
        with loads(sides, acks, SECONDS + seconds + 4):
            time.sleep(2)
            rig.link("B", "down")
            time.sleep(seconds)
            rig.link("B", "up")
        hold(verdicts(rig, sides, acks, fault=True))


@pytest.mark.engines("gluster")
def test_a_daemon_that_is_killed(rig, acks):
    """The other host goes on, and a new daemon sees what it sees."""
    with vault(rig) as sides:
        a, b = sides
        with loads(sides, acks):
            time.sleep(SECONDS / 2)
            b.die()
            b.start()
        hold(verdicts(rig, sides, acks, fault=True))


@pytest.mark.engines("gluster", "ceph")
def test_a_client_that_is_killed(rig, acks):
    with vault(rig) as sides:
        a, b = sides
        with loads(sides, acks):
            time.sleep(SECONDS / 2)
            rig.engine.kill_client(b.host)
        b.die()
        rig.engine.mount(b.host)
        b.start()
        hold(verdicts(rig, sides, acks, fault=True))


@pytest.mark.engines("gluster")
def test_a_server_that_is_killed(rig, acks):
    """One of three that have the same: nobody is told, nothing is lost, and it is made equal."""
    with vault(rig) as sides:
        with loads(sides, acks, SECONDS + 2):
            time.sleep(SECONDS / 2)
            rig.engine.kill_brick(3)
        rig.engine.heal()
        hold(verdicts(rig, sides, acks, fault=True))


@pytest.mark.engines("ceph")
def test_a_client_that_is_cut_off_by_the_servers(rig, acks):
    with vault(rig) as sides:
        a, b = sides
        with loads(sides, acks, SECONDS + 2):
            time.sleep(SECONDS / 2)
            rig.engine.evict(b.host)
        # Not "no such file", as if it were empty.
        for name in ("log.jsonl", "new.jsonl"):
            with pytest.raises(OSError) as info:
                (b.seen() / name).open("ab")
            assert info.value.errno == errno.ESHUTDOWN
        b.die()
        rig.engine.kill_client(b.host)
        rig.engine.mount(b.host)
        b.start()
        hold(verdicts(rig, sides, acks, fault=True))


# ---- what breaks the rules is seen ----


@pytest.mark.engines("gluster")
@pytest.mark.parametrize("broken", ["no-lock", "early", pytest.param("cached-size", marks=pytest.mark.engines("ceph"))])
def test_a_broken_rule_is_seen(rig, broken):
    """In some rounds: what goes wrong takes two hosts at the same moment."""
    for _ in range(5):
        with (tempfile.TemporaryDirectory(prefix="jsonlfs-acks.") as where,
              vault(rig, broken=broken) as sides):
            with loads(sides, Path(where)):
                pass
            found = verdicts(rig, sides, Path(where))
        if not all(v.good() for v in found.values()):
            return
    pytest.fail("not seen")
