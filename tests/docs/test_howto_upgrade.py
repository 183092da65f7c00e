"""The page on upgrades, but for the change of the program: that is what tests/integration/test_newer_versions.py is about."""

from __future__ import annotations

from pathlib import Path

from tests.bare_stack import User, request
from tests.docs.snippets import HOW_TO, run, script_of


def test_a_stack_is_stopped_started_and_gone_back_with(user: User, tmp_path: Path) -> None:
    assert user.up(roles=["projector"]).returncode == 0
    assert user.cutor("submit", "-", "--id", "before", stdin=request()).returncode == 0
    data = user.stack.data
    page = script_of(HOW_TO / "upgrade.md", srv=str(tmp_path))
    script = page.replace("cutor up --detach\n", f"cutor up --detach --data '{data}' --roles projector\n")
    script = script.replace(f"--data {tmp_path}/before ", f"--data {tmp_path}/before --roles projector ")
    script = script.replace("cutor doctor", "cutor doctor > doctor || grep -E '^FAIL +(builder|runner) ' doctor > /dev/null")
    end = f"cutor status before; cutor down --data {tmp_path}/before"
    done = run(f"cd '{tmp_path}'\n{script}\n{end}", user.stack.environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stdout.count("is ready at") == 2, done.stdout
    assert "SUBMITTED" in done.stdout
