"""What a cutor says of its own set-up, by where it lies."""

from __future__ import annotations

from pathlib import Path

from cutor.installation import ROOT, image_note, is_checkout, purge_command, setup_command


def test_a_checkout_is_set_up_by_make_and_notes_its_image_in_itself(tmp_path: Path) -> None:
    assert is_checkout()
    assert (setup_command(), purge_command()) == ("make setup", "make purge")
    assert image_note(tmp_path) == ROOT / ".setup/child-image"


def test_an_installed_cutor_is_set_up_by_its_command(tmp_path: Path) -> None:
    site_packages = tmp_path / "site-packages"
    (site_packages / "cutor").mkdir(parents=True)
    assert not is_checkout(site_packages)
    assert (setup_command(site_packages), purge_command(site_packages)) == ("cutor setup", "cutor setup --purge")


def test_two_installations_of_a_user_have_a_note_each(tmp_path: Path) -> None:
    state = tmp_path / "state"
    notes = {image_note(state, tmp_path / name) for name in ("one", "two", "one")}
    assert len(notes) == 2
    assert {note.parent for note in notes} == {state / "cutor/child-images"}


def test_half_a_checkout_is_none(tmp_path: Path) -> None:
    """Something else's Makefile beside the package would promise a target that it does not have."""
    (tmp_path / "Makefile").touch()
    assert not is_checkout(tmp_path)
