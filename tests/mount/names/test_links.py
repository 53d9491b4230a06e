# SPDX-License-Identifier: MIT
"""links=inside: symbolic links that could lead out of the vault are not followed."""

import errno
import os

import pytest
from util import append, refused


@pytest.fixture
def outside(workdir):
    path = workdir / "outside"
    path.mkdir()
    (path / "secret").write_text("secret")
    return path


def links_of(m, outside):
    m.p("a/b").mkdir(parents=True)
    m.p("note.md").write_text("inside")
    return {
        "absolute": str(outside / "secret"),
        "absolute-inside": str(m.p("note.md")),
        "up": "../outside/secret",
        "down-and-up": "a/../../outside/secret",
        "a/two-up": "../../outside/secret",
        "a/b/three-up": "../../../outside/secret",
        "a/b/through": "../b/../../../outside/secret",
    }


def test_links_that_lead_out_are_refused_and_named(mount, outside):
    m = mount("links=inside")
    links = links_of(m, outside)
    for name, target in links.items():
        os.symlink(target, m.p(name))
        with refused(errno.ELOOP):
            os.readlink(m.p(name))
        with refused(errno.ELOOP):
            open(m.p(name)).read()
        with refused(errno.ELOOP):
            append(m.p(name), b"x")
    for name in links:
        m.expect_log("denied", f'path="{name}"', "links=inside")
    assert (outside / "secret").read_text() == "secret"


def test_links_that_stay_inside_work(mount, outside):
    m = mount("links=inside")
    links_of(m, outside)
    for name, target in {"one": "note.md", "a/up": "../note.md", "a/b/up": "../../note.md",
                         "a/b/dots": "./.././../note.md"}.items():
        os.symlink(target, m.p(name))
        assert os.readlink(m.p(name)) == target
        assert open(m.p(name)).read() == "inside"


def test_a_link_that_moves_up_is_looked_at_anew(mount, outside):
    m = mount("links=inside")
    links_of(m, outside)
    os.symlink("../../note.md", m.p("a/b/up"))
    assert open(m.p("a/b/up")).read() == "inside"
    os.rename(m.p("a/b"), m.p("b"))
    with refused(errno.ELOOP):
        open(m.p("b/up")).read()
    os.rename(m.p("b/up"), m.p("a/up"))
    with refused(errno.ELOOP):
        open(m.p("a/up")).read()


def test_a_link_with_several_names_counts_as_one_at_the_root(mount, outside):
    m = mount("links=inside")
    links_of(m, outside)
    os.symlink("../note.md", m.p("a/up"))
    assert open(m.p("a/up")).read() == "inside"
    os.link(m.p("a/up"), m.p("up"), follow_symlinks=False)
    for name in ("a/up", "up"):
        with refused(errno.ELOOP):
            open(m.p(name)).read()


def test_any_link_is_followed_by_default(mount, outside):
    m = mount()
    for name, target in links_of(m, outside).items():
        os.symlink(target, m.p(name))
        assert os.readlink(m.p(name)) == target
