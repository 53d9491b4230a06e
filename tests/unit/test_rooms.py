# SPDX-License-Identifier: MIT
"""The rooms of fs/ and lib/: the build has those of docs/HACKING.md, and no room has a circle of
files. What calls what is read from the object files."""

import collections
import os
import pathlib
import re
import subprocess

REPO = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ["JSONLFS_BUILD"])


def built():
    """The rooms as the build has them, bottom up: {"fs/base": ["fs/..." that it may use]}."""
    rooms = {}
    for said in os.environ["JSONLFS_ROOMS"].split():
        room, uses = said.split("=")
        top = room.split("/")[0]
        rooms[room] = [f"{top}/{u}" for u in uses.split(",") if u]
    return rooms


def symbols(path):
    """What an object file defines for others, and what it wants of them."""
    out = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout
    defined, wanted = set(), set()
    for line in out.splitlines():
        *_, kind, name = line.split()
        if kind == "U":
            wanted.add(name)
        elif kind.isupper():
            defined.add(name)
    return defined, wanted


def objects(room):
    """{file: its object} of a room."""
    top, name = room.split("/")
    place = BUILD / top / f"lib{'jsonlfs' if top == 'fs' else 'jsonl'}-{name}.a.p"
    return {p.name.removesuffix(".c.o"): p for p in place.glob("*.c.o")}


def calls(files):
    """{file: {other file: symbols}} among the files of one room."""
    known = {f: symbols(p) for f, p in files.items()}
    home = {s: f for f, (defined, _) in known.items() for s in defined}
    graph = collections.defaultdict(dict)
    for f, (_, wanted) in known.items():
        for s in wanted:
            if home.get(s, f) != f:
                graph[f].setdefault(home[s], set()).add(s)
    return graph


def circle(graph):
    """One circle of the graph as text, or None."""
    done = set()

    def walk(f, path):
        if f in path:
            ring = path[path.index(f):] + [f]
            return ", ".join(f"{a} -> {b} ({' '.join(sorted(graph[a][b]))})"
                             for a, b in zip(ring, ring[1:]))
        if f in done:
            return None
        done.add(f)
        for to in graph.get(f, ()):
            found = walk(to, path + [f])
            if found:
                return found
        return None

    for f in list(graph):
        found = walk(f, [])
        if found:
            return found
    return None


def test_no_room_has_a_circle_of_files():
    found = {}
    for room in built():
        files = objects(room)
        source = REPO / room
        # All objects are there: a look at none of them would find nothing.
        assert {f.split("_", 1)[1] for f in files} == {p.stem for p in source.glob("*.c")}, room
        ring = circle(calls(files))
        if ring:
            found[room] = ring
    assert not found, "\n".join(f"{room}: {ring}" for room, ring in found.items())


def test_the_build_has_the_rooms_of_the_documentation():
    """docs/HACKING.md names them in the same order, with the rooms that each may use."""
    table = {}
    for line in (REPO / "docs/HACKING.md").read_text().splitlines():
        row = re.match(r"\| `((?:fs|lib)/\w+)/` \|([^|]*)\|", line)
        if row:
            top = row[1].split("/")[0]
            table[row[1]] = [f"{top}/{u}" for u in re.findall(r"\w+", row[2])]
    for top in ("fs", "lib"):
        rooms = {r: u for r, u in built().items() if r.startswith(top + "/")}
        said = {r: u for r, u in table.items() if r.startswith(top + "/")}
        assert list(rooms.items()) == list(said.items())
        folders = {f"{top}/{p.name}" for p in (REPO / top).iterdir() if p.is_dir()}
        assert folders - {"fs/ctl", "fs/start"} == set(rooms)


CTL = ["find", "ask", "check", "repair", "write", "kept"]


def test_the_folders_of_jsonlfsctl_include_only_those_before_them():
    top = REPO / "fs/ctl"
    assert {p.name for p in top.iterdir() if p.is_dir()} == set(CTL)
    for number, folder in enumerate(CTL):
        for path in (top / folder).iterdir():
            used = set(re.findall(r'#include "ctl/(\w+)/', path.read_text()))
            assert used <= set(CTL[:number + 1]), path


def test_no_two_files_of_tests_have_one_name():
    """pytest would import the first one for both, and refuse to run any test."""
    names = [p.name for p in (REPO / "tests").rglob("test_*.py")]
    assert len(names) > 50 and len(set(names)) == len(names)


def test_files_are_short_and_folders_small():
    """Of what is larger docs/DESIGN.md says why."""
    design = (REPO / "docs/DESIGN.md").read_text()
    for top in ("fs", "lib"):
        for path in (REPO / top).rglob("*.c"):
            lines = len(path.read_text().splitlines())
            assert lines <= 450, f"{path}: {lines} lines"
        for folder in (p for p in (REPO / top).rglob("*") if p.is_dir()):
            modules = {p.stem for p in folder.glob("*.[ch]")}
            room = f"`{folder.relative_to(REPO)}`"
            assert len(modules) <= 14 or room in design, f"{room}: {len(modules)} modules"


def test_the_daemon_uses_no_internal_header_of_the_library():
    found = set()
    for path in (REPO / "fs").rglob("*.[ch]"):
        used = re.findall(r'#include "(\w+/\w+_internal\.h)"', path.read_text())
        found |= {f"{path.relative_to(REPO)}: {name}" for name in used if (REPO / "lib" / name).exists()}
    assert found == set()


def named(cell):
    """The files and folders of a cell, and the names in brackets behind each: [(path, names)]."""
    folder, found = REPO, []
    for names, name in re.findall(r"\(([^()]*`[^()]*)\)|`([^`]+)`", cell):
        if names and found:
            found[-1][1].extend(re.findall(r"`(\w+)`", names))
        elif re.fullmatch(r"[\w/.-]+(?:\.\w+|/)", name):
            path = REPO / name if "/" in name else folder / name
            folder = path if name.endswith("/") else path.parent
            found.append((path, []))
    return found


def test_the_table_of_changes_names_what_is_there():
    page = (REPO / "docs/HACKING.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", page[:page.index("\n## ")], re.M)[2:]
    builds = "".join(p.read_text() for p in (REPO / "tests").rglob("meson.build"))
    tests = "".join(f"{p} {p.read_text()}" for p in (REPO / "tests/mount").rglob("test_*.py"))
    assert len(rows) > 30
    for what, where, how in rows:
        for path, names in named(where):
            assert path.exists(), (what, path)
            missing = [n for n in names if n not in path.read_text()]
            assert not missing, (what, path, missing)
        for test in re.findall(r"\btest_\w+", "".join(re.findall(r"meson test([^`]*)", how))):
            assert re.search(rf"\b(?:test_)?{test.removeprefix('test_')}\b", builds), (what, test)
        for word in re.findall(r"\w+", " ".join(re.findall(r"-k ([^`]*)", how))):
            assert word in tests, (what, word)
