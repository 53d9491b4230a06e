# SPDX-License-Identifier: MIT
"""status and watch in a terminal: a page that is drawn anew, and the terminal as it was."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios

import pytest
from util import BAD, NOBODY, append, binary, ctl, refused, wait_for

GOOD = b'{"a":1}\n'
HOME = b"\x1b[H"


class Terminal:
    """A program in a terminal of 30 rows; what it has drawn."""

    def __init__(self, *argv, rows=30, columns=100, env=None):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.said = b""
        self.p = subprocess.Popen(
            [str(a) for a in argv], stdin=slave, stdout=slave, stderr=slave,
            env={**os.environ, "TERM": "xterm", **(env or {})}, start_new_session=True)

    def read(self):
        with contextlib.suppress(OSError):
            while select.select([self.master], [], [], 0.05)[0]:
                self.said += os.read(self.master, 65536)
        return self.said

    def pages(self):
        """The pages that were drawn whole, as lists of lines."""
        parts = self.read().split(HOME)[1:]
        return [re.sub(rb"\x1b\[[0-9?]*[a-zA-Z]", b"", p).decode().split("\r\n")
                for p in parts if b"\x1b[J" in p]

    def page(self, *words):
        def shown():
            pages = self.pages()
            return pages and all(w in "\n".join(pages[-1]) for w in words) and pages[-1]
        return wait_for(shown, f"{words} in {self.said[-1500:]}", 120)

    def close(self):
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait(10)
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal():
    with contextlib.ExitStack() as stack:
        def factory(*argv, **kw):
            t = Terminal(*argv, **kw)
            stack.callback(t.close)
            return t
        yield factory


def refuse(path):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    with refused(BAD):
        os.write(fd, b"bad\n")
    with refused(BAD):
        os.close(fd)


def test_status_is_a_page(m, terminal):
    append(m.p("a.jsonl"), GOOD * 7)
    t = terminal(binary("jsonlfsctl"), "status", m.mnt)
    page = t.page("records", "quarantine", "archive", "a.jsonl", str(m.mnt))
    assert len(page) <= 31 and all(len(line) <= 100 for line in page)
    for _ in range(400):
        append(m.p("b.jsonl"), GOOD)
    page = t.page("407", "b.jsonl")
    # The busiest of the last second stands first.
    files = [line for line in page if ".jsonl" in line]
    assert "b.jsonl" in files[0] and "a.jsonl" in files[1]
    os.write(t.master, b"q")
    assert t.p.wait(10) == 0
    assert t.read().endswith(b"\x1b[?25h\x1b[?1049l")
    assert termios.tcgetattr(t.slave) == t.before


def test_what_needs_attention_is_pointed_at(m, terminal):
    append(m.p("app.jsonl.2026-11-28"), GOOD)
    assert b"\nattention\n" in ctl("status", m.mnt).stdout
    terminal(binary("jsonlfsctl"), "status", m.mnt).page("ATTENTION")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(m, terminal, number):
    t = terminal(binary("jsonlfsctl"), "status", m.mnt)
    t.page("records")
    t.p.send_signal(number)
    assert t.p.wait(10) == 0
    assert t.read().endswith(b"\x1b[?25h\x1b[?1049l")
    assert termios.tcgetattr(t.slave) == t.before


def test_watch_shows_events_below(m, terminal):
    t = terminal(binary("jsonlfsctl"), "watch", m.mnt)
    t.page("EVENTS")
    refuse(m.p("x.jsonl"))
    page = t.page("refused x.jsonl")
    at = next(i for i, line in enumerate(page) if line.startswith("EVENTS"))
    assert any("refused x.jsonl" in line for line in page[at:])


def test_a_small_terminal(m, terminal):
    for i in range(30):
        append(m.p(f"{i}.jsonl"), GOOD)
    t = terminal(binary("jsonlfsctl"), "watch", m.mnt, rows=8, columns=20)
    page = t.page("records")
    assert all(len(line) <= 20 for line in page)
    fcntl.ioctl(t.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    t.p.send_signal(signal.SIGWINCH)
    t.page("29.jsonl")


def test_the_daemon_ends_and_comes_again(m, terminal):
    t = terminal(binary("jsonlfsctl"), "watch", m.mnt)
    t.page("EVENTS")
    m.stop()
    t.page("no mount of jsonlfs answers here")
    m.start()
    t.page("records", "EVENTS")
    wait_for(lambda: t.pages()[-1] and "tells none" not in "\n".join(t.pages()[-1]),
             "events", 120)
    refuse(m.p("y.jsonl"))
    t.page("refused y.jsonl")


def test_names_do_nothing_to_the_terminal(m, terminal):
    append(m.p("\x1b[2Jx.jsonl"), GOOD)
    t = terminal(binary("jsonlfsctl"), "status", m.mnt)
    t.page("\\x1b[2Jx.jsonl")
    assert b"\x1b[2J" not in t.said


@pytest.mark.parametrize("argv, env", [
    (["status", "--once"], {}), (["status", "--json"], {}), (["status"], {"TERM": "dumb"}),
    (["watch", "--count=1"], {})])
def test_where_lines_are_wanted(m, terminal, argv, env):
    t = terminal(binary("jsonlfsctl"), *argv, m.mnt, env=env)
    if argv[0] == "watch":
        wait_for(lambda: b"watching" in t.read(), "watching")
        refuse(m.p("x.jsonl"))
    assert t.p.wait(20) == 0
    assert b"\x1b" not in t.read()


def test_a_user_is_shown_his_own(mount, terminal):
    m = mount("allow_other")
    append(m.p("roots.jsonl"), GOOD)
    t = terminal("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
                 binary("jsonlfsctl"), "watch", m.mnt)
    page = t.page("records", "EVENTS")
    assert not any("roots.jsonl" in line for line in page)
