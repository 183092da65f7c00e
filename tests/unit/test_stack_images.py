"""Which image a stack's containers have: the checkout's own by default, and by its id for as long as the stack runs."""

from pathlib import Path

import pytest

from cutor import config
from cutor.config import Config, Surroundings, load, made_image, parse
from cutor.containers.settings import DockerSettings
from cutor.nix.settings import NixSettings
from cutor.stack.data import DataDirectory
from cutor.stack.images import Images, ImagesDamaged, forget, pinned, read, write

MINE = "cutor-child:0123456789abcdef"
IDS = Images(runner=f"sha256:{'1' * 64}", builder=f"sha256:{'2' * 64}")


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    """A user whose cutor is a checkout in which set-up ran."""
    note = tmp_path / "child-image"
    note.write_text(f"{MINE}\n")
    monkeypatch.setattr(config, "image_note", lambda _: note)
    return Surroundings(config_home=tmp_path, data_home=tmp_path, state_home=tmp_path)


def images_of(loaded: Config) -> tuple[str, str]:
    return loaded.docker.image, loaded.nix.image


def test_without_a_word_the_image_is_the_one_that_was_made_from_this_code(noted: Surroundings, tmp_path: Path) -> None:
    assert images_of(load(None, noted).config) == (MINE, MINE)
    file = tmp_path / "c.toml"
    file.write_text("max_leases = 2\n[docker]\nhost = 'unix:///x'\n[nix]\ncores = 1\n")
    assert images_of(load(file, noted).config) == (MINE, MINE)


@pytest.mark.parametrize(
    ("said", "images"),
    [
        ('[docker]\nimage = "mine:1"\n', ("mine:1", "mine:1")),
        ('[nix]\nimage = "other:1"\n', (MINE, "other:1")),
        ('[docker]\nimage = "cutor-child:latest"\n', ("cutor-child:latest", "cutor-child:latest")),
    ],
)
def test_what_the_configuration_says_counts(noted: Surroundings, tmp_path: Path, said: str, images: tuple[str, str]) -> None:
    (tmp_path / "c.toml").write_text(said)
    assert images_of(load(tmp_path / "c.toml", noted).config) == images


def test_an_installed_cutor_takes_the_image_that_was_made_last(tmp_path: Path) -> None:
    assert made_image(tmp_path / "none") is None
    assert images_of(parse(b"", "c.toml")) == ("cutor-child:latest", "cutor-child:latest")


@pytest.mark.parametrize("text", [b"", b"cutor-child:latest", b"cutor-child:0123456789abcdef extra", b"\xff"])
def test_a_damaged_note_is_no_note(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "note").write_bytes(text)
    assert made_image(tmp_path / "note") is None


def test_the_roles_of_a_running_stack_have_ids_instead_of_names(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    named = Config(docker=DockerSettings(image="a:1"), nix=NixSettings(image="b:1"), max_leases=9)
    assert pinned(named, data) == named
    write(data, IDS)
    assert images_of(pinned(named, data)) == (IDS.runner, IDS.builder)
    assert pinned(named, data).max_leases == 9
    assert data.images_file.stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_of_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "images.json").write_bytes(b"{")
    with pytest.raises(ImagesDamaged, match=r"images\.json cannot be read"):
        pinned(Config(), DataDirectory(tmp_path))


def test_a_life_without_containers_forgets_the_images_of_the_last_one(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    forget(data)
    write(data, IDS)
    assert read(data) == IDS
    forget(data)
    assert read(data) is None
