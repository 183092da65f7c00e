"""What was decoded counts by the digest of what decoded it: all that has a say is in it, as it runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cutor
from cutor.projections.archive import rules
from cutor.projections.archive.rules import code_of, digest_of, versions

PACKAGE = Path(cutor.__file__).parent
UPDATED = """
import sys
sys.path.insert(0, sys.argv[1])
import cutor.projections.archive.archiver
from pathlib import Path
from cutor.projections.archive import rules
from cutor.projections.archive.errors import CodeChanged
from cutor.projections.folds import readings
changed = Path(readings.__file__)
assert changed.is_relative_to(sys.argv[1])
assert rules.hold()
changed.write_text(changed.read_text() + "# another one")
assert not rules.hold()
assert not rules.hold()
print(rules.decoding_rules())
"""


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The package, in another place."""
    shutil.copytree(PACKAGE, tmp_path / "cutor", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "cutor"


def test_each_module_has_a_say(copied: Path) -> None:
    code = code_of(copied)
    assert digest_of(code, versions()) == rules.decoding_rules()
    assert {"bus/bulk/columns.py", "projections/archive/decoded_file.py", "model/events.py"} <= {*code}
    for name in code:
        whole = (copied / name).read_bytes()
        (copied / name).write_bytes(whole + b"#")
        assert digest_of(code_of(copied), versions()) != rules.decoding_rules(), name
        (copied / name).write_bytes(whole)
    (copied / "model" / "more.py").touch()
    assert digest_of(code_of(copied), versions()) != rules.decoding_rules()


def test_each_version_has_a_say() -> None:
    told = versions()
    assert {*told} == {"duckdb", "msgspec", "nanoarrow", "python"}
    for name in told:
        assert digest_of(code_of(PACKAGE), told | {name: "another"}) != rules.decoding_rules(), name


def test_what_runs_goes_by_the_code_that_it_began_with(copied: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UPDATED, str(copied.parent)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == rules.decoding_rules()
    assert done.stderr.count("the code of cutor on disk is another one than what runs: restart") == 1


def test_code_that_cannot_be_read_holds_for_nothing(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "_CUTOR", copied)
    assert rules.hold()
    (copied / "bus" / "bulk" / "columns.py").unlink()
    assert not rules.hold()
    monkeypatch.setattr(rules, "_CODE", code_of(copied))
    assert not rules.hold()
