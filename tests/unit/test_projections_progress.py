"""When a projector has caught up, and when it serves."""

from __future__ import annotations

from cutor.projections.progress import SOON, Progress


def nobody(_stream: str) -> bool:
    return False


def test_views_serve_where_they_have_caught_up() -> None:
    progress = Progress()
    progress.compare("A", newest=10, position=4)
    progress.compare("B", newest=0, position=0)
    assert progress.behind("A") == 6
    assert not progress.has_caught_up()
    assert not progress.is_to_serve(nobody)
    progress.fold("A", 12)
    assert progress.behind("A") == -2
    assert progress.has_caught_up()
    assert progress.is_to_serve(nobody)


def test_views_that_will_not_have_caught_up_soon_serve_meanwhile() -> None:
    progress = Progress()
    progress.compare("A", newest=SOON + 1, position=0)
    assert progress.is_to_serve(nobody)
    assert not progress.is_to_serve(nobody, least_behind=SOON + 1)
    progress.compare("A", newest=10, position=4)
    progress.wait("A")
    assert progress.is_to_serve(nobody)
    assert not progress.has_caught_up()


def test_a_stream_whose_readings_leave_something_out_is_excused() -> None:
    progress = Progress()
    progress.compare("A", newest=10, position=4)
    progress.compare("B", newest=10, position=4)
    assert not progress.is_to_serve(lambda stream: stream == "A")
    assert progress.is_to_serve(lambda _: True)
