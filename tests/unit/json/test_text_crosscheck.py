# SPDX-License-Identifier: MIT
"""Holds the validator of records against Python's json, made strict: NaN and Infinity
refused, bytes decoded as strict UTF-8. What both must agree on: which lines are valid, and
at which byte an invalid one goes wrong (the longest beginning that can still be completed
ends there). The vector and the portable path are compared on everything that is asked.

Needs the helper textcheck of the build directory (JSONLFS_BUILD, default ./build).
JSONLFS_TEXT_MUTATIONS says how many mutated records are tried (default 40,000)."""

import itertools
import json
import os
import random
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

REPO = Path(__file__).resolve().parents[3]
BUILD = Path(os.environ.get("JSONLFS_BUILD", REPO / "build"))
TEXTCHECK = BUILD / "tests" / "unit" / "textcheck"
CORPUS = REPO / "tests" / "corpus"
MUTATIONS = int(os.environ.get("JSONLFS_TEXT_MUTATIONS", "40000"))
KINDS = {dict: 1, list: 2, str: 3, float: 4, bool: 5, type(None): 5}

settings.register_profile(
    "text",
    deadline=None,
    database=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("text")


class Answer:
    def __init__(self, line):
        self.verdict, offset, kind, grows, agree = line.split()
        self.offset, self.kind = int(offset), int(kind)
        self.can_grow, self.agree = grows == "1", agree == "1"
        self.ok = self.verdict == "ok"


def request(line):
    return struct.pack("<I", len(line)) + line


def ask_all(lines):
    """One run of the helper for many lines."""
    out = subprocess.run(
        [TEXTCHECK], input=b"".join(map(request, lines)), capture_output=True, check=True
    )
    answers = [Answer(x) for x in out.stdout.decode().splitlines()]
    assert len(answers) == len(lines)
    for line, answer in zip(lines, answers):
        assert answer.agree, f"the paths differ: {line!r}"
    return answers


@pytest.fixture(scope="module")
def ask():
    """The answer for one line."""
    with subprocess.Popen([TEXTCHECK], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:

        def one(line):
            p.stdin.write(request(line))
            p.stdin.flush()
            answer = Answer(p.stdout.readline().decode())
            assert answer.agree, f"the paths differ: {line!r}"
            return answer

        yield one
        p.stdin.close()
    assert p.returncode == 0


def refuse(word):
    raise ValueError(word)


def value_of(line):
    """Python's reading of a line; ValueError when it is no JSON text."""
    # Numbers become floats without being converted: Python has limits of its own there.
    number = lambda digits: 0.5  # noqa: E731
    return json.loads(
        line.decode("utf-8"), parse_constant=refuse, parse_int=number, parse_float=number
    )


def valid(line):
    try:
        value_of(line)
    except ValueError:
        return False
    return True


def depth_of(line):
    """An upper bound of the nesting: Python's own limit must not be met."""
    return line.count(b"[") + line.count(b"{")


def read_corpus(kind):
    return [p.read_bytes() for p in sorted((CORPUS / kind).iterdir()) if p.name[0] != "."]


RECORDS = [
    b'{"ts":"2026-11-20T12:15:00.123Z","level":"info","event":"open","user":{"id":12345,'
    b'"name":"alice","admin":false},"tags":["a","b"],"ms":12.5e-3,"ok":true,"parent":null}',
    '{"ts": "2026-11-20T12:15:00Z", "note": "Zürich \\"x\\" \\u00e9 日本 😀 \\\\", '
    '"n": [-1, 0, 3.25, 1E+5], "deep": {"a": [{"b": []}]}}\r'.encode(),
    b' [1 , "two" ,\t{ "three" : [ ] } , null ] ',
    b'"' + b"long string with \\n escapes and more " * 6 + b'"',
]
SPICE = [bytes([b]) for b in range(256)] + [
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b"\\u", b"\\ud83d", b'\\"', b"\\\\"),
    *(b"true", b"false", b"null", b"NaN", b"Infinity", b"-", b"0", b"1e5", b".5", b"1."),
    *(b"\xc3\xa4", b"\xe2\x82\xac", b"\xf0\x9f\x98\x80", b"\xed\xa0\x80", b"\xc0\x80"),
    *(b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\x00" * 70, b" " * 64, b"x" * 64, b"}{"),
]


def mutate(rng, line):
    line = bytearray(line)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(line) + 1)
        end = min(len(line), at + rng.choice((0, 1, 1, 1, 2, 5)))
        line[at:end] = rng.choice((b"", rng.choice(SPICE)))
        if rng.random() < 0.1 and line:
            del line[rng.randrange(len(line)) :]
    return bytes(line)


def mutations(seed, count, longest=10**6):
    rng = random.Random(seed)
    seeds = [x for x in read_corpus("accept") + RECORDS if depth_of(x) < 100]
    seeds = [x for x in seeds if len(x) <= longest]
    return [mutate(rng, rng.choice(seeds)) for _ in range(count)]


def test_corpus_is_what_python_thinks():
    accept, reject = read_corpus("accept"), read_corpus("reject")
    assert len(accept) >= 90 and len(reject) >= 200
    assert all(map(valid, accept))
    # Nesting and the mark are the two things where Python is more generous.
    wrong = [x for x in reject if depth_of(x) < 128 and valid(x)]
    assert wrong == []


def test_random_mutations_of_records():
    lines = mutations(1, MUTATIONS)
    answers = ask_all(lines)
    differ = [
        (line, a.verdict) for line, a in zip(lines, answers) if a.ok != valid(line)
    ]
    assert differ == []
    # The mutations must leave something of both kinds.
    assert 0.05 < sum(a.ok for a in answers) / len(answers) < 0.95


# ---- the first wrong byte ----

ENDINGS = [
    *("", "0", '"', '":0', ":0", '"":0', '""'),
    *("rue", "ue", "e", "alse", "lse", "se", "ull", "ll", "l"),
    *('\\"', 'n"', '0000"', '000"', '00"', '0"', 'n":0', '0000":0', '000":0', '00":0'),
    '0":0',
]
MIDDLES = [b"", b"\x80", b"\x80\x80", b"\x80\x80\x80", b"\xa0\x80", b"\x90\x80\x80"]


def closers(line):
    """What closes the containers that are open."""
    stack, in_string, escaped = [], False, False
    for byte in line:
        if in_string:
            in_string = escaped or byte != ord('"')
            escaped = byte == ord("\\") and not escaped
        elif byte == ord('"'):
            in_string = True
        elif byte in b"[{":
            stack.append(b"]" if byte == ord("[") else b"}")
        elif byte in b"]}" and stack:
            stack.pop()
    return b"".join(reversed(stack))


def can_go_on(beginning):
    """Does some valid text begin so? By trying what could end it."""
    close = closers(beginning)
    return any(
        valid(beginning + middle + ending.encode() + close)
        for middle, ending in itertools.product(MIDDLES, ENDINGS)
    )


def check_offset(line, answer):
    if answer.verdict == "bom":
        return
    if answer.verdict in ("ok", "blank", "incomplete"):
        assert can_go_on(line), line
        assert answer.offset == (0 if answer.ok else len(line))
    else:
        assert can_go_on(line[: answer.offset]), (line, answer.offset)
        assert not can_go_on(line[: answer.offset + 1]), (line, answer.offset)


def test_the_first_wrong_byte_of_mutations():
    lines = mutations(2, MUTATIONS // 20, longest=130)
    for line, answer in zip(lines, ask_all(lines)):
        check_offset(line, answer)


def test_the_first_wrong_byte_of_the_corpus():
    lines = read_corpus("accept") + read_corpus("reject")
    lines = [x for x in lines if depth_of(x) < 128 and len(x) < 400]
    assert len(lines) > 250
    for line, answer in zip(lines, ask_all(lines)):
        check_offset(line, answer)


# ---- hypothesis ----

TEXTS = st.text(st.characters(blacklist_categories=("Cs",)), max_size=70)
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(TEXTS, inner, max_size=6),
    max_leaves=25,
)
STYLES = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "indent": st.sampled_from([None, None, 1, "\t"]),
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (" ,\r", "\t:\n")]),
    }
)


@given(VALUES, STYLES)
def test_what_python_writes_is_accepted(ask, value, style):
    line = json.dumps(value, **style).encode()
    answer = ask(line)
    assert answer.ok, (line, answer.verdict, answer.offset)
    kind = KINDS[float if type(value) is int else type(value)]
    assert answer.kind == kind
    assert answer.can_grow == (kind == 4)


@given(VALUES, STYLES, st.data())
def test_what_python_writes_and_something_spoils(ask, value, style, data):
    line = json.dumps(value, **style).encode()
    at = data.draw(st.integers(0, len(line)))
    cut = data.draw(st.integers(0, 3))
    put = data.draw(st.sampled_from(SPICE) | st.binary(max_size=3))
    line = line[:at] + put + line[at + cut :]
    assert ask(line).ok == valid(line), line


@given(st.text('{}[]:,"\\ut1n-.e \n\x01é€😀', max_size=40))
def test_noise(ask, text):
    line = text.encode()
    answer = ask(line)
    assert answer.ok == valid(line)
    check_offset(line, answer)


@given(st.binary(max_size=150))
def test_bytes_in_a_string(ask, content):
    line = b'"' + content + b'"'
    answer = ask(line)
    assert answer.ok == valid(line)
