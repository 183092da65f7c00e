"""What a role looks at before it takes a lease: an image that is gone is nobody's fault but the host's."""

from __future__ import annotations

import asyncio

import pytest

from cutor.containers.errors import EngineUnreachable, ImageMissing
from cutor.roles import image as image_module
from cutor.roles.image import check_image
from cutor.roles.step import WorkerUnable

IMAGE = "sha256:0123"


class FakeEngine:
    """An engine that answers one question, or ends as told."""

    def __init__(self, error: Exception | None = None, *, silent: bool = False) -> None:
        self._error = error
        self._silent = silent
        self.asked: list[str] = []

    async def image_id(self, image: str) -> str:
        self.asked.append(image)
        if self._silent:
            await asyncio.Event().wait()
        if self._error is not None:
            raise self._error
        return image


async def check(engine: FakeEngine) -> None:
    """Look for the image."""
    await check_image(engine, IMAGE)  # type: ignore[arg-type]


async def test_an_image_that_is_there_is_asked_for_by_its_id() -> None:
    engine = FakeEngine()
    await check(engine)
    assert engine.asked == [IMAGE]


async def test_an_image_that_is_gone_stops_the_worker() -> None:
    with pytest.raises(WorkerUnable, match=f"the child image {IMAGE} is gone: start the stack again"):
        await check(FakeEngine(ImageMissing("not here")))


@pytest.mark.parametrize("error", [EngineUnreachable("no Docker"), KeyError("Id"), TypeError("no document")])
async def test_an_engine_that_can_not_say_stops_the_worker(error: Exception) -> None:
    with pytest.raises(WorkerUnable, match="could not be seen"):
        await check(FakeEngine(error))


async def test_an_engine_that_is_silent_stops_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_module, "CHECK_S", 0.01)
    with pytest.raises(WorkerUnable, match="did not say within"):
        await check(FakeEngine(silent=True))
