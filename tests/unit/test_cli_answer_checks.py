"""What `cutor doctor` makes of the path that a question sees of the copy of the views."""

from cutor.cli.checks.answers import judge


def test_a_copy_that_is_alone_in_its_root_is_as_it_should_be() -> None:
    assert judge("/views.duckdb.snapshot") is None


def test_one_whose_directory_is_seen_is_a_warning() -> None:
    found = judge("/var/lib/cutor/views.duckdb.snapshot")
    assert found is not None
    assert (found.what, found.verdict) == ("answers", "warn")
    assert "/var/lib" not in found.detail
