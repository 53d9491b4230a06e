# SPDX-License-Identifier: MIT
"""jsonlfsctl report: a page that says what is there, and that nothing in a vault can break."""

import html.parser
import json
import os
from datetime import datetime, timedelta

import pytest
from util import BAD, DAMAGE, FAILED, NOBODY, USAGE, append, ctl, refused

GOOD = b'{"a":1}\n'
VOID = {"meta"}


class Page(html.parser.HTMLParser):
    """Its tables by the heading above, as rows of texts; its elements are closed in order."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tables, self.text, self.title, self.data = [], {}, "", "", ""
        self.scripts = 0
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert not any(name in ("src", "href") or name.startswith("on") for name, _ in attrs)
        if tag in VOID:
            return
        self.open.append(tag)
        if tag == "h2":
            self.title = ""
        elif tag == "tr":
            self.tables.setdefault(self.title, []).append([])
        elif tag in ("td", "th"):
            self.tables[self.title][-1].append("")
        self.scripts += tag == "script"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "h2" in self.open:
            self.title += data
        elif self.open and self.open[-1] in ("td", "th"):
            self.tables[self.title][-1][-1] += data
        elif self.open and self.open[-1] == "script":
            self.data += data
        elif "style" not in self.open:
            self.text += data


@pytest.fixture
def page(workdir):
    out = workdir / "out"
    out.mkdir()

    def make(path, code=0):
        ctl("report", f"--html={out / 'r.html'}", path, code=code)
        return Page(out / "r.html")

    make.path = out / "r.html"
    return make


def test_a_page_of_a_mount(mount, page):
    m = mount()
    append(m.p("a.jsonl"), GOOD * 3)
    m.p("sub").mkdir()
    append(m.p("sub/b.jsonl"), GOOD)
    fd = os.open(m.p("a.jsonl"), os.O_WRONLY | os.O_APPEND)
    with refused(BAD):
        os.write(fd, b"bad\n")
    with refused(BAD):
        os.close(fd)
    append(m.p("gone.jsonl"), GOOD)
    m.p("gone.jsonl").unlink()
    p = page(m.mnt)
    rows = {os.path.relpath(r[0], m.mnt): r[1:] for r in p.tables["Files"][1:]}
    assert rows["a.jsonl"] == ["3", "24 B", "-", "-", "0"]
    assert rows["sub/b.jsonl"][0] == "1"
    assert "clean" in p.text and "1lines refused" in p.text.replace("\n", "")
    programs = p.tables["Programs against the contract"][1:]
    assert any(r[1] == "a.jsonl" and "no-sync" in r[4] for r in programs)
    for store in ("Quarantine", "Archive"):
        assert p.tables[store][1][:2] == ["up to a day", "1"]


def test_what_came_a_day(workdir, page):
    vault = workdir / "v"
    vault.mkdir()
    (vault / "x.jsonl").write_bytes(GOOD * 10)
    (vault / "y.jsonl").write_bytes(GOOD * 10)
    page(vault)
    text = page.path.read_text()
    # As if it had been made two days earlier.
    when = json.loads(Page(page.path).data)["time"]
    form = "%Y-%m-%dT%H:%M:%SZ"
    earlier = (datetime.strptime(when, form) - timedelta(days=2)).strftime(form)
    page.path.write_text(text.replace(f'"time":"{when}"', f'"time":"{earlier}"'))
    (vault / "x.jsonl").write_bytes(GOOD * 30)
    (vault / "y.jsonl").write_bytes(GOOD * 4)  # rotated
    (vault / "z.jsonl").write_bytes(GOOD * 2)
    p = page(vault)
    rows = {os.path.basename(r[0]): r for r in p.tables["Files"][1:]}
    assert earlier in p.text
    assert [rows[f"{n}.jsonl"][3] for n in "xyz"] == ["10", "2", "1"]
    assert rows["x.jsonl"][4] == "80 B"


def test_damage_and_names_that_are_markup(workdir, page):
    vault = workdir / "v"
    vault.mkdir()
    names = ["<script>alert(1)<", '"a" onload="x', "&amp;", "a\x1b[2J", "</title>".replace("/", "")]
    for name in names:
        (vault / f"{name}.jsonl").write_bytes(b'{"a":1}\nbad\n')
    p = page(vault, DAMAGE)
    assert "DAMAGED" in p.text and p.scripts == 1
    assert len(p.tables["Findings"]) == 1 + len(names)
    shown = " ".join(r[0] for r in p.tables["Files"][1:])
    for name in names:
        assert name.replace("\x1b", "\\x1b") in shown
    assert b"\x1b" not in page.path.read_bytes()
    assert len(json.loads(p.data)["files"]) == len(names)
    assert len(page(vault, DAMAGE).tables["Files"]) == 1 + len(names)


def test_an_earlier_file_that_is_none(workdir, page):
    vault = workdir / "v"
    vault.mkdir()
    (vault / "x.jsonl").write_bytes(GOOD)
    for text in (b"", b"\0\xff" * 1000, b'<script type="application/json" id="data">',
                 b'<script type="application/json" id="data">[]</script>',
                 b'<script type="application/json" id="data">{"time":1,"files":[1,{}]}</script>'):
        page.path.write_bytes(text)
        assert page(vault).tables["Files"][1][3] == "-"


def test_where_it_may_not_be_written(workdir, page):
    vault = workdir / "v"
    vault.mkdir()
    page.path.parent.chmod(0o777)
    os.chown(page.path.parent, NOBODY, NOBODY)
    ctl("report", f"--html={page.path}", vault, code=FAILED)
    assert not page.path.exists()


def test_usage():
    for argv in ([], ["--what", "."], ["--html=x", "a", "b"], ["--html="]):
        assert b"--help" in ctl("report", *argv, code=USAGE).stderr
