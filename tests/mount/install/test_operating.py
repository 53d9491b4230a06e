# SPDX-License-Identifier: MIT
"""What is installed to live with a mount: units, the nightly check, examples of cron and
logrotate. The texts are run as they are, with the vault of the test in place of theirs."""

import errno
import gzip
import json
import os
import re
import subprocess

import pytest
from util import (
    BUILD, HERE, NOBODY, REPO, append, as_user, binary, outcome, records, run, sh, wait_for)

SCRIPTS = REPO / "mount-scripts"
UNITS = ("jsonlfs@.service", "jsonlfs-check@.service", "jsonlfs-check@.timer",
         "jsonlfs-metrics.service", "jsonlfs-metrics.timer")


def unit_text(name):
    place = BUILD / "mount-scripts" / name
    return (place if place.exists() else SCRIPTS / name).read_text()


@pytest.fixture
def units(workdir):
    """All of them, of the vault /srv/vault, with a program in place of ours."""
    for name in UNITS:
        text = re.sub(r"/usr/local/bin/jsonlfs(ctl)?\b", "/bin/true", unit_text(name))
        (workdir / name.replace("@", "@srv-vault")).write_text(text)
    return sorted(workdir.glob("jsonlfs*"))


def test_the_units_are_units(units):
    p = run("systemd-analyze", "verify", "--man=no", *units)
    assert (len(units), p.returncode, p.stderr) == (5, 0, b"")


# In tenths. docs/OPERATING.md tells of each further option what it breaks.
@pytest.mark.parametrize("name, exposure", [("jsonlfs@", 39), ("jsonlfs-check@", 20),
                                            ("jsonlfs-metrics", 20)])
def test_how_exposed_a_unit_is(units, name, exposure):
    (unit,) = [u for u in units if u.name.startswith(name) and u.suffix == ".service"]
    p = run(
        "systemd-analyze", "security", "--offline=true", f"--threshold={exposure}",
        "--no-pager", unit,
    )
    assert p.returncode == 0, p.stdout.decode()[-300:]


def test_what_the_drop_ins_bring(units):
    """Each of those in docs/OPERATING.md, with the figure that it gives."""
    text = (REPO / "docs/OPERATING.md").read_text()
    drop_ins = re.findall(r"^    # (\d\.\d): .*\n    \[Service\]\n    (\S+)$", text, re.M)
    assert len(drop_ins) == 2
    unit = units[-1]
    assert unit.name == "jsonlfs@srv-vault.service"
    before = unit.read_text()
    for figure, line in drop_ins:
        unit.write_text(before.replace("[Install]", f"{line}\n\n[Install]"))
        p = run("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
        assert f": {figure} OK" in p.stdout.decode(), p.stdout[-300:]


def test_what_the_unit_leaves_out_has_a_reason(units):
    told = (REPO / "docs/OPERATING.md").read_text()
    p = run("systemd-analyze", "security", "--offline=true", "--no-pager", units[-1])
    assert units[-1].name == "jsonlfs@srv-vault.service"
    missing = re.findall(r"^✗ ([A-Za-z]+=)(?:~(\S+))?", p.stdout.decode(), re.M)
    assert len(missing) > 15
    for option, part in missing:
        # To the first "|", which would end a cell of the table.
        name = f"{option}~{part}".split("|")[0] if part else option
        assert f"`{name}`" in told, f"docs/OPERATING.md does not say why there is no {name}"


@pytest.fixture(scope="module")
def restricted(base):
    """The environment of a daemon under the filter of RestrictSUIDSGID=."""
    out = base / "sxid.so"
    run("cc", "-std=gnu17", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-shared", "-fPIC",
        "-o", out, HERE / "progs/sxid.c", check=0)
    return {"LD_PRELOAD": str(out)}


@pytest.mark.parametrize("walk", [False, True], ids=["handles", "paths"])
def test_under_the_filter_of_the_unit(mount, restricted, workdir, walk):
    """All that needs no suid and sgid works, whatever the daemon would call for it."""
    rules = workdir / "rules.json"
    rules.write_text(json.dumps({"rewrite": "archive", "rules": [
        {"match": "*.state.json", "class": "replace"}, {"match": "*.md", "class": "text"}]}))
    m = mount(f"config={rules}", env=restricted | ({"SXID_WALK": "1"} if walk else {}))
    assert f'reached-by="{"path" if walk else "file handle"}"' in m.log()
    sh("""set -e; umask 022; mkdir -p a/b/c; for n in $(seq 300); do echo $n >a/b/c/f$n; done
       for n in $(seq 300); do test $(cat a/b/c/f$n) = $n; done
       ln -s ../b/c a/b/link; test $(cat a/b/link/f7) = 7; mv a/b a/d; test $(cat a/d/c/f8) = 8
       chmod 700 a/d; chmod 1777 a; touch -d @5 a/d/c/f1
       for n in 1 2 3; do echo "{\\"n\\":$n}" >>a/d/x.jsonl; done; sed -i 2d a/d/x.jsonl
       echo '{"n":4}' >>a/d/x.jsonl; mv a/d/x.jsonl a/d/x.jsonl.1; echo '{"n":5}' >a/d/x.jsonl
       echo '{"v":1}' >a/d/x.state.json; echo '{"v":2}' >a/d/x.state.json
       echo one >>a/d/day.md; echo two >>a/d/day.md""", m.mnt)
    assert sh("cat a/d/x.jsonl.1 a/d/x.jsonl a/d/x.state.json a/d/day.md", m.mnt).stdout == (
        b'{"n":1}\n{"n":3}\n{"n":4}\n{"n":5}\n{"v":2}\none\ntwo\n')
    assert [f.name for f in m.state("archive").iterdir()]


def test_what_the_filter_of_the_unit_refuses_is_told(mount, restricted):
    m = mount(env=restricted)
    m.p("d").mkdir()
    m.p("f").touch()

    def create():
        os.close(os.open(m.p("d/new"), os.O_WRONLY | os.O_CREAT, 0o2755))

    for name, path, way in (
        ("chmod", "d", lambda: os.chmod(m.p("d"), 0o2775)),
        ("chmod", "f", lambda: os.chmod(m.p("f"), 0o4755)),
        ("mknod", "d/pipe", lambda: os.mkfifo(m.p("d/pipe"), 0o2644)),
        ("create", "d/new", create),
    ):
        assert outcome(way) == errno.EPERM, (name, path)
        wait_for(lambda line=f'denied operation="{name}" path="{path}" reason="the service may '
                 'set no setuid': line in m.log(), path)
    assert "RestrictSUIDSGID=no into a drop-in" in m.log()
    # Not everything that is refused is the filter's doing.
    told = m.log().count("RestrictSUIDSGID")
    assert as_user(NOBODY, lambda: outcome(lambda: os.chmod(m.p("f"), 0o4755))) == errno.EPERM
    os.chmod(m.p("f"), 0o700)
    assert m.log().count("RestrictSUIDSGID") == told == 4


# ---- the nightly check ----


def the_service(vault, report):
    """The command of the unit, as systemd would run it."""
    (line,) = re.findall(r"^ExecStart=(.*)$", unit_text("jsonlfs-check@.service"), re.M)
    line = line.replace("${JSONLFS_REPORT}", str(report)).replace("%f", str(vault))
    program, *argv = line.split(" ")
    assert program == "/usr/local/bin/jsonlfsctl"
    return run(binary("jsonlfsctl"), *argv, cwd=vault)


def the_cron_line(vault, report):
    text = (SCRIPTS / "cron.example").read_text()
    (command,) = re.findall(r"^[\d*]+ [\d*]+ \* \* \*  root  (.*)$", text, re.M)
    assert "%" not in command, "cron makes a newline of it"
    command = command.replace("/var/lib/jsonlfs/srv-vault-check.json", str(report))
    command = command.replace("/var/lib/jsonlfs", str(report.parent))
    place = os.path.dirname(binary("jsonlfsctl"))
    return run("/bin/sh", "-c", command.replace("/srv/vault", str(vault)),
               env={"PATH": f"{place}:/usr/bin:/bin"})


@pytest.mark.damaged
@pytest.mark.parametrize("job", [the_service, the_cron_line])
def test_the_nightly_check(mount, workdir, job):
    m = mount(self_mount=True)
    place = workdir / "reports"
    place.mkdir()
    append(m.p("a.jsonl"), b'{"n":1}\n')
    p = job(m.mnt, place / "check.json")
    assert (p.stdout, p.stderr) == (b"", b""), p
    report = json.loads((place / "check.json").read_bytes())
    assert report["compliant"] is True and report["records"] == 1
    assert os.listdir(place) == ["check.json"]
    with open(m.b("a.jsonl"), "ab") as f:
        f.write(b'{"n":2}{"n":3}\n')
    p = job(m.mnt, place / "check.json")
    assert p.returncode == 4 or b"exit status 4" in p.stdout
    report = json.loads((place / "check.json").read_bytes())
    assert report["clean"] is False and report["damage"]["fused-records"] == 1


def test_the_report_is_not_in_the_vault():
    for text in (unit_text("jsonlfs-check@.service"), (SCRIPTS / "cron.example").read_text()):
        assert "/var/lib/jsonlfs" in text and ">" not in text.replace("=>", "")
    assert "StateDirectory=jsonlfs" in unit_text("jsonlfs-check@.service")


# ---- logrotate ----


def generations(m, name):
    """The records of a log and of what it was rotated to, oldest first."""
    found = []
    numbered = sorted((n for n in os.listdir(m.mnt) if n.startswith(f"{name}.")),
                      key=lambda n: -int(re.search(r"\d+", n[len(name):])[0]))
    for n in [*numbered, name]:
        data = open(m.p(n), "rb").read()
        data = gzip.decompress(data) if n.endswith(".gz") else data
        found += [json.loads(line) for line in data.splitlines()]
    return found


@pytest.mark.limit(120)
def test_the_logrotate_example_loses_nothing(m, workdir):
    conf = workdir / "logrotate.conf"
    example = (SCRIPTS / "logrotate.example").read_text()
    conf.write_text(example.replace("/srv/vault", str(m.mnt)))
    conf.chmod(0o644)
    stop = workdir / "stop"
    script = ('n=0; while [ ! -e "$2" ]; do n=$((n + 1)); '
              'echo "{\\"writer\\":$1,\\"n\\":$n}" >> x.jsonl; done; echo $n')
    writers = {w: subprocess.Popen(["bash", "-c", script, "bash", str(w), stop], cwd=m.mnt,
                                   stdout=subprocess.PIPE) for w in (1, 2)}

    def all_have_written():
        # Each of them has closed the file of before, then.
        return {1, 2} <= {r["writer"] for r in records(m.p("x.jsonl"))}

    try:
        wait_for(all_have_written, "a record of each", 30)
        # And one that never opens its log again.
        held = open(m.p("x.jsonl"), "ab", buffering=0)
        for n in range(4):
            run("logrotate", "-f", "-s", workdir / "rotate.state", conf, check=0)
            if n == 0:
                held.write(b'{"writer":3}\n')
                held.close()
            wait_for(all_have_written, "a record of each in the new file", 30)
    finally:
        stop.touch()
        totals = {w: int(p.communicate(timeout=60)[0]) for w, p in writers.items()}
    assert sorted(n for n in os.listdir(m.mnt) if n.endswith(".gz")) == [
        "x.jsonl.2.gz", "x.jsonl.3.gz", "x.jsonl.4.gz"]
    seen = generations(m, "x.jsonl")
    for writer, total in totals.items():
        assert [r["n"] for r in seen if r["writer"] == writer] == list(range(1, total + 1))
    assert {"writer": 3} in seen
