"""``cutor env`` on a stack with a projector alone: what the log says of environments, shown and decided about."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import msgspec
import pytest

from cutor.bus.connection import Bus
from cutor.cli.main import run
from cutor.journal.environments import Environments
from cutor.journal.journal import Journal
from cutor.model.environments import EnvironmentRemoved
from cutor.model.subjects import Address
from cutor.operations.catalogue import Catalogue
from tests.bare_stack import User, one_line, request
from tests.unit import histories
from tests.unit.test_environments import BUILT

KEYS = {"first": "a1a1a1a10" + "0" * 55, "twin": "a1a1a1a11" + "0" * 55, "gone": "b2b2b2b2" + "0" * 56}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A stack whose log knows of three environments, one of them removed."""
    user = User(tmp_path_factory.mktemp("known"))
    assert user.up(roles=("projector",)).returncode == 0
    try:
        asyncio.run(append(user))
        yield user
    finally:
        ended = user.down()
        assert ended.returncode == 0, ended.stderr


async def append(user: User) -> None:
    async with Bus.connect(user.stack.server, name="test") as bus:
        environments = Environments(bus)
        for key in KEYS.values():
            await environments.append_built(msgspec.structs.replace(BUILT, key=key))
        await environments.append_removed(EnvironmentRemoved(key=KEYS["gone"], reason="a test"), "test")


def test_list_shows_those_that_stand_with_their_numbers(known: User) -> None:
    done = known.cutor("env", "list", "--json")
    assert done.returncode == 0, done.stderr
    entries = {entry["key"]: entry for entry in json.loads(done.stdout)}
    assert set(entries) == {KEYS["first"], KEYS["twin"]}
    entry = entries[KEYS["first"]]
    assert (entry["builds"], entry["uses"], entry["hits"], entry["removed"]) == (1, 0, 0, False)
    assert (entry["derivation"], entry["closure_bytes"]) == (BUILT.derivation, BUILT.closure_bytes)


async def give(user: User, key: str, submission_id: str) -> None:
    """Have a builder give an environment to a submission that was handed in."""
    reference = msgspec.structs.replace(histories.ENVIRONMENT, key=key)
    built = msgspec.structs.replace(histories.cache_built(), environment=reference)
    async with Bus.connect(user.stack.server, name="test") as bus:
        journal = Journal(bus)
        state = await journal.known(Address("default", submission_id))
        leased = await journal._append(state.address, histories.leased("builder"), f"{submission_id}-1", state.last_sequence)
        await journal._append(state.address, built, f"{submission_id}-2", leased.sequence)


def test_a_list_says_on_80_columns_who_uses_what(known: User) -> None:
    handed_in = {
        "a-course": ("--label", "course=algorithms", "--label", "sheet=a rather long name of a sheet"),
        "z-of-cutor": ("--label", "cutor=env-build"),
    }
    for name, labels in handed_in.items():
        assert known.cutor("submit", "-", "--id", name, *labels, stdin=request()).returncode == 0
        asyncio.run(give(known, KEYS["first"], name))
    entries = {entry["key"]: entry for entry in json.loads(known.cutor("env", "list", "--json").stdout)}
    labels = {"course": "algorithms", "sheet": "a rather long name of a sheet"}
    assert entries[KEYS["first"]]["given"] == {"tenant": "default", "id": "a-course", "labels": labels}
    assert entries[KEYS["twin"]]["given"] is None
    lines = [line.rstrip() for line in on_terminal(known, "env", "list", columns=80)]
    assert all(len(line) <= 80 for line in lines), lines
    (headings,) = [line for line in lines if "key" in line]
    assert headings.split() == ["key", "state", "size", "uses", "hits", "touched", "used", "by"]
    (line,) = [line for line in lines if KEYS["first"][:12] in line]
    assert re.search(r"a1a1a1a10000  built +\d.* 2 +0 +\d+ \w+ ago +course=", line), line
    assert not any("…" in line for line in lines), lines
    narrow = on_terminal(known, "env", "list", columns=40)
    assert any("…" in line for line in narrow), "what is cut off has a mark"
    for name in handed_in:
        assert known.cutor("cancel", name).returncode == 0


def on_terminal(user: User, *command: str, columns: int) -> list[str]:
    """Return what a command prints on a terminal of so many columns."""
    master, slave = pty.openpty()
    environment = user.stack.environment | {"COLUMNS": str(columns), "NO_COLOR": "1"}
    with subprocess.Popen([sys.executable, "-m", "cutor", *command], env=environment, stdout=slave) as listing:
        os.close(slave)
        printed = b""
        with suppress(OSError):  # the end of a terminal
            while piece := os.read(master, 1 << 16):
                printed += piece
        assert listing.wait(180) == 0
    os.close(master)
    return re.sub(r"\x1b\[[\d;]*m", "", printed.decode()).splitlines()


def test_list_of_all_shows_what_was_removed_and_why(known: User) -> None:
    entries = {entry["key"]: entry for entry in json.loads(known.cutor("env", "list", "--all", "--json").stdout)}
    assert set(entries) == set(KEYS.values())
    assert (entries[KEYS["gone"]]["removed"], entries[KEYS["gone"]]["removal_reason"]) == (True, "a test")
    table = known.cutor("env", "list", "--all").stdout
    assert "b2b2b2b20000  removed" in table


@pytest.mark.parametrize("at_once", [1, 2, 2000])
async def test_some_keys_are_asked_for_in_as_many_questions_as_it_takes(
    known: User, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """A collection asks for what its store holds; an answer for all that there ever were has no bound."""
    monkeypatch.setattr("cutor.operations.catalogue.KEYS_AT_ONCE", at_once)
    async with Bus.connect(known.stack.server, name="test") as bus:
        unknown = ["f" * 64, "not a key", "'; DROP VIEW environments; --"]
        entries = await Catalogue(bus).of([*KEYS.values(), *unknown])
        assert sorted((entry.key, entry.removed) for entry in entries) == sorted(
            (key, name == "gone") for name, key in KEYS.items()
        )
        assert await Catalogue(bus).of([]) == []


def test_without_a_projector_it_says_so_in_one_line(bare: User) -> None:
    assert "no projector answers" in one_line(bare.cutor("env", "list"), 3)


def test_a_key_may_be_shortened_as_long_as_no_other_begins_so(known: User) -> None:
    shown = json.loads(known.cutor("env", "show", "b2b2b2b2", "--json").stdout)
    assert shown["environment"]["key"] == KEYS["gone"]
    assert [one["kind"] for one in shown["history"]] == ["env-built", "env-removed"]
    assert shown["closure"] is None
    assert "several keys begin with a1a1a1a1" in one_line(known.cutor("env", "show", "a1a1a1a1"), 2)
    assert "no environment has a key that begins with deadbeef" in one_line(known.cutor("env", "show", "deadbeef"), 2)
    for odd in ("a1a1a1a", "' OR true --", "A1A1A1A1", "a" * 65):
        assert "no key of an environment" in one_line(known.cutor("env", "pin", odd), 2)


def test_show_tells_what_stands_and_what_it_holds(known: User) -> None:
    done = known.cutor("env", "show", KEYS["first"][:9])
    assert done.returncode == 0, done.stderr
    assert KEYS["first"] in done.stdout
    assert BUILT.derivation in done.stdout
    shown = json.loads(known.cutor("env", "show", KEYS["first"], "--json").stdout)
    assert tuple(shown["closure"]) == BUILT.closure
    assert shown["programs"]["bash"] == BUILT.programs.bash


def test_a_pin_is_seen_at_once_outlasts_what_is_built_and_forbids_a_removal(known: User) -> None:
    key = KEYS["twin"]
    assert json.loads(known.cutor("env", "pin", key, key, "--json").stdout) == [
        {"key": key, "pinned": True, "new": True, "stands": True}
    ]
    assert known.cutor("env", "pin", key).stdout == f"{key[:12]} is pinned, as it was\n"
    assert pinned(known) == {key}
    assert "is pinned: `cutor env unpin" in one_line(known.cutor("env", "remove", key), 2)
    asyncio.run(build_again(known, key))
    assert pinned(known) == {key}
    assert known.cutor("env", "unpin", key).stdout == f"{key[:12]} is not pinned any more\n"
    assert known.cutor("env", "unpin", key).stdout == f"{key[:12]} is not pinned, as it was\n"
    assert pinned(known) == set()


async def build_again(user: User, key: str) -> None:
    async with Bus.connect(user.stack.server, name="test") as bus:
        await Environments(bus).append_built(msgspec.structs.replace(BUILT, key=key))


def pinned(user: User) -> set[str]:
    """Return the keys that a listing shows as pinned."""
    return {entry["key"] for entry in json.loads(user.cutor("env", "list", "--json").stdout) if entry["pinned"]}


def test_a_pin_of_a_key_under_which_nothing_stands_says_so(known: User) -> None:
    done = known.cutor("env", "pin", KEYS["gone"])
    assert (done.returncode, done.stdout) == (0, f"{KEYS['gone'][:12]} is pinned\n")
    assert done.stderr == "nothing stands under this key now: the next submission builds it, or `cutor env build`\n"
    assert "\nstate        removed (a test), pinned\n" in known.cutor("env", "show", KEYS["gone"]).stdout
    (pin,) = json.loads(known.cutor("env", "unpin", KEYS["gone"], "--json").stdout)
    assert (pin["new"], pin["stands"]) == (True, False)


@pytest.mark.parametrize("command", ["build", "test"])
def test_a_source_that_is_not_there_is_told_of_before_a_stack_that_is_not(user: User, command: str) -> None:
    nowhere = user.home / "nowhere" / "shell.nix"
    assert f"{nowhere}: no such file or directory" in one_line(user.cutor("env", command, str(nowhere)), 2)
    assert "cutor up" in one_line(user.cutor("env", command, str(user.home)), 3)


def test_without_docker_a_removal_stands_in_the_log_and_says_what_is_left_to_do(known: User) -> None:
    key = "c3c3c3c3" + "0" * 56
    asyncio.run(build_again(known, key))
    done = known.cutor("env", "remove", key[:8], "--reason", "old course", "--json", DOCKER_HOST="unix:///nowhere.sock")
    assert done.returncode == 0, done.stderr
    (removal,) = json.loads(done.stdout)
    assert (removal["key"], removal["removed"]) == (key, True)
    assert "no Docker Engine answers" in removal["held"]
    shown = json.loads(known.cutor("env", "show", key, "--json").stdout)["environment"]
    assert (shown["removed"], shown["removal_reason"]) == (True, "old course")
    again = known.cutor("env", "remove", key, DOCKER_HOST="unix:///nowhere.sock")
    assert (again.returncode, again.stdout.startswith(f"{key[:12]} was removed before")) == (0, True)


def test_a_removal_that_ends_in_the_midst_says_what_was_removed_by_then(
    known: User, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second one is pinned by somebody else between the look and the removal."""
    keys = ["d4d4d4d40" + "0" * 55, "d4d4d4d41" + "0" * 55]
    for key in keys:
        asyncio.run(build_again(known, key))
    remove = Environments.append_removed

    async def pinned_before(environments: Environments, event: EnvironmentRemoved, *rest: str, **more: bool) -> bool:
        if event.key == keys[1]:
            await environments.append_pinned(event.key)
        return await remove(environments, event, *rest, **more)

    monkeypatch.setattr(Environments, "append_removed", pinned_before)
    assert run(["env", "remove", *keys, "--server", known.stack.server, "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert "is pinned" in document["error"]["message"]
    assert document["removals"] == [{"key": keys[0], "removed": True, "held": "the store was not asked"}]
    assert run(["env", "remove", *keys, "--server", known.stack.server, "--json"]) == 2
    assert set(json.loads(capsys.readouterr().out)) == {"error"}, "nothing was removed this time"
    assert known.cutor("env", "unpin", keys[1]).returncode == 0


def test_a_store_that_cannot_be_asked_does_not_hide_what_the_log_gave_up(known: User) -> None:
    key = "e5e5e5e5" + "0" * 56
    asyncio.run(build_again(known, key))
    done = known.cutor("env", "remove", key, DOCKER_HOST="ssh://elsewhere")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{key[:12]} is removed; its paths stay in the store for now: DOCKER_HOST")


def test_a_removal_with_another_configuration_says_that_the_stack_has_another_store(known: User) -> None:
    key = "f6f6f6f6" + "0" * 56
    asyncio.run(build_again(known, key))
    other = known.home / "other.toml"
    other.write_text('[nix]\nstore_volume = "cutor-test-other"\nvar_volume = "cutor-test-other-var"\n')
    done = known.cutor("env", "remove", key, CUTOR_CONFIG=str(other), DOCKER_HOST="unix:///nowhere.sock")
    assert done.returncode == 0, done.stderr
    works_on, _, other_one = done.stderr.partition("; the stack that runs here has another one: ")
    assert works_on == (
        f"note: this works on the store of {str(other)!r}: volumes 'cutor-test-other' and 'cutor-test-other-var' of "
        "'unix:///nowhere.sock'"
    )
    assert other_one.startswith("volumes 'cutor-nix-store' and ")
    assert done.stderr.count("\n") == 1


def test_one_unknown_key_among_several_changes_nothing(known: User) -> None:
    one_line(known.cutor("env", "pin", KEYS["first"], "deadbeef"), 2)
    one_line(known.cutor("env", "remove", KEYS["first"], "deadbeef"), 2)
    assert KEYS["first"] not in pinned(known)
    assert not json.loads(known.cutor("env", "show", KEYS["first"], "--json").stdout)["environment"]["removed"]
