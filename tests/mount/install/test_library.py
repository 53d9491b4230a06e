# SPDX-License-Identifier: MIT
"""libjsonl as programs get it: what is installed, what it exports, and that it compiles."""

import os
import re
import subprocess

import pytest
from util import BUILD, ENV, REPO, records, run, sanitized
from vaults import Installed

HEADER = (REPO / "lib" / "jsonl.h").read_text()
EXPORTED = {
    "jsonl_append", "jsonl_append_record", "jsonl_close", "jsonl_load", "jsonl_message",
    "jsonl_open", "jsonl_records_close", "jsonl_records_next", "jsonl_records_open",
    "jsonl_repair_tail", "jsonl_replace_file", "jsonl_sync", "jsonl_validate",
}
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-pedantic")


@pytest.fixture(scope="module")
def installed(base):
    system = Installed(base / f"library{os.getpid()}")
    yield system
    system.end()


def test_the_symbols_are_the_listed_ones():
    listed = set(re.findall(r"^JSONL_API [^;(]*\b(jsonl_\w+)\(", HEADER, re.M))
    out = run("nm", "-D", "--defined-only", BUILD / "lib/libjsonl.so.0", check=0).stdout
    seen = {line.split()[2] for line in out.decode().splitlines()}
    assert {s for s in seen if not s.startswith("__")} == listed == EXPORTED


def test_the_soname_has_a_version():
    out = run("readelf", "-d", BUILD / "lib/libjsonl.so.0", check=0).stdout.decode()
    assert "soname: [libjsonl.so.0]" in out
    needed = set(re.findall(r"NEEDED.*\[(.*?)\]", out))
    assert sanitized() or needed <= {"libc.so.6", "ld-linux-x86-64.so.2"}, needed


def compile_and_run(installed, workdir, *flags):
    example = installed.root / "usr/local/share/doc/jsonlfs/examples/example.c"
    script = 'cc -std=c17 "${@:3}" -o "$1/example" "$2" '
    script += ("$(pkg-config --cflags libjsonl) -Wl,-Bstatic $(pkg-config --libs libjsonl) "
               "-Wl,-Bdynamic -pthread" if "-DSTATIC" in flags
               else "$(pkg-config --cflags --libs libjsonl)")
    if sanitized():  # whose runtime such a program does not bring: it is compiled, not linked
        script = 'cc -std=c17 "${@:3}" -c -o "$1/example" "$2" $(pkg-config --cflags libjsonl)'
    p = installed.sh(script, workdir, example, *flags)
    assert p.returncode == 0, p.stderr.decode()
    if sanitized():
        return ""
    libdir = installed.sh("pkg-config --variable=libdir libjsonl", check=0).stdout.decode()
    env = {"LD_LIBRARY_PATH": libdir.strip()}
    log, state = workdir / "log.jsonl", workdir / "state.json"
    said = [installed.run(workdir / "example", log, state, check=0, env=env).stdout.decode()
            for _ in range(2)]
    assert said == ['before: {"records":0}\nnow: {"records":1}\n',
                    'before: {"records":1}\n\nnow: {"records":2}\n']
    assert records(log) == [{"event": "hello"}] * 2
    # What is damaged is told, set aside, and no reason to fail.
    log.write_bytes(b"\xff\n" + log.read_bytes())
    state.write_bytes(b'{"rec')
    out = installed.run(workdir / "example", log, state, check=0, env=env).stdout.decode()
    assert out == 'line 1: this byte cannot stand here in JSON\nbefore: {"records":0}\nnow: {"records":3}\n'
    (aside,) = workdir.glob("state.json.bad-*Z")
    assert aside.read_bytes() == b'{"rec'
    return run("ldd", workdir / "example", env=env).stdout.decode()


def test_the_example_with_the_shared_library(installed, workdir):
    libraries = compile_and_run(installed, workdir, *WARNINGS)
    assert "libjsonl.so.0" in libraries or sanitized()


def test_the_example_with_the_static_library(installed, workdir):
    assert "libjsonl" not in compile_and_run(installed, workdir, *WARNINGS, "-DSTATIC")


@pytest.mark.parametrize("standard", ["c++98", "c++11", "c++20"])
def test_the_header_is_for_cpp_too(installed, workdir, standard):
    (workdir / "x.cpp").write_text(
        '#include <jsonl.h>\n#include <jsonl.h>\n'
        'int main() { return jsonl_validate("1", 1, NULL) || jsonl_validate("x", 1, NULL) <= 0; }\n')
    # <stdint.h> has no such name in C++98, pedantically.
    pedantic = WARNINGS if standard != "c++98" else WARNINGS[:-1]
    script = ('g++ "-std=$2" "${@:3}" -o "$1/x" "$1/x.cpp" '
              "$(pkg-config --cflags --libs libjsonl)")
    if sanitized():
        script = 'g++ "-std=$2" "${@:3}" -c -o "$1/x" "$1/x.cpp" $(pkg-config --cflags libjsonl)'
    p = installed.sh(script, workdir, standard, *pedantic)
    assert p.returncode == 0, p.stderr.decode()
    if not sanitized():
        libdir = installed.sh("pkg-config --variable=libdir libjsonl").stdout.decode().strip()
        installed.run(workdir / "x", check=0, env={"LD_LIBRARY_PATH": libdir})


def test_the_header_needs_no_other(workdir):
    for standard in ("c99", "c17"):
        p = subprocess.run(
            ["cc", f"-std={standard}", *WARNINGS, "-fsyntax-only", "-x", "c", "-"],
            input=b'#include "jsonl.h"\nint main(void) { return 0; }\n', env=ENV,
            cwd=REPO / "lib", stderr=subprocess.PIPE)
        assert p.returncode == 0, p.stderr.decode()
    assert "json-c" not in HEADER and "json_object" not in HEADER
