"""A setting that nothing reads is documented, and without effect. By types mypy tells a read of it from those of its like."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from mypy import build
from mypy.config_parser import parse_config_file
from mypy.find_sources import create_source_list
from mypy.nodes import MemberExpr
from mypy.options import Options
from mypy.types import Instance, Type, UnionType, get_proper_type

from cutor.config import Config
from cutor.model.limit_settings import LimitsSettings
from cutor.model.limits import Bounds

ROOT = Path(__file__).parents[2]
BY_NAME = (LimitsSettings, Bounds)
"""Tables whose keys are read by their names, all of them alike."""


def settings(section: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, type[msgspec.Struct]]]:
    """Yield the key of every setting, and the struct that has its field."""
    for field in msgspec.structs.fields(section):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            if field.type not in BY_NAME:
                yield from settings(field.type, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", section


def classes(found: Type | None) -> Iterator[str]:
    """Yield the classes of what an expression is."""
    found = get_proper_type(found)
    if isinstance(found, UnionType):
        for one in found.items:
            yield from classes(one)
    elif isinstance(found, Instance):
        yield from (base.fullname for base in found.type.mro)


def attributes_read(sources: list[str]) -> set[tuple[str, str]]:
    """Return every attribute that the code reads: its class, and its name. Raises for code in which mypy finds a fault."""
    options = Options()
    parse_config_file(options, lambda: None, str(ROOT / "pyproject.toml"), sys.stdout, sys.stderr)
    options.incremental, options.export_types, options.preserve_asts = False, True, True
    result = build.build(create_source_list(sources, options), options)
    assert not result.errors
    types = result.types
    reads = (one for one in types if isinstance(one, MemberExpr))
    return {(name, one.name) for one in reads for name in classes(types.get(one.expr))}


@pytest.fixture(scope="module")
def read(monkeypatch_module: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    monkeypatch_module.chdir(ROOT)
    return attributes_read(["cutor"])


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.mark.parametrize(("key", "section"), [*settings(Config)], ids=lambda one: one if isinstance(one, str) else "")
def test_each_setting_is_read_by_somebody(key: str, section: type[msgspec.Struct], read: set[tuple[str, str]]) -> None:
    place = f"{section.__module__}.{section.__qualname__}", key.rpartition(".")[2]
    assert place in read, f"{key}: nothing in cutor/ reads it"


def test_what_has_the_same_name_elsewhere_is_no_read(tmp_path: Path) -> None:
    code = tmp_path / "read.py"
    code.write_text("class A:\n    x = 1\n    y = 2\nclass B(A):\n    pass\nclass C:\n    y = 3\nB().x\nC().y\n")
    read = attributes_read([str(code)])
    assert {("read.A", "x"), ("read.C", "y")} <= read
    assert ("read.A", "y") not in read
