"""`cutor archive` on a stack."""

from __future__ import annotations

import json
import re
from pathlib import Path

from cutor.cli.archive import LEFT
from cutor.projections.archive.place import Archive
from tests.bare_stack import User, one_line, request


def test_seal_says_what_it_leaves_for_later_and_how_to_have_that_too(bare: User, tmp_path: Path) -> None:
    assert bare.cutor("submit", "-", stdin=request()).returncode == 0
    named = ("--directory", str(tmp_path / "archive"))
    done = bare.cutor("archive", "seal", *named)
    assert re.search(r"^EVENTS: nothing is sealed; (\d+ messages are|1 message is) left for later$", done.stdout, re.MULTILINE)
    assert "BODIES: nothing is sealed\n" in done.stdout
    assert (done.returncode, done.stderr) == (0, f"note: {LEFT}\n")
    done = bare.cutor("archive", "seal", "--all", *named)
    assert (done.returncode, done.stderr) == (0, ""), "of what comes meanwhile nobody is told"


def test_seal_status_and_verify(bare: User, tmp_path: Path) -> None:
    directory = tmp_path / "archive"
    assert bare.cutor("submit", "-", stdin=request()).returncode == 0
    sealed = bare.cutor("archive", "seal", "--all", "--json", "--directory", str(directory))
    assert sealed.returncode == 0, sealed.stderr
    [events] = [one for one in json.loads(sealed.stdout)["streams"] if one["stream"] == "EVENTS"]
    assert events["last"] == events["messages"] > 0
    config = tmp_path / "config.toml"
    config.write_text(f'[archive]\ndirectory = "{directory}"\n')
    status = bare.cutor("archive", "status", "--json", "--config", str(config))
    [seen] = [one for one in json.loads(status.stdout)["streams"] if one["stream"] == "EVENTS"]
    assert seen == events | {"unsealed": {"messages": 0, "oldest": None}}
    assert "EVENTS" in bare.cutor("archive", "status", "--offline", "--directory", str(directory)).stdout
    assert "compared with the stream" in bare.cutor("archive", "verify", "--directory", str(directory)).stdout
    assert [*directory.glob("EVENTS/decoded/*.incoming_stages.parquet")], "what is sealed is decoded at once"
    fold = json.loads(bare.cutor("archive", "status", "--json", "--config", str(config)).stdout)["fold"]
    assert fold["messages"] == fold["streams"]["EVENTS"]["last"] == events["last"], "and folded"
    shown = f"EVENTS 1 to {events['last']:,}, {events['last']} message"
    for command in (["archive", "status", "--offline"], ["archive", "fold"], ["archive", "verify", "--all"]):
        assert shown in bare.cutor(*command, "--directory", str(directory)).stdout
    rebuilt = bare.cutor("projections", "rebuild", "--config", str(config), "--data", str(tmp_path), "--json")
    assert json.loads(rebuilt.stdout)["from_fold"] == {"EVENTS": [1, events["last"]]}
    rebuilt = bare.cutor("projections", "rebuild", "--config", str(config), "--data", str(tmp_path))
    assert f"they began with the sealed fold of EVENTS 1 to {events['last']:,}" in rebuilt.stdout
    assert "/s" not in rebuilt.stdout
    every = bare.cutor("projections", "rebuild", "--config", str(config), "--data", str(tmp_path), "--from-events", "--json")
    assert json.loads(every.stdout)["from_fold"] == {}
    [views] = directory.glob("fold/*.duckdb")
    views.write_bytes(views.read_bytes()[:-1] + b"x")
    found = bare.cutor("archive", "verify", "--directory", str(directory))
    assert (found.returncode, f"FAULT: {views}: it is not what was sealed" in found.stdout) == (3, True)
    (directory / "fold" / "index.json").write_text("{")
    assert "not used: " in bare.cutor("archive", "status", "--offline", "--directory", str(directory)).stdout
    anew = json.loads(bare.cutor("archive", "fold", "--directory", str(directory), "--json").stdout)["fold"]
    assert anew["streams"] == fold["streams"]
    (directory / "EVENTS" / "decoded" / "index.json").unlink()
    assert bare.cutor("archive", "decode", "--directory", str(directory)).stdout.startswith("EVENTS: decoded 1 of 1 file\n")
    decoded = json.loads(bare.cutor("archive", "decode", "--json", "--directory", str(directory)).stdout)
    assert decoded["streams"][0] == {"stream": "EVENTS", "decoded": 1, "segments": 1}
    [file] = directory.glob("EVENTS/*.parquet")
    file.write_bytes(file.read_bytes() + b"x")
    for offline in ([], ["--offline"]):
        found = bare.cutor("archive", "verify", *offline, "--directory", str(directory))
        assert found.returncode == 3
        assert f"FAULT: {file}: it has" in found.stdout
    document = json.loads(bare.cutor("archive", "verify", "--json", "--directory", str(directory)).stdout)
    assert document["sound"] is False
    (directory / "EVENTS" / "decoded" / "index.json").unlink()
    found = bare.cutor("archive", "decode", "--directory", str(directory))
    assert (found.returncode, f"FAULT: {file}: it has" in found.stdout) == (3, True)
    document = json.loads(bare.cutor("archive", "decode", "--json", "--directory", str(directory)).stdout)
    assert [str(file) in one for one in document["hindered"]["EVENTS"]] == [True]


def test_what_users_get_wrong_is_one_line(bare: User, tmp_path: Path) -> None:
    assert "--directory, or set [archive] directory" in one_line(bare.cutor("archive", "seal"), 2)
    blocked = tmp_path / "file"
    blocked.write_text("")
    said = one_line(bare.cutor("archive", "seal", "--directory", str(blocked)), 3)
    assert f"{blocked}: the archive cannot be read: Not a directory" in said
    (tmp_path / "archive" / "EVENTS").mkdir(parents=True)
    (tmp_path / "archive" / "EVENTS" / "manifest.json").write_text("{}")
    for command in ("seal", "status"):
        assert "not the manifest of an archive" in one_line(
            bare.cutor("archive", command, "--directory", str(tmp_path / "archive")), 3
        )
    (tmp_path / "config.toml").write_text('[archive]\ndirectory = "here"\n')
    assert "must be an absolute path" in one_line(bare.cutor("archive", "status", "--config", str(tmp_path / "config.toml")), 2)


def test_a_stack_archives_by_itself(user: User) -> None:
    directory = user.home / "archive"
    config = user.home / "config.toml"
    config.write_text(f'[archive]\ndirectory = "{directory}"\n')
    started = user.up("--config", str(config), roles=["projector"])
    assert started.returncode == 0, started.stderr
    sealed = user.cutor("archive", "seal", "--all")
    assert sealed.returncode == 0, "between two rounds the archive is free: " + sealed.stderr
    assert user.down().returncode == 0
    assert (user.stack.data / "log" / "archiver.log").is_file()
    with Archive(directory).held():
        pass


def test_what_expires_is_said(bare: User, tmp_path: Path) -> None:
    config, directory = tmp_path / "config.toml", tmp_path / "archive"
    config.write_text(f'[archive]\ndirectory = "{directory}"\n')
    named = ("--config", str(config))
    assert bare.cutor("archive", "seal", "--all", *named).returncode == 0
    assert "how long are events kept?" in bare.cutor("archive", "expire", *named).stderr
    assert "No such option" in bare.cutor("archive", "expire", "--keep", "1d", "--directory", str(tmp_path / "copy")).stderr
    assert "set [archive] directory" in one_line(bare.cutor("archive", "expire", "--keep", "1d"), 2)
    done = bare.cutor("archive", "expire", "--keep", "1d", "--yes", "--json", *named)
    assert json.loads(done.stdout) == {
        "stream": "EVENTS", "first": 1, "last": 0, "held_by": None, "messages": 0, "expired": False,
    }  # fmt: skip
    assert "there is nobody to ask: give --yes" in one_line(bare.cutor("archive", "expire", "--keep", "1d", *named), 2)
    bodies = bare.cutor("archive", "expire", "--stream", "BODIES", "--keep", "1d", "--dry-run", *named)
    assert bodies.stdout == "BODIES: nothing may go\n"
    assert "how long are contents kept?" in bare.cutor("archive", "expire", "--stream", "BODIES", *named).stderr
    with Archive(directory).held():
        assert "somebody else" in one_line(bare.cutor("archive", "expire", "--keep", "1d", "--dry-run", *named), 3)
    config.write_text("[archive]\nretain_days = 3\n")
    assert "set archive.directory, too" in one_line(bare.cutor("archive", "status", "--config", str(config)), 2)


def test_what_is_no_archive_is_not_taken_for_a_sound_one(bare: User, tmp_path: Path) -> None:
    """A name that is mistyped, a variable that is not set, a disk that is not mounted; and a refusal makes no directory."""
    nowhere, directory = tmp_path / "typo", tmp_path / "archive"
    for command in (["verify"], ["verify", "--offline"], ["decode"], ["fold"], ["status"]):
        refused = bare.cutor("archive", *command, "--directory", str(nowhere))
        assert f"{nowhere}: there is no such directory, and so no archive: is its disk mounted?" in one_line(refused, 3)
    for command in (["seal", "--all"], ["verify"], ["status"]):
        refused = bare.cutor("archive", *command, "--directory", "")
        assert refused.returncode == 2
        assert "an empty name is no directory" in refused.stderr
    assert list(tmp_path.iterdir()) == []
    assert bare.cutor("submit", "-", stdin=request()).returncode == 0
    assert bare.cutor("archive", "seal", "--all", "--directory", str(directory)).returncode == 0
    away = directory.rename(tmp_path / "away")
    for command in (["seal", "--all"], ["expire", "--keep", "30d", "--yes"]):
        named = ["--config", str(tmp_path / "config.toml")] if command[0] == "expire" else ["--directory", str(directory)]
        (tmp_path / "config.toml").write_text(f'[archive]\ndirectory = "{directory}"\n')
        assert "this is not the archive that this stack has there" in one_line(bare.cutor("archive", *command, *named), 2)
    assert not directory.exists()
    directory.mkdir()
    assert "is its disk mounted?" in one_line(bare.cutor("archive", "verify", "--directory", str(directory)), 2)
    found = bare.cutor("archive", "verify", "--offline", "--directory", str(directory))
    assert (found.returncode, found.stdout) == (0, f"nothing is sealed in {directory}\n")
    assert "compared with the stream" in bare.cutor("archive", "verify", "--directory", str(away)).stdout


def test_where_no_archive_is_configured_it_is_said_whose_configuration_was_read(tmp_path: Path) -> None:
    user = User(tmp_path)
    assert "no archive is configured, as there is no configuration file: name its directory" in one_line(
        user.cutor("archive", "verify", "--offline"), 2
    )
    config = tmp_path / "other.toml"
    config.write_text("")
    assert f"no archive is configured, in {config}: name its directory" in one_line(
        user.cutor("archive", "verify", "--offline", CUTOR_CONFIG=str(config)), 2
    )
