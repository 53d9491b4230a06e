# SPDX-License-Identifier: MIT
"""What no compiler looks at: programs that are run as they stand in the tree, among them
those that the other tests do not run."""

import json
import os
import re

import pytest
from util import BUILD, PYTHON, REPO, run

LEFT_OUT = re.compile(r"build.*|\..*|__pycache__|corpus|seeds")


def sources():
    for where, dirs, files in os.walk(REPO):
        dirs[:] = [d for d in dirs if not LEFT_OUT.fullmatch(d)]
        for name in files:
            yield REPO / os.path.relpath(os.path.join(where, name), REPO)


def written_in(language):
    """The programs of the tree, by their first line or their name."""
    for path in sources():
        with open(path, "rb") as f:
            first = f.readline(80)
        if language in first and first.startswith(b"#!"):
            yield path
        elif path.suffix == {b"python": ".py", b"bash": ".sh"}[language]:
            yield path


def test_a_merge_left_nothing_behind():
    marker = re.compile(rb"^(<{7} |>{7} |={7}$)", re.M)
    assert [str(p) for p in sources() if marker.search(p.read_bytes())] == []


# Data, prose, examples that people copy, and what Debian's tools read.
WITHOUT_LICENCE = re.compile(
    r"LICENSE|\..*|.*\.(?:md|svg|json|example|symbols|dirs|docs|install)")


def test_every_source_says_its_licence():
    line = re.compile(rb"\A(?:.*\n)?\W+SPDX-License-Identifier: MIT\b")
    paths = [p for p in [*sources(), *(REPO / ".ci").iterdir()]
             if not WITHOUT_LICENCE.fullmatch(p.name)
             and ("debian" not in p.parts or p.name == "rules")]
    assert len(paths) > 300
    assert [str(p) for p in paths if not line.match(p.read_bytes())] == []


def test_python_programs_parse():
    programs = list(written_in(b"python"))
    assert REPO / "tests" / "bench" / "run" in programs
    for path in programs:
        compile(path.read_text(), path, "exec")


def test_shell_programs_parse():
    programs = list(written_in(b"bash"))
    assert REPO / "mount-scripts" / "quickstart" in programs
    for path in programs:
        run("bash", "-n", path, check=0)


@pytest.mark.parametrize("command, says", [
    (".ci/run --nonsense", "unknown argument --nonsense"),
    (".ci/run tests", "unknown argument tests"),
    (".ci/run --only", "--only wants one of these stages: tests "),
    (".ci/run --only test", "--only wants one of these stages: tests "),
    (".ci/run --repeat x", "--repeat wants a number"),
    (".ci/run --repeat", "--repeat wants a number"),
    ("tests/run --sanitise", "unknown argument --sanitise"),
    ("tests/run -k x", "unknown argument -k"),
    ("tests/run all -k x", "unknown argument -k"),
    ("tests/run unti", "unknown argument unti"),
    ("tests/run --jobs many", "--jobs wants a number"),
    ("tests/run --build", "--build wants a value"),
    ("tests/run --sanitize=memory", "sanitizers are address and thread"),
])
def test_unknown_arguments_are_errors(command, says):
    program, *arguments = command.split()
    p = run(REPO / program, *arguments, check=2)
    assert p.stderr.decode().startswith(f"!!! {says}") and b"Usage: " in p.stderr


def test_the_stages_of_ci():
    stages = run(REPO / ".ci/run", "--list", check=0).stdout.decode().splitlines()
    text = (REPO / ".ci/run").read_text()
    assert len(stages) > 8
    for stage in stages:
        assert f"\nstage_{stage.split()[0]}() {{" in text


@pytest.mark.parametrize("device, says", [
    ("/dev/fuse", "/dev/fuse cannot be opened"),
    ("/dev/loop-control", "There is no loop device"),
])
def test_a_missing_device_is_found_first(workdir, device, says):
    """In one line, before anything is installed or built."""
    (workdir / "empty").touch()
    hide = 'mount --bind "$1" "$2" && exec "$3" mount -k nothing'
    if device == "/dev/loop-control":  # devices that exist would do
        hide = f'for d in /dev/loop[0-9]*; do mount --bind "$1" "$d"; done; {hide}'
    p = run("unshare", "-m", "bash", "-c", hide, "bash", workdir / "empty", device,
            REPO / "tests/run", check=1)
    assert p.stdout == b"" and p.stderr.decode().startswith(f"!!! {says}"), p


@pytest.mark.parametrize("what, module", [
    ("mount", "pytest"), ("unit", "pytest"), ("mount", "xdist")])
def test_what_all_tests_need_is_found_first(what, module):
    """With --no-install, before anything is built."""
    hide = f"mount -t tmpfs none /usr/lib/python3/dist-packages/{module}"
    p = run("unshare", "-m", "bash", "-c", f'{hide} && exec "$0" --no-install {what}',
            REPO / "tests/run", check=1)
    assert p.stdout == b"" and p.stderr.decode().startswith(f"!!! missing: {module}"), p
    assert "apt-get install" in p.stderr.decode()


def test_the_demonstration_without_python(workdir):
    """Before it has written anything."""
    (workdir / "bin").mkdir()
    for name in ("bash", "dirname"):
        (workdir / "bin" / name).symlink_to(f"/bin/{name}")
    (workdir / "log").mkdir()
    p = run("/bin/bash", REPO / "mount-scripts/demo", workdir / "log", check=1,
            env={"PATH": str(workdir / "bin")})
    assert p.stderr.decode().startswith("!!! python3 is missing"), p
    assert "apt-get install python3" in p.stderr.decode()
    assert list((workdir / "log").iterdir()) == []


@pytest.mark.limit(240)
@pytest.mark.parametrize("section", [["governed"], ["rewrites"],
                                     ["plain", "--rows", "sequential read*"]])
def test_a_benchmark(workdir, section):
    """It runs to its end and has figures; they are of no interest here."""
    out = workdir / "figures.json"
    run(PYTHON, REPO / "tests" / "bench" / "run", "--build", BUILD, "--quick", "--dir",
        workdir, "--json", out, *section, check=0, timeout=200)
    figures = json.loads(out.read_text())
    assert figures["about"]["version"] and len(figures["results"]) > 3
