# SPDX-License-Identifier: MIT
"""docs/TROUBLESHOOTING.md explains no message that nothing prints any more. (That it explains all
that are printed: test_docs.)"""

import re

from util import REPO

# Put together from pieces: of each what stands between two `...` in the page.
COMPOSED = {
    "wants PATH",
    "the archive has no room for it (archive_max), and nothing of yours in it that could go",
    "it is not appended, nor is what follows",
    "cannot be read by you, so that it can only go back where it was, without --as",
    "deaths of the daemon of this mount, which was started again",
    "were open in programs before the mount, and what these write is not checked",
    "log line found no receiver",
    "log lines found no receiver",
    "log line was left out by the rate limit",
    "log lines were left out by the rate limit",
    "is on sshfs, where no other host sees a lock: mount it in a way that has locks (HOSTS.md",
    "has this directory, and does not share it: unmount it there, or mount it there without "
    "shared=off",
    "and shared=off was given: leave that out",
    "the list of daemons in .jsonlfs/daemon/hosts",
    'this rule has no "match"',
    "while the vault is not mounted its quarantine is for root",
    "while the vault is not mounted its archive is for root",
}


def printed():
    """All sources as one text, with literals joined that stand beside each other."""
    text = ""
    for top in ("fs", "lib", "mount-scripts"):
        for path in sorted((REPO / top).rglob("*")):
            if path.suffix in (".c", ".h", ".sh", "") and path.is_file():
                text += path.read_text(errors="replace")
    text = re.sub(r'"\s*(?:PRI\w+)?\s*"', "", text)
    return re.sub(r"\s+", " ", text.replace('\\"', '"').replace("\\\\", "\\"))


def unsaid(page, sources):
    """What the tables of messages explain, and no source has."""
    found = set()
    for title in ("Reasons and next steps", "What jsonlfsctl says", "What `jsonlfs` and `mount`"):
        part = page[page.index("# " + title):]
        part = part[:re.search(r"\n## |$", part).start()]
        for cell in re.findall(r"^\| (.*?) \|", part, re.M):
            for message in re.findall(r"`([^`]+)`", cell):
                pieces = (p.strip(" :,()") for p in message.split("..."))
                found |= {p for p in pieces if len(p) >= 6 and p not in sources}
    return found


def test_every_message_that_is_explained_is_printed():
    page, sources = (REPO / "docs/TROUBLESHOOTING.md").read_text(), printed()
    assert unsaid(page, sources) - COMPOSED == set()
    assert COMPOSED - unsaid(page, sources) == set(), "no exception any more"


def test_a_message_that_nobody_prints_is_seen():
    page = (REPO / "docs/TROUBLESHOOTING.md").read_text().replace(
        "| `a path is missing`", "| `a mount point is missing`, `a path is missing`")
    assert unsaid(page, printed()) - COMPOSED == {"a mount point is missing"}
