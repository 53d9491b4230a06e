# SPDX-License-Identifier: MIT
"""Fixtures and habits of the tests that drive real mounts.

`mount` is a factory: mount("onbad=quarantine") mounts a fresh directory of a real disk file
system and gives a util.Mount. After each test every mount must unmount cleanly, end with
status 0 and have said nothing suspicious, and every governed file in the backing directory
must consist of whole valid lines. A test that hangs is ended by a watchdog, which aborts the
FUSE connection: nothing else wakes a process that waits for a dead daemon. `vault` makes
directories that a test mounts itself, with the command; `v` is one of them.

Environment: JSONLFS_BUILD, the build directory (default ./build); JSONLFS_TEST_DIR, where
the directories under test lie (default: a disk, never tmpfs); JSONLFS_TEST_SELF=1 mounts
each directory over itself; JSONLFS_TEST_SLOWNESS=N gives the watchdog N times as long.

Marks: damaged (lines of backing files are not checked afterwards), limit(seconds) (of the
watchdog, 60), daemon_output(pattern) (allowed in the daemon's log), once (not again with
sanitizers: what it runs is the same with any build)."""

import contextlib
import faulthandler
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

# The tests in the folders find util, vaults and differ here.
sys.path.insert(0, str(Path(__file__).resolve().parent))
import util  # noqa: E402
import vaults  # noqa: E402

# A skipped test needs one of these reasons, word for word; any other skip is a failure.
ALLOWED_SKIPS = {
    "no /dev/fuse",
    "not root",
    "npm offline",
    "apt offline",
    "kernel without io_uring",
    "kernel without RWF_NOAPPEND",
}

MOUNTS = pytest.StashKey()
UNSUITABLE = ("tmpfs", "ramfs", "overlay", "fuse", "nfs")


def pytest_configure(config):
    for line in (
        "once: not again with sanitizers",
        "damaged: backing files may hold invalid lines afterwards",
        "limit(seconds): for the watchdog, instead of 60",
        "daemon_output(pattern): regular expression that the daemon's log may match",
    ):
        config.addinivalue_line("markers", line)
    config.addinivalue_line("filterwarnings", "ignore:.*use of fork.*:DeprecationWarning")
    try:
        util.binary("jsonlfs")
    except FileNotFoundError as e:
        pytest.exit(str(e), returncode=3)
    if os.getuid() == 0:
        util.own_mounts()


def file_system_of(path):
    best, kind = "", "?"
    for where, (name, _) in util.mount_table().items():
        if (str(path) + "/").startswith(where.rstrip("/") + "/") and len(where) >= len(best):
            best, kind = where, name
    return kind


def reachable_by_all(path):
    return all(p.stat().st_mode & 0o001 for p in [path, *path.parents])


def test_dir():
    asked = os.environ.get("JSONLFS_TEST_DIR")
    if asked:
        os.makedirs(asked, exist_ok=True)
        return Path(asked).resolve()
    for place in (util.BUILD, util.REPO, Path("/var/tmp"), Path("/tmp")):
        if (
            place.is_dir()
            and os.access(place, os.W_OK)
            and reachable_by_all(place)
            and not file_system_of(place).startswith(UNSUITABLE)
        ):
            return place
    return Path("/var/tmp")


test_dir.__test__ = False


def pytest_report_header(config):
    where = test_dir()
    version = util.run(util.binary("jsonlfs"), "-V").stdout.decode()
    return [
        f"jsonlfs: {util.BUILD}: " + " / ".join(version.split("\n")).strip(" /"),
        f"files under test: {where} ({file_system_of(where)}), Linux {os.uname().release}",
    ]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else "")
        if reason.removeprefix("Skipped: ") not in ALLOWED_SKIPS:
            report.outcome = "failed"
            report.longrepr = f"skipped with a reason that is not allowed: {reason}"
    if report.failed:
        for m in item.stash.get(MOUNTS, []):
            if m.log_path.exists():
                report.sections.append((f"log of {m.mnt}", m.log()[-6000:]))


def pytest_terminal_summary(terminalreporter):
    """What the differential test saw, operation by answer."""
    seen, seeds = {}, []
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name == "seeds" and report.when == "call":
                seeds.append(f"  {report.nodeid.split('::')[-1]}: seeds {value}")
            if name == "answers" and report.when == "call":
                for key, n in value.items():
                    op, answer = key.split()
                    row = seen.setdefault(op, {})
                    row[answer] = row.get(answer, 0) + n
    if seen:
        total = sum(sum(row.values()) for row in seen.values())
        terminalreporter.section(f"{total} operations, bare and mounted, by answer")
        for line in sorted(seeds):
            terminalreporter.write_line(line)
        for op in sorted(seen):
            cells = " ".join(f"{a}:{n}" for a, n in sorted(seen[op].items()))
            terminalreporter.write_line(f"  {op:16} {cells}")


class Hung(BaseException):
    """Raised in the test by the watchdog; not an Exception, so that no test catches it."""


@pytest.fixture(autouse=True)
def watchdog(request):
    mark = request.node.get_closest_marker("limit")
    seconds = float(os.environ.get("JSONLFS_TEST_SLOWNESS", "1"))
    seconds *= mark.args[0] if mark else 60
    mounts = request.node.stash.setdefault(MOUNTS, [])
    main = threading.get_ident()

    def on_alarm(*_):
        raise Hung(f"no end after {seconds} s")

    def fire():
        faulthandler.dump_traceback(sys.__stderr__)
        for m in mounts:
            m.abort()
        signal.pthread_kill(main, signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, on_alarm)
    timer = threading.Timer(seconds, fire)
    timer.daemon = True
    timer.start()
    yield
    timer.cancel()
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def base():
    """Where this run's directories lie; anybody may pass through it."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no /dev/fuse")
    if os.getuid() != 0:
        pytest.skip("not root")
    # Where hung connections are cut. Systemd mounts it; a machine without has none.
    if not os.path.ismount("/sys/fs/fuse/connections"):
        util.run("mount", "-t", "fusectl", "fusectl", "/sys/fs/fuse/connections")
    top = Path(tempfile.mkdtemp(prefix="mount-tests-", dir=test_dir()))
    top.chmod(0o755)
    yield top
    for where in sorted(util.mount_table(), reverse=True):
        if where.startswith(str(top) + "/"):
            util.run("umount", "-f", "-l", where)
    shutil.rmtree(top, ignore_errors=True)


@pytest.fixture
def workdir(base):
    path = Path(tempfile.mkdtemp(prefix="t", dir=base))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def mount(request, workdir):
    """mount(*options, self_mount=False, prepare=None, env=None, source=None) -> util.Mount.
    prepare is called with the source directory before it is mounted; source: one that is
    there already."""
    mounts = request.node.stash.setdefault(MOUNTS, [])

    everywhere = bool(os.environ.get("JSONLFS_TEST_SELF"))

    def factory(*options, self_mount=everywhere, prepare=None, env=None, source=None):
        number = len(mounts)
        if not source:
            source = workdir / f"vault{number}"
            source.mkdir()
        source.chmod(0o777)
        mnt = source
        if not self_mount:
            mnt = workdir / f"mnt{number}"
            mnt.mkdir()
        if prepare:
            prepare(source)
        m = util.Mount(source, mnt, options, workdir / f"log{number}", env)
        m.check_after = request.node.get_closest_marker("damaged") is None
        for mark in request.node.iter_markers("daemon_output"):
            m.allowed_output.extend(mark.args)
        mounts.append(m)
        return m.start()

    yield factory
    problems = []
    for m in mounts:
        try:
            m.stop()
        except Exception as e:
            problems.append(f"{m.mnt}: {e}")
        m.kill()
        bad = m.suspicious()
        problems += [f"in the log of {m.mnt}: {line}" for line in bad]
        if bad:
            problems.append(m.log()[-8000:])
        if m.check_after:
            for path in m.governed_backing_files():
                try:
                    util.check_lines(path.read_bytes(), str(path.name), copies=True)
                except AssertionError as e:
                    problems.append(str(e))
        index = m.state("quarantine.jsonl")
        if index.exists():
            try:
                util.records(index)
            except AssertionError as e:
                problems.append(f"the quarantine's index: {e}")
        m.forget()
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def m(mount):
    """A mount with the default options."""
    return mount()


@pytest.fixture
def vault(workdir):
    """vault(name="vault") -> vaults.Vault, a fresh directory that is not mounted yet."""
    made = []

    def clean_up():
        for v in made:
            # The parents first: they would bring the daemons back.
            for pid in sum(util.processes(v.path), []):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            while vaults.mounts_on(v.path):
                util.run("umount", "-l", v.path)

    def factory(name="vault"):
        made.append(vaults.Vault(workdir / name))
        return made[-1]

    yield factory
    clean_up()


@pytest.fixture
def v(vault):
    return vault()


@pytest.fixture
def fuse_for_all():
    """As on an ordinary Debian: everybody may open /dev/fuse."""
    mode = os.stat("/dev/fuse").st_mode & 0o777
    os.chmod("/dev/fuse", 0o666)
    yield
    if mode != 0o666 and "PYTEST_XDIST_WORKER" not in os.environ:
        os.chmod("/dev/fuse", mode)


def build_program(base, name, called=None):
    out = base / (called or name)
    util.run(
        "cc", "-std=gnu17", "-O1", "-pthread", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE",
        "-o", out, util.HERE / "progs" / f"{name}.c", check=0, timeout=60,
    )
    return str(out)


@pytest.fixture(scope="session")
def hang(base):
    # An interpreter by its name: a script is looked for.
    return build_program(base, "hang", "bash")


@pytest.fixture(scope="session")
def stdio_log(base):
    return build_program(base, "stdio_log")


@pytest.fixture(scope="session")
def writer(base):
    return build_program(base, "writer")


@pytest.fixture(scope="session")
def uring(base):
    return build_program(base, "uring")


@pytest.fixture(scope="session")
def npm():
    """A directory with the packages of node/package.json, installed once for all
    workers of a run and kept in the build directory for the next."""
    place = util.BUILD / "test-npm"
    place.mkdir(exist_ok=True)
    with open(place / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = (util.HERE / "node" / "package.json").read_bytes()
        done = place / "installed.json"
        if not done.exists() or done.read_bytes() != wanted:
            if not util.have("npm"):
                pytest.fail("npm is missing: apt-get install npm")
            (place / "package.json").write_bytes(wanted)
            try:
                p = util.run(
                    "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts",
                    "--fetch-retries=1", "--fetch-timeout=10000",
                    cwd=place, timeout=40,
                    env={**os.environ, "PATH": util.ENV["PATH"]},  # proxies, CA files
                )
            except subprocess.TimeoutExpired:
                pytest.skip("npm offline")
            if p.returncode != 0:
                text = p.stderr.decode()
                offline = ("ENOTFOUND", "EAI_AGAIN", "ECONN", "ETIMEDOUT", "network")
                if any(word in text for word in offline):
                    pytest.skip("npm offline")
                pytest.fail(f"npm install: {text}")
            done.write_bytes(wanted)
    return place


@pytest.fixture(scope="session")
def debian():
    """debian("rsyslog", "rsyslogd") -> util.Unpacked: that Debian package, and those it needs
    that are not installed, unpacked in the build directory: installed, it would start a server,
    or take the place of another package. More packages may follow."""

    def factory(package, program, *more):
        place = util.BUILD / "test-debian" / package
        if not more and util.have(program):
            return util.Unpacked(None)
        (place / "debs" / "partial").mkdir(parents=True, exist_ok=True)
        with open(place / "lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (place / "done").exists():
                (place / "root").mkdir(exist_ok=True)
                p = util.run(
                    "apt-get", "-y", "-q", "--download-only", "--no-install-recommends",
                    "-o", "Debug::NoLocking=1", "-o", f"Dir::Cache::archives={place}/debs",
                    "-o", "APT::Sandbox::User=root", "install", package, *more, timeout=120,
                    env={**os.environ, "PATH": util.ENV["PATH"]},
                )
                if p.returncode != 0:
                    text = p.stderr.decode()
                    if "Could not resolve" in text or "Failed to fetch" in text:
                        pytest.skip("apt offline")
                    pytest.fail(f"apt-get: {text}")
                for deb in (place / "debs").glob("*.deb"):
                    util.run("dpkg", "-x", deb, place / "root", check=0, timeout=120)
                    deb.unlink()
                util.links_stay_below(place / "root")
                (place / "done").touch()
        return util.Unpacked(place / "root")

    return factory
