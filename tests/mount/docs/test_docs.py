# SPDX-License-Identifier: MIT
"""The commands in the docs do what the docs say. In README.md and docs/*.md each block that
is fenced as ```console is run, all of a file in one session, top to bottom:

    # COMMAND       by root; $ COMMAND: by the ordinary user ann, whose home is /home/ann
    > MORE          a further line of it
    OUTPUT          what both streams show; ... stands for any text, alone for any lines

A command that is shown with nothing below must succeed silently. One that fails must show with
what message. Blocks of another kind are not run. The session has an empty /srv and /home, an
empty fstab, jsonlfs installed as by the README, and begins in the home of each user; what
lies in this tree stands at /usr/src/jsonlfs."""

import contextlib
import os
import re
import select
import shlex
import shutil
import subprocess
import time

import pytest
from util import ENV, NOBODY, REPO, binary, have, run, wait_for
from vaults import Installed

DOCS = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)
MARK = "=~=~= the end of the command: "


def steps(text):
    """[(line number, prompt, command, expected output)] of a document."""
    found = []
    for block in BLOCK.finditer(text):
        number = text.count("\n", 0, block.start(1)) + 1
        here = []
        for line in block[1].splitlines():
            if line[:2] in ("$ ", "# "):
                here.append([number, line[0], line[2:], []])
            elif (line + " ").startswith("> ") and here and not here[-1][3]:
                here[-1][2] += "\n" + line[2:]
            else:
                assert here, f"line {number}: output before the first command"
                here[-1][3].append(line)
            number += 1
        found += here
    return found


def pattern(lines):
    """What the output must match, as a whole."""
    text = ""
    for line in lines:
        if line == "...":
            text += r"(?:.*\n)*?"
        else:
            text += ".*".join(map(re.escape, line.split("..."))) + "\n"
    return re.compile(text)


class Shell:
    """A bash in the session's mount namespace that runs one command after the other."""

    def __init__(self, session, home, uid):
        # Nobody types so fast that git still goes on behind a commit when he unmounts.
        env = ENV | {"HOME": str(home), "USER": "ann" if uid else "root", "GIT_CONFIG_COUNT": "1",
                     "GIT_CONFIG_KEY_0": "maintenance.autoDetach", "GIT_CONFIG_VALUE_0": "false"}
        switch = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        self.process = subprocess.Popen(
            ["nsenter", "-m", "-r", "-t", str(session.holder.pid), *(switch if uid else []),
             "bash"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)
        self.run(f"cd {home}")

    def run(self, command, seconds=60):
        """(status, output)"""
        self.process.stdin.write(
            f'eval {shlex.quote(command)} </dev/null; printf "%s%d\\n" "{MARK}" $?\n'.encode())
        self.process.stdin.flush()
        shown, end = b"", time.monotonic() + seconds
        while not (done := re.search(re.escape(MARK.encode()) + rb"(\d+)\n", shown)):
            left = end - time.monotonic()
            assert left > 0, f"no end after {seconds} s: {command}\n{shown.decode()}"
            if select.select([self.process.stdout], [], [], left)[0]:
                piece = os.read(self.process.stdout.fileno(), 65536)
                assert piece, f"the shell ended: {command}\n{shown.decode()}"
                shown += piece
        text = shown[:done.start()].decode()
        # An interactive shell has no line numbers.
        return int(done[1]), re.sub(r"^(\S*bash): line \d+: ", r"\1: ", text, flags=re.M)

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process.stdout.close()


class Session(Installed):
    def __init__(self, top):
        super().__init__(top / "root")
        etc = top / "etc"
        for name in ("srv", "home/ann", "root-home", "etc"):
            (top / name).mkdir(parents=True)
            (top / name).chmod(0o755)
        os.chown(top / "home/ann", NOBODY, NOBODY)
        (etc / "passwd").write_text(
            "root:x:0:0:root:/root:/bin/bash\n"
            f"ann:x:{NOBODY}:{NOBODY}:Ann:/home/ann:/bin/bash\n")
        (etc / "fstab").write_text("")
        self.sh(
            'set -e\nfor f in passwd fstab; do [ -e /etc/$f ] || touch /etc/$f\n'
            'mount --bind "$1/etc/$f" /etc/$f; done\n'
            'mkdir -p /usr/src/jsonlfs && mount --bind -o ro "$2" /usr/src/jsonlfs\n'
            # The tree may lie below one of these: it is found by no path any more.
            'cd "$1"; mount -c --bind srv /srv; mount -c --bind root-home /root\n'
            'mount -c --bind home /home',
            top, REPO, check=0)
        self.shells = {"#": Shell(self, "/root", 0), "$": Shell(self, "/home/ann", NOBODY)}

    def mounts(self):
        table = self.run("cat", "/proc/self/mountinfo", check=0).stdout.decode()
        return [x.split()[4] for x in table.splitlines() if " - fuse.jsonlfs " in x and
                x.split()[4].startswith(("/srv/", "/home/"))]

    def daemons(self):
        """Other sessions have mounts of the same names."""
        ours = os.readlink(f"/proc/{self.holder.pid}/ns/mnt")
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/ns/mnt") == ours:
                    found += [pid] * os.readlink(f"/proc/{pid}/exe").endswith("/jsonlfs")
        return found

    def end(self):
        for where in reversed(self.mounts()):
            self.run("umount", "-l", where)
        wait_for(lambda: not self.daemons(), "the end of the daemons")
        for shell in self.shells.values():
            shell.end()
        for where in ("/usr/src/jsonlfs", "/root", "/home", "/srv", "/etc/fstab",
                      "/etc/passwd"):
            self.run("umount", "-l", where)
        super().end()


@pytest.fixture
def session(workdir, fuse_for_all):  # noqa: F811
    s = Session(workdir)
    yield s
    s.end()
    shutil.rmtree(workdir / "root", ignore_errors=True)


def untrue(session, text, prompts="#$"):
    """What of a document does not happen as it is shown; None: nothing. prompts: of which
    users the commands are run."""
    for number, prompt, command, expected in steps(text):
        if prompt not in prompts:
            continue
        status, shown = session.shells[prompt].run(command)
        good = pattern(expected).fullmatch(shown)
        silent = not any(line.strip(". ") for line in expected)
        if not good or (status and silent):
            return (f"line {number}: {command}\nended with {status}\n--- and showed\n{shown}"
                    "--- not\n" + "\n".join(expected))
    return None


@pytest.mark.limit(170)
@pytest.mark.parametrize("path", [p for p in DOCS if BLOCK.search(p.read_text())],
                         ids=lambda p: p.name)
def test_the_commands_of(session, path):
    problem = untrue(session, path.read_text())
    assert problem is None, f"{path.name}: {problem}"


def test_what_is_in_no_session_is_run_elsewhere():
    """README and HACKING: .ci/commands. Of the other pages what needs systemd or docker, runs for
    half an hour, or only looks, with the test that does the same."""
    elsewhere = {
        "HOSTS.md": {"apt-get", "mkdir", "jsonlfs"},  # tests/hosts
        "OPERATING.md": {"systemctl", "mkdir", "echo",  # test_operating
                         "jsonlfsctl"},  # test_report
        "PERFORMANCE.md": {"meson", "sudo"},  # test_a_benchmark
        "TROUBLESHOOTING.md": {"journalctl", "jsonlfsctl"},
    }
    fences, known = 0, 0
    for page in DOCS:
        text = page.read_text()
        for kind in re.findall(r"^```(\w*)\n(?:(?!```).*\n)*```$", text, re.M):
            assert kind not in ("sh", "bash", "shell"), f"{page.name}: make it ```console"
            fences += 1
        text = re.sub(r"^```\w*\n(?:(?!```).*\n)*```$", "", text, flags=re.M)
        if page.name in ("README.md", "HACKING.md"):
            continue
        for block in re.findall(r"(?<=\n\n)(?: {4}\S.*\n)+", text):
            first = {line.split()[0] for line in block.splitlines()}
            first = {w for w in first if w.startswith("jsonlfs") or have(w)}
            assert first <= elsewhere.get(page.name, set()), f"{page.name}: {block}"
            known += len(first)
    assert fences > 10 and known >= 4


def test_commands_within_the_text_are_commands():
    """Those of jsonlfsctl that stand in a sentence, a table or a manual page are run by nobody:
    the command is one, and has those options. A rule's options go by the mount's names."""
    every = re.findall(r"^  ([a-z-]+) +\S", run(binary("jsonlfsctl"), "--help").stdout.decode(), re.M)
    manuals = [REPO / "docs" / name for name in ("jsonlfsctl.1", "jsonlfs.8")]
    rules = set(re.findall(r"^\.BI? \"?([a-z_]+)=", (REPO / "docs/jsonlfs.8").read_text(), re.M))
    helps, seen = {}, 0
    for page in [*DOCS, *manuals]:
        text = page.read_text().replace("\\-", "-")
        for rest in re.findall(r"jsonlfsctl ((?:[^`\n|;&>]|(?<=\[)\|)*)", text):
            words = rest.split()
            if not words or not re.fullmatch(r"[a-z-]+", words[0]):
                continue
            if page.suffix == ".md" and f"`jsonlfsctl {rest}`" not in text:
                continue
            if page.suffix != ".md" and f".B jsonlfsctl {rest}" not in text:
                continue
            command, seen = words[0], seen + 1
            assert command in every, f"{page.name}: {rest}"
            if command not in helps:
                helps[command] = run(binary("jsonlfsctl"), command, "--help").stdout.decode()
            for option in re.findall(r"(?<![\w-])--([a-z][a-z_-]*)", rest):
                assert option in ("help", "version") or option in rules \
                    or f"--{option}" in helps[command], f"{page.name}: {rest}"
    assert seen > 60


@pytest.mark.limit(170)
@pytest.mark.parametrize("prompt", ["#", "$"])
def test_the_readme_is_enough_for_one_who_has_nothing_else(session, prompt):
    """From damaged logs to a repaired, mounted and watched vault: root needs nothing of what
    the user does, and the user nothing of root."""
    text = (REPO / "README.md").read_text()
    did = [command for _, p, command, _ in steps(text) if p == prompt]
    for word in ("jsonlfsctl repair --apply", "jsonlfsctl watch", "jsonlfsctl check"):
        assert any(word in command for command in did), word
    problem = untrue(session, text, prompt)
    assert problem is None, problem
    damaged = "/srv/vault" if prompt == "#" else "/home/ann/vault"
    kept = session.run("find", damaged, "-name", "audit.jsonl*", "-size", "28c").stdout
    assert len(kept.splitlines()) == 1, "the original was to be kept"
    after = session.run("cat", f"{damaged}/audit.jsonl").stdout
    assert after == b'{"n":1}\n{"n":2}\n{"n":3}\n'


def test_pages_lead_to_each_other():
    """Each link of a page leads to a file, and from the README every page can be reached."""
    links = {}
    for page in DOCS:
        targets = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text())
        links[page] = {(page.parent / t).resolve() for t in targets}
        assert [str(t) for t in links[page] if not t.exists()] == [], page.name
    reached, new = set(), {REPO / "README.md"}
    while new:
        reached |= new
        new = {t for page in new for t in links.get(page, ())} - reached
    assert [p.name for p in DOCS if p not in reached] == []


def test_a_users_cron_line(session):
    """As cron runs it: by sh, with no more environment than the table gives."""
    text = (REPO / "docs/TUTORIAL-TRANSCRIPTS.md").read_text()
    path, command = re.search(r"^    PATH=(\S+)\n    \d+ \d+ \* \* \*  (.*)$", text, re.M).groups()
    session.shells["$"].run("mkdir ~/transcripts; echo '{}' > ~/transcripts/x.jsonl")
    session.run("env", "-i", "HOME=/home/ann", f"PATH={path}", "/bin/sh", "-c", command,
                uid=NOBODY, check=0)
    report = session.run("cat", "/home/ann/transcripts-check.json").stdout
    assert b'"clean": true' in report


def test_a_users_unit(session):
    """systemd searches no PATH of the user's: it must find what the unit starts."""
    text = (REPO / "docs/TUTORIAL-TRANSCRIPTS.md").read_text()
    for _, _, command, _ in steps(text):
        if "systemd/user" in command:
            session.shells["$"].run(command)
    unit = session.run("cat", "/home/ann/.config/systemd/user/transcripts.service").stdout
    programs = re.findall(r"^Exec\w+=(\S+)", unit.decode(), re.M)
    assert programs == ["/usr/local/bin/jsonlfs", "/usr/bin/fusermount3"]
    session.run("systemd-analyze", "verify", "--user", "--man=no",
                "/home/ann/.config/systemd/user/transcripts.service", check=0,
                env={"XDG_RUNTIME_DIR": "/tmp"})


def events():
    """What the daemon's log lines can begin with, as the sources have it."""
    name = r'"([A-Za-z][A-Za-z-]+)"'
    texts = [p.read_text() for d in ("fs", "lib") for p in (REPO / d).rglob("*.c")
             # Events of the quarantine's index are no lines of the log.
             if "ctl" not in p.parts and "quarantine" not in p.parts]
    helpers = {f for text in texts for f, _ in re.findall(
        r"\b(\w+)\(([^;{}]*?const char \*event\b[^;{}]*?)\)\s*\{", text)}
    found = set()
    for text in texts:
        calls = "|".join({"FS_SYSLOG", "report", "set_aside"} | helpers)
        for call in re.findall(rf"\b(?:{calls})\((?!const )(.*?);", text, re.S):
            # Its fields come behind the event.
            found |= set(re.findall(name, re.split("FS_STR|FS_INT", call)[0]))
        for value in re.findall(r"\bevent\s*=([^;,]*)", text):
            found |= set(re.findall(name, value))
    return found


def test_every_event_of_the_log_is_explained():
    text = (REPO / "docs/TROUBLESHOOTING.md").read_text()
    table = text[text.index("## What the log says"):]
    explained = set(re.findall(r"`([A-Za-z-]+)`", table))
    found = events()
    assert {"LOST", "refused", "torn-tail", "sync-failed", "pending-full"} <= found
    assert len(found) > 50 and found - explained == set()


def options():
    """{names of one option: its values but for the default} as jsonlfs -h lists them."""
    text = run(binary("jsonlfs"), "-h").stdout.decode()
    found = {}
    for names, rest in re.findall(r"^    -o ((?:\w+(?:=\w+)?(?:, )?)+)\s+(.*)$", text, re.M):
        choices = re.search(r" \[([^]]*)\] \(default: ([\w-]+)\)", rest)
        names = tuple(n.split("=")[0] for n in names.split(", "))
        found[names] = set(choices[1].split(", ")) - {choices[2]} if choices else set()
    return found


def test_every_option_has_a_reason_to_use_it():
    text = (REPO / "docs/CHOOSING.md").read_text()
    rows = {}
    for cell, reason in re.findall(r"^\| (`[^|]*) \| ([^|]*) \|$", text, re.M):
        assert len(reason) > 15, cell
        for span in re.findall(r"`([^`]+)`", cell):
            name, _, value = span.partition("=")
            rows.setdefault(name, set()).add(value)
            rows[name] |= set(re.findall(r"`([\w-]+)`", reason))
    found = options()
    assert len(found) > 30 and found["sync",] == {"write", "none"} and ("ro", "rw") in found
    for names, values in found.items():
        if names[0] == "noexec":  # of mount(8), several in a line
            assert set(names) <= set(rows)
        named = set().union(*(rows.get(n, set()) for n in names))
        assert any(n in rows for n in names) and values <= named, \
            f"{names}, {values - named}: no row in docs/CHOOSING.md"
    # Nothing that is gone.
    assert set(rows) <= {n for names in found for n in names}


def test_the_manual_has_every_option():
    text = (REPO / "docs/jsonlfs.8").read_text().replace("\\-", "-")
    told = {}
    for head, rest in re.findall(r"^\.TP\n(\.B[RI]? .*)\n((?:(?!\.(?:TP|SH|SS)\b).*\n)*)", text, re.M):
        for name in re.findall(r"\b\w+\b", head):
            told.setdefault(name, rest)
    for names, values in options().items():
        assert set(names) <= set(told), f"{names}: not in docs/jsonlfs.8"
        for value in values:
            assert re.search(rf"^\.BR? {value}\b", told[names[0]], re.M), (names, value)


LITERAL = r'"(?:[^"\\]|\\.)*"'
# What goes to standard output or to the log, and words that are no messages.
SILENT = r"printf|puts|fputs|strftime|(?:\w+_)?row|print_store|jsonl_report_\w+|syslog|execl"
NO_MESSAGES = {"archive drop", "quarantine drop", "jsonlfsctl repair", "mount option",
               "the rules of the mount", "the command line", "try as root",
               "For root, the owner of the file, and the owner of the mount. The old content is",
               # Reasons of config check.
               "it lies below .git, which is always excluded",
               "the name is that of a rotated or backed-up log",
               "no rule gives it a class, nor does match="}


def spoken(text):
    """The messages in a source of jsonlfsctl: of each the first words that are its own."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    text = re.sub(rf"({LITERAL})|'(?:\\.|[^'\\])'", lambda m: m[1] or "0", text)
    text = re.sub(r"^(?:const struct ctl_command|static const struct metric) .*?^};", "", text,
                  flags=re.S | re.M)
    text = re.sub(r"\bscript\[\] =[^;]*;", "", text)
    text = re.sub(rf"\b(?:{SILENT})\s*\((?:[^;\"]|{LITERAL})*;", "", text)
    for group in re.findall(rf"{LITERAL}(?:[\s\\]*{LITERAL})*", text):
        whole = "".join(x[1:-1] for x in re.findall(LITERAL, group))
        parts = [p.strip(" .()`") for p in
                 re.split(r"%[-.*\d]*(?:ll|z)?[a-zA-Z]|: |; |\\n", whole)]
        parts = [p for p in parts if len(p) >= 12 and " " in p and p != "nothing was changed"]
        yield from parts[:1]


def test_every_message_of_jsonlfsctl_is_explained():
    text = (REPO / "docs/TROUBLESHOOTING.md").read_text()
    text = text[text.index("## What jsonlfsctl says"):text.index("## When opening, mapping")]
    told = re.findall(r"`([^`]+)`", text)
    # Pages to be looked at say nothing that one would look up.
    found = {m for p in REPO.glob("fs/ctl/**/*.c") if p.name not in ("live.c", "page.c")
             for m in spoken(p.read_text())}
    known = {"the mount is dead", "your text is kept in", "unknown option", "syncs failed",
             "is open for writing", "no line of it is JSON, so this is another kind of file"}
    assert known <= found and len(found) > 100
    assert {m for m in found - NO_MESSAGES if not any(m in t for t in told)} == set()


STRINGS = rf"{LITERAL}(?:[\s\\]*{LITERAL})*"
TO_NOBODY = "printf|puts|strftime|sscanf|fscanf|_Static_assert"


def own_words(text, places):
    """Of a message the first words that are its own, between its places."""
    parts = [p.strip(" .:()`\"=,") for p in re.split(places, text)]
    return [p for p in parts if len(p) >= 12 and " " in p][:1]


def printed(text):
    """The messages in a source of the daemon or of the library: for standard error, the system
    log and status.json."""
    # Strings first: they may hold what looks like a comment.
    text = re.sub(rf"({LITERAL})|/\*.*?\*/|'(?:\\.|[^'\\])'", lambda m: m[1] or "0", text,
                  flags=re.S)
    text = re.sub(r"^#include.*$", "", text, flags=re.M)
    text = re.sub(rf"\b(?:{TO_NOBODY})\s*\((?:[^;\"]|{LITERAL})*;", "", text)
    text = re.sub(rf"\.(?:help|arg|standard)\s*=\s*{STRINGS}", "", text)
    for group in re.findall(STRINGS, text):
        whole = "".join(x[1:-1] for x in re.findall(LITERAL, group)).replace('\\"', '"')
        if not whole.startswith((" -", "    -", "Usage")):
            for words in own_words(whole, r"%[-.*\d]*(?:ll|z)?[a-zA-Z]|: |; |\\n"):
                yield words.replace("\\\\", "\\")


def failures(text):
    """What a script says before it ends."""
    for message in re.findall(rf"\bfail\s+({LITERAL})", text):
        yield from own_words(message[1:-1], r"\$[*@]|\$\{?\w+(?:[^}\s]*\})?|: ")


def unexplained(messages):
    text = (REPO / "docs/TROUBLESHOOTING.md").read_text()
    told = [re.sub(r"\s+", " ", t) for t in re.findall(r"`([^`]+)`", text)]
    return {m for m in messages if not any(m in t for t in told)}


def test_every_message_of_the_daemon_is_explained():
    paths = [p for d in ("fs", "lib") for p in (REPO / d).rglob("*.[ch]")
             if "ctl" not in p.parts and p.name not in ("example.c", "program.c")]
    found = {m for p in paths for m in printed(p.read_text())}
    known = {"is already mounted on", "a log grows by appending records only",
             "the bytes are not UTF-8", "two slashes in a row match no path", "is set twice"}
    assert known <= found and len(found) > 120
    assert unexplained(found - {"jsonlfs stage"}) == set()  # the head of a file


def test_every_message_of_the_scripts_is_explained():
    names = ("quickstart", "build-deb", "common.sh")
    found = {m for n in names for m in failures((REPO / "mount-scripts" / n).read_text())}
    assert {"Only root can install packages", "the build failed, see above"} <= found
    assert len(found) > 15 and unexplained(found) == set()


def fenced(text):
    return f"words\n\n```console\n{text}\n```\n"


def test_what_is_true_passes(session):
    assert untrue(session, fenced(
        "$ pwd\n/home/ann\n"
        "$ echo one; echo two 17 three; echo\n...\ntwo ... three\n\n"
        "# id -un\nroot\n"
        "$ cat > x <<EOF\n> a $((1 + 1))\n> EOF\n$ cat x\na 2\n"
        "$ seq 100\n1\n...\n99\n100\n"
        "$ cd /srv\n$ touch x\ntouch: ...: Permission denied\n"
        "$ echo >/srv\nbash: /srv: Is a directory")
        + "```sh\nfalse\n```\n" + fenced("$ pwd\n/srv")) is None


@pytest.mark.parametrize("text", [
    "$ false",
    "$ false\n...",
    "$ echo x",
    "$ true\nx",
    "$ echo xa\nx",
    "$ printf 'a\\nb\\n'\na",
    "$ printf 'a\\nb\\n'\nb",
    "$ echo abc\na...d",
    "# id -un\nann",
])
def test_what_is_not_true_fails(session, text):
    assert untrue(session, fenced("$ true\n" + text)).startswith("line 5: ")
