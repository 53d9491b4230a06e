# SPDX-License-Identifier: MIT
"""Loggers that buffer, send again, rotate and give up at errors. In each, no record that is one
may be missing, and none be there twice, whatever stands beside it."""

import errno
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest
from util import ENV, append, refused, run, running, sh, start, wait_for

pytestmark = pytest.mark.limit(120)

PLAIN = "plain text"


def numbers(m, *names):
    """Of all records, from the oldest file to the newest."""
    return [r["n"] for name in names or ["x.jsonl"] for r in m.records(name)]


def feed(path, count, plain_at=None, first=0):
    with open(path, "a", encoding="ascii") as f:
        for n in range(first, first + count):
            if n == plain_at:
                f.write(PLAIN + "\n")
            f.write(f'{{"n":{n}}}\n')


@pytest.fixture(params=["report", "quarantine"])
def either(request, mount):
    return mount() if request.param == "report" else mount("onbad=quarantine")


# ---- syslog daemons: what comes in goes out as it is ----


SYSLOG_NG = """@version: %s
options { flush-lines(100); stats-freq(0); time-reopen(1); };
source s { file("%s/in" follow-freq(0.1) flags(no-parse)); };
destination d { file("%s" template("$MSG\\n")); };
log { source(s); destination(d); };
"""


@pytest.fixture
def syslog_ng(debian, workdir):
    """Starts it: what stands in workdir/in comes to the log."""
    place = debian("syslog-ng-core", "syslog-ng")
    about = run(*place.command("syslog-ng"), "--version", env=place.env).stdout.decode()
    version = re.search(r"\((\d+\.\d+)", about)[1]

    def begin(m):
        (workdir / "c.conf").write_text(
            SYSLOG_NG % (version, workdir, m.p("x.jsonl")))
        modules = place.find("libaffile.so").parent
        return subprocess.Popen(
            [*place.command("syslog-ng"), "-F", "-f", workdir / "c.conf", "--no-caps",
             "-R", workdir / "persist", "-p", workdir / "pid", "-c", workdir / "ctl",
             f"--module-path={modules}"],
            env=ENV | place.env, stderr=subprocess.PIPE)

    return begin


RSYSLOG = """global(workDirectory="%(dir)s")
module(load="imfile" mode="inotify")
template(name="raw" type="string" string="%%msg%%\\n")
input(type="imfile" File="%(dir)s/in" Tag="t" ruleset="r")
ruleset(name="r") { action(type="omfile" file="%(log)s" template="raw" %(how)s) }
"""


@pytest.fixture(params=["", 'asyncWriting="on" ioBufferSize="8k" flushOnTXEnd="off"'])
def rsyslog(request, debian, workdir):
    place = debian("rsyslog", "rsyslogd")

    def begin(m):
        (workdir / "c.conf").write_text(
            RSYSLOG % {"dir": workdir, "log": m.p("x.jsonl"), "how": request.param})
        return subprocess.Popen(
            [*place.command("rsyslogd"), "-n", "-f", workdir / "c.conf", "-i", workdir / "pid",
             "-M", place.find("imfile.so").parent],
            env=ENV | place.env, stderr=subprocess.PIPE)

    return begin


def through(begin, m, workdir, plain_at):
    source = workdir / "in"
    source.touch()
    daemon = begin(m)
    try:
        time.sleep(0.7)  # until it looks at its source
        if plain_at == 0:
            feed(source, 0)
            sh(f"echo '{PLAIN}' >> in", workdir)
            time.sleep(0.3)
            plain_at = None
        feed(source, 400, plain_at)
        time.sleep(0.5)
        feed(source, 100, first=400)
        # Also where the daemon keeps a rest in its buffer until it ends.
        time.sleep(2.5)
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(20)
        daemon.stderr.close()
    assert numbers(m) == list(range(500))
    assert [d for _, d in m.wait_quarantine(1)] == [PLAIN.encode() + b"\n"]


@pytest.mark.parametrize("plain_at", [0, 150])
def test_syslog_ng(either, workdir, syslog_ng, plain_at):
    """It sends a refused block again after time-reopen(), with more behind it."""
    through(syslog_ng, either, workdir, plain_at)


@pytest.mark.parametrize("plain_at", [0, 150])
def test_rsyslog(either, workdir, rsyslog, plain_at):
    through(rsyslog, either, workdir, plain_at)


# ---- nginx ----


NGINX = """daemon off; master_process off; pid %(dir)s/pid; error_log %(dir)s/error.log warn; user root;
events { worker_connections 64; }
http { log_format j '{"n":$arg_n,"ua":"$http_user_agent"}'; access_log %(log)s j buffer=32k;
 client_body_temp_path %(dir)s/b; proxy_temp_path %(dir)s/p; fastcgi_temp_path %(dir)s/f;
 uwsgi_temp_path %(dir)s/u; scgi_temp_path %(dir)s/s;
 server { listen 127.0.0.1:%(port)d; location / { return 204; } } }
"""


@pytest.mark.parametrize("at", [0, 50])
def test_nginx_with_a_buffer(either, workdir, debian, at):
    """One client writes a quote into its User-Agent, and nginx does not escape as JSON does."""
    m, place = either, debian("nginx-light", "nginx")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    (workdir / "nginx.conf").write_text(
        NGINX % {"dir": workdir, "log": m.p("x.jsonl"), "port": port})
    nginx = subprocess.Popen(
        [*place.command("nginx"), "-p", workdir, "-c", workdir / "nginx.conf"],
        env=ENV | place.env, stderr=subprocess.PIPE)
    try:
        def connected():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", port)) == 0

        wait_for(connected, "nginx")
        c = http.client.HTTPConnection("127.0.0.1", port)
        for n in range(1500):
            c.request("GET", f"/?n={n}", headers={"User-Agent": 'a "b"' if n == at else "b"})
            c.getresponse().read()
    finally:
        nginx.send_signal(signal.SIGQUIT)
        nginx.wait(20)
        nginx.stderr.close()
    assert numbers(m) == [n for n in range(1500) if n != at]
    assert len(m.quarantine()) == 1


# ---- Ruby ----


RUBY = """
require 'logger'; require 'json'
l = Logger.new(*ARGV.map { |x| x =~ /^[0-9]+$/ ? x.to_i : x })
l.formatter = proc { |s, t, p, m| m.to_json + "\\n" }
1000.times { |i| l.info({n: i, pad: "x" * 30}) }
l.close
"""


@pytest.fixture
def ruby(debian):
    place = debian("ruby", "ruby")
    env = dict(place.env)
    if place.root:
        env["RUBYLIB"] = ":".join(str(place.find(x).parent) for x in ("logger.rb", "rbconfig.rb"))

    def call(m, *args, check=0):
        return run(*place.command("ruby"), *["--disable-gems"] * bool(place.root), "-e", RUBY,
                   *args, cwd=m.mnt, env=env, check=check)

    return call


def test_ruby_logger(mount, ruby):
    """It begins a new file with a line of text: told by default, which Logger.new does not
    survive, and set aside with onbad=quarantine."""
    m = mount()
    p = ruby(m, "x.jsonl", check=1)
    assert b"Bad message @ io_write" in p.stderr and b"in `add_log_header'" in p.stderr
    m = mount("onbad=quarantine")
    ruby(m, "x.jsonl")
    assert numbers(m) == list(range(1000))
    m.wait_quarantine(1)


def test_ruby_logger_that_rotates_is_not_stopped(either, ruby):
    """The log is there, so it begins; the line of text comes in the next file, in mid-stream."""
    m = either
    m.p("x.jsonl").touch()
    assert ruby(m, "x.jsonl", "5", "20000").stderr == b""
    assert numbers(m, "x.jsonl") and len(list(m.mnt.glob("x.jsonl.*"))) == 2
    logs = [m.p(n).read_bytes() for n in ("x.jsonl.1", "x.jsonl.0", "x.jsonl")]
    assert [json.loads(x)["n"] for x in b"".join(logs).splitlines()] == list(range(1000))
    # Both files begin with one, and it names the second: the same line again is kept once.
    headers = [data for _, data in m.quarantine()]
    assert 1 <= len(headers) == len(set(headers)) <= 2
    assert all(re.fullmatch(rb"# Logfile created on .*\n", x) for x in headers)


def test_who_begins_anew_after_a_rotation_by_somebody_else_is_told(m):
    append(m.p("x.jsonl"), b'{"n":1}\n')
    os.rename(m.p("x.jsonl"), m.p("x.jsonl.1"))
    p = sh("echo oops >> x.jsonl", m.mnt, check=1)
    assert b"Bad message" in p.stderr


# ---- restic ----


def test_restic_restores_beside_and_then_moves(mount, workdir):
    """restic writes the pieces of a file as they come, so not from its beginning to its end."""
    m = mount("exclude=restore/**")
    top = workdir / "from"
    top.mkdir()
    with open(top / "big.jsonl", "wb") as f:
        for n in range(30000):
            f.write(b'{"n":%d,"pad":"%s"}\n' % (n, os.urandom(150).hex().encode()))
    env = {"RESTIC_PASSWORD": "x", "HOME": str(workdir), "XDG_CACHE_HOME": str(workdir / "c")}

    def restic(*argv, check=0):
        return run("restic", "-q", "-r", workdir / "repo", *argv, cwd=top, env=env, check=check,
                   timeout=90)

    restic("init")
    restic("backup", ".")
    m.p("restore").mkdir()
    p = restic("restore", "latest", "--target", m.p("straight"), check=1)
    assert b"operation not permitted" in p.stderr
    m.expect_log("denied", "straight/big.jsonl", "below a directory that exclude= names")
    restic("restore", "latest", "--target", m.p("restore"))
    sh("mv restore/big.jsonl .", m.mnt)
    assert m.both("big.jsonl") == (top / "big.jsonl").read_bytes()
