"""Every setting of set-up is documented, and `make help` names it."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/how-to/set-up.md").read_text()
SOURCES = "".join(path.read_text() for path in (ROOT / "cutor/setup").glob("*.py"))
READ = {
    *re.findall(r'os\.environ(?:\.get\(|\[)"([A-Z_]+)"', SOURCES),
    *re.findall(r'^[A-Z_]+_SETTING = "([A-Z_]+)"', SOURCES, re.MULTILINE),
}
OF_MAKE = set(re.findall(r"\$\((?:if \$\()?([A-Z_]+)\)", (ROOT / "Makefile").read_text())) - {"VENV", "MAKEFILE_LIST"}


def test_the_settings_are_found() -> None:
    assert {"CUTOR_DEBIAN_MIRROR", "DOCKER_HOST", "XDG_CACHE_HOME"} == READ
    assert {
        "COMPARE",
        "EVENTS",
        "MINUTES",
        "ONLY",
        "PYTHON",
        "REFRESH",
        "REUSE",
        "ROUNDS",
        "RUNNER",
        "UPGRADE",
        "WORKERS",
    } == OF_MAKE


@pytest.mark.parametrize("name", sorted(READ | OF_MAKE))
def test_a_setting_has_a_line_of_the_page(name: str) -> None:
    assert re.search(rf"^\| `{name}(=1)?` \| .+ \|$", PAGE, re.MULTILINE)


def test_help_names_targets_and_settings() -> None:
    said = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert "purge" in targets
    for word in [*targets, *OF_MAKE, "CUTOR_DEBIAN_MIRROR", "DOCKER_HOST", "docs/how-to/set-up.md"]:
        assert re.search(rf"\b{re.escape(word)}\b", said), word


def test_every_target_that_cleans_is_on_the_page() -> None:
    for target in ("setup", "clean", "purge"):
        assert f"make {target}" in PAGE
