# SPDX-License-Identifier: MIT
"""Paths that no system call takes in one piece, but reach by relative names: everything
answers as without the mount, and what lies there is plain."""

import errno
import os

from util import append, as_user, opened, outcome

LEVELS, NAME = 24, "d" * 200


def below(top, levels=LEVELS):
    """In a child: makes the directories, and stands in the last one."""
    os.chdir(top)
    for _ in range(levels):
        if not os.path.isdir(NAME):
            os.mkdir(NAME)
        os.chdir(NAME)


def put(name, data, flags=os.O_WRONLY | os.O_CREAT | os.O_APPEND):
    with opened(name, flags) as fd:
        os.write(fd, data)


WORK = [
    lambda: put("p", b"x", os.O_WRONLY | os.O_CREAT),
    lambda: os.rename("p", "q"),
    lambda: put("a.jsonl", b"1\n"),
    lambda: put("a.jsonl", b"oops\n"),
    lambda: os.rename("a.jsonl", "b.jsonl"),
    lambda: put("n", b"no record\n"),
    lambda: os.rename("n", "c.jsonl"),
    lambda: os.rename("c.jsonl", "c.jsonl.1"),
    lambda: os.link("b.jsonl", "l.jsonl"),
    lambda: os.link("b.jsonl", "plain"),
    lambda: os.rename("q", "b.jsonl"),
    lambda: os.truncate("l.jsonl", 0),
    lambda: os.setxattr("l.jsonl", "user.k", b"v"),
    lambda: os.chmod("l.jsonl", 0o4600),
    lambda: os.mkdir("one"),
    lambda: put("one/x.jsonl", b"1\n"),
    lambda: os.rename("one", "two"),
    lambda: os.rename("two/x.jsonl", "x"),
    lambda: os.rmdir("two"),
    lambda: os.unlink("c.jsonl.1"),
    lambda: os.unlink("l.jsonl"),
]


def everything(top):
    below(top)
    return [outcome(f) for f in WORK] + [sorted(os.listdir("."))]


def test_all_is_as_without_the_mount(m, workdir):
    bare = workdir / "bare"
    bare.mkdir(mode=0o777)
    bare.chmod(0o777)
    got = as_user(None, lambda: everything(m.mnt))
    assert got == as_user(None, lambda: everything(bare))
    assert set(got[:-1]) == {0}
    m.expect_log("ungoverned", "4,095")


def test_a_log_does_not_get_there_by_a_rename_of_its_directory(m):
    """It would change its class; mv copies then."""
    m.p("logs").mkdir()
    append(m.p("logs/x.jsonl"), b"1\n")
    m.p("other").mkdir()
    m.p("other/x").write_bytes(b"1\n")

    def work():
        below(m.mnt)
        here = os.open(".", os.O_RDONLY)
        os.chdir(m.mnt)
        codes = [outcome(lambda n=n: os.rename(n, n, dst_dir_fd=here))
                 for n in ("logs", "other", "logs/x.jsonl")]
        back = [outcome(lambda: os.rename("other", "other", src_dir_fd=here))]
        return codes + back

    assert as_user(None, work) == [errno.EXDEV, 0, errno.ENOENT, 0]
    append(m.p("logs/x.jsonl"), b"2\n")
    assert m.both("logs/x.jsonl") == b"1\n2\n"


def test_where_everything_is_a_log(mount):
    m = mount("match=*")

    def work():
        below(m.mnt)
        put("a", b"anything")
        return [outcome(lambda: os.rename("a", "b")), outcome(lambda: os.unlink("a"))]

    assert as_user(None, work) == [errno.ENAMETOOLONG, 0]
