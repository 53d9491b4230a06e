"""Rules by pattern in the configuration file: each file is treated by its own values."""

import errno
import json
import os

import pytest
from util import append, binary, refused, run

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
        os.write(fd, BAD)
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
