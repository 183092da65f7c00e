"""Counts what one connection reads from the streams: what a flood costs is counted, never timed."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from nats.aio.msg import Msg

from cutor.bus.connection import Bus


class Reads:
    """Requests for stored messages, what came back, and its bytes: from the moment that this is made."""

    def __init__(self, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests = self.messages = self.size_bytes = 0
        link, ask, ask_many = bus.link, bus.link.ask, bus.link.ask_many

        async def asked(
            subject: str,
            body: bytes = b"",
            *,
            until: float,
            headers: Mapping[str, str] | None = None,
            again_every_s: float | None = None,
        ) -> Msg:
            answer = await ask(subject, body, until=until, headers=headers, again_every_s=again_every_s)
            self._count(subject, answer)
            return answer

        async def asked_many(subject: str, body: bytes, *, until: float) -> list[Msg]:
            answers = await ask_many(subject, body, until=until)
            self._count(subject, *answers)
            return answers

        monkeypatch.setattr(link, "ask", asked)
        monkeypatch.setattr(link, "ask_many", asked_many)

    def _count(self, subject: str, *answers: Msg) -> None:
        if ".DIRECT.GET." in subject or ".STREAM.MSG.GET." in subject:
            self.requests += 1
            self.messages += len(answers)
            self.size_bytes += sum(len(answer.data) for answer in answers)
