"""The pages on installation, set-up and upgrades where they change what is installed: in a clone of this repository.

No network. So pipx is played by a function that does what pipx does, an environment of its own whose command is on the PATH,
with the libraries of the tests; and a clone has the environment of this checkout. What removes all that set-up made is run
against an engine that has nothing (`empty_engine`).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bare_stack import User, request
from tests.docs.empty_engine import empty_engine
from tests.docs.record import user as user_of
from tests.docs.snippets import HOW_TO, ROOT, fences, run, snippets

INSTALL = HOW_TO / "install.md"
SET_UP = HOW_TO / "set-up.md"
UPGRADE = HOW_TO / "upgrade.md"
(OWN,) = Path(sys.prefix).glob("lib/python3*/site-packages")
PIPX = f"""
pipx() {{
  local venv=$HOME/.local/share/pipx/venvs/cutor
  case $1 in
    install)
      [ "$2" = --force ] || [ ! -e $venv ]
      {sys.executable} -m venv --clear --without-pip $venv
      echo {OWN} > $(echo $venv/lib/python3*/site-packages)/dependencies.pth
      {sys.executable} -m pip --python $venv/bin/python --disable-pip-version-check install --quiet --no-index --no-deps \\
        --no-build-isolation "${{@: -1}}"
      mkdir -p $HOME/.local/bin $HOME/.local/share/man/man1
      ln -sf $venv/bin/cutor $HOME/.local/bin/
      ln -sf $venv/share/man/man1/cutor.1 $HOME/.local/share/man/man1/
      hash -r ;;
    uninstall) rm -r $venv; rm $HOME/.local/bin/cutor; hash -r ;;
    *) return 2 ;;
  esac
}}
export PATH="$HOME/.local/bin:$PATH"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone of a repository that has this checkout's commit, as a user has one; its parent has no other cutor."""
    origin, clone = tmp_path / "origin", tmp_path / "work" / "cutor"
    for command in (
        ["git", "clone", "--quiet", "--bare", ROOT, origin],
        ["git", "-C", origin, "update-ref", "refs/heads/main", "HEAD"],
        ["git", "-C", origin, "symbolic-ref", "HEAD", "refs/heads/main"],
        ["git", "-C", origin, "tag", "--force", "v0.1.0", "main"],
        ["git", "clone", "--quiet", origin, clone],
    ):
        subprocess.run(command, check=True, capture_output=True)
    (clone / ".venv").symlink_to(ROOT / ".venv")
    return clone


def newer(checkout: Path) -> str:
    """Have the repository that this is a clone of a commit further; return its name."""
    origin = checkout.parents[1] / "origin"
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    tree = subprocess.run(
        ["git", "-C", origin, *author, "commit-tree", "main^{tree}", "-p", "main", "-m", "newer"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    subprocess.run(["git", "-C", origin, "update-ref", "refs/heads/main", tree], check=True)
    return tree


@pytest.fixture
def engine() -> Iterator[str]:
    """The address of an engine that has nothing; a socket's path has a hundred characters at the most."""
    with tempfile.TemporaryDirectory() as directory, empty_engine(Path(directory) / "docker.sock") as address:
        yield address


def headed(heading: str) -> str:
    """Return the commands beneath a heading of the page on installation."""
    [section] = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", INSTALL.read_text(), re.MULTILINE | re.DOTALL)
    found = [one.text for one in snippets(INSTALL, "sh") if one.text in section]
    assert found, heading
    return "".join(found)


def person(home: Path) -> dict[str, str]:
    """Return the environment of somebody whose files are all beneath one directory, downloads of set-up among them."""
    rest = {name: value for name, value in user_of(home).items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    return rest | {"XDG_CACHE_HOME": str(home / "cache")}


def test_cutor_is_installed_brought_up_to_date_and_removed(
    checkout: Path, tmp_path: Path, engine: str, nix_set_up: None
) -> None:
    newest = newer(checkout)
    remove = headed("Remove it").replace(
        "cutor setup --purge",
        f"printf 'y\\n' | DOCKER_HOST={engine} script --quiet --return --command 'cutor setup --purge' purge",
    )
    script = f"""{PIPX}
    cd '{checkout.parent}'
    {headed("From a package")}
    cutor submit cutor/examples/python-three-tests --wait
    {headed("Bring it up to date")}
    git -C cutor rev-parse HEAD
    {remove}
    ! command -v cutor | grep {tmp_path}
    """
    done = run(f"trap 'cutor down > /dev/null 2>&1 || true' EXIT\n{script}", person(tmp_path))
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stdout.count("is ready at") == 2, done.stdout
    assert newest in done.stdout
    assert "run 3 no input" in done.stdout
    assert "removing all of that, for every cutor of this machine" in (checkout.parent / "purge").read_text()
    assert not (tmp_path / "XDG_STATE_HOME/cutor/child-images").exists()
    assert (tmp_path / "XDG_DATA_HOME/cutor").exists(), "submissions stay"


def test_a_checkout_is_set_up_and_tried(checkout: Path, tmp_path: Path, nix_set_up: None) -> None:
    script = headed("From a checkout")
    done = run(f"cd '{checkout}'\n{script}", person(tmp_path))
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "set-up is complete" in done.stdout + done.stderr
    assert "c-primes: OK" in done.stdout


def test_completion_and_manual_page_go_where_shell_and_man_look(checkout: Path, tmp_path: Path) -> None:
    script = f"""{PIPX}
    cd '{checkout.parent}'
    pipx install ./cutor
    {headed("Completion in the shell")}
    complete -p cutor
    {headed("A manual page")}
    """
    done = run(script, person(tmp_path) | {"MANPAGER": "cat"})
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "_cutor_completion" in done.stdout
    assert "complete --no-files --command cutor" in (tmp_path / ".config/fish/completions/cutor.fish").read_text()
    assert "CUTOR(1)" in done.stdout
    assert (tmp_path / ".local/share/man/man1/cutor.1").read_text() == (ROOT / "cutor/cli/cutor.1").read_text()


def test_what_set_up_made_is_taken_away(checkout: Path, tmp_path: Path, engine: str) -> None:
    """The clone's own note of an image goes with it, and nothing of this checkout's."""
    [purge] = [
        one.text for one in fences(SET_UP) if one.kind == "sh" and "make purge" in one.text and "make setup" not in one.text
    ]
    (checkout / ".setup").mkdir()
    (checkout / ".setup/child-image").write_text("cutor-child:none\n")
    (tmp_path / "cache/cutor/setup").mkdir(parents=True)
    done = run(f"cd '{checkout}'\n{purge}", person(tmp_path) | {"DOCKER_HOST": engine})
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert not (checkout / ".setup/child-image").exists()
    assert not (tmp_path / "cache/cutor/setup").exists()
    assert (ROOT / ".setup/child-image").exists()


def test_a_stack_is_upgraded_and_gone_back_with(checkout: Path, user: User, tmp_path: Path, nix_set_up: None) -> None:
    """The whole page in its order. What a newer program does with an older log: tests/integration/test_newer_versions.py."""
    newest = newer(checkout)
    assert user.up(roles=["projector"]).returncode == 0
    assert user.cutor("submit", "-", "--id", "before", stdin=request()).returncode == 0
    page = "".join(one.text for one in snippets(UPGRADE, "sh")).replace("/srv/", f"{tmp_path}/")
    page = page.replace("cutor up --detach\n", f"cutor up --detach --data '{user.stack.data}' --roles projector\n")
    page = page.replace(f"--data {tmp_path}/before ", f"--data {tmp_path}/before --roles projector ")
    page = page.replace("cutor doctor", "cutor doctor > doctor || grep -E '^FAIL +(builder|runner) ' doctor > /dev/null")
    page = page.replace("git pull\n", "git pull\ngit rev-parse HEAD\n").replace("v0.1.0 ", "--quiet v0.1.0 ")
    end = f"git describe --tags; cutor status before; cutor down --data {tmp_path}/before"
    done = run(f"cd '{checkout}'\n{page}\n{end}", user.stack.environment | {"PATH": os.environ["PATH"]})
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stdout.count("is ready at") == 2, done.stdout
    assert (done.stdout + done.stderr).count("set-up is complete") == 2, done.stdout
    assert newest in done.stdout
    assert "v0.1.0" in done.stdout
    assert "SUBMITTED" in done.stdout
