"""Kill loops: writers that are killed at random, then the daemon under writers. What was
acknowledged is there; half a record never shows. JSONLFS_KILLS: how many of each."""

import os
import random
import subprocess
import time

import pytest

from mount_rig import (
    CLIENT, LONG, PYTHON, Ledger, client, parse_answers, recover, vault, wait_for,
)

KILLS = int(os.environ.get("JSONLFS_KILLS", "2000" if LONG else "40"))
WRITERS = 4


def start_writer(v, name):
    return subprocess.Popen(
        [PYTHON, CLIENT, v.mnt / "log.jsonl", f"loop:{name}:90000"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )


def collect(ledger, program, kill=True):
    if kill:
        program.kill()
    out, _ = program.communicate(timeout=20)
    ledger.note(parse_answers(out))


def test_writers_killed():
    rng = random.Random(1)
    with vault() as v:
        ledger, programs = Ledger(), {}
        v.start()
        for n in range(KILLS):
            name = f"w{n:05d}"
            programs[name] = start_writer(v, name)
            if len(programs) >= WRITERS:
                time.sleep(rng.uniform(0.03, 0.12))
                collect(ledger, programs.pop(rng.choice(sorted(programs))))
        for program in programs.values():
            collect(ledger, program)
        # A record that was being written when its writer died is in the file, or is not.
        assert v.stop() == 0
        wrong = recover(v, ledger)
        print(f"\n{KILLS} writers killed, {len(ledger.durable)} durable records, "
              f"verdict: {wrong or 'nothing lost'}")
        assert wrong is None
        assert len(ledger.durable) > KILLS


def test_daemon_killed():
    rng = random.Random(2)
    violations, durable = [], 0
    with vault() as v:
        for n in range(KILLS):
            ledger = Ledger()
            v.file().unlink(missing_ok=True)
            v.start()
            programs = [start_writer(v, f"w{k}") for k in range(WRITERS)]
            wait_for(lambda: v.file().exists() and v.file().stat().st_size, "a record")
            time.sleep(rng.uniform(0, 0.05))
            v.die()
            for program in programs:
                collect(ledger, program, kill=False)
            v.kill()
            durable += len(ledger.durable)
            wrong = recover(v, ledger)
            if wrong:
                violations.append(f"{n}: {wrong}")
    print(f"\nthe daemon killed {KILLS} times, {durable} durable records, "
          f"{len(violations)} violations")
    assert not violations, "\n".join(violations)


def test_the_check_sees_damage():
    """The judge of these tests is not blind: each kind of damage is named."""
    ledger = Ledger()
    ledger.note([("try", "a", 0), ("write", "a", 0), ("close", None, 0),
                 ("try", "b", 0), ("write", "b", 0)])
    a, b = b'{"id":"a"}\n', b'{"id":"b"}\n'
    assert ledger.check(a + b, b"") is None
    assert ledger.check(a, b"") and ledger.check(a, b, power=False) is None
    assert ledger.check(a, b"", power=True) is None
    for damaged in (b, a + b[:-1], a + a + b, a + b'{"id"\n' + b, a + b"\0\0\n" + b,
                    a + b + b'{"id":"c"}\n'):
        assert ledger.check(damaged, b"", power=True), damaged


@pytest.mark.parametrize("gone", ["close", "saved"])
def test_a_lying_daemon_is_seen(gone):
    """What was acknowledged is taken away behind the daemon's back: the run must fail."""
    with vault() as v:
        ledger = Ledger()
        v.start()
        ledger.note(client(v, "append:a", "append:b"))
        v.kill()
        data = v.file().read_bytes().splitlines(keepends=True)
        v.file().write_bytes(data[0] if gone == "close" else data[0] + data[1][:-4])
        assert recover(v, ledger)
