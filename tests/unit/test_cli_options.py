"""What several commands read from the command line alike."""

from pathlib import Path

import msgspec
import pytest

from cutor.cli.host_store import place_of, warn_of_another_store
from cutor.cli.options import Wanted, named_submission
from cutor.model.errors import InvalidRequest
from cutor.model.quoting import shown
from cutor.model.subjects import Address
from cutor.stack.current import CurrentStack


@pytest.mark.parametrize(
    ("name", "tenant", "address"),
    [
        ("x", None, Address("default", "x")),
        ("x", "batch", Address("batch", "x")),
        ("batch/x", None, Address("batch", "x")),
        ("batch/x", "batch", Address("batch", "x")),
    ],
)
def test_a_submission_is_named_with_its_tenant_or_without(name: str, tenant: str | None, address: Address) -> None:
    assert named_submission(name, tenant) == address


@pytest.mark.parametrize(
    ("name", "tenant", "said"),
    [
        ("batch/x", "default", "'batch/x' is of the tenant 'batch', and --tenant says 'default': leave one out"),
        ("/x", None, "tenant ''"),
        ("batch/", None, "id ''"),
        ("a/b/c", None, "id 'b/c'"),
        ("x", "", "tenant ''"),
    ],
)
def test_a_name_that_contradicts_or_can_be_none_is_refused(name: str, tenant: str | None, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        named_submission(name, tenant)


@pytest.fixture
def stack_with_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a stack that was started with the store `stacks`; returned is a file that names the store `named`."""
    for variable in ("CUTOR_CONFIG", "CUTOR_SERVER", "DOCKER_HOST"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    (tmp_path / "cutor").mkdir()
    (tmp_path / "cutor" / "config.toml").write_text("[nix]\nstore_volume = 'edited'\nvar_volume = 'edited-var'\n")
    (tmp_path / "config.toml").write_text("[nix]\nstore_volume = 'stacks'\nvar_volume = 'stacks-var'\n")
    current = CurrentStack(server="nats://127.0.0.1:1", data=str(tmp_path), instance="0123456789ab")
    (tmp_path / "cutor" / "current.json").write_bytes(msgspec.json.encode(current))
    named = tmp_path / "named.toml"
    named.write_text("[nix]\nstore_volume = 'named'\nvar_volume = 'named-var'\n")
    return named


def test_a_configuration_that_nobody_names_is_that_of_the_stack(
    stack_with_a_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stack_with_a_store.is_file()
    wanted = Wanted()
    assert place_of(wanted).settings.store_volume == "stacks"
    warn_of_another_store(wanted)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("by", ["--config", "CUTOR_CONFIG"])
def test_a_named_configuration_says_which_store_wherever_it_is_named(
    stack_with_a_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    wanted = Wanted()
    if by == "--config":
        wanted.config = stack_with_a_store
    else:
        monkeypatch.setenv("CUTOR_CONFIG", str(stack_with_a_store))
    assert place_of(wanted).settings.store_volume == "named"
    warn_of_another_store(wanted)
    assert capsys.readouterr().err == (
        f"note: this works on the store of {shown(str(stack_with_a_store))}: volumes 'named' and 'named-var' of the engine here"
        "; the stack that runs here has another one: volumes 'stacks' and 'stacks-var' of the engine here\n"
    )
