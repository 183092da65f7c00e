"""Having EVENTS let go of its oldest messages: all that come before a sequence, and never one behind it.

A purge up to a sequence is done by the server in one step, and does the same however often and however late it is asked for.
Nobody but retention may ask for it: where one user does all the work, `RETENTION_USER` of the same password does this; where
each role has a user of its own, the archiver's may.
"""

from __future__ import annotations

from typing import Final

from cutor.bus.address import with_user
from cutor.bus.connection import Bus
from cutor.bus.errors import NotPermitted
from cutor.bus.server_file import RETENTION_USER, USER
from cutor.errors import REFUSED, CutorError

PATIENCE_S: Final = 60.0
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
    async with Bus.connect(with_user(server, USER, RETENTION_USER), name="cutor retention") as bus:
        info = await bus.stream_info(stream)
        if info["created"] != created or before > int(info["state"]["last_seq"]) + 1:
            raise PurgeDenied(f"{stream} is not the stream any more whose messages were looked at: nothing is let go of")
        if info["config"].get("deny_purge"):
            raise PurgeDenied(
                f"{stream} was made with deny_purge, which NATS cannot take back: nothing is let go of. Make a backup, and "
                "restore it into a new data directory or server (docs/how-to/archive.md)"
            )
        try:
            await bus.api.call(f"stream {stream}", f"STREAM.PURGE.{stream}", {"seq": before}, timeout_s=PATIENCE_S)
        except NotPermitted as error:
            raise PurgeDenied(f"{error}; the user of the archiver may ({HOW})") from error
