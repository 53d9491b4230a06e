# SPDX-License-Identifier: MIT
"""Documents and text logs of two daemons over one directory."""

import contextlib
import json
import sys

import pytest
from util import HERE, PYTHON, running

UPDATES = HERE.parent / "hosts" / "updates.py"
sys.path.insert(0, str(UPDATES.parent))
from updates import hold_blocks  # noqa: E402


@pytest.fixture
def pair(mount, workdir):
    config = workdir / "rules.json"
    config.write_text(json.dumps({"rules": [{"match": "*.json", "class": "replace"},
                                            {"match": "*.md", "class": "text"}]}))
    options = (f"config={config}", "lostupdate=refuse")
    a = mount(*options, self_mount=False)
    return a, mount(*options, source=a.source, self_mount=False)


def changing(pair, kind, name, seconds):
    """What two programs have done on each side."""
    with contextlib.ExitStack() as stack:
        procs = [stack.enter_context(running(PYTHON, UPDATES, kind, m.p(name), n, seconds))
                 for n, m in enumerate((*pair, *pair))]
        said = [p.communicate(timeout=60) for p in procs]
    assert not any(p.returncode for p in procs), said
    return sum(int(out) for out, _ in said)


@pytest.mark.parametrize("how", ["rewrite", "rename"])
def test_no_update_of_a_document_is_lost(pair, how):
    source = pair[0].source
    (source / "n.json").write_text('{"n": 0}')
    done = changing(pair, how, "n.json", 4)
    assert done > 10
    assert json.loads((source / "n.json").read_text()) == {"n": done}


def test_blocks_of_text_stay_whole(pair):
    source = pair[0].source
    (source / "x.md").write_text("")
    done = changing(pair, "block", "x.md", 3)
    hold_blocks((source / "x.md").read_text(), done)
