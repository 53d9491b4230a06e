"""node and the loggers of npm: appendFile, write streams, pino, winston."""

import json

import pytest
from util import ENV, run, wait_for

pytestmark = pytest.mark.limit(120)


# libuv has no name for EBADMSG: this is what the person sees.
MESSAGE = b"Unknown system error -74"


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


def test_append_file_refused(m):
    p = node(m, 'require("fs").appendFileSync("x.jsonl", "oops\\n")', check=1)
    assert MESSAGE in p.stderr
    assert m.both("x.jsonl") == b""
    assert m.wait_quarantine(1)[0][1] == b"oops\n"
    p = node(m, """
        const fs = require("fs");
        fs.appendFile("x.jsonl", "{'n':1}\\n", e => { console.log(e.code, e.errno); });
    """)
    assert p.stdout == MESSAGE + b" -74\n"


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


def test_write_stream_with_a_bad_record(m):
    """The stream ends itself at the first error: what came before is there."""
    p = node(m, """
        const s = require("fs").createWriteStream("x.jsonl", {flags: "a"});
        s.on("error", e => console.log(e.code));
        s.write('{"n":0}\\n', () => {
            s.write("oops\\n", () => { s.write('{"n":1}\\n'); s.end(); });
        });
    """)
    assert MESSAGE in p.stdout
    assert numbers(m) == [0]
    assert m.wait_quarantine(1)[0][1] == b"oops\n"


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


def test_json_stringify_with_indent_is_refused(m):
    p = node(m, """
        require("fs").appendFileSync("x.jsonl", JSON.stringify({n: 1}, null, 2) + "\\n");
    """, check=1)
    assert MESSAGE in p.stderr
    assert m.both("x.jsonl") == b""
    assert json.loads(m.wait_quarantine(1)[0][1]) == {"n": 1}
