# SPDX-License-Identifier: MIT
"""Unmodified programs on a real mount: for each the outcome that the rules give it, the
refusals too, with the message that the person sees; bytes asserted through the mount and in
the backing directory."""

import errno
import os
import subprocess
import time

import pytest
from util import (
    BAD,
    NOBODY,
    PYTHON,
    Mount,
    append,
    opened,
    parse,
    py,
    records,
    refused,
    run,
    sh,
    start,
    tree,
    wait_for,
)

ONE = b'{"n":1}\n'
TWO = b'{"n":1}\n{"n":2}\n'
MORE = b'{"n":3}\n'


def lines(count, start=0):
    return b"".join(b'{"n":%d}\n' % n for n in range(start, start + count))


# ---- Python ----


def test_python_open_append(m):
    py("import json\n"
       "with open('x.jsonl', 'a') as f:\n"
       "    for n in range(3000): print(json.dumps({'n': n}), file=f)", m.mnt)
    assert [r["n"] for r in m.records("x.jsonl")] == list(range(3000))


def test_python_json_dump_to_the_handle(m):
    py("import json\n"
       "for n in range(20):\n"
       "    with open('x.jsonl', 'a') as f:\n"
       "        json.dump({'n': n, 'deep': [[{}]], 'text': 'é\\n'}, f, ensure_ascii=False)\n"
       "        f.write('\\n')", m.mnt)
    assert [r["n"] for r in m.records("x.jsonl")] == list(range(20))


def test_python_json_dump_without_a_newline(m):
    """The newline that the program forgot is added at its close."""
    py("import json\n"
       "for n in range(5):\n"
       "    with open('x.jsonl', 'a') as f: json.dump({'n': n}, f)", m.mnt)
    assert [r["n"] for r in m.records("x.jsonl")] == list(range(5))
    assert m.writer("x.jsonl")["closes_without_newline"] == 5


def test_python_json_dump_twice_without_a_newline(m):
    p = py("import json\n"
           "f = open('x.jsonl', 'a')\n"
           "json.dump({'n': 1}, f); json.dump({'n': 2}, f)\n"
           "f.close()", m.mnt, check=1)
    assert p.stderr.splitlines()[-1] == b"OSError: [Errno 74] Bad message"
    assert m.both("x.jsonl") == b""
    assert m.wait_quarantine(1)[0][1] == b'{"n": 1}{"n": 2}'


def test_python_indented_json_is_no_record(m):
    p = py("import json\n"
           "with open('x.jsonl', 'a') as f:\n"
           "    json.dump({'n': 1}, f, indent=2)\n"
           "    f.write('\\n')", m.mnt, check=1)
    assert b"OSError: [Errno 74] Bad message" in p.stderr
    assert m.both("x.jsonl") == b""
    assert m.wait_quarantine(1)[0][1] == b'{\n  "n": 1\n}\n'


def test_python_pathlib(m):
    py("from pathlib import Path\n"
       "p = Path('x.jsonl')\n"
       "p.write_text('{\"n\":1}\\n')\n"
       "with p.open('a') as f: f.write('{\"n\":2}\\n')\n"
       "with p.open('r+') as f: f.seek(0, 2); f.write('{\"n\":3}\\n')\n"
       "assert p.read_text().count('\\n') == 3", m.mnt)
    p = py("from pathlib import Path\nPath('x.jsonl').write_text('[]\\n')", m.mnt, check=1)
    assert (
        p.stderr.splitlines()[-1]
        == b"PermissionError: [Errno 1] Operation not permitted: 'x.jsonl'"
    )
    assert m.both("x.jsonl") == TWO + MORE


def test_python_unbuffered(m):
    py("f = open('x.jsonl', 'ab', buffering=0)\n"
       "for n in range(50):\n"
       "    f.write(b'{\"n\":')\n"
       "    f.write(b'%d' % n)\n"
       "    f.write(b'}\\n')", m.mnt)
    assert m.both("x.jsonl") == lines(50)
    py("import sys, os\n"
       "os.dup2(os.open('x.jsonl', os.O_WRONLY | os.O_APPEND), 1)\n"
       "print('{\"n\":50}', flush=True); print('{\"n\":51}')", m.mnt)
    assert m.both("x.jsonl") == lines(52)


LOGGING = """
import json, logging, logging.handlers, sys
class Format(logging.Formatter):
    def format(self, r):
        if r.args: return r.getMessage()
        return json.dumps({"level": r.levelname, "n": r.msg})
log = logging.getLogger("audit")
log.setLevel(logging.INFO)
log.propagate = False
handler.setFormatter(Format())
log.addHandler(handler)
"""


def logging_script(handler, body):
    return LOGGING.replace(
        "handler.setFormatter", f"handler = {handler}\nhandler.setFormatter") + body


def test_python_logging_goes_on_after_a_bad_record(mount):
    m = mount("onbad=refuse")
    p = py(
        logging_script(
            "logging.FileHandler('x.jsonl')",
            "log.info(0)\n"
            "log.info('%s', 'no json')\n"
            "for n in range(1, 1001): log.info(n)\n",
        ),
        m.mnt,
    )
    assert b"OSError: [Errno 74] Bad message" in p.stderr  # logging prints it and goes on
    assert p.stderr.count(b"--- Logging error ---") == 1
    assert [r["n"] for r in m.records("x.jsonl")] == list(range(1001))
    assert m.wait_quarantine(1)[0][1] == b"no json\n"


# At exit logging.shutdown closes, too, and says nothing of an OSError.
TOLD_AT_CLOSE = """
try: handler.close()
except OSError as e: print("close:", e)
"""


def logged(numbers):
    return b"".join(b'{"level": "INFO", "n": %d}\n' % n for n in numbers)


def test_python_logging_by_default_is_told_by_close(m):
    """No record in mid-stream fails, not even to be printed."""
    p = py(
        logging_script(
            "logging.FileHandler('x.jsonl')",
            "log.info(0)\n"
            "log.info('%s', 'no json')\n"
            "for n in range(1, 1001): log.info(n)\n" + TOLD_AT_CLOSE,
        ),
        m.mnt,
    )
    assert p.stderr == b""
    assert p.stdout == b"close: [Errno 74] Bad message\n"
    assert m.both("x.jsonl") == logged(range(1001))
    assert m.wait_quarantine(1)[0][1] == b"no json\n"


def test_python_logging_with_many_bad_records_by_default(m):
    p = py(
        logging_script(
            "logging.FileHandler('x.jsonl')",
            "for n in range(300):\n"
            "    log.info(n)\n"
            "    if n % 10 == 0: log.info('%s', 'bad %d' % n)\n" + TOLD_AT_CLOSE,
        ),
        m.mnt,
    )
    assert p.stderr == b""
    assert p.stdout == b"close: [Errno 74] Bad message\n"
    assert m.both("x.jsonl") == logged(range(300))
    assert [(e["event"], data) for e, data in m.wait_quarantine(30)] == [
        ("bad-record", b"bad %d\n" % n) for n in range(0, 300, 10)]


def test_python_logging_with_many_bad_records(mount):
    m = mount("onbad=refuse")
    p = py(
        logging_script(
            "logging.FileHandler('x.jsonl')",
            "for n in range(300):\n"
            "    log.info(n)\n"
            "    if n % 10 == 0: log.info('%s', 'bad %d' % n)\n",
        ),
        m.mnt,
    )
    assert [r["n"] for r in m.records("x.jsonl")] == list(range(300))
    assert p.stderr.count(b"--- Logging error ---") == 30
    got = b"".join(data for _, data in m.wait_quarantine(30))
    assert got == b"".join(b"bad %d\n" % n for n in range(0, 300, 10))


# A program that catches the error of a flush and goes on with the same file.
BUFFERED = (
    "import json\n"
    "f = open('x.jsonl', 'a')\n"
    "def put(text):\n"
    "    try:\n"
    "        f.write(text + '\\n'); f.flush()\n"
    "    except OSError: pass\n"
    "put('oops')\n"
    "for n in range(1000): put(json.dumps({'n': n, 'pad': 'x' * (n % 50)}))\n"
    "f.close()"
)


def check_buffered(m):
    assert m.both("x.jsonl") == b"".join(
        b'{"n": %d, "pad": "%s"}\n' % (n, b"x" * (n % 50)) for n in range(1000))
    assert m.wait_quarantine(1)[0][1] == b"oops\n"


def test_python_buffered_file_goes_on_after_a_bad_record(mount):
    m = mount("onbad=refuse")
    py(BUFFERED, m.mnt)
    check_buffered(m)


def test_python_buffered_file_by_default_is_told_by_close_too(m):
    p = py(BUFFERED, m.mnt, check=1)
    said = p.stderr.splitlines()
    assert said[-1] == b"OSError: [Errno 74] Bad message"
    where = [line for line in said if line.startswith(b"  File ")]
    assert where[-1] == b'  File "<string>", line 9, in <module>'  # f.close()
    check_buffered(m)


def test_python_rotating_file_handler(m):
    py(
        logging_script(
            "logging.handlers.RotatingFileHandler('x.jsonl', maxBytes=2000, backupCount=50)",
            "for n in range(1000): log.info(n)\n",
        ),
        m.mnt,
    )
    names = sorted(
        (n for n in os.listdir(m.mnt) if n.startswith("x.jsonl.")),
        key=lambda n: -int(n.rsplit(".", 1)[1]),
    )
    assert len(names) > 10
    got = [r["n"] for name in [*names, "x.jsonl"] for r in m.records(name)]
    assert got == list(range(1000))


def test_python_rotating_file_handler_drops_the_oldest_as_it_is_told(m):
    py(
        logging_script(
            "logging.handlers.RotatingFileHandler('x.jsonl', maxBytes=500, backupCount=2)",
            "for n in range(200): log.info(n)\n",
        ),
        m.mnt,
    )
    assert sorted(os.listdir(m.mnt)) == ["x.jsonl", "x.jsonl.1", "x.jsonl.2"]
    got = [r["n"] for name in ("x.jsonl.2", "x.jsonl.1", "x.jsonl")
           for r in m.records(name)]
    assert got == list(range(got[0], 200))


def test_python_timed_rotating_file_handler(m):
    py(
        "import time\n" + logging_script(
            "logging.handlers.TimedRotatingFileHandler('x.jsonl', when='S')",
            "for n in range(12): log.info(n); time.sleep(0.2)\n",
        ),
        m.mnt,
    )
    names = sorted(n for n in os.listdir(m.mnt) if n != "x.jsonl")
    assert names, "no rotation"
    got = [r["n"] for name in [*names, "x.jsonl"] for r in m.records(name)]
    assert got == list(range(12))


def test_python_watched_file_handler_and_a_rotation(m):
    py(
        "import os\n" + logging_script(
            "logging.handlers.WatchedFileHandler('x.jsonl')",
            "for n in range(100):\n"
            "    log.info(n)\n"
            "    if n == 50: os.rename('x.jsonl', 'x.jsonl.1')\n",
        ),
        m.mnt,
    )
    assert [r["n"] for r in m.records("x.jsonl.1")] == list(range(51))
    assert [r["n"] for r in m.records("x.jsonl")] == list(range(51, 100))


def test_python_killed_in_mid_record(m):
    p = start(PYTHON, "-c",
              "import os, time\n"
              "f = open('x.jsonl', 'ab', buffering=0)\n"
              "f.write(b'{\"n\":1}\\n{\"n\":2,\"text\":\"ha')\n"
              "print(1, flush=True)\n"
              "time.sleep(60)", cwd=m.mnt)
    assert p.stdout.readline() == b"1\n"
    p.kill()
    p.communicate(timeout=10)
    assert m.wait_quarantine(1)[0][1] == b'{"n":2,"text":"ha'
    assert m.both("x.jsonl") == ONE
    entry = m.quarantine()[0][0]
    assert entry["event"] == "fragment" and "python3" in entry["program"]
    m.expect_log("fragment", "x.jsonl", "python3")


def test_python_file_closed_at_exit_with_half_a_record(m):
    """The interpreter ignores what close says at exit: the log has it."""
    py("f = open('x.jsonl', 'a'); f.write('{\"n\":')", m.mnt, check=None)
    assert m.wait_quarantine(1)[0][1] == b'{"n":'
    m.expect_log("fragment", "x.jsonl")


def test_python_shutil_and_tempfile_recipes(m):
    append(m.p("x.jsonl"), TWO)
    py("import shutil, os\n"
       "shutil.copy2('x.jsonl', 'copy.jsonl')\n"
       "shutil.copyfile('x.jsonl', 'copy.txt')\n"
       "open('x.tmp', 'w').write(open('x.jsonl').read() + '{\"n\":3}\\n')\n"
       "os.replace('x.tmp', 'x.jsonl')\n"
       "shutil.move('copy.txt', 'moved.jsonl')", m.mnt)
    assert m.both("copy.jsonl") == m.both("moved.jsonl") == TWO
    assert m.both("x.jsonl") == TWO + MORE
    p = py("import shutil; shutil.copyfile('moved.jsonl', 'x.jsonl')", m.mnt, check=1)
    assert b"PermissionError: [Errno 1] Operation not permitted: 'x.jsonl'" in p.stderr
    p = py("import shutil; shutil.move('x.jsonl', 'x.json')", m.mnt, check=None)
    assert m.p("x.jsonl").exists() or m.archive()


# ---- shells ----


def test_bash_append(m):
    sh("for i in 1 2 3; do echo \"{\\\"n\\\":$i}\" >> x.jsonl; done", m.mnt)
    assert m.both("x.jsonl") == TWO + MORE


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_shell_refusal_has_a_message_and_a_status(m, shell):
    append(m.p("x.jsonl"), ONE)
    p = run(shell, "-c", "echo oops >> x.jsonl", cwd=m.mnt)
    assert p.returncode == 1
    want = {"bash": b"echo: write error: Bad message", "dash": b"echo: I/O error"}
    assert want[shell] in p.stderr
    assert m.both("x.jsonl") == ONE
    assert m.wait_quarantine(1)[0][1] == b"oops\n"
    run(shell, "-c", 'echo \'{"n":2}\' >> x.jsonl', cwd=m.mnt, check=0)
    assert m.both("x.jsonl") == TWO


def test_bash_heredoc(m):
    sh("cat <<EOF >> x.jsonl\n{\"n\":1}\n{\"n\":2}\nEOF\n"
       "cat >> x.jsonl <<< '{\"n\":3}'", m.mnt)
    assert m.both("x.jsonl") == TWO + MORE


def test_bash_heredoc_with_a_bad_line(m):
    """By default the good lines are there, and cat hears of the bad one at its close."""
    p = sh("cat <<EOF >> x.jsonl\n{\"n\":1}\noops\n{\"n\":2}\nEOF", m.mnt, check=1)
    assert p.stderr == b"cat: write error: Bad message\n"
    assert m.both("x.jsonl") == TWO
    assert m.wait_quarantine(1)[0][1] == b"oops\n"


def test_bash_heredoc_with_a_bad_line_is_all_or_none(mount):
    m = mount("onbad=refuse")
    p = sh("cat <<EOF >> x.jsonl\n{\"n\":1}\noops\n{\"n\":2}\nEOF", m.mnt, check=1)
    assert p.stderr == b"cat: write error: Bad message\n"
    assert m.both("x.jsonl") == b""
    assert m.wait_quarantine(1)[0][1] == b'{"n":1}\noops\n{"n":2}\n'


def test_bash_exec_descriptor(m):
    sh("exec 3>>x.jsonl; echo '{\"n\":1}' >&3; printf '{\"n\":' >&3; printf '2}\\n' >&3;"
       "exec 3>&-", m.mnt)
    assert m.both("x.jsonl") == TWO


def test_bash_subshell_and_group(m):
    sh("( echo '{\"n\":1}'; printf '{\"n\":2}'; echo ) >> x.jsonl; { echo '{\"n\":3}'; } >> "
       "x.jsonl", m.mnt)
    assert m.both("x.jsonl") == TWO + MORE


def test_bash_background_jobs_that_inherit_one_descriptor(m):
    sh("( for j in 1 2 3 4 5 6; do\n"
       "    ( for i in $(seq 30); do printf '{\"job\":%d,' $j; printf '\"n\":%d}\\n' $i;"
       "      done ) &\n"
       "  done; wait ) >> x.jsonl", m.mnt)
    got = m.records("x.jsonl")
    for job in range(1, 7):
        assert [r["n"] for r in got if r["job"] == job] == list(range(1, 31))
    assert len(got) == 180


def test_bash_xargs_parallel(m):
    m.p("emit").write_text(
        "#!/bin/sh\nprintf '{\"n\":'\nprintf '%d' $1\nprintf '}\\n'\n")
    os.chmod(m.p("emit"), 0o755)
    sh("seq 150 | xargs -P 8 -n 1 ./emit >> x.jsonl", m.mnt)
    assert sorted(r["n"] for r in m.records("x.jsonl")) == list(range(1, 151))


def test_bash_truncating_redirection(m):
    sh("echo '{\"n\":1}' > x.jsonl", m.mnt)  # a new file
    p = sh("echo '{\"n\":2}' > x.jsonl", m.mnt, check=1)
    assert p.stderr == b"bash: line 1: x.jsonl: Operation not permitted\n"
    p = sh(": > x.jsonl", m.mnt, check=1)
    assert m.both("x.jsonl") == ONE


def test_bash_printf_without_a_newline(m):
    sh("printf '{\"n\":1}' >> x.jsonl; printf '{\"n\":2}' >> x.jsonl", m.mnt)
    assert m.both("x.jsonl") == TWO
    sh("printf '{\"n\":' >> x.jsonl", m.mnt, check=None)  # bash minds no close
    assert m.wait_quarantine(1)[0][1] == b'{"n":'
    assert m.both("x.jsonl") == TWO


def test_bash_pipeline_and_process_substitution(m):
    sh("seq 500 | while read n; do echo \"{\\\"n\\\":$n}\"; done >> x.jsonl; "
       "seq 501 600 | sed 's/.*/{\"n\":&}/' > >(cat >> x.jsonl); wait; sleep 0.3", m.mnt)
    wait_for(lambda: len(m.records("x.jsonl")) == 600, "600 records")


def test_bash_noclobber_and_test_builtins(m):
    sh("set -C; echo '{\"n\":1}' > x.jsonl; test -s x.jsonl; [ x.jsonl -nt /etc/passwd ]; "
       "[ $(wc -l < x.jsonl) = 1 ]; [ $(stat -c %s x.jsonl) = 8 ]", m.mnt)


# ---- the usual text tools ----


def test_tee_append(m):
    run("tee", "-a", "x.jsonl", cwd=m.mnt, stdin=lines(2000), check=0)
    assert m.both("x.jsonl") == lines(2000)
    p = run("tee", "-a", "x.jsonl", cwd=m.mnt, stdin=b"oops\n")
    assert p.returncode == 1
    assert p.stderr == b"tee: x.jsonl: Bad message\n"
    assert p.stdout == b"oops\n"
    assert m.both("x.jsonl") == lines(2000)


def test_jq_compact(m):
    run("bash", "-c", "seq 3000 | jq -c '{n: ., pad: \"jq\"}' >> x.jsonl", cwd=m.mnt, check=0)
    assert [r["n"] for r in m.records("x.jsonl")] == list(range(1, 3001))


def test_jq_without_compact_is_refused(mount):
    m = mount("onbad=refuse")
    p = sh("seq 2 | jq '{n: .}' >> x.jsonl", m.mnt, check=None)
    assert p.returncode != 0 or m.log_lines("refused", "x.jsonl")
    assert m.both("x.jsonl") == b""
    m.expect_log("refused", "x.jsonl", "jq")
    wait_for(lambda: m.set_aside() == b'{\n  "n": 1\n}\n{\n  "n": 2\n}\n', "the bytes")


def test_jq_without_compact_by_default(m):
    """Nothing in it is a record: the write fails, and jq says so."""
    p = sh("jq -n '{n: 1}' >> x.jsonl", m.mnt, check=2)
    assert p.stderr.lower().endswith(b"error: writing output failed: bad message\n")
    assert m.both("x.jsonl") == b""
    (entry, data), = m.wait_quarantine(1)
    assert data == b'{\n  "n": 1\n}\n'
    assert entry["event"] == "refused" and "jq" in entry["program"]


def test_jq_reads_and_rewrites_beside(m):
    append(m.p("x.jsonl"), TWO)
    sh("jq -c '.n += 1' x.jsonl > y.jsonl; jq -s length x.jsonl", m.mnt)
    assert m.both("y.jsonl") == b'{"n":2}\n{"n":3}\n'
    p = sh("jq -c . x.jsonl > tmp && mv tmp x.jsonl", m.mnt)  # the same content
    assert p.returncode == 0
    p = sh("jq -c '.n += 1' x.jsonl > tmp && mv tmp x.jsonl", m.mnt, check=1)
    assert b"mv: cannot move 'tmp' to 'x.jsonl': Operation not permitted" in p.stderr
    assert m.both("x.jsonl") == TWO


def test_perl(m):
    run("perl", "-e",
        'open(F, ">>", "x.jsonl") or die; print F "{\\"n\\":$_}\\n" for 0..2999; '
        "close(F) or die $!", cwd=m.mnt, check=0)
    assert m.both("x.jsonl") == lines(3000)
    p = run("perl", "-e",
            'open(F, ">>", "x.jsonl") or die; print F "oops\\n"; close(F) or die "close: $!"',
            cwd=m.mnt)
    assert p.returncode != 0 and b"close: Bad message" in p.stderr
    assert m.both("x.jsonl") == lines(3000)
    run("perl", "-e",
        'use IO::Handle; open(F, ">>", "x.jsonl"); F->autoflush(1); '
        'print F "{\\"n\\":"; print F "3000}"; print F "\\n"; close(F) or die',
        cwd=m.mnt, check=0)
    assert m.both("x.jsonl") == lines(3001)


@pytest.mark.parametrize("awk", ["mawk", "gawk"])
def test_awk(m, awk):
    run(awk, 'BEGIN { for (n = 0; n < 3000; n++) printf "{\\"n\\":%d}\\n", n >> "x.jsonl" }',
        cwd=m.mnt, check=0)
    assert m.both("x.jsonl") == lines(3000)
    p = run(awk, 'BEGIN { print "oops" >> "x.jsonl"; print "{\\"n\\":9}" >> "y.jsonl" }',
            cwd=m.mnt)
    assert m.both("x.jsonl") == lines(3000)
    assert m.both("y.jsonl") == b'{"n":9}\n'
    if awk == "gawk":
        assert p.returncode != 0 and b"Bad message" in p.stderr
    else:
        m.expect_log("refused", "x.jsonl", "mawk")


@pytest.mark.parametrize("mode", ["full", "line", "none"])
def test_c_stdio(m, stdio_log, mode):
    p = run(stdio_log, "x.jsonl", 3000, f"buf={mode}", cwd=m.mnt, check=0)
    assert p.stdout == b"failed=0 close=ok\n"
    assert [r["n"] for r in m.records("x.jsonl")] == list(range(1, 3001))


@pytest.mark.parametrize("mode", ["full", "line", "none"])
@pytest.mark.parametrize("pad", [5, 90])
def test_c_stdio_goes_on_after_a_bad_record(m, stdio_log, mode, pad):
    """stdio drops the refused block and goes on in mid-record. Nothing good is lost: each
    record is in the file or, of the block that was dropped, in the quarantine."""
    p = run(stdio_log, "x.jsonl", 1001, "bad=100", f"buf={mode}", f"pad={pad}", cwd=m.mnt,
            check=0)
    assert b"failed=" in p.stdout
    here = [r["n"] for r in m.records("x.jsonl")]
    assert here == sorted(here)
    # The event may still be on its way when its bytes came with the last close.
    wait_for(lambda: b"oops" in m.set_aside(), "the bad record")
    aside, halves = [], []
    for line in m.set_aside().split(b"\n"):
        try:
            aside.append(parse(line)["n"])
        except ValueError:
            if line and b"oops" not in line:
                halves.append(line)
    missing = set(range(1, 1002)) - {100} - set(here) - set(aside)
    # With the block stdio drops the rest of the record that did not fit into it: the
    # only one that is lost, by stdio itself, and its half is kept.
    assert len(halves) <= 1 and len(missing) == len(halves)
    for n, half in zip(missing, halves):
        whole = b'{"id":"c","n":%d,"pad":"%s"}' % (n, b"x" * pad)
        assert whole.startswith(half), half
    assert len(here) + len(aside) + len(missing) == 1000
    if mode == "line":
        assert aside == [] and halves == []


def test_c_stdio_never_closed(m, stdio_log):
    run(stdio_log, "x.jsonl", 500, "close=no", "pad=80", cwd=m.mnt, check=0)
    wait_for(lambda: m.quarantine(), "the half record of the last block")
    got = [r["n"] for r in m.records("x.jsonl")]
    assert got == list(range(1, len(got) + 1)) and 400 < len(got) < 500
    cut = b'{"id":"c","n":%d,"pad":"' % (len(got) + 1) + b"x" * 80
    assert cut.startswith(m.set_aside()[:len(cut)])


def test_sqlite3(m):
    sql = "create table t(n int, s text); insert into t values (1,'a'),(2,'é');"
    db = "t.db"
    run("sqlite3", db, sql, cwd=m.mnt, check=0)
    sh("sqlite3 t.db \"select json_object('n', n, 's', s) from t\" >> x.jsonl", m.mnt)
    assert m.records("x.jsonl") == [{"n": 1, "s": "a"}, {"n": 2, "s": "é"}]
    before = m.both("x.jsonl")
    # One array over several lines is JSON but not JSON Lines.
    sh("sqlite3 -json t.db 'select n from t' >> x.jsonl", m.mnt, check=None)
    assert m.both("x.jsonl") == before
    m.expect_log("refused", "x.jsonl", "sqlite3")
    wait_for(lambda: b'{"n":2}]' in m.set_aside(), "the bytes")
    # One row is one line.
    sh("sqlite3 -json t.db 'select n from t limit 1' >> x.jsonl", m.mnt)
    assert m.both("x.jsonl") == before + b'[{"n":1}]\n'


# ---- copies ----


def test_cp(m, workdir):
    (workdir / "src.jsonl").write_bytes(lines(5000))
    run("cp", workdir / "src.jsonl", "x.jsonl", cwd=m.mnt, check=0)
    run("cmp", workdir / "src.jsonl", "x.jsonl", cwd=m.mnt, check=0)
    run("cp", "-a", "x.jsonl", "y.jsonl", cwd=m.mnt, check=0)
    assert m.both("x.jsonl") == m.both("y.jsonl") == lines(5000)
    (workdir / "src.jsonl").write_bytes(lines(3))
    p = run("cp", workdir / "src.jsonl", "x.jsonl", cwd=m.mnt)
    assert p.returncode == 1
    assert p.stderr == b"cp: cannot create regular file 'x.jsonl': Operation not permitted\n"
    assert m.both("x.jsonl") == lines(5000)
    run("cp", "--remove-destination", workdir / "src.jsonl", "x.jsonl", cwd=m.mnt, check=0)
    assert m.both("x.jsonl") == lines(3)
    assert list(m.archive().values()) == [lines(5000)]


@pytest.mark.parametrize("onbad", ["report", "refuse"])
def test_cp_of_a_file_that_is_no_json_lines(mount, workdir, onbad):
    m = mount() if onbad == "report" else mount("onbad=refuse")
    (workdir / "bad.jsonl").write_bytes(TWO + b"oops\n")
    p = run("cp", workdir / "bad.jsonl", "x.jsonl", cwd=m.mnt)
    assert p.returncode == 1
    assert b"Bad message" in p.stderr
    if onbad == "report":  # the good lines are there, the close says that one is not
        assert b"failed to close 'x.jsonl'" in p.stderr
        assert m.both("x.jsonl") == TWO
        assert m.wait_quarantine(1)[0][1] == b"oops\n"
    else:
        assert m.both("x.jsonl") == b""
        assert m.wait_quarantine(1)[0][1] == TWO + b"oops\n"
    # Half a record at the end: all before it is there, cp hears of it at its close.
    (workdir / "half.jsonl").write_bytes(TWO + b'{"half":')
    p = run("cp", workdir / "half.jsonl", "y.jsonl", cwd=m.mnt)
    assert p.returncode == 1
    assert b"failed to close 'y.jsonl': Bad message" in p.stderr
    assert m.both("y.jsonl") == TWO


def test_cp_of_a_tree_and_tar(m, workdir):
    top = workdir / "tree"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "x.jsonl").write_bytes(lines(400))
    (top / "a" / "b" / "y.jsonl").write_bytes(TWO)
    (top / "a" / "notes.md").write_bytes(b"# hi\n" * 1000)
    os.symlink("x.jsonl", top / "a" / "link.jsonl")
    run("cp", "-a", top / "a", m.p("cp"), check=0)
    sh('mkdir tar && tar -C "$1" -cf - a | tar -C tar -xf -', m.mnt, str(top))
    assert tree(m.p("cp")) == tree(m.p("tar/a")) == tree(top / "a")
    assert tree(m.b("cp")) == tree(top / "a")


def test_dd_and_truncate_and_shred(m):
    append(m.p("x.jsonl"), TWO)
    run("dd", "of=x.jsonl", "oflag=append", "conv=notrunc", "status=none", cwd=m.mnt,
        stdin=MORE, check=0)
    p = run("dd", "of=x.jsonl", "conv=notrunc", "status=none", cwd=m.mnt, stdin=b"XX")
    assert p.returncode == 1 and b"Operation not permitted" in p.stderr
    p = run("dd", "of=x.jsonl", cwd=m.mnt, stdin=MORE)
    assert p.returncode == 1 and b"Operation not permitted" in p.stderr
    p = run("truncate", "-s", "0", "x.jsonl", cwd=m.mnt)
    assert p.returncode == 1 and b"Operation not permitted" in p.stderr
    p = run("shred", "x.jsonl", cwd=m.mnt)
    assert p.returncode == 1
    assert m.both("x.jsonl") == TWO + MORE


def test_rsync(m, workdir):
    src = workdir / "src"
    src.mkdir()
    (src / "x.jsonl").write_bytes(lines(1000))
    (src / "plain.md").write_bytes(b"text\n")
    run("rsync", "-a", f"{src}/", f"{m.mnt}/", check=0)
    assert m.both("x.jsonl") == lines(1000)
    assert os.stat(m.p("x.jsonl")).st_mtime_ns == os.stat(src / "x.jsonl").st_mtime_ns
    inode = os.stat(m.p("x.jsonl")).st_ino
    # The source has grown: what rsync renames onto the live file is an append.
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND) as fd:
        (src / "x.jsonl").write_bytes(lines(1500))
        run("rsync", "-a", f"{src}/", f"{m.mnt}/", check=0)
        assert m.both("x.jsonl") == lines(1500)
        assert os.stat(m.p("x.jsonl")).st_ino == inode
        os.write(fd, MORE)
    assert m.both("x.jsonl") == lines(1500) + MORE
    # The source is another file now.
    (src / "x.jsonl").write_bytes(lines(10, start=77))
    p = run("rsync", "-a", f"{src}/", f"{m.mnt}/")
    assert p.returncode == 23
    assert b"Operation not permitted (1)" in p.stderr
    assert m.both("x.jsonl") == lines(1500) + MORE
    assert [n for n in os.listdir(m.mnt) if n.startswith(".x.jsonl")] == []


def test_rsync_inplace_and_append(m, workdir):
    src = workdir / "x.jsonl"
    src.write_bytes(lines(5000))
    run("rsync", "-t", src, m.p("x.jsonl"), check=0)
    # The same bytes once more, written over themselves.
    run("rsync", "-tI", "--inplace", src, m.p("x.jsonl"), check=0)
    run("rsync", "-tI", "--inplace", "--no-whole-file", src, m.p("x.jsonl"), check=0)
    assert m.both("x.jsonl") == lines(5000)
    src.write_bytes(lines(7000))
    run("rsync", "--append", src, m.p("x.jsonl"), check=0)
    assert m.both("x.jsonl") == lines(7000)
    src.write_bytes(lines(3, start=9))
    p = run("rsync", "--inplace", src, m.p("x.jsonl"))
    assert p.returncode in (11, 23)
    assert b"Operation not permitted (1)" in p.stderr
    assert m.both("x.jsonl") == lines(7000)


def test_rsync_out_of_the_mount(m, workdir):
    append(m.p("x.jsonl"), lines(3000))
    run("rsync", "-a", "--checksum", f"{m.mnt}/", workdir / "out", check=0)
    assert (workdir / "out" / "x.jsonl").read_bytes() == lines(3000)
    assert not (workdir / "out" / ".jsonlfs").exists()


# ---- programs that rewrite ----


def test_sort_in_place(m):
    append(m.p("x.jsonl"), b'{"n":2}\n{"n":1}\n')
    p = run("sort", "-o", "x.jsonl", "x.jsonl", cwd=m.mnt)
    assert p.returncode == 2
    assert p.stderr == b"sort: x.jsonl: error truncating: Operation not permitted\n"
    assert m.both("x.jsonl") == b'{"n":2}\n{"n":1}\n'
    run("sort", "-o", "y.jsonl", "x.jsonl", cwd=m.mnt, check=0)
    assert m.both("y.jsonl") == TWO


def test_sed_in_place(m):
    append(m.p("x.jsonl"), TWO)
    p = run("sed", "-i", "s/1/7/", "x.jsonl", cwd=m.mnt)
    assert p.returncode == 4
    assert p.stderr.startswith(b"sed: cannot rename ./sed")
    assert p.stderr.endswith(b": Operation not permitted\n")
    assert m.both("x.jsonl") == TWO
    # An edit that only adds lines at the end is an append.
    run("sed", "-i", '$a {"n":3}', "x.jsonl", cwd=m.mnt, check=0)
    assert m.both("x.jsonl") == TWO + MORE
    for name in os.listdir(m.mnt):
        if name.startswith("sed"):
            os.unlink(m.p(name))


def test_gzip(m):
    append(m.p("x.jsonl"), lines(1000))
    run("gzip", "x.jsonl", cwd=m.mnt, check=0)
    assert os.listdir(m.mnt) == ["x.jsonl.gz"]
    assert list(m.archive().values()) == [lines(1000)]
    run("gunzip", "-k", "x.jsonl.gz", cwd=m.mnt, check=0)
    assert m.both("x.jsonl") == lines(1000)
    assert run("zcat", "x.jsonl.gz", cwd=m.mnt, check=0).stdout == lines(1000)


def vim(m, *commands, check=None):
    # Below /tmp it would keep no backup.
    argv = ["vim", "-N", "-u", "NONE", "-i", "NONE", "-es", "-c", "set backupskip="]
    for c in commands:
        argv += ["-c", c]
    return run(*argv, "x.jsonl", cwd=m.mnt, stdin=None, check=check,
               env={"TERM": "dumb", "HOME": str(m.mnt)})


def test_vim_with_a_backup_moves_the_old_file_aside(m):
    """Its default: the live file becomes x.jsonl~, a generation, and a new one is written."""
    append(m.p("x.jsonl"), TWO)
    vim(m, "set backup", "%s/2/7/", "wq", check=0)
    assert m.both("x.jsonl") == b'{"n":1}\n{"n":7}\n'
    assert m.both("x.jsonl~") == TWO


def test_vim_in_place_is_refused(m):
    append(m.p("x.jsonl"), TWO)
    p = vim(m, "set nobackup nowritebackup", "%s/2/7/", "redir! > out | silent! write | "
            "redir END", "qa!")
    assert m.both("x.jsonl") == TWO
    seen = p.stderr + p.stdout + m.p("out").read_bytes()
    assert b"E512" in seen or b"E514" in seen or b"E212" in seen or b"E667" in seen, seen


def test_vim_with_bad_content(m):
    append(m.p("x.jsonl"), TWO)
    vim(m, "set backup", "%s/2/oops/", "wq!", "qa!")
    # The records are still there, under one of the two names.
    assert TWO in (m.both("x.jsonl") if m.b("x.jsonl").exists() else b"",
                   m.both("x.jsonl~") if m.b("x.jsonl~").exists() else b"")
    wait_for(lambda: b'{"n":oops}' in m.set_aside(), "the bad text in the quarantine")


def test_vim_only_reading(m):
    append(m.p("x.jsonl"), TWO)
    vim(m, "q", check=0)
    assert m.both("x.jsonl") == TWO
    assert os.listdir(m.mnt) == ["x.jsonl"]


# ---- git ----


def git(cwd, *argv, check=0):
    return run("git", "-c", "user.name=t", "-c", "user.email=t@example.org",
               "-c", "init.defaultBranch=main", "-c", "safe.directory=*",
               "-c", "advice.detachedHead=false",
               *argv, cwd=cwd, check=check, env={"HOME": str(cwd)})


def test_git_checkout(m):
    git(m.mnt, "init", "-q")
    for n in (1, 2, 3):
        append(m.p("x.jsonl"), b'{"n":%d}\n' % n)
        m.p("notes.md").write_text(f"# {n}\n")
        git(m.mnt, "add", ".")
        git(m.mnt, "commit", "-qm", str(n))
    assert git(m.mnt, "ls-files").stdout.split() == [b"notes.md", b"x.jsonl"]
    git(m.mnt, "checkout", "-q", "HEAD~2")
    assert m.both("x.jsonl") == ONE
    assert m.both("notes.md") == b"# 1\n"
    assert TWO + MORE in m.archive().values()  # nothing is lost
    git(m.mnt, "checkout", "-q", "main")
    assert m.both("x.jsonl") == TWO + MORE
    assert git(m.mnt, "status", "--porcelain").stdout == b""
    git(m.mnt, "fsck", "--strict")
    git(m.mnt, "gc", "-q")
    append(m.p("x.jsonl"), b'{"n":4}\n')
    assert git(m.mnt, "status", "--porcelain").stdout == b" M x.jsonl\n"
    git(m.mnt, "stash", "-q")
    assert m.both("x.jsonl") == TWO + MORE
    git(m.mnt, "stash", "pop", "-q")
    assert m.both("x.jsonl") == TWO + MORE + b'{"n":4}\n'


def test_git_clone_and_pull(m, workdir):
    origin = workdir / "origin"
    origin.mkdir()
    git(origin, "init", "-q")
    (origin / "x.jsonl").write_bytes(lines(2000))
    git(origin, "add", ".")
    git(origin, "commit", "-qm", "one")
    git(m.mnt, "clone", "-q", origin, "work")
    assert m.both("work/x.jsonl") == lines(2000)
    (origin / "x.jsonl").write_bytes(lines(2500))
    git(origin, "commit", "-qam", "two")
    git(m.p("work"), "pull", "-q", "--ff-only")
    assert m.both("work/x.jsonl") == lines(2500)
    assert git(m.p("work"), "status", "--porcelain").stdout == b""


def test_git_with_content_that_is_no_json_lines(m, workdir):
    """The file is refused, git says so, the rest of the tree is there."""
    origin = workdir / "origin"
    origin.mkdir()
    git(origin, "init", "-q")
    (origin / "bad.jsonl").write_bytes(b"oops\n")
    (origin / "good.jsonl").write_bytes(TWO)
    git(origin, "add", ".")
    git(origin, "commit", "-qm", "one")
    p = git(m.mnt, "clone", origin, "work", check=None)
    assert p.returncode != 0
    assert b"error: unable to write file bad.jsonl" in p.stderr
    assert m.wait_quarantine(1)[0][1] == b"oops\n"


# ---- trees ----


@pytest.mark.damaged
def test_rm_rf_of_node_modules_with_fixtures_inside(mount):
    fixtures = {
        "node_modules/a/test/good.jsonl": TWO,
        "node_modules/a/test/bad.jsonl": b"oops\n\0\0",
        "node_modules/a/test/half.jsonl": b'{"half":',
        "node_modules/b/empty.jsonl": b"",
        "node_modules/b/index.js": b"1\n",
        "node_modules/b/deep/er/x.jsonl": ONE,
    }

    def prepare(source):
        for name, data in fixtures.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(data)

    m = mount(prepare=prepare)
    p = run("rm", "-rf", "node_modules", cwd=m.mnt, check=0)
    assert p.stderr == b""
    assert os.listdir(m.mnt) == []
    kept = sorted(m.archive().values())
    want = [d for n, d in fixtures.items() if n.endswith(".jsonl") and d]
    assert kept == sorted(want)


def test_mv_into_and_out_of_the_mount(m, workdir):
    (workdir / "x.jsonl").write_bytes(TWO)
    run("mv", workdir / "x.jsonl", m.p("x.jsonl"), check=0)
    assert m.both("x.jsonl") == TWO
    run("mv", m.p("x.jsonl"), workdir / "back.jsonl", check=0)
    assert (workdir / "back.jsonl").read_bytes() == TWO
    assert not m.p("x.jsonl").exists()


def test_mv_to_a_plain_name(m):
    append(m.p("x.jsonl"), TWO)
    p = run("mv", "x.jsonl", "x.txt", cwd=m.mnt)
    assert p.returncode == 1
    assert (
        p.stderr == b"mv: cannot move 'x.jsonl' to 'x.txt': Operation not permitted\n"
    )
    assert m.both("x.jsonl") == TWO
    run("mv", "x.jsonl", "x.jsonl.old", cwd=m.mnt, check=0)
    assert m.both("x.jsonl.old") == TWO


# ---- logrotate ----


def logrotate(m, workdir, body, check=0):
    conf = workdir / "rotate.conf"
    conf.write_text(f"{m.p('x.jsonl')} {{\n{body}\n}}\n")
    os.chmod(conf, 0o644)
    os.chmod(m.mnt, 0o755)
    return run("logrotate", "-f", "-s", workdir / "rotate.state", conf, check=check)


def test_logrotate_create(m, workdir):
    append(m.p("x.jsonl"), TWO)
    logrotate(m, workdir, "rotate 5\ncreate 0640 root root")
    append(m.p("x.jsonl"), MORE)
    logrotate(m, workdir, "rotate 5\ncreate 0640 root root")
    assert m.both("x.jsonl.2") == TWO
    assert m.both("x.jsonl.1") == MORE
    assert m.both("x.jsonl") == b""
    assert os.stat(m.p("x.jsonl")).st_mode & 0o777 == 0o640


def test_logrotate_copytruncate(m, workdir):
    append(m.p("x.jsonl"), TWO)
    with opened(m.p("x.jsonl"), os.O_WRONLY | os.O_APPEND) as fd:
        logrotate(m, workdir, "rotate 5\ncopytruncate")
        os.write(fd, MORE)
    assert m.both("x.jsonl.1") == TWO
    assert m.both("x.jsonl") == MORE


def test_logrotate_dateext_and_compress(m, workdir):
    append(m.p("x.jsonl"), TWO)
    logrotate(m, workdir, "rotate 5\ndateext\ncreate")
    assert m.both(f"x.jsonl-{time.strftime('%Y%m%d', time.gmtime())}") == TWO
    append(m.p("x.jsonl"), MORE)
    logrotate(m, workdir, "rotate 5\nnodateext\ncompress\ncreate")
    assert run("zcat", m.p("x.jsonl.1.gz"), check=0).stdout == MORE


def test_savelog_style_rotation_by_mv(m):
    append(m.p("x.jsonl"), TWO)
    sh("mv x.jsonl x.jsonl.$(date -u +%Y%m%dT%H%M%SZ); : > x.jsonl; echo '{\"n\":3}' >> "
       "x.jsonl", m.mnt)
    assert m.both("x.jsonl") == MORE


# ---- recipes with locks ----


def test_flock_recipes(m):
    sh("for i in $(seq 8); do ( for n in $(seq 10); do\n"
       "  flock x.jsonl.lock -c \"echo '{\\\"w\\\":$i,\\\"n\\\":$n}' >> x.jsonl\"\n"
       "done ) & done; wait", m.mnt)
    assert len(m.records("x.jsonl")) == 80
    script = (
        "import fcntl, os, sys\n"
        "for n in range(50):\n"
        "    with open('y.jsonl', 'a') as f:\n"
        "        fcntl.flock(f, fcntl.LOCK_EX)\n"
        "        f.write('{\"n\":')\n"
        "        f.write('%d}\\n' % n)\n"
        "        f.flush(); os.fsync(f.fileno())\n"
        "        fcntl.flock(f, fcntl.LOCK_UN)\n"
    )
    running = [start(PYTHON, "-c", script, cwd=m.mnt) for _ in range(4)]
    assert [p.communicate(timeout=40) and p.returncode for p in running] == [0] * 4
    assert sorted(r["n"] for r in m.records("y.jsonl")) == sorted(list(range(50)) * 4)


def test_lockf_and_exclusive_lock_files(m):
    py("import fcntl, os\n"
       "for n in range(20):\n"
       "    with open('x.jsonl', 'a') as f:\n"
       "        fcntl.lockf(f, fcntl.LOCK_EX)\n"
       "        f.write('{\"n\":%d}\\n' % n)\n"
       "    fd = os.open('x.lock', os.O_CREAT | os.O_EXCL | os.O_WRONLY)\n"
       "    os.close(fd); os.unlink('x.lock')\n", m.mnt)
    assert m.both("x.jsonl") == lines(20)


# ---- readers, and who asks ----


def test_readers(m):
    append(m.p("x.jsonl"), lines(3000))
    for argv in (["cat"], ["grep", "-a", ""], ["sed", ""], ["awk", "1"], ["tail", "-n+1"],
                 ["head", "-n", "9999"], ["jq", "-c", "."], ["perl", "-pe", ""],
                 ["sort", "-t:", "-k2n"], ["dd", "status=none", "bs=7", "if=x.jsonl"]):
        p = run(*argv, *([] if argv[0] == "dd" else ["x.jsonl"]), cwd=m.mnt, check=0)
        assert p.stdout == lines(3000), argv
    assert run("wc", "-l", "x.jsonl", cwd=m.mnt).stdout == b"3000 x.jsonl\n"
    assert run("grep", "-c", '"n":1', "x.jsonl", cwd=m.mnt).stdout == b"1111\n"


def test_tail_follows(m):
    append(m.p("x.jsonl"), ONE)
    p = start("tail", "-n+1", "-s", "0.1", "-F", "x.jsonl", cwd=m.mnt)
    try:
        assert p.stdout.readline() == ONE
        append(m.p("x.jsonl"), MORE)
        assert p.stdout.readline() == MORE
        os.rename(m.p("x.jsonl"), m.p("x.jsonl.1"))
        append(m.p("x.jsonl"), b'{"n":4}\n')
        assert p.stdout.readline() == b'{"n":4}\n'
    finally:
        p.kill()
        p.communicate(timeout=10)


def test_an_ordinary_user(m):
    os.mkdir(m.p("home"))
    os.chown(m.p("home"), NOBODY, NOBODY)
    sh("umask 027; echo '{\"n\":1}' >> x.jsonl; echo '{\"n\":2}' >> x.jsonl; echo t > t.md",
       m.p("home"), uid=NOBODY)
    assert m.both("home/x.jsonl") == TWO
    for name in ("home/x.jsonl", "home/t.md"):
        st = os.stat(m.b(name))
        assert (st.st_uid, st.st_gid, st.st_mode & 0o777) == (NOBODY, NOBODY, 0o640)
    p = sh("echo oops >> x.jsonl", m.p("home"), uid=NOBODY, check=1)
    assert b"Bad message" in p.stderr
    (entry, _), = m.wait_quarantine(1)
    assert entry["uid"] == NOBODY
    append(m.p("root.jsonl"), ONE)
    os.chmod(m.p("root.jsonl"), 0o644)
    p = sh("echo '{}' >> root.jsonl", m.mnt, uid=NOBODY, check=1)
    assert b"Permission denied" in p.stderr
    assert m.both("root.jsonl") == ONE


def test_a_full_disk_and_a_file_size_limit_leave_whole_records(m):
    append(m.p("x.jsonl"), ONE)
    p = py("import resource, signal, os\n"
           "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
           "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
           "f = open('x.jsonl', 'ab', buffering=0)\n"
           "data = b'{\"pad\":\"' + b'x' * 600 + b'\"}\\n'\n"
           "f.write(data)\n"
           "f.write(data)\n"
           "f.write(data)\n", m.mnt, check=1)
    assert b"OSError" in p.stderr
    got = m.records("x.jsonl")
    assert got[0] == {"n": 1} and len(got) == 2


def test_everything_at_once_on_a_mount_over_itself(mount):
    m = mount(self_mount=True)
    sh("echo '{\"n\":1}' >> x.jsonl; jq -cn '{n: 2}' | tee -a x.jsonl; "
       "echo '# note' >> MEMORY.md; git init -q . ; git add .", m.mnt,
       env={"HOME": str(m.mnt)})
    p = sh("echo oops >> x.jsonl", m.mnt, check=1)
    assert b"Bad message" in p.stderr
    p = sh("sed -i s/1/2/ x.jsonl", m.mnt, check=4)
    assert m.both("x.jsonl") == TWO
    assert m.both("MEMORY.md") == b"# note\n"
    assert b".jsonlfs" not in run("git", "ls-files", cwd=m.mnt,
                                  env={"HOME": str(m.mnt)}).stdout


def test_disk_that_is_full(m, workdir):
    """A small disk: the append that does not fit is refused as a whole."""
    image, disk = workdir / "image", workdir / "disk"
    with open(image, "wb") as f:
        f.truncate(8 << 20)
    run("mkfs.ext4", "-q", "-m", "0", image, check=0)
    disk.mkdir()
    p = run("mount", "-o", "loop", image, disk)
    assert p.returncode == 0, p.stderr
    try:
        (disk / "vault").mkdir()
        (disk / "mnt").mkdir()
        (workdir / "inner").mkdir()
        inner = Mount(disk / "vault", workdir / "inner", [], workdir / "inner.log")
        inner.start()
        try:
            record = b'{"pad":"' + b"x" * 200_000 + b'"}\n'
            count, code = 0, 0
            while not code and count < 100:
                try:
                    append(inner.p("x.jsonl"), record)
                    count += 1
                except OSError as e:
                    code = e.errno
            assert code == errno.ENOSPC
            assert inner.p("x.jsonl").read_bytes() == record * count
            assert len(records(inner.b("x.jsonl"))) == count
            with refused(errno.ENOSPC):
                append(inner.p("x.jsonl"), record)
            with refused(BAD):
                append(inner.p("x.jsonl"), b"oops\n")
            assert inner.b("x.jsonl").read_bytes() == record * count
        finally:
            inner.stop()
            inner.forget()
    finally:
        subprocess.run(["umount", disk], check=True, timeout=20)
