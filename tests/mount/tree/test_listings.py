# SPDX-License-Identifier: MIT
"""The kernel keeps the names of a directory from one open to the next. Nobody may notice but
by the speed: every listing shows what the directory holds."""

import contextlib
import os
import threading
import time

import pytest

import util

LONG = ("attr_timeout=600", "entry_timeout=600")
OLD = 0.05  # seconds until two changes have two times, and names may be kept


def names(where):
    return sorted(os.listdir(where))


def filled(mount, *options, files=50):
    """A mount with a directory d that is old enough to be kept."""
    def prepare(source):
        (source / "d").mkdir()
        for n in range(files):
            (source / "d" / f"f{n}").touch()

    m = mount(*options, prepare=prepare)
    time.sleep(OLD)
    return m


@contextlib.contextmanager
def slow_getdents(m, seconds):
    """Each getdents64 of the daemon has its names at once, and ends `seconds` later."""
    with util.traced(m, "-o", "/dev/null", "-e", "trace=getdents64", "-e",
                     f"inject=getdents64:delay_exit={int(seconds * 1e6)}"):
        yield


# ---- what is not asked ----


def readdirs(workdir, script, *options):
    seen, _ = util.requests_of(workdir, script, "-o", ",".join(options))
    return sum(op.startswith("READDIR") for op in seen), seen


@pytest.fixture
def fifty(workdir):
    (workdir / "dsrc" / "d").mkdir(parents=True)
    for n in range(50):
        (workdir / "dsrc" / "d" / str(n)).touch()
    time.sleep(OLD)
    return workdir


def test_an_unchanged_directory_is_not_read_again(fifty):
    once, _ = readdirs(fifty, "test $(ls d | wc -l) = 50", *LONG)
    # One thread: nobody waits for RELEASEDIR, which must not come after the next OPENDIR.
    five, seen = readdirs(
        fifty, "for i in 1 2 3 4 5; do test $(ls d | wc -l) = 50; done", *LONG, "max_threads=1")
    assert seen.count("OPENDIR") == 5
    assert five == once


def test_without_timeouts_it_is_read_each_time(fifty):
    once, _ = readdirs(fifty, "ls d", "attr_timeout=0", "entry_timeout=0")
    four, _ = readdirs(fifty, "ls d; ls d; ls d; ls d", "attr_timeout=0", "entry_timeout=0")
    assert four >= 4 * once


def test_names_go_before_the_attributes_of_their_entries(fifty):
    """Else each entry would be looked up, one by one."""
    times = ("attr_timeout=4", "entry_timeout=4")
    _, seen = readdirs(fifty, "ls -l d; sleep 3.2; ls -l d; sleep 1.2; ls -l d", *times)
    assert seen.count("LOOKUP") < 25


@pytest.mark.parametrize("read, asked", [(50, 2), (2, 1)])
def test_attributes_of_files_that_were_read_come_with_a_listing(fifty, read, asked):
    """Reading changes the access time, and each fstat would ask for it by itself."""
    for n in range(50):
        (fifty / "dsrc" / "d" / str(n)).write_text("a\n")
    time.sleep(OLD)
    files = " ".join(f"d/{n}" for n in range(read))
    _, seen = readdirs(fifty, f"find d; cat {files}; find d; stat d/*", *LONG)
    assert seen.count("READDIRPLUS") == asked
    # Of the files that were read, if there were few; and of the directories.
    assert seen.count("GETATTR") <= 3 + (read if asked == 1 else 0)
    again, _ = readdirs(fifty, f"find d; cat {files}; find d; cat {files}; find d", *LONG)
    assert again == len([op for op in seen if op.startswith("READDIR")])


# ---- what is shown ----


def test_changes_show_at_the_next_open(mount):
    """Also those that follow each other within one tick of the clock."""
    m = mount(*LONG)
    m.p("d").mkdir()
    for n in range(60):
        if n % 20 == 0:
            time.sleep(OLD)
            os.listdir(m.p("d"))
        assert names(m.p("d")) == names(m.b("d"))
        m.b(f"d/{n}").touch()
        if n % 40 == 0:
            time.sleep(OLD)  # old again before it is noticed
        assert names(m.p("d")) == names(m.b("d"))
        if n % 3 == 0:
            m.b(f"d/{n}").unlink()
        m.p(f"d/through{n}").touch()
    assert names(m.p("d")) == names(m.b("d"))


def test_changes_through_the_mount_show_at_once(mount):
    """In a listing that is kept, and to who rewinds one that has long been open."""
    m = filled(mount, *LONG)
    assert names(m.p("d")) == names(m.b("d"))
    with util.opened(m.p("d"), os.O_RDONLY) as fd:
        for change in (
            lambda: m.p("d/new").touch(),
            lambda: os.rename(m.p("d/new"), m.p("d/renamed")),
            lambda: os.rename(m.p("d/renamed"), m.p("out")),
            lambda: os.link(m.p("out"), m.p("d/link")),
            lambda: os.symlink("x", m.p("d/symlink")),
            lambda: m.p("d/dir").mkdir(),
            lambda: m.p("d/dir").rmdir(),
            lambda: m.p("d/link").unlink(),
        ):
            time.sleep(OLD)
            assert names(fd) == names(m.p("d")) == names(m.b("d"))  # kept from here on
            change()
            assert names(fd) == names(m.b("d"))
            assert names(m.p("d")) == names(m.b("d"))


@pytest.mark.parametrize("timeout", [0, 1])
def test_rewinding_shows_changes_behind_the_mount(mount, timeout):
    """Within the attribute timeout. Perl rewinds; Python would ask for the attributes."""
    m = filled(mount, f"attr_timeout={timeout}", f"entry_timeout={timeout}")
    script = """
    my ($set_back, $wait, $behind) = @ARGV;
    my @times = (stat $behind)[8, 9];
    opendir(D, "d"); my @before = readdir D;
    for my $n (1 .. 3) {
        open(F, ">", "$behind/new$n") or die; close(F);
        utime(@times, $behind) or die if $set_back;
        select(undef, undef, undef, $wait);
        rewinddir(D); my @now = readdir D;
        die "$n: @now" unless @now == @before + $n;
    }
    """
    # Times that were set back show on a directory that stays open only without timeouts.
    for set_back in (0, 1) if timeout == 0 else (0,):
        os.utime(m.b("d"), (1_500_000_000, 1_500_000_000))  # which Perl can set again
        time.sleep(OLD)
        util.run("perl", "-e", script, set_back, 1.2 * timeout, m.b("d"), cwd=m.p(), check=0)
        for n in (1, 2, 3):
            m.b(f"d/new{n}").unlink()


def test_times_that_were_set_back(mount):
    """What restores a tree behind the mount gives directories the times that they had."""
    m = filled(mount, *LONG)
    before = m.b("d").stat()
    for n in range(3):
        assert names(m.p("d")) == names(m.b("d"))
        m.b(f"d/new{n}").touch()
        os.utime(m.b("d"), ns=(before.st_atime_ns, before.st_mtime_ns))
        time.sleep(OLD * (n % 2))
        assert names(m.p("d")) == names(m.b("d"))


def test_a_listing_under_way_is_not_kept_under_newer_times(mount):
    """It has read the old names, which reach the kernel after somebody else has opened
    the directory and seen its new times."""
    m = filled(mount, *LONG)
    with slow_getdents(m, 1):
        old = threading.Thread(target=names, args=(m.p("d"),))
        old.start()
        time.sleep(0.3)
        before = m.b("d").stat()
        m.b("d/new").touch()
        # Else the kernel might find out by itself.
        os.utime(m.b("d"), ns=(before.st_atime_ns, before.st_mtime_ns))
        time.sleep(OLD)
        fd = os.open(m.p("d"), os.O_RDONLY)
        old.join()
    assert names(fd) == names(m.b("d"))
    os.close(fd)
    assert names(m.p("d")) == names(m.b("d"))


def test_times_of_whole_seconds(mount, workdir):
    """ext4 with small inodes keeps no more: two changes of one second look like one."""
    image = workdir / "image"
    with open(image, "wb") as f:
        f.truncate(8 << 20)
    util.run("mkfs.ext4", "-q", "-I", "128", image, check=0)

    def prepare(source):
        (source / "coarse").mkdir()
        util.run("mount", "-o", "loop", image, source / "coarse", check=0)

    m = mount(*LONG, prepare=prepare)
    try:
        m.b("coarse/f").write_text("old")
        for n in range(25):  # in more than one second
            m.b(f"coarse/{n}").touch()
            time.sleep(OLD)
            assert names(m.p("coarse")) == names(m.b("coarse"))
            m.b(f"coarse/x{n}").touch()
            assert names(m.p("coarse")) == names(m.b("coarse"))
            # Contents are kept by the same rule.
            for content in (f"a{n:02}", f"b{n:02}"):
                m.b("coarse/f").write_text(content)
                time.sleep(OLD)
                assert m.p("coarse/f").read_text() == content
    finally:
        m.stop()
        util.run("umount", "-l", m.source / "coarse")


def test_positions_hold_in_kept_names(mount):
    """telldir and seekdir, also to a name that has gone since."""
    m = filled(mount, *LONG, files=3000)
    script = """
    opendir(D, "d"); my (@all, %at);
    for (;;) { my $p = telldir D; my $n = readdir D; last unless defined $n;
               push @all, $n; $at{$n} = $p; }
    for my $k (0, 1, 700, 1500, 2999, $#all) {
        seekdir(D, $at{$all[$k]});
        my @rest = readdir D;
        die "$k: @rest" unless "@rest" eq "@all[$k..$#all]";
    }
    unlink "d/$all[1500]"; opendir(E, "d"); my @other = readdir E;
    seekdir(D, $at{$all[1500]});
    my @rest = readdir D;
    die "gone: $#rest" unless "@rest" eq "@all[1501..$#all]";
    """
    for _ in range(2):  # read, then kept
        util.run("perl", "-e", script, cwd=m.p(), check=0)
