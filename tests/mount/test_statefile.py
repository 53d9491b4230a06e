"""Class replace: state files that programs write anew as a whole."""

import errno
import json
import os
import signal
import subprocess

import pytest

import util
from util import PYTHON, outcome, refused, run, wait_for


@pytest.fixture
def state(mount, workdir):
    def factory(**more):
        config = workdir / "jsonlfs.json"
        rule = {"match": "*.state.json:registry.json", "class": "replace"} | more
        config.write_text(json.dumps({"rules": [rule]}))
        return mount(f"config={config}")

    return factory


def as_other(m, name, text):
    """Another program writes it."""
    run(PYTHON, "-c", "import sys; open(sys.argv[1], 'w').write(sys.argv[2])",
        m.p(name), text, check=0)


def test_a_rewrite_is_seen_as_a_whole(state):
    m = state()
    path = m.p("a.state.json")
    path.write_text('{"a": 1}')
    os.chmod(path, 0o640)
    os.chown(path, util.NOBODY, util.DAEMON)
    inode = m.b("a.state.json").stat().st_ino
    with open(path) as before, open(path, "w") as f:
        f.write('{\n  "a": 2,')
        f.flush()
        assert path.read_text() == m.b("a.state.json").read_text() == '{"a": 1}'
        f.write('\n  "b": [1,\n2]}\n')
        f.flush()
        assert path.read_text() == '{"a": 1}'
        f.close()
        assert before.read() == '{"a": 1}'
    assert json.loads(m.both("a.state.json")) == {"a": 2, "b": [1, 2]}
    st = m.b("a.state.json").stat()
    assert (st.st_mode & 0o777, st.st_uid, st.st_gid) == (0o640, util.NOBODY, util.DAEMON)
    assert st.st_ino != inode and path.stat().st_size == st.st_size
    assert [p.name for p in m.backing.iterdir() if p.name != ".jsonlfs"] == ["a.state.json"]
    assert m.counter("rewrites") == 2


def test_other_files_are_as_ever(state):
    m = state()
    m.p("b.json").write_text("{no")
    assert m.both("b.json") == b"{no"


@pytest.mark.parametrize("content", ["", '{"a": ', "{'a': 1}", '{"a":1} {"b":2}'])
def test_what_is_no_document_is_refused(state, content):
    m = state()
    m.p("registry.json").write_text('{"a":1}')
    fd = os.open(m.p("registry.json"), os.O_WRONLY | os.O_TRUNC)
    os.write(fd, content.encode())
    with refused(errno.EBADMSG):
        os.close(fd)
    assert m.both("registry.json") == b'{"a":1}'
    assert m.set_aside() == content.encode()
    m.expect_log("rewrite-refused", "registry.json")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_writer_that_is_killed_leaves_the_old(state, how):
    m = state()
    m.p("registry.json").write_text('{"a":1}')
    p = subprocess.Popen(
        [PYTHON, "-c", "import time\n"
         f"f = open({str(m.p('registry.json'))!r}, 'w')\n"
         "f.write('{\"a\":2}'); f.flush()\n"
         "print('written', flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE)
    p.stdout.readline()
    p.send_signal(how)
    p.wait(10)
    m.expect_log("rewrite-abandoned", "registry.json")
    assert m.both("registry.json") == b'{"a":1}' and m.set_aside() == b'{"a":2}'


def test_reading_and_writing_on_one_descriptor(state):
    m = state()
    m.p("registry.json").write_text('{"a":[1,2,3]}')
    with open(m.p("registry.json"), "r+") as f:
        data = json.load(f)
        data["a"] = []
        f.seek(0)
        json.dump(data, f)
        f.truncate()
    assert json.loads(m.both("registry.json")) == {"a": []}
    with open(m.p("registry.json"), "a") as f:
        f.write("\n")
    assert m.both("registry.json") == b'{"a": []}\n'


def test_fsync_commits(state):
    m = state()
    m.p("registry.json").write_text('{"a":1}')
    with open(m.p("registry.json"), "w") as f:
        f.write('{"a":2')
        f.flush()
        os.fsync(f.fileno())
        assert m.both("registry.json") == b'{"a":1}'
        f.write("}")
        f.flush()
        os.fsync(f.fileno())
        assert m.both("registry.json") == b'{"a":2}'


def test_programs(state):
    m = state()
    m.p("registry.json").write_text('{"n":1}\n')
    util.sh("jq .n=2 registry.json > t && mv t registry.json", m.mnt)
    assert json.loads(m.both("registry.json")) == {"n": 2}
    util.sh("sed -i s/2/3/ registry.json", m.mnt)
    assert json.loads(m.both("registry.json")) == {"n": 3}
    util.sh("echo '{\"n\":4}' > registry.json", m.mnt)
    assert json.loads(m.both("registry.json")) == {"n": 4}
    util.sh("vim -u NONE -es -c 's/4/5/' -c wq registry.json", m.mnt)
    assert json.loads(m.both("registry.json")) == {"n": 5}
    p = util.sh("echo '{' > t; mv t registry.json", m.mnt, check=None)
    assert p.returncode and json.loads(m.both("registry.json")) == {"n": 5}
    util.sh("cp registry.json copy.state.json; mv copy.state.json old; rm registry.json",
            m.mnt)
    assert not m.p("registry.json").exists() and m.p("old").exists()


def test_an_ordinary_users_program(state):
    m = state()
    m.p("d").mkdir()
    os.chmod(m.p("d"), 0o777)
    util.sh("echo '{\"n\":4}' > x.state.json; echo '{\"n\":5}' > x.state.json", m.p("d"),
            uid=util.NOBODY)
    assert m.both("d/x.state.json") == b'{"n":5}\n'
    assert m.b("d/x.state.json").stat().st_uid == util.NOBODY


# ---- lost updates ----


def test_a_lost_update_is_counted(state):
    m = state()
    m.p("registry.json").write_text('{"n":1}')
    m.p("registry.json").read_text()
    as_other(m, "registry.json", '{"n":2}')
    m.p("registry.json").write_text('{"n":3}')
    assert m.both("registry.json") == b'{"n":3}' and m.counter("lost_updates") == 1
    m.expect_log("lost-update", "registry.json")
    # It knows what it has written; who reads again loses nothing.
    m.p("registry.json").write_text('{"n":4}')
    as_other(m, "registry.json", '{"n":5}')
    m.p("registry.json").read_text()
    m.p("registry.json").write_text('{"n":6}')
    assert m.counter("lost_updates") == 1


def test_a_lost_update_is_refused(state):
    m = state(lostupdate="refuse")
    m.p("registry.json").write_text('{"n":1}')
    with open(m.p("registry.json"), "r+") as f:
        f.read()
        as_other(m, "registry.json", '{"n":2}')
        f.seek(0)
        f.write('{"n":3}')
        f.flush()
        with refused(errno.EBUSY):
            os.close(os.dup(f.fileno())) or f.close()
    assert m.both("registry.json") == b'{"n":2}' and m.set_aside() == b'{"n":3}'
    assert m.counter("lost_updates") == 1


def test_a_lock_file_beside_it(state):
    """Eight programs count up under an O_EXCL lock file: nothing is lost."""
    m = state(lostupdate="refuse")
    m.p("registry.json").write_text('{"n":0}')
    program = (
        "import json, os, time\n"
        "for k in range(20):\n"
        "    while True:\n"
        "        try: fd = os.open('lock', os.O_CREAT | os.O_EXCL); break\n"
        "        except FileExistsError: time.sleep(0.001)\n"
        "    n = json.load(open('registry.json'))['n']\n"
        "    with open('registry.json', 'w') as f: json.dump({'n': n + 1}, f)\n"
        "    os.close(fd); os.unlink('lock')\n"
    )
    all_ = [subprocess.Popen([PYTHON, "-c", program], cwd=m.mnt) for _ in range(8)]
    assert [p.wait(50) for p in all_] == [0] * 8
    assert json.loads(m.both("registry.json")) == {"n": 160}
    assert m.counter("lost_updates") == 0


# ---- broken files, readers ----


def test_a_broken_file_is_moved_aside(state):
    m = state()
    m.b("registry.json").write_text('{"a":')
    with refused(errno.EBADMSG):
        os.open(m.p("registry.json"), os.O_RDONLY)
    with refused(errno.ENOENT):
        os.open(m.p("registry.json"), os.O_RDONLY)
    [aside] = [p for p in m.backing.iterdir() if ".bak-" in p.name]
    assert aside.read_text() == '{"a":' and aside.name.startswith("registry.json.bak-")
    m.expect_log("state-file-broken", "registry.json", aside.name)
    assert m.counter("state_files_broken") == 1
    m.p("registry.json").write_text("[]")
    assert m.both("registry.json") == b"[]"


def test_a_broken_file_becomes_empty(state):
    m = state(onbroken="empty")
    m.b("registry.json").write_text("{")
    m.b("registry.json").chmod(0o640)
    assert m.p("registry.json").read_text() == ""
    assert m.p("registry.json").stat().st_mode & 0o777 == 0o640
    assert len([p for p in m.backing.iterdir() if ".bak-" in p.name]) == 1


@pytest.mark.parametrize("written", ["write", "rename"])
def test_a_broken_file_becomes_the_last_good_one(state, written):
    m = state(onbroken="last-good")
    m.b("registry.json").write_text("{")
    with refused(errno.EBADMSG):
        os.open(m.p("registry.json"), os.O_RDONLY)
    m.p("t").write_text('{"n":1}')
    if written == "rename":
        os.rename(m.p("t"), m.p("registry.json"))
    else:
        m.p("registry.json").write_text('{"n":1}')
    # What a rename and a restoration change at once, open(2) looks up only once.
    wait_for(lambda: outcome(lambda: m.p("registry.json").read_text()) == 0)
    m.b("registry.json").write_text('{"n":')
    assert m.p("registry.json").read_text() == '{"n":1}'
    assert m.both("registry.json") == b'{"n":1}'
    assert m.counter("state_files_broken") == 2
    assert m.b(".jsonlfs/last-good").is_dir()


def test_who_is_in_the_middle_of_writing_it_outside_is_left_alone(state):
    m = state()
    with open(m.b("registry.json"), "w") as f:
        f.write('{"a":')
        f.flush()
        assert m.p("registry.json").read_text() == '{"a":'
        f.write("1}")
    assert m.p("registry.json").read_text() == '{"a":1}'


@pytest.mark.limit(120)
@pytest.mark.parametrize("how", ["write", "replace"])
def test_readers_during_many_rewrites(state, how):
    """A reader sees one version or another, whole, whenever it looks."""
    m = state()
    path = m.p("registry.json")
    path.write_text(json.dumps({"n": 0, "pad": "x" * 20000}))
    reader = (
        "import json, os, sys\n"
        "k = 0\n"
        "while not os.path.exists('stop'):\n"
        "    try: json.load(open('registry.json')); k += 1\n"
        "    except OSError as e:\n"
        "        if e.errno != 116: raise\n"
        "print(k)\n"
    )
    p = subprocess.Popen([PYTHON, "-c", reader], cwd=m.mnt, stdout=subprocess.PIPE)
    for n in range(300):
        text = json.dumps({"n": n, "pad": "x" * (n * 100)})
        if how == "write":
            path.write_text(text)
        else:
            m.p("t").write_text(text)
            os.replace(m.p("t"), path)
    m.p("stop").write_text("")
    out, _ = p.communicate(timeout=30)
    assert p.returncode == 0 and int(out) > 10
    assert json.loads(m.both("registry.json"))["n"] == 299
