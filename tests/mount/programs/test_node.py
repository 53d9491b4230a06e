# SPDX-License-Identifier: MIT
"""node and the loggers of npm: appendFile, write streams, pino, winston."""

import json
import re

import pytest
from util import ENV, run, sh, wait_for

pytestmark = pytest.mark.limit(120)


# libuv has no name for EBADMSG: this is what the person sees, by node 18 and by later ones.
MESSAGE = re.compile(rb"UNKNOWN|Unknown system error -74")


def node(m, script, *args, check=0, path=None):
    env = {"NODE_PATH": str(path / "node_modules")} if path else {}
    return run("node", "-e", script, *args, cwd=m.mnt, check=check, timeout=60,
               env=ENV | env)


def numbers(m, name="x.jsonl"):
    return [r["n"] for r in m.records(name)]


def test_append_file(m):
    node(m, """
        const fs = require("fs");
        for (let n = 0; n < 50; n++) fs.appendFileSync("x.jsonl", JSON.stringify({n}) + "\\n");
        (async () => {
            for (let n = 50; n < 100; n++)
                await fs.promises.appendFile("x.jsonl", JSON.stringify({n}) + "\\n");
            fs.appendFile("x.jsonl", '{"n":100}\\n', e => { if (e) throw e; });
        })();
    """)
    assert numbers(m) == list(range(101))


def test_append_file_refused(mount):
    m = mount("onbad=refuse")
    p = node(m, 'require("fs").appendFileSync("x.jsonl", "oops\\n")', check=1)
    assert MESSAGE.search(p.stderr), p.stderr
    assert m.both("x.jsonl") == b""
    assert m.wait_quarantine(1)[0][1] == b"oops\n"
    p = node(m, """
        const fs = require("fs");
        fs.appendFile("x.jsonl", "{'n':1}\\n", e => { console.log(e.code, e.errno); });
    """)
    assert MESSAGE.search(p.stdout) and p.stdout.endswith(b" -74\n"), p.stdout


def test_append_file_by_default(m):
    """Nothing but a bad line: write and close fail. Beside good ones: those are there, and
    close tells."""
    append_file = 'require("fs").appendFile("x.jsonl", %s, e => console.log(e.code, e.errno))'
    p = node(m, 'require("fs").appendFileSync("x.jsonl", "oops\\n")', check=1)
    assert MESSAGE.search(p.stderr), p.stderr
    # node makes one error of two, which has no errno.
    p = node(m, append_file % """ "{'n':1}\\n" """)
    assert MESSAGE.search(p.stdout) and p.stdout.endswith(b" undefined\n"), p.stdout
    assert m.both("x.jsonl") == b""
    assert [d for _, d in m.wait_quarantine(2)] == [b"oops\n", b"{'n':1}\n"]
    p = node(m, append_file % """ '{"n":2}\\nworse\\n{"n":3}\\n' """)
    assert MESSAGE.search(p.stdout) and p.stdout.endswith(b" -74\n"), p.stdout
    assert m.both("x.jsonl") == b'{"n":2}\n{"n":3}\n'
    assert [d for _, d in m.wait_quarantine(3)] == [b"oops\n", b"{'n':1}\n", b"worse\n"]


def test_write_file_truncates_and_is_refused(m):
    node(m, 'require("fs").writeFileSync("x.jsonl", \'{"n":1}\\n\')')
    p = node(m, 'require("fs").writeFileSync("x.jsonl", \'{"n":2}\\n\')', check=1)
    assert b"EPERM: operation not permitted, open 'x.jsonl'" in p.stderr
    assert numbers(m) == [1]


@pytest.mark.parametrize("flags", ["a", "w"])
def test_write_stream(m, flags):
    node(m, """
        const s = require("fs").createWriteStream("x.jsonl", {flags: process.argv[1]});
        for (let n = 0; n < 3000; n++) {
            s.write('{"n":'); s.write(String(n)); s.write('}\\n');
        }
        s.end();
    """, flags)
    assert numbers(m) == list(range(3000))


@pytest.mark.parametrize("onbad", ["report", "refuse"])
def test_write_stream_with_a_bad_record(mount, onbad):
    """With refuse the stream ends itself at the first error, and what came before is there.
    By default it goes on to its end, and close tells."""
    m = mount() if onbad == "report" else mount("onbad=refuse")
    p = node(m, """
        const s = require("fs").createWriteStream("x.jsonl", {flags: "a"});
        s.on("error", e => console.log(e.code));
        s.write('{"n":0}\\n', () => {
            s.write("oops\\n", () => { s.write('{"n":1}\\n'); s.end(); });
        });
    """)
    assert MESSAGE.search(p.stdout), p.stdout
    assert m.both("x.jsonl") == {
        "report": b'{"n":0}\n{"n":1}\n', "refuse": b'{"n":0}\n'}[onbad]
    assert m.wait_quarantine(1)[0][1] == b"oops\n"


@pytest.mark.parametrize("onbad,at", [("report", 0), ("report", 20), ("quarantine", 0)])
def test_console_log(mount, onbad, at):
    """Behind an error, which it does not show, console writes nothing more to a file."""
    m = mount() if onbad == "report" else mount("onbad=quarantine")
    sh("""node -e 'for (let n = 0; n < 50; n++) {
        if (n == process.argv[1]) console.log("starting");
        console.log(JSON.stringify({n}));
    }' $1 >> x.jsonl""", m.mnt, at)
    assert numbers(m) == ([] if (onbad, at) == ("report", 0) else list(range(50)))
    m.wait_quarantine(1)


def test_file_handle(m):
    node(m, """
        (async () => {
            const f = await require("fs").promises.open("x.jsonl", "a");
            for (let n = 0; n < 20; n++) {
                await f.write('{"n":'); await f.appendFile(n + "}\\n");
            }
            await f.datasync(); await f.close();
        })();
    """)
    assert numbers(m) == list(range(20))


def test_killed_by_process_exit(m):
    node(m, """
        const fs = require("fs");
        const fd = fs.openSync("x.jsonl", "a");
        fs.writeSync(fd, '{"n":0}\\n{"n":1,"ha');
        process.kill(process.pid, "SIGKILL");
    """, check=-9)
    assert m.wait_quarantine(1)[0][1] == b'{"n":1,"ha'
    assert numbers(m) == [0]


@pytest.mark.parametrize("sync", ["true", "false"])
def test_pino(m, npm, sync):
    node(m, """
        const pino = require("pino");
        const dest = pino.destination({dest: "x.jsonl", sync: process.argv[1] === "true"});
        const log = pino(dest);
        for (let n = 0; n < 2000; n++) log.info({n, pad: "p".repeat(n % 300)}, "hello €");
        if (process.argv[1] === "true") dest.flushSync();
        else setTimeout(() => { dest.flushSync(); dest.end(); }, 200);
    """, sync, path=npm)
    assert numbers(m) == list(range(2000))


def test_pino_transport_worker(m, npm):
    node(m, """
        const pino = require("pino");
        const t = pino.transport({target: "pino/file", options: {destination: "x.jsonl"}});
        const log = pino(t);
        t.on("ready", () => {
            for (let n = 0; n < 500; n++) log.info({n});
            t.end();
        });
    """, path=npm)
    wait_for(lambda: numbers(m) == list(range(500)), "500 records")


def test_winston(m, npm):
    node(m, """
        const winston = require("winston");
        const log = winston.createLogger({
            format: winston.format.json(),
            transports: [new winston.transports.File({filename: "x.jsonl"})],
        });
        for (let n = 0; n < 1000; n++) log.info({n, message: "hi"});
        log.end();
    """, path=npm)
    wait_for(lambda: numbers(m) == list(range(1000)), "1000 records")


def test_winston_rotation_by_size(m, npm):
    """A batch for each file. (What is logged while winston still opens the next file it
    may lose by itself, without a single write, on a slow disk also natively.)"""
    node(m, """
        const winston = require("winston");
        const t = new winston.transports.File({filename: "x.jsonl", maxsize: 5000});
        const log = winston.createLogger({format: winston.format.json(), transports: [t]});
        let n = 0;
        t.on("open", () => setTimeout(() => {
            if (n === 400) return log.end();
            for (let i = 0; i < 100; i++) log.info({n: n++, message: "x".repeat(20)});
        }, 20));
    """, path=npm)

    def everything():
        names = sorted(p.name for p in m.mnt.iterdir() if p.suffix == ".jsonl")
        found = {name: numbers(m, name) for name in names}
        assert sorted(sum(found.values(), [])) == list(range(400)), found
        return len(names) > 3

    wait_for(everything, "400 records over several files")


def test_winston_that_overwrites_its_oldest(m, npm):
    """tailable: w1.jsonl is renamed onto w2.jsonl, and so on; the oldest goes to the archive."""
    node(m, """
        const winston = require("winston");
        const t = new winston.transports.File({filename: "w.jsonl", maxsize: 5000, maxFiles: 3,
                                               tailable: true});
        const log = winston.createLogger({format: winston.format.json(), transports: [t]});
        let n = 0;
        const more = () => {
            if (n === 400) return log.end();
            for (let i = 0; i < 50; i++) log.info({n: n++, message: "x".repeat(20)});
            setTimeout(more, 100);
        };
        more();
    """, path=npm)
    assert sorted(p.name for p in m.mnt.iterdir()) == ["w.jsonl", "w1.jsonl", "w2.jsonl"]
    kept = numbers(m, "w2.jsonl") + numbers(m, "w1.jsonl") + numbers(m, "w.jsonl")
    gone = [json.loads(x)["n"] for _, d in sorted(m.archive().items()) for x in d.splitlines()]
    assert kept[-1] == 399 and sorted(gone + kept) == list(range(400))


def test_json_stringify_with_indent_is_refused(m):
    p = node(m, """
        require("fs").appendFileSync("x.jsonl", JSON.stringify({n: 1}, null, 2) + "\\n");
    """, check=1)
    assert MESSAGE.search(p.stderr), p.stderr
    assert m.both("x.jsonl") == b""
    assert json.loads(m.wait_quarantine(1)[0][1]) == {"n": 1}
