# SPDX-License-Identifier: MIT
"""File systems in images, mounted by loop, for the tests that take their disk away."""

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from mount_rig import test_dir, umount, wait_for

SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
LOGFLUSH, NOLOGFLUSH = 1, 2
FICLONE = 0x40049409
MIB = 1 << 20
MAKE = {
    "ext4": (64, ["mkfs.ext4", "-q", "-F"]),
    "xfs": (320, ["mkfs.xfs", "-q", "-f"]),
    "btrfs": (128, ["mkfs.btrfs", "-q", "-f", "-M"]),
    "tmpfs": (16, None),
}


def run(*argv):
    subprocess.run([str(a) for a in argv], check=True, timeout=60, stdout=subprocess.DEVNULL)


class Disk:
    """kind: of MAKE; inside: the directory where the image lies; mib: its size. pages: each
    write of the device is one page, because a write that the image's file system cuts short
    is a success to a loop device of Linux 6.18, and there would be nothing to hear of."""

    def __init__(self, kind, inside=None, mib=None, options=(), make=(), pages=False):
        self.kind, self.options, self.pages = kind, list(options), pages
        self.mib = mib or MAKE[kind][0]
        self.top = Path(tempfile.mkdtemp(prefix="disk-", dir=inside or test_dir()))
        self.image, self.at = self.top / "image", self.top / "disk"
        self.at.mkdir()
        self.mounted = False
        if MAKE[kind][1]:
            run("truncate", "-s", f"{self.mib}M", self.image)
            run(*MAKE[kind][1], *make, self.image)

    def mount(self, image=None):
        if MAKE[self.kind][1]:
            options = ",".join(["loop", *self.options])
            run("mount", "-o", options, image or self.image, self.at)
            if self.pages:
                self.queue().write_text("4")
        else:
            run("mount", "-t", "tmpfs", "-o", f"size={self.mib}M", "jsonlfs-test", self.at)
        self.mounted = True

    def unmount(self):
        """Waits until nothing holds the file system any more (a mount namespace that was
        made meanwhile may): mounting the image again would otherwise show the same one."""
        if not self.mounted:
            return
        umount(self.at)
        self.mounted = False
        wait_for(lambda: not self.attached(), f"the end of {self.at}")

    def attached(self):
        """The loop device, or None."""
        for name in Path("/sys/block").glob("loop*/loop/backing_file"):
            try:
                if name.read_text().startswith(f"{self.top}/"):
                    return name.parents[1]
            except OSError:
                pass  # it goes at this moment: ENOENT, or ENODEV when it is open already
        return None

    def queue(self):
        return self.attached() / "queue" / "max_sectors_kb"

    def sync(self):
        """All of it: fsync of a directory does not write what the files have."""
        run("sync", "-f", self.at)

    def cut(self, how):
        """What is not synced is gone; LOGFLUSH: the journal is written before."""
        fd = os.open(self.at, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", how))
        finally:
            os.close(fd)

    def copy(self, to):
        """The image as it is at one moment: a reflink is made with writes held back, so
        each write of the loop device is in there or is not, and every one that was
        answered is. The directory must be on a file system that can (xfs)."""
        with open(self.image, "rb") as source, open(to, "wb") as target:
            fcntl.ioctl(target.fileno(), FICLONE, source.fileno())
        return to

    def free(self):
        st = os.statvfs(self.at)
        return st.f_bfree * st.f_frsize

    def remove(self):
        self.unmount()
        shutil.rmtree(self.top, ignore_errors=True)


@contextlib.contextmanager
def disk(kind, **how):
    d = Disk(kind, **how)
    try:
        yield d
    finally:
        d.remove()
