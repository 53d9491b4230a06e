# SPDX-License-Identifier: MIT
"""Rules by pattern in the configuration file: each file is treated by its own values."""

import errno
import json
import os

import pytest
from util import (
    DAMAGE,
    NOBODY,
    REPAIRED,
    USAGE,
    append,
    binary,
    ctl,
    parse,
    refused,
    run,
)

BAD = b"no JSON\n"


@pytest.fixture
def config(workdir):
    """config(rules, **options) -> the option that names a file with them."""

    def write(rules, **options):
        path = workdir / "rules.json"
        path.write_text(json.dumps({**options, "rules": rules}))
        return f"config={path}"

    return write


def test_each_file_has_its_own_values(mount, config):
    m = mount(
        config(
            [
                {"match": "lax/**", "onbad": "quarantine", "unlink": "allow"},
                {"match": "strict.jsonl:keep/*", "append": "strict", "unlink": "deny"},
                {"match": "objects.*", "value": "object"},
                {"match": "long.*", "maxrecord": "1M", "oversize": "reject", "pipebuf": "64K"},
            ],
            maxrecord="64K",
        )
    )
    for d in ("lax", "keep"):
        m.p(d).mkdir()

    append(m.p("lax/x.jsonl"), BAD + b'{"n":1}\n')
    assert m.both("lax/x.jsonl") == b'{"n":1}\n'
    with refused(errno.EBADMSG):
        append(m.p("x.jsonl"), BAD + b'{"n":1}\n')

    append(m.p("strict.jsonl"), b"1\n")
    with refused(errno.EPERM):
        os.open(m.p("strict.jsonl"), os.O_WRONLY)
    os.close(os.open(m.p("x.jsonl"), os.O_WRONLY))

    append(m.p("x.jsonl"), b"[1]\n")
    with refused(errno.EBADMSG):
        append(m.p("objects.jsonl"), b"[1]\n")

    record = b'"' + b"x" * 100_000 + b'"\n'
    with refused(errno.EMSGSIZE):
        append(m.p("x.jsonl"), record)
    with refused(errno.EMSGSIZE):
        append(m.p("long.jsonl"), record)
    append(m.p("long.jsonl"), record[:60_000] + b'"\n')

    append(m.p("keep/x.jsonl"), b"1\n")
    with refused(errno.EPERM):
        m.p("keep/x.jsonl").unlink()
    m.p("lax/x.jsonl").unlink()
    assert not m.archive()
    m.p("x.jsonl").unlink()
    assert len(m.archive()) == 1


def test_the_longest_record_of_any_rule_can_be_finished(mount, config):
    """The bound on what one user has pending is not less than one such record."""
    m = mount(config([{"match": "big.*", "maxrecord": "24M"}], maxrecord="64K", pending_max="24M"))
    record = b'"' + b"x" * (23 << 20) + b'"\n'
    append(m.p("big.jsonl"), record)
    assert m.both("big.jsonl") == record


def test_a_rule_gives_the_class(mount, config):
    m = mount(
        config(
            [
                {"match": "*.ledger", "class": "governed"},
                {"match": "raw/*", "class": "plain"},
            ],
            exclude="tmp/**",
        )
    )
    for d in ("raw", "tmp"):
        m.p(d).mkdir()
    with refused(errno.EBADMSG):
        append(m.p("x.ledger"), BAD)
    append(m.p("x.ledger"), b"1\n")
    for plain in ("raw/x.jsonl", "raw/x.ledger", "tmp/x.ledger", "x.ledger.1"):
        append(m.p(plain), BAD)
        assert m.both(plain) == BAD
        os.unlink(m.p(plain))
    # A log of a rule rotates as one of match= does, and to nowhere else.
    os.rename(m.p("x.ledger"), m.p("x.ledger.1"))
    append(m.p("x.ledger"), b"2\n")
    with refused(errno.EPERM):
        os.rename(m.p("x.ledger"), m.p("raw/y.ledger"))
    append(m.p("raw/a.ledger"), b"x")
    with refused(errno.EXDEV):
        os.rename(m.p("raw"), m.p("cooked"))


def test_a_renamed_file_is_treated_by_its_new_name(mount, config):
    m = mount(config([{"match": "lax.*", "onbad": "quarantine"}]))
    append(m.p("a.jsonl"), b"1\n")
    fd = os.open(m.p("a.jsonl"), os.O_WRONLY | os.O_APPEND)
    os.rename(m.p("a.jsonl"), m.p("lax.jsonl"))
    append(m.p("lax.jsonl"), BAD)
    # What is open keeps what it was opened with.
    with refused(errno.EBADMSG):
        os.write(fd, b"no JSON either\n")
    with refused(errno.EBADMSG):
        os.close(fd)
    assert m.both("lax.jsonl") == b"1\n"


@pytest.mark.parametrize(
    "rule, says",
    [
        ({"match": "*", "max_threads": 3}, "max_threads is an option of the whole mount"),
        ({"match": "*", "class": "prose"}, "governed, replace, text"),
        ({"match": "*"}, "sets nothing"),
        ({"sync": "none"}, 'no "match"'),
    ],
)
def test_a_wrong_rule_is_refused_with_file_and_line(workdir, config, rule, says):
    option = config([rule])
    (workdir / "v").mkdir()
    p = run(binary("jsonlfs"), "-o", option, workdir / "v", workdir / "v", check=1)
    assert f"{option.removeprefix('config=')}:1: " in p.stderr.decode()
    assert says in p.stderr.decode()


# ---- jsonlfsctl judges as the mount does ----

RULES = [
    {"match": "objects.*", "value": "object"},
    {"match": "logs/*.ledger", "class": "governed", "maxdepth": 2},
    {"match": "scratch/**", "class": "plain"},
]


def lay_down(top):
    """One line of each that is a record by the defaults or by the rules alone."""
    for name, data in (("objects.jsonl", b'{"a":1}\n[1]\n'), ("x.jsonl", b"[[[1]]]\n"),
                       ("logs/a.ledger", b"[[[1]]]\n[1]\n"), ("scratch/x.jsonl", b"none\n")):
        path = top / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (1, 1))  # nobody is appending


def found(*argv, code=DAMAGE, **kw):
    """What check tells, by the name that it shows."""
    report = parse(ctl("check", "--json", *argv, code=code, **kw).stdout)
    return {(f["file"], f["line"], f["kind"]) for f in report["findings"]}


@pytest.mark.damaged
def test_check_and_repair_judge_by_the_rules_of_the_mount(mount, config, workdir):
    m = mount(config(RULES))
    lay_down(m.source)
    # Not by what stands in the file by now, which not everybody can read.
    config([{"match": "*", "class": "governed"}])
    (workdir / "rules.json").chmod(0o600)
    bad = {(f"{m.mnt}/objects.jsonl", 2, "wrong-value"),
           (f"{m.mnt}/logs/a.ledger", 1, "invalid")}
    assert found(m.mnt) == bad == found(m.mnt, uid=NOBODY)
    for name in ("objects.jsonl", "logs/a.ledger"):
        assert found(m.p(name)) == {b for b in bad if b[0].endswith(name)}
        assert found(name, cwd=m.mnt) == {(name, *b[1:]) for b in bad if b[0].endswith(name)}
    # The command line comes first.
    assert found("--value=any", "--maxdepth=9", m.mnt, code=0) == set()
    assert found("--value=any", m.p("logs")) == {b for b in bad if "ledger" in b[0]}
    assert len(found(f"--config={workdir / 'rules.json'}", m.mnt)) == 1
    # And after a reload the new rules.
    config(RULES[1:])
    ctl("reload", m.mnt)
    assert found(m.mnt) == {b for b in bad if "ledger" in b[0]}
    config(RULES)
    ctl("reload", m.mnt)

    told = ctl("repair", m.mnt, code=DAMAGE).stdout.decode()
    assert "objects.jsonl:2: " in told and "a.ledger:1: " in told and "scratch" not in told
    ctl("repair", "--apply", m.mnt, code=REPAIRED)
    assert m.both("objects.jsonl") == b'{"a":1}\n' and m.both("logs/a.ledger") == b"[1]\n"
    assert m.both("x.jsonl") == b"[[[1]]]\n" and m.both("scratch/x.jsonl") == b"none\n"
    assert found(m.mnt, code=0) == set()


def test_a_bare_vault_is_judged_by_a_configuration_file(config, workdir):
    option = "--" + config(RULES)
    v = workdir / "v"
    v.mkdir()
    lay_down(v)
    bad = {(f"{v}/objects.jsonl", 2, "wrong-value"), (f"{v}/logs/a.ledger", 1, "invalid")}
    assert found(option, v) == bad
    assert found(v) == {(f"{v}/scratch/x.jsonl", 1, "invalid")}
    assert found("--value=any", option, v) == {b for b in bad if "ledger" in b[0]}
    # Below a vault's root, and of a file, patterns mean paths from that root.
    (v / ".jsonlfs").mkdir()
    assert found(option, v / "logs") == found(option, v / "logs/a.ledger") == \
        {b for b in bad if "ledger" in b[0]}
    (v / ".jsonlfs").rmdir()
    ctl("repair", "--apply", option, v, code=REPAIRED)
    assert (v / "objects.jsonl").read_bytes() == b'{"a":1}\n'
    assert (v / "logs/a.ledger").read_bytes() == b"[1]\n"
    assert (v / "scratch/x.jsonl").read_bytes() == b"none\n"
    p = ctl("replace", option, v / "objects.jsonl", stdin=b"[1]\n", code=DAMAGE)
    assert b"line 1: " in p.stderr
    ctl("replace", option, v / "x.jsonl", stdin=b"[1]\n")


def test_what_is_restored_is_judged_by_the_rules(mount, config):
    m = mount(config(RULES))
    option = "--" + config(RULES)
    with refused(errno.EBADMSG):
        append(m.p("objects.jsonl"), b"[1]\n")
    (entry,) = parse(ctl("quarantine", "list", "--json", m.mnt).stdout)["quarantine"]

    def restore(*argv, stdin=b'{"a":1}\n[1]\n', code=DAMAGE):
        return ctl("quarantine", "restore", *argv, entry["file"], "--edited=-", stdin=stdin,
                   code=code).stderr

    # All or nothing, mounted or bare.
    assert b"line 2: " in restore(m.mnt) and m.both("objects.jsonl") == b""
    m.umount()
    assert b"line 2: " in restore(option, m.source)
    assert m.b("objects.jsonl").read_bytes() == b""
    restore(option, m.source, stdin=b'{"a":1}\n', code=0)
    restore("--again", m.source, code=0)
    assert m.b("objects.jsonl").read_bytes() == b'{"a":1}\n{"a":1}\n[1]\n'
    assert b"are for restore" in ctl("quarantine", "list", option, m.source, code=USAGE).stderr
