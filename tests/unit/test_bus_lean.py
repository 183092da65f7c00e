"""What a command does not need is not imported for it."""

import subprocess
import sys

import pytest

NAMES_OF = "from cutor.cli.main import cli; import sys; cli.get_command(None, {name!r})"


def loaded(program: str) -> set[str]:
    """The packages that a program has imported in the end."""
    told = program + "; print(*{name.partition('.')[0] for name in sys.modules})"
    return {*subprocess.run([sys.executable, "-c", told], check=True, capture_output=True, text=True).stdout.split()}


@pytest.mark.parametrize(
    "name", ["submit", "status", "watch", "cancel", "events", "parked", "query", "up", "down", "projector"]
)
def test_what_may_need_no_docker_imports_no_client_of_it_and_no_websockets(name: str) -> None:
    found = loaded(NAMES_OF.format(name=name))
    assert "nats" in found
    assert "aiohttp" not in found


@pytest.mark.parametrize(
    "name", ["query", "gc", "doctor", "env list", "env show", "env remove", "env refresh", "dead-letters list"]
)
def test_commands_that_ask_the_projector_import_no_database(name: str) -> None:
    group, _, command = name.partition(" ")
    found = loaded(NAMES_OF.format(name=group) + (f".get_command(None, {command!r})" if command else ""))
    assert "nats" in found
    assert "duckdb" not in found


def test_what_was_left_out_can_be_imported_later() -> None:
    assert {"nats", "aiohttp", "aiodocker"} <= loaded(NAMES_OF.format(name="builder") + "; import aiodocker")


def test_a_library_leaves_websockets_to_its_users() -> None:
    assert "aiohttp" in loaded("import cutor.client.client, sys; from nats.aio import transport; assert transport.aiohttp")
