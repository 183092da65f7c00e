"""What is said where no Docker Engine answers, or an image is not there: for many cutor's first message."""

import errno
import os
from typing import Final

from cutor.containers.errors import EngineUnreachable, ImageMissing, one_line
from cutor.installation import setup_command

DEFAULT_SOCKET: Final = "unix:///var/run/docker.sock"
SET_UP_MAKES: Final = "cutor-child:"
"""How names of images begin that set-up makes."""


def unreachable(address: str, error: Exception) -> EngineUnreachable:
    """Return the error for an engine that does not answer at ``unix://…`` or ``tcp://…``, by what a request raised."""
    reason = _reason(error)
    return EngineUnreachable(f"no Docker Engine answers at {address} ({reason}): {_remedy(address, reason)}")


def image_missing(image: str) -> ImageMissing:
    """Return the error for an image that is not here: set-up makes those of its own name alone."""
    made = image.startswith(SET_UP_MAKES)
    remedy = (
        f"make it with `{setup_command()}`"
        if made
        else f"fetch or build it, or leave docker.image and nix.image out for that of `{setup_command()}`"
    )
    return ImageMissing(f"the child image {image!r} is not on this host: {remedy}")


def _reason(error: BaseException) -> str:
    """Return why there was no connection: the operating system's word, which the client library wraps several times over."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror and "[" not in inner.strerror:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return one_line(str(error))


def _remedy(address: str, reason: str) -> str:
    """Return what to do where no engine answers; it says what Docker is there for, too."""
    if reason == os.strerror(errno.EACCES):
        return "let this user talk to it (as root: `usermod --append --groups docker USER`; then log in again), or be root"
    if address != DEFAULT_SOCKET:
        return f"start it, or name another one by DOCKER_HOST or `docker.host`; with neither, `{setup_command()}` sees to one"
    return (
        "cutor builds and runs submissions in containers of Docker, so start it if it is installed, "
        f"let `{setup_command()}` install and start it, or name another one by DOCKER_HOST"
    )
