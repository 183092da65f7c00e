"""What sessions of build and store containers have in common: their inits' frames, one by one, and what is wrong with them."""

from __future__ import annotations

from typing import Final

from cutor.containers.child import Child
from cutor.containers.errors import SessionFault
from cutor.installation import setup_command
from cutor.jail.frames import Frames
from cutor.jail.inside.protocol import PROTOCOL_VERSION, Frame, ProtocolError
from cutor.nix.report import MAX_HEADER_BYTES
from cutor.nix.settings import nix_version_ok

PRINTED_CHARACTERS: Final = 1000
"""Of what a container printed, the end that a fault tells."""


class InitFrames:
    """The frames of one container's init; ``what`` names the container in faults, such as "build container"."""

    def __init__(self, what: str, max_body_bytes: int) -> None:
        self._what = what
        self._frames = Frames(max_header_bytes=MAX_HEADER_BYTES, max_body_bytes=max_body_bytes)
        self.reader = self._frames.reader

    async def next(self, child: Child) -> Frame:
        """Return the next frame. Raises `SessionFault` where the container ends instead, `ProtocolError` for no frame."""
        frame = await self._frames.next(child)
        if frame is None:
            state = await child.state()
            raise SessionFault(f"the {self._what} ended without a result: {state.describe()}{printed(child)}")
        return frame

    def broken(self, error: ProtocolError) -> SessionFault:
        """Return the fault of an init that sends what is no frame, or none of its own."""
        return SessionFault(f"the {self._what} broke the protocol: {error}")

    def unexpected(self, header: object, child: Child) -> SessionFault:
        """Return the fault of an init that sends a good frame at a wrong time."""
        return SessionFault(f"the {self._what} sent {type(header).__name__} where it may not{printed(child)}")


def check_image(protocol: int, nix_version: str) -> None:
    """Raise `SessionFault` for an init of another protocol, or an image without a safe Nix: what a first frame says."""
    if protocol != PROTOCOL_VERSION:
        raise SessionFault(f"the child image speaks protocol {protocol}, not {PROTOCOL_VERSION}: run {setup_command()}")
    if not nix_version_ok(nix_version):
        raise SessionFault(f"the child image holds {nix_version!r}, which is no safe Nix: run {setup_command()}")


def printed(child: Child) -> str:
    """Return what a container said on its stderr, for the end of a fault's message."""
    tail = child.stderr_tail.decode(errors="replace").strip()
    return f"; it printed: {tail[-PRINTED_CHARACTERS:]!r}" if tail else ""
