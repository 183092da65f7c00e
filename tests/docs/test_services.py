"""Units of systemd, files of variables and lines of crontab in the pages: systemd reads them, and what they start is started.

A unit is started as systemd would, without it: its program in its directory with its variables, then what it says about
reloading and stopping. Paths of an installation are those of this checkout, and addresses those of a server of the test.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.bare_stack import User
from tests.cluster import DeployedCluster
from tests.docs.snippets import CLUSTER, ENVIRONMENTS, MANY_HOSTS, OWN_NATS, PAGES, REPORT, ROOT, fences, run
from tests.live_stack import Stack

UNITS: Final = {
    re.match(r"# (/\S+\.service)", one.text)[1]: one.text  # type: ignore[index]
    for page in PAGES
    for one in fences(page)
    if one.kind == "ini" and "[Service]" in one.text
}
"""Every unit of the pages, by the path that stands in its first line."""
PATIENCE_S: Final = 120.0


def settings(path: str) -> configparser.SectionProxy:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(UNITS[path])
    return unit["Service"]


def here(command: str, **directories: Path) -> list[str]:
    """Return a command of a unit with the paths of this machine."""
    command = command.replace("/opt/cutor/.venv/bin", str(ROOT / ".venv/bin"))
    for name, directory in directories.items():
        command = command.replace(f"/{name.replace('_', '/')}/", f"{directory}/")
    return shlex.split(command)


def test_each_page_with_a_service_has_its_unit() -> None:
    assert {Path(path).name for path in UNITS} == {"cutor-builder.service", "cutor-gc.service", "nats-server.service"}
    for page in (CLUSTER, ENVIRONMENTS, OWN_NATS):
        assert [one for one in fences(page) if one.text in UNITS.values()], page.name


@pytest.mark.parametrize("path", UNITS)
def test_systemd_finds_nothing_wrong_with_a_unit(path: str, tmp_path: Path) -> None:
    """It warns of what it does not know, and of programs that are not there: so the unit names this machine's."""
    program = shutil.which("systemd-analyze")
    if program is None:
        assert not os.environ.get("CI"), "systemd-analyze, of Debian's package systemd, reads the units of the pages"
        pytest.skip("systemd-analyze is not here (Debian's package systemd)")
    text = re.sub(r"^User=.*\n", "", UNITS[path], flags=re.MULTILINE)
    text = re.sub(r"(?<=^ExecStart=)\S+", "/bin/true", text, flags=re.MULTILINE)
    (tmp_path / Path(path).name).write_text(text)
    done = subprocess.run([program, "verify", tmp_path / Path(path).name], capture_output=True, text=True, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if Path(path).name in line]
    assert (done.returncode, said) == (0, [])


@contextmanager
def started(path: str, command: list[str], log: Path, **more: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a unit's program; at the end of the block it is stopped as the unit says, in the time that the unit gives it."""
    unit = settings(path)
    environment = os.environ | {name: str(value) for name, value in more.items() if name != "directory"}
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=more.get("directory"), env=environment, stdout=file, stderr=file)
    try:
        yield process
        if "ExecStop" in unit:
            tell(unit["ExecStop"], process)
        else:
            process.send_signal(signal.SIGTERM)
        process.wait(float(unit["TimeoutStopSec"]))
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def tell(command: str, process: subprocess.Popen[bytes]) -> None:
    subprocess.run(shlex.split(command.replace("$MAINPID", str(process.pid))), check=True)


def wait_for(log: Path, said: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while said not in log.read_text():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)


def test_the_builder_of_its_unit_starts_and_ends(user: User, tmp_path: Path) -> None:
    """With the file of variables that the page on many hosts has."""
    [variables] = [one.text for one in fences(MANY_HOSTS) if one.kind == "ini"]
    head, *lines = variables.splitlines()
    names = [line.partition("=")[0] for line in lines]
    assert head == f"# {settings('/etc/systemd/system/cutor-builder.service')['EnvironmentFile']}"
    assert names == ["CUTOR_SERVER", "CUTOR_TLS_CA", "CUTOR_CONFIG"]
    assert user.up().returncode == 0
    (tmp_path / "cutor.toml").write_text("")
    given = {"CUTOR_SERVER": user.stack.server, "CUTOR_CONFIG": str(tmp_path / "cutor.toml")}
    path, log = "/etc/systemd/system/cutor-builder.service", tmp_path / "builder.log"
    command = here(settings(path)["ExecStart"], var_lib_cutor=tmp_path / "lib")
    with started(path, command, log, **(user.stack.environment | given)) as process:
        wait_for(log, "ready")
        assert (tmp_path / "lib/builder/lock").exists()
    assert process.returncode == 0, log.read_text()


def test_the_node_of_its_unit_starts_reloads_and_hands_over(tmp_path: Path) -> None:
    """Its end is lame duck mode; that it hands over what it leads: tests/contract/test_cluster_deploy.py."""
    node = DeployedCluster(tmp_path)
    path, log = "/etc/systemd/system/nats-server.service", tmp_path / "node.log"
    unit = settings(path)
    program, *rest = shlex.split(unit["ExecStart"])
    command = [shutil.which(Path(program).name) or str(ROOT / ".venv/bin" / Path(program).name), *rest]
    with started(path, command, log, directory=node.home) as process:
        wait_for(log, "Server is ready")
        tell(unit["ExecReload"], process)
        wait_for(log, "Reloaded server configuration")
    assert "Entering lame duck mode" in log.read_text()
    assert process.returncode in (0, 1), log.read_text()


def test_the_nightly_collection_of_its_unit_is_one(stack: Stack) -> None:
    command = here(settings("/etc/systemd/system/cutor-gc.service")["ExecStart"])
    done = run(shlex.join(command), stack.environment)
    assert done.returncode == 0, (done.stdout, done.stderr)


def test_the_weekly_report_of_a_crontab_is_written(stack: Stack, tmp_path: Path) -> None:
    [line] = [one.text for one in fences(REPORT) if one.kind == "text"]
    fields = line.split(maxsplit=5)
    for field, most in zip(fields, (59, 23, 31, 12, 7), strict=False):
        assert field == "*" or int(field) <= most
    (tmp_path / "reports").mkdir()
    done = run(fields[5].replace("/srv/", f"{tmp_path}/"), stack.environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert (tmp_path / "reports/week.html").stat().st_size > 1000
