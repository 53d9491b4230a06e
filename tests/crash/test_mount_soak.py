# SPDX-License-Identifier: MIT
"""A piece of the soak (soak.py). JSONLFS_SOAK: how many seconds."""

import os

from mount_rig import LONG
from soak import Soak, soak

SECONDS = int(os.environ.get("JSONLFS_SOAK", "3600" if LONG else "60"))


def test_soak():
    wrong, done = soak(SECONDS)
    print(f"\n{SECONDS} s: {dict(done)}, {len(wrong)} violations")
    assert not wrong, "\n".join(wrong)
    assert done["acknowledged"] and done["daemon kills"] and done["checks"]
    assert done["plain files"] and done["writer kills"] and done["rotations"]


class Lossy(Soak):
    """Of each generation the first record is lost before it is judged."""

    def read(self, path):
        path.write_bytes(path.read_bytes().partition(b"\n")[2])
        super().read(path)


def test_a_lost_record_is_seen():
    s = Lossy(6)
    try:
        assert any("durable and gone" in text for text in s.run())
    finally:
        s.clear()
