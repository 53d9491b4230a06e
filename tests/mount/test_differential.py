"""A plain file cannot tell that it is mounted: random operations by four users, done on a
bare directory and on a mounted one, answer alike and leave equal trees.

JSONLFS_DIFF_OPS is the number of operations (5,000), JSONLFS_DIFF_SEED where to begin. A
failure prints the shortest sequence found; it then becomes one of the named cases below."""

import os
import shutil

import pytest

import differ
from differ import OLD

OPS = int(os.environ.get("JSONLFS_DIFF_OPS", "5000"))
SEED = int(os.environ.get("JSONLFS_DIFF_SEED", "1"))
ROUND = 500  # operations in one pair of directories


def has_tmpfile(folder):
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600))
    except OSError:
        return False
    return True


@pytest.fixture
def arena(mount, tmp_path_factory):
    """make(): a fresh pair of directories, one bare and one inside a mount, on the same
    file system."""
    m = mount()
    bare = m.source.parent / (m.source.name + ".bare")
    bare.mkdir()
    count = [0]

    def make():
        count[0] += 1
        # Deep enough that links to ".." stay in what belongs to this pair.
        name = f"pair{count[0]}/u/v/w"
        for top in (bare, m.mnt):
            os.makedirs(top / name)
            os.chmod(top / name, 0o777)
        return differ.Pair(bare / name, m.mnt / name, m.b(name))

    make.mount = m
    yield make
    shutil.rmtree(bare)


def check(arena, ops):
    with arena() as pair:
        for op in ops:
            pair.step(op)
        pair.compare_trees()


@pytest.mark.limit(60 + OPS // 20)
def test_random_operations(arena, capsys):
    tmpfile = has_tmpfile(arena.mount.mnt)
    passthrough = bool(arena.mount.log_lines("passthrough", 'state="on"'))
    seen, left, seed = {}, OPS, SEED
    while left > 0:
        source = differ.Random(seed, tmpfile, passthrough)
        with arena() as pair:
            try:
                for n in range(min(left, ROUND)):
                    op = differ.PROLOGUE[n] if n < len(differ.PROLOGUE) else source.draw()
                    source.note(op, pair.step(op))
                    if n % 100 == 99:
                        pair.compare_trees()
                pair.compare_trees()
            except differ.Difference as e:
                failed, text = list(e.done), str(e)
            else:
                failed = None
        for key, n in pair.seen.items():
            seen[key] = seen.get(key, 0) + n
        if failed:
            ops = differ.shrink(arena, failed)
            why = differ.replay(arena, ops) or text
            steps = "\n".join(f"    {differ.describe(op)}," for op in ops)
            pytest.fail(f"seed {seed}: {why}\nshortest sequence found:\n{steps}", pytrace=False)
        left -= ROUND
        seed += 1
    with capsys.disabled():
        print(f"\n{OPS} operations, seeds {SEED} to {seed - 1}, by operation and answer:")
        differ.table(seen)
