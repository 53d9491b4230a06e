# SPDX-License-Identifier: MIT
"""A plain file cannot tell that it is mounted: random operations by four users, done on a
bare directory and on a mounted one, answer alike and leave equal trees.

JSONLFS_DIFF_OPS is the number of operations (20,000; 4,000 with sanitizers; 100,000 in .ci/run),
JSONLFS_DIFF_SEED where to begin. A failure prints the shortest sequence found; it then becomes
one of the named cases below."""

import os
import pickle
import random
import shutil
import signal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import differ
import util

OPS = int(os.environ.get("JSONLFS_DIFF_OPS") or (4000 if util.sanitized() else 20_000))
SEED = int(os.environ.get("JSONLFS_DIFF_SEED", "1"))
PARTS = 4  # that can run beside one another
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

    def make(worker=differ.Worker):
        count[0] += 1
        # Deep enough that links to ".." stay in what belongs to this pair.
        name = f"pair{count[0]}/u/v/w"
        for top in (bare, m.mnt):
            os.makedirs(top / name)
            os.chmod(top / name, 0o777)
        return differ.Pair(bare / name, m.mnt / name, m.b(name), worker)

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
    "beyond the caller's limit of file sizes": [
        ("ben", "limit", 100000),
        ("ben", "open", 0, "f", RW, 0o644),
        ("ben", "pwrite", 0, 1, 4097, 99000),
        ("ben", "pwrite", 0, 1, 4097, 100000),
        ("ben", "fallocate", 0, 0, 99000, 4097),
        ("ben", "fallocate", 0, 1, 99000, 4097),
        ("ben", "ftruncate", 0, 100000),
        ("ben", "ftruncate", 0, 100001),
        ("ben", "truncate", "f", 200000),
        ("ben", "copy_file_range", 0, 0, 0, 100000, 5000),
        ("ben", "copy_file_range", 0, 0, 0, 99999, 5000),
        ("ben", "fstat", 0),
    ],
    "forty links, and one more": [
        ("ada", "symlink", "f", "l1"),
        *(("ada", "symlink", f"l{n - 1}", f"l{n}") for n in range(2, 42)),
        ("ada", "open", 0, "l40", RW, 0o600),
        ("ada", "open", 1, "l41", RW, 0o600),
        ("ada", "stat", "l40"),
        ("ada", "stat", "l41"),
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
    "access": "ok EACCES ENOENT", "chdir": "ok ENOENT ENOTDIR",
    "chmod": "ok EACCES ELOOP ENOENT ENOTDIR EPERM", "chown": "ok ENOENT EPERM",
    "close": "ok EBADF", "copy_file_range": "ok EBADF EINVAL EISDIR",
    "direct": "ok EACCES EISDIR ENOENT", "execute": "EACCES ENOENT",
    "fallocate": "ok EBADF EINVAL ENOTSUP", "fchmod": "ok EBADF EPERM",
    "fchown": "ok EBADF EPERM", "fdatasync": "ok", "fdopendir": "ok ENOTDIR",
    "flock": "ok EBADF", "fstat": "ok EBADF", "fsync": "ok", "ftruncate": "ok EBADF EINVAL",
    "futimens": "ok", "getflags": "ok", "getxattr": "ok ENODATA ENOENT",
    "lchown": "ok ENOENT EPERM", "limit": "ok",
    "link": "ok EACCES EEXIST ENOENT ENOTDIR EPERM", "link_fd": "ok EEXIST",
    "listdir": "ok ENOENT ENOTDIR", "listxattr": "ok ENOENT", "lockf": "ok EBADF",
    "lseek": "ok EBADF EINVAL ENXIO", "lstat": "ok ENOENT ENOTDIR",
    "mkdir": "ok EACCES EEXIST ENOENT ENOTDIR", "mknod": "ok EACCES EEXIST ENOENT ENOTDIR EPERM",
    "mmap_read": "ok EACCES EBADF EINVAL ENODEV", "mmap_write": "ok EACCES EINVAL",
    "ofd": "ok EBADF",
    "open": "ok EACCES EEXIST EINVAL EISDIR ELOOP ENAMETOOLONG ENOENT ENOTDIR",
    "pread": "ok EBADF", "pwrite": "ok EBADF", "read": "ok EBADF EISDIR",
    "readlink": "ok EINVAL ENOENT", "removexattr": "ok EACCES ENODATA ENOENT EPERM",
    "rename": "ok EACCES EEXIST EINVAL EISDIR ENOENT ENOTDIR ENOTEMPTY EPERM EXDEV",
    "rmdir": "ok ENOENT ENOTDIR ENOTEMPTY", "scan": "ok ENOENT ENOTDIR",
    "sendfile": "ok EBADF", "setfl": "ok", "setflags": "ok",
    "setxattr": "ok E2BIG EACCES EINVAL ENODATA ENOENT ENOTDIR ENOTSUP EPERM",
    "stat": "ok ENOENT", "statvfs": "ok ENOENT", "symlink": "ok EACCES EEXIST ENOENT ENOTDIR",
    "truncate": "ok EACCES EINVAL EISDIR ENOENT ENOTDIR", "umask": "ok",
    "unlink": "ok EACCES EISDIR ENOENT EPERM", "utimens": "ok ENOENT ENOTDIR EPERM",
    "write": "ok EBADF",
}
# And what 100,000 operations must have.
RARE = {
    "access": "ELOOP ENOTDIR", "chmod": "ENAMETOOLONG", "chown": "EACCES ELOOP ENOTDIR",
    "copy_file_range": "EFBIG", "direct": "ELOOP ENOTDIR", "execute": "ENOEXEC ENOTDIR ETXTBSY",
    "fdopendir": "EBADF", "flock": "EAGAIN", "ftruncate": "EFBIG", "futimens": "EBADF EPERM",
    "getxattr": "EACCES ENOTDIR ENOTSUP", "lchown": "EACCES ENOTDIR", "link": "EXDEV",
    "link_fd": "EACCES EBADF ENOENT", "listdir": "EACCES", "listxattr": "EACCES ENOTDIR",
    "lockf": "EAGAIN", "lstat": "EACCES", "mmap_write": "EBADF", "ofd": "EAGAIN",
    "open": "ENXIO EPERM", "pread": "EISDIR", "pwrite": "EFBIG",
    "removexattr": "ENOTDIR ENOTSUP", "rename": "EBUSY ENAMETOOLONG",
    "rmdir": "EACCES EPERM", "scan": "EACCES", "sendfile": "EINVAL", "setflags": "EPERM",
    "setxattr": "ELOOP", "stat": "EACCES ENOTDIR", "symlink": "ENAMETOOLONG",
    "truncate": "ELOOP", "unlink": "ENOTDIR", "utimens": "EACCES ELOOP", "write": "EFBIG",
}


def empty_cells(seen):
    tables = [WANTED, RARE] if OPS >= 100_000 else [WANTED]
    return [
        f"{op} {answer}"
        for table in tables
        for op, answers in table.items()
        for answer in answers.split()
        if (op, answer) not in seen
    ]


def seen_by_all(tmp_path_factory, part, seen):
    """What all parts saw together, once the last of them is through; None before that."""
    top = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        top = top.parent
    mine = top / f"answers.{part}.new"
    mine.write_bytes(pickle.dumps(seen))
    mine.rename(top / f"answers.{part}")
    together = {}
    for other in range(PARTS):
        if not (top / f"answers.{other}").exists():
            return None
        add(together, pickle.loads((top / f"answers.{other}").read_bytes()))
    return together


def report(request, seen, seeds):
    """For the summary at the end of the run (conftest.py)."""
    request.node.user_properties.append(("seeds", f"{seeds[0]} to {seeds[-1]}"))
    request.node.user_properties.append(
        ("answers", {f"{op} {answer}": n for (op, answer), n in seen.items()}))


def add(seen, more):
    for key, n in more.items():
        seen[key] = seen.get(key, 0) + n


def run_round(pair, source, n):
    """n operations and a look at the trees after each: thoroughly at both directories below,
    at the mount sometimes so, sometimes not at all, that its caches are not always warm."""
    looks = source.r.choice([1, 4, 8, 16, 32, 64])
    for k in range(n):
        op = differ.PROLOGUE[k] if k < len(differ.PROLOGUE) else source.draw()
        source.note(op, pair.step(op))
        if k % looks == 0:
            pair.compare_trees(k % 16 == 0)
        else:
            pair.compare_backing()
    pair.compare_trees()
    pair.compare_holes()


@pytest.mark.limit(300 + OPS // PARTS // 25)
@pytest.mark.parametrize("part", range(PARTS))
def test_random_operations(arena, request, tmp_path_factory, part):
    tmpfile = has_tmpfile(arena.mount.mnt)
    passthrough = bool(arena.mount.log_lines("passthrough", 'state="on"'))
    seen = {}
    first = SEED + part * 1_000_000
    seeds = range(first, first + max(1, OPS // PARTS // ROUND))
    for seed in seeds:
        source = differ.Random(random.Random(seed), tmpfile, passthrough)
        with arena() as pair:
            try:
                run_round(pair, source, ROUND)
            except differ.Difference as e:
                failed, text = list(e.done), str(e)
            else:
                failed = None
        add(seen, pair.seen)
        if failed:
            report(request, seen, seeds)
            ops = differ.shrink(arena, failed)
            why = differ.replay(arena, ops) or text
            steps = "\n".join(f"    {differ.describe(op)}," for op in ops)
            pytest.fail(f"seed {seed}: {why}\nshortest sequence found:\n{steps}", pytrace=False)
    report(request, seen, seeds)
    together = seen_by_all(tmp_path_factory, part, seen)
    if together and OPS >= 20_000:
        assert not empty_cells(together)


class LosesAByte(differ.Worker):
    def pwrite(self, slot, seed, n, off):
        return os.pwrite(self.fd(slot), differ.data_of(seed, n)[:-1], off) + (n > 0)


class SaysAnotherError(differ.Worker):
    def answer(self, name, args):
        said = super().answer(name, args)
        return "EPERM" if name == "access" and said == "EACCES" else said


class DropsSetgid(differ.Worker):
    def chmod(self, path, mode):
        os.chmod(path, mode & ~0o2000)


class SetsNoTimes(differ.Worker):
    def utimens(self, path, a, m, follow):
        return super().utimens(path, "omit" if m == "omit" else "now", m, follow)


class LosesAnAttribute(differ.Worker):
    def setxattr(self, path, name, value, flags, follow):
        if name != "user.two":
            super().setxattr(path, name, value, flags, follow)


class CopiesInsteadOfLinking(differ.Worker):
    def link(self, a, b):
        os.link(a, b, follow_symlinks=False)
        if os.path.isfile(b) and not os.path.islink(b):
            os.unlink(b)
            shutil.copy2(a, b)


class LeavesAHoleFilled(differ.Worker):
    def fallocate(self, slot, mode, off, n):
        if mode != 3:
            super().fallocate(slot, mode, off, n)


@pytest.mark.parametrize("worker", [
    LosesAByte, SaysAnotherError, DropsSetgid, SetsNoTimes, LosesAnAttribute,
    CopiesInsteadOfLinking, LeavesAHoleFilled])
def test_what_is_broken_is_found(arena, worker):
    """The rig itself: a mounted side that does one thing wrongly does not get far."""
    passthrough = bool(arena.mount.log_lines("passthrough", 'state="on"'))
    for seed in range(SEED, SEED + 8):
        source = differ.Random(random.Random(seed), False, passthrough)
        with arena(worker) as pair:
            try:
                run_round(pair, source, ROUND)
            except differ.Difference as e:
                assert differ.replay(lambda: arena(worker), list(e.done))
                assert not differ.replay(arena, list(e.done))
                return
    pytest.fail("no difference was found")


class NeverAnswers(differ.Worker):
    def stat(self, path):
        signal.pause()


def test_what_hangs_is_said_to_hang(arena, monkeypatch):
    monkeypatch.setattr(differ, "HANGS", 1)
    with arena(NeverAnswers) as pair, pytest.raises(differ.Difference, match="ada.*mounted"):
        pair.step(("ada", "stat", "."))


@pytest.mark.limit(900)
def test_operations_by_many_threads(arena, request):
    """Each user has two threads, each of them a directory: nobody's answers and files depend
    on what the others do at the same time."""
    passthrough = bool(arena.mount.log_lines("passthrough", 'state="on"'))
    tmpfile = has_tmpfile(arena.mount.mnt)
    seen = {}
    seeds = range(SEED, SEED + max(4, OPS // 2500))
    for seed in seeds:
        with arena() as pair:
            sources = {}
            for user, (uid, gid, _) in differ.USERS.items():
                for k in range(differ.THREADS):
                    top = f"{user}{k}"
                    for path in (top, f"{top}/y"):
                        pair.step(("root", "mkdir", path, 0o755))
                        pair.step(("root", "chown", path, uid, gid))
                    sources[user, k] = differ.Random(
                        random.Random(f"{seed} {user} {k}"), tmpfile, passthrough, user,
                        f"{top}/y/")
            for _ in range(8):
                lists = {
                    user: [[sources[user, k].draw() for _ in range(12)]
                           for k in range(differ.THREADS)]
                    for user in differ.USERS
                }
                answers = iter(pair.together(lists))
                for user, of_user in lists.items():
                    for k, ops in enumerate(of_user):
                        for op in ops:
                            sources[user, k].note(op, next(answers))
                pair.compare_trees()
            add(seen, pair.seen)
    report(request, seen, seeds)


@pytest.mark.limit(900)
def test_operations_drawn_by_hypothesis(arena):
    """Short sequences; what fails is made as small as can be by the one who drew it."""
    passthrough = bool(arena.mount.log_lines("passthrough", 'state="on"'))
    tmpfile = has_tmpfile(arena.mount.mnt)

    @settings(
        max_examples=max(20, OPS // 500), deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False), st.integers(1, 60))
    def sequence(r, n):
        source = differ.Random(r, tmpfile, passthrough)
        with arena() as pair:
            for k in range(n):
                op = differ.PROLOGUE[k] if k < len(differ.PROLOGUE) else source.draw()
                source.note(op, pair.step(op))
            pair.compare_trees()

    sequence()


@pytest.mark.parametrize("user", differ.NAMED)
def test_an_ordinary_users_daemon(workdir, request, user):
    """The mount is for its user alone, and works with this user's rights and groups: for it
    there is no difference, and nobody else gets in."""
    uid, gid, groups = differ.PEOPLE[user]
    top, mnt, log = workdir / "src", workdir / "mnt", workdir / "daemon.log"
    for folder in (top, mnt, workdir / "bare"):
        folder.mkdir()
        os.chown(folder, uid, gid)
    with open(log, "wb") as out:
        daemon = util.subprocess.Popen(
            [util.binary("jsonlfs"), "-f", top, mnt], user=uid, group=gid,
            extra_groups=groups, cwd="/", env=util.ENV, stdin=util.subprocess.DEVNULL,
            stdout=out, stderr=out)
    try:
        util.wait_for(lambda: str(mnt) in util.mount_table(), "the mount", 20)
        for other in ("root", *differ.USERS):
            if other != user:
                with differ.Side(workdir, users=[other]) as side:
                    side.ask(other, [("listdir", ("mnt",))])
                    assert side.told(other) == [["EACCES"]]
        alone(request, user, workdir / "bare", mnt, top)
    finally:
        util.run("umount", "-l", mnt)
        assert daemon.wait(40) == 0, log.read_text()


def test_roots_daemon_for_root_alone(mount, request):
    m = mount("noallow_other")
    for user in differ.USERS:
        if user != "root":
            with differ.Side(m.mnt.parent, users=[user]) as side:
                side.ask(user, [("listdir", (m.mnt.name,)), ("stat", (m.mnt.name + "/f",))])
                assert side.told(user) == [["EACCES", "EACCES"]]
    bare = m.source.parent / (m.source.name + ".bare")
    bare.mkdir()
    alone(request, "root", bare, m.mnt, m.source,
          bool(m.log_lines("passthrough", 'state="on"')))


def alone(request, user, bare, mnt, source, passthrough=False):
    """Rounds of one user; the trees below are compared, as root cannot look at the mount."""
    seen, seeds = {}, range(SEED, SEED + max(4, OPS // 5000))
    for seed in seeds:
        folder = f"round{seed}"
        uid, gid, _ = differ.PEOPLE[user]
        for top in (bare, source):
            (top / folder).mkdir()
            os.chown(top / folder, uid, gid)
        # Pages of mappings come back as writes of the daemon. An ordinary user's has no
        # right to leave suid and sgid alone then: a round has the one or the other.
        mapped = user == "root" or seed % 2
        draw = differ.Random(
            random.Random(f"{seed} {user}"), False, passthrough, user,
            suid=user == "root" or not mapped)
        with differ.Pair(bare / folder, mnt / folder, source / folder, users=[user]) as pair:
            for _ in range(200):
                op = draw.draw()
                # The kernel opens the file anew for these, which the daemon of a user can
                # do no more when its mode forbids that.
                if user != "root" and op[1] in ("getflags", "setflags"):
                    continue
                if op[1] == "mmap_write" and not mapped:
                    continue
                draw.note(op, pair.step(op))
                pair.compare_backing()
        add(seen, pair.seen)
    report(request, seen, seeds)
