"""The page on the archive: turned on by a restart, sealed, verified, read by another program, on a stack of its own."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from cutor.nix.settings import NixSettings
from tests.docs.snippets import ARCHIVE, run, snippets
from tests.live_stack import surroundings
from tests.stores import write_config


def test_an_archive_is_kept(tmp_path: Path, nix_settings: NixSettings) -> None:
    environment, place = surroundings(tmp_path) | {"HOME": str(tmp_path)}, tmp_path / "srv"

    def here(text: str) -> str:
        return text.replace("/srv/", f"{place}/")

    config = write_config(Path(environment["XDG_CONFIG_HOME"]) / "cutor" / "config.toml", nix_settings)
    first, *_ = snippets(ARCHIVE, "toml")
    begun = "cutor up --detach\ncutor submit examples/python-three-tests --wait\n"
    begun += f"cat >> '{config}' <<'EOF'\n{first.text}EOF\n"
    texts = (one.text for one in snippets(ARCHIVE, "sh"))
    commands = here(begun + "".join(text for text in texts if "acknowledge-gap" not in text))  # test_howto_archive_gap.py
    done = run(f"trap 'cutor down > /dev/null' EXIT\n{commands}", environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    for said in (
        r"^EVENTS: \d+ to \d+ are sealed, \d files?, [\d.]+ \w+ of [\d.]+ \w+$",
        r"^BODIES: nothing is sealed$",
        r"^ok +archive +sealed are EVENTS up to \d+",
        r"^EVENTS: nothing is sealed; \d+ messages are left for later$",
        r"^EVENTS: 1 file, (\d+) messages?, \d+ of them compared with the stream$",
        r"^sealed fold: .*, folded again and compared$",
        r"^EVENTS: decoded 1 of 1 file$",
        r"^EVENTS: nothing may go$",
        r"^BODIES: nothing may go$",
    ):
        assert re.search(said, done.stdout, re.MULTILINE), (said, done.stdout)
    assert (tmp_path / "archive").is_dir(), "the one beside, of --directory"
    [file] = (place / "cutor" / "archive" / "EVENTS").glob("*.parquet")
    columns = [(name, kind) for name, kind, *_ in duckdb.sql(f"DESCRIBE FROM '{file}'").fetchall()]
    assert re.findall(r"^\| `(\w+)` \| ([A-Z]+) \|", ARCHIVE.read_text(), re.MULTILINE) == columns
    [program] = snippets(ARCHIVE, "python")
    read = run('exec python -c "$PROGRAM"', environment | {"PROGRAM": here(program.text)})
    assert '"kind":"submitted"' in read.stdout, (read.stdout, read.stderr)
