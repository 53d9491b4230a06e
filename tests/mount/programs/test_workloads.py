# SPDX-License-Identifier: MIT
"""What people run on a file system all day, unmodified and inside a mount: whatever works
natively works here, and what comes out is the same.

JSONLFS_LONG=1 runs each longer."""

import os
import pwd
import random
import shutil
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import differ
import util
from differ import GROUP, GROUP_OBJ, MASK, OTHER, USER, USER_OBJ, acl

LONG = bool(os.environ.get("JSONLFS_LONG"))
LIMIT = 3600 if LONG else 150

pytestmark = pytest.mark.limit(LIMIT)


def sh(script, cwd, *args, **kw):
    return util.sh("set -e\n" + script, cwd, *args, timeout=LIMIT, **kw)


# ---- stress-ng ----

# The file system class but for what is not about a directory: mounts of their own, files
# of /proc, descriptors without a file, priorities, a sync or a watch of
# whatever else is mounted.
STRESSORS = """access chattr chdir chmod chown copy-file dentry dir dirdeep dirmany dnotify dup
    fallocate fcntl fiemap file-ioctl filename flock fpunch fsize fstat getdent handle
    hdd inode-flags inotify iomix lease link locka lockf lockofd mknod mmap open readahead
    rename seek symlink sync-file touch utime verity xattr""".split()


def stress(name, folder):
    """None, or what stress-ng says is wrong: a child that failed, or a verification."""
    folder.mkdir(mode=0o777)
    p = util.run(
        "stress-ng", f"--{name}", 2, "--timeout", "60" if LONG else "1", "--verify",
        "--temp-path", folder, cwd="/", timeout=180 if LONG else 40)
    if p.returncode in (0, 3, 4):  # done, not enough resources, not on this system
        return None
    text = (p.stdout + p.stderr).decode("utf-8", "replace")
    said = [line for line in text.splitlines() if "fail" in line]
    return "\n".join(said[:3]) or f"status {p.returncode}: {text[-500:]}"


def test_stress_ng(m, workdir):
    """What fails here must fail natively, too (syncfs and ioctls differ between kernels)."""
    os.chmod(m.mnt, 0o777)
    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(lambda name: stress(name, m.p(name)), STRESSORS))
    wrong = {name: text for name, text in zip(STRESSORS, said) if text}
    for name in list(wrong):
        if stress(name, workdir / f"native-{name}"):
            del wrong[name]
    assert not wrong
    assert len(wrong) < len(STRESSORS) // 4


# ---- version control, databases ----

GIT_ENV = {
    "GIT_AUTHOR_NAME": "n", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "n",
    "GIT_COMMITTER_EMAIL": "a@b", "GIT_CONFIG_GLOBAL": "/dev/null",
}


def test_git(m):
    """A history is made, packed, checked, cloned, bisected to the change that broke it,
    and its last state equals the files that went in."""
    sh("""
        git init -q -b main repo; cd repo
        for i in $(seq $1); do
            mkdir -p d$((i % 7)); seq $i > d$((i % 7))/f$i; echo $i >> log.txt
            [ $i -lt $2 ] || echo bug > broken
            git add -A; git commit -qm "change $i"
        done
        git gc -q --aggressive --prune=now; git fsck --strict --no-progress
        git clone -q --no-hardlinks . ../clone; git clone -q . ../linked
        cd ../clone; git fsck --strict --no-progress; git diff --exit-code
        diff -r --exclude=.git . ../repo; diff -r --exclude=.git . ../linked
        git bisect start HEAD HEAD~$(($1 - 1))
        git bisect run sh -c '! test -e broken' > ../bisect
        grep -q 'is the first bad commit' ../bisect
        test "$(git log -1 --format=%s refs/bisect/bad)" = "change $2"
        git bisect reset; test -z "$(git status --porcelain)"
        git worktree add -q ../tree HEAD~3; git -C ../tree fsck --strict --no-progress
    """, m.p(), "1000" if LONG else "60", "37", env=GIT_ENV)


SQLITE_WRITER = """
import mmap, sqlite3, sys
who, rows = sys.argv[1:]
db = sqlite3.connect("t.db", timeout=60, isolation_level=None)
db.execute("pragma mmap_size=100000000")
db.execute("pragma synchronous=normal")
for n in range(int(rows)):
    db.execute("begin immediate")
    before = db.execute("select coalesce(max(total), 0) from t").fetchone()[0]
    db.execute("insert into t values(?, ?, ?, ?)", (who, n, before + 1, "x" * (n * 37 % 3000)))
    db.execute("commit")
"""


def test_sqlite_wal_two_writers_and_mmap(m):
    """Each row counts on from the highest that its writer saw: a stale page would show as a
    number that is there twice."""
    rows = 20000 if LONG else 400
    db = sqlite3.connect(m.p("t.db"))
    assert db.execute("pragma journal_mode=wal").fetchone() == ("wal",)
    db.execute("create table t(who, n, total integer, data)")
    db.commit()
    writers = [
        util.start(util.PYTHON, "-c", SQLITE_WRITER, who, rows, cwd=m.p())
        for who in ("one", "two")
    ]
    seen = 0
    while any(p.poll() is None for p in writers):
        now = db.execute("select count(*), coalesce(max(total), 0) from t").fetchone()
        assert now[0] == now[1] >= seen
        seen = now[0]
        db.rollback()
        time.sleep(0.01)
    for p in writers:
        out = p.communicate()
        assert p.returncode == 0, out
    db.close()
    for path in (m.p("t.db"), m.b("t.db")):
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        totals = [t for (t,) in db.execute("select total from t order by total")]
        assert totals == list(range(1, 2 * rows + 1))
        db.close()


def postgres_programs():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert found, "no PostgreSQL: tests/run installs it"
    return found[-1].parent


def test_postgresql(m):
    """initdb and pgbench with the data directory inside. A crash of the server in the middle
    loses no committed transaction."""
    user = pwd.getpwnam("postgres")
    programs = postgres_programs()
    top = m.p("pg")
    top.mkdir()
    os.chown(top, user.pw_uid, user.pw_gid)
    script = """
        export PATH=$1:/usr/bin:/bin PGHOST=$PWD PGDATA=$PWD/data PGDATABASE=postgres
        up() { pg_ctl -s -w -t 60 -l log -o "-c listen_addresses='' -k $PWD" start || { cat log; false; }; }
        sum() { psql -Atc "select sum(delta) - (select sum(abalance) from pgbench_accounts),
            count(*) from pgbench_history"; }
        initdb -k -A trust >/dev/null
        trap 'pg_ctl -s -m immediate stop || true' EXIT
        up
        pgbench -q -i -s $2 >/dev/null 2>&1
        pgbench -n -c 4 -j 2 -T $3 -P 1 > bench 2>&1 || { cat bench; false; }
        done=$(sed -n 's/.*actually processed: \\([0-9]*\\).*/\\1/p' bench)
        test "$(sum)" = "0|$done"
        pg_ctl -s -m immediate stop         # as after kill -9: recovers from its log
        up
        test "$(sum)" = "0|$done"
        psql -qAt -c 'vacuum full' -c 'reindex database postgres' -c checkpoint
        test "$(sum)" = "0|$done"
        pg_ctl -s -w stop; trap - EXIT
        pg_checksums --check >/dev/null
        echo "$done"
    """
    p = util.run(
        "setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups",
        "/bin/bash", "-ec", script, "bash", programs, *(("50", "600") if LONG else ("1", "4")),
        cwd=top, timeout=LIMIT, check=0)
    assert int(p.stdout.split()[-1]) > 0


# ---- building ----


@pytest.mark.once
def test_this_project_is_built_inside(m):
    """And what was built runs, from inside."""
    shutil.copytree(
        util.REPO, m.p("src"), symlinks=True,
        ignore=shutil.ignore_patterns("build*", ".git", "__pycache__"))
    sh("""
        meson setup build . -Dtests="$1" >/dev/null; ninja -C build --quiet
        touch lib/base/io.c; ninja -C build --quiet; test "$(ninja -C build -n)" != ""
        ninja -C build -n | grep -q 'no work to do'
        build/fs/jsonlfs -V
    """, m.p("src"), "true" if LONG else "false")
    if LONG:
        sh("meson test -C build --num-processes 2", m.p("src"))


# ---- copies and backups ----


def varied_tree(top, files):
    """Something of everything that a backup must bring back."""
    r = random.Random(7)
    top.mkdir()
    for n in range(files):
        folder = top / f"d{n % 13}" / f"e{n % 5}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"f{n}"
        path.write_bytes(r.randbytes(r.choice([0, 1, 100, 4096, 70000])))
        os.chmod(path, r.choice([0o644, 0o600, 0o755, 0o4755, 0o2750, 0o444]))
        if n % 11 == 0:
            os.link(path, top / f"link{n}")
        if n % 13 == 0:
            os.setxattr(path, "user.comment", r.randbytes(n % 300))
    names = [b"\xff\xfe", b"new\nline", b"n" * 255, "é".encode()]
    for name in names:
        with open(os.fsencode(top) + b"/" + name, "wb") as f:
            f.write(name)
    os.symlink("d0/e0/f0", top / "l")
    os.symlink("/proc/nonexistent", top / "dangling")
    os.mkfifo(top / "fifo", 0o640)
    os.mknod(top / "null", 0o666 | 0o020000, os.makedev(1, 3))
    os.mkdir(top / "empty", 0o1777)
    with open(top / "sparse", "wb") as f:
        f.truncate(4 << 20)
        f.seek(1 << 20)
        f.write(b"in the middle")
    plain = top / "acl"
    plain.write_text("x")
    os.chown(plain, 12001, 12100)
    os.setxattr(plain, "system.posix_acl_access", acl(
        (USER_OBJ, 6), (USER, 6, 12001), (GROUP_OBJ, 4), (GROUP, 4, 12200), (MASK, 6), (OTHER, 4)))
    os.setxattr(top / "empty", "system.posix_acl_default", acl(
        (USER_OBJ, 7), (USER, 5, 12002), (GROUP_OBJ, 5), (MASK, 5), (OTHER, 0)))
    (top / "audit.jsonl").write_bytes(b'{"n":1}\n{"n":2}\n')
    for folder, dirs, names in os.walk(top, topdown=False):
        for name in [*dirs, *names]:
            path = os.path.join(folder, name)
            os.utime(path, ns=(1, r.randrange(10**17, 10**18)), follow_symlinks=False)


COPIES = {
    "rsync": """rsync -aHAXS "$1/" "$2/"; test -z "$(rsync -aHAXSni "$1/" "$2/")" """,
    "tar": """mkdir "$2"; tar --xattrs --xattrs-include='*' --acls -S -C "$1" -cf "$2.tar" .
        tar --xattrs --xattrs-include='*' --acls -C "$2" -xpf "$2.tar"
        tar --xattrs --acls -C "$2" -df "$2.tar" """,
    "cp": 'cp -a "$1" "$2"; diff -r --no-dereference "$1/d0" "$2/d0"',
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_there_and_back(m, workdir, how):
    """From a bare directory into the mount, and from there out again: all three equal."""
    bare, inside, back = workdir / "bare", m.p("inside"), workdir / "back"
    varied_tree(bare, 5000 if LONG else 200)
    sh(COPIES[how], "/", bare, inside)
    sh(COPIES[how], "/", inside, back)
    want = below(bare)
    for where in (inside, m.b("inside"), back):
        assert below(where) == want
    st = os.stat(m.b("inside/sparse"))
    assert st.st_blocks * 512 < st.st_size // 4


def below(top):
    """differ.tree, without the directory itself."""
    out = differ.tree(top)
    out.pop("")
    assert len(out) > 100
    return out


BORG_ENV = {
    "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
}


def test_borg_backup_and_restore(m, workdir):
    """The repository and what is saved both lie inside; the restored tree equals it."""
    varied_tree(m.p("data"), 3000 if LONG else 100)
    home = workdir / "home"
    home.mkdir()
    sh("""
        borg init -e none repo
        borg create --files-cache=ctime,size,inode repo::one data
        echo more > data/more; borg create repo::two data
        borg check --verify-data repo
        borg delete repo::one; borg compact repo
        mkdir restored; cd restored; borg extract --sparse --numeric-ids ../repo::two
    """, m.p(), env=BORG_ENV | {"HOME": str(home), "BORG_BASE_DIR": str(home)})
    assert below(m.p("restored/data")) == below(m.p("data"))


# ---- watching ----


def test_inotifywait(m):
    """A watcher inside sees what other programs do inside, in order."""
    top = m.p("d")
    top.mkdir()
    with util.running(
        "inotifywait", "-m", "-r", "--format", "%e %f", top, bufsize=0,
    ) as p:
        # It says when its watches are there.
        text = b""
        while b"Watches established" not in text:
            text += p.stderr.read(1)
        sh("echo x > f; mv f g; chmod 600 g; mkdir s; cat g; rm g; rmdir s; touch end", top)
        seen = []
        while not seen or seen[-1] != "CREATE end":
            seen.append(p.stdout.readline().decode().strip())
    order = ["CREATE f", "MODIFY f", "CLOSE_WRITE,CLOSE f", "MOVED_FROM f", "MOVED_TO g",
             "ATTRIB g", "CREATE,ISDIR s", "ACCESS g", "DELETE g", "DELETE,ISDIR s"]
    at = -1
    for event in order:
        assert event in seen[at + 1:], (event, seen)
        at = seen.index(event, at + 1)
