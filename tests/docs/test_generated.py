"""Pages that are made from code are those of today's code."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

import cutor
import tests
from cutor.bus.topology import default_text
from cutor.bus.topology_file import overlap, parse
from cutor.containers import labels as host_labels
from cutor.model.codec import DECISION_KINDS, ENVIRONMENT_KINDS, VERSIONS, decode, decode_decision, decode_environment
from cutor.model.events import kind_of
from cutor.projections.exports import orders as exports
from cutor.projections.rebuilds import orders as rebuilds
from docs.generate import PAGES
from docs.pages.modules import summary
from docs.pages.subjects import ALL, wildcard

ROOT = Path(__file__).parents[2]


def test_generated_pages_are_current() -> None:
    command = [sys.executable, "docs/generate.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run `python docs/generate.py`: {done.stdout}{done.stderr}"


def test_a_generated_page_says_what_it_is_made_of() -> None:
    for path in (path for path in PAGES if path.suffix == ".md"):
        head = " ".join(path.read_text().split("\n\n")[1].split())
        assert re.match(r"Made (from|by) .*`python docs/generate.py`", head), path.name


def test_a_new_kind_of_event_needs_an_example() -> None:
    """Every kind that the codec reads has a section of its own, with an example that the codec reads."""
    page = (ROOT / "docs/reference/events.md").read_text()
    for kind in VERSIONS:
        section = page.partition(f"\n### {kind}\n")[2].partition("\n### ")[0]
        examples = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
        assert examples, kind
        read = decode_environment if kind in ENVIRONMENT_KINDS else decode_decision if kind in DECISION_KINDS else decode
        assert {kind_of(read(example.encode())) for example in examples} == {kind}  # type: ignore[arg-type]


def literals(path: Path) -> Iterator[str]:
    """Yield the texts of a module that begin with ``cutor.`` and are no docstrings; ``*`` for what is put into one."""
    tree = ast.parse(path.read_text())
    docstrings = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}
    within = {id(part) for one in ast.walk(tree) if isinstance(one, ast.JoinedStr) for part in one.values}
    for one in ast.walk(tree):
        if id(one) in docstrings | within:
            continue
        parts = one.values if isinstance(one, ast.JoinedStr) else [one]
        text = "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in parts)
        if re.fullmatch(r"cutor\.[\w.*><-]+", text):
            yield text


def is_a_name_of_something_else(text: str) -> bool:
    """Whether it is a module, a logger or a label of Docker's."""
    module = ROOT / Path(*text.removesuffix(".*").split("."))
    labels = {str(value) for name, value in vars(host_labels).items() if name.endswith("_LABEL")} | {"cutor.events"}
    image = {"cutor.protocol", "cutor.nix-version", "cutor.nix-configuration", "cutor.packages"}
    image |= {"cutor.base", "cutor.inputs", "cutor.recipe", "cutor.setup"}  # set-up's own
    return module.is_dir() or module.with_suffix(".py").exists() or text in labels | image


def test_every_subject_in_the_code_is_on_the_page() -> None:
    """A text in the code that begins with `cutor.` is a subject of the page, or part of one, or is known to be none."""
    found = {text for path in (ROOT / "cutor").rglob("*.py") for text in literals(path)}
    subjects = {text for text in found if not is_a_name_of_something_else(text)} - {"cutor.*"}
    known = [wildcard(one.pattern) for one in ALL]
    assert len(subjects) > 10
    unknown = [
        text
        for text in subjects
        if not any(overlap(text.rstrip("."), one) or one.startswith(f"{text.removesuffix('>').rstrip('.')}.") for one in known)
    ]
    assert unknown == []


def test_every_public_name_is_on_the_page() -> None:
    page = (ROOT / "docs/reference/python-client.md").read_text()
    assert [name for name in cutor.__all__ if name != "__version__" and f"\n## {name}\n" not in page] == []


def test_every_setting_of_streams_and_consumers_is_on_the_page() -> None:
    page, _, others = (ROOT / "docs/reference/streams.md").read_text().partition("\n## A file of one's own\n")
    for stream in parse(default_text(), ["tenant"]).streams:
        section = page.partition(f"\n## {stream.name}\n")[2].partition("\n## ")[0]
        heads = {"": stream.config} | {one.name.replace("-tenant", "-{tenant}"): one.config for one in stream.consumers}
        for name, config in heads.items():
            part = section.partition(f"\n### {name}\n" if name else "\n")[2].partition("\n### ")[0]
            shown = set(re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)) | set(
                re.findall(r"^- `(\w+)`", others, re.MULTILINE)
            )
            assert set(config) - shown - {"name", "durable_name", "description", "discard_new_per_subject"} == set(), name


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_file_that_is_linked_to_is_there(name: str) -> None:
    page = (ROOT / name).read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page) if "://" not in link and not link.startswith("#")]
    assert links
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []


def test_the_map_holds_every_part() -> None:
    """Each package and module of cutor, and each folder and file beside it that somebody would look for."""
    page = (ROOT / "CONTRIBUTING.md").read_text().partition("## A map")[2].partition("\n## ")[0]
    named = {link.removesuffix("/") for link in re.findall(r"\]\(([^)]+)\)", page.partition("|---")[2])}
    parts = {
        f"cutor/{path.name}" for path in (ROOT / "cutor").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    parts -= {"cutor/__init__.py", "cutor/__main__.py"}
    assert named == parts | {"deploy", "docs", "examples", "streams.yaml", "tests"}


def test_the_map_of_the_tests_holds_every_kind_and_helper() -> None:
    """As ``tests/__init__.py`` has it: each package, folder and module of tests, and nothing that is gone."""
    named = set(re.findall(r"``([a-z_]+)``", tests.__doc__ or "")) - {"deploy"}
    there = {path.stem for path in (ROOT / "tests").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert named == there - {"__init__", "__pycache__"}


def test_every_module_says_what_it_is_for() -> None:
    assert [path for path in (ROOT / "cutor").rglob("*.py") if not summary(path)] == []


def test_reading_orders_name_modules_that_are_there() -> None:
    """In the docstring of a package: what looks like a module is one."""
    gone = {
        f"{path.parent.relative_to(ROOT)}: {name}"
        for path in (ROOT / "cutor").rglob("__init__.py")
        for name in re.findall(r"``([a-z_]+)``", _reading_order(path))
        if not any((path.parent / found).exists() for found in (name, f"{name}.py"))
    }
    assert gone == set()


def _reading_order(package: Path) -> str:
    return (ast.get_docstring(ast.parse(package.read_text())) or "").partition("Reading order")[2]


def test_make_docs_runs_both_generators() -> None:
    rules = (ROOT / "Makefile").read_text().partition("\ndocs:")[2].partition("\n\n")[0]
    assert "-m cutor.cli.reference" in rules
    assert "docs/generate.py" in rules


def test_every_column_of_a_reference_table_has_a_heading() -> None:
    """The row above the line of dashes; a page that is written by hand may part pairs without headings."""
    found = [
        f"{path.name}: {row}"
        for path in sorted((ROOT / "docs/reference").glob("*.md"))
        for row, line in pairwise(path.read_text().splitlines())
        if re.fullmatch(r"\|(:?-+:?\|)+", line) and not all(cell.strip() for cell in row.strip("|").split("|"))
    ]
    assert found == []


def test_every_body_that_goes_to_the_projector_or_comes_from_it_has_its_fields_on_the_page() -> None:
    page = (ROOT / "docs" / "reference" / "subjects.md").read_text()
    for module in (exports, rebuilds):
        structs = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, msgspec.Struct)]
        own = [one for one in structs if one.__module__ == module.__name__]
        assert len(own) >= 2
        for struct in own:
            section = page.split(f"\n### {struct.__name__}\n")[1].partition("\n#")[0]
            assert all(f"| `{name}` |" in section for name in struct.__struct_fields__), struct
