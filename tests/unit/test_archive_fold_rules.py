"""A sealed fold counts by the digest of what folded it: all that has a say is in it, as it runs."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

import cutor
from cutor.projections.archive import fold_rules, rules
from cutor.projections.archive.errors import CodeChanged
from cutor.projections.archive.fold_rules import code_of, digest_of

PACKAGE = Path(cutor.__file__).parent


FOLDS = tuple(f"projections/{name}.py" for name in ("archive/folding", "writer", "store"))
"""What makes views of segments."""
HAVE_NO_SAY = {
    *(f"{name}.py" for name in ("errors", "logs", "text", "undisturbed")),  # what is said, and when
    *(f"projections/{name}.py" for name in ("errors", "views_file", "views_paths", "write_ahead_log")),  # where it is written
    *(f"projections/archive/{name}.py" for name in ("errors", "manifest", "place", "room", "sealing")),  # what is sealed
    *(f"projections/archive/{name}.py" for name in ("decoded", "fold_rules", "rules", "sealed_fold")),  # what may be used
    "projections/definitions.py",  # which file may be opened
}
"""Modules that those import, and that decide nothing about what is in the views; nor does how a server is read (bus)."""


def imported(path: Path) -> set[str]:
    """Return the modules of the package that one imports, as files below it."""
    found = [one for one in ast.walk(ast.parse(path.read_text())) if isinstance(one, ast.ImportFrom) and one.module]
    names = {name for one in found for name in (str(one.module), *(f"{one.module}.{alias.name}" for alias in one.names))}
    paths = [PACKAGE.parent / f"{name.replace('.', '/')}.py" for name in names if name.startswith("cutor.")]
    return {str(path.relative_to(PACKAGE)) for path in paths if path.exists()}


def test_what_folding_imports_has_a_say_or_is_known_to_have_none() -> None:
    seen: set[str] = set()
    ahead = {*FOLDS}
    while ahead:
        seen |= ahead
        ahead = {name for one in ahead for name in imported(PACKAGE / one)} - seen
    others = {name for name in seen - {*code_of(PACKAGE)} if not name.startswith("bus/")}
    assert others == HAVE_NO_SAY


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The package, in another place."""
    shutil.copytree(PACKAGE, tmp_path / "cutor", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "cutor"


def test_each_file_has_a_say(copied: Path) -> None:
    code = code_of(copied)
    assert digest_of(code) == fold_rules.folding_rules()
    statements = {str(path.relative_to(PACKAGE)) for path in PACKAGE.glob("projections/sql/**/*.sql")}
    assert len(statements) > 20
    assert statements | {"projections/store.py", "projections/folds/gaps.py", "model/state.py"} <= {*code}
    for name in code:
        whole = (copied / name).read_bytes()
        (copied / name).write_bytes(whole + b"#")
        assert digest_of(code_of(copied)) != fold_rules.folding_rules(), name
        (copied / name).write_bytes(whole)
    (copied / "projections" / "sql" / "fold" / "7_more.sql").touch()
    assert digest_of(code_of(copied)) != fold_rules.folding_rules()


def test_the_rules_of_decoding_have_a_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "_RULES", "0" * 64)
    assert digest_of(code_of(PACKAGE)) != fold_rules.folding_rules()


def test_code_on_the_disk_that_is_another_one_is_told(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_rules, "_CUTOR", copied)
    fold_rules.check()
    (copied / "projections" / "store.py").unlink()
    with pytest.raises(CodeChanged, match="restart"):
        fold_rules.check()
