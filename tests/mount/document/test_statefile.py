# SPDX-License-Identifier: MIT
"""Class replace: state files that programs write anew as a whole."""

import errno
import json
import os
import signal
import subprocess
import time

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


def test_a_close_of_a_duplicate_after_another_rewrite_commits_no_half(state):
    m = state()
    m.p("registry.json").write_text('{"n": 0}')
    fd = os.open(m.p("registry.json"), os.O_RDWR)
    os.write(fd, b'{"n": ')
    os.ftruncate(fd, 6)
    as_other(m, "registry.json", '{"n": 1}')
    os.close(os.dup(fd))
    assert m.both("registry.json") == b'{"n": 1}' and not m.quarantine()
    os.write(fd, b"2}")
    os.close(fd)
    assert m.both("registry.json") == b'{"n": 2}'


def rewrite(m, text, name="registry.json", by="new"):
    """As programs do that replace their file."""
    m.p(by).write_text(text)
    os.replace(m.p(by), m.p(name))


def renamed_by_another(m, text):
    run(PYTHON, "-c", "import os, sys; open(sys.argv[1], 'w').write(sys.argv[3])\n"
        "os.replace(sys.argv[1], sys.argv[2])", m.p("other"), m.p("registry.json"), text,
        check=0)


@pytest.mark.parametrize("other", [as_other, lambda m, _, text: renamed_by_another(m, text)])
@pytest.mark.parametrize("temp", ["new", "new.state.json"])
def test_a_rename_that_loses_an_update_is_counted(state, other, temp):
    m = state()
    m.p("registry.json").write_text('{"n":1}')
    m.p("registry.json").read_text()
    other(m, "registry.json", '{"n":2}')
    rewrite(m, '{"n":3}', by=temp)
    assert m.both("registry.json") == b'{"n":3}' and m.counter("lost_updates") == 1
    m.expect_log("lost-update", "registry.json")
    # It knows what it has written, and so does who reads again; by either way of writing.
    rewrite(m, '{"n":4}', by=temp)
    m.p("registry.json").write_text('{"n":5}')
    other(m, "registry.json", '{"n":6}')
    m.p("registry.json").read_text()
    rewrite(m, '{"n":7}', by=temp)
    assert m.counter("lost_updates") == 1
    # A rename is a change for those who write in the other way, too.
    other(m, "registry.json", '{"n":8}')
    m.p("registry.json").write_text('{"n":9}')
    assert m.both("registry.json") == b'{"n":9}' and m.counter("lost_updates") == 2


@pytest.mark.parametrize("temp", ["new", "new.state.json"])
def test_a_rename_that_loses_an_update_is_refused(state, temp):
    m = state(lostupdate="refuse")
    m.p("registry.json").write_text('{"n":1}')
    m.p("registry.json").read_text()
    renamed_by_another(m, '{"n":2}')
    with refused(errno.EBUSY):
        rewrite(m, '{"n":3}', by=temp)
    # Both are as they were, and can be read and written.
    assert m.both("registry.json") == b'{"n":2}' and m.both(temp) == b'{"n":3}'
    m.p(temp).write_text('{"n":33}')
    m.expect_log("denied", "read it anew")
    assert m.counter("lost_updates") == 1
    m.p("registry.json").read_text()
    rewrite(m, '{"n":4}', by=temp)
    assert m.both("registry.json") == b'{"n":4}' and m.counter("lost_updates") == 1


def test_a_rename_by_another_program_than_the_one_that_read(state):
    """jq . f > t && mv t f: what changed since t was begun is lost."""
    m = state(lostupdate="refuse")
    m.p("registry.json").write_text('{"n":1}\n')
    util.sh("jq -c .n=2 registry.json > t && mv t registry.json", m.mnt)
    # File times are coarse: what happens within one tick of them is not told apart.
    time.sleep(0.05)
    util.sh("jq -c .n=3 registry.json > t; sleep 0.05; echo '{\"n\":4}' > registry.json",
            m.mnt)
    p = util.sh("mv t registry.json", m.mnt, check=None)
    assert p.returncode and b"busy" in p.stderr.lower()
    assert m.both("registry.json") == b'{"n":4}\n' and m.counter("lost_updates") == 1
    # The same file once more, with a content that was begun anew.
    util.sh("jq -c .n=5 registry.json > t; mv t registry.json", m.mnt)
    assert m.both("registry.json") == b'{"n":5}\n' and m.counter("lost_updates") == 1
    # Of another that did so by a rename itself the file's own time says nothing.
    util.sh("jq -c .n=6 registry.json > t; jq -c .n=7 registry.json > u; sleep 0.05;"
            "mv t registry.json", m.mnt)
    p = util.sh("mv u registry.json", m.mnt, check=None)
    assert p.returncode and b"busy" in p.stderr.lower()
    assert m.both("registry.json") == b'{"n":6}\n' and m.counter("lost_updates") == 2
    # On purpose it goes by its content.
    util.sh("cat u > registry.json", m.mnt)
    assert m.both("registry.json") == b'{"n":7}\n'


def test_what_is_begun_right_after_a_change_loses_nothing(state):
    """Whatever the clock says within one tick of it."""
    m = state(lostupdate="refuse")
    m.p("t").write_text("")
    for n in range(30):
        m.p("registry.json").write_text(f'{{"n":{n}}}\n')
        m.p("registry.json").stat()
        m.p("t").write_text(f'{{"m":{n}}}\n')
        run("mv", m.p("t"), m.p("registry.json"), check=0)
        run("mv", m.p("registry.json"), m.p("t"), check=0)
    assert m.counter("lost_updates") == 0


@pytest.mark.limit(120)
@pytest.mark.parametrize("how", ["write", "rename"])
def test_what_is_refused_and_tried_again_loses_nothing(state, how):
    """Eight programs count up without a lock, and read anew when they were too late."""
    m = state(lostupdate="refuse")
    m.p("registry.json").write_text('{"n":0}')
    program = (
        "import errno, json, os, sys\n"
        "name, rename = sys.argv[1], sys.argv[2] == 'rename'\n"
        "done = late = 0\n"
        "while done < 25:\n"
        "    try:\n"
        "        n = json.load(open('registry.json'))['n']\n"
        "        with open(name if rename else 'registry.json', 'w') as f:\n"
        "            json.dump({'n': n + 1}, f)\n"
        "        if rename: os.replace(name, 'registry.json')\n"
        "        done += 1\n"
        "    except OSError as e:\n"
        "        if e.errno not in (errno.EBUSY, errno.ESTALE): raise\n"
        "        late += e.errno == errno.EBUSY\n"
        "print(late)\n"
    )
    all_ = [
        subprocess.Popen([PYTHON, "-c", program, f"t{k}", how], cwd=m.mnt,
                         stdout=subprocess.PIPE)
        for k in range(8)
    ]
    late = sum(int(p.communicate(timeout=100)[0]) for p in all_)
    assert [p.returncode for p in all_] == [0] * 8
    assert json.loads(m.both("registry.json")) == {"n": 200}
    assert m.counter("lost_updates") == late > 0


def test_an_exchange_would_go_round_the_check(state):
    m = state()
    m.p("registry.json").write_text('{"n":1}')
    m.p("plain").write_text("{")
    for a, b in (("registry.json", "plain"), ("plain", "registry.json")):
        with refused(errno.EPERM):
            util.renameat2(m.p(a), m.p(b), util.EXCHANGE)
    m.p("b.state.json").write_text('{"n":2}')
    util.renameat2(m.p("registry.json"), m.p("b.state.json"), util.EXCHANGE)
    assert m.both("registry.json") == b'{"n":2}' and m.both("b.state.json") == b'{"n":1}'


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
    assert m.b(".jsonlfs/daemon/last-good").is_dir()


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


@pytest.mark.parametrize("how", ["write", "rename"])
def test_a_reader_has_the_attributes_of_its_version(state, how):
    m = state()
    path = m.p("registry.json")
    old, new = b'{"n":1}', b'{"n":2,"more":"than before"}'
    path.write_bytes(old)
    with open(path, "rb", buffering=0) as reader, open(path, "r+b", buffering=0) as both:
        number = os.fstat(reader.fileno()).st_ino
        if how == "write":
            path.write_bytes(new)
        else:
            m.p("t").write_bytes(new)
            m.p("t").rename(path)
        assert path.stat().st_size == len(new) and path.stat().st_ino != number
        for f in (reader, both):
            assert os.fstat(f.fileno()).st_size == len(old) == f.seek(0, 2)
            assert os.fstat(f.fileno()).st_ino == number
            f.seek(0)
            assert f.read() == old
        with open(path, "rb") as f:
            assert f.read() == new and os.fstat(f.fileno()).st_size == len(new)


def test_a_file_of_class_text_that_becomes_one_is_judged(mount, workdir):
    config = workdir / "two.json"
    config.write_text(json.dumps({"rules": [
        {"match": "registry.json", "class": "replace"}, {"match": "*.md", "class": "text"}]}))
    m = mount(f"config={config}")
    m.p("bad.md").write_text("# no document")
    m.p("good.md").write_text('{"n":1}')
    with refused(errno.EBADMSG):
        m.p("bad.md").rename(m.p("registry.json"))
    assert m.p("bad.md").exists() and not m.p("registry.json").exists()
    m.p("good.md").rename(m.p("registry.json"))
    assert m.both("registry.json") == b'{"n":1}'
    with refused(errno.EBADMSG):
        m.p("bad.md").rename(m.p("registry.json"))
    assert m.both("registry.json") == b'{"n":1}'
