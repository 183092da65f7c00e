"""What the command line may import, and who may read the environment."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "cutor"
IN_THE_IMAGE = ("jail/inside", "nix/inside", "setup/nix", "setup/image")
SETTINGS_OF_SET_UP = ["setup/apt.py", "setup/console.py", "setup/engine.py"]
"""Set-up's own settings are of the machine and no configuration: the mirror, the cache, an engine that may not be there yet."""
HEAVY = {"nats", "aiodocker", "aiohttp", "duckdb", "rich", "uvloop", "yaml", "asyncio"}


def reads_environment(source: Path) -> bool:
    return any(
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and node.attr in {"environ", "environb", "getenv", "getenvb"}
        for node in ast.walk(ast.parse(source.read_text()))
    )


def test_only_the_configuration_reads_the_environment() -> None:
    """Programs inside of the image are other programs: their environment is what the host's side gave them."""
    sources = [path for path in PACKAGE.rglob("*.py") if not any(place in str(path) for place in IN_THE_IMAGE)]
    assert len(sources) > 50
    readers = sorted(str(path.relative_to(PACKAGE)) for path in sources if reads_environment(path))
    assert readers == ["config.py", *SETTINGS_OF_SET_UP]


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["no-such-command"]])
def test_the_overview_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys; from cutor.cli.main import run; sys.stdout = sys.stderr; "
        f"run({arguments!r}); sys.stdout = sys.__stdout__; print(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())
