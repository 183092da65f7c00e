"""Having a stream let go of its oldest messages: all that come before a sequence, and never one behind it.

A purge up to a sequence is done by the server in one step, and does the same however often and however late it is asked for.
It is asked for once all the same: who finds that it was not done looks at the stream anew first.
Nobody but retention may ask for it: where one user does all the work, `RETENTION_USER` of the same password does this; where
each role has a user of its own, the archiver's may.
"""

from __future__ import annotations

from typing import Final

from cutor.bus.address import read_address, with_user
from cutor.bus.api import Json
from cutor.bus.connection import Bus
from cutor.bus.errors import CredentialRefused, NotPermitted
from cutor.bus.server_file import RETENTION_USER, USER
from cutor.errors import REFUSED, CutorError

PATIENCE_S: Final = 60.0
"""Of one purge, which is asked for once and not repeated."""
HOW: Final = "docs/how-to/own-nats.md says how"


class PurgeDenied(CutorError):
    """The stream, or the server, lets nobody do it, or it is another stream; the message says what to change."""

    exit_code = REFUSED


async def let_go(server: str, stream: str, before: int, *, created: str) -> None:
    """Have a stream let go of all before a sequence. It may be done where this raises: `BusUnreachable`. Raises `PurgeDenied`.

    ``server`` is the address with the credential of whoever does the rest of the work; ``created`` says when the stream was
    made, as its server writes it: another one at the same address, made since, keeps what it has.
    """
    if before < 2:
        raise ValueError(f"a purge before {before}: the server would take it for one of everything")
    address = with_user(server, USER, RETENTION_USER)
    try:
        async with Bus.connect(address, name="cutor retention") as bus:
            await _purge(bus, stream, before, created)
    except CredentialRefused as error:
        if address == server:
            raise
        raise PurgeDenied(
            f"NATS at {read_address(server).shown} knows no user {RETENTION_USER!r} with the password of {USER!r}, which alone "
            f"may let go of what is sealed: give it one ({HOW})"
        ) from error


async def _purge(bus: Bus, stream: str, before: int, created: str) -> None:
    """Ask for it over the very connection on which the stream was looked at, once: behind another one may be another stream."""
    info = await bus.stream_info(stream)
    if info["created"] != created or before > int(info["state"]["last_seq"]) + 1:
        raise PurgeDenied(f"{stream} is not the stream any more whose messages were looked at: nothing is let go of")
    check_purge(stream, info["config"])
    try:
        await bus.api.call(f"stream {stream}", f"STREAM.PURGE.{stream}", {"seq": before}, timeout_s=PATIENCE_S, once=True)
    except NotPermitted as error:
        raise PurgeDenied(f"{error}; the user of the archiver may ({HOW})") from error


def check_purge(stream: str, config: Json) -> None:
    """Raise `PurgeDenied` where a stream is one that lets go of nothing."""
    if config.get("deny_purge"):
        raise PurgeDenied(
            f"{stream} was made with deny_purge, which NATS cannot take back: nothing is let go of. Make a backup, and "
            "restore it into a new data directory or server (docs/how-to/archive.md)"
        )
