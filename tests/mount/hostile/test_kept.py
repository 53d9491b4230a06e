# SPDX-License-Identifier: MIT
"""What is kept of a log in the archive is readable to whom the log was, and to nobody else."""

import os

import pytest
from util import NOBODY, append, as_user, ctl, outcome, run

ADA, READER, GROUP = 12002, 12003, 12004


def replaced(m, path):
    ctl("replace", path, stdin=b'{"new": 1}\n')


def rewritten(m, path):
    """As an editor does, by a program that has read it."""
    script = """import os, sys
old, new = open(sys.argv[1]).read(), sys.argv[1] + "~new"
open(new, "w").write('{"new": 1}\\n')
os.rename(new, sys.argv[1])
"""
    run("python3", "-c", script, path, check=0)


def edited_in_place(m, path):
    run("python3", "-c", "import sys; p = sys.argv[1]; s = open(p).read(); "
        "open(p, 'w').write('{\"new\": 1}\\n')", path, check=0)


def acl_of(path):
    return run("getfacl", "-n", "-c", "-p", path, check=0).stdout


def copies(m):
    """What others would read, if they knew the name."""
    os.chmod(m.state("archive"), 0o755)
    return [m.state("archive") / name for name in os.listdir(m.state("archive"))]


def reads(uid, path, group=None):
    def read():
        with open(path, "rb") as f:
            f.read()

    if group is None:
        return as_user(uid, lambda: outcome(read)) == 0
    p = run("setpriv", f"--reuid={uid}", f"--regid={group}", "--clear-groups", "cat", path)
    return p.returncode == 0


@pytest.mark.parametrize("how", [replaced, rewritten, edited_in_place])
def test_the_acl_of_a_copy(mount, how):
    """The mode of a file with an ACL shows the mask: to copy only that lets the group in."""
    m = mount("rewrite=archive")
    append(m.p("x.jsonl"), b'{"old": 1}\n')
    os.chown(m.p("x.jsonl"), ADA, GROUP)
    os.chmod(m.p("x.jsonl"), 0o600)
    run("setfacl", "-m", f"u:{READER}:r", m.p("x.jsonl"), check=0)
    acl = acl_of(m.b("x.jsonl"))
    assert b"group::---" in acl and b"mask::r--" in acl
    how(m, m.p("x.jsonl"))
    assert m.both("x.jsonl") == b'{"new": 1}\n'
    [copy] = copies(m)
    assert copy.read_bytes() == b'{"old": 1}\n'
    assert acl_of(copy) == acl
    if how is not rewritten:  # then it is the new file's
        assert acl_of(m.b("x.jsonl")) == acl
    assert reads(READER, copy) and not reads(NOBODY, copy, GROUP)


@pytest.mark.parametrize("how", [replaced, rewritten])
def test_a_copy_inherits_no_acl(mount, how):
    """Of a vault whose directories hand one down, which the log itself has not."""
    m = mount("rewrite=archive",
              prepare=lambda v: run("setfacl", "-d", "-m", f"u:{READER}:rw", v, check=0))
    append(m.p("x.jsonl"), b'{"old": 1}\n')
    run("setfacl", "-b", m.p("x.jsonl"), check=0)
    os.chown(m.p("x.jsonl"), ADA, GROUP)
    os.chmod(m.p("x.jsonl"), 0o660)
    acl = acl_of(m.b("x.jsonl"))
    how(m, m.p("x.jsonl"))
    [copy] = copies(m)
    assert acl_of(copy) == acl
    assert not reads(READER, copy)
