# SPDX-License-Identifier: MIT
"""Phrases that a stranger has to read twice are not used: in comments, messages, man pages and
docs. Each pattern has a line that it must find, and lines that it must let pass."""

import pathlib
import re

import pytest

REPO = pathlib.Path(__file__).resolve().parents[2]

# What is wrong: how it reads, what is to be written instead, and harmless neighbours.
BANNED = [
    (r"(?<![Tt]here )\b(?:is|are|was) none\b(?! of)", "the descriptor is none",
     "say what it is, or that there is no such thing", ["there is none", "it is none of them"]),
    (r"\b(?:tells?|told|telling) of\b", "what the library tells of a handle",
     "says about, reports, names", ["tells about it", "told often"]),
    (r"\bmend(?:s|ed|ing)?\b", "mend the file", "correct, repair, fix", ["amend", "recommend"]),
    (r"\b(?:go|goes|went|going|gone|writes?|written|writing) round\b", "it goes round the mount",
     "bypasses", ["round numbers", "goes around the loop"]),
    (r"\ba new content\b", "a new content", "new content", ["the new content"]),
    (r"(?:^|[.;:] |/\* )(?:Who|What) (?:comes|waits|reads|writes|opens|asks|looks|stays|goes)\b",
     "/* Who reads the file sees it", "a noun: programs that read, whoever reads",
     ["Whoever reads it", "The one who reads"]),
]


def texts():
    """(name, text) of all that strangers read; of sources the comments and strings."""
    paths = [REPO / "README.md", *(p for top in ("fs", "lib", "docs", "mount-scripts")
                                   for p in sorted((REPO / top).rglob("*")))]
    for path in paths:
        name = path.relative_to(REPO)
        if path.suffix in (".svg", ".in", ".pyc") or not path.is_file():
            continue
        text = path.read_text(errors="replace")
        if path.suffix in (".c", ".h"):
            parts = re.findall(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"', text, re.S)
            text = "\n".join(parts)
        # Sentences go over the end of a line.
        yield name, re.sub(r"\n[ \t]*\*?[ \t]*", " ", text)


# How the comment of a function, a struct or a file does not begin: with a question, or with a
# clause that only makes sense together with the name that follows.
QUESTION = (r"(?:Is|Are|Was|Were|Has|Have|Had|May|Does|Do|Did|Can|Could|Would|Must) [^.:;]*\?"
            r"|(?:Who|Whose|What|Which|How) ")


def heads():
    """(place, text) of the comments of fs/ and lib/ that begin a line, without the indented."""
    for top in ("fs", "lib"):
        for path in sorted((REPO / top).rglob("*.[ch]")):
            for m in re.finditer(r"^/\* (.*?)\*/", path.read_text(), re.S | re.M):
                yield path.relative_to(REPO), re.sub(r"\s*\n \* ?", " ", m[1])


def test_comments_of_functions_do_not_ask():
    """Write: Returns true when ..., Checks that ..., Finds which ..."""
    assert re.match(QUESTION, "Is the file empty? Under lock.")
    assert re.match(QUESTION, "What a node keeps.")
    assert not re.match(QUESTION, "Has the file synced. Why? It is new.")
    seen = list(heads())
    found = [f"{name}: {text}" for name, text in seen if re.match(QUESTION, text)]
    assert len(seen) > 1500 and not found, "\n".join(found)


@pytest.mark.parametrize("pattern,example,instead,harmless", BANNED)
def test_the_pattern_finds_what_it_is_for(pattern, example, instead, harmless):
    assert re.search(pattern, example) and instead
    for line in harmless:
        assert not re.search(pattern, line), line


@pytest.mark.parametrize("pattern,example,instead,harmless", BANNED)
def test_nothing_reads_like_that(pattern, example, instead, harmless):
    seen = list(texts())
    found = [f"{name}: {text[max(0, m.start() - 30):m.end() + 30]}"
             for name, text in seen for m in re.finditer(pattern, text)]
    assert len(seen) > 200 and not found, f"write {instead}:\n" + "\n".join(found)
