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


RW = os.O_RDWR | os.O_CREAT

# Differences that were found and removed: the shortest sequence of each.
CASES = {
    "truncating open for reading": [
        ("ada", "open", 3, "b", RW, 0o755),
        ("ada", "write", 3, 1, 100),
        ("root", "open", 1, "b", os.O_RDONLY | os.O_APPEND | os.O_TRUNC, 0o444),
        ("ada", "fstat", 3),
    ],
    "setgid without group execution stays when a member writes": [
        ("ben", "umask", 0o077),
        ("ben", "open", 1, "f", RW, 0o2755),
        ("ben", "write", 1, 50, 200000),
        ("ben", "fstat", 1),
    ],
    "the same by a supplementary group": [
        ("ben", "open", 1, "f", RW, 0o644),
        ("ben", "close", 1),
        ("root", "chown", "f", 12002, 12100),
        ("root", "chmod", "f", 0o2640),
        ("ben", "open", 1, "f", os.O_RDWR, 0),
        ("ben", "write", 1, 1, 10),
        ("ben", "fstat", 1),
        ("ben", "close", 1),
        ("root", "chmod", "f", 0o2666),
        ("cyd", "open", 1, "f", os.O_RDWR, 0),
        ("cyd", "write", 1, 1, 10),
        ("cyd", "fstat", 1),
    ],
    "suid and sgid without execution, truncated by the owner": [
        ("ada", "open", 0, "f", RW, 0o600),
        ("root", "chown", "f", 12001, 12200),
        ("root", "chmod", "f", 0o6600),
        ("ada", "ftruncate", 0, 5),
        ("ada", "fstat", 0),
    ],
    "suid and sgid without execution, given to another group": [
        ("ada", "open", 0, "f", RW, 0o600),
        ("root", "chown", "f", 12001, 12100),
        ("root", "chmod", "f", 0o6600),
        ("ada", "chown", "f", -1, 12001),
        ("ada", "fstat", 0),
    ],
    "holes of an empty file": [
        ("ada", "open", 0, "f", RW, 0o600),
        ("ada", "lseek", 0, 0, os.SEEK_DATA),
        ("ada", "lseek", 0, 0, os.SEEK_HOLE),
        ("ada", "ftruncate", 0, 70000),
        ("ada", "lseek", 0, 0, os.SEEK_DATA),
        ("ada", "lseek", 0, 1, os.SEEK_HOLE),
    ],
    "a default ACL takes the place of the umask": [
        ("root", "mkdir", "p", 0o777),
        ("root", "setxattr", "p", "system.posix_acl_default", differ.ACLS[1], 0, True),
        ("ada", "umask", 0o077),
        ("root", "chmod", "p", 0o777),
        ("ada", "open", 0, "p/f", RW, 0o666),
        ("ada", "mkdir", "p/r", 0o2777),
        ("ben", "mknod", "p/n", 0o100666, 0),
        ("ben", "symlink", "n", "p/s"),
    ],
    "names beyond the limit, through links and out of links": [
        ("ada", "symlink", "a", "a"),
        ("ada", "open", 0, "a", RW, 0o600),
        ("ada", "mkdir", "n" * 256, 0o700),
        ("ada", "symlink", "x" * 300, "d"),
        ("ada", "readlink", "d"),
        ("ada", "stat", "d"),
        ("ada", "unlink", "a/"),
        ("ada", "rename", "d", "a", 0),
    ],
}


@pytest.mark.parametrize("name", CASES)
def test_case(arena, name):
    with arena() as pair:
        for op in CASES[name]:
            pair.step(op)
        pair.compare_trees()


# What every normal run must have seen: an empty cell means that the test has gone blind.
WANTED = {
    "open": "ok EACCES EEXIST ENOENT EISDIR ENOTDIR EINVAL",
    "read": "ok EBADF", "write": "ok EBADF", "pread": "ok", "pwrite": "ok",
    "lseek": "ok ENXIO EINVAL", "ftruncate": "ok EINVAL", "fallocate": "ok EINVAL ENOTSUP",
    "fstat": "ok", "fchmod": "ok EPERM", "fchown": "ok EPERM", "fsync": "ok", "fdatasync": "ok",
    "futimens": "ok", "copy_file_range": "ok EBADF", "sendfile": "ok", "setfl": "ok",
    "flock": "ok", "lockf": "ok", "mmap_write": "ok EACCES", "mmap_read": "ok",
    "getflags": "ok", "setflags": "ok", "stat": "ok ENOENT", "lstat": "ok ENOENT ENOTDIR",
    "access": "ok EACCES ENOENT", "listdir": "ok ENOENT ENOTDIR", "chdir": "ok",
    "mkdir": "ok EEXIST EACCES ENOENT", "rmdir": "ENOTDIR ENOTEMPTY ENOENT",
    "unlink": "ok EISDIR ENOENT", "rename": "ok EEXIST EINVAL ENOENT ENOTDIR",
    "link": "ok EEXIST EPERM ENOENT", "symlink": "ok EEXIST", "readlink": "EINVAL ENOENT",
    "mknod": "ok EEXIST EPERM", "chmod": "ok EPERM ENOENT", "chown": "ok EPERM ENOENT",
    "lchown": "ok EPERM", "truncate": "ok EACCES EISDIR EINVAL", "utimens": "ok EPERM ENOENT",
    "setxattr": "ok EPERM ENOTSUP E2BIG EACCES", "getxattr": "ENODATA ENOENT",
    "listxattr": "ok ENOENT", "removexattr": "ok EPERM ENODATA", "umask": "ok", "statvfs": "ok",
}


def empty_cells(seen):
    return [
        (op, answer)
        for op, answers in WANTED.items()
        for answer in answers.split()
        if (op, answer) not in seen
    ]


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
    if OPS >= 5000:
        assert not empty_cells(seen)
