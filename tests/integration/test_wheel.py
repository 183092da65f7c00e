"""The packages of cutor: made as everybody makes them, looked into, installed outside of the checkout, and used from there.

No network: build's and cutor's dependencies are those of the tests' own environment, which the lock file has them from.
"""

from __future__ import annotations

import email
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from cutor import __version__
from cutor.config import made_image
from tests.live_stack import EXAMPLES, surroundings

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MUST_BE_IN_THE_WHEEL: Final = (
    *("cutor/py.typed", "cutor/bus/streams.yaml", "cutor/projections/sql/session.sql", "cutor/report/templates/page.html"),
    *("cutor/setup/image/contents.txt", "cutor/setup/image/jail_init.c", "cutor/setup/image/nix.conf"),
    *("cutor/setup/nix/warm.py", "cutor/setup/nix/nixpkgs/default.nix", "cutor/setup/nix/nixpkgs/build.sh"),
    *("cutor/jail/inside/stage.py", "cutor/nix/inside/build_init.py"),
)
MUST_BE_IN_THE_SOURCES: Final = ("LICENSE", "README.md", "Makefile", "pyproject.toml", "requirements.lock", "tests/conftest.py")
MUST_NOT_BE_ANYWHERE: Final = (".setup", ".venv", ".bench", ".git", "__pycache__", "secrets", "current.json", "dist")
"""Of a path, or at the end of it: what set-up, tools and clusters leave in a checkout."""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with source distribution and wheel; the wheel is made from the former. A warning is a failure."""
    made = tmp_path_factory.mktemp("packages")
    command = [sys.executable, "-W", "error", "-m", "build", "--no-isolation", "--outdir", made, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower(), done.stdout + done.stderr
    return made


@pytest.fixture(scope="module")
def wheel(packages: Path) -> Path:
    (found,) = packages.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of an environment that has the wheel, and the tests' own packages but for their cutor."""
    environment = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (libraries,) = environment.glob("lib/python3*/site-packages")
    (own,) = Path(sys.prefix).glob("lib/python3*/site-packages")
    (libraries / "dependencies.pth").write_text(f"{own}\n")  # a path: .pth files in it, such as the checkout's, don't count
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--no-index", "--no-deps", wheel], check=True)
    return environment / "bin" / "cutor"


@pytest.fixture
def user(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has nothing of cutor yet, in no checkout."""
    variables = surroundings(tmp_path)
    Path(variables["XDG_DATA_HOME"]).mkdir()
    return {name: value for name, value in variables.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def run(command: Path, *args: str, user: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command in the user's directory, with nothing on its standard input."""
    return subprocess.run(
        [command, *args],
        cwd=user["XDG_DATA_HOME"],
        env=user | more,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def names(archive: Path) -> list[str]:
    """Return the paths in a package, those of a source distribution without its directory."""
    if archive.suffix == ".whl":
        return zipfile.ZipFile(archive).namelist()
    with tarfile.open(archive) as tar:
        return [name.partition("/")[2] for name in tar.getnames()]


def test_the_wheel_holds_what_cutor_needs_and_nothing_else(wheel: Path) -> None:
    held = names(wheel)
    assert [name for name in MUST_BE_IN_THE_WHEEL if name not in held] == []
    manual = f"cutor-{__version__}.data/data/share/man/man1/cutor.1"
    assert manual in held
    assert {name.partition("/")[0] for name in held if name != manual} == {"cutor", f"cutor-{__version__}.dist-info"}
    of_git = subprocess.run(["git", "ls-files", "cutor"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert set(of_git) <= set(held), "what is in the repository is in the wheel"


def test_the_sources_hold_what_a_checkout_does(packages: Path) -> None:
    (archive,) = packages.glob("*.tar.gz")
    held = names(archive)
    assert [name for name in MUST_BE_IN_THE_SOURCES if name not in held] == []


def test_nothing_that_a_checkout_gathers_is_in_a_package(packages: Path) -> None:
    for archive in packages.iterdir():
        gathered = [name for name in names(archive) if set(Path(name).parts) & set(MUST_NOT_BE_ANYWHERE)]
        assert gathered == [] or gathered == [name for name in gathered if name.startswith("tests/attacks/secrets/")]


def test_credentials_that_a_cluster_leaves_in_a_checkout_are_in_no_package(tmp_path: Path) -> None:
    """What builds packages knows the list of ignored files at the top alone, so each that lies deeper has to be there, too."""
    of_git = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    checkout = tmp_path / "checkout"
    for name in filter(None, of_git.split("\0")):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, checkout / name)
    lists = [path for path in checkout.rglob(".gitignore") if path.parent != checkout]
    planted = [path.parent / line.strip("/").replace("?", "1") for path in lists for line in path.read_text().split()]
    assert len(planted) > 3
    for path in planted:
        path.mkdir()
        (path / "password.url").write_text("password\n")
    command = [sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", tmp_path / "made", checkout]
    subprocess.run(command, capture_output=True, check=True)
    (archive,) = (tmp_path / "made").iterdir()
    assert [name for name in names(archive) if name.endswith("password.url")] == []


def test_the_metadata_says_who_what_and_under_which_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"cutor-{__version__}.dist-info/METADATA"))
        licence = archive.read(f"cutor-{__version__}.dist-info/licenses/LICENSE").decode()
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "SPDX-License-Identifier: Apache-2.0" in licence
    assert metadata["Author"] == "The authors of cutor"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload(decode=True) == (ROOT / "README.md").read_bytes()
    required = [line.partition(";")[0].strip() for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(required) == sorted(PROJECT["dependencies"])
    assert "License ::" not in str(metadata.get_all("Classifier")), "beside a licence expression no classifier may name one"


def test_man_finds_the_manual_page_of_an_environment_on_the_path(installed: Path, user: dict[str, str]) -> None:
    page = installed.parents[1] / "share/man/man1/cutor.1"
    assert page.read_text() == (ROOT / "cutor/cli/cutor.1").read_text()
    if (program := shutil.which("man")) is None:
        return  # where it is, it looks beside the directories of the PATH
    variables = {name: value for name, value in user.items() if name != "MANPATH"}
    path = f"{installed.parent}:{user['PATH']}"
    done = subprocess.run([program, "-w", "cutor"], env=variables | {"PATH": path}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, str(page)), done.stderr


def test_the_installed_command_is_the_wheels(installed: Path, user: dict[str, str]) -> None:
    assert run(installed, "--version", user=user).stdout == f"cutor {__version__}\n"
    assert "Commands:" in run(installed, "--help", user=user).stdout
    python = [installed.with_name("python"), "-c", "import cutor; print(cutor.__file__)"]
    where = subprocess.run(python, env=user, cwd="/", capture_output=True, text=True, check=True).stdout
    assert where.startswith(str(installed.parents[1]))


@pytest.mark.parametrize(("typed", "completed"), [("str", "streams"), ("up --det", "--detach"), ("projections re", "rebuild")])
def test_bash_completes_commands_and_options(installed: Path, user: dict[str, str], typed: str, completed: str) -> None:
    script = f"""
    eval "$(cutor completion bash)"
    COMP_WORDS=(cutor {typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _cutor_completion cutor; echo "${{COMPREPLY[@]}}"
    """
    path = f"{installed.parent}:{user['PATH']}"
    done = subprocess.run(["bash", "-c", script], env=user | {"PATH": path}, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{completed}\n", "")


@pytest.mark.parametrize("command", [["up"], ["up", "--detach"], ["builder", "--server", "nats://127.0.0.1:1"]])
def test_without_docker_one_line_says_what_to_do(installed: Path, user: dict[str, str], command: list[str]) -> None:
    done = run(installed, *command, user=user, DOCKER_HOST="unix:///no/such.sock")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    assert "no Docker Engine answers at unix:///no/such.sock" in done.stderr
    assert "`cutor setup`" in done.stderr
    assert "make" not in done.stderr, "there is no Makefile"


def test_set_up_asks_nobody_who_is_not_there(installed: Path, user: dict[str, str]) -> None:
    """No engine is named that has anything: where it asks nobody, and goes on all the same, nothing of this machine goes."""
    done = run(installed, "setup", "--purge", user=user, DOCKER_HOST="unix:///no/such.sock")
    assert done.returncode == 3
    assert done.stderr == "cutor: nobody is at a terminal to agree to that: `cutor setup --yes` asks nobody\n"


@pytest.fixture
def stack(installed: Path, user: dict[str, str], nix_set_up: None) -> Iterator[dict[str, str]]:
    """A stack of the installed cutor, set up by itself."""
    done = run(installed, "setup", user=user)
    assert done.returncode == 0, done.stderr
    done = run(installed, "up", "--detach", user=user)
    assert done.returncode == 0, done.stderr
    yield user
    done = run(installed, "down", user=user)
    assert done.returncode == 0, done.stderr


def test_a_submission_through_the_installed_cutor(installed: Path, stack: dict[str, str]) -> None:
    (note,) = (Path(stack["XDG_STATE_HOME"]) / "cutor/child-images").iterdir()
    assert made_image(note) is not None, "an image of its own"
    done = run(installed, "submit", str(EXAMPLES / "python-three-tests"), "--wait", user=stack)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "run 3 no input" in done.stdout
    checked = run(installed, "doctor", user=stack)
    assert checked.returncode == 0, checked.stdout
