"""How long `cutor down` waits: as long as the stack that it stops may take, whatever the command's own configuration says."""

from pathlib import Path

import pytest

from cutor.cli.down import _config_of
from cutor.cli.options import Wanted
from cutor.stack.data import DataDirectory


@pytest.fixture
def wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wanted:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("CUTOR_CONFIG", raising=False)
    (tmp_path / "cutor").mkdir()
    (tmp_path / "cutor" / "config.toml").write_text("shutdown_grace_s = 7\n")
    return Wanted()


def test_the_grace_is_that_of_the_stack(wanted: Wanted, tmp_path: Path) -> None:
    data = DataDirectory(tmp_path / "data")
    data.prepare()
    assert _config_of(wanted, data).shutdown_grace_s == 7, "none is kept there: a role by itself"
    data.config_file.write_text("shutdown_grace_s = 600\n")
    assert _config_of(wanted, data).shutdown_grace_s == 600
    data.config_file.write_text("no toml at all")
    assert _config_of(wanted, data).shutdown_grace_s == 7
