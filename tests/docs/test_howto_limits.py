"""The page on limits: what is measured, changed and judged again, on a stack of its own."""

from __future__ import annotations

import re
from pathlib import Path

from cutor.nix.settings import NixSettings
from tests.docs.snippets import HOW_TO, run, snippets
from tests.live_stack import surroundings
from tests.stores import write_config


def test_limits_are_measured_changed_and_judged_by_again(tmp_path: Path, nix_settings: NixSettings) -> None:
    environment = surroundings(tmp_path)
    config = write_config(Path(environment["XDG_CONFIG_HOME"]) / "cutor" / "config.toml", nix_settings)
    steps = [
        f"cat >> '{config}' <<'EOF'\n{one.text}EOF\n" if one.kind == "toml" else one.text
        for one in snippets(HOW_TO / "limits.md", "sh", "toml")
    ]
    script = (
        "".join(steps).replace(" statistics", f" '{tmp_path}/statistics'").replace("> statistics", f"> '{tmp_path}'/statistics")
    )
    done = run(f"trap 'cutor down > /dev/null' EXIT\n{script}", environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    before, _, after = done.stdout.partition("is stopped")
    for said in ("Limits that the stack publishes", "RUN_ERROR", "cpu_p99_percent", "memory_max_percent"):
        assert said in before, (said, before)
    assert re.search(r"statistics\W+run\W+MLE\W+1\W+1\W+5000\W+10000\W+256\b", before), before
    assert re.search(r"\brun\W+9\b", before), before
    assert "384 MiB / 1 GiB" in after
    assert re.search(r"RUN_ERROR\W+OK\b", after), after
