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
