# SPDX-License-Identifier: MIT
"""Loggers in Go, Rust and Java, compiled here by Debian's compilers, over the real lumberjack
and log4j2. In each, no record that is one may be missing but those that the program itself
tears, and none be there twice."""

import errno
import json

import pytest
from util import HERE, append, refused, run, sh

pytestmark = [pytest.mark.once, pytest.mark.limit(300)]

PLAIN = b"plain text\n"


def numbers(m, *names):
    return [json.loads(x)["n"] for name in names for x in m.both(name).splitlines()]


@pytest.fixture(params=["report", "quarantine"])
def either(request, mount):
    return mount(f"onbad={request.param}")


# ---- Go ----


@pytest.fixture(scope="module")
def rotate(base, debian):
    place = debian("golang-go", "go", "golang-gopkg-natefinch-lumberjack.v2-dev")
    packages = place.find("lumberjack.go").parents[4]
    go, = place.command("go")
    env = place.env | {
        "GOROOT": str(go.resolve().parents[1]), "GOPATH": str(packages), "GO111MODULE": "off",
        "GOTOOLCHAIN": "local", "GOCACHE": str(base / "go-cache"), "CGO_ENABLED": "0"}
    program = base / "rotate"
    run(go, "build", "-o", program, HERE / "progs" / "rotate.go", env=env, check=0, timeout=200)
    return program


def through_lumberjack(m, rotate, how):
    """The program's end, and which of 0...9999 are in the logs and what was removed."""
    p = run(rotate, m.p("x.jsonl"), how)
    kept = [*sorted(p.name for p in m.mnt.glob("x-*.jsonl")), "x.jsonl"]
    removed = sorted(m.archive().items(), key=lambda e: e[0][e[0].index("-x-"):])
    data = [data for _, data in removed] + [m.both(name) for name in kept]
    assert len(kept) <= 5 and len(data) == len(removed) + len(kept)
    return p, [json.loads(x)["n"] for x in b"".join(data).splitlines()], len(data)


def test_go_lumberjack(either, rotate):
    """It rotates between two records. By default the close of the file that got a bad line
    fails, and lumberjack does not write the record that it was to begin the next file with."""
    m = either
    p, got, files = through_lumberjack(m, rotate, "direct")
    assert p.returncode == 0 and files >= 5
    missing = set(range(10000)) - set(got)
    assert got == sorted(set(got))
    assert len(missing) == (0 if "onbad=quarantine" in m.options else 1)
    assert [d for _, d in m.quarantine()] == [PLAIN]


def test_go_bufio_over_lumberjack(mount, rotate):
    """By default the close of a file that ends in mid-record fails, and with it bufio for ever:
    told, and what onbad=quarantine is for. Then each rotation tears one record, as it does in a
    bare directory, and nothing else is missing."""
    p, got, _ = through_lumberjack(mount(), rotate, "bufio")
    assert p.returncode == 1 and b"flush: close " in p.stderr and b"bad message" in p.stderr
    assert got == list(range(len(got))) and len(got) < 7000
    m = mount("onbad=quarantine")
    p, got, files = through_lumberjack(m, rotate, "bufio")
    assert p.returncode == 0 and p.stderr == b"" and files >= 5
    missing = set(range(10000)) - set(got)
    assert got == sorted(set(got)) and 0 < len(missing) < files
    torn = b"".join(d for _, d in m.quarantine() if d != PLAIN)
    for n in missing:
        assert b"%d" % n in torn


# ---- Rust ----


@pytest.fixture(scope="module")
def rustlog(base, debian):
    place = debian("rustc", "rustc")
    program = base / "rustlog"
    run(*place.command("rustc"), "--edition", "2021", "-O", "-o", program,
        HERE / "progs" / "rustlog.rs", env=place.env, check=0, timeout=200)
    return program


@pytest.mark.parametrize("at", [0, 1000])
def test_rust_println(either, rustlog, at):
    """A line of text before all records is told by default, and the program panics."""
    m = either
    p = sh('"$1" $2 >> x.jsonl', m.mnt, rustlog, str(at), check=None)
    if at or "onbad=quarantine" in m.options:
        assert p.returncode == 0 and numbers(m, "x.jsonl") == list(range(20000))
    else:
        assert p.returncode == 101 and m.both("x.jsonl") == b""
        assert b"failed printing to stdout: Bad message" in p.stderr
    m.wait_quarantine(1)


def test_rust_rolls_by_day(mount, rustlog):
    """As rolling::daily(dir, "app.jsonl") of tracing-appender names its live files."""
    m = mount("match=*.jsonl:app.jsonl.????-??-??")
    run(rustlog, "rolling", cwd=m.mnt, check=0)
    logs = [f"app.jsonl.2026-11-{day:02}" for day in range(1, 5)]
    assert numbers(m, *logs) == list(range(20000)) and not m.quarantine()
    with refused(errno.EBADMSG):
        append(m.p("app.jsonl.2026-11-05"), b"Starting server\n")


def test_rust_rolls_by_day_without_a_rule(m, rustlog):
    """Plain files then, which the log points out."""
    run(rustlog, "rolling", cwd=m.mnt, check=0)
    m.expect_log("app.jsonl.2026-11-01", "match=")


def test_rust_rotates_by_rename(m, rustlog):
    run(rustlog, "rotating", cwd=m.mnt, check=0)
    logs = [f"x.jsonl.{i}" for i in (4, 3, 2, 1)]
    assert numbers(m, *logs, "x.jsonl") == list(range(20000)) and not m.quarantine()


def test_rust_writeln_to_a_file(m, rustlog):
    """Five writes a record."""
    run(rustlog, "unbuffered", cwd=m.mnt, check=0)
    assert numbers(m, "x.jsonl") == list(range(5000)) and not m.quarantine()


# ---- Java ----


LOG4J2 = """<Configuration status="warn">
 <Appenders>
  <RollingFile name="r" fileName="{dir}/a.jsonl" filePattern="{dir}/a-%i.jsonl"
    immediateFlush="{flush}">
   <PatternLayout pattern='{{"n":%m,"level":"%p","thread":"%enc{{%t}}{{JSON}}"}}%n'/>
   <SizeBasedTriggeringPolicy size="20 KB"/>
   {strategy}
  </RollingFile>
 </Appenders>
 <Loggers><Root level="info"><AppenderRef ref="r"/></Root></Loggers>
</Configuration>
"""
RENAMES = '<DefaultRolloverStrategy max="3"/>'
DELETES = """<DefaultRolloverStrategy fileIndex="nomax"><Delete basePath="{dir}">
 <IfFileName glob="a-*.jsonl"/><IfAccumulatedFileCount exceeds="3"/>
</Delete></DefaultRolloverStrategy>"""


@pytest.fixture(scope="module")
def log4j2(base, debian):
    """log4j2(m, workdir, flush, strategy, first, last): logs these numbers."""
    place = debian("liblog4j2-java", "java", "default-jre-headless", "ecj")
    java = place.command("java")[0].resolve()
    jars = ":".join(str(place.find(f"log4j-{x}.jar")) for x in ("api", "core"))
    # One jar on Debian 12, two on Debian 13.
    compiler = ":".join(map(str, place.all("eclipse-jdt-core*.jar")))
    run(java, "-cp", compiler,
        "org.eclipse.jdt.internal.compiler.batch.Main", "-proc:none", "-11", "-cp", jars, "-d",
        base, HERE / "progs" / "Log.java", env=place.env, check=0, timeout=100)

    def call(m, workdir, flush, strategy, first, last):
        (workdir / "log4j2.xml").write_text(LOG4J2.format(
            dir=m.mnt, flush=flush, strategy=strategy.format(dir=m.mnt)))
        p = run(java, f"-Dlog4j2.configurationFile={workdir}/log4j2.xml", "-cp",
                f"{jars}:{base}", "Log", first, last, env=place.env, check=0, timeout=100)
        # What log4j2 has to complain about comes to stdout.
        assert p.stdout + p.stderr == b""

    return call


@pytest.mark.parametrize("flush", ["true", "false"])
@pytest.mark.parametrize("strategy", [RENAMES, DELETES], ids=["renames", "deletes"])
def test_log4j2_rolling(m, workdir, log4j2, flush, strategy):
    """The oldest is deleted, the others move one down; or DeleteAction keeps three of ever
    higher numbers. Two runs, one after the other; what is gone is in the archive."""
    log4j2(m, workdir, flush, strategy, 0, 3000)
    log4j2(m, workdir, flush, strategy, 3000, 6000)
    rolled = sorted(m.mnt.glob("a-*.jsonl"), key=lambda p: int(p.stem[2:]))
    assert len(rolled) == 3
    logs = [*(p.name for p in rolled), "a.jsonl"]
    assert {p.name for p in m.mnt.glob("*.jsonl")} == set(logs)
    archived = [json.loads(x)["n"] for data in m.archive().values() for x in data.splitlines()]
    assert numbers(m, *logs) == list(range(len(archived), 6000))
    assert sorted(archived) == list(range(len(archived))) and archived
    assert not m.quarantine()
