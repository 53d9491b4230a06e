# SPDX-License-Identifier: MIT
"""Copies stay copies: what the writer of a new file, or a rename, brings is kept byte for byte,
and the newline that it lacks goes in front of the next append."""

import os
import subprocess

import pytest
from util import append, ctl, opened, outcome, sh, wait_for

COPIES = {
    "nonl": b'{"a":1}\n{"a":2}',
    "blank": b'{"a":1}\n\n \t\r\n{"a":2}\n\n',
    "crlf": b'{"a":1}\r\n{"a":2}\r\n',
    "bom": b'\xef\xbb\xbf{"a":1}\n{"a":2}',
    "one": b'"x"',
    "big": b'{"a":"' + b"x" * 3_000_000 + b'"}\n{"b":1}',
}
# What could not be told from half a record gets its newline.
FINISHED = {"number": b'{"a":1}\n12', "space": b'{"a":1} ', "blank end": b'{"a":1}\n  '}
OLD = 1_577_836_800


@pytest.fixture
def there(workdir):
    for name, data in COPIES.items():
        (workdir / f"{name}.jsonl").write_bytes(data)
        os.utime(workdir / f"{name}.jsonl", (OLD, OLD))
    return workdir


def judge(m, where="."):
    for name, data in COPIES.items():
        path = f"{where}/{name}.jsonl"
        assert m.both(path) == data, name
        assert os.stat(m.p(path)).st_size == len(data)


@pytest.mark.parametrize("how", [
    "cp -p $1/*.jsonl .", "rsync -a $1/ .", "rsync -a --inplace $1/ .",
    "tar cf - -C $1 . | tar xf -", "for f in $1/*; do dd if=$f of=${f##*/} bs=7 status=none; "
    "touch -r $f ${f##*/}; done"])
def test_copies_are_kept_byte_for_byte(m, there, how):
    (there / "big.jsonl").write_bytes(COPIES["nonl"])
    os.utime(there / "big.jsonl", (OLD, OLD))
    for _ in range(1 if how.startswith(("for", "cp", "tar")) else 3):
        sh(how, m.mnt, there)
    for name in COPIES:
        data = (there / f"{name}.jsonl").read_bytes()
        assert m.both(f"{name}.jsonl") == data, name
        assert os.stat(m.p(f"{name}.jsonl")).st_mtime == OLD, name


def test_large_copies(m, there):
    sh("cp -p $1/*.jsonl .", m.mnt, there)
    judge(m)


def test_what_could_be_half_a_record_gets_its_newline(m):
    for name, data in FINISHED.items():
        m.p(f"{name}.jsonl").write_bytes(data)
        append(m.p(f"{name}.jsonl"), b'{"z":1}\n')
        assert m.both(f"{name}.jsonl") == data + b"\n" + b'{"z":1}\n', name


def test_the_newline_goes_in_front_of_the_next_append(m):
    for name, data in COPIES.items():
        m.p(f"{name}.jsonl").write_bytes(data)
        append(m.p(f"{name}.jsonl"), b'{"z":1}\n')
        gap = b"" if data.endswith(b"\n") else b"\n"
        assert m.both(f"{name}.jsonl") == data + gap + b'{"z":1}\n', name


def test_a_clone_is_clean(m, workdir):
    script = (
        "set -e; git init -q -b main $1/r; cd $1/r; git config user.email a@b; git config user.name a\n"
        "printf '{\"a\":1}\\n{\"a\":2}' > nonl.jsonl; printf '{\"a\":1}\\n\\n{\"a\":2}\\n' > blank.jsonl\n"
        "git add -A; git commit -qm 1; git clone -q . \"$2/c\"; cd \"$2/c\"; git status --short"
    )
    assert subprocess.run(["bash", "-c", script, "x", workdir, m.mnt], check=True, timeout=60,
                          stdout=subprocess.PIPE).stdout == b""


def test_truncation_to_the_own_end_is_no_change(m):
    with opened(m.p("x.jsonl"), os.O_RDWR | os.O_CREAT) as fd:
        os.write(fd, b'{"a":1}\n{"half":')
        os.ftruncate(fd, 17 - 1)
        os.write(fd, b"1}\n")
        assert outcome(lambda: os.ftruncate(fd, 8)) == 1
    assert m.both("x.jsonl") == b'{"a":1}\n{"half":1}\n'


@pytest.mark.parametrize("first,second", [(b"", b"\n"), (b"\n", b"")])
def test_copytruncate_with_a_last_newline_more_or_less(m, first, second):
    """The copy that logrotate has made holds the log, whichever of the two lacks it."""
    m.p("x.jsonl").write_bytes(b'{"a":1}\n{"a":2}' + first)
    m.p("x.jsonl.1").write_bytes(b'{"a":1}\n{"a":2}' + second)
    os.truncate(m.p("x.jsonl"), 0)
    assert m.both("x.jsonl") == b""
    append(m.p("x.jsonl"), b'{"a":3}\n')
    assert m.both("x.jsonl") == b'{"a":3}\n' and m.quarantine() == []


def test_status_lists_logs_without_their_last_newline(m, there):
    os.makedirs(m.p("d"))
    sh("cp $1/nonl.jsonl $1/crlf.jsonl .; rsync -a $1/one.jsonl d/", m.mnt, there)
    said = ctl("status", m.mnt).stdout.decode()
    assert said.endswith("\n  d/one.jsonl\n  nonl.jsonl\n") and "last newline" in said
    sh("""echo '{"n":1}' >> nonl.jsonl; echo '{"n":1}' >> d/one.jsonl""", m.mnt)
    assert "last newline" not in ctl("status", m.mnt).stdout.decode()
    for n in range(30):
        m.p(f"{n:02}.jsonl").write_bytes(b"{}")
    said = ctl("status", m.mnt).stdout.decode()
    assert said.count(".jsonl\n") == 20 and said.endswith("jsonlfsctl check lists all\n")


@pytest.mark.parametrize("how", [
    "cp $1 .t; mv .t x.jsonl", "cat $1 > x.jsonl", "cp $1 w.jsonl; mv w.jsonl x.jsonl",
    "cp $1 y.jsonl; mv y.jsonl x.jsonl"])
@pytest.mark.parametrize("rewrite", ["deny", "extend", "archive"])
def test_status_lists_logs_that_were_made_anew_without_newline(mount, workdir, how, rewrite):
    if rewrite == "deny" and how.startswith("cat"):
        return
    m = mount(f"rewrite={rewrite}")
    if "y.jsonl" not in how:
        append(m.p("x.jsonl"), b'{"a":1}\n')
    (workdir / "from").write_bytes(b'{"a":1}\n{"a":2}')
    sh(how, m.mnt, workdir / "from")
    assert m.both("x.jsonl") == b'{"a":1}\n{"a":2}'
    assert ctl("status", m.mnt).stdout.decode().endswith("\n  x.jsonl\n")


def test_copies_that_get_a_newline_keep_their_time(m, workdir):
    for name, data in FINISHED.items():
        (workdir / f"{name}.jsonl").write_bytes(data)
        os.utime(workdir / f"{name}.jsonl", (OLD, OLD))
    os.makedirs(m.p("r"))
    sh("cp -p $1/*.jsonl .; rsync -a $1/ r/ --include='*.jsonl' --exclude='*'", m.mnt, workdir)
    for name, data in FINISHED.items():
        for path in (f"{name}.jsonl", f"r/{name}.jsonl"):
            wait_for(lambda: m.b(path).read_bytes() == data + b"\n", "the release")
            assert os.stat(m.b(path)).st_mtime == OLD, path
            assert os.stat(m.p(path)).st_mtime == OLD, path
