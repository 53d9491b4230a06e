#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The programs of one host: writers of four kinds, and readers, on one log.

  client.py NAME LOG ACKS SECONDS RECORDS

Eight writers end after so many seconds, or so many records each; readers end after them.
Writer NAME.N appends records to LOG, each a function of the writer's name and its number
(record), and notes in ACKS/NAME.N the numbers of those that it was told are kept, and since when
it had been at that record. Kinds:

  open      Python, a record: open, write, close
  held      Python, one descriptor, fsync after each record
  shell     bash, echo >> LOG
  buffered  Python, a block of 8 KiB at a time, close after 20 records

Nothing ends a writer: after an error it goes on with the next record and a new descriptor,
and the error is noted. Readers follow the log and note what is no record of anybody. At the end
ACKS/NAME.json says what errors there were, and how long the slowest call took."""

import contextlib
import errno
import json
import os
import random
import re
import signal
import sys
import time

KINDS = ("open", "held", "shell", "buffered")
WRITERS, READERS = 8, 2
BLOCK = 20  # records of a buffered writer to a descriptor
PAUSE = 0.01  # seconds between two steps, at most
PAD = 3000
FORM = re.compile(rb'\{"w":"(\w+)\.(\d+)","n":(\d+),"pad":"(x*)"\}')


def kind(writer):
    """Of NAME.N."""
    return KINDS[int(writer.rpartition(".")[2]) % len(KINDS)]


def pad(n):
    """Short ones and some that no pipe takes in one piece; more than a request never."""
    return n * 37 % 200 if n % 10 else PAD


def record(writer, n):
    return b'{"w":"%s","n":%d,"pad":"%s"}\n' % (writer.encode(), n, b"x" * pad(n))


def parse(line):
    """A line without its newline: (writer, number), or None when nobody wrote it."""
    m = FORM.fullmatch(line)
    if not m or len(m[4]) != pad(int(m[3])):
        return None
    return f"{m[1].decode()}.{m[2].decode()}", int(m[3])


class Told:
    """What one program was told."""

    def __init__(self, acks, name):
        self.acks = os.open(f"{acks}/{name}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        self.path = f"{acks}/{name}.json"
        self.errors, self.slowest, self.wrong, self.seen = {}, 0.0, [], 0
        self.began = 0  # microseconds

    def good(self, *numbers):
        os.write(self.acks, b"".join(b"%d %d\n" % (n, self.began) for n in numbers))

    def bad(self, e):
        name = errno.errorcode.get(e.errno, str(e.errno))
        self.errors[name] = self.errors.get(name, 0) + 1

    def end(self):
        with open(self.path, "w", encoding="utf-8") as f:
            json.dump({"errors": self.errors, "slowest": self.slowest, "wrong": self.wrong,
                       "seen": self.seen}, f)


def let_go(fd):
    """A reader's descriptor: whatever close has to say, it is closed."""
    if fd >= 0:
        with contextlib.suppress(OSError):
            os.close(fd)
    return -1


def write_all(fd, data):
    while data:
        data = data[os.write(fd, data):]


class Writer:
    def __init__(self, name, log, told):
        self.name, self.log, self.told = name, log, told
        self.n, self.fd = 0, -1

    def take(self, count=1):
        numbers = list(range(self.n, self.n + count))
        self.n += count
        return numbers, b"".join(record(self.name, n) for n in numbers)

    def open(self):
        if self.fd < 0:
            self.fd = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def close(self):
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def step_open(self):
        numbers, data = self.take()
        self.open()
        write_all(self.fd, data)
        self.close()
        self.told.good(*numbers)

    def step_held(self):
        numbers, data = self.take()
        self.open()
        write_all(self.fd, data)
        os.fsync(self.fd)
        self.told.good(*numbers)

    def step_buffered(self):
        numbers, data = self.take(BLOCK)
        self.open()
        for at in range(0, len(data), 8192):
            write_all(self.fd, data[at : at + 8192])
        self.close()
        self.told.good(*numbers)

    def run(self, manner, until, records):
        step = getattr(self, f"step_{manner}")
        while time.monotonic() < until and self.n < records:
            began = time.monotonic()
            self.told.began = time.time_ns() // 1000
            try:
                step()
            except OSError as e:
                self.told.bad(e)
                try:
                    self.close()
                except OSError as e2:
                    self.told.bad(e2)
                time.sleep(0.05)
            self.told.slowest = max(self.told.slowest, time.monotonic() - began)
            time.sleep(random.random() * PAUSE)
        try:
            self.close()
        except OSError as e:
            self.told.bad(e)


SHELL = r"""
name=$1 log=$2 acks=$3 seconds=$4 records=$5 n=0 slowest=0 failed=0
printf -v x '%3000s' ''; x=${x// /x}
now() { local t=$EPOCHREALTIME; us=${t/./}; }
now; end=$((us + ${seconds%.*} * 1000000))
exec 8<> <(:)
while now; [ "$us" -lt "$end" ] && [ "$n" -lt "$records" ]; do
	if [ $((n % 10)) -eq 0 ]; then size=3000; else size=$((n * 37 % 200)); fi
	began=$us
	if echo "{\"w\":\"$name\",\"n\":$n,\"pad\":\"${x:0:size}\"}" 2>/dev/null >> "$log"; then
		echo "$n $began" >> "$acks/$name"
	else
		failed=$((failed + 1)); read -r -t 0.05 -u 8
	fi 2>/dev/null
	now; [ $((us - began)) -le "$slowest" ] || slowest=$((us - began))
	n=$((n + 1))
	read -r -t "0.00$((RANDOM % 10))" -u 8
done
errors={}; [ "$failed" -eq 0 ] || errors="{\"shell\":$failed}"
echo "{\"errors\":$errors,\"slowest\":$((slowest / 1000))e-3,\"wrong\":[],\"seen\":0}" \
	> "$acks/$name.json"
"""


def writer(name, log, acks, manner, seconds, records):
    if manner == "shell":
        os.execvp("bash", ["bash", "-c", SHELL, "bash", name, log, acks, str(seconds),
                           str(records)])
    told = Told(acks, name)
    Writer(name, log, told).run(manner, time.monotonic() + seconds, records)
    told.end()


def reader(name, log, acks, holds):
    """Reads what is new, as tail -F does (`holds`), or all of it from the beginning. Every read
    ends with a whole record; the buffer is larger than what comes between two reads."""
    told, asked = Told(acks, name), []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    fd, at, last = -1, 0, False
    while not last:
        last = bool(asked)  # once more, after the last record
        time.sleep(0.01 if holds else 0.1)
        try:
            if fd >= 0:
                st, named = os.fstat(fd), os.stat(log)
                if not holds or (st.st_dev, st.st_ino) != (named.st_dev, named.st_ino):
                    fd = let_go(fd)
            if fd < 0:
                fd, at = os.open(log, os.O_RDONLY), 0
            data = b""
            while part := os.pread(fd, 1 << 20, at + len(data)):
                data += part
        except OSError as e:
            if e.errno != errno.ENOENT:
                told.bad(e)
            fd = let_go(fd)
            continue
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            told.wrong.append(f"half at {at + whole}: {data[whole:][:40]!r}")
        for line in data[:whole].splitlines():
            told.seen += 1
            if parse(line) is None:
                told.wrong.append(f"before {at + whole}: {len(line)} bytes, {line[:40]!r}")
        at += whole
        del told.wrong[20:]
    told.end()


def main():
    name, log, acks = sys.argv[1:4]
    seconds, records = float(sys.argv[4]), int(sys.argv[5])
    children = []
    for k in range(WRITERS + READERS):
        pid = os.fork()
        if not pid:
            who = f"{name}.{k}"
            random.seed(who)
            if k < WRITERS:
                writer(who, log, acks, kind(who), seconds, records)
            else:
                reader(who, log, acks, k % 2)
            os._exit(0)
        children.append(pid)
    status = [os.waitpid(pid, 0)[1] for pid in children[:WRITERS]]
    for pid in children[WRITERS:]:
        os.kill(pid, signal.SIGTERM)
        status.append(os.waitpid(pid, 0)[1])
    sys.exit(any(status))


if __name__ == "__main__":
    main()
